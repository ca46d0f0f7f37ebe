"""aced and aceclient with an OSCORE (RFC 8613) that somebody else wrote: that of libcoap's client and server, which
they have from 4.3.2 on, thus in Debian 13 and not in Debian 12."""

import contextlib
import io
import itertools
import json
import os
import shutil
import socket
import subprocess

import cbor2
import pytest

from realm import program, run, token

HKDF = {"SHA-256": -10, "SHA-512": -11}  # as COSE calls direct+HKDF-SHA-…
WAIT_S = 20
CORE = "/.well-known/core"
RECORD = {"master_secret_hex": "0102030405060708090a0b0c0d0e0f10", "master_salt_hex": "9e7ca92223786340",
          "sender_id_hex": "07", "recipient_id_hex": "01", "alg": "AES-CCM-16-64-128", "hkdf": "SHA-256"}
SWAPPED = {"sender_id_hex": "recipient_id_hex", "recipient_id_hex": "sender_id_hex"}
numbers = itertools.count(1)


def has_oscore(name):
    """Its usage says what it was built with; -h wants an argument and so leads there."""
    return shutil.which(name) and "Have OSCORE" in run(name, "-h", check=False).stderr


CLIENTS = [name for name in ("coap-client-gnutls", "coap-client-openssl") if has_oscore(name)]
pytestmark = pytest.mark.skipif(not CLIENTS, reason="libcoap's client has no OSCORE here: it is from before 4.3.2")


def configuration(directory, record, **more):
    """What acectl printed for the device, as coap-oscore-conf(5) wants it; more: keyword=(encoding, value)."""
    assert record["alg"] == "AES-CCM-16-64-128", "the only one of ours that libcoap 4.3.4 has"
    keys = {"master_secret_hex": "master_secret", "master_salt_hex": "master_salt", "id_context_hex": "id_context",
            "sender_id_hex": "sender_id", "recipient_id_hex": "recipient_id"}
    lines = [f'{keys[name]},hex,"{value}"' for name, value in record.items() if name in keys]
    lines += [f"hkdf_alg,integer,{HKDF[record['hkdf']]}", "aead_alg,integer,10"]
    lines += [f"{key},{encoding},{value}" for key, (encoding, value) in more.items()]
    path = directory / f"libcoap-{next(numbers)}.conf"
    path.write_text("\n".join(lines) + "\n")
    return path


class Device:
    """A party that has libcoap: its security context, whose numbers go on from run to run."""

    def __init__(self, realm, party, client, record=None, **more):
        self.realm, self.client = realm, client
        self.configuration = configuration(realm.directory, record or party.records[0]["record"], **more)
        self.numbers = self.configuration.with_suffix(".numbers")

    def command(self, path, *options, numbers=True):
        context = f"{self.configuration},{self.numbers}" if numbers else self.configuration
        return [self.client, "-B", WAIT_S, "-E", context, *options, self.realm.url(path, "coap")]

    def get(self, path, *options, **more):
        """The payload of the answer, which must be a success."""
        got = self.realm.directory / f"got-{next(numbers)}"
        done = run(*self.command(path, "-o", got, *options, **more))
        assert got.exists(), done.stdout + done.stderr
        return got.read_bytes()

    def post(self, path, ask, *options):
        asked = self.realm.directory / f"asked-{next(numbers)}"
        asked.write_bytes(cbor2.dumps(ask))
        return cbor2.loads(self.get(path, "-m", "post", "-t", "19", "-f", asked, *options))

    def refused(self, path, *options, **more):
        """The code of the answer, and what is its payload if that is text."""
        return run(*self.command(path, *options, **more)).stderr.strip()

    def n_requests(self, path=CORE):
        """How many it takes to get it, as its log says: an Echo makes one more (Appendix B.1.2, RFC 9175)."""
        said = run(*self.command(path, "-v", "7"))
        assert said.stdout.count("Decrypted PDU") == said.stdout.count("PDU to encrypt"), said.stdout
        return said.stdout.count("PDU to encrypt")


@pytest.fixture(params=CLIENTS or [None])
def client(request):
    return request.param


@pytest.fixture
def world(unlimited, client):
    realm = unlimited
    party, rs = realm.add_client(context=[]), realm.add_rs(None, "--trl", "yes", context=[])
    realm.policy(party, rs)
    return {"realm": realm, "party": party, "rs": rs, "device": Device(realm, party, client),
            "server": Device(realm, rs, client)}


def revoked(realm, rs, n):
    """So many tokens of a client of their own, revoked."""
    party = realm.add_client(context=[])
    realm.policy(party, rs)
    with realm.connect(party) as session:
        for _ in range(n):
            token(session, rs, "read")
    assert realm.ctl("token", "revoke", "--client", party.name)["revoked"] == n


# ---- aced, asked by libcoap's client

def any_of(size):
    return os.urandom(size).hex()


CONTEXTS = {
    "as acectl makes it": lambda: [],
    "SHA-512": lambda: ["--hkdf", "SHA-512"],
    "an ID Context": lambda: ["--id-context-hex", any_of(8)],
    "an ID Context of a zero byte": lambda: ["--id-context-hex", "00"],
    "long identities": lambda: ["--sender-id-hex", any_of(7), "--recipient-id-hex", "ff" * 7],
    "a Sender ID of no bytes": lambda: ["--sender-id-hex", "", "--recipient-id-hex", "01",
                                        "--id-context-hex", any_of(16)],
    "no salt": lambda: ["--salt-hex", ""],
    "a long secret": lambda: ["--secret-hex", any_of(64), "--salt-hex", any_of(32)],
}


@pytest.mark.parametrize("name", CONTEXTS)
def test_contexts(unlimited, client, name):
    """The first request is not known to be fresh: both find their way through the Echo."""
    device = Device(unlimited, unlimited.add_client(context=CONTEXTS[name]()), client)
    assert b"</token>" in device.get(CORE)
    assert device.n_requests() == 1


def test_token_and_introspection(world):
    answer = world["device"].post("/token", {5: world["rs"].name, 9: "read"})
    claims = world["server"].post("/introspect", {11: answer[1]})
    assert (claims[3], claims[9], claims[10]) == (world["rs"].name, "read", True)


@pytest.mark.parametrize("options", [[], ["-b", "1024"], ["-b", "16"], ["-N"]],
                         ids=lambda options: " ".join(options) or "as it comes")
def test_blocks_inside(world, options):
    """Requests and answers of more than a datagram."""
    realm, rs, server = world["realm"], world["rs"], world["server"]
    assert server.n_requests() == 2, "4.3.4 crashes over an Echo for a first block of 1024 bytes: so it comes before"
    answer = world["device"].post("/token", {5: rs.name, 9: "read"}, *options)
    assert server.post("/introspect", {11: answer[1], 24000: b"x" * 3000}, *options)[10] is True
    revoked(realm, rs, 40)
    hashes = cbor2.loads(server.get("/revoke/trl", *options))[0]
    assert len(hashes) == 40 and all(len(each) == 33 for each in hashes)


def test_what_is_refused_is_refused_inside(world):
    """Were it outside, libcoap would not show it as the answer, which has to be protected (§8.3)."""
    realm, device = world["realm"], world["device"]
    ask = realm.directory / f"asked-{next(numbers)}"
    ask.write_bytes(cbor2.dumps({5: "nobody"}))
    assert device.refused("/nothing") == "4.04"
    assert device.refused("/token", "-m", "delete") == "4.05"
    assert device.refused("/token", "-m", "post", "-t", "19", "-f", ask).startswith("4.00")
    assert device.refused(CORE, "-A", "19") == "4.06"
    assert device.refused(CORE, "-O", "65001,0x01") == "4.02 option 65001"
    assert b"</token>" in device.get(CORE, "-O", "65000,0x01"), "an elective option that nobody knows"


def test_what_does_not_verify(world, client):
    realm, party = world["realm"], world["party"]
    record = party.records[0]["record"]

    def said(**wrong):
        return Device(realm, party, client, record | wrong).refused(CORE)

    assert said(master_secret_hex="00" * 16) == "4.00 Decryption failed"
    assert said(master_salt_hex="00" * 8) == "4.00 Decryption failed"
    assert said(hkdf="SHA-512") == "4.00 Decryption failed"
    assert said(sender_id_hex="0102030405") == "4.01 Security context not found"
    assert said(id_context_hex="0102030405") == "4.01 Security context not found"
    world["device"].get(CORE)
    assert world["device"].refused(CORE, numbers=False) == "4.01 Replay detected"
    assert world["device"].n_requests() == 1, "none of this has changed anything"


def test_after_a_crash_of_aced(realm, client):
    """It does not know what was received before; then it does."""
    device = Device(realm, realm.add_client(context=[]), client)
    assert [device.n_requests() for _ in range(2)] == [2, 1]
    realm.restart()
    assert [device.n_requests() for _ in range(2)] == [2, 1]


def test_in_a_session_with_dtls(world):
    """Of the same party, and of another."""
    realm, party, device = world["realm"], world["party"], world["device"]
    for name in (party.name, realm.add_client().name):
        key, identity = any_of(12), f"text-{name}"
        realm.ctl("client", "credential", "add", name, "--identity-hex", identity.encode().hex(),
                  "--key-hex", key.encode().hex())
        done = run(*device.command(CORE, "-u", identity, "-k", key)[:-1], realm.url(CORE))
        if name == party.name:
            assert "</token>" in done.stdout, done.stderr
        else:
            assert done.stderr.strip() == "4.01 Security context not found" and not done.stdout


def test_renewal(unlimited, client):
    """Appendix B.2, with which libcoap begins each time when it is told to."""
    device = Device(unlimited, unlimited.add_client(context=["--renews", "yes"]), client, rfc8613_b_2=("bool", "true"))
    before = unlimited.ctl("status")["figures"]["oscore_renewals"]
    for _ in range(2):
        assert b"</token>" in device.get(CORE)
    assert unlimited.ctl("status")["figures"]["oscore_renewals"] == before + 2


@contextlib.contextmanager
def ended(process):
    """However the test ends."""
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def shown(process):
    """The next CBOR item that it writes."""
    return cbor2.load(process.stdout)


def test_observation(world):
    realm, rs, server = world["realm"], world["rs"], world["server"]
    command = [str(each) for each in server.command("/revoke/trl", "-s", WAIT_S)]
    with ended(subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)) as observer:
        assert shown(observer)[0] == []
        for n in (1, 2, 3):
            revoked(realm, rs, 1)
            assert len(shown(observer)[0]) == n


def test_observation_is_taken_back(world):
    """At its end, after a second, the client deregisters, and shows the answer to that, too."""
    realm, server = world["realm"], world["server"]
    before = realm.ctl("status")["limits"]["observers_used"]
    done = run(*server.command("/revoke/trl", "-s", "1", "-o", realm.directory / "seen"))
    seen = io.BytesIO((realm.directory / "seen").read_bytes())
    assert [cbor2.load(seen)[0] for _ in range(2)] == [[], []], done.stderr
    assert realm.ctl("status")["limits"]["observers_used"] <= before


# ---- aceclient, asking libcoap's server


@contextlib.contextmanager
def libcoap_server(directory, record, n_echoes=1, **more):
    """Its port. It wants a number to listen at: one that was free a moment ago. It asks for so many an Echo: having just
    begun, and after each renewal."""
    swapped = {SWAPPED.get(name, name): value for name, value in record.items()}
    path = configuration(directory, swapped, **more)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [CLIENTS[0].replace("client", "server"), "-A", "127.0.0.1", "-p", str(port), "-v", "7", "-E",
               f"{path},{path.with_suffix('.numbers')}"]
    with ended(subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)) as server:
        said = []
        while not said or b"created UDP" not in said[-1]:
            said.append(server.stdout.readline())
            assert said[-1], said
        yield port
        server.terminate()
        said = server.communicate()[0].decode(errors="replace")
        assert said.count("[ Echo:") == n_echoes, said


def discovered(directory, port, record, *options):
    path = directory / f"record-{port}"
    path.write_text(json.dumps({"record": record | ({"renews": True} if "--renew" in options else {})}))
    done = run(program("aceclient"), "-s", f"coap://127.0.0.1:{port}", "--oscore", path, "-o", "json", *options,
               "discover")
    return {link["href"] for link in json.loads(done.stdout)}


SERVED = {
    "plain": {},
    "SHA-512": {"hkdf": "SHA-512"},
    "an ID Context": {"id_context_hex": "0011223344"},
    "long identities": {"sender_id_hex": "01020304050607", "recipient_id_hex": "ffffffffffffff"},
    "a Sender ID of no bytes": {"sender_id_hex": ""},
}


@pytest.mark.parametrize("name", SERVED)
def test_aceclient_asks_libcoap(tmp_path, name):
    record = RECORD | SERVED[name]
    with libcoap_server(tmp_path, record) as port:
        for _ in range(2):
            assert "/time" in discovered(tmp_path, port, record)


def test_aceclient_renews_with_libcoap(tmp_path):
    with libcoap_server(tmp_path, RECORD, 2, rfc8613_b_2=("bool", "true")) as port:
        for _ in range(2):
            assert "/time" in discovered(tmp_path, port, RECORD, "--renew")
