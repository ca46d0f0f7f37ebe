"""aceclient over OSCORE: against a server that does as it is told, against aced, and killed at any moment."""

import dataclasses
import json
import random
import select
import signal
import socket
import subprocess

import cbor2
import pytest

import coap
from oscore import BLOCK1, ECHO, OBSERVE, OSCORE, REQUEST_TAG, Context, Option
from realm import program
from test_aceclient import DONE, LINKS, NO_CONTACT, REFUSED, USAGE, Scripted, aceclient, as_json, put

BLOCK2 = 23
SWAPPED = {"sender_id_hex": "recipient_id_hex", "recipient_id_hex": "sender_id_hex"}
RECORD = {"master_secret_hex": "0102030405060708090a0b0c0d0e0f10", "master_salt_hex": "9e7ca92223786340", "sender_id_hex": "07",
          "recipient_id_hex": "", "alg": "AES-CCM-16-64-128", "hkdf": "SHA-256"}


class Partner:
    """The server's end of a record: what a scripted server opens requests and makes answers with."""

    def __init__(self, record, id_context=None):
        self.context = Context.of({SWAPPED.get(name, name): value for name, value in record.items()})
        if id_context is not None:
            self.context = self.context.under(id_context)

    def open(self, outer):
        """A request → (message, its option); the option and the payload are all that it needs."""
        values = [value for number, value in outer.options if number == OSCORE]
        assert len(values) == 1 and outer.code in (coap.POST, 5), outer
        option = Option.decode(values[0])
        context = self.context
        assert option.encode() == values[0] and option.kid == context.recipient_id
        plain = context.unseal.decrypt(context.nonce(option.kid, option.piv), outer.payload, context.aad(option.kid, option.piv))
        return coap.decode(bytes([0x40, plain[0], 0, 0]) + plain[1:]), option

    def answer(self, outer, code=0x45, payload=b"", options=(), piv=None, outside=(), type=coap.ACK, mid=None, token=None,
               kid_context=None, binding=None):
        """The answer to a request, as it comes, under its nonce or a number of our own."""
        asked = Option.decode(next(value for number, value in outer.options if number == OSCORE))
        kid, asked_piv = binding or (asked.kid, asked.piv)
        number = None if piv is None else piv.to_bytes(max(1, (piv.bit_length() + 7) // 8), "big")
        context = self.context
        nonce = context.nonce(kid, asked_piv) if piv is None else context.nonce(context.sender_id, number)
        inner = coap.Message(0, code, 0, b"", list(options), payload).encode()
        cipher = context.seal.encrypt(nonce, bytes([code]) + inner[4:], context.aad(kid, asked_piv))
        value = Option(number, kid_context).encode()
        observed = any(number == OBSERVE for number, _ in options)
        return coap.Message(type, 0x45 if observed else 0x44, outer.mid if mid is None else mid,
                            outer.token if token is None else token, [(OSCORE, value), *outside], cipher)


def links(partner, outer, **more):
    return partner.answer(outer, options=[(coap.CONTENT_FORMAT, b"\x28")], payload=LINKS, **more)


@pytest.fixture
def record(tmp_path):
    return put(tmp_path / "record", json.dumps(RECORD).encode())


@pytest.fixture
def partner():
    return Partner(RECORD)


def ask(server, record, *arguments, **more):
    return aceclient("-s", server.url, "--oscore", record, *arguments, **more)


def found(server, record, *arguments):
    return json.loads(ask(server, record, "-o", "json", *arguments).stdout)


def piv_of(outer):
    return int.from_bytes(Option.decode(next(value for number, value in outer.options if number == OSCORE)).piv, "big")


GOOD = [{"href": "/token", "rt": "x"}]


# ---- what goes out, and what comes back


def test_request_is_inside(record, partner):
    with Scripted(lambda outer: [links(partner, outer)]) as server:
        assert found(server, record, "discover", "href=/token") == GOOD
    outer = server.seen[0]
    inner, option = partner.open(outer)
    assert (outer.code, [number for number, _ in outer.options]) == (coap.POST, [OSCORE])
    assert (inner.code, inner.option(coap.ACCEPT), option.kid_context, option.piv) == (coap.GET, 40, None, b"\0")
    assert [value for number, value in inner.options if number in (coap.URI_PATH, coap.URI_QUERY)] == \
        [b".well-known", b"core", b"href=/token"]


def test_every_form_of_record(tmp_path, partner):
    """JSON, that as it stands in the answer of the control socket, and CBOR in hexadecimal."""
    encoded = cbor2.dumps({2: bytes.fromhex(RECORD["master_secret_hex"]), 5: bytes.fromhex(RECORD["master_salt_hex"]),
                           -1: b"\7", -2: b""}).hex()
    for text in (json.dumps(RECORD, indent=2), json.dumps({"id": 7, "record": RECORD, "record_hex": encoded}), encoded + "\n"):
        with Scripted(lambda outer: [links(partner, outer)]) as server:
            assert found(server, put(tmp_path / "record", text.encode()), "discover") == GOOD


@pytest.mark.parametrize("alg", ["AES-CCM-16-64-128", "AES-CCM-16-128-128", "A128GCM", "A256GCM", "ChaCha20-Poly1305"])
@pytest.mark.parametrize("hkdf", ["SHA-256", "SHA-512"])
@pytest.mark.parametrize("id_context", [None, "", "37cbf3210017a2d3"])
def test_algorithms_and_id_contexts(tmp_path, alg, hkdf, id_context):
    given = RECORD | {"alg": alg, "hkdf": hkdf} | ({} if id_context is None else {"id_context_hex": id_context})
    partner = Partner(given)
    with Scripted(lambda outer: [links(partner, outer)]) as server:
        assert found(server, put(tmp_path / "record", json.dumps(given).encode()), "discover") == GOOD
    told = partner.open(server.seen[0])[1].kid_context
    assert told == (None if id_context is None else bytes.fromhex(id_context))


def test_retransmission_is_the_same_bytes(record, partner):
    with Scripted(lambda outer: [], lambda outer: [links(partner, outer)]) as server:
        assert found(server, record, "discover") == GOOD
    assert server.seen[0] == server.seen[1]


def test_separate_answer(record, partner):
    with Scripted(lambda outer: [coap.Message(coap.ACK, 0, outer.mid), links(partner, outer, type=coap.CON, mid=9, piv=5)],
                  lambda acknowledgement: []) as server:
        assert found(server, record, "discover") == GOOD
    assert (server.seen[1].type, server.seen[1].mid) == (coap.ACK, 9)


def test_what_does_not_verify_is_not_there(record, partner):
    """OSC-042: forged, of another exchange, in clear, twice protected; none of it is acknowledged or believed."""

    def step(outer):
        good = links(partner, outer)
        forged = dataclasses.replace(good, payload=good.payload[:-1] + bytes([good.payload[-1] ^ 1]))
        foreign = links(partner, outer, binding=(b"\7", b"\x63"))
        clear = coap.Message(coap.ACK, 0x45, outer.mid, outer.token, [(coap.CONTENT_FORMAT, b"\x28")], b"</evil>")
        twice = dataclasses.replace(good, options=good.options * 2)
        reserved = dataclasses.replace(good, options=[(OSCORE, b"\x80")])
        unasked = links(partner, dataclasses.replace(outer, token=b"other"))
        confirmable = dataclasses.replace(forged, type=coap.CON, mid=4711)
        return [confirmable, forged, foreign, clear, twice, reserved, unasked, good]

    with Scripted(step) as server:
        assert found(server, record, "discover") == GOOD


def test_observe_that_nobody_asked_for(record, partner):
    """OSC-035: dropped, and the answer without is taken."""
    with Scripted(lambda outer: [partner.answer(outer, options=[(OBSERVE, b""), (coap.CONTENT_FORMAT, b"\x28")], payload=b"</x>"),
                                 links(partner, outer, piv=1)]) as server:
        assert found(server, record, "discover") == GOOD


# ---- Echo (OSC-030)


def challenge(partner, outer, value=b"fresh", **more):
    return partner.answer(outer, code=0x81, options=[(ECHO, value)], piv=partner.context.n_own, **more)


def test_echo_is_obeyed(record, partner):
    with Scripted(lambda outer: [challenge(partner, outer)], lambda outer: [links(partner, outer)]) as server:
        assert found(server, record, "discover") == GOOD
    first, second = (partner.open(outer)[0] for outer in server.seen)
    assert first.option(ECHO) is None and (ECHO, b"fresh") in second.options
    assert [piv_of(outer) for outer in server.seen] == [0, 1] and server.seen[0].token != server.seen[1].token
    assert [option for option in second.options if option[0] != ECHO] == first.options


def test_echo_is_no_loop(record, partner):
    def step(n):
        def answer(outer):
            return [partner.answer(outer, code=0x81, options=[(ECHO, bytes([n]))], piv=n)]

        return answer

    with Scripted(*map(step, range(3))) as server:
        assert "4.01" in ask(server, record, "discover", status=REFUSED).stderr
    assert [partner.open(outer)[0].option(ECHO) for outer in server.seen] == [None, 0, 1]


def test_outer_echo_is_not_copied(record, partner):
    """Neither of a protected answer nor of an unprotected one."""
    with Scripted(lambda outer: [partner.answer(outer, code=0x81, payload=b"no", outside=[(ECHO, b"evil")])]) as server:
        assert "4.01" in ask(server, record, "discover", status=REFUSED).stderr
    with Scripted(lambda outer: [coap.Message(coap.ACK, 0x81, outer.mid, outer.token, [(ECHO, b"evil")]),
                                 links(partner, outer)]) as server:
        assert found(server, record, "discover") == GOOD


# ---- what is said in clear


@pytest.mark.parametrize("code, text, advice", [
    (0x81, b"Security context not found", "register a new one"), (0x81, b"Replay detected", "another copy"),
    (0x80, b"Decryption failed", "other keys"), (0x82, b"Failed to decode COSE", "4.02"), (0xA3, b"", "5.03"),
    (0x81, b"\x1b[31mred", "4.01")])
def test_hint_is_told_when_nothing_better_comes(record, code, text, advice):
    with Scripted(lambda outer: [coap.Message(coap.ACK, code, outer.mid, outer.token, [], text)]) as server:
        said = ask(server, record, "discover", status=NO_CONTACT).stderr
    assert advice in said and "not protected" in said and "\x1b" not in said and said.count("\n") == 1
    assert text.decode() in said or b"\x1b" in text


def test_hint_is_nothing_beside_an_answer(record, partner):
    with Scripted(lambda outer: [coap.Message(coap.ACK, 0x81, outer.mid, outer.token, [], b"Security context not found"),
                                 coap.Message(coap.NON, 0x80, 7, outer.token, [], b"Decryption failed"),
                                 links(partner, outer)]) as server:
        assert found(server, record, "discover") == GOOD


# ---- blocks (OSC-036)


def test_bodies_in_blocks(record, partner):
    """A request of several blocks, each protected by itself, the answer in several, too; all under one Request-Tag
    (RFC 9175 §3.4)."""
    def block1(outer):
        n = partner.open(outer)[0].option(BLOCK1)
        return [partner.answer(outer, code=0x5F, options=[(BLOCK1, bytes([n]))])]

    def block2(n, more, payload):
        return lambda outer: [partner.answer(outer, code=0x41, payload=payload,
                                             options=[(4, b"\1"), (coap.CONTENT_FORMAT, b"\x13"), (BLOCK2, bytes([n << 4 | more << 3]))])]

    body, all_tags = cbor2.dumps({10: True, 9: "x" * 20}), set()
    for _ in range(2):
        with Scripted(block1, block1, block2(0, True, body[:16]), block2(1, False, body[16:])) as server:
            assert found(server, record, "introspect", "590bb8" + "00" * 3000)["active"] is True
        inner = [partner.open(outer)[0] for outer in server.seen]
        assert [message.option(BLOCK1) for message in inner] == [0 << 4 | 8 | 6, 1 << 4 | 8 | 6, 2 << 4 | 6, None]
        assert len(b"".join(message.payload for message in inner)) > 3000
        tags = [value for message in inner for number, value in message.options if number == REQUEST_TAG]
        assert len(tags) == len(inner) and len(set(tags)) == 1
        all_tags |= set(tags)
    assert len(all_tags) == 2


# ---- observation (OSC-031, OSC-035)


def notification(partner, outer, size, piv, **more):
    return partner.answer(outer, payload=cbor2.dumps({0: [b"\1" * n for n in range(1, size + 1)]}), piv=piv,
                          options=[(OBSERVE, b""), (coap.CONTENT_FORMAT, b"\x01\x06")], type=coap.NON, mid=outer.mid + 1 + (piv or 0),
                          **more)


def test_notifications_in_the_order_of_their_numbers(record, partner):
    """1, 3, 2, 3, two without a number, a forged one, one in clear, 4: what is older, or was there, is dropped."""
    def step(outer):
        four = notification(partner, outer, 4, 4)
        forged = dataclasses.replace(notification(partner, outer, 9, 7), payload=b"\0" * 30, type=coap.CON)
        clear = coap.Message(coap.NON, 0x84, 99, outer.token)
        return [dataclasses.replace(notification(partner, outer, 0, None), type=coap.ACK, mid=outer.mid),
                notification(partner, outer, 1, 1), notification(partner, outer, 3, 3), notification(partner, outer, 2, 2),
                notification(partner, outer, 3, 3), notification(partner, outer, 8, None), notification(partner, outer, 8, None),
                forged, clear, four]

    def cancelled(outer):
        return [partner.answer(outer, payload=cbor2.dumps({0: []}), options=[(coap.CONTENT_FORMAT, b"\x01\x06")])]

    with Scripted(step, cancelled) as server:
        lines = ask(server, record, "-o", "json", "--observe", "--count", "4", "trl").stdout.splitlines()
    assert [len(json.loads(line)["full_set"]) for line in lines] == [0, 1, 3, 4]
    register, cancel = server.seen
    for outer, value in ((register, 0), (cancel, 1)):  # in both places, and the outer code a FETCH
        assert outer.code == 5 and outer.option(OBSERVE) == value and partner.open(outer)[0].option(OBSERVE) == value
    assert register.token == cancel.token and piv_of(register) < piv_of(cancel)


def test_outer_observe_says_nothing(record, partner):
    """A server that does not tell of changes is not made to by who stands between."""
    with Scripted(lambda outer: [partner.answer(outer, payload=cbor2.dumps({0: []}), options=[(coap.CONTENT_FORMAT, b"\x01\x06")],
                                                outside=[(OBSERVE, b"\1")])]) as server:
        assert "does not tell of changes" in ask(server, record, "--observe", "--count", "2", "trl", status=REFUSED).stderr


# ---- renewal (RFC 8613 Appendix B.2)


class Renewing:
    """The server's part of it, by hand: what has to be said to request 1, and what to request 2."""

    R2 = b"0123456789abcdef"

    def first(self, outer):
        option = Option.decode(next(value for number, value in outer.options if number == OSCORE))
        self.r1 = cbor2.loads(option.kid_context)
        one, two = Partner(self.record, self.r1), Partner(self.record, self.R2 + self.r1)
        one.open(outer)
        if self.piv is None:  # "the AEAD nonce from the request" (§8.3) is what it was
            two.context.common_iv = one.context.common_iv
        return [two.answer(outer, code=0x81, kid_context=cbor2.dumps(self.R2), piv=self.piv)]

    def second(self, outer):
        option = Option.decode(next(value for number, value in outer.options if number == OSCORE))
        self.id_context = cbor2.loads(option.kid_context)
        assert self.id_context.startswith(self.R2) and len(self.id_context) == len(self.R2) + 8
        self.partner = Partner(self.record, self.id_context)
        self.partner.open(outer)
        return [links(self.partner, outer)]

    def __init__(self, record, piv=0):
        self.record, self.piv = record, piv


def not_found(outer):
    return [coap.Message(coap.ACK, 0x81, outer.mid, outer.token, [], b"Security context not found")]


@pytest.mark.parametrize("how,piv", [("when the server knows none", 0), ("--renew", 0), ("--renew", None)])
def test_renewal(tmp_path, how, piv):
    given = RECORD | {"renews": True}
    record = put(tmp_path / "record", json.dumps(given).encode())
    steps, options = Renewing(given, piv), ["--renew"] if how == "--renew" else []
    with Scripted(*([] if options else [not_found]), steps.first, steps.second) as server:
        assert found(server, record, *options, "discover") == GOOD
    numbers = [piv_of(outer) for outer in server.seen]
    assert numbers == list(range(len(numbers)))
    # from then on it is the context, and numbers go on
    with Scripted(lambda outer: [links(steps.partner, outer)]) as server:
        assert found(server, record, "discover") == GOOD
    assert steps.partner.open(server.seen[0])[1].kid_context == steps.id_context
    assert piv_of(server.seen[0]) > numbers[-1]
    # a server that has forgotten that one, too, is answered the same way; one that goes on forgetting is not
    with Scripted(not_found, steps.first, steps.second) as server:
        assert found(server, record, "discover") == GOOD
    with Scripted(not_found, not_found) as server:
        assert "not found" in ask(server, record, "discover", status=NO_CONTACT).stderr


def test_no_renewal_unless_the_record_says_so(record):
    with Scripted(not_found) as server:
        assert "not found" in ask(server, record, "discover", status=NO_CONTACT).stderr
        assert "not renewed" in ask(server, record, "--renew", "discover", status=USAGE).stderr


# ---- numbers: none twice, whatever happens (OSC-025, OSC-026)


class Listener:
    """Takes every datagram, answers none."""

    def __init__(self):
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind(("127.0.0.1", 0))
        self.url = f"coap://127.0.0.1:{self.socket.getsockname()[1]}"
        self.numbers = {}  # Partial IV: the datagram

    def take(self, timeout=0):
        """What has come; waits for it when a timeout is given."""
        while select.select([self.socket], [], [], timeout)[0]:
            data, timeout = self.socket.recv(65536), 0
            number = piv_of(coap.decode(data))
            # the same bytes again are a retransmission
            assert self.numbers.setdefault(number, data) == data, f"number {number} under two messages"


def test_killed_at_any_moment(record):
    """SIGKILL, from before it begins to after it has sent: each datagram that comes has a number of its own."""
    listener, rng, n_killed = Listener(), random.Random(8613), 0
    command = [program("aceclient"), "-s", listener.url, "--oscore", record, "discover"]
    for i in range(200):
        child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        if i % 4 == 0:  # once it has sent
            listener.take(5)
        else:
            signal.sigtimedwait([signal.SIGCHLD], rng.uniform(0, 0.03))
        child.send_signal(signal.SIGKILL)
        n_killed += child.wait() == -signal.SIGKILL
        listener.take()
    assert n_killed == 200 and len(listener.numbers) >= 50
    state = json.loads((record.parent / "record.state").read_text())
    assert state["next"] > max(listener.numbers)


def test_two_at_once(record):
    listener = Listener()
    command = [program("aceclient"), "-s", listener.url, "-t", "1", "--oscore", record, "discover"]
    children = [subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
                for _ in range(8)]
    assert [child.wait(60) for child in children] == [NO_CONTACT] * 8
    listener.take()
    assert len(listener.numbers) == 8


def test_numbers_run_out(record, partner):
    state = put(record.parent / "record.state", b'{"next": 1099511627775}\n')
    with Scripted(lambda outer: [links(partner, outer)]) as server:
        assert found(server, record, "discover") == GOOD
        assert "all its sequence numbers are used" in ask(server, record, "discover", status=NO_CONTACT).stderr
    assert piv_of(server.seen[0]) == 2**40 - 1 and json.loads(state.read_text())["next"] == 2**40


def test_state_that_cannot_be_trusted(record):
    put(record.parent / "record.state", b"{}")
    with Listener().socket as silent:
        url = f"coap://127.0.0.1:{silent.getsockname()[1]}"
        assert "damaged" in aceclient("-s", url, "--oscore", record, "discover", status=NO_CONTACT).stderr
        silent.setblocking(False)
        with pytest.raises(BlockingIOError):
            silent.recv(1)


# ---- aced


class Device:
    """A party with a security context, as a file that acectl printed."""

    def __init__(self, realm, noun, directory, *options, credential=()):
        self.realm, self.name = realm, f"{noun}-{next(realm.numbers)}"
        realm.acectl(noun, "add", self.name, *options)
        added = realm.ctl(noun, "credential", "add", self.name, "--kind", "oscore", *credential)
        self.record = put(directory / f"{self.name}.oscore", json.dumps(added, indent=2).encode())

    def ask(self, *arguments, **more):
        return aceclient("-s", self.realm.url(door="coap"), "--oscore", self.record, *arguments, **more)

    def json(self, *arguments):
        return json.loads(self.ask("-o", "json", *arguments).stdout)

    def bytes(self, *arguments):
        command = [program("aceclient"), "-s", self.realm.url(door="coap"), "--oscore", self.record, "-o", "cbor", *arguments]
        return subprocess.run(command, capture_output=True, timeout=60, check=True).stdout


@pytest.fixture(scope="module")
def world(shared, tmp_path_factory):
    directory = tmp_path_factory.mktemp("records")
    client = Device(shared, "client", directory, "--refresh-lifetime", "3600")
    rs = Device(shared, "rs", directory, "--scope", "read write", "--trl", "yes", "--token-key-hex", "00112233445566778899aabbccddeeff")
    shared.policy(client, rs)
    return shared, client, rs


def want(rs, *more):
    return ["--audience", rs.name, "--scope", "read", *more]


def test_every_verb(world, tmp_path):
    _, client, rs = world
    first = put(tmp_path / "first", client.bytes(*want(rs, "token")))
    assert "read" in aceclient("--key-hex", "00112233445566778899aabbccddeeff", "decode", first).stdout
    second = put(tmp_path / "second", client.bytes("refresh", first))
    assert rs.json("introspect", second)["active"] is True
    assert {link["href"] for link in client.json("discover")} >= {"/token", "/introspect"}
    trl_hash = json.loads(aceclient("-o", "json", "decode", second).stdout)["token"]["trl_hash"]
    before = rs.json("trl")["full_set"]
    assert client.json("revoke", second) == {"code": "2.04"}
    assert rs.json("introspect", second)["active"] is False
    assert set(rs.json("trl")["full_set"]) - set(before) == {trl_hash}
    assert rs.json("--diff", "1", "trl")["diff_set"] == [[[], [trl_hash]]]


def test_refused_by_aced(world):
    _, client, rs = world
    assert "invalid_scope" in client.ask("--audience", rs.name, "--scope", "admin", "token", status=REFUSED).stderr
    assert "4.03" in client.ask("introspect", "00", status=REFUSED).stderr


def test_observed_by_aced(world):
    """A list in blocks, and every change, as it comes."""
    realm, client, rs = world
    for _ in range(40):
        client.ask("revoke", client.json(*want(rs, "token"))["access_token"])
    command = [program("aceclient"), "-s", realm.url(door="coap"), "--oscore", rs.record, "-o", "json", "--observe", "--count", "3",
               "trl"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as observer:
        sizes = [len(json.loads(observer.stdout.readline())["full_set"])]
        for _ in range(2):
            client.ask("revoke", client.json(*want(rs, "token"))["access_token"])
            sizes.append(len(json.loads(observer.stdout.readline())["full_set"]))
    assert observer.returncode == DONE and sizes == [sizes[0], sizes[0] + 1, sizes[0] + 2] and sizes[0] >= 40


def test_request_in_blocks_for_aced(world):
    _, _, rs = world
    for _ in range(2):
        assert rs.json("introspect", "82" + "59" + "0bb8" + "00" * 3000 + "00")["active"] is False


def test_restarted_and_deleted(make_realm, tmp_path):
    """Echo after a restart; then the context is gone, and what is said of it helps."""
    realm = make_realm().start()
    rs = Device(realm, "rs", tmp_path, "--scope", "read")
    assert rs.json("introspect", "00") == {"code": "2.01", "active": False}
    realm.restart()
    assert rs.json("introspect", "00") == {"code": "2.01", "active": False}
    realm.acectl("rs", "suspend", rs.name)
    assert "its party is suspended" in rs.ask("introspect", "00", status=NO_CONTACT).stderr
    realm.acectl("rs", "resume", rs.name)
    assert rs.json("introspect", "00") == {"code": "2.01", "active": False}
    for credential in realm.ctl_items("rs", "credential", "list", rs.name):
        realm.acectl("rs", "credential", "delete", rs.name, str(credential["id"]))
    said = rs.ask("introspect", "00", status=NO_CONTACT).stderr
    assert "Security context not found" in said and "register a new one" in said


@pytest.mark.parametrize("options", [[], ["--alg", "AES-CCM-16-128-128"], ["--alg", "A256GCM", "--hkdf", "SHA-512"],
                                     ["--alg", "ChaCha20-Poly1305", "--id-context-hex", "0123456789"]], ids=" ".join)
def test_renewed_by_aced(shared, tmp_path, options):
    """By wish; and by itself when the device has forgotten that, and its numbers with it."""
    rs = Device(shared, "rs", tmp_path, "--scope", "read", credential=["--renews", "yes", *options])
    numbers = []
    for arguments in ([], ["--renew"], [], ["--renew"]):
        assert rs.json(*arguments, "introspect", "00")["active"] is False
        numbers.append(json.loads((rs.record.parent / f"{rs.record.name}.state").read_text())["next"])
    assert numbers == sorted(set(numbers))
    (rs.record.parent / f"{rs.record.name}.state").unlink()
    assert rs.json("introspect", "00")["active"] is False


# ---- the command line


@pytest.mark.parametrize("text, words", [
    ("", "no provisioning record"), ("{}", "master_secret_hex"), ("a0", "no provisioning record"), (json.dumps(RECORD)[:-1], "record"),
    (json.dumps(RECORD | {"alg": "ROT13"}), "alg"), (json.dumps(RECORD | {"recipient_id_hex": "07"}), "sender ID")])
def test_no_record(tmp_path, text, words):
    path = put(tmp_path / "record", text.encode())
    done = aceclient("-s", "coap://127.0.0.1", "--oscore", path, "discover", status=USAGE)
    assert str(path) in done.stderr and words in done.stderr and RECORD["master_secret_hex"] not in done.stderr


@pytest.mark.parametrize("arguments", [
    ["-s", "coaps://127.0.0.1"], ["-s", "coap://127.0.0.1", "-u", "a", "-k", "b"], ["-s", "coap://127.0.0.1", "--private-key", "x"]],
    ids=" ".join)
def test_not_beside_dtls(record, arguments):
    assert "--oscore" in aceclient(*arguments, "--oscore", record, "token", status=USAGE).stderr


def test_usage(tmp_path):
    there = ["-s", "coap://127.0.0.1"]
    assert "/nonexistent" in aceclient(*there, "--oscore", "/nonexistent", "token", status=USAGE).stderr
    assert "beside it" in aceclient(*there, "--oscore", "-", "token", status=USAGE).stderr
    assert "--renew" in aceclient(*there, "--renew", "token", status=USAGE).stderr
