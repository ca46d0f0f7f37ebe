"""Block-wise transfer (RFC 7959) on the wire: with libcoap's client, and with a peer that loses, doubles and reorders."""

import itertools
import random

import cbor2
import pytest

import coap
from realm import introspect, run, token

BLOCK2, BLOCK1, SIZE2, SIZE1, ETAG, REQUEST_TAG = 23, 27, 28, 60, 4, 292
BODY_MAX = 8192


@pytest.fixture(scope="module")
def world(shared):
    """Rates hold here: a transfer in blocks is one request."""
    client, rs = shared.pair()
    key = b"0123456789abcdef"
    texts = shared.add_client(identity=b"text", key=key)  # coap-client takes identity and key as text
    shared.policy(texts, rs)
    return {"realm": shared, "client": client, "rs": rs, "texts": texts}


def n_tokens(realm):
    return realm.ctl("status")["store"]["tokens"]


def held(realm):
    figures = realm.ctl("status")["figures"]
    return figures["block_bodies"], figures["block_answers"]


def body_of(world, size):
    """A token request of exactly so many bytes: keys that nobody knows are ignored."""
    for padding in range(size, 0, -1):
        body = cbor2.dumps({5: world["rs"].name, 9: "read", 9999: bytes(padding)})
        if len(body) == size:
            return body
    raise AssertionError(size)


def block(number, more, szx):
    value = number << 4 | more << 3 | szx
    return value.to_bytes((value.bit_length() + 7) // 8, "big")


def block_of(message, option):
    value = message.option(option)
    return None if value is None else (value >> 4, bool(value & 8), value & 7)


def pieces(body, szx):
    size = 16 << szx
    return [(n, (n + 1) * size < len(body), body[n * size : (n + 1) * size]) for n in range((len(body) + size - 1) // size)]


def send_block(session, piece, szx, options=(), **more):
    number, follows, payload = piece
    return session.post("token", payload, options=[(BLOCK1, block(number, follows, szx)), *options], **more)


def send_body(session, body, szx, options=(), **more):
    """All blocks in order; the last answer."""
    *before, last = pieces(body, szx)
    for piece in before:
        answer = send_block(session, piece, szx, options, **more)
        assert answer.status == "2.31" and block_of(answer, BLOCK1) == (piece[0], True, szx)
        assert answer.payload == b""
    return send_block(session, last, szx, options, **more)


def fetch_rest(session, answer, path="token", code=coap.POST, **more):
    """What follows a first block; the whole body."""
    body, (number, follows, szx) = answer.payload, block_of(answer, BLOCK2)
    while follows:
        number += 1
        last = answer
        answer = session.request(code, path, options=[(BLOCK2, block(number, False, szx))], **more)
        assert answer.status == last.status and answer.option(ETAG) == last.option(ETAG)
        assert block_of(answer, BLOCK2)[0] == number
        follows = block_of(answer, BLOCK2)[1]
        body += answer.payload
    return body


# ---- libcoap's client

def coap_client(world, *arguments, output=True):
    realm, party = world["realm"], world["texts"]
    got = realm.directory / "got"
    got.unlink(missing_ok=True)
    done = run("coap-client-gnutls", "-u", party.identity.decode(), "-k", party.key.decode(), "-B", "20", "-o", got,
               *arguments)
    return got.read_bytes() if output else done.stdout + done.stderr


@pytest.mark.parametrize("size,block_size", [(100, 16), (1000, 64), (3000, 256), (BODY_MAX, 16), (BODY_MAX, 512), (BODY_MAX, 1024)])
def test_libcoap_sends_a_large_request(world, size, block_size):
    realm = world["realm"]
    before = n_tokens(realm)
    ask = realm.directory / "ask"
    ask.write_bytes(body_of(world, size))
    answer = coap_client(world, "-m", "post", "-t", "19", "-b", block_size, "-f", ask, realm.url("/token"))
    with realm.connect(world["rs"]) as session:
        assert introspect(session, cbor2.loads(answer)[1])[10] is True
    assert n_tokens(realm) == before + 1


@pytest.mark.parametrize("block_size", [16, 32, 64])
def test_libcoap_gets_links_in_blocks(world, block_size):
    realm = world["realm"]
    with realm.connect(world["client"]) as session:
        whole = session.request(coap.GET, ".well-known/core").payload
    assert len(whole) > block_size
    assert coap_client(world, "-m", "get", "-b", block_size, realm.url("/.well-known/core")) == whole


def test_libcoap_gets_the_answer_to_a_post_in_blocks(world):
    """It asks for blocks of 32 bytes (Block2 0/0/32): the token that it puts together is one, and the only one."""
    realm = world["realm"]
    before = n_tokens(realm)
    ask = realm.directory / "ask"
    ask.write_bytes(body_of(world, 300))
    answer = coap_client(world, "-m", "post", "-t", "19", "-b", 64, "-O", "23,0x01", "-f", ask, realm.url("/token"))
    with realm.connect(world["rs"]) as session:
        assert introspect(session, cbor2.loads(answer)[1])[10] is True
    assert n_tokens(realm) == before + 1


def test_libcoap_over_a_lossy_network(world):
    """The sixth and the ninth of the datagrams that it sends are lost."""
    realm = world["realm"]
    before = n_tokens(realm)
    ask = realm.directory / "ask"
    ask.write_bytes(body_of(world, 300))
    answer = coap_client(world, "-m", "post", "-t", "19", "-b", 64, "-l", "6,9", "-f", ask, realm.url("/token"))
    assert set(cbor2.loads(answer)) >= {1, 8}
    assert n_tokens(realm) == before + 1


def test_libcoap_hears_that_it_is_too_large(world):
    realm = world["realm"]
    before = n_tokens(realm)
    ask = realm.directory / "ask"
    ask.write_bytes(body_of(world, BODY_MAX + 1))
    said = coap_client(world, "-m", "post", "-t", "19", "-b", 512, "-f", ask, realm.url("/token"), output=False)
    assert "4.13" in said
    assert n_tokens(realm) == before


# ---- a peer that can do it wrong

@pytest.mark.parametrize("szx", range(7))
def test_a_body_of_every_block_size(world, szx):
    with world["realm"].connect(world["client"]) as session:
        answer = send_body(session, body_of(world, 1500), szx)
        assert answer.status == "2.01" and 1 in cbor2.loads(answer.payload)
        number, more, same = block_of(answer, BLOCK1)
        assert (number, more, same) == ((1500 - 1) // (16 << szx), False, szx)


@pytest.mark.parametrize("szx", range(4))
def test_both_ways_in_blocks(world, szx):
    """RFC 7959 §3.3: the token is issued once, and all blocks of the answer are of that one."""
    realm = world["realm"]
    before = n_tokens(realm)
    with realm.connect(world["client"]) as session, realm.connect(world["rs"]) as server:
        answer = send_body(session, body_of(world, 400), 2, [(BLOCK2, block(0, False, szx))])
        assert answer.status == "2.01" and block_of(answer, BLOCK2) == (0, True, szx) and len(answer.payload) == 16 << szx
        body = fetch_rest(session, answer, content_format=coap.ACE_CBOR)
        assert introspect(server, cbor2.loads(body)[1])[10] is True
    assert n_tokens(realm) == before + 1


def test_random_access_and_size2(world):
    with world["realm"].connect(world["client"]) as session:
        first = session.post("token", body_of(world, 100), options=[(BLOCK2, b""), (SIZE2, b"")])
        size = first.option(SIZE2)
        blocks = (size + 15) // 16
        parts = {0: first.payload}
        for number in random.Random(1).sample(range(1, blocks), blocks - 1):
            answer = session.request(coap.POST, "token", options=[(BLOCK2, block(number, False, 0))])
            assert answer.option(ETAG) == first.option(ETAG)
            parts[number] = answer.payload
        body = b"".join(parts[n] for n in range(blocks))
        assert len(body) == size and 1 in cbor2.loads(body)
        assert session.request(coap.POST, "token", options=[(BLOCK2, block(blocks, False, 0))]).status == "4.00"


def test_two_answers_at_once_are_never_mixed(world):
    """With Request-Tags (RFC 9175) each block is of its own answer; ordinary requests between do no harm."""
    with world["realm"].connect(world["client"]) as session:
        firsts = {tag: session.post("token", body_of(world, 60), options=[(BLOCK2, b""), (REQUEST_TAG, tag)])
                  for tag in (b"a", b"b")}
        bodies = {tag: first.payload for tag, first in firsts.items()}
        for number in itertools.count(1):
            more = False
            for tag in bodies:
                answer = session.request(coap.POST, "token", options=[(BLOCK2, block(number, False, 0)), (REQUEST_TAG, tag)])
                assert answer.option(ETAG) == firsts[tag].option(ETAG)
                bodies[tag] += answer.payload
                more = more or block_of(answer, BLOCK2)[1]
                token(session, world["rs"], "read")
            if not more:
                break
        assert len({cbor2.loads(body)[1] for body in bodies.values()}) == 2


def test_untagged_answers_can_be_told_apart(world):
    """The second answer takes the place of the first; the ETag says so."""
    with world["realm"].connect(world["client"]) as session:
        first, second = (session.post("token", body_of(world, 60), options=[(BLOCK2, b"")]) for _ in range(2))
        later = session.request(coap.POST, "token", options=[(BLOCK2, block(1, False, 0))])
        assert first.option(ETAG) != second.option(ETAG) == later.option(ETAG)


@pytest.mark.parametrize("seed", range(4))
def test_lost_doubled_and_reordered(world, seed):
    """Each block is sent until answered, some twice, some again with another Message ID, and old ones come late."""
    realm, dice = world["realm"], random.Random(seed)
    before = n_tokens(realm)
    with realm.connect(world["client"]) as session:
        body, sent = body_of(world, 700), []
        for piece in pieces(body, 2):
            for _ in range(dice.choice([1, 1, 2])):  # another Message ID, as if the answer had been lost
                if not piece[1] and _:
                    break
                message = session.build(coap.POST, "token", piece[2], content_format=19,
                                        options=[(BLOCK1, block(piece[0], piece[1], 2))])
                for _ in range(dice.choice([1, 1, 3])):  # the network's copies
                    session.wire.send(message.encode())
                if sent and dice.random() < 0.5:
                    session.wire.send(dice.choice(sent))
                answer = session.response(message.token)
                assert answer.status == ("2.31" if piece[1] else "2.01")
                sent.append(message.encode())
        assert 1 in cbor2.loads(answer.payload)
        token(session, world["rs"], "read")
    assert n_tokens(realm) == before + 2


# name, blocks as (number, more, szx, payload), the last one's status
WRONG = [
    ("a block is left out", [(0, True, 0, 16), (2, True, 0, 16)], "4.08"),
    ("a later block of nothing", [(3, True, 2, 64)], "4.08"),
    ("reserved block size", [(0, True, 7, 16)], "4.00"),
    ("shorter than it says", [(0, True, 1, 31)], "4.00"),
    ("longer than it says", [(0, False, 0, 17)], "4.00"),
    ("far beyond the limit", [(0xFFFFF, True, 6, 1024)], "4.13"),
    ("just beyond the limit", [(n, True, 6, 1024) for n in range(9)], "4.13"),
    ("the last block twice", [(0, True, 0, 16), (1, False, 0, 1), (1, False, 0, 1)], "4.08"),
    ("another block of the same number", [(0, True, 0, 16), (1, True, 0, 16), (1, True, 0, -16)], "4.08"),
]


@pytest.mark.parametrize("blocks,status", [row[1:] for row in WRONG], ids=[row[0] for row in WRONG])
def test_wrong(world, blocks, status):
    realm = world["realm"]
    before = n_tokens(realm)
    with realm.connect(world["client"]) as session:
        for number, more, szx, size in blocks:
            payload = bytes(size) if size > 0 else b"\1" * -size
            answer = session.post("token", payload, options=[(BLOCK1, block(number, more, szx))])
        assert answer.status == status and answer.payload == b""
        assert (answer.option(SIZE1) == BODY_MAX) == (status == "4.13")
        assert n_tokens(realm) == before
        token(session, world["rs"], "read")


def test_too_large_is_said_at_once(world):
    with world["realm"].connect(world["client"]) as session:
        answer = session.post("token", bytes(64), options=[(BLOCK1, block(0, True, 2)), (SIZE1, b"\x20\x01")])
        assert answer.status == "4.13" and answer.option(SIZE1) == BODY_MAX
        answer = session.post("token", bytes(BODY_MAX + 1))
        assert answer.status == "4.13" and answer.option(SIZE1) == BODY_MAX


def test_what_would_be_refused_is_not_collected(world):
    with world["realm"].connect(world["client"]) as session:
        first = [(BLOCK1, block(0, True, 0))]
        assert session.post("nowhere", bytes(16), options=first).status == "4.04"
        assert session.post("token", bytes(16), content_format=60, options=first).status == "4.15"
        assert session.post(".well-known/core", bytes(16), options=first).status == "4.05"


def test_greedy_peer_holds_a_few_bodies_and_answers(world):
    """The oldest of its own go; they go altogether with the session."""
    realm = world["realm"]
    with realm.connect(world["client"]) as session:
        for n in range(20):
            answer = session.post("token", bytes(1024), options=[(BLOCK1, block(0, True, 6)), (REQUEST_TAG, bytes([n]))])
            assert answer.status == "2.31"
            session.post("token", body_of(world, 60), options=[(BLOCK2, b""), (REQUEST_TAG, bytes([n]))])
        assert held(realm)[0] <= 4 and held(realm)[1] <= 4
        answer = session.post("token", b"x", options=[(BLOCK1, block(1, False, 6)), (REQUEST_TAG, b"\0")])
        assert answer.status == "4.08"
    assert realm.ctl("status")["limits"]["block_bytes_per_peer_max"] > 0


def test_session_takes_its_transfers_along(make_realm):
    realm = make_realm().start()
    client, rs = realm.pair()
    with realm.connect(client) as session:
        session.post("token", bytes(16), options=[(BLOCK1, block(0, True, 0))])
        assert held(realm) == (1, 0)
        session.post("token", cbor2.dumps({5: rs.name, 9: "read"}), options=[(BLOCK2, b"")])
        assert held(realm) == (1, 1)
    with realm.connect(client) as session:  # behind the other's close_notify
        token(session, rs, "read")
        assert held(realm) == (0, 0)


# ---- plain CoAP

def test_strangers_make_nobody_hold_anything(world):
    realm = world["realm"]
    before = held(realm)
    with realm.plain() as plain:
        answer = plain.post("token", bytes(16), options=[(BLOCK1, block(0, True, 0))])
        assert answer.status == "4.01"
        answer = plain.request(coap.GET, ".well-known/core", bytes(16), options=[(BLOCK1, block(0, True, 0))])
        assert answer.status == "4.13"
    assert held(realm) == before


def test_discovery_in_blocks_without_dtls(world):
    with world["realm"].plain() as plain:
        # a stranger is told less than three times what it said: that may be one block of it, too
        whole = fetch_rest(plain, plain.request(coap.GET, ".well-known/core"), ".well-known/core", coap.GET)
        first = plain.request(coap.GET, ".well-known/core", options=[(BLOCK2, b"")])
        assert len(first.payload) == 16 and len(first.encode()) < 3 * 25
        assert fetch_rest(plain, first, ".well-known/core", coap.GET) == whole
