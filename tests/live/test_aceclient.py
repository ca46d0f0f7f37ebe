"""aceclient against aced: verbs, both outputs, exit codes, and its manual."""

import base64
import hashlib
import json
import os
import re
import socket
import subprocess
import threading
import time

import cbor2
import pytest
from cryptography.hazmat.primitives.serialization import load_pem_private_key

import coap
import dtls
import keys
from realm import SOURCE, program, run, token
from tokens import open_token, opens

DONE, REFUSED, USAGE, NO_CONTACT = 0, 1, 2, 3


def aceclient(*arguments, status=DONE, **more):
    done = run(program("aceclient"), *arguments, check=False, **more)
    assert done.returncode == status, (done.returncode, done.stdout, done.stderr)
    return done


def channel(realm, party):
    return ["-s", realm.url(), "--identity-hex", party.identity.hex(), "--key-hex", party.key.hex()]


def as_json(*arguments, **more):
    return json.loads(aceclient("-o", "json", *arguments, **more).stdout)


@pytest.fixture(scope="module")
def world(shared):
    client, rs = shared.pair()
    return shared, client, rs


def test_token(world):
    realm, client, rs = world
    answer = as_json(*channel(realm, client), "--audience", rs.name, "--scope", "read admin", "--profile", "token")
    assert answer["code"] == "2.01" and answer["expires_in"] == 3600 and answer["ace_profile"] == "coap_dtls"
    assert answer["scope"] == "read"
    key = answer["cnf"]["COSE_Key"]
    claims = open_token(bytes.fromhex(answer["access_token"]), rs.token_key)[3]
    assert key["kty"] == "Symmetric"
    assert claims[8] == {1: {1: 4, 2: bytes.fromhex(key["kid"]), -1: bytes.fromhex(key["k"])}}


def test_token_as_text(world):
    realm, client, rs = world
    lines = aceclient(*channel(realm, client), "--audience", rs.name, "--scope", "read", "token").stdout.splitlines()
    assert re.fullmatch(r"access_token: [0-9a-f]+", lines[0]) and "expires_in: 3600" in lines
    assert "    kty: Symmetric" in lines


def test_token_with_every_parameter(world):
    realm, client, rs = world
    first = as_json(*channel(realm, client), "--audience", rs.name, "--scope", "read", "token")
    kid = first["cnf"]["COSE_Key"]["kid"]
    again = as_json(*channel(realm, client), "--audience", rs.name, "--scope", "write", "--kid-hex", kid, "--client-id",
                    client.name, "token")
    claims = open_token(bytes.fromhex(again["access_token"]), rs.token_key)[3]
    assert claims[8][1][2].hex() == kid and claims[9] == "write"


def test_token_of_byte_scope(world):
    realm, client, _ = world
    rs = realm.add_rs(None, "--scope-kind", "bytes", scope="hex:0102")
    realm.policy(client, rs, "hex:0102")
    answer = as_json(*channel(realm, client), "--audience", rs.name, "--scope-hex", "0102", "token")
    assert open_token(bytes.fromhex(answer["access_token"]), rs.token_key)[3][9] == bytes([1, 2])


def test_refused(world):
    realm, client, rs = world
    done = aceclient(*channel(realm, client), "--audience", rs.name, "--scope", "admin", "token", status=REFUSED)
    assert re.match(r"aceclient: refused: 4\.00 invalid_scope: \S", done.stderr) and not done.stdout
    done = aceclient(*channel(realm, client), "-o", "json", "--audience", "nobody", "token", status=REFUSED)
    answer = json.loads(done.stdout)
    assert answer["code"] == "4.00" and answer["error"] == "invalid_request" and answer["error_description"]
    done = aceclient("-s", realm.url(door="coap"), "--audience", rs.name, "token", status=REFUSED)
    assert "4.01" in done.stderr


@pytest.mark.parametrize("form", ["hex", "file", "hex file", "answer file", "standard input"])
def test_introspect(world, tmp_path, form):
    realm, client, rs = world
    answer = realm.token(client, rs, "read")
    path = tmp_path / "token"
    path.write_bytes({"hex file": answer[1].hex().encode() + b"\n", "answer file": cbor2.dumps(answer)}.get(form, answer[1]))
    argument = {"hex": answer[1].hex(), "standard input": "-"}.get(form, path)
    command = [program("aceclient"), *channel(realm, rs), "-o", "json", "introspect", str(argument)]
    if form == "standard input":
        done = subprocess.run(command, input=answer[1], capture_output=True, timeout=60)
        assert done.returncode == DONE, done.stderr
        shown = json.loads(done.stdout)
    else:
        shown = json.loads(run(*command).stdout)
    claims = open_token(answer[1], rs.token_key)[3]
    assert shown["active"] is True and shown["aud"] == rs.name and shown["exp"] == claims[4]
    assert shown["cti"] == claims[7].hex() and shown["iss"] == claims[1] and shown["scope"] == "read"


def test_cbor_from_one_command_to_the_next(world, tmp_path):
    realm, client, rs = world
    (tmp_path / "key").write_text(rs.token_key.hex())
    with open(tmp_path / "answer", "wb") as answer:
        command = [program("aceclient"), *channel(realm, client), "--audience", rs.name, "--scope", "read", "-o", "cbor", "token"]
        assert subprocess.run(command, stdout=answer, timeout=60).returncode == DONE
    assert cbor2.loads((tmp_path / "answer").read_bytes())[2] == 3600
    assert "active: true" in aceclient(*channel(realm, rs), "introspect", tmp_path / "answer").stdout
    assert f"aud: {rs.name}" in aceclient("--key-file", tmp_path / "key", "decode", tmp_path / "answer").stdout
    aceclient("-o", "cbor", "decode", tmp_path / "answer", status=USAGE)


def test_introspect_inactive(world):
    realm, _, rs = world
    assert aceclient(*channel(realm, rs), "introspect", "00" * 20).stdout == "active: false\n"
    assert as_json(*channel(realm, rs), "introspect", "00" * 20) == {"code": "2.01", "active": False}


def test_introspect_refused(world):
    realm, client, _ = world
    assert "4.03" in aceclient(*channel(realm, client), "introspect", "00", status=REFUSED).stderr


@pytest.mark.parametrize("door", ["coap", "coaps"])
def test_discover(world, door):
    realm, client, _ = world
    server = channel(realm, client) if door == "coaps" else ["-s", realm.url(door="coap")]
    links = {link["href"]: link for link in as_json(*server, "discover")}
    assert set(links) >= {"/token", "/introspect"} and links["/token"]["rt"].startswith("ace.")
    assert [link["href"] for link in as_json(*server, "discover", "href=/token")] == ["/token"]
    assert as_json(*server, "discover", "rt=nothing") == []
    assert "href: /token" in aceclient(*server, "discover").stdout


@pytest.mark.parametrize("alg", ["AES-CCM-16-64-128", "A128GCM", "A256GCM"])
@pytest.mark.parametrize("tagged", ["yes", "no"])
def test_decode(shared, tmp_path, alg, tagged):
    client, rs = shared.pair("--token-tagged", tagged, alg=alg)
    answer = shared.token(client, rs, "read")
    claims = open_token(answer[1], rs.token_key)[3]
    shown = as_json("decode", answer[1].hex(), "--key-hex", rs.token_key.hex())["token"]
    assert shown["protected"] == {"alg": alg}
    assert shown["tags"] == (["CWT (61)", "COSE_Encrypt0 (16)"] if tagged == "yes" else [])
    assert shown["claims"] == {
        "iss": claims[1], "aud": claims[3], "exp": claims[4], "iat": claims[6], "cti": claims[7].hex(), "scope": "read",
        "cnf": {"COSE_Key": {"kty": "Symmetric", "kid": claims[8][1][2].hex(), "k": claims[8][1][-1].hex()}}}
    without = as_json("decode", answer[1].hex())["token"]
    assert "claims" not in without and without["protected"] == {"alg": alg}
    (tmp_path / "answer").write_bytes(cbor2.dumps(answer))
    (tmp_path / "key").write_text(rs.token_key.hex() + "\n")
    both = as_json("decode", "--key-file", tmp_path / "key", tmp_path / "answer")
    assert both["answer"]["expires_in"] == 3600 and both["token"]["claims"]["aud"] == rs.name
    text = aceclient("decode", "--key-hex", rs.token_key.hex(), answer[1].hex()).stdout
    date = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(claims[4]))
    assert f"exp: {claims[4]} ({date})" in text


def test_decode_says_what_is_wrong(shared, tmp_path):
    client, rs = shared.pair()
    access_token = shared.token(client, rs, "read")[1]
    key = rs.token_key
    wrong = bytes([key[0] ^ 1]) + key[1:]
    for arguments, words in (
        ([access_token.hex(), "--key-hex", wrong.hex()], "does not open"),
        ([access_token.hex(), "--key-hex", key.hex() + "00"], "of 16 bytes, not of 17"),
        ([access_token.hex()[:-2], "--key-hex", key.hex()], "CBOR"),
        (["00"], "COSE"),
        (["d8"], "CBOR"),
        (["838080"], "CBOR"),
        ([bytes([0xC1] * 6).hex() + "00"], "tags"),
    ):
        assert words in aceclient("decode", *arguments, status=REFUSED).stderr
    assert "neither hexadecimal nor a file" in aceclient("decode", tmp_path / "none", status=USAGE).stderr


def test_text_from_the_server_cannot_drive_the_terminal(tmp_path):
    (tmp_path / "answer").write_bytes(cbor2.dumps({1: cbor2.dumps([b"", {}, b"\0"]), 9: "\x1b[31mred\n"}))
    text = aceclient("decode", tmp_path / "answer").stdout
    assert "\x1b" not in text and "scope: \\x1b[31mred\\x0a\n" in text


def test_key_from_file(world, tmp_path):
    realm, client, rs = world
    path = tmp_path / "key"
    path.write_text(client.key.hex() + "\n")
    as_json("-s", realm.url(), "-u", client.identity.decode(), "--key-file", path, "--audience", rs.name, "--scope",
            "read", "token")
    path.write_text("no hex\n")
    assert "hexadecimal" in aceclient("-s", realm.url(), "-u", "x", "--key-file", path, "token", status=USAGE).stderr
    aceclient("-s", realm.url(), "-u", "x", "--key-file", tmp_path / "none", "token", status=USAGE)


def test_key_as_text_and_path_in_uri(shared):
    client, rs = shared.add_client(key=b"sixteen letters!"), shared.add_rs()
    shared.policy(client, rs)
    answer = as_json("-s", shared.url("/token"), "-u", client.identity.decode(), "-k", "sixteen letters!", "--audience",
                     rs.name, "--scope", "read", "token")
    assert opens(bytes.fromhex(answer["access_token"]), rs.token_key)


def test_identity_with_zero_byte(shared):
    client, rs = shared.add_client(identity=b"zero\0byte"), shared.add_rs()
    shared.policy(client, rs)
    answer = as_json(*channel(shared, client), "--audience", rs.name, "--scope", "read", "token")
    assert opens(bytes.fromhex(answer["access_token"]), rs.token_key)


# ---- key pairs and certificates


def put(path, data):
    path.write_bytes(data)
    return path


def door_key(realm, alg="ES256"):
    return next(key for key in realm.ctl_items("key", "list") if (key["role"], key["alg"]) == ("door", alg))["public_key_hex"]


@pytest.fixture(scope="module")
def key_pair(shared, tmp_path_factory):
    """A client with a key pair, its file, and a resource server that works with such keys."""
    key = keys.new_key()
    client = shared.add_client(private_key=key, kid=b"\x17\x01")
    rs = shared.add_rs(None, "--pop-key", "symmetric", "--pop-key", "P-256", private_key=keys.new_key())
    shared.policy(client, rs)
    return client, rs, put(tmp_path_factory.mktemp("key") / "key.pem", keys.private_pem(key))


@pytest.mark.parametrize("curve", ["P-256", "Ed25519"])
def test_raw_public_key(shared, tmp_path, curve):
    """Made, registered and used by its file."""
    path, rs = tmp_path / "device.pem", shared.add_rs()
    aceclient("--curve", curve, "keygen", path)
    shared.acectl("client", "add", f"made-{curve}")
    shared.acectl("client", "credential", "add", f"made-{curve}", "--kind", "rpk", "--public-key", path)
    shared.policy(f"made-{curve}", rs)
    answer = as_json("-s", shared.url(), "--private-key", path, "--server-key", door_key(shared), "--audience", rs.name,
                     "--scope", "read", "token")
    assert opens(bytes.fromhex(answer["access_token"]), rs.token_key)


def test_server_that_is_not_the_expected_one(shared, key_pair, tmp_path):
    client, rs, path = key_pair
    mine = ["-s", shared.url(), "--private-key", path, "--audience", rs.name, "--scope", "read"]
    other = keys.spki(keys.new_key()).hex()
    assert "another key" in aceclient(*mine, "--server-key", other, "token", status=NO_CONTACT).stderr
    aceclient(*mine, "--any-server", "token")
    foreign = put(tmp_path / "ca.pem", keys.Authority().pem)
    assert "no authority" in aceclient(*mine, "--ca", foreign, "token", status=NO_CONTACT).stderr
    # the server certified itself, for the host of its issuer: coaps://as.example
    shown = dtls.GnuTlsPublicKey(shared.address("coaps"), client.private_key, server_type="X509")
    own = put(tmp_path / "own.pem", keys.pem(shown.peer))
    shown.close()
    assert "another name" in aceclient(*mine, "--ca", own, "token", status=NO_CONTACT).stderr
    aceclient(*mine, "--ca", own, "--server-name", "as.example", "token")
    aceclient(*mine, "--ca", own, "--server-name", "as.example", "--server-key", door_key(shared), "token")


@pytest.mark.parametrize("curve", ["P-256", "Ed25519"])
def test_certificate(make_realm, tmp_path, curve):
    authority = keys.Authority()
    realm = make_realm({"coaps": {"listen": "127.0.0.1:0", "trust_anchors": put(tmp_path / "ca.pem", authority.pem)}}).start()
    key = keys.new_key(curve)
    lower = authority.below()
    client = realm.add_client(private_key=key, chain=lower.certify(key, "pump"))
    rs = realm.add_rs()
    realm.policy(client, rs)
    mine = ["-s", realm.url(), "--private-key", put(tmp_path / "key.pem", keys.private_pem(key)), "--any-server", "--audience",
            rs.name, "--scope", "read", "--certificate"]
    answer = as_json(*mine, put(tmp_path / "chain.pem", keys.pem(*client.chain)), "token")
    assert opens(bytes.fromhex(answer["access_token"]), rs.token_key)
    foreign = put(tmp_path / "foreign.pem", keys.pem(*keys.Authority().certify(key, "pump")))
    assert "alert: " in aceclient(*mine, foreign, "token", status=NO_CONTACT).stderr


def test_unknown_public_key(shared, tmp_path):
    path = put(tmp_path / "key.pem", keys.private_pem(keys.new_key()))
    said = aceclient("-s", shared.url(), "--private-key", path, "--any-server", "token", status=NO_CONTACT).stderr
    assert "the handshake failed, alert: " in said


@pytest.mark.parametrize("curve", keys.CURVES)
def test_keygen(tmp_path, curve):
    path = tmp_path / "key.pem"
    shown = as_json("--curve", curve, "--kid-hex", "0102", "keygen", path)
    key = load_pem_private_key(path.read_bytes(), None)
    assert path.stat().st_mode & 0o777 == 0o600
    assert shown == {"curve": curve, "cose_key": cbor2.dumps(keys.cose_key(key, b"\1\2")).hex(), "spki": keys.spki(key).hex(),
                     "thumbprint": hashlib.sha256(keys.spki(key)).hexdigest()}
    before = path.read_bytes()
    assert "exists" in aceclient("keygen", path, status=USAGE).stderr and path.read_bytes() == before
    cbor = subprocess.run([program("aceclient"), "-o", "cbor", "keygen", tmp_path / "other.pem"], capture_output=True, timeout=60)
    assert cbor2.loads(cbor.stdout) == keys.cose_key(load_pem_private_key((tmp_path / "other.pem").read_bytes(), None))


# ---- what a token is bound to


def test_req_cnf(shared, key_pair, tmp_path):
    client, rs, path = key_pair
    mine = ["-s", shared.url(), "--private-key", path, "--any-server", "--audience", rs.name, "--scope", "read"]
    expected = keys.cose_key(client.private_key)
    forms = [f"key:{path}", f"key:{keys.spki(client.private_key).hex()}", f"key:{cbor2.dumps(expected).hex()}",
             f"kid:{client.kid.hex()}", f"hex:{cbor2.dumps({1: expected}).hex()}"]
    for form in forms:
        answer = as_json(*mine, "--req-cnf", form, "token")
        bound = open_token(bytes.fromhex(answer["access_token"]), rs.token_key)[3][8][1]
        assert {label: bound[label] for label in expected} == expected, form
        assert answer["rs_cnf"]["COSE_Key"]["crv"] == "P-256" and "cnf" not in answer
    other = keys.spki(keys.new_key()).hex()
    assert "unsupported_pop_key" in aceclient(*mine, "--req-cnf", f"key:{other}", "token", status=REFUSED).stderr


def test_cnonce(world):
    realm, client, rs = world
    answer = as_json(*channel(realm, client), "--audience", rs.name, "--scope", "read", "--cnonce", "e0a156bb3f", "token")
    assert open_token(bytes.fromhex(answer["access_token"]), rs.token_key)[3][39].hex() == "e0a156bb3f"


# ---- refresh, revoke, trl


def test_refresh_and_revoke(shared, tmp_path):
    client, rs = shared.add_client(None, "--refresh-lifetime", "3600"), shared.add_rs()
    shared.policy(client, rs)
    mine, theirs = channel(shared, client), channel(shared, rs)
    command = [program("aceclient"), *mine, "-o", "cbor", "--audience", rs.name, "--scope", "read", "token"]
    first = put(tmp_path / "first", subprocess.run(command, capture_output=True, timeout=60).stdout)
    refresh_token = cbor2.loads(first.read_bytes())[37]
    command = [program("aceclient"), *mine, "-o", "cbor", "refresh", first]
    second = put(tmp_path / "second", subprocess.run(command, capture_output=True, timeout=60).stdout)
    assert cbor2.loads(second.read_bytes())[37] != refresh_token
    assert "invalid_grant" in aceclient(*mine, "refresh", "00" * 24, status=REFUSED).stderr
    assert as_json(*theirs, "introspect", second)["active"] is True
    assert as_json(*mine, "revoke", second) == {"code": "2.04"}
    assert as_json(*theirs, "introspect", second)["active"] is False
    aceclient(*mine, "--refresh-token", "revoke", second)
    assert "invalid_grant" in aceclient(*mine, "refresh", second, status=REFUSED).stderr
    assert as_json(*mine, "revoke", "00" * 24) == {"code": "2.04"}


def test_revocation_list(shared):
    client, rs = shared.pair("--trl", "yes")
    mine, theirs = channel(shared, client), channel(shared, rs)
    assert as_json(*mine, "trl") == {"code": "2.05", "full_set": [], "cursor": None}
    hashes = []
    for _ in range(3):
        access_token = shared.token(client, rs, "read")[1]
        hashes.append(as_json("decode", access_token.hex())["token"]["trl_hash"])
        aceclient(*mine, "revoke", access_token.hex())
    text = base64.urlsafe_b64encode(access_token).rstrip(b"=")
    assert hashes[-1] == "01" + hashlib.sha256(text).hexdigest()
    for who in (mine, theirs):
        assert sorted(as_json(*who, "trl")["full_set"]) == sorted(hashes)
    changes = as_json(*theirs, "--diff", "2", "trl")
    assert changes["diff_set"] == [[[], [hashes[2]]], [[], [hashes[1]]]] and changes["more"] is False
    later = as_json(*theirs, "--diff", "0", "--cursor", "1", "trl")
    assert later["diff_set"] == [[[], [hashes[2]]]] and later["cursor"] == 2
    refused = aceclient(*theirs, "-o", "json", "--cursor", "1", "trl", status=REFUSED)
    assert "invalid set of parameters" in refused.stderr
    assert json.loads(refused.stdout)["ace-trl-error"]["error-id"] == "invalid set of parameters"


def test_observed_revocation_list(shared):
    client, rs = shared.pair("--trl", "yes")
    command = [program("aceclient"), *channel(shared, rs), "-t", "30", "-o", "json", "--observe", "--count", "3", "trl"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as observer:
        lines = [observer.stdout.readline()]  # the first answer is there: what follows is a change
        for _ in range(2):
            aceclient(*channel(shared, client), "revoke", shared.token(client, rs, "read")[1].hex())
            lines.append(observer.stdout.readline())
    assert observer.returncode == DONE
    assert [len(json.loads(line)["full_set"]) for line in lines] == [0, 1, 2]


def test_answer_in_blocks(shared):
    """A list longer than a datagram, in an answer and in a notification."""
    client, rs = shared.pair("--trl", "yes")
    with shared.connect(client) as session:
        for _ in range(40):
            access_token = token(session, rs, "read")[1]
            assert session.post("revoke", cbor2.dumps({11: access_token})).status == "2.04"
    assert len(as_json(*channel(shared, rs), "trl")["full_set"]) == 40
    assert len(as_json(*channel(shared, rs), "--observe", "--count", "1", "trl")["full_set"]) == 40


def test_request_in_blocks(world):
    realm, _, rs = world
    assert as_json(*channel(realm, rs), "introspect", "82" + "59" + "0bb8" + "00" * 3000 + "00")["active"] is False
    done = aceclient(*channel(realm, rs), "introspect", "59" + "4e20" + "00" * 20000, status=REFUSED)
    assert "4.13" in done.stderr


# ---- the message layer, by a server that does as it is told


class Scripted:
    """A plain CoAP server; each request goes to the next function, which returns the messages to send."""

    def __init__(self, *steps):
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind(("127.0.0.1", 0))
        self.socket.settimeout(30)
        self.url = f"coap://127.0.0.1:{self.socket.getsockname()[1]}"
        self.seen = []
        self.thread = threading.Thread(target=self._run, args=(steps,))
        self.thread.start()

    def _run(self, steps):
        for step in steps:
            data, peer = self.socket.recvfrom(65536)
            self.seen.append(coap.decode(data))
            for message in step(self.seen[-1]):
                self.socket.sendto(message.encode(), peer)

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.thread.join(60)
        self.socket.close()


LINKS = b"</token>;rt=x"


def content(request, type=coap.ACK, mid=None, payload=LINKS, token=None, options=()):
    return coap.Message(type, 0x45, request.mid if mid is None else mid, request.token if token is None else token,
                        [(coap.CONTENT_FORMAT, b"\x28"), *options], payload)


def test_lost_request_is_sent_again():
    with Scripted(lambda request: [], lambda request: [content(request)]) as server:
        assert as_json("-s", server.url, "discover") == [{"href": "/token", "rt": "x"}]
    assert server.seen[0] == server.seen[1]


def test_separate_answer_is_acknowledged():
    with Scripted(lambda request: [coap.Message(coap.ACK, 0, request.mid),
                                   content(request, mid=77, token=b"other", type=coap.CON),
                                   content(request, mid=78, type=coap.CON)],
                  lambda reset: [], lambda acknowledgement: []) as server:
        assert len(as_json("-s", server.url, "discover")) == 1
    assert [(message.type, message.code, message.mid) for message in server.seen[1:]] == [(coap.RST, 0, 77), (coap.ACK, 0, 78)]


def test_reset_request():
    with Scripted(lambda request: [coap.Message(coap.RST, 0, request.mid)]) as server:
        assert "reset" in aceclient("-s", server.url, "discover", status=NO_CONTACT).stderr


def block2(request, number, more, payload, etag=b"\1"):
    return content(request, payload=payload, options=[(4, etag), (23, bytes([number << 4 | more << 3 | 0]))])


def test_blocks_of_another_answer_are_not_mixed_in():
    with Scripted(lambda request: [block2(request, 0, 1, b"</token>;rt=\"012")], lambda request: [block2(request, 1, 0, b"3\"")]) as server:
        assert as_json("-s", server.url, "discover") == [{"href": "/token", "rt": "0123"}]
    for second in (lambda request: [block2(request, 1, 0, b"3\"", b"\2")], lambda request: [block2(request, 2, 0, b"3\"")],
                   lambda request: [content(request)]):
        with Scripted(lambda request: [block2(request, 0, 1, b"</token>;rt=\"012")], second) as server:
            assert "changed" in aceclient("-s", server.url, "discover", status=NO_CONTACT).stderr


def test_garbage_is_not_an_answer():
    def step(request):
        return [coap.Message(coap.ACK, 0x45, request.mid, request.token + b"x"), content(request)]

    with Scripted(step) as server:
        assert len(as_json("-s", server.url, "discover")) == 1


# ---- the command line


@pytest.mark.parametrize("arguments", [
    [], ["nonsense"], ["token", "stray"], ["introspect"], ["decode"], ["discover", "a", "b"], ["--nonsense", "token"],
    ["token"], ["-s", "http://127.0.0.1", "token"], ["-s", "coaps://127.0.0.1", "token"], ["-s", "coaps://", "token"],
    ["-s", "coaps://127.0.0.1", "-u", "a", "token"], ["-t", "0", "discover"], ["-t", "x", "discover"], ["-o", "xml", "discover"],
    ["--key-hex", "0", "decode", "00"], ["--key-hex", "xy", "decode", "00"], ["--key-hex", "", "decode", "00"],
    ["--key-hex", "00" * 65, "decode", "00"], ["-k", "a", "-k", "b", "decode", "00"], ["--audience", "x", "decode", "00"],
    ["--identity-hex", "00", "-u", "a", "discover"], ["-s", "coap://127.0.0.1?x=1", "discover"],
    ["refresh"], ["revoke"], ["keygen"], ["trl", "stray"], ["--curve", "P-521", "keygen", "/nonexistent/x"],
    ["keygen", "/nonexistent/x"], ["--curve", "P-256", "discover"], ["--req-cnf", "00", "token"], ["--req-cnf", "kid:xy", "token"],
    ["--req-cnf", "hex:a1", "token"], ["--req-cnf", "key:/nonexistent/x", "token"], ["--req-cnf", "key:00", "token"],
    ["--req-cnf", "kid:00", "--req-cnf", "kid:00", "token"], ["--req-cnf", "kid:00", "--kid-hex", "00", "token"],
    ["--server-key", "00", "token"], ["--as-key", "00", "token"], ["--diff", "x", "trl"], ["--diff", "1", "token"],
    ["--cursor", "-1", "trl"], ["--count", "0", "trl"], ["--count", "1", "-s", "coap://127.0.0.1", "trl"],
    ["--cnonce", "x", "token"], ["--refresh-token", "introspect", "00"], ["--wrap-key-hex", "00", "token"],
    ["-s", "coaps://127.0.0.1", "--private-key", "/nonexistent/x", "token"],
    ["-s", "coaps://127.0.0.1", "--private-key", "/nonexistent/x", "--any-server", "token"],
    ["-s", "coaps://127.0.0.1", "--private-key", "/dev/null", "--any-server", "token"],
    ["-s", "coaps://127.0.0.1", "--private-key", "/etc/passwd", "--any-server", "token"],
    ["-s", "coaps://127.0.0.1", "--private-key", "/dev/null", "--any-server", "-u", "a", "-k", "b", "token"],
    ["-s", "coaps://127.0.0.1", "--certificate", "/dev/null", "-u", "a", "-k", "b", "token"],
    ["-s", "coaps://127.0.0.1", "--any-server", "-u", "a", "-k", "b", "token"]],
    ids=lambda arguments: " ".join(arguments) or "nothing")
def test_usage(arguments):
    done = aceclient(*arguments, status=USAGE)
    assert done.stderr and not done.stdout


def test_no_contact(shared):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
        silent.bind(("127.0.0.1", 0))
        port = silent.getsockname()[1]
        psk = ["-u", "a", "-k", "b", "-t", "1"]
        before = time.monotonic()
        assert "no handshake within 1 s" in aceclient("-s", f"coaps://127.0.0.1:{port}", *psk, "token", status=NO_CONTACT).stderr
        assert "no answer within 1 s" in aceclient("-s", f"coap://127.0.0.1:{port}", "-t", "1", "discover", status=NO_CONTACT).stderr
        assert time.monotonic() - before < 30
    assert "nobody listens" in aceclient("-s", f"coap://127.0.0.1:{port}", "discover", status=NO_CONTACT).stderr
    assert "nobody listens" in aceclient("-s", f"coaps://127.0.0.1:{port}", *psk, "token", status=NO_CONTACT).stderr
    assert aceclient("-s", "coap://nowhere.invalid", "discover", status=NO_CONTACT).stderr


def test_handshake_failures_are_named(shared):
    client = shared.add_client()
    wrong = aceclient("-s", shared.url(), "-u", client.identity.decode(), "--key-hex", os.urandom(16).hex(), "token",
                      status=NO_CONTACT).stderr
    unknown = aceclient("-s", shared.url(), "-u", "nobody", "-k", "some key", "token", status=NO_CONTACT).stderr
    assert "the handshake failed, alert: " in wrong, wrong
    assert "the handshake failed, alert: " in unknown and "not known" in unknown, unknown


def test_manual_names_every_option_and_verb():
    shown = aceclient("--help").stdout
    manual = (SOURCE / "man/aceclient.1").read_text()
    options = set(re.findall(r"--([a-z-]+)", shown))
    verbs = set(re.findall(r"^  ([a-z]+) ", shown, re.MULTILINE))
    assert verbs == {"token", "refresh", "introspect", "revoke", "trl", "discover", "decode", "keygen"}
    assert len(options) >= 35
    # mdoc writes an option as ".It Fl s , Fl -server Ar URI"
    documented = set(re.findall(r"Fl -([a-z-]+)", manual))
    assert documented == options
    assert verbs == set(re.findall(r"^\.It Cm ([a-z]+)", manual, re.MULTILINE))
    letters = set(re.findall(r"^  -([a-z]),", shown, re.MULTILINE))
    assert letters == set(re.findall(r"^\.It Fl ([a-z]) ,", manual, re.MULTILINE))


def test_version():
    assert re.fullmatch(r"aceclient \d+\.\d+\.\d+\n", aceclient("--version").stdout)
