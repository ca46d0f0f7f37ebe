"""README.md says what is so: its commands run, its map is complete."""

import os
import re
import socket
import subprocess

import pytest

from realm import BUILD, SOURCE

README = (SOURCE / "README.md").read_text()


def section(title):
    return README.partition(f"## {title}\n")[2].partition("\n## ")[0]


def free_ports(count):
    sockets = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(count)]
    for s in sockets:
        s.bind(("127.0.0.1", 0))
    ports = [s.getsockname()[1] for s in sockets]
    for s in sockets:
        s.close()
    return ports


def test_first_token_by_hand(tmp_path):
    """The commands as they stand, but for the ports; a person's typing time becomes waiting until the server answers."""
    script = "\n".join(re.findall(r"^```sh\n(.*?)^```", section("A first token by hand"), re.MULTILINE | re.DOTALL))
    coap, coaps = free_ports(2)
    script = script.replace(":5683", f":{coap}").replace(":5684", f":{coaps}")
    assert script.count("aced -c aced.conf &") == 1 and script.count("\nkill %1") == 1
    script = script.replace("aced -c aced.conf &", "aced -c aced.conf 2> log &\n"
                            "until acectl -s control.sock status > status 2>&1; do kill -0 %1 || exit; done")
    # by its number, as a job that has ended may be forgotten
    script = script.replace("\nkill %1", "\nkill %1\nwait $!")
    # jobs need monitor mode; any command that fails ends it, and whatever happens the server goes
    script = f"set -em\ntrap 'kill %1 2>/dev/null' EXIT\n{script}\ntrap - EXIT\n"
    work = tmp_path / "s"
    work.mkdir()
    environment = os.environ | {"PATH": f"{BUILD / 'src'}:{os.environ['PATH']}"}
    done = subprocess.run(["bash", "-c", script], cwd=work, env=environment, capture_output=True, text=True, timeout=120,
                          stdin=subprocess.DEVNULL)
    log = (work / "log").read_text() if (work / "log").exists() else ""
    assert done.returncode == 0, done.stdout + done.stderr + log
    lines = [line.strip() for line in done.stdout.splitlines()]
    for line in ("active: true", "aud: tempSensor", "scope: read", "iss: coaps://as.example", "rs_cnf:", "crv: P-256",
                 "osc:", "ace_profile: coap_oscore"):
        assert line in lines, done.stdout
    assert "ERROR" not in log and "runtime error" not in log
    # what others may not read is not shown to be made so that they can, and each block by itself sees to that
    secret = [path for path in work.iterdir() if path.suffix in (".key", ".pem", ".oscore")]
    assert len(secret) == 7 and not [path.name for path in secret if path.stat().st_mode & 0o077]
    for block in re.findall(r"^```sh\n(.*?)^```", README, re.MULTILINE | re.DOTALL):
        assert block.startswith("umask 077\n") == bool(re.search(r"> \S*\.(key|pem|oscore)$", block, re.MULTILINE)), block


def mapped_files():
    """The names in the map: "  name.[ch] other.h   what it is" under "src/folder/   what it is"."""
    folder, found = None, set()
    for line in section("A map of src/").splitlines():
        if match := re.match(r"    (src\S*)/(?:\s|$)", line):
            folder = match[1]
        elif folder and (match := re.match(r"      ((?:[a-z0-9_]+\.(?:[ch]|\[ch\])(?: |$))+)", line)):
            for name in match[1].split():
                stem, _, ending = name.partition(".")
                found |= {f"{folder}/{stem}.{e}" for e in ("ch" if ending == "[ch]" else ending)}
    return found


def test_map_names_every_file():
    there = {str(path.relative_to(SOURCE)) for path in (SOURCE / "src").rglob("*.[ch]")}
    if BUILD == SOURCE:
        there.discard("src/store/schema.c")
    mapped = mapped_files()
    assert len(mapped) > 50
    assert not there - mapped, f"not in README's map: {sorted(there - mapped)}"
    assert not mapped - there, f"in README's map, but not there: {sorted(mapped - there)}"


@pytest.mark.parametrize("path", sorted(set(re.findall(r"`((?:scripts|tests|sql|src)/[a-z-]*)/?`", README))))
def test_paths_exist(path):
    assert (SOURCE / path).exists()


def test_scripts_are_executable():
    for name in ("scripts/quickstart", "scripts/check", "scripts/packages", ".ci/run"):
        assert os.access(SOURCE / name, os.X_OK), name
