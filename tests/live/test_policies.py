"""Policies as an operator works with them: expectations in a file, explain, shadows in the log, AIF scopes on the wire."""

import json
import shlex

import cbor2
import pytest

from realm import SOURCE
from tokens import open_token

EXAMPLE = SOURCE / "etc/policies.expect"


def expectations(realm, text, *options, status):
    path = realm.directory / "expect"
    path.write_text(text)
    done = realm.acectl(*options, "policy", "test", path, check=False)
    assert done.returncode == status, (done.stdout, done.stderr)
    return done


def test_example_holds(realm):
    """What its comments tell to set up is set up; then the file is checked."""
    steps = [line.removeprefix("#   ") for line in EXAMPLE.read_text().splitlines() if line.startswith("#   acectl ")]
    for step in steps:
        realm.acectl(*shlex.split(step)[1:])
    done = realm.acectl("policy", "test", EXAMPLE)
    n = sum(line.startswith(("allow", "deny")) for line in EXAMPLE.read_text().splitlines())
    assert len(steps) == 9 and done.stdout == f"{n} expectations, 0 failed\n"

    # each is worth something: the contrary of each fails
    turned = "\n".join({"allow": "deny", "deny": "allow"}.get(line.split(" ")[0], line.split(" ")[0]) +
                       line[len(line.split(" ")[0]):].split(" =>")[0] for line in EXAMPLE.read_text().splitlines())
    done = expectations(realm, turned, "-o", "json", status=1)
    rows = json.loads(done.stdout)["items"]
    assert len(rows) == n and not any(row["passed"] for row in rows), [row for row in rows if row["passed"]]
    assert all(row["why"] for row in rows)


def test_what_fails_is_told(realm):
    client, rs = realm.pair()
    done = expectations(realm, f"""
        deny {client.name} {rs.name} read   # a comment
        allow {client.name} {rs.name} "read write admin"
        allow {client.name} nowhere read
        deny nobody {rs.name} read
        allow {client.name} {rs.name} read => "write"
        allow {client.name} {rs.name} read
    """, status=1)
    lines = done.stdout.splitlines()
    assert lines[-1] == "6 expectations, 5 failed" and len(lines) == 6
    path = realm.directory / "expect"
    assert lines[0].startswith(f"{path}:2: deny {client.name} {rs.name} read") and "allows \"read write\"" in lines[0]
    assert "admin: the resource server has no such scope" in lines[1] or "admin: no policy" in lines[1]
    assert "no resource server has the audience" in lines[2] and "no client \"nobody\"" in lines[3]
    assert "granted is \"read\"" in lines[4]


@pytest.mark.parametrize("text", ["allow a", "deny a b c d", "permit a b", "at noon", "key", "allow 'a b", "allow a b c d e",
                                  "allow a b c => d e"])
def test_mistakes_in_the_file(realm, text):
    done = expectations(realm, "# one\n" + text + "\n", status=2)
    assert done.stdout == "" and f"{realm.directory / 'expect'}:2: " in done.stderr


def test_no_file(realm):
    done = realm.acectl("policy", "test", realm.directory / "none", check=False)
    assert done.returncode == 2 and "none: " in done.stderr


def test_shadow_is_logged_and_counted(realm):
    client, rs = realm.pair()
    realm.acectl("policy", "add", "--client", client.name, "--audience", rs.name, "--effect", "deny", "--shadow", "yes",
                 "--scope", "write")
    before = realm.ctl("status")["process"]["shadow_differences"]
    assert 9 not in realm.token(client, rs, "read write")
    realm.token(client, rs, "read")
    assert realm.ctl("status")["process"]["shadow_differences"] == before + 1
    explained = realm.ctl("explain", client.name, rs.name, "read write")
    assert explained["granted_scope"] == "read write" and explained["shadow"] == {"decision": "granted", "scope": "read"}
    (tried,) = [each for each in explained["considered"] if each["shadow"]]
    assert tried["part"] == "would deny" and tried["effect"] == "deny"
    realm.stop()
    lines = [line for line in realm.log_text().splitlines() if "ACED_SHADOW" in line]
    assert len(lines) == 1 and " ACED_SHADOW=read " in lines[0] + " ", lines


def test_objects_as_scope(realm):
    """RFC 9237 over DTLS, the token opened and its claim decoded by others' code."""
    rs = realm.add_rs(None, "--scope-kind", "aif", scope="aif:/s/temp=GET;/a/led=GET,PUT")
    client = realm.add_client()
    realm.policy(client.name, rs, "aif:/s/temp=GET;/a/led=PUT")
    answer = realm.token(client, rs, cbor2.dumps([["/a/led", 7], ["/s/temp", 1], ["/x", 1]]))
    assert cbor2.loads(answer[9]) == [["/a/led", 4], ["/s/temp", 1]]
    assert open_token(answer[1], rs.token_key)[3][9] == answer[9]
    assert realm.introspect(rs, answer[1])[9] == answer[9]
    (listed,) = realm.ctl_items("token", "list", "--client", client.name)
    assert listed["scope"] == "aif:/a/led=PUT;/s/temp=GET"
    realm.restart()
    assert realm.introspect(rs, answer[1])[9] == answer[9]


def test_in_advance(realm):
    """A token for tomorrow: nbf, and introspection says it is not active yet."""
    client, rs = realm.add_client(), realm.add_rs()
    realm.acectl("policy", "add", "--client", client.name, "--audience", rs.name, "--scope", "read", "--from", "4000000000",
                 "--advance", "604800")
    explained = realm.ctl("explain", client.name, rs.name, "read", "--at", "3999999000")
    assert explained["decision"] == "granted" and explained["not_before_s"] == 4000000000
    assert explained["considered"][0]["part"] == "allows from its beginning on"
    early = realm.ctl("explain", client.name, rs.name, "read")
    assert early["decision"] == "refused" and early["considered"][0]["part"] == "has not begun"
