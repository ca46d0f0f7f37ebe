"""Requests as they should not be, on the wire: the exact code, nothing stored, and a session that goes on."""

import os

import cbor2
import pytest

import coap
from realm import introspect, refused, token

BLOCK2 = 23
DEEP = bytes([0x81]) * 200 + b"\0"


@pytest.fixture(scope="module")
def world(shared):
    """A client with a token at "rs1"'s neighbour, "rs2" that it may not use, another client."""
    client, rs = shared.pair()
    other, forbidden = shared.add_client(), shared.add_rs()
    shared.policy(other, forbidden)
    bytes_rs = shared.add_rs(None, "--scope-kind", "bytes", scope="hex:0102")
    shared.policy(client, bytes_rs, "hex:0102")
    return {"realm": shared, "client": client, "rs": rs, "other": other, "forbidden": forbidden, "bytes": bytes_rs}


def n_tokens(realm):
    return realm.ctl("status")["store"]["tokens"]


@pytest.fixture
def session(world):
    """The client's session; a request that is refused leaves nothing behind and the session usable."""
    before = n_tokens(world["realm"])
    with world["realm"].connect(world["client"]) as session:
        yield session
        assert n_tokens(world["realm"]) == before, "something was stored"
        token(session, world["rs"], "read")


# name, payload made from the world, error of RFC 9200 §5.8.3
MALFORMED = [
    ("nothing", lambda w: b"", 1),
    ("no map", lambda w: cbor2.dumps([1]), 1),
    ("a number", lambda w: b"\0", 1),
    ("cut", lambda w: cbor2.dumps({5: w["rs"].name, 9: "read"})[:-1], 1),
    ("a byte too many", lambda w: cbor2.dumps({5: w["rs"].name, 9: "read"}) + b"\0", 1),
    ("a reserved head", lambda w: b"\xa1\x05\x1c", 1),
    ("a break alone", lambda w: b"\xff", 1),
    ("over-deep", lambda w: b"\xa1\x19\x27\x0f" + DEEP, 1),
    ("key twice", lambda w: b"\xa2\x05" + cbor2.dumps(w["rs"].name) + b"\x05" + cbor2.dumps(w["rs"].name), 1),
    ("unknown key twice", lambda w: b"\xa3\x05" + cbor2.dumps(w["rs"].name) + b"\x18\x63\0\x18\x63\0", 1),
    ("audience of bytes", lambda w: cbor2.dumps({5: b"\0"}), 1),
    ("audience a number", lambda w: cbor2.dumps({5: 5}), 1),
    ("scope an array", lambda w: cbor2.dumps({5: w["rs"].name, 9: ["read"]}), 1),
    ("text that is not UTF-8", lambda w: b"\xa1\x05\x62\xc3\x28", 1),
    ("grant type of text", lambda w: cbor2.dumps({5: w["rs"].name, 33: "client_credentials"}), 1),
    ("a length of 2^60", lambda w: b"\xa1\x05\x7b\x10" + bytes(7), 1),
    ("authorization code", lambda w: cbor2.dumps({5: w["rs"].name, 33: 1}), 5),
    ("no audience", lambda w: cbor2.dumps({9: "read"}), 1),
    ("unknown audience", lambda w: cbor2.dumps({5: "nobody"}), 1),
    ("audience of others", lambda w: cbor2.dumps({5: w["forbidden"].name, 9: "read"}), 1),
    ("scope not allowed", lambda w: cbor2.dumps({5: w["rs"].name, 9: "admin"}), 6),
    ("scope with a bad character", lambda w: cbor2.dumps({5: w["rs"].name, 9: 'read "'}), 6),
    ("empty scope", lambda w: cbor2.dumps({5: w["rs"].name, 9: ""}), 6),
    ("scope of bytes at a server of text", lambda w: cbor2.dumps({5: w["rs"].name, 9: b"read"}), 6),
    ("scope of text at a server of bytes", lambda w: cbor2.dumps({5: w["bytes"].name, 9: "read"}), 6),
    ("symmetric key by value", lambda w: cbor2.dumps({5: w["rs"].name, 9: "read", 4: {1: {1: 4, -1: bytes(16)}}}), 1),
    ("unknown kid", lambda w: cbor2.dumps({5: w["rs"].name, 9: "read", 4: {3: b"\0" * 8}}), 7),
]


@pytest.mark.parametrize("payload,error", [row[1:] for row in MALFORMED], ids=[row[0] for row in MALFORMED])
def test_refused(world, session, payload, error):
    refused(session.post("token", payload(world)), error)


def test_foreign_client_id(world, session):
    answer = session.post("token", cbor2.dumps({5: world["rs"].name, 9: "read", 24: world["other"].name}))
    refused(answer, 2, "4.01")


def test_own_client_id(world):
    with world["realm"].connect(world["client"]) as session:
        token(session, world["rs"], "read", extra={24: world["client"].name})


def test_unknown_parameters_are_ignored(world):
    with world["realm"].connect(world["client"]) as session:
        token(session, world["rs"], "read", extra={9999: 1, "more": [1, {2: 3}]})


def test_unknown_and_forbidden_audience_look_alike(world, session):
    texts = [refused(session.post("token", cbor2.dumps({5: name, 9: "read"})), 1)[31] for name in
             ("nobody", world["forbidden"].name)]
    assert texts[0].partition(" (")[0] == texts[1].partition(" (")[0], "AS-022"


def test_a_server_is_no_client(world):
    with world["realm"].connect(world["rs"]) as session:
        refused(session.post("token", cbor2.dumps({5: world["rs"].name})), 4)


def test_too_large(world, session):
    limit = world["realm"].ctl("status")["limits"]["payload_max"]
    limit = limit["max"] if isinstance(limit, dict) else limit
    answer = session.post("token", cbor2.dumps({5: world["rs"].name, 9: "r" * limit}))
    assert answer.status == "4.13"


# name, request, status
COAP = [
    ("unknown path", dict(code=coap.GET, path="nowhere"), "4.04"),
    ("path below", dict(code=coap.POST, path="token/more", content_format=19), "4.04"),
    ("admin from the network", dict(code=coap.GET, path="v1/status"), "4.04"),
    ("GET /token", dict(code=coap.GET, path="token"), "4.05"),
    ("PUT /token", dict(code=coap.PUT, path="token", payload=b"\xa0", content_format=19), "4.05"),
    ("DELETE /introspect", dict(code=coap.DELETE, path="introspect"), "4.05"),
    ("POST /.well-known/core", dict(code=coap.POST, path=".well-known/core", payload=b"\xa0", content_format=19), "4.05"),
    ("payload in CBOR, not ACE's", dict(code=coap.POST, path="token", payload=b"\xa0", content_format=60), "4.15"),
    ("payload in JSON", dict(code=coap.POST, path="introspect", payload=b"{}", content_format=50), "4.15"),
    ("answer asked in JSON", dict(code=coap.POST, path="token", payload=b"\xa0", content_format=19, accept=50), "4.06"),
    ("discovery asked in CBOR", dict(code=coap.GET, path=".well-known/core", accept=60), "4.06"),
    ("unknown critical option", dict(code=coap.GET, path=".well-known/core", options=[(9999, b"")]), "4.02"),
    ("Accept of five bytes", dict(code=coap.GET, path=".well-known/core", options=[(17, bytes(5))]), "4.02"),
    ("If-Match", dict(code=coap.POST, path="token", payload=b"\xa0", content_format=19, options=[(1, b"x")]), "4.02"),
    ("parameters in the query", dict(code=coap.POST, path="token", query=["audience=x"], content_format=19), "4.00"),
]


@pytest.mark.parametrize("request_,status", [row[1:] for row in COAP], ids=[row[0] for row in COAP])
@pytest.mark.parametrize("type", [coap.CON, coap.NON], ids=["CON", "NON"])
def test_coap_code(world, session, request_, status, type):
    if status == "4.02" and type == coap.NON:
        # rejected, not answered (RFC 7252 §5.4.1): at most a Reset, and the ping behind it is
        session.wire.send(session.build(type=type, **request_).encode())
        session.wire.send(coap.Message(coap.CON, 0, 0x7001).encode())
        while (answer := coap.decode(session.wire.recv(10))).mid != 0x7001:
            assert answer.type == coap.RST
        return
    answer = session.request(type=type, **request_)
    assert answer.status == status
    assert answer.type == (coap.ACK if type == coap.CON else coap.NON)


def test_unknown_elective_options_are_ignored(world, session):
    assert session.request(coap.GET, ".well-known/core", options=[(9998, b"anything")]).status == "2.05"


def test_ping(world, session):
    """An empty confirmable is answered with Reset (RFC 7252 §4.3)."""
    answer = coap.decode(session.raw(coap.Message(coap.CON, 0, 0x7777).encode()))
    assert (answer.type, answer.code, answer.mid) == (coap.RST, 0, 0x7777)


@pytest.mark.parametrize("datagram", ["4001777", "c0017777", "49017777" + "00" * 9, "40017777ff", "40007777ff00", "40017777f0"])
def test_format_errors_are_not_answered_with_content(world, session, datagram):
    """At most a Reset comes back (RFC 7252 §4.2), and the session lives."""
    session.wire.send(bytes.fromhex(datagram if len(datagram) % 2 == 0 else datagram[:-1]))
    session.wire.send(coap.Message(coap.CON, 0, 0x7001).encode())
    while (answer := coap.decode(session.wire.recv(10))).mid != 0x7001:
        assert answer.type == coap.RST and answer.code == 0


def test_retransmitted_post_is_answered_alike_and_stored_once(world):
    realm = world["realm"]
    with realm.connect(world["client"]) as session:
        before = n_tokens(realm)
        message = session.build(coap.POST, "token", cbor2.dumps({5: world["rs"].name, 9: "read"}), content_format=19)
        answers = [session.raw(message.encode()) for _ in range(3)]
        assert answers[0] and answers[0] == answers[1] == answers[2]
        assert coap.decode(answers[0]).status == "2.01"
        assert n_tokens(realm) == before + 1
        again = session.build(coap.POST, "token", message.payload, content_format=19)
        assert coap.decode(session.raw(again.encode())).status == "2.01"
        assert n_tokens(realm) == before + 2, "another MID is another request"


def test_duplicates_in_one_burst(world):
    realm = world["realm"]
    with realm.connect(world["client"]) as session:
        before = n_tokens(realm)
        message = session.build(coap.POST, "token", cbor2.dumps({5: world["rs"].name, 9: "read"}), content_format=19)
        for _ in range(5):
            session.wire.send(message.encode())
        answers = {session.wire.recv(10)}
        while (more := session.wire.recv(0.2)) is not None:
            answers.add(more)
        assert len(answers) == 1 and n_tokens(realm) == before + 1


def test_many_requests_at_once(world):
    """Answers come for each, whatever batch they were in."""
    realm = world["realm"]
    with realm.connect(world["client"]) as session:
        before = n_tokens(realm)
        messages = [session.build(coap.POST, "token", cbor2.dumps({5: world["rs"].name, 9: "read"}), content_format=19)
                    for _ in range(50)]
        for message in messages:
            session.wire.send(message.encode())
        answers = {}
        while len(answers) < len(messages):
            answer = coap.decode(session.wire.recv(10))
            answers[answer.token] = answer
        assert set(answers) == {message.token for message in messages}
        assert {answer.status for answer in answers.values()} == {"2.01"}
        assert len({cbor2.loads(answer.payload)[8][1][2] for answer in answers.values()}) == 50
        assert n_tokens(realm) == before + 50


# ---- plain CoAP

@pytest.mark.parametrize("path", ["token", "introspect"])
def test_plain_coap_gets_nothing(world, path):
    """AS-001, AS-151: never 2.xx without a channel, and nothing is stored."""
    before = n_tokens(world["realm"])
    with world["realm"].plain() as plain:
        answer = plain.post(path, cbor2.dumps({5: world["rs"].name, 9: "read", 11: b"x"}))
        assert answer.status == "4.01"
    assert n_tokens(world["realm"]) == before


@pytest.mark.parametrize("door", ["coap", "coaps"])
def test_discovery(world, door):
    realm = world["realm"]
    with realm.plain() if door == "coap" else realm.connect(world["client"]) as session:
        answer = session.request(coap.GET, ".well-known/core")
        assert answer.status == "2.05" and answer.option(coap.CONTENT_FORMAT) == coap.LINK_FORMAT
        body = answer.payload
        while (block := answer.option(BLOCK2) or 0) & 8:  # as much as a stranger is told at once
            answer = session.request(coap.GET, ".well-known/core", options=[(BLOCK2, bytes([(block & 0xF7) + 16]))])
            body += answer.payload
        assert b"</token>" in body and b"</introspect>" in body and b"v1" not in body
        only = session.request(coap.GET, ".well-known/core", query=["href=/token"]).payload
        assert b"</token>" in only and b"</introspect>" not in only
        links = session.request(coap.GET, ".well-known/core", query=["rt=ace.*"]).payload
        assert b"</token>" in links and b"</introspect>" in links
        assert session.request(coap.GET, ".well-known/core", query=["rt=nothing"]).payload == b""


# ---- introspection

@pytest.fixture
def asking(world):
    with world["realm"].connect(world["rs"]) as session:
        yield session


@pytest.mark.parametrize("payload", [b"", b"\xa0", cbor2.dumps({11: "text"}), cbor2.dumps({12: b"x"}), b"\xa2\x0b\x40\x0b\x40"],
                         ids=["nothing", "no token", "text", "another key", "twice"])
def test_introspection_refused(world, asking, payload):
    refused(asking.post("introspect", payload), 1)


def test_introspection_of_what_is_not_active(world, asking):
    """AS-155, AS-156: one answer for unknown, damaged and foreign tokens."""
    realm = world["realm"]
    good = realm.token(world["client"], world["rs"], "read")[1]
    foreign = realm.token(world["other"], world["forbidden"], "read")[1]
    damaged = bytearray(good)
    damaged[-1] ^= 1
    assert introspect(asking, good)[10] is True
    for token_ in (foreign, bytes(damaged), good[:-1], good + b"\0", os.urandom(40), b"", b"\xd8\x3d"):
        assert introspect(asking, token_) == {10: False}, token_.hex()


def test_introspection_hint_is_ignored(world, asking):
    good = world["realm"].token(world["client"], world["rs"], "read")[1]
    for hint in (2, "access_token", "nonsense"):
        answer = asking.post("introspect", cbor2.dumps({11: good, 33: hint}))
        assert cbor2.loads(answer.payload)[10] is True, "AS-153"


def test_introspection_with_tags_off_and_on(world, asking):
    """AS-173: the same token whatever tags stand around it."""
    good = world["realm"].token(world["client"], world["rs"], "read")[1]
    bare = good
    while isinstance(item := cbor2.loads(bare), cbor2.CBORTag):
        bare = cbor2.dumps(item.value)
    for form in (bare, b"\xd0" + bare, b"\xd8\x3d\xd0" + bare):
        assert introspect(asking, form)[10] is True


def test_introspection_by_a_client_is_forbidden(world, session):
    """AS-158."""
    answer = session.post("introspect", cbor2.dumps({11: b"x"}))
    assert answer.status == "4.03" and answer.payload == b""
