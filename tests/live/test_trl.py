"""The token revocation list (RFC 9770) on the wire: asked for, observed (RFC 7641), in blocks, over SIGKILL."""

import base64
import hashlib
import os
import random
import signal
import subprocess
import time

import cbor2
import pytest

import coap
from realm import introspect, program, run, token
from test_blocks import BLOCK2, ETAG, block, block_of

OBSERVE, ACE_TRL, PROBLEM = 6, 262, 257
CARE_S = 60  # housekeeping comes every ten seconds
N_LARGE = 70  # tokens: 2.4 KB of hashes


@pytest.fixture(scope="module")
def world(shared):
    client, rs = shared.pair("--trl", "yes")
    other = shared.add_client()
    shared.policy(other, rs)
    return {"realm": shared, "client": client, "rs": rs, "other": other}


def hash_of(access_token):
    """RFC 9770 §4"""
    return b"\x01" + hashlib.sha256(base64.urlsafe_b64encode(access_token).rstrip(b"=")).digest()


def trl(session, *query, **more):
    answer = session.request(coap.GET, "revoke/trl", query=query, **more)
    assert answer.status == "2.05" and answer.option(coap.CONTENT_FORMAT) == ACE_TRL, (answer.status, answer.payload)
    return cbor2.loads(answer.payload)


def revoke(session, access_token):
    answer = session.post("revoke", cbor2.dumps({11: access_token}))
    assert answer.status == "2.04" and answer.payload == b"", answer.status


class Observer:
    """One session that observes the list."""

    def __init__(self, realm, party, *query, options=()):
        self.session = realm.connect(party)
        self.query, self.sequence, self.token = query, None, None
        self.register(options)

    def register(self, options=()):
        message = self.session.build(coap.GET, "revoke/trl", query=self.query, options=[(OBSERVE, b""), *options],
                                     token=self.token)
        self.token = message.token
        self.session.wire.send(message.encode())
        self.first = self.session.response(self.token)
        assert self.first.status == "2.05", self.first.status
        if self.first.option(OBSERVE) is not None:
            self.judge(self.first)

    def judge(self, message):
        assert self.sequence is None or message.option(OBSERVE) > self.sequence
        self.sequence = message.option(OBSERVE)
        assert message.option(coap.MAX_AGE) > 60

    def message(self, timeout=coap.ANSWER_TIMEOUT_S, answer=coap.ACK):
        """The next message of the observation; every notification is confirmable."""
        data = self.session.wire.recv(timeout)
        if data is None:
            return None
        message = coap.decode(data)
        assert message.token == self.token and message.type == coap.CON and message.code != 0
        if answer is not None:
            self.session.wire.send(coap.Message(answer, 0, message.mid).encode())
        if message.option(OBSERVE) is not None:
            self.judge(message)
        return message

    def next(self, **more):
        message = self.message(**more)
        assert message and message.status == "2.05" and message.option(coap.CONTENT_FORMAT) == ACE_TRL
        return cbor2.loads(message.payload)

    def hears_nothing(self):
        """What was to come would have come before the answer to this."""
        request = self.session.build(coap.GET, ".well-known/core")
        self.session.wire.send(request.encode())
        answer = coap.decode(self.session.wire.recv(10))
        assert answer.token == request.token, "a notification came"

    def close(self):
        self.session.close()

    __enter__ = coap.Endpoint.__enter__
    __exit__ = coap.Endpoint.__exit__


def tokens(world, n=1, party="client"):
    with world["realm"].connect(world[party]) as session:
        return [token(session, world["rs"], "read")[1] for _ in range(n)]


def test_each_observer_is_told_once_of_its_part(world):
    realm = world["realm"]
    (mine,), (foreign,) = tokens(world), tokens(world, 1, "other")
    with Observer(realm, world["rs"]) as rs, Observer(realm, world["client"]) as client, \
            Observer(realm, world["other"], "diff=1") as other, realm.connect(world["client"]) as session:
        before = set(cbor2.loads(rs.first.payload)[0])
        revoke(session, mine)
        assert set(rs.next()[0]) == before | {hash_of(mine)}
        assert hash_of(mine) in client.next()[0]
        other.hears_nothing()
        rs.hears_nothing()
        realm.acectl("token", "revoke", "--client", world["other"].name)
        assert other.next()[1][0] == [[], [hash_of(foreign)]]
        assert hash_of(foreign) in rs.next()[0]
        client.hears_nothing()
        revoke(session, mine)  # again: nothing changes
        rs.hears_nothing()
    listed = {bytes.fromhex(row["hash"]): row for row in realm.ctl_items("trl", "list")}
    assert listed[hash_of(mine)]["client"] == world["client"].name
    assert listed[hash_of(mine)]["server"] == world["rs"].name


def test_what_is_revoked_in_the_batch_of_a_registration_is_told(world):
    realm, (mine,) = world["realm"], tokens(world)
    with realm.connect(world["rs"]) as rs, realm.connect(world["client"]) as client:
        registration = rs.build(coap.GET, "revoke/trl", options=[(OBSERVE, b"")])
        revocation = client.build(coap.POST, "revoke", cbor2.dumps({11: mine}), coap.ACE_CBOR)
        os.kill(realm.process.pid, signal.SIGSTOP)  # what comes meanwhile is taken in together
        rs.wire.send(registration.encode())
        client.wire.send(revocation.encode())
        os.kill(realm.process.pid, signal.SIGCONT)
        told = rs.response(registration.token)
        assert told.option(OBSERVE) is not None
        if hash_of(mine) not in cbor2.loads(told.payload)[0]:
            told = coap.decode(rs.wire.recv(10) or pytest.fail("no notification"))
        assert hash_of(mine) in cbor2.loads(told.payload)[0]


def test_a_reset_ends_an_observation(world):
    first, second = tokens(world, 2)
    with Observer(world["realm"], world["rs"]) as rs, world["realm"].connect(world["client"]) as session:
        revoke(session, first)
        assert rs.message(answer=coap.RST)
        revoke(session, second)
        rs.hears_nothing()


def test_taking_it_back_ends_an_observation(world):
    with Observer(world["realm"], world["rs"]) as rs, world["realm"].connect(world["client"]) as session:
        answer = rs.session.request(coap.GET, "revoke/trl", options=[(OBSERVE, b"\x01")], token=rs.token)
        assert answer.status == "2.05" and answer.option(OBSERVE) is None
        revoke(session, tokens(world)[0])
        rs.hears_nothing()


def test_the_latest_state_is_told_after_an_acknowledgement(world):
    several = tokens(world, 5)
    with Observer(world["realm"], world["rs"]) as rs, world["realm"].connect(world["client"]) as session:
        revoke(session, several[0])
        first = rs.message(answer=None)
        for each in several[1:]:
            revoke(session, each)
        rs.session.wire.send(coap.Message(coap.ACK, 0, first.mid).encode())
        again = rs.next()  # one for all four
        assert {hash_of(each) for each in several} <= set(again[0])
        rs.hears_nothing()


def test_limits(world):
    """A registration beyond the limit is an ordinary request (RFC 7641 §4.1); the same token again is no more."""
    realm = world["realm"]
    with Observer(realm, world["rs"]) as rs:
        for _ in range(3):
            assert rs.session.request(coap.GET, "revoke/trl", options=[(OBSERVE, b"")]).option(OBSERVE) is not None
        assert rs.session.request(coap.GET, "revoke/trl", options=[(OBSERVE, b"")]).option(OBSERVE) is None
        rs.register()
        assert rs.first.option(OBSERVE) is not None
        assert realm.ctl("status")["limits"]["observers_used"] == 4
        assert realm.ctl("status")["figures"]["observers_refused"] >= 1
    deadline = time.monotonic() + 60
    while realm.ctl("status")["limits"]["observers_used"] > 0:
        assert time.monotonic() < deadline, "observations outlive their session"


def test_what_is_not_observable(world):
    realm = world["realm"]
    with realm.connect(world["client"]) as session:
        assert session.request(coap.GET, ".well-known/core", options=[(OBSERVE, b"")]).option(OBSERVE) is None
        assert session.request(coap.GET, "revoke/trl", options=[(OBSERVE, b"\x07")]).option(OBSERVE) is None
        assert session.post("revoke/trl", b"\xa0").status == "4.05"
        answer = session.request(coap.GET, "revoke/trl", query=["diff=x"], options=[(OBSERVE, b"")])
        assert answer.status == "4.00" and answer.option(OBSERVE) is None
        assert answer.option(coap.CONTENT_FORMAT) == PROBLEM and cbor2.loads(answer.payload) == {1: {0: 0}}
    with realm.plain() as session:
        assert session.request(coap.GET, "revoke/trl", options=[(OBSERVE, b"")]).status == "4.01"


def test_who_is_deleted_is_told_so_and_hears_no_more(realm):
    client, rs = realm.pair("--trl", "yes")
    with realm.connect(client) as session:
        mine = token(session, rs, "read")[1]
    with Observer(realm, client) as gone, Observer(realm, rs) as watcher:
        realm.acectl("client", "delete", client.name)
        message = gone.message()
        assert message is None or (message.status == "4.01" and message.option(OBSERVE) is None)
        assert watcher.next()[0] == [hash_of(mine)]
        assert realm.ctl("status")["limits"]["observers_used"] == 1


def test_expired_tokens_leave_the_list(realm):
    client, rs = realm.pair("--trl", "yes", "--max-lifetime", "3")
    with realm.connect(client) as session, Observer(realm, rs, "diff=0") as watcher:
        mine = token(session, rs, "read")[1]
        revoke(session, mine)
        assert watcher.next() == {1: [[[], [hash_of(mine)]]], 2: 0, 3: False}
        assert watcher.next(timeout=CARE_S) == {1: [[[hash_of(mine)], []], [[], [hash_of(mine)]]], 2: 1, 3: False}
        assert trl(session) == {0: [], 2: 1}
        assert trl(session, "diff=1", "cursor=0")[1] == [[[hash_of(mine)], []]]


def test_list_and_items_survive_sigkill(make_realm):
    realm = make_realm({"token": {"trl_updates_max": 4, "trl_batch_max": 2}}).start()
    client, rs = realm.pair("--trl", "yes")
    hashes = []
    for n in range(6):
        with realm.connect(client) as session:
            mine = token(session, rs, "read")[1]
            revoke(session, mine)
            realm.kill()  # what was acknowledged is there
            session.wire.abandon()
        hashes.append(hash_of(mine))
        realm.start()
        with realm.connect(rs) as session:
            assert trl(session) == {0: hashes, 2: n}
            assert introspect(session, mine) == {10: False}
    with realm.connect(rs) as session:
        assert trl(session, "diff=0", "cursor=3") == {1: [[[], [hashes[5]]], [[], [hashes[4]]]], 2: 5, 3: False}
        assert trl(session, "diff=0") == {1: [[[], [hashes[3]]], [[], [hashes[2]]]], 2: 3, 3: True}
        assert trl(session, "diff=0", "cursor=0") == {1: [], 2: None, 3: True}, "lost updates"


def test_a_label_is_revoked_in_steps(realm):
    rs = realm.add_rs(None, "--trl", "yes")
    clients = [realm.add_client(None, "--label", "valves") for _ in range(3)]
    realm.acectl("policy", "add", "--label", "valves", "--audience", rs.name, "--scope", "read")
    issued = []
    for client in clients:
        with realm.connect(client) as session:
            issued += [token(session, rs, "read")[1] for _ in range(5)]
    with Observer(realm, rs) as watcher:
        assert realm.ctl("token", "revoke", "--label", "valves") == {"revoked": 15, "refresh_tokens": 0}
        assert set(watcher.next()[0]) == {hash_of(each) for each in issued}
        watcher.hears_nothing()
    assert realm.ctl("token", "revoke", "--label", "valves") == {"revoked": 0, "refresh_tokens": 0}
    assert realm.acectl("token", "revoke", check=False).returncode == 2
    assert realm.acectl("token", "revoke", "--rs", "nobody", check=False).returncode == 1


# ---- more than a message holds


@pytest.fixture(scope="module")
def large(shared):
    client = shared.add_client()
    rs = shared.add_rs(None, "--trl", "yes", identity=b"text", key=b"0123456789abcdef")  # as coap-client wants them
    shared.policy(client, rs)
    with shared.connect(client) as session:
        hashes = []
        for _ in range(N_LARGE):
            hashes.append(hash_of(token(session, rs, "read")[1]))
        shared.acectl("token", "revoke", "--client", client.name)
    return {"realm": shared, "client": client, "rs": rs, "hashes": hashes}


def fetch_from(session, first, path="revoke/trl", **more):
    """What follows a first block, each asked for by a plain GET with a token of its own (RFC 7959 §2.6)."""
    body, (number, follows, szx) = first.payload, block_of(first, BLOCK2)
    while follows:
        number += 1
        answer = session.confirmed(coap.GET, path, options=[(BLOCK2, block(number, False, szx))], **more)
        assert answer.option(ETAG) == first.option(ETAG) and answer.option(OBSERVE) is None
        number, follows, _ = block_of(answer, BLOCK2)
        body += answer.payload
    return cbor2.loads(body)


def test_libcoap_gets_a_large_list(large):
    realm, rs = large["realm"], large["rs"]
    for size in ("16", "64", "1024"):
        got = realm.directory / "list"
        run("coap-client-gnutls", "-u", rs.identity.decode(), "-k", rs.key.decode(), "-B", "20", "-b", size, "-o", got,
            realm.url("/revoke/trl"))
        assert set(cbor2.loads(got.read_bytes())[0]) == set(large["hashes"])


@pytest.mark.parametrize("szx", [None, 0, 2, 5])
def test_large_notifications_come_in_blocks(large, szx):
    realm = large["realm"]
    options = [] if szx is None else [(BLOCK2, block(0, False, szx))]
    with realm.connect(large["client"]) as session:
        more = token(session, large["rs"], "read")[1]
        with Observer(realm, large["rs"], options=options) as rs:
            assert set(fetch_from(rs.session, rs.first)[0]) >= set(large["hashes"])
            revoke(session, more)
            large["hashes"].append(hash_of(more))
            first = rs.message()
            assert first.option(OBSERVE) is not None and block_of(first, BLOCK2)[:2] == (0, True)
            assert szx is None or block_of(first, BLOCK2)[2] == szx
            assert set(fetch_from(rs.session, first)[0]) == set(large["hashes"])


@pytest.mark.parametrize("seed", range(4))
def test_blocks_lost_doubled_and_late(large, seed):
    """Blocks of one list are put together whatever the network does with the requests and answers."""
    dice = random.Random(seed)
    with large["realm"].connect(large["rs"]) as session:
        first = session.confirmed(coap.GET, "revoke/trl", options=[(BLOCK2, block(0, False, 3))])
        parts, number, follows, sent = [first.payload], 0, True, []
        while follows:
            number += 1
            message = session.build(coap.GET, "revoke/trl", options=[(BLOCK2, block(number, False, 3))])
            for _ in range(dice.choice([1, 1, 3])):  # the network's copies
                session.wire.send(message.encode())
            if sent and dice.random() < 0.5:
                session.wire.send(dice.choice(sent))  # one that comes late
            answer = session.response(message.token)
            if dice.random() < 0.3:  # as if that had been lost: asked for again
                again = session.build(coap.GET, "revoke/trl", options=[(BLOCK2, block(number, False, 3))])
                session.wire.send(again.encode())
                assert session.response(again.token).payload == answer.payload
            assert answer.option(ETAG) == first.option(ETAG)
            sent.append(message.encode())
            number, follows, _ = block_of(answer, BLOCK2)
            parts.append(answer.payload)
        assert set(cbor2.loads(b"".join(parts))[0]) == set(large["hashes"])


def test_a_list_that_changes_between_blocks_can_be_told(large):
    with large["realm"].connect(large["rs"]) as session, large["realm"].connect(large["client"]) as client:
        first = session.request(coap.GET, "revoke/trl")
        more = token(client, large["rs"], "read")[1]
        revoke(client, more)
        large["hashes"].append(hash_of(more))
        # the rest of what was begun is kept
        assert hash_of(more) not in fetch_from(session, first)[0]
        assert hash_of(more) in fetch_from(session, session.request(coap.GET, "revoke/trl"))[0]


# ---- with other programs


def test_libcoap_observes(large):
    realm, rs = large["realm"], large["rs"]
    client = realm.add_client()
    realm.policy(client, rs)
    got = realm.directory / "observed"
    follower = subprocess.Popen(["coap-client-gnutls", "-u", rs.identity.decode(), "-k", rs.key.decode(), "-B", "30",
                                 "-s", "8", "-o", got, realm.url("/revoke/trl?diff=1")],
                                stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    deadline = time.monotonic() + 60
    while realm.ctl("status")["limits"]["observers_used"] == 0:
        assert time.monotonic() < deadline
    with realm.connect(client) as session:
        mine = token(session, rs, "read")[1]
        revoke(session, mine)
    output = follower.communicate(timeout=120)[0]
    assert follower.returncode == 0, output
    assert hash_of(mine) in got.read_bytes(), (output, got.read_bytes())
    assert realm.ctl("status")["limits"]["observers_used"] == 0, "it takes its interest back at the end"


def test_aceclient_lists(world):
    realm, rs = world["realm"], world["rs"]
    (mine,) = tokens(world)
    with realm.connect(world["client"]) as session:
        revoke(session, mine)
    done = run(program("aceclient"), "-s", realm.url(), "--identity-hex", rs.identity.hex(), "--key-hex", rs.key.hex(),
               "-o", "json", "trl")
    assert hash_of(mine).hex() in done.stdout
