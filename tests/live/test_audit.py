"""The audit trail: what it tells, that others can verify it, and that what is done to its file shows."""

import hashlib
import re
import sqlite3
import subprocess
import sys
import time

import cbor2

import trail
from realm import SOURCE, program, run, token
from tokens import open_token


def number(rs, answer):
    return int.from_bytes(open_token(answer[1], rs.token_key)[3][7], "big")


def export(realm, *options):
    """The mark in front, rows, and lines as they were printed; the chain must fit."""
    before, rows, lines = trail.read_export(realm.acectl("audit", "export", *options).stdout)
    trail.follow(before, rows)
    return before, rows, lines


def change_file(realm, sql):
    """As somebody does who has the file while aced does not run."""
    database = sqlite3.connect(realm.state / "aced.db")
    database.executescript(f"DROP TRIGGER audit_no_update; DROP TRIGGER audit_no_gap; DROP TRIGGER audit_no_delete; {sql}")
    database.close()


def test_export_tells_who_did_what_and_why(realm):
    client, rs = realm.pair()
    with realm.connect(client) as session:
        granted = token(session, rs, "read")
        assert session.post("token", cbor2.dumps({5: rs.name, 9: "fly"})).status == "4.00"
    realm.acectl("token", "revoke", number(rs, granted).to_bytes(4, "big").hex())
    realm.acectl("client", "suspend", client.name)
    before, rows, lines = export(realm)
    records = trail.decode(rows)
    assert before == trail.Mark()
    assert [record[trail.ACTION] for record in records[-4:]] == [
        "POST /token", "POST /token", f"DELETE /v1/tokens/{number(rs, granted):08x}", f"PATCH /v1/clients/{client.name}"]
    grant, refusal, revocation, suspension = records[-4:]
    assert grant[trail.PARTY] == client.name and grant[trail.OBJECT] == rs.name and grant[trail.CODE] == 65
    assert grant[trail.ASKED] == grant[trail.GRANTED] == "read" and grant[trail.TOKEN] == number(rs, granted)
    assert grant[trail.EXPIRES] > rows[-4][1] >= time.time() - 600 and len(grant[trail.POLICIES]) == 1
    assert grant[trail.PEER].startswith("127.0.0.1:") and trail.UID not in grant
    assert refusal[trail.REFUSAL] == "scope" and refusal[trail.ASKED] == "fly" and refusal[trail.WHY]
    assert trail.GRANTED not in refusal and trail.TOKEN not in refusal
    assert revocation[trail.TOKEN] == number(rs, granted) and revocation[trail.CODE] == 66
    assert suspension[trail.BODY] == '{"suspended":true}' and suspension[trail.OBJECT] == client.name
    assert suspension[trail.UID] == revocation[trail.UID] and trail.CREDENTIAL not in suspension
    # the same in words, and in the log
    assert lines[-4]["actor"] == client.name and lines[-4]["cti"] == f"{number(rs, granted):08x}"
    assert lines[-4]["decision"] == f"{grant[trail.DECISION] & 0xffffffff:08x}"
    line = re.search(rf"info: POST /token 2.01 .*ACED_AUDIT={rows[-4][0]}\b.*", realm.log_text())[0]
    for field in (f"ACED_ACTOR={client.name}", f"ACED_OBJECT={rs.name}", "ACED_SCOPE=read", "ACED_METHOD=POST",
                  f"ACED_DECISION={lines[-4]['decision']}", f"ACED_TOKEN={lines[-4]['cti']}", "ACED_CHANNEL=dtls",
                  f"ACED_CREDENTIAL={grant[trail.CREDENTIAL]}", "ACED_CREDENTIAL_KIND=psk"):
        assert field in line.split(), line
    # keys that were registered are not among it, in whatever form
    for party in (client, rs):
        for key in (party.key, party.token_key):
            assert not key or not any(key in row[2] or key.hex().encode() in row[2].lower() for row in rows)


def test_the_manual_verifies_an_export(realm):
    """The program that aced(8) shows says what acectl says; of a changed export it says so."""
    realm.pair()
    text = (SOURCE / "man/aced.8").read_text()
    program_text = text.partition("This verifies it:\n.Bd -literal\n")[2].partition(".Ed")[0].replace("\\e", "\\")
    script = realm.directory / "verify.py"
    script.write_text(program_text)
    exported = realm.acectl("audit", "export").stdout
    verified = subprocess.run([sys.executable, script], input=exported, capture_output=True, text=True, check=True, timeout=60)
    assert verified.stdout.strip() == realm.ctl("audit", "verify")["newest"]
    for wrong in (exported.replace('"at_s":1', '"at_s":2', 1), "".join(exported.splitlines(True)[:2] + exported.splitlines(True)[3:])):
        assert subprocess.run([sys.executable, script], input=wrong, capture_output=True, text=True, timeout=60).returncode != 0


def test_export_is_long_and_can_begin_later(make_realm):
    realm = make_realm({"limits": {"peer_request_rate": 0, "tokens_per_client_max": 10000}}).start()
    client, rs = realm.pair()
    with realm.connect(client) as session:
        for _ in range(1030):  # more than two pages
            token(session, rs, "read")
    before, rows, _ = export(realm)
    later, rest, _ = export(realm, "--since", str(rows[-1][1]))
    assert later == (trail.Mark(rows[-len(rest) - 1][0], rows[-len(rest) - 1][3]) if len(rest) < len(rows) else before)
    assert rest == rows[-len(rest):]
    assert export(realm, "--since", "2100-01-01T00:00:00Z")[:2] == (trail.Mark(rows[-1][0], rows[-1][3]), [])


def test_list_is_filtered(realm):
    client, rs = realm.pair()
    realm.token(client, rs, "read")
    listed = realm.ctl_items("audit", "list", "--actor", client.name)
    assert [row["action"] for row in listed] == ["POST /token"]
    about = realm.ctl_items("audit", "list", "--about", client.name)
    assert {row["action"].split()[0] for row in about} == {"POST"} and len(about) == 4  # add, credential, policy, token
    assert realm.ctl_items("audit", "list", "--since", "2100-01-01T00:00:00Z") == []
    table = realm.acectl("audit", "list", "--about", rs.name).stdout
    assert "POST /token" in table and client.name in table


def test_tampering_shows(realm):
    client, rs = realm.pair()
    realm.token(client, rs, "read")
    noted = realm.ctl("audit", "verify")
    assert noted["faults"] == 0 and noted["rows"] == int(noted["newest"].partition(":")[0])
    assert noted["newest"] in realm.acectl("audit", "verify", "--against", noted["newest"]).stdout

    realm.stop()
    database = sqlite3.connect(realm.state / "aced.db")
    for careless in ("UPDATE audit SET at_s = 0", "DELETE FROM audit WHERE seq = 3", "DELETE FROM audit"):
        try:
            database.execute(careless)
            raise AssertionError(f"{careless} was done")
        except sqlite3.IntegrityError:
            pass
    database.close()
    change_file(realm, "UPDATE audit SET at_s = at_s - 1 WHERE seq = 3")
    realm.start()
    done = realm.acectl("audit", "verify", check=False)
    assert done.returncode == 1 and "row 3 " in done.stderr
    assert realm.acectl("audit", "export", check=False).returncode == 1
    done = realm.acectl("check", check=False)
    assert done.returncode == 1 and "audit row 3" in done.stdout + done.stderr
    # the rest is good: it is kept and put back, and told
    realm.acectl("backup", realm.directory / "backup")
    realm.stop()
    done = run(program("aced"), "-c", realm.config_path, "--restore", realm.directory / "backup")
    assert "audit row 3" in done.stderr
    realm.start()
    assert realm.ctl_items("audit", "list")[-1]["action"] == "restore"


def test_a_chain_made_anew_shows_to_who_noted_a_hash(realm):
    client, rs = realm.pair()
    realm.token(client, rs, "read")
    noted = realm.ctl("audit", "verify")["newest"]
    realm.stop()
    database = sqlite3.connect(realm.state / "aced.db")
    rows, mark, script = trail.read_database(database), trail.Mark(), ""
    database.close()
    for seq, at_s, record, _ in rows:
        record = record.replace(b"POST", b"MOST")
        hashed = mark.hash + seq.to_bytes(8, "big") + at_s.to_bytes(8, "big") + record
        mark = trail.Mark(seq, hashlib.sha256(hashed).digest())
        script += f"UPDATE audit SET record = x'{record.hex()}', hash = x'{mark.hash.hex()}' WHERE seq = {seq};"
    change_file(realm, script)
    realm.start()
    assert realm.ctl("audit", "verify")["newest"] == str(mark)
    done = realm.acectl("audit", "verify", "--against", noted, check=False)
    assert done.returncode == 1 and "has another hash" in done.stderr


def test_rows_are_kept_as_long_as_configured(make_realm):
    realm = make_realm({"server": {"audit_keep_s": 1}}).start()
    client, rs = realm.pair()
    realm.token(client, rs, "read")
    n_rows = realm.ctl("status")["audit"]["audit_newest"]
    deadline = time.monotonic() + 60
    while realm.ctl("status")["audit"]["audit_purged"] < n_rows - 1:
        assert time.monotonic() < deadline
        time.sleep(0.2)
    assert realm.ctl("status")["audit"]["audit_rows"] == 1
    before, rows, _ = export(realm)
    assert before.seq == n_rows - 1 and len(rows) == 1
    assert realm.ctl("audit", "verify")["rows"] == 1
    realm.restart()
    assert realm.ctl("audit", "verify") == {"rows": 1, "newest": str(trail.Mark(rows[0][0], rows[0][3])), "faults": 0}


def test_tokens_are_listed_by_end_and_by_issue(realm):
    client, rs = realm.add_client(), realm.add_rs()
    realm.policy(client, rs, "read", "--max-lifetime", "100")
    realm.policy(client, rs, "write", "--max-lifetime", "50")
    with realm.connect(client) as session:
        ctis = [f"{number(rs, token(session, rs, scope)):08x}" for scope in ("read", "write", "read", "write")]
    other, _ = realm.pair()

    def listed(*options):
        return [row["cti"] for row in realm.ctl_items("token", "list", *options)]

    assert listed() == ctis
    assert listed("--expiring", "10") == []
    assert listed("--expiring", "70") == [ctis[1], ctis[3]]
    assert listed("--expiring", "1000") == [ctis[1], ctis[3], ctis[0], ctis[2]]
    assert listed("--expiring", "1000", "--client", client.name) == ctis
    assert listed("--expiring", "70", "--rs", rs.name) == [ctis[1], ctis[3]]
    assert listed("--expiring", "70", "--client", other.name) == []
    assert listed("--since", str(int(time.time()) - 1000)) == ctis
    assert listed("--since", "2100-01-01T00:00:00Z") == []
    assert listed("--since", str(int(time.time()) - 1000), "--expiring", "70", "--rs", rs.name) == [ctis[1], ctis[3]]
    realm.acectl("token", "revoke", ctis[1])
    assert listed("--expiring", "70") == [ctis[3]]
    assert listed("--expiring", "70", "--all") == [ctis[1], ctis[3]]
