"""aced as a service: starting, refusing to start, reloading, stopping, and what its log must not say."""

import fcntl
import os
import pathlib
import re
import select
import signal
import sqlite3
import stat
import subprocess
import time

import cbor2
import pytest

import coap
from dtls import HandshakeError
from realm import SOURCE, Party, program, run, token
from tokens import opens


def aced(*arguments, **more):
    return run(program("aced"), *arguments, check=False, **more)


def wait_for_log(realm, pattern, timeout=60):
    deadline = time.monotonic() + timeout
    while not re.search(pattern, realm.log_text()):
        assert time.monotonic() < deadline, f"no {pattern!r} in the log:\n{realm.log_text()}"
        select.select([], [], [], 0.02)


def reload(realm):
    """SIGHUP, and wait until aced says READY again."""
    realm.notify.forget()
    realm.process.send_signal(signal.SIGHUP)
    assert realm.notify.wait("READY=1", realm.process)
    assert "RELOADING=1" in realm.notify.lines
    return realm.notify.lines


# ---- the command line

def test_version_and_help():
    assert re.fullmatch(r"aced \d+\.\d+\.\d+\n", aced("--version").stdout)
    text = aced("--help").stdout
    assert all(option in text for option in ("--check", "--version", "--help", "-c"))


@pytest.mark.parametrize("arguments", [["--nonsense"], ["stray"], ["-c"]])
def test_bad_arguments(arguments):
    done = aced(*arguments)
    assert done.returncode != 0 and done.stderr


def test_check_accepts_the_shipped_configuration():
    done = aced("--check", SOURCE / "etc/aced.conf")
    assert done.returncode == 0, done.stderr


def test_check_prints_every_fault_with_its_place(tmp_path):
    path = tmp_path / "bad.conf"
    path.write_text("[server]\n"                       # 1
                    "log_level = loud\n"               # 2
                    "unknown_key = 1\n"                # 3
                    "issuer = a\n"                     # 4
                    "issuer = b\n"                     # 5: twice
                    "[nowhere]\n"                      # 6
                    "x = 1\n"                          # 7
                    "[limits]\n"                       # 8
                    "batch_max = 0\n"                  # 9: out of range
                    "sessions_max = many\n"            # 10
                    "[coaps]\n"                        # 11
                    "listen = 300.1.1.1:99999\n")      # 12
    done = aced("--check", path)
    assert done.returncode != 0
    lines = {int(number) for number in re.findall(rf"{re.escape(str(path))}:(\d+):", done.stdout + done.stderr)}
    assert lines >= {2, 3, 5, 9, 10, 12} and lines & {6, 7}, done.stdout + done.stderr
    assert not lines & {1, 4, 8, 11}


def test_check_of_a_file_that_is_not_there(tmp_path):
    done = aced("--check", tmp_path / "none.conf")
    assert done.returncode != 0 and "none.conf" in done.stderr + done.stdout


# ---- starting

def fails_to_start(realm, *words):
    """aced ends by itself, says why, and was never ready."""
    process = realm.spawn()
    assert not realm.notify.wait("READY=1", process), "it says that it is ready"
    assert process.wait() != 0
    realm.process = None
    for word in words:
        assert word in realm.log_text(), realm.log_text()


def test_not_initialised(make_realm):
    realm = make_realm()
    (realm.state / "seal.key").unlink()
    fails_to_start(realm, "seal.key")


def test_second_instance_is_refused(realm):
    client, rs = realm.pair()
    other_control = realm.directory / "other.sock"
    config = realm.directory / "second.conf"
    config.write_text(realm.config_path.read_text().replace(str(realm.control), str(other_control)))
    done = aced("-c", config)
    assert done.returncode != 0 and str(realm.state) in done.stderr, done.stderr
    assert re.search(r"already|another|in use|runs", done.stderr), done.stderr
    assert not other_control.exists()
    assert opens(realm.token(client, rs, "read")[1], rs.token_key), "the first goes on"


def test_newer_database_is_refused(make_realm):
    realm = make_realm().start()
    realm.stop()
    with sqlite3.connect(realm.state / "aced.db") as db:
        version = db.execute("PRAGMA user_version").fetchone()[0]
        db.execute(f"PRAGMA user_version = {version + 1}")
    fails_to_start(realm, "newer")
    with sqlite3.connect(realm.state / "aced.db") as db:
        assert db.execute("PRAGMA user_version").fetchone()[0] == version + 1
        db.execute(f"PRAGMA user_version = {version}")
    realm.start()


def test_foreign_sealing_key_is_refused(make_realm):
    realm = make_realm().start()
    client, rs = realm.pair()
    realm.stop()
    key = realm.state / "seal.key"
    right = key.read_bytes()
    key.write_bytes(bytes(b ^ 1 if i < 32 and len(right) == 32 else b for i, b in enumerate(right)) if len(right) == 32
                    else right.swapcase() if right.swapcase() != right else right[::-1])
    fails_to_start(realm, "seal")
    key.write_bytes(right)
    realm.start()
    assert opens(realm.token(client, rs, "read")[1], rs.token_key)


def test_database_that_is_none(make_realm):
    realm = make_realm()
    (realm.state / "aced.db").write_bytes(b"this is no database, whatever its name says" * 100)
    fails_to_start(realm, "aced.db")


def test_address_in_use(make_realm):
    first = make_realm().start()
    second = make_realm({"coaps": {"listen": f"127.0.0.1:{first.ports['coaps']}"}})
    fails_to_start(second, str(first.ports["coaps"]))


def test_stale_control_socket_is_replaced(realm):
    realm.kill()
    assert realm.control.exists()
    realm.start()
    assert realm.ctl("status")["version"]


def test_no_listening_for_coap(make_realm):
    realm = make_realm({"coap": {"listen": ""}}).start()
    assert {door["door"] for door in realm.ctl("status")["listen"]} == {"coaps"}


def test_files_are_private(realm):
    for name in ("aced.db", "seal.key"):
        assert (realm.state / name).stat().st_mode & 0o077 == 0, name
    assert realm.state.stat().st_mode & 0o022 == 0


def test_state_directory_that_others_can_write(make_realm):
    realm = make_realm()
    realm.state.chmod(0o777)
    realm.start()
    assert "others can write to the state directory" in realm.log_text()


# ---- running

def test_good_reload(realm):
    client, rs = realm.pair()
    realm.write_config({"token": {"default_lifetime_s": "77"}})
    with realm.connect(client) as session:
        assert token(session, rs, "read")[2] == 3600
        reload(realm)
        assert token(session, rs, "read")[2] == 77, "the session outlives the reload"
    rows = [row for row in realm.ctl_items("audit", "list") if row.get("action") == "reload"]
    assert [(row["uid"], row["why"]) for row in rows] == [(os.getuid(), str(realm.config_path))]


def test_reload_leaves_what_stands_in_the_socket_s_place(realm, tmp_path):
    """Whoever can write to the directory may put a link there: what it leads to is not ours to open."""
    other = tmp_path / "other"
    other.write_text("not for everybody")
    other.chmod(0o640)
    socket = pathlib.Path(realm.control)
    socket.rename(tmp_path / "aside")
    socket.symlink_to(other)
    reload(realm)
    assert stat.S_IMODE(other.stat().st_mode) == 0o640
    assert "control socket: cannot set the mode" in realm.log_text()
    socket.unlink()
    (tmp_path / "aside").rename(socket)
    reload(realm)
    assert stat.S_IMODE(socket.stat().st_mode) in (0o600, 0o660)


def test_bad_reload_changes_nothing(realm):
    client, rs = realm.pair()
    realm.write_config({"token": {"default_lifetime_s": "88"}, "limits": {"batch_max": "-1"}})
    lines = reload(realm)
    assert realm.token(client, rs, "read")[2] == 3600, "all or nothing"
    assert "batch_max" in realm.log_text() and f"{realm.config_path}:" in realm.log_text()
    assert any(line.startswith("STATUS=") for line in lines)
    realm.write_config({"token": {"default_lifetime_s": "88"}})
    reload(realm)
    assert realm.token(client, rs, "read")[2] == 88


def test_sigterm_drains(realm):
    client, rs = realm.pair()
    session = realm.connect(client)
    for _ in range(20):
        session.wire.send(session.build(coap.POST, "token", cbor2.dumps({5: rs.name, 9: "read"}), content_format=19).encode())
    first = coap.decode(session.wire.recv(10))
    realm.notify.forget()
    process = realm.process
    assert realm.stop() == 0
    realm.notify.drain()
    assert "STOPPING=1" in realm.notify.lines
    assert process.returncode == 0
    answers = [first]
    with pytest.raises(ConnectionError):
        while (data := session.wire.recv(10)) is not None:
            answers.append(coap.decode(data))
    assert {answer.status for answer in answers} == {"2.01"}, "what was answered was answered whole"
    session.close()
    assert not realm.control.exists(), "the control socket goes with its server"
    realm.start()
    with realm.connect(rs) as asking:
        for answer in answers:
            reply = asking.post("introspect", cbor2.dumps({11: cbor2.loads(answer.payload)[1]}))
            assert cbor2.loads(reply.payload)[10] is True


def test_status_line_and_watchdog(make_realm):
    realm = make_realm()
    realm.environment = {"WATCHDOG_USEC": "400000"}
    realm.start()
    assert any(line.startswith("STATUS=") for line in realm.notify.lines)
    for _ in range(3):
        realm.notify.forget()
        assert realm.notify.wait("WATCHDOG=1", realm.process, timeout=60)


def test_no_watchdog_unasked(realm):
    realm.notify.drain()
    assert "WATCHDOG=1" not in realm.notify.lines


def test_state_lock_is_held(realm):
    with open(realm.state / "lock", "r+") as lock:
        with pytest.raises(BlockingIOError):
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)


# ---- the log and the database

def test_no_key_in_log_or_database(realm):
    client, rs = realm.pair()
    secrets = [client.key, rs.key, rs.token_key]
    with realm.connect(client) as session:
        answer = token(session, rs, "read")
        secrets += [answer[8][1][-1], answer[1]]
        session.post("token", b"\xff")
    realm.introspect(rs, answer[1])
    made = realm.ctl("client", "credential", "add", client.name, "--identity", "another")
    secrets.append(bytes.fromhex(made["key_hex"]))
    with pytest.raises(HandshakeError):
        realm.connect(Party("wrong", client.identity, bytes(16)))
    realm.ctl("token", "list", "--all")
    assert realm.stop() == 0
    log = realm.log.read_bytes()
    assert b"/token" in log and client.name.encode() in log, "requests are in the log"
    kept = log + b"".join(path.read_bytes() for path in realm.state.iterdir() if path.name != "seal.key")
    for secret in secrets:
        assert secret not in kept and secret.hex().encode() not in kept.lower()


def test_log_lines_cannot_be_forged(realm):
    client = realm.add_client(identity=b"line\nforged: 1")
    with realm.connect(client) as session:
        session.request(coap.POST, "to\nforged: 2", b"\xa0", content_format=19)
        session.post("token", cbor2.dumps({5: "x\nforged: 3"}))
    with pytest.raises(HandshakeError):
        realm.connect(Party("x", b"nobody\nforged: 4", bytes(16)))
    realm.stop()
    assert not re.search(r"^forged", realm.log_text(), re.MULTILINE)


def test_one_line_for_each_request(realm):
    client, rs = realm.pair()
    with realm.connect(client) as session:
        session.post("token", cbor2.dumps({5: rs.name, 9: "admin"}))
        wait_for_log(realm, r"scope")
        lines = [line for line in realm.log_text().splitlines() if "/token" in line]
        assert len(lines) == 1, lines


def test_runs_without_notify_socket(make_realm):
    """By hand, without a service manager: the same, silently."""
    realm = make_realm()
    environment = {key: value for key, value in os.environ.items() if key not in ("NOTIFY_SOCKET", "JOURNAL_STREAM")}
    with open(realm.log, "ab") as log:
        process = subprocess.Popen([program("aced"), "-c", realm.config_path], stderr=log, stdout=log, env=environment)
    try:
        deadline = time.monotonic() + 60
        while realm.acectl("status", check=False).returncode != 0:
            assert process.poll() is None and time.monotonic() < deadline, realm.log_text()
    finally:
        process.terminate()
        assert process.wait(60) == 0
