"""From an operator's commands to a token that its resource server can open, by somebody else's client and decoder."""

import os
import time

import cbor2
import pytest

import coap
from realm import introspect, run, token
from tokens import open_token, opens, untag


def check_key(cnf):
    """{1: {1: 4, 2: kid, -1: k}} (RFC 9202 §3.3.1); the COSE_Key."""
    assert set(cnf) == {1} and set(cnf[1]) == {1, 2, -1} and cnf[1][1] == 4
    assert isinstance(cnf[1][2], bytes) and len(cnf[1][-1]) >= 16
    return cnf[1]


def check_token(answer, rs, alg, before_s, tags):
    """Every claim of the first token (AS-040…049, 062…064, 070, 102, 170…172)."""
    after_s = time.time()
    key = check_key(answer[8])
    name, token_tags, _, claims = open_token(answer[1], rs.token_key)
    assert name == alg and token_tags == tags
    assert set(claims) == {1, 3, 4, 6, 7, 8, 9}
    assert claims[1] == "coaps://as.example" and claims[3] == rs.name and claims[9] == "read"
    assert int(before_s) <= claims[6] <= after_s and claims[4] - claims[6] == answer[2] == 3600
    assert isinstance(claims[7], bytes) and check_key(claims[8]) == key
    assert key[-1] not in answer[1], "the PoP key is readable in the token"
    assert not opens(answer[1], os.urandom(len(rs.token_key)))


@pytest.mark.parametrize("alg", ["AES-CCM-16-64-128", "A128GCM", "A256GCM"])
@pytest.mark.parametrize("tagged", ["yes", "no"])
def test_token_for_each_algorithm(shared, alg, tagged):
    client, rs = shared.pair("--token-tagged", tagged, alg=alg)
    before_s = time.time()
    answer = shared.token(client, rs, "read")
    assert set(answer) == {1, 2, 8}, "scope is told when it differs, ace_profile when asked for"
    check_token(answer, rs, alg, before_s, [61, 16] if tagged == "yes" else [])
    assert shared.introspect(rs, answer[1])[10] is True


def coap_client(realm, party, path, payload, directory):
    """POST with Debian's coap-client-gnutls; what it received."""
    ask, answer = directory / "ask.cbor", directory / "answer.cbor"
    ask.write_bytes(payload)
    answer.unlink(missing_ok=True)
    run("coap-client-gnutls", "-m", "post", "-t", "19", "-u", party.identity.decode(), "-k", party.key.decode(), "-f", ask,
        "-o", answer, "-B", "20", realm.url(path))
    return cbor2.loads(answer.read_bytes())


def test_a_foreign_client_from_token_to_revocation(shared, tmp_path):
    # that client takes keys as text only
    client = shared.add_client(key=b"a key of text, 24 bytes.")
    rs = shared.add_rs(key=b"another key of text here")
    shared.policy(client, rs)
    before_s = time.time()
    answer = coap_client(shared, client, "/token", cbor2.dumps({5: rs.name, 9: "read"}), tmp_path)
    check_token(answer, rs, "AES-CCM-16-64-128", before_s, [61, 16] if untag(answer[1])[0] else [])
    active = coap_client(shared, rs, "/introspect", cbor2.dumps({11: answer[1]}), tmp_path)
    _, _, _, claims = open_token(answer[1], rs.token_key)
    assert active[10] is True and active[3] == rs.name and active[9] == "read"
    assert active[7] == claims[7] and active[4] == claims[4] and active[6] == claims[6] and active[8] == claims[8]
    shared.acectl("token", "revoke", claims[7].hex())
    assert coap_client(shared, rs, "/introspect", cbor2.dumps({11: answer[1]}), tmp_path) == {10: False}


def test_scope_is_narrowed_and_told(shared):
    client, rs = shared.add_client(), shared.add_rs()
    shared.policy(client, rs, "read")
    answer = shared.token(client, rs, "read write")
    assert answer[9] == "read" and open_token(answer[1], rs.token_key)[3][9] == "read"


def test_profile_is_told_when_asked_for(shared):
    client, rs = shared.pair()
    assert shared.token(client, rs, "read", extra={38: None})[38] == 1


def test_default_audience_and_default_scope(shared):
    rs = shared.add_rs(None, "--default-scope", "read")
    client = shared.add_client(None, "--default-audience", rs.name)
    shared.policy(client, rs)
    with shared.connect(client) as session:
        answer = session.post("token", cbor2.dumps({}))
    assert answer.status == "2.01"
    claims = open_token(cbor2.loads(answer.payload)[1], rs.token_key)[3]
    assert claims[3] == rs.name and claims[9] == "read", "AS-021, AS-068"


def test_byte_scopes(shared):
    rs = shared.add_rs(None, "--scope-kind", "bytes", scope="hex:0102")
    client = shared.add_client()
    shared.policy(client, rs, "hex:0102")
    answer = shared.token(client, rs, bytes([1, 2]))
    assert open_token(answer[1], rs.token_key)[3][9] == bytes([1, 2])


def test_each_token_has_its_own_key(shared):
    client = shared.add_client()
    servers = [shared.add_rs(), shared.add_rs()]
    for rs in servers:
        shared.policy(client, rs)
    with shared.connect(client) as session:
        answers = [token(session, rs, "read") for rs in servers for _ in range(3)]
    keys = [answer[8][1] for answer in answers]
    assert len({key[-1] for key in keys}) == len({key[2] for key in keys}) == 6
    assert opens(answers[0][1], servers[0].token_key) and not opens(answers[0][1], servers[1].token_key)


def test_a_key_is_kept_by_its_kid(shared):
    client, rs = shared.pair()
    with shared.connect(client) as session:
        first = token(session, rs, "read")
        second = token(session, rs, "write", extra={4: {3: first[8][1][2]}})
    first_claims, claims = (open_token(answer[1], rs.token_key)[3] for answer in (first, second))
    assert claims[8][1][2] == first[8][1][2] and claims[8][1][-1] == first[8][1][-1], "AS-100"
    assert claims[7] != first_claims[7] and claims[9] == "write"


def test_policy_and_server_bound_the_lifetime(shared):
    client, rs = shared.add_client(), shared.add_rs(None, "--default-lifetime", "900", "--max-lifetime", "1000")
    shared.policy(client, rs, "read write", "--max-lifetime", "120")
    answer = shared.token(client, rs, "read")
    claims = open_token(answer[1], rs.token_key)[3]
    assert answer[2] == 120 == claims[4] - claims[6]


def test_caches_do_not_outlive_the_token(shared):
    """AS-045: without the option an answer is fresh for 60 seconds."""
    client, rs = shared.add_client(), shared.add_rs()
    shared.policy(client, rs, "read", "--max-lifetime", "30")
    with shared.connect(client) as session:
        answer = session.post("token", cbor2.dumps({5: rs.name, 9: "read"}))
    assert answer.status == "2.01" and cbor2.loads(answer.payload)[2] == 30
    assert answer.option(coap.MAX_AGE) is not None and answer.option(coap.MAX_AGE) <= 30


def test_an_expired_token_is_inactive(shared):
    client, rs = shared.add_client(), shared.add_rs()
    shared.policy(client, rs, "read write", "--max-lifetime", "1")
    with shared.connect(client) as session, shared.connect(rs) as asking:
        answer = token(session, rs, "read")
        deadline = time.monotonic() + 60
        while introspect(asking, answer[1]) != {10: False}:
            assert time.monotonic() < deadline
            asking.wire.recv(0.05)
    assert time.time() >= open_token(answer[1], rs.token_key)[3][4], "AS-155"


def test_a_label_s_policy_counts(shared):
    client, rs = shared.add_client(None, "--label", "pumps"), shared.add_rs()
    shared.acectl("policy", "add", "--label", "pumps", "--audience", rs.name, "--scope", "read")
    assert shared.token(client, rs, "read write")[9] == "read"


def test_a_further_audience(shared):
    rs = shared.add_rs(None, "--audience", "coaps://valve.example")
    client = shared.add_client()
    shared.policy(client, "coaps://valve.example")
    answer = shared.token(client, "coaps://valve.example", "read")
    assert open_token(answer[1], rs.token_key)[3][3] == "coaps://valve.example"
