"""What is built on OSCORE's messages: observations, blocks inside and outside, lost datagrams, what it costs on the
wire, how often strangers are told no. Names as in test_oscore.py."""

import itertools
import os
import socket
import time

import cbor2
import pytest

import coap
import oscore
from oscore import BLOCK1, OBSERVE, OSCORE, REQUEST_TAG, Option
from realm import introspect, token
from test_blocks import BLOCK2, ETAG, block, block_of, body_of, fetch_rest, pieces, send_block, send_body
from test_flood import memory, slack
from test_oscore import CORE, REPLAYED, UNKNOWN, ask, n_tokens, option_of, request, says, token_request
from test_trl import hash_of

TRL = "revoke/trl"


@pytest.fixture(scope="module")
def world(unlimited):
    realm = unlimited
    client, other = realm.add_client(context=[]), realm.add_client(context=[])
    rs = realm.add_rs(None, "--trl", "yes", context=[])
    realm.policy(client, rs)
    realm.policy(other, rs)
    return {"realm": realm, "client": client, "other": other, "rs": rs}


@pytest.fixture
def client(world):
    with world["realm"].connect(world["client"]) as session:
        assert session.request(*CORE).status == "2.05"
        yield session


@pytest.fixture
def rs(world):
    """With a context of its own for each test: a device observes only so often, and from so many addresses."""
    realm = world["realm"]
    with realm.speak(realm.add_context("rs", world["rs"])) as session:
        assert session.request(*CORE).status == "2.05"
        yield session
        for each in session.observations:
            each.cancel()


def revoke(session, access_token):
    assert session.post("revoke", cbor2.dumps({11: access_token})).status == "2.04"


def tokens(session, world, n=1):
    return [token(session, world["rs"], "read")[1] for _ in range(n)]


# ---- observations

def test_osc_009_031_notifications_have_numbers_of_our_own(world, client, rs):
    """The first may go under the request's nonce. All are bound to the registration."""
    mine = tokens(client, world, 4)
    watcher = rs.observe(TRL)
    assert watcher.first.option(OBSERVE) is not None and rs.outer.code == 0x45
    numbers = []
    for n, each in enumerate(mine):
        revoke(client, each)
        assert {hash_of(one) for one in mine[: n + 1]} <= set(watcher.next()[0])
        assert rs.outer.type == coap.CON and rs.outer.code == 0x45
        numbers.append(int.from_bytes(option_of(rs.outer).piv, "big"))
    assert numbers == sorted(set(numbers)) and watcher.n_dropped == 0
    watcher.hears_nothing()


def test_osc_032_cancelled_inside(world, client, rs):
    watcher = rs.observe(TRL)
    answer = watcher.cancel()
    assert answer.status == "2.05" and answer.option(OBSERVE) is None
    revoke(client, *tokens(client, world))
    watcher.hears_nothing()


@pytest.mark.parametrize("value,goes_on", [(b"", True), (b"\1", False)], ids=["registration", "cancellation"])
def test_osc_032_the_outer_observe_means_nothing(world, client, rs, value, goes_on):
    """A proxy takes it away, or says the opposite: what is inside holds."""
    for outer_value in (None, b"", b"\1"):
        watcher = rs.observe(TRL)
        outer = request(rs, path=TRL, options=[(OBSERVE, value)], token=watcher.token)
        outer.options = [o for o in outer.options if o[0] != OBSERVE]
        outer.options += [] if outer_value is None else [(OBSERVE, outer_value)]
        answer, option = rs.open(rs.raw_answer(outer))
        assert answer.status == "2.05" and (answer.option(OBSERVE) is not None) == goes_on
        revoke(client, *tokens(client, world))
        if goes_on:
            watcher.number = -1
            watcher.next()
            watcher.cancel()
        watcher.hears_nothing()


def test_osc_033_the_same_token_again_without_observe(world, client, rs):
    """A request with the token of an observation that says nothing of it is a request; the observation goes on."""
    watcher = rs.observe(TRL)
    assert rs.request(*CORE, token=watcher.token).option(OBSERVE) is None
    revoke(client, *tokens(client, world))
    # its notifications are still bound to the registration
    outer = coap.decode(rs.wire.recv(10))
    assert outer.token == watcher.token and outer.type == coap.CON
    rs.wire.send(coap.Message(coap.ACK, 0, outer.mid).encode())


def test_osc_034_a_replayed_registration_changes_nothing(world, client, rs):
    watcher = rs.observe(TRL)
    registration = coap.decode(rs.last)
    assert coap.decode(rs.raw(rs.last)).code == 0x45, "the same Message ID: the same answer"
    says(rs, rs.anew(registration), REPLAYED)
    mine, = tokens(client, world)
    revoke(client, mine)
    assert hash_of(mine) in watcher.next()[0]


def test_a_registration_anew_with_the_same_token(world, client, rs):
    """RFC 7641 §3.3.1: notifications are bound to the newer request (RFC 8613 §4.1.3.5.1), and there is one of each."""
    watcher = rs.observe(TRL)
    watcher.register()
    revoke(client, *tokens(client, world))
    watcher.next()
    watcher.hears_nothing()


def test_a_reset_ends_an_observation(world, client, rs):
    watcher = rs.observe(TRL)
    first, second = tokens(client, world, 2)
    revoke(client, first)
    assert watcher.message(answer=coap.RST)
    revoke(client, second)
    watcher.hears_nothing()


def test_a_notification_sent_again_is_the_same(world, client, rs):
    """While nobody acknowledges it (RFC 7252 §4.2): under its nonce nothing else is said."""
    watcher = rs.observe(TRL)
    first, second = tokens(client, world, 2)
    revoke(client, first)
    told = rs.wire.recv(10)
    revoke(client, second)
    again = rs.wire.recv(10)
    assert told == again or option_of(coap.decode(told)).piv != option_of(coap.decode(again)).piv
    for datagram in (told, again):
        rs.open(coap.decode(datagram))
        rs.wire.send(coap.Message(coap.ACK, 0, coap.decode(datagram).mid).encode())
    if told == again:
        assert hash_of(second) in watcher.next()[0]


def test_notifications_go_to_where_the_registration_came_from(world, client, rs):
    """And to each of two: one device behind two addresses, with one context."""
    watcher = rs.observe(TRL)
    with world["realm"].speak(rs.context) as elsewhere:
        second = elsewhere.observe(TRL)
        mine, = tokens(client, world)
        revoke(client, mine)
        assert hash_of(mine) in watcher.next()[0] and hash_of(mine) in second.next()[0]
        second.cancel()
        revoke(client, *tokens(client, world))
        watcher.next()
        second.hears_nothing()


def test_a_device_moves_its_observation_along(world, client, rs):
    """NAT rebinding: registered again with the same token, from wherever it is now, it is the same one (RFC 7641 §4.1)."""
    watcher = rs.observe(TRL)
    for _ in range(6):
        with world["realm"].speak(rs.context) as elsewhere:
            moved = oscore.Observation(elsewhere, TRL, token=watcher.token)
            assert moved.first.option(OBSERVE) is not None
            mine, = tokens(client, world)
            revoke(client, mine)
            assert hash_of(mine) in moved.next()[0]
            watcher.hears_nothing()
            last = moved
    assert last.token == watcher.token


def test_a_device_from_many_addresses(world, client, rs):
    """One after the other, as its NAT has it: the latest is as good as the first was, for an observation too."""
    sessions = [world["realm"].speak(rs.context) for _ in range(40)]
    for session in sessions:
        assert session.request(*CORE, echo=False).status == "2.05"
    watcher = sessions[-1].observe(TRL)
    assert watcher.first.option(OBSERVE) is not None
    mine, = tokens(client, world)
    revoke(client, mine)
    assert hash_of(mine) in watcher.next()[0]
    watcher.cancel()
    for session in sessions:
        session.close()


def test_a_notification_of_more_than_a_datagram(world, client, rs):
    """Its first block; the others are asked for under numbers of the device's own (RFC 7959 §2.6)."""
    mine = tokens(client, world, 70)
    realm = world["realm"]
    watcher = rs.observe(TRL)
    realm.acectl("token", "revoke", "--client", world["client"].name)
    told = watcher.message()
    assert block_of(told, BLOCK2) == (0, True, 6) and told.option(OBSERVE) is not None
    assert {hash_of(each) for each in mine} <= set(cbor2.loads(fetch_rest(rs, told, TRL, coap.GET))[0])
    watcher.hears_nothing()


def test_limit_of_observations_holds_for_a_device(world, client):
    """Whatever address it speaks from: the latest four are told, the oldest have given way."""
    realm = world["realm"]
    party = realm.add_rs(None, "--trl", "yes", context=[])
    realm.policy(world["client"], party)
    with realm.connect(party) as one, realm.connect(party) as two:
        watchers = [each.observe(TRL) for each in (one, two, one, two, one, two)]
        assert all(watcher.first.option(OBSERVE) is not None for watcher in watchers)
        revoke(client, token(client, party, "read")[1])
        for session, latest in (one, watchers[2::2]), (two, watchers[3::2]):
            told = set()
            for _ in latest:
                outer = coap.decode(session.wire.recv(10))
                assert session.open(outer)[0].option(OBSERVE) is not None
                session.wire.send(coap.Message(coap.ACK, 0, outer.mid).encode())
                told.add(outer.token)
            assert told == {watcher.token for watcher in latest}
            latest[0].hears_nothing()


@pytest.mark.parametrize("how", ["suspend", "credential", "delete"])
def test_osc_045_an_observation_ends_with_its_context(world, rs, how):
    realm = world["realm"]
    party = realm.add_client(context=[])
    realm.policy(party, world["rs"])
    with realm.connect(party) as session:
        watcher, other = session.observe(TRL), rs.observe(TRL, query=["diff=1"])
        assert watcher.first.option(OBSERVE) is not None
        mine, = tokens(session, world)
        if how == "credential":
            realm.acectl("client", "credential", "delete", party.name, party.records[0]["id"])
            realm.acectl("token", "revoke", "--client", party.name)
        else:
            realm.acectl("client", how, party.name)
            if how == "suspend":
                realm.acectl("token", "revoke", "--client", party.name)
        assert hash_of(mine) in other.message().payload, "others are told"
        outer = token_request(session, world)
        session.wire.send(outer.encode())
        heard = []
        while not heard or heard[-1].token != outer.token:
            heard.append(coap.decode(session.wire.recv(10)))
        assert (heard[-1].status, heard[-1].payload) == UNKNOWN
        # at most that it is over: nothing of the list
        assert all(m.code >> 5 == 4 or session.open(m)[0].code >> 5 == 4 for m in heard[:-1])


# ---- blocks inside

@pytest.mark.parametrize("size,szx", [(100, 0), (3000, 2), (3000, 6), (8192, 5)])
def test_osc_036_a_large_request_in_blocks(world, client, rs, size, szx):
    realm = world["realm"]
    before = n_tokens(realm)
    answer = send_body(client, body_of(world, size), szx)
    assert answer.status == "2.01" and n_tokens(realm) == before + 1
    assert introspect(rs, cbor2.loads(answer.payload)[1])[10] is True
    assert not any(number == BLOCK1 for number, _ in client.outer.options), "what is inside stays inside"


@pytest.mark.parametrize("szx", [0, 2])
def test_osc_036_a_large_answer_in_blocks(client, szx):
    whole = client.request(*CORE).payload
    first = client.request(*CORE, options=[(BLOCK2, block(0, False, szx))])
    assert fetch_rest(client, first, CORE[1], CORE[0]) == whole


def test_osc_036_both_ways_of_3_kib(world, client):
    """The body in blocks; and a list of revoked tokens of more than a datagram."""
    realm = world["realm"]
    mine = tokens(client, world, 100)
    realm.acectl("token", "revoke", "--client", world["client"].name)
    first = client.request(coap.GET, TRL)
    listed = cbor2.loads(fetch_rest(client, first, TRL, coap.GET))[0]
    assert block_of(first, BLOCK2)[1] and {hash_of(each) for each in mine} <= set(listed)


def test_osc_036_interleaved_uploads_by_request_tag(world, client):
    bodies = {tag: body_of(world, 1000 + 100 * tag[0]) for tag in (b"\1", b"\2", b"\3")}
    before = n_tokens(world["realm"])
    parts = {tag: pieces(body, 4) for tag, body in bodies.items()}
    answers = []
    for n in itertools.count():
        left = [(tag, part[n]) for tag, part in parts.items() if n < len(part)]
        if not left:
            break
        for tag, piece in left:
            answers.append(send_block(client, piece, 4, [(REQUEST_TAG, tag)]))
    assert [a.status for a in answers].count("2.01") == 3 and {a.status for a in answers} == {"2.01", "2.31"}
    assert n_tokens(world["realm"]) == before + 3


def test_osc_036_blocks_of_two_contexts_never_meet(world, client):
    """Two devices behind one address, the same tokens and tags: each has its own."""
    realm = world["realm"]
    other = oscore.Endpoint(client.wire, world["other"].context)
    assert other.request(*CORE).status == "2.05"
    one, two = (pieces(body_of(world, size), 4) for size in (700, 900))
    before = n_tokens(realm)
    for n in range(max(len(one), len(two))):
        for session, parts in ((client, one), (other, two)):
            if n < len(parts):
                last = send_block(session, parts[n], 4, token=b"same")
                assert last.status == ("2.31" if n + 1 < len(parts) else "2.01")
    assert n_tokens(realm) == before + 2


def test_osc_036_blocks_from_one_port_and_the_next(world, client):
    """NAT rebinding in the midst of a body: the transfer is the context's, or it begins again."""
    realm = world["realm"]
    first, *rest = pieces(body_of(world, 300), 3)
    assert send_block(client, first, 3).status == "2.31"
    with realm.connect(world["client"]) as elsewhere:
        answer = send_block(elsewhere, rest[0], 3)
        assert answer.status in ("2.31", "4.08"), answer.status
        assert send_body(elsewhere, body_of(world, 300), 3).status == "2.01"


# ---- blocks outside, as a relay makes them

def relayed(session, outer, szx, **more):
    """All but the last are told to go on, in the clear; what comes in the end, opened."""
    *before, last = oscore.fragments(outer, szx, session.mids, **more)
    for piece in before:
        session.wire.send(piece.encode())
        answer = coap.Endpoint.response(session, piece.token)
        assert answer.status == "2.31" and not any(n == OSCORE for n, _ in answer.options)
        assert block_of(answer, BLOCK1) == block_of(piece, BLOCK1)
    session.wire.send(last.encode())
    return coap.Endpoint.response(session, last.token)


@pytest.mark.parametrize("szx", [0, 2, 6])
def test_osc_037_a_relay_with_small_datagrams(world, client, szx):
    realm = world["realm"]
    before = n_tokens(realm)
    outer = request(client, coap.POST, "token", body_of(world, 1100 if szx else 300), content_format=coap.ACE_CBOR)
    answer = relayed(client, outer, szx)
    assert client.open(answer)[0].status == "2.01" and n_tokens(realm) == before + 1


def relayed_answer(session, outer, szx):
    """Somebody on the way has no room for the answer and asks for it in blocks; what he makes of them, still encrypted."""
    outer.options.append((BLOCK2, block(0, False, szx)))
    first = last = session.raw_answer(outer)
    payload, number = first.payload, 0
    while block_of(last, BLOCK2)[1]:
        number += 1
        outer.options[-1] = (BLOCK2, block(number, False, szx))
        last = session.raw_answer(session.anew(outer))
        assert block_of(last, BLOCK2)[0] == number and len(last.payload) <= 16 << szx
        assert option_of(last) == option_of(first) and last.option(ETAG) == first.option(ETAG)
        payload += last.payload
    assert number > 0
    return coap.Message(first.type, first.code, first.mid, first.token, [(OSCORE, option_of(first).encode())], payload)


@pytest.mark.parametrize("szx", [0, 2])
def test_osc_037_an_answer_in_small_datagrams(client, szx):
    assert client.open(relayed_answer(client, request(client), szx))[0].status == "2.05"


def test_osc_037_fragments_of_another_message_do_not_fit(world, client):
    """What is put together from two is what nobody encrypted."""
    one, two = (request(client, coap.POST, "token", body_of(world, 300), content_format=coap.ACE_CBOR)
                for _ in range(2))
    mixed = coap.Message(one.type, one.code, one.mid, one.token, one.options, one.payload[:64] + two.payload[64:])
    answer = relayed(client, mixed, 2)
    assert (answer.status, answer.payload) == ("4.00", b"Decryption failed")
    assert client.open(relayed(client, one, 2))[0].status == "2.01"


def test_osc_037_endless_outer_blocks(world):
    """Of anybody: memory stays, and it ends at a size."""
    realm = world["realm"]
    with realm.plain() as plain:
        before = memory(realm.process, "VmHWM")
        answers = set()
        for kid in range(50):
            for n in range(20):
                more = plain.build(coap.POST, "", bytes(1024), options=[
                    (OSCORE, Option(b"\5", None, bytes([kid])).encode()), (BLOCK1, block(n, True, 6))])
                plain.wire.send(more.encode())
                answers.add(plain.response(more.token).status)
    assert answers <= {"2.31", "4.13", "4.08"} and "4.13" in answers
    assert memory(realm.process, "VmHWM") < before + 1024 * 1024 + slack(realm.process)


# ---- datagrams get lost

class Lossy:
    """A wire that loses what it is told to: numbers of datagrams, in either direction, from 1."""

    def __init__(self, wire, sent=(), heard=()):
        self.wire, self.sent, self.heard = wire, set(sent), set(heard)
        self.n_sent = self.n_heard = 0
        self.close = wire.close

    def send(self, data):
        self.n_sent += 1
        if self.n_sent not in self.sent:
            self.wire.send(data)

    def recv(self, timeout):
        deadline = time.monotonic() + timeout
        while (left := deadline - time.monotonic()) > 0 and (data := self.wire.recv(left)) is not None:
            self.n_heard += 1
            if self.n_heard not in self.heard:
                return data
        return None


@pytest.mark.parametrize("lost", [dict(sent=[1]), dict(heard=[1])], ids=["the request", "the answer"])
def test_a_lost_datagram_costs_one_retransmission(world, client, lost):
    """And no second token."""
    realm = world["realm"]
    before = n_tokens(realm)
    wire = client.wire
    client.wire = Lossy(wire, **lost)
    message = client.build(coap.POST, "token", ask(world), content_format=coap.ACE_CBOR)
    datagram = client.protect(message).encode()
    for wait_s in (0.3, 10):
        client.wire.send(datagram)
        try:
            answer = client.response(message.token, wait_s)
            break
        except TimeoutError:
            continue
    assert answer.status == "2.01" and client.wire.n_sent == 2
    assert n_tokens(realm) == before + 1
    client.wire = wire


def test_lost_and_asked_from_a_new_port(world, client):
    """The answer was lost and the address with it: a new request, as the number is spent. The first token is there."""
    realm = world["realm"]
    before = n_tokens(realm)
    outer = token_request(client, world)
    client.wire.send(outer.encode())
    assert client.wire.recv(10)
    with realm.connect(world["client"]) as elsewhere:
        says(elsewhere, outer, REPLAYED)
        assert n_tokens(realm) == before + 1
        assert token(elsewhere, world["rs"], "read")


# ---- what it costs

@pytest.mark.parametrize("kid,number,in_request", [(b"", 5, 13), (b"", 300, 14), (b"\1", 20, 14), (b"\1\2\3", 200, 16)],
                         ids=["no kid", "larger number", "a byte", "what acectl draws"])
def test_overhead_on_the_wire(world, kid, number, in_request):
    """Bytes of the CoAP message more than the same message without: 1 inner code, 8 tag, 1 payload marker outside, 1
    head of the option and 1 of flags, and Partial IV (1) and kid as long as they are: 13 with a kid of no bytes. In the
    response 1 inner code, 8 tag, 1 marker, 1 head of an empty option: 11."""
    realm = world["realm"]
    fresh = realm.add_client(context=["--sender-id-hex", kid.hex(), "--recipient-id-hex", "ff", "--id-context-hex",
                                      os.urandom(8).hex()])
    realm.policy(fresh, world["rs"])
    with realm.connect(fresh) as session:
        session.request(*CORE)
        session.context.numbers = itertools.count(number)
        for message in (session.build(*CORE),
                        session.build(coap.POST, "token", ask(world), content_format=coap.ACE_CBOR)):
            session.context.numbers, later = itertools.count(number), number + 1
            number = later
            outer = session.protect(message)
            outer = coap.Message(outer.type, outer.code, outer.mid, outer.token,
                                 [(OSCORE, Option(option_of(outer).piv, None, kid).encode())], outer.payload)
            assert len(outer.encode()) - len(message.encode()) == in_request
            answer, _ = session.open(session.raw_answer(outer))
            assert answer.code >> 5 == 2
            assert len(session.outer.encode()) - len(answer.encode()) == 11


# ---- strangers, and many of them

def test_osc_047_unprotected_answers_are_few_and_short(realm):
    """From one source. Who has a context and comes from elsewhere is served meanwhile, and so is the source later."""
    client = realm.add_client(context=[])
    limits = {row["key"]: int(row["value"]) for row in realm.ctl_items("config", "show") if row["section"] == "limits"}
    with realm.connect(client) as session:
        assert session.request(*CORE).status == "2.05"
        stranger = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        stranger.bind(("127.0.0.2", 0))
        stranger.connect(realm.address("coap"))
        stranger.setblocking(False)
        said, heard, texts, begun = 0, 0, 0, time.monotonic()
        sizes = {}  # by token: the answer may be to an earlier one
        for n in range(10000):
            own = n.to_bytes(2, "big")
            forged = coap.Message(coap.CON if n % 2 else coap.NON, coap.POST, n, own, [
                (OSCORE, Option(b"\5", None, session.context.sender_id if n % 3 == 0 else
                                os.urandom(len(session.context.sender_id))).encode())], os.urandom(20)).encode()
            stranger.send(forged)
            said += len(forged)
            sizes[own] = len(forged)
            if n % 100 == 0:
                assert session.request(*CORE, echo=False).status == "2.05"
            while True:
                try:
                    answer = stranger.recv(65536)
                except BlockingIOError:
                    break
                heard += len(answer)
                told = coap.decode(answer)
                texts += told.status in ("4.00", "4.01")
                assert len(answer) <= sizes[told.token]
        allowed = limits["source_request_burst"] + limits["source_request_rate"] * (time.monotonic() - begun + 1)
        assert 0 < texts <= allowed and heard <= said
        stranger.close()
        assert session.request(*CORE, echo=False).status == "2.05"


def test_osc_047_devices_behind_one_address_are_no_strangers(realm):
    """What verifies is the context's to answer for, not the address's: more than a stranger may, at once."""
    limits = {row["key"]: int(row["value"]) for row in realm.ctl_items("config", "show") if row["section"] == "limits"}
    clients = [realm.add_client(context=[]) for _ in range(3)]
    n = limits["source_request_burst"] // 2
    for client in clients:
        with realm.connect(client) as session:
            assert session.request(*CORE).status == "2.05"
            assert [session.request(*CORE, echo=False).status for _ in range(n)] == ["2.05"] * n


def test_osc_046_strangers_leave_nothing_behind(world):
    """Unknown kids, contexts of others with forged tags, half transfers outside: memory stays."""
    realm = world["realm"]
    with realm.connect(world["client"]) as session:
        session.request(*CORE)

        def flood(n):
            for i in range(n):
                kid = session.context.sender_id if i % 4 == 0 else os.urandom(1 + i % 7)
                options = [(OSCORE, Option(os.urandom(3).lstrip(b"\0") or b"\1", os.urandom(8) if i % 2 else None,
                                           kid).encode())]
                options += [(BLOCK1, block(0, True, 1))] if i % 5 == 0 else []
                forged = coap.Message(coap.CON, coap.POST, i & 0xFFFF, b"", options, os.urandom(32))
                session.wire.send(forged.encode())
                session.wire.recv(10)

        flood(1500)
        before = memory(realm.process, "VmHWM")
        flood(3000)
        assert memory(realm.process, "VmHWM") <= before + 3000 * 16 + slack(realm.process)
        assert session.request(*CORE, echo=False).status == "2.05"


def test_osc_046_more_contexts_than_are_kept(make_realm):
    """Whose context was put away is asked for an Echo when he comes again, and is served."""
    limits = {"oscore_contexts_max": 10, "source_request_rate": 0, "peer_request_rate": 0}
    realm = make_realm({"limits": limits}).start()
    client = realm.add_client(context=[])
    contexts = [client.context] + [realm.add_context("client", client) for _ in range(29)]
    for _ in range(2):
        for context in contexts:
            with realm.speak(context) as session:
                assert session.request(*CORE).status == "2.05"
                assert session.request(*CORE, echo=False).status == "2.05"
    assert all(context.n_own == 2 for context in contexts)


def test_a_hundred_contexts_at_once(world):
    """All kinds of requests of all of them, in one breath: each hears what is its own."""
    realm = world["realm"]
    client = realm.add_client(context=[])
    realm.policy(client, world["rs"])
    sessions = [realm.speak(realm.add_context("client", client)) for _ in range(99)] + [realm.connect(client)]
    for _ in range(2):
        asked = []
        for session in sessions:
            message = session.build(coap.POST, "token", ask(world), content_format=coap.ACE_CBOR)
            asked.append(message)
            session.send(message)
        for session, message in zip(sessions, asked):
            answer = session.response(message.token)
            if any(n == oscore.ECHO for n, _ in answer.options):
                again = session.build(coap.POST, "token", message.payload, content_format=coap.ACE_CBOR,
                                      options=[o for o in answer.options if o[0] == oscore.ECHO])
                answer = session.exchange(again)
            assert answer.status == "2.01"
    for session in sessions:
        session.close()
