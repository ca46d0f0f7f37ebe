"""acebench against aced: every kind of load and of credential, what it reports, exit codes, and its manual."""

import json
import re

import pytest

import keys
from realm import SOURCE, program, run
from test_aceclient import put

DONE, ERRORS, USAGE, CONTACT = 0, 1, 2, 3
NO_RATES = {name: 0 for name in ("source_hello_rate", "source_handshake_rate", "source_request_rate", "peer_request_rate",
                                 "server_request_rate", "total_hello_rate", "total_request_rate")}


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A realm without limits of rates; what each kind of credential is shown with; a resource server."""
    from conftest import running

    directory, authority = tmp_path_factory.mktemp("keys"), keys.Authority()
    anchors = put(directory / "ca.pem", authority.pem)
    for realm in running({"limits": NO_RATES, "coaps": {"listen": "127.0.0.1:0", "trust_anchors": anchors}}):
        rs, how = realm.add_rs(), {}
        for kind in ("psk", "rpk", "x509"):
            key = None if kind == "psk" else keys.new_key()
            chain = authority.certify(key, "pump") if kind == "x509" else []
            client = realm.add_client(None, "--refresh-lifetime", "600", private_key=key, chain=chain)
            realm.policy(client, rs)
            how[kind] = ["-u", client.identity.decode(), "--key-hex", client.key.hex()]
            if key:
                how[kind] = ["--private-key", put(directory / f"{kind}.pem", keys.private_pem(key))]
            if chain:
                how[kind] += ["--certificate", put(directory / f"{kind}.crt", keys.pem(*chain))]
        yield realm, rs, how


def acebench(*arguments, status=DONE):
    done = run(program("acebench"), *arguments, check=False)
    assert done.returncode == status, (done.returncode, done.stdout, done.stderr)
    return done


def target(realm, door="coaps"):
    return f"127.0.0.1:{realm.ports[door]}"


@pytest.mark.parametrize("kind", ["psk", "rpk", "x509"])
@pytest.mark.parametrize("what", ["token", "refresh", "get", "handshake-token", "handshake-get"])
def test_load(world, what, kind):
    realm, rs, how = world
    report = json.loads(acebench("-o", "json", *how[kind], "-a", rs.name, "--scope", "read", "-c", "4", "-n", "20", what,
                                 target(realm)).stdout)
    assert (report["what"], report["credential"], report["sessions"]) == (what, kind, 4)
    assert report["answered"] == report["begun"] == 20 and report["errors"] == report["lost"] == 0
    assert report["codes"] == {"2.05" if "get" in what else "2.01": 20}
    assert 0 < report["latency_ms"]["p50"] <= report["latency_ms"]["p99"] <= report["latency_ms"]["max"]


def test_introspection_and_text(world):
    realm, rs, how = world
    client = realm.add_client()
    realm.policy(client, rs)
    access_token = realm.token(client, rs, "read")[1]
    text = acebench("-u", rs.identity.decode(), "--key-hex", rs.key.hex(), "--token-hex", access_token.hex(), "-n", "10",
                    "introspect", target(realm)).stdout
    assert re.search(r"^answered +10 of 10 ", text, re.MULTILINE) and re.search(r"^answers 2.01 +10$", text, re.MULTILINE)
    assert "(psk)" in text


def test_plain(world):
    realm, _, _ = world
    report = json.loads(acebench("-o", "json", "--plain", "-n", "5", "get", target(realm, "coap")).stdout)
    assert report["credential"] == "none" and report["codes"] == {"2.05": 5}


def test_refusals_are_errors(world):
    realm, _, how = world
    report = json.loads(acebench("-o", "json", *how["rpk"], "-a", "nobody", "-n", "5", "token", target(realm), status=ERRORS).stdout)
    assert report["errors"] == 5 and report["codes"] == {"4.00": 5}
    # no refresh token in the first answer, so no session to begin with
    client, rs = realm.pair()
    assert "sessions could be opened" in acebench("-u", client.identity.decode(), "--key-hex", client.key.hex(), "-a", rs.name,
                                                  "--scope", "read", "refresh", target(realm), status=CONTACT).stderr


@pytest.mark.parametrize("arguments, words", [
    ([], "acebench"), (["token"], "acebench"), (["nonsense", "127.0.0.1:1"], "WHAT"), (["token", "127.0.0.1"], "HOST:PORT"),
    (["get", "127.0.0.1:1"], "--key"), (["--certificate", "x", "-k", "a", "get", "127.0.0.1:1"], "--private-key"),
    (["--private-key", "/nonexistent/x", "get", "127.0.0.1:1"], "/nonexistent/x"),
    (["--private-key", "/dev/null", "get", "127.0.0.1:1"], "/dev/null"),
    (["-k", "a", "--priority", "NONSENSE", "get", "127.0.0.1:1"], "--priority"),
    (["-k", "a", "introspect", "127.0.0.1:1"], "--token-hex"), (["-k", "a", "-n", "0", "get", "127.0.0.1:1"], "--requests"),
    (["--plain", "handshake-get", "127.0.0.1:1"], "--plain")])
def test_usage(arguments, words):
    done = acebench(*arguments, status=USAGE)
    assert words in done.stderr and not done.stdout


def test_manual_names_every_kind_of_load():
    manual = (SOURCE / "man/acebench.1").read_text()
    shown = re.search(r"^WHAT: (.*)$", acebench("--help").stdout, re.MULTILINE)[1].split(" | ")
    assert set(shown) == set(re.findall(r"^\.It Cm (\S+)$", manual, re.MULTILINE))
