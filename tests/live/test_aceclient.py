"""aceclient against aced: verbs, both outputs, exit codes, and its manual."""

import json
import os
import re
import socket
import subprocess
import time

import cbor2
import pytest

from realm import SOURCE, program, run
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


@pytest.mark.parametrize("arguments", [
    [], ["nonsense"], ["token", "stray"], ["introspect"], ["decode"], ["discover", "a", "b"], ["--nonsense", "token"],
    ["token"], ["-s", "http://127.0.0.1", "token"], ["-s", "coaps://127.0.0.1", "token"], ["-s", "coaps://", "token"],
    ["-s", "coaps://127.0.0.1", "-u", "a", "token"], ["-t", "0", "discover"], ["-t", "x", "discover"], ["-o", "xml", "discover"],
    ["--key-hex", "0", "decode", "00"], ["--key-hex", "xy", "decode", "00"], ["--key-hex", "", "decode", "00"],
    ["--key-hex", "00" * 65, "decode", "00"], ["-k", "a", "-k", "b", "decode", "00"], ["--audience", "x", "decode", "00"],
    ["--identity-hex", "00", "-u", "a", "discover"], ["-s", "coap://127.0.0.1?x=1", "discover"]],
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
