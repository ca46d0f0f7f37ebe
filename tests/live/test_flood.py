"""Strangers and greedy peers in numbers: real clients beside them get every answer, and memory stays.

ACED_LONG=1 makes the floods ten times as long.
"""

import json
import os
import random
import select
import socket
import subprocess
import threading
import time

import cbor2
import pytest

import coap
import dtls
from realm import BUILD, program
from tokens import opens

pytestmark = pytest.mark.alone

LONG = os.environ.get("ACED_LONG") == "1"
TIMES = 10 if LONG else 1
SECONDS = 120                # for what has an end of its own
HANDSHAKES_MAX = 500
ATTEMPTS_MIN = 10            # of each witness beside each flood
WITNESSES = 3
PAUSE_S = 0.05               # of a witness, so that no rate limit means it
SENT_AGAIN_MAX_S = 1 + 2 + 4  # what three lost datagrams in a row cost a handshake
# less than the smallest piece that malloc gives, less than any part of a session, and room for what caches still take
BYTES_A_DATAGRAM_MAX = 16
BYTES_A_HANDSHAKE_MAX = 256
SLACK_BYTES = 256 << 10
SLACK_SANITIZED_BYTES = 12 << 20  # it keeps freed memory, and looks for leaks itself

CONFIG = {
    "server": {"log_level": "notice"},
    # a flood may cost a close_notify, too
    "limits": {"handshakes_max": HANDSHAKES_MAX, "handshake_timeout_s": 3, "session_idle_s": 10,
               "tokens_per_client_max": 1000000},
}

# what, at which door, datagrams, datagrams a second (0: as fast as one core can)
FLOODS = {
    "spoofed": ("hello", "coaps", 20000 * TIMES, 10000),
    "spoofed as fast as it goes": ("hello", "coaps", 20000 * TIMES, 0),
    "half-finished": ("half", "coaps", 5 * HANDSHAKES_MAX * TIMES, 1000),
    "garbage at coaps": ("garbage", "coaps", 20000 * TIMES, 10000),
    "garbage at coap": ("garbage", "coap", 20000 * TIMES, 10000),
}


def started(realm):
    # what the sanitizer keeps of freed memory would hide what is really kept
    realm.environment["ASAN_OPTIONS"] = os.environ.get("ASAN_OPTIONS", "") + ":quarantine_size_mb=1"
    return realm.start()


@pytest.fixture
def realm(make_realm):
    return started(make_realm(CONFIG))


class Witness(threading.Thread):
    """
    A real client: a handshake, a token, close_notify, and again, until it is told that it is enough. With may_lose it
    begins a handshake anew, as a device does, of which nothing came.
    """

    def __init__(self, realm, client, rs, may_lose):
        super().__init__()
        self.realm, self.client, self.rs, self.may_lose = realm, client, rs, may_lose
        self.enough, self.fault, self.times_s = threading.Event(), None, []
        self.n_beside, self.n_lost = 0, 0  # attempts that began before it was enough; that came to nothing

    def run(self):
        try:
            while (beside := not self.enough.wait(PAUSE_S)) or len(self.times_s) < ATTEMPTS_MIN:
                self.n_beside += beside
                begun = time.monotonic()
                self.insist()
                self.times_s.append(time.monotonic() - begun)
        except BaseException as fault:  # for the thread that joins
            self.fault = fault

    def insist(self):
        try:
            self.attempt()
        except dtls.HandshakeTimeout:
            if not self.may_lose:
                raise
            self.n_lost += 1
            self.attempt()

    def attempt(self):
        with self.realm.connect(self.client) as session:
            payload = cbor2.dumps({5: self.rs.name, 9: "read"})
            answer = session.confirmed(coap.POST, "token", payload, content_format=coap.ACE_CBOR)
            assert answer.status == "2.01", (answer.status, answer.payload.hex())
            assert opens(cbor2.loads(answer.payload)[1], self.rs.token_key)

    def finish(self):
        self.enough.set()
        self.join()
        if self.fault:
            raise self.fault


class Witnesses:
    """Several, each with a credential of its own."""

    def __init__(self, realm, pairs, may_lose=False):
        self.all = [Witness(realm, client, rs, may_lose) for client, rs in pairs]

    def __enter__(self):
        for witness in self.all:
            witness.start()
        return self

    def __exit__(self, *error):
        for witness in self.all:
            witness.enough.set()
        for witness in self.all:
            witness.finish()
        n_lost, n = (sum(getattr(witness, name) for witness in self.all) for name in ("n_lost", "n_beside"))
        assert n_lost <= n // 2, f"{n_lost} handshakes of {n} came to nothing"

    def times_s(self):
        return sorted(t for witness in self.all for t in witness.times_s)


def memory(process, what):
    with open(f"/proc/{process.pid}/status") as status:
        return next(int(line.split()[1]) << 10 for line in status if line.startswith(what + ":"))


def slack(process):
    with open(f"/proc/{process.pid}/maps") as maps:
        return SLACK_SANITIZED_BYTES if "libasan" in maps.read() else SLACK_BYTES


def figures(realm):
    return realm.ctl("status")["figures"]


def flood(realm, mode, door, n, rate, seed):
    done = subprocess.run([BUILD / "tests/bench/flood", "-n", str(n), "-r", str(rate), "-s", str(seed), mode,
                           f"127.0.0.1:{realm.ports[door]}"], capture_output=True, text=True, timeout=SECONDS)
    assert done.returncode == 0, done.stderr
    sent = json.loads(done.stdout)
    assert sent["sent"] - sent["cookies"] + sent["unsent"] == n and sent["unsent"] < n / 100, sent
    return sent


def wait_for_rest(realm):
    """Until no handshake is under way and no session is open; what was too much is gone."""
    deadline = time.monotonic() + SECONDS
    while (now := figures(realm))["sessions"] or now["sessions_half_open"]:
        assert time.monotonic() < deadline, now
        time.sleep(0.1)


@pytest.mark.parametrize("name", FLOODS)
def test_flood(realm, name):
    mode, door, n, rate = FLOODS[name]
    pairs = [realm.pair() for _ in range(WITNESSES)]
    # the handshake is lost in whose midst more begin than there is room for: with half a second's pause of the machine
    may_lose = mode == "half"

    # once for whatever grows to its size and stays, once to see that nothing grows from there
    with Witnesses(realm, pairs, may_lose):
        flood(realm, mode, door, n // 2, rate, seed=1)
    wait_for_rest(realm)
    before, counted = memory(realm.process, "VmHWM"), figures(realm)
    with Witnesses(realm, pairs, may_lose) as witnesses:
        sent = flood(realm, mode, door, n, rate, seed=2)
    wait_for_rest(realm)
    after = memory(realm.process, "VmHWM")
    arrived = figures(realm)["datagrams_in"] - counted["datagrams_in"]
    handshakes = figures(realm)["handshakes_begun"] - counted["handshakes_begun"]
    times_s = witnesses.times_s()
    print(f"\n{name}: {sent['sent']} sent in {sent['seconds']:.1f} s, {arrived} arrived; {len(times_s)} handshakes "
          f"with tokens, slowest {1000 * times_s[-1]:.0f} ms; RSS at most {before >> 10} kB, then {after >> 10} kB")

    assert arrived > (sent["sent"] / 2 if rate else 0), "the flood missed the server"
    if mode == "half":
        assert handshakes > 2 * HANDSHAKES_MAX, "these are to be more than there is room for"
    if rate:
        assert times_s[len(times_s) // 2] < SENT_AGAIN_MAX_S, "usually a handshake and its token take no time"
    bound = before + (BYTES_A_HANDSHAKE_MAX if mode == "half" else BYTES_A_DATAGRAM_MAX) * n
    bound += slack(realm.process)
    assert after <= bound, "memory grew with the flood"


class OnPath(threading.Thread):
    """Somebody between a client and the server who adds to each protected datagram what he can make of it: it cut off,
    bent, again, and what needs no key from that address: alerts, ClientHellos without a cookie, rubbish."""

    def __init__(self, server, seed):
        super().__init__()
        self.random = random.Random(seed)
        self.front, self.back = (socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(2))
        self.front.bind(("127.0.0.1", 0))
        self.back.connect(server)
        self.ending, self.end = socket.socketpair()
        self.n_forged = 0

    def forgeries(self, datagram):
        r = self.random
        bit = r.randrange(8 * len(datagram))
        bent = bytearray(datagram)
        bent[bit // 8] ^= 1 << bit % 8
        yield bytes(bent)
        yield datagram[: r.randrange(len(datagram))]
        yield datagram[:5] + r.randbytes(6) + datagram[11:]  # another sequence number
        yield datagram[:11] + r.randrange(1 << 14).to_bytes(2, "big") + datagram[13:]  # another length
        yield datagram + r.randbytes(r.randrange(1, 100))
        yield b"\x15\xfe\xfd\0\0" + r.randbytes(6) + b"\0\2" + r.choice((b"\2\x28", b"\1\0"))  # alert, in the clear
        yield b"\x15\xfe\xfd\0\1" + r.randbytes(6) + b"\0\x12" + r.randbytes(18)  # and with a forged tag
        yield b"\x14\xfe\xfd\0\0" + r.randbytes(6) + b"\0\1\1"  # ChangeCipherSpec
        yield b"\x16\xfe\xfd\0\1" + r.randbytes(6) + b"\0\x20" + r.randbytes(32)  # something like a Finished
        yield hello(r.randbytes(32))
        yield hello(r.randbytes(32), r.randbytes(32))
        yield r.randbytes(r.randrange(1, 1400))

    def from_client(self, datagram):
        # the handshake's own datagrams are in the clear: who bends those on their way ends it, and may
        if datagram[3:5] != b"\0\0":
            for forged in self.forgeries(datagram):
                self.back.send(forged)
                self.n_forged += 1
        self.back.send(datagram)
        self.back.send(datagram)

    def run(self):
        client = None
        # the end waits for what came before it: a close_notify
        while (ready := select.select([self.front, self.back, self.ending], [], [])[0]) != [self.ending]:
            if self.front in ready:
                datagram, client = self.front.recvfrom(65536)
                self.from_client(datagram)
            if self.back in ready:
                self.front.sendto(self.back.recv(65536), client)

    def finish(self):
        self.end.send(b"\0")
        self.join()
        for s in (self.front, self.back, self.ending, self.end):
            s.close()


def hello(client_random, cookie=b""):
    """A ClientHello as a device with a PSK sends it."""
    body = b"\xfe\xfd" + client_random + b"\0" + bytes([len(cookie)]) + cookie + b"\0\2\xc0\xa8\1\0"
    size = len(body).to_bytes(3, "big")
    handshake = b"\1" + size + b"\0\0\0\0\0" + size + body
    return b"\x16\xfe\xfd" + bytes(8) + len(handshake).to_bytes(2, "big") + handshake


def test_forged_records_do_not_touch_live_sessions(make_realm):
    realm = started(make_realm(CONFIG | {"limits": {"peer_request_rate": 0}}))
    client, rs = realm.pair()
    seed = int.from_bytes(os.urandom(4), "big")
    print(f"seed {seed}")
    requests = 40 * TIMES
    issued = realm.ctl("status")["store"]["tokens"]
    attacker = OnPath(realm.address("coaps"), seed)
    attacker.start()
    try:
        for wire in (dtls.OpenSsl, dtls.GnuTls):
            with coap.Endpoint(wire(attacker.front.getsockname(), client.identity, client.key)) as session:
                for _ in range(requests):
                    answer = session.confirmed(coap.POST, "token", cbor2.dumps({5: rs.name, 9: "read"}),
                                               content_format=coap.ACE_CBOR)
                    assert answer.status == "2.01" and opens(cbor2.loads(answer.payload)[1], rs.token_key)
    finally:
        attacker.finish()
    assert attacker.n_forged > 2 * requests
    assert realm.ctl("status")["store"]["tokens"] - issued == 2 * requests, "what came twice was done once"
    wait_for_rest(realm)


def greed(realm, client, rs, seconds):
    """Ask for tokens over many sessions, in a closed loop; what acebench counted."""
    done = subprocess.run(
        [program("acebench"), "-o", "json", "-u", client.identity.decode(), "--key-hex", client.key.hex(), "-c", "32", "-d",
         str(seconds), "--audience", rs.name, "--scope", "read", "token", f"127.0.0.1:{realm.ports['coaps']}"],
        capture_output=True, text=True, timeout=SECONDS)
    assert done.stdout, done.stderr
    return json.loads(done.stdout)


def test_greedy_client_has_its_share_and_no_more(realm):
    greedy = realm.pair()
    pairs = [realm.pair() for _ in range(WITNESSES)]
    seconds = 3 * TIMES
    with Witnesses(realm, pairs):
        greed(realm, *greedy, seconds)
    wait_for_rest(realm)
    before = memory(realm.process, "VmHWM")
    with Witnesses(realm, pairs) as witnesses:
        got = greed(realm, *greedy, seconds)
    wait_for_rest(realm)
    after, times_s = memory(realm.process, "VmHWM"), witnesses.times_s()
    print(f"\ngreedy: {got['codes']} in {got['seconds']:.1f} s; beside it {len(times_s)} handshakes with tokens, slowest "
          f"{1000 * times_s[-1]:.0f} ms; RSS at most {before >> 10} kB, then {after >> 10} kB")

    limits = {row["key"]: int(row["value"]) for row in realm.ctl_items("config", "show") if row["section"] == "limits"}
    share = limits["peer_request_burst"] + limits["peer_request_rate"] * (got["seconds"] + 1)
    assert set(got["codes"]) == {"2.01", "4.29"} and got["lost"] == 0, got
    assert got["codes"]["2.01"] <= share, "it got more than its share"
    assert times_s[-1] < SENT_AGAIN_MAX_S, "others wait for it"
    bound = before + BYTES_A_DATAGRAM_MAX * got["answered"] + slack(realm.process)
    assert after <= bound, "memory grew with the requests"


def test_greedy_client_is_told_when_to_come_back(realm):
    """RFC 8516: 4.29 with Max-Age, and after so many seconds it is served again."""
    client, rs = realm.pair()
    ask = cbor2.dumps({5: rs.name, 9: "read"})
    with realm.connect(client) as session:
        deadline = time.monotonic() + SECONDS
        while (answer := session.post("token", ask)).status == "2.01":
            assert time.monotonic() < deadline, "nothing stops it"
        assert answer.status == "4.29", answer.status
        wait_s = answer.option(coap.MAX_AGE)
        assert wait_s is not None and 1 <= wait_s <= 60
        time.sleep(wait_s)
        assert session.post("token", ask).status == "2.01"
