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
        client, records = realm.add_client(None, "--refresh-lifetime", "600", context=[]), directory / "records"
        realm.policy(client, rs)
        for _ in range(3):
            realm.add_context("client", client)
        records.write_text("".join(f"{answer['record_hex']}\n" for answer in client.records))
        how["oscore"] = ["--oscore", records]
        yield realm, rs, how


def acebench(*arguments, status=DONE):
    done = run(program("acebench"), *arguments, check=False)
    assert done.returncode == status, (done.returncode, done.stdout, done.stderr)
    return done


def target(realm, door="coaps"):
    return f"127.0.0.1:{realm.ports[door]}"


LOADS = ["token", "refresh", "get", "handshake-token", "handshake-get"]


@pytest.mark.parametrize("what, kind", [(what, kind) for kind in ("psk", "rpk", "x509", "oscore")
                                        for what in (LOADS[:3] if kind == "oscore" else LOADS)])
def test_load(world, what, kind):
    realm, rs, how = world
    report = json.loads(acebench("-o", "json", *how[kind], "-a", rs.name, "--scope", "read", "-c", "4", "-n", "20", what,
                                 target(realm, "coap" if kind == "oscore" else "coaps")).stdout)
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


def test_numbers_of_records_go_on(world):
    """From run to run, and through a restart, after which the server wants an Echo amid the load."""
    realm, rs, how = world
    state, before = how["oscore"][1].with_suffix(".state"), 0
    for _ in range(3):
        acebench(*how["oscore"], "-c", "4", "-n", "8", "get", target(realm, "coap"))
        first, before = before, json.loads(state.read_text())["next"]
        assert before - first >= 65536
    assert "5 sessions want one each" in acebench(*how["oscore"], "-c", "5", "get", target(realm, "coap"), status=USAGE).stderr


def test_one_record_as_acectl_prints_it(world, tmp_path):
    realm, rs, how = world
    client = realm.add_client(None, context=[])
    record = put(tmp_path / "record", json.dumps(client.records[0], indent=2).encode())
    realm.policy(client, rs)
    text = acebench("--oscore", record, "--from", "127.0.0.9", "-a", rs.name, "--scope", "read", "-n", "5", "token",
                    target(realm, "coap")).stdout
    assert "(oscore)" in text and re.search(r"^answers 2.01 +5$", text, re.MULTILINE)
    assert int(re.search(r"^bytes on wire (\d+) sent", text, re.MULTILINE)[1]) % 5 == 0


def test_context_that_is_not_there(world, tmp_path):
    realm, _, _ = world
    client = realm.add_client(None, context=[])
    record = put(tmp_path / "record", json.dumps(client.records[0]).encode())
    for credential in realm.ctl_items("client", "credential", "list", client.name):
        realm.acectl("client", "credential", "delete", client.name, str(credential["id"]))
    said = acebench("--oscore", record, "get", target(realm, "coap"), status=CONTACT).stderr
    assert "0 of 1 sessions" in said and said.endswith(": 4.01 Security context not found\n")


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
    (["--plain", "handshake-get", "127.0.0.1:1"], "--plain"), (["--oscore", "x", "handshake-get", "127.0.0.1:1"], "--oscore"),
    (["--oscore", "x", "-k", "a", "get", "127.0.0.1:1"], "no other credential"),
    (["--oscore", "/nonexistent/x", "get", "127.0.0.1:1"], "/nonexistent/x"),
    (["--oscore", "/dev/null", "get", "127.0.0.1:1"], "/dev/null:1: "), (["--oscore", "/dev/null", "-c", "2", "get", "127.0.0.1:1"], "0 records")])
def test_usage(arguments, words):
    done = acebench(*arguments, status=USAGE)
    assert words in done.stderr and not done.stdout


def test_manual_names_every_kind_of_load():
    manual = (SOURCE / "man/acebench.1").read_text()
    shown = re.search(r"^WHAT: (.*)$", acebench("--help").stdout, re.MULTILINE)[1].split(" | ")
    assert set(shown) == set(re.findall(r"^\.It Cm (\S+)$", manual, re.MULTILINE))
