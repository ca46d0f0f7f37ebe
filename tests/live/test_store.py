"""The database while aced serves, and between two runs: backup, check, restore, growth."""

import shutil
import socket
import sqlite3
import stat
import subprocess
import threading

import pytest

import coap
from realm import program, run, token
from tokens import open_token

RESTORE_ADVANCE = 1 << 40
RESTORE_ADVANCE_OSCORE = 3 * 2**31


def restore(realm, backup, check=True):
    return run(program("aced"), "-c", realm.config_path, "--restore", backup, check=check)


def rows(path, sql):
    """From a database that nobody has open."""
    with sqlite3.connect(f"file:{path}?immutable=1", uri=True) as database:
        return database.execute(sql).fetchall()


def active(realm, rs, access_token):
    return realm.introspect(rs, access_token).get(10, False)


def cti(rs, answer):
    return int.from_bytes(open_token(answer[1], rs.token_key)[3][7], "big")


def test_backup_is_a_whole_database(realm):
    client, rs = realm.pair()
    answer = realm.token(client, rs, "read")
    path = realm.directory / "backup"
    told = realm.ctl("backup", path)
    assert told["file"] == str(path) and told["size"] == path.stat().st_size
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert rows(path, "PRAGMA integrity_check") == [("ok",)]
    assert rows(path, "SELECT name FROM clients") == [(client.name,)]
    assert rows(path, "SELECT number FROM tokens") == [(cti(rs, answer),)]
    assert sorted(p.name for p in realm.directory.iterdir() if p.name.startswith("backup")) == ["backup"]
    # neither the keys nor what they are sealed with
    content = path.read_bytes()
    for secret in (client.key, rs.key, rs.token_key, (realm.state / "seal.key").read_bytes()):
        assert secret not in content


def test_backup_under_load_holds_nobody_up(make_realm):
    """Tokens go on being issued while copies are made; each copy has every token that was answered before it began."""
    realm = make_realm({"limits": {"peer_request_rate": 0, "server_request_rate": 0, "tokens_per_client_max": 1000000}}).start()
    client, rs = realm.pair()
    known, stop, faults = [], threading.Event(), []

    def ask():
        try:
            with realm.connect(client) as session:
                while not stop.is_set():
                    known.append(cti(rs, token(session, rs, "read")))
        except BaseException as fault:  # told by the test's own thread
            faults.append(fault)

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        for n in range(5):
            before = len(known)
            path = realm.directory / f"backup{n}"
            realm.ctl("backup", path)
            there = {number for number, in rows(path, "SELECT number FROM tokens")}
            assert set(known[:before]) <= there
            assert rows(path, "PRAGMA integrity_check") == [("ok",)]
            assert realm.acectl("check").stdout == "The database has no faults.\n"
    finally:
        stop.set()
        thread.join()
    assert not faults and len(known) > 5


def test_backup_that_cannot_be_written_leaves_what_was_there(realm):
    path = realm.directory / "backup"
    path.write_text("earlier")
    done = realm.acectl("backup", realm.directory / "nowhere" / "backup", check=False)
    assert done.returncode == 1 and "nowhere" in done.stderr
    realm.kill()
    done = realm.acectl("backup", path, check=False)
    assert done.returncode == 3 and path.read_text() == "earlier"
    assert [p.name for p in realm.directory.iterdir() if p.name.startswith("backup")] == ["backup"]
    realm.start()


def test_restore(realm):
    client, rs = realm.pair()
    before = realm.token(client, rs, "read")
    revoked = realm.token(client, rs, "read")
    backup = realm.directory / "backup"
    realm.ctl("backup", backup)
    after = realm.token(client, rs, "read")
    realm.acectl("token", "revoke", open_token(revoked[1], rs.token_key)[3][7].hex())
    realm.acectl("client", "add", "later")

    # not while it runs
    done = restore(realm, backup, check=False)
    assert done.returncode == 1 and "another aced" in done.stderr
    assert active(realm, rs, after[1])

    realm.stop()
    told = restore(realm, backup).stdout
    kept = [p for p in realm.state.iterdir() if p.name.startswith("aced.db.before-")]
    assert len(kept) == 1 and str(kept[0]) in told
    assert {name for name, in rows(kept[0], "SELECT name FROM clients")} == {client.name, "later"}
    assert stat.S_IMODE((realm.state / "aced.db").stat().st_mode) == 0o600
    realm.start()

    assert [row["name"] for row in realm.ctl_items("client", "list")] == [client.name]
    assert active(realm, rs, before[1]) and not active(realm, rs, after[1])
    assert active(realm, rs, revoked[1])  # aced(8): what was revoked after the backup is to be revoked again
    # what was given out after the backup does not come again
    new = realm.token(client, rs, "read")
    assert cti(rs, new) > cti(rs, after) and cti(rs, new) >= RESTORE_ADVANCE
    assert all(next_number > (RESTORE_ADVANCE_OSCORE if kind == 3 else RESTORE_ADVANCE) for kind, next_number in
               sqlite3.connect(realm.state / "aced.db").execute("SELECT kind, next FROM leases"))
    assert realm.acectl("check").stdout == "The database has no faults.\n"


@pytest.mark.parametrize("end", ["stop", "kill"])
def test_restore_of_one_backup_again_and_again(realm, end):
    """No number of ours comes twice under OSCORE, where the partner looks at every nonce, nor does a cti."""
    client, rs = realm.pair()
    device = realm.add_client(context=[])
    backup = realm.directory / "backup"
    realm.ctl("backup", backup)
    seen = []
    for n in range(1, 4):
        getattr(realm, end)()  # without a log, and with one
        restore(realm, backup)
        realm.start()
        with realm.connect(device) as session:
            assert session.request(coap.GET, ".well-known/core").status == "2.05"
        assert device.context.n_own == n  # the answer with an Echo option
        seen.append(cti(rs, realm.token(client, rs, "read")))
        assert seen == sorted(set(seen))
    assert realm.acectl("check").stdout == "The database has no faults.\n"


def test_restore_over_a_damaged_database(realm):
    client, rs = realm.pair()
    answer = realm.token(client, rs, "read")
    backup = realm.directory / "backup"
    realm.ctl("backup", backup)
    realm.stop()
    (realm.state / "aced.db").write_bytes(b"\xff" * 8192)
    (realm.state / "aced.db-wal").write_bytes(b"\x55" * 4096)
    assert run(program("aced"), "-c", realm.config_path, check=False).returncode == 1
    restore(realm, backup)
    assert not (realm.state / "aced.db-wal").exists()
    realm.start()
    assert active(realm, rs, answer[1])


def damaged(content):
    """In the middle of the pages, where rows are."""
    at = len(content) // 2
    return content[:at] + bytes(b ^ 0xFF for b in content[at:at + 4096]) + content[at + 4096:]


@pytest.mark.parametrize("spoil, tells", [
    (lambda content: b"", "no database of aced"),
    (lambda content: b"no database" * 1000, "not a database"),
    (lambda content: content[:len(content) // 2], "malformed"),
    (damaged, "damaged"),
], ids=["empty", "foreign", "cut", "damaged"])
def test_restore_refuses(realm, spoil, tells):
    realm.pair()
    backup = realm.directory / "backup"
    realm.ctl("backup", backup)
    realm.stop()
    content = (realm.state / "aced.db").read_bytes()
    backup.write_bytes(spoil(backup.read_bytes()))
    done = restore(realm, backup, check=False)
    assert done.returncode == 1 and tells in done.stderr, done.stderr
    assert (realm.state / "aced.db").read_bytes() == content
    assert sorted(p.name for p in realm.state.iterdir()) == ["aced.db", "lock", "seal.key"]
    realm.start()


def altered(backup, sql):
    with sqlite3.connect(backup) as database:
        database.executescript(sql)
    database.close()


@pytest.mark.parametrize("sql, tells", [
    ("PRAGMA user_version = 99", "version 99"),
    ("PRAGMA application_id = 1", "no database of aced"),
    ("UPDATE leases SET next = 1 WHERE kind = 2", "a second time"),
    ("DELETE FROM leases WHERE kind = 0", "leases are missing"),
    ("UPDATE credentials SET secret = zeroblob(44)", "does not open"),
    ("UPDATE credentials SET secret_mark = randomblob(32)", "mark"),
    ("UPDATE server_keys SET secret = (SELECT secret FROM credentials LIMIT 1)", "does not open"),
    ("PRAGMA foreign_keys = OFF; DELETE FROM servers", "belongs to nothing"),
    ("UPDATE tokens SET client_id = 77777", "nobody knows"),
    ("UPDATE meta SET value = zeroblob(32) WHERE name = 'seal_key_check'", "another key"),
])
def test_restore_refuses_what_does_not_agree_with_itself(realm, sql, tells):
    client, rs = realm.pair()
    realm.token(client, rs, "read")
    backup = realm.directory / "backup"
    realm.ctl("backup", backup)
    altered(backup, sql)
    realm.stop()
    content = (realm.state / "aced.db").read_bytes()
    done = restore(realm, backup, check=False)
    assert done.returncode == 1 and tells in done.stderr, done.stderr
    assert (realm.state / "aced.db").read_bytes() == content
    assert sorted(p.name for p in realm.state.iterdir()) == ["aced.db", "lock", "seal.key"]
    realm.start()


def test_restore_refuses_a_copy_of_files_in_use(realm):
    realm.add_client("someone")
    backup = realm.directory / "copy"
    for suffix in ("", "-wal"):
        shutil.copy(f"{realm.state}/aced.db{suffix}", f"{backup}{suffix}")
    realm.stop()
    done = restore(realm, backup, check=False)
    assert done.returncode == 1 and "acectl backup" in done.stderr
    realm.start()


def test_restore_that_was_cut_off_is_noticed(realm):
    realm.pair()
    backup = realm.directory / "backup"
    realm.ctl("backup", backup)
    realm.stop()
    (realm.state / "aced.db").rename(realm.state / "aced.db.before-x")
    (realm.state / "aced.db.restoring").write_text(".before-x")
    done = run(program("aced"), "-c", realm.config_path, check=False)
    assert done.returncode == 1 and "restore" in done.stderr
    assert not (realm.state / "aced.db").exists()
    told = restore(realm, backup).stdout
    # the old one was brought back, and is kept under the name of this restore
    files = sorted(realm.state.glob("aced.db*"))
    assert len(files) == 2 and files[0].name == "aced.db" and f"kept as {files[1]}.\n" in told
    realm.start()


def test_check_finds_what_is_wrong(realm):
    client, rs = realm.pair()
    realm.token(client, rs, "read")
    realm.stop()
    altered(realm.state / "aced.db", "UPDATE tokens SET pop_key = zeroblob(44), client_id = 77777")
    realm.start()
    done = realm.acectl("-o", "json", "check", check=False)
    assert done.returncode == 1
    assert "does not open" in done.stdout and "nobody knows" in done.stdout
    assert realm.acectl("backup", realm.directory / "backup", check=False).returncode == 1
    assert not (realm.directory / "backup").exists()
    assert not [p for p in realm.directory.iterdir() if p.name.startswith("backup")]


def test_one_copy_at_a_time(realm):
    """A reader that does not read keeps the copy; others are told to wait, and everybody else is served."""
    client, rs = realm.pair()
    # large enough not to fit into the socket's buffers
    for n in range(3):
        realm.ctl("backup", realm.directory / "backup")
    subprocess.run(["curl", "-sS", "--fail", "-K", "-"], check=True, stdout=subprocess.DEVNULL, timeout=120, input="next\n".join(
        f'unix-socket = "{realm.control}"\nurl = "http://aced/v1/clients"\nheader = "Content-Type: application/json"\n'
        f'data = "{{\\"name\\":\\"{"x" * 50}{n}\\"}}"\n' for n in range(6000)).encode())
    with socket.socket(socket.AF_UNIX) as slow:
        slow.connect(str(realm.control))
        slow.sendall(b"GET /v1/backup HTTP/1.1\r\nHost: aced\r\n\r\n")
        assert slow.recv(100).startswith(b"HTTP/1.1 200")
        done = realm.acectl("check", check=False)
        assert done.returncode == 4 and "under way" in done.stderr
        assert active(realm, rs, realm.token(client, rs, "read")[1])
    assert realm.acectl("check").stdout == "The database has no faults.\n"
