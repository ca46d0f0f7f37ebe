"""Whole fleets: acectl export and acectl apply."""

import csv
import json
import os
import re
import sqlite3
import stat
import subprocess
import threading
import time

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519

import coap
import oscore
import realm as realms

# each apply changes these, whatever it does
NOT_COMPARED = {"leases", "meta", "audit"}


@pytest.fixture
def other():
    """A second, empty instance."""
    realm = realms.Realm()
    realm.init()
    realm.start()
    yield realm
    realm.close()


def spki(key):
    return key.public_key().public_bytes(serialization.Encoding.DER,
                                         serialization.PublicFormat.SubjectPublicKeyInfo).hex()


def everything():
    """Rows with each member of each kind away from its default, somewhere."""
    later = int(time.time()) + 86400
    return [
        {"kind": "server", "name": "plain", "scopes": "read write", "identity": "plain"},
        {"kind": "server", "name": "mac", "token_format": "mac0", "audiences": [], "group_audiences": ["hall,1"],
         "token_key_hex": "ab" * 32, "token_kid_hex": "0a", "default_lifetime_s": 60, "max_lifetime_s": 120},
        {"kind": "server", "name": "derives", "derives_key": True, "has_clock": False, "default_lifetime_s": 600},
        {"kind": "key", "server": "derives", "role": "derivation", "kid_hex": "05", "key_hex": "78" * 16},
        {"kind": "key", "server": "plain", "active_from_s": later, "kid_hex": "01", "key_hex": "77" * 16},
        {"kind": "server", "name": "signed", "token_format": "sign1", "pop_keys": ["P-256", "Ed25519"], "trl": True,
         "public_key_hex": spki(ec.generate_private_key(ec.SECP256R1())), "profiles": ["coap_dtls"]},
        {"kind": "server", "name": "opaque", "token_format": "opaque", "scopes": "hex:0102ff",
         "default_scope": "hex:0102ff", "suspended": True, "profiles": ["coap_dtls", "coap_oscore"],
         "preferred_profile": "coap_oscore", "oscore_alg": "A256GCM", "oscore_hkdf": "SHA-512"},
        {"kind": "client", "name": "c1", "labels": ["b", "a"], "identity": "c1", "key_hex": "00" * 16,
         "default_audience": "plain", "max_lifetime_s": 5, "tokens_max": 3, "refresh_lifetime_s": 99,
         "may_introspect": True, "suspended": True},
        {"kind": "client", "name": "c2", "identity_hex": "00ff"},
        {"kind": "credential", "client": "c2", "identity": 'with "quotes", and; more', "key_hex": "99" * 32},
        {"kind": "credential", "client": "c2", "public_key_hex": spki(ed25519.Ed25519PrivateKey.generate()),
         "kid_hex": "aa"},
        {"kind": "credential", "client": "c2", "credential": "x509", "match": "dns:c2.example"},
        {"kind": "client", "name": "c3", "credential": "oscore"},
        {"kind": "credential", "client": "c3", "sender_id_hex": "", "recipient_id_hex": "05", "id_context_hex": "",
         "master_secret_hex": "c3" * 32, "master_salt_hex": "", "alg": "A256GCM", "hkdf": "SHA-512", "renews": True},
        {"kind": "credential", "server": "plain", "credential": "oscore", "sender_id_hex": "0a0b", "id_context_hex": "0a"},
        {"kind": "client", "name": "bare"},
        {"kind": "policy", "client": "c1", "audience": "plain", "scope": "write read"},
        {"kind": "policy", "label": "a", "audience": "plain", "scope": "read", "max_lifetime_s": 9, "from_s": 5,
         "until_s": later, "advance_s": 3},
        {"kind": "policy", "label": "b", "audience": "plain", "effect": "deny", "shadow": True, "days": "mon-fri",
         "hours": "08:00-18:00"},
    ]


def rows_file(realm, rows, name="rows"):
    path = realm.directory / name
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def apply(realm, rows, *options, check=True):
    """Apply rows, or a file; aced's answer."""
    path = rows_file(realm, rows) if isinstance(rows, list) else rows
    done = realm.acectl("-o", "json", "apply", *options, path, check=check)
    return json.loads(done.stdout)


def results(answer):
    return [item["result"] for item in answer["items"]]


def export(realm, *options):
    return realm.acectl("export", *options).stdout


def but_numbers(text, format):
    """Without what is different in each instance: from where on numbers of its own are free elsewhere."""
    if format == "json":
        return re.sub(r'"sender_number":\d+', "", text)
    rows = list(csv.reader(text.splitlines()))
    at = rows[0].index("sender_number")
    return [row[:at] + row[at + 1:] for row in rows]


def database(realm):
    """All rows of all tables that an apply has to leave alone when it changes nothing."""
    connection = sqlite3.connect(f"file:{realm.state}/aced.db?mode=ro", uri=True)
    try:
        names = [name for (name,) in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")]
        return {name: connection.execute(f"SELECT * FROM {name}").fetchall() for name in names
                if name not in NOT_COMPARED}
    finally:
        connection.close()


def test_export_applied_to_an_empty_instance_gives_the_same(realm, other):
    first = apply(realm, everything())
    assert first["applied"] and set(results(first)) == {"created"}
    for format in "json", "csv":
        text = export(realm, "--with-keys", "-o", format)
        path = realm.directory / f"all.{format}"
        path.write_text(text)
        answer = apply(other, path)
        assert answer["applied"] and set(results(answer)) == ({"created"} if format == "json" else {"unchanged"})
        assert but_numbers(export(other, "--with-keys", "-o", format), format) == but_numbers(text, format)
        assert set(results(apply(realm, path))) == {"unchanged"}


def test_csv_alone_makes_the_same_instance(realm, other):
    apply(realm, everything())
    path = realm.directory / "all.csv"
    realm.acectl("-o", "csv", "export", "--with-keys", path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert len(list(csv.DictReader(path.open()))) == len(export(realm, "--with-keys").splitlines())
    assert set(results(apply(other, path))) == {"created"}
    assert but_numbers(export(other, "--with-keys"), "json") == but_numbers(export(realm, "--with-keys"), "json")


def test_applied_twice_changes_nothing(realm):
    rows = everything()
    apply(realm, rows)
    before = database(realm)
    again = apply(realm, rows)
    assert again["applied"] and again["unchanged"] == len(rows)
    assert database(realm) == before


def test_keys_are_not_exported_unasked(realm):
    made = apply(realm, everything() + [{"kind": "client", "name": "new", "identity": "new"}])
    text = export(realm) + export(realm, "-o", "csv") + realm.log_text()
    keys = ["78" * 16, "77" * 16, "ab" * 32, "00" * 16, "99" * 32]
    keys += [value for item in made["items"] for name, value in item.items()
             if name.endswith("key_hex") and name != "derivation_key_hex"]  # a later row has set another one
    assert len(keys) > 7 and len(made["items"][-1]["key_hex"]) == 32  # made, and told once
    for key in keys:
        assert key not in text
        assert key in export(realm, "--with-keys")
    # content with the keys that are there
    path = realm.directory / "no-keys"
    realm.acectl("export", path)
    assert set(results(apply(realm, path))) == {"unchanged"}
    # who takes them along is in the audit trail
    assert "keys" in realm.acectl("-o", "json", "audit", "list").stdout


def test_one_bad_row_among_a_thousand(realm):
    rows = [{"kind": "client", "name": f"c{i}", "identity": f"c{i}"} for i in range(1000)]
    rows[617]["labels"] = ["-no name"]
    before = database(realm)
    path = rows_file(realm, rows)
    done = realm.acectl("apply", path, check=False)
    assert done.returncode == 1
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("618 ") or "refused" in line][:1]
    assert "c617" in line and "labels" in line
    assert "nothing was applied" in done.stdout
    answer = apply(realm, rows, check=False)
    assert not answer["applied"] and answer["refused"] == 1
    assert [item["line"] for item in answer["items"] if item["result"] == "refused"] == [618]
    assert not any("key_hex" in item for item in answer["items"])  # none that is not in force either
    assert "key_hex" not in done.stdout
    assert database(realm) == before
    # the good ones alone, when asked for
    answer = apply(realm, rows, "--keep-going", check=False)
    assert answer["applied"] and answer["created"] == 999 and answer["refused"] == 1
    assert len(export(realm).splitlines()) == 999


def test_a_file_that_cannot_be_read_is_refused_as_a_whole(realm):
    before = database(realm)
    for text in ('{"kind": "client", "name": "a"}\n{"kind": ', "kind,name\nclient,a\nclient,\"b\n",
                 "kind,name\nclient,a,b\n", "kind,kind\n", '{"clients": [{"name": "a"}]} x', "[1"):
        path = realm.directory / "bad"
        path.write_text(text)
        done = realm.acectl("apply", path, check=False)
        assert done.returncode == 1 and "nothing was applied" in done.stderr, text
    assert database(realm) == before


def test_dry_run_and_diff_change_nothing(realm):
    apply(realm, everything())
    before = database(realm)
    rows = [
        {"kind": "client", "name": "c1", "labels": ["a", "c"], "identity": "c1", "key_hex": "12" * 16},
        {"kind": "client", "name": "new", "identity": "new"},
        {"kind": "client", "name": "c2", "absent": True},
        {"kind": "server", "name": "plain", "token_key_hex": "34" * 16, "max_lifetime_s": 7, "scopes": "write read"},
        {"kind": "policy", "label": "a", "audience": "plain", "absent": True},
        {"kind": "server", "name": "mac"},
    ]
    wanted = ["changed", "created", "deleted", "changed", "deleted", "unchanged"]
    for option in "--dry-run", "--diff":
        answer = apply(realm, rows, option)
        assert not answer["applied"] and results(answer) == wanted
        assert not any(name.endswith("key_hex") for item in answer["items"] for name in item)
        assert database(realm) == before
    changes = answer["items"][0]["changes"]
    assert sorted(changes["labels"]["from"]) == ["a", "b"] and changes["labels"]["to"] == ["a", "c"]
    assert changes["key_hex"] == "differs" and "12" * 16 not in json.dumps(answer)
    assert answer["items"][3]["changes"]["max_lifetime_s"] == {"from": 0, "to": 7}
    assert answer["items"][3]["changes"]["token_key_hex"] == "differs"
    table = realm.acectl("apply", "--diff", rows_file(realm, rows)).stdout
    assert "key_hex: differs" in table and "max_lifetime_s: 0 -> 7" in table
    # and now for good
    assert results(apply(realm, rows)) == wanted
    names = {row.get("name") for row in map(json.loads, export(realm).splitlines())}
    assert "new" in names and "c2" not in names
    assert results(apply(realm, rows)) == ["unchanged"] * 6


def test_a_spreadsheet(realm):
    """As a spreadsheet in a country of decimal commas saves it, with a column that nobody filled in."""
    text = ("\ufeffkind;name;identity;key_hex;labels;suspended;default_audience;tokens_max\r\n"
            "client;meter 1;;;;;;\r\n" "client;meter-1;meter-1;" + "01" * 16 + ";meters floor-1;FALSE;;5\r\n"
            "\r\n" 'client;meter-2;"me;ter";' + "02" * 16 + ';"meters";yes;hall;\r\n')
    path = realm.directory / "meters.csv"
    path.write_bytes(text.encode())
    answer = apply(realm, path, check=False)
    assert [item["line"] for item in answer["items"] if item["result"] == "refused"] == [2]
    path.write_bytes(text.replace("meter 1", "meter-0").encode())
    assert apply(realm, path)["created"] == 3
    assert realm.ctl("client", "show", "meter-1")["labels"] == ["floor-1", "meters"]
    assert realm.ctl("client", "show", "meter-2")["suspended"] is True
    assert realm.ctl_items("client", "credential", "list", "meter-2")[0]["identity"] == "me;ter"
    # an empty cell says nothing, two quotes say that there is none
    path.write_text('kind,name,labels,default_audience\nclient,meter-1,,\nclient,meter-2,"""""",""""""\n')
    assert results(apply(realm, path)) == ["unchanged", "changed"]
    shown = realm.ctl("client", "show", "meter-2")
    assert shown["labels"] == [] and shown["default_audience"] == ""
    assert realm.ctl("client", "show", "meter-1")["labels"] == ["floor-1", "meters"]


def test_forms_of_json(realm):
    forms = ['[{"kind": "client", "name": "a"}, {"kind": "client", "name": "b"}]',
             '{"clients": [{"name": "a"}, {"name": "b"}], "policies": []}',
             '{"kind": "client",\n "name": "a"} {"kind": "client", "name": "b"}\n']
    wanted = ["created", "created"]
    for form in forms:
        done = subprocess.run([realms.program("acectl"), "-s", realm.control, "-o", "json", "apply", "-"],
                              input=form.encode(), capture_output=True, timeout=60)
        assert done.returncode == 0, done.stderr
        assert results(json.loads(done.stdout)) == wanted
        wanted = ["unchanged", "unchanged"]


def test_applied_parties_get_tokens(realm):
    apply(realm, [
        {"kind": "server", "name": "lock", "scopes": "open", "token_key_hex": "55" * 16, "identity": "lock",
         "key_hex": "66" * 16},
        {"kind": "client", "name": "phone", "labels": ["staff"], "identity": "phone", "key_hex": "44" * 16},
        {"kind": "policy", "label": "staff", "audience": "lock", "scope": "open"},
    ])
    phone, lock = (realms.Party(name, name.encode(), bytes.fromhex(key * 16)) for name, key in
                   (("phone", "44"), ("lock", "66")))
    access_token = realm.token(phone, lock, "open")[1]
    assert realm.introspect(lock, access_token)[10] is True
    # another key for the same identity: the old one is worth nothing
    with realm.connect(phone) as session:
        assert results(apply(realm, [{"kind": "client", "name": "phone", "identity": "phone",
                                      "key_hex": "43" * 16}])) == ["changed"]
        assert session.post("token", b"\xa1\x05dlock").status == "4.01"
    phone.key = b"\x43" * 16
    realm.token(phone, lock, "open")


def fleet(n, start=0):
    return [{"kind": "client", "name": f"meter-{i:06}", "labels": ["meters"], "identity": f"meter-{i:06}",
             "key_hex": os.urandom(16).hex()} for i in range(start, start + n)]


def count_clients(realm):
    return realm.ctl("status")["store"]["clients"]


def test_killed_in_the_midst_it_is_all_or_nothing(realm):
    rows = fleet(8000)
    path = rows_file(realm, rows)
    for _ in range(3):
        process = subprocess.Popen([realms.program("acectl"), "-s", realm.control, "apply", path],
                                   stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        # once it is under way its pages are on their way into the log, or it has ended
        while process.poll() is None and cpu_ticks(realm) < 30:
            pass
        realm.kill()
        process.communicate(timeout=60)
        realm.start()
        n = count_clients(realm)
        assert n in (0, 8000) and (n == 8000 or process.returncode != 0)
        assert "no faults" in realm.acectl("check").stdout
    assert apply(realm, path)["applied"]
    assert count_clients(realm) == 8000
    assert "no faults" in realm.acectl("check").stdout


def cpu_ticks(realm):
    with open(f"/proc/{realm.process.pid}/stat") as file:
        fields = file.read().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


def test_devices_are_served_between_batches(make_realm):
    realm = make_realm({"limits": {"peer_request_rate": 0, "tokens_per_client_max": 1000000}})
    realm.start()
    client, rs = realm.pair()
    path = rows_file(realm, fleet(20000))
    served, ended = [], threading.Event()
    with realm.connect(client) as session:
        process = subprocess.Popen([realms.program("acectl"), "-s", realm.control, "-o", "json", "apply", "--batch",
                                    "500", path], stdout=subprocess.PIPE)
        thread = threading.Thread(target=lambda: (process.communicate(timeout=120), ended.set()))
        thread.start()
        while not ended.is_set():
            begin = time.monotonic()
            realms.token(session, rs, "read")
            served.append(time.monotonic() - begin)
        thread.join()
    assert process.returncode == 0 and count_clients(realm) == 20001
    assert len(served) > 20  # one between two batches, at least every other time
    assert apply(realm, path, "--batch", "7000")["unchanged"] == 20000


def test_a_refused_batch_stops_those_behind_it(realm):
    rows = fleet(30)
    rows[14]["labels"] = ["-"]
    answer = apply(realm, rows, "--batch", "10", check=False)
    assert [item["line"] for item in answer["items"]] == list(range(1, 21)) and answer["refused"] == 1
    assert count_clients(realm) == 10
    answer = apply(realm, rows, "--batch", "10", "--keep-going", check=False)
    assert answer["rows"] == 30 and count_clients(realm) == 29


def test_export_is_of_one_moment(realm):
    """A row changed while the export leaves is in it as it was when the export began."""
    apply(realm, fleet(5000))
    process = subprocess.Popen(["curl", "-sS", "--limit-rate", "1M", "--unix-socket", realm.control,
                                "http://aced/v1/export"], stdout=subprocess.PIPE)
    first = process.stdout.readline()
    realm.acectl("client", "set", "meter-004999", "--label", "changed")
    realm.acectl("client", "delete", "meter-004998")
    rows = [json.loads(line) for line in [first, *process.stdout]]
    process.stdout.close()
    assert process.wait(60) == 0 and len(rows) == 5000
    assert rows[4999]["labels"] == ["meters"]


def test_too_large_a_body(realm):
    realm.stop()
    realm.write_config({"limits": {"apply_body_max": 100000}})
    realm.start()
    done = realm.acectl("apply", rows_file(realm, fleet(5000)), check=False)
    assert done.returncode == 1 and "apply_body_max" in done.stderr and "--batch" in done.stderr
    assert apply(realm, fleet(5000), "--batch", "100")["created"] == 5000


# ---- security contexts: numbers that an instance used are not used by another one


def own_number(session):
    """The server's own, under which it asks a context that it did not know yet for an Echo."""
    session.request(coap.GET, ".well-known/core", echo=False)
    return int.from_bytes(oscore.Option.decode(next(v for n, v in session.outer.options if n == oscore.OSCORE)).piv, "big")


def sender_numbers(text):
    return [row["sender_number"] for row in map(json.loads, text.splitlines()) if "sender_number" in row]


def next_number(realm):
    connection = sqlite3.connect(f"file:{realm.state}/aced.db?mode=ro", uri=True)
    try:
        return connection.execute("SELECT next FROM leases WHERE kind = 3").fetchone()[0]
    finally:
        connection.close()


def test_no_number_is_used_twice_elsewhere(realm, other):
    moves, stays = realm.add_client(), other.add_client()
    context = realm.add_context("client", moves)
    here = own_number(realm.speak(context))
    # the other one is at work already, with numbers that it took from its store before
    assert own_number(other.speak(other.add_context("client", stays))) < 2**32
    text = export(realm, "--with-keys")
    (number,) = set(sender_numbers(text))
    assert number > here + 2**32 - 2**20
    path = realm.directory / "all.json"
    path.write_text(text)
    assert apply(other, path)["applied"]
    there = own_number(other.speak(oscore.Context.of(moves.records[0]["record"])))
    assert number <= there < number + 2**20
    assert own_number(other.speak(other.add_context("client", stays))) > there
    # once more, there and where it came from, nothing is raised
    before = next_number(realm), next_number(other)
    for instance in realm, other:
        assert set(results(apply(instance, path))) == {"unchanged"}
    assert (next_number(realm), next_number(other)) == before
    # unless the first has used so many meanwhile that those might meet the other's
    rows = [json.loads(line) | {"sender_number": number + 2**33} if "sender_number" in line else json.loads(line)
            for line in text.splitlines()]
    assert set(results(apply(other, rows))) == {"unchanged"} and next_number(other) == number + 2**33
    assert own_number(other.speak(other.add_context("client", stays))) >= number + 2**33


def test_a_context_is_known_by_its_ids(realm):
    ids = {"kind": "credential", "client": "c", "sender_id_hex": "AB", "id_context_hex": "01"}
    rows = [{"kind": "client", "name": "c"}, ids, ids | {"id_context_hex": "02"}]
    first = apply(realm, rows)
    assert results(first) == ["created"] * 3
    made = [item["record_hex"] for item in first["items"][1:]]
    assert len(set(made)) == 2
    assert results(apply(realm, rows)) == ["unchanged"] * 3
    # another secret, or another parameter, is another context: the old one goes
    changed = apply(realm, [ids | {"master_secret_hex": "ab" * 16}], "--diff")
    assert changed["items"][0]["changes"] == {"master_secret_hex": "differs"}
    assert results(apply(realm, [ids | {"master_secret_hex": "ab" * 16, "renews": True}])) == ["changed"]
    assert [each["renews"] for each in realm.ctl_items("client", "credential", "list", "c")] == [False, True]
    # a row that names none means the one that there is, and a ninth with one ID is refused, with all of its file
    assert results(apply(realm, [{"kind": "credential", "client": "c", "credential": "oscore"}])) == ["unchanged"]
    many = [ids | {"id_context_hex": f"{n:02x}"} for n in range(1, 10)]
    answer = apply(realm, many, check=False)
    assert not answer["applied"] and results(answer)[-1] == "refused" and "8 contexts" in answer["items"][-1]["detail"]
    assert "record_hex" not in str(answer)
    assert results(apply(realm, [ids | {"absent": True}, ids | {"id_context_hex": "02", "absent": True}])) == ["deleted"] * 2
    assert realm.ctl_items("client", "credential", "list", "c") == []
