"""What was acknowledged holds: over revocation, suspension, deletion, and SIGKILL at once."""

import cbor2
import pytest

import coap
from dtls import HandshakeError
from realm import introspect, refused, token
from tokens import open_token

KILL_ROUNDS = 20
TOKENS_A_ROUND = 4


def cti(answer, rs):
    return open_token(answer[1], rs.token_key)[3][7]


def test_revocation_is_immediate_and_survives_sigkill(realm):
    client, rs = realm.pair()
    revoked, kept = realm.token(client, rs, "read"), realm.token(client, rs, "read")
    with realm.connect(rs) as session:
        assert introspect(session, revoked[1])[10] is True
        realm.acectl("token", "revoke", cti(revoked, rs).hex())
        realm.kill()
    realm.start()
    with realm.connect(rs) as session:
        assert introspect(session, revoked[1]) == {10: False}, "AS-195"
        assert introspect(session, kept[1])[10] is True
    states = {row["cti"]: row["state"] for row in realm.ctl_items("token", "list", "--all")}
    assert states[cti(revoked, rs).hex()] == "revoked" and states[cti(kept, rs).hex()] != "revoked"


def test_every_acknowledged_token_survives_sigkill(realm):
    client, rs = realm.pair("--max-lifetime", "86400")
    acknowledged, ctis, kids = [], set(), set()
    for _ in range(KILL_ROUNDS):
        session = realm.connect(client)
        for _ in range(TOKENS_A_ROUND):
            answer = token(session, rs, "read")
            acknowledged.append(answer[1])
            ctis.add(cti(answer, rs))
            kids.add(answer[8][1][2])
        # and one whose answer is not waited for
        session.wire.send(session.build(coap.POST, "token", cbor2.dumps({5: rs.name, 9: "read"}), content_format=19).encode())
        realm.kill()
        session.wire.abandon()
        realm.start()
    assert len(ctis) == len(kids) == len(acknowledged) == KILL_ROUNDS * TOKENS_A_ROUND, "cti or kid came twice"
    with realm.connect(rs) as session:
        assert all(introspect(session, each)[10] is True for each in acknowledged)


def test_registrations_survive_sigkill(realm):
    client, rs = realm.pair()
    realm.acectl("client", "suspend", client.name)
    realm.restart()
    assert realm.ctl("client", "show", client.name)["suspended"] is True
    assert [row["name"] for row in realm.ctl_items("rs", "list")] == [rs.name]
    realm.acectl("client", "resume", client.name)
    realm.restart()
    assert realm.token(client, rs, "read")[2] == 3600


def test_suspended_client(shared):
    client, rs = shared.pair()
    with shared.connect(client) as session:
        answer = token(session, rs, "read")
        shared.acectl("client", "suspend", client.name)
        refused(session.post("token", cbor2.dumps({5: rs.name})), 2, "4.01")
        shared.acectl("client", "resume", client.name)
        token(session, rs, "read")
    assert shared.introspect(rs, answer[1])[10] is True, "tokens of a suspended client stay"


def test_suspended_server_gets_no_tokens(shared):
    client, rs = shared.pair()
    shared.acectl("rs", "suspend", rs.name)
    with shared.connect(client) as session:
        refused(session.post("token", cbor2.dumps({5: rs.name, 9: "read"})), 1)
    shared.acectl("rs", "resume", rs.name)
    assert shared.token(client, rs, "read")[2] == 3600


def test_deleted_client(shared):
    client, rs = shared.pair()
    other = shared.add_client()
    shared.policy(other, rs)
    with shared.connect(client) as session:
        answer = token(session, rs, "read")
        shared.acectl("client", "delete", client.name)
        refused(session.post("token", cbor2.dumps({5: rs.name})), 2, "4.01")
    assert shared.introspect(rs, answer[1]) == {10: False}, "AS-009"
    with pytest.raises(HandshakeError):
        shared.connect(client)
    assert shared.token(other, rs, "read")[2] == 3600, "another client is not touched"


def test_deleted_credential(shared):
    client, rs = shared.pair()
    (credential,) = shared.ctl_items("client", "credential", "list", client.name)
    with shared.connect(client) as session:
        token(session, rs, "read")
        shared.acectl("client", "credential", "delete", client.name, str(credential["id"]))
        refused(session.post("token", cbor2.dumps({5: rs.name})), 2, "4.01")
    with pytest.raises(HandshakeError):
        shared.connect(client)


def test_replaced_credential(shared):
    client, rs = shared.pair()
    client.identity, client.key = b"the new one", bytes(range(32))
    shared.add_credential("client", client)
    assert shared.token(client, rs, "read")[2] == 3600
    assert len(shared.ctl_items("client", "credential", "list", client.name)) == 2
