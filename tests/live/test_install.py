"""make install puts everything in its place, and the unit is what it should be."""

import os
import pathlib
import re
import shutil

import pytest

from realm import BUILD, SOURCE, program, run

FILES = """
sbin/aced bin/acectl bin/aceclient bin/acebench etc/aced/aced.conf
lib/systemd/system/aced.service lib/sysusers.d/aced.conf lib/tmpfiles.d/aced.conf
share/man/man8/aced.8 share/man/man1/acectl.1 share/man/man1/aceclient.1 share/man/man5/aced.conf.5
share/man/man7/aced-control.7 share/man/man1/acebench.1
""".split()


@pytest.fixture(scope="module")
def prefix(tmp_path_factory):
    destination = tmp_path_factory.mktemp("root")
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("MAKE", "MFLAGS"))}
    run("make", "-C", BUILD, "install", f"DESTDIR={destination}", timeout=300, env=environment)
    return destination / "usr/local"


def test_everything_is_installed(prefix):
    names = {str(path.relative_to(prefix)) for path in prefix.rglob("*") if path.is_file()}
    # sysusers.d and tmpfiles.d files may be named after the package or after what they are
    names = {re.sub(r"aced\.(sysusers|tmpfiles)\.conf", "aced.conf", name) for name in names}
    missing = set(FILES) - names
    assert not missing, f"missing: {missing}; there: {sorted(names)}"


def test_installed_programs_run(prefix):
    for name in ("sbin/aced", "bin/acectl", "bin/aceclient"):
        program_name = pathlib.PurePath(name).name
        assert re.fullmatch(rf"{program_name} \d+\.\d+\.\d+\n", run(prefix / name, "--version").stdout)
    assert run(prefix / "sbin/aced", "--check", prefix / "etc/aced/aced.conf").returncode == 0


def unit(prefix):
    path = prefix / "lib/systemd/system/aced.service"
    text = path.read_text()
    assert "/usr/local/sbin/aced" in text and "Type=notify" in text and "--check" in text and not re.search("@[a-z]+@", text)
    return path, text


def test_unit_verifies(prefix, tmp_path):
    if not shutil.which("systemd-analyze"):
        pytest.skip("systemd-analyze is not here")
    path, text = unit(prefix)
    # verify wants the programs to exist where the unit says
    copy = tmp_path / "aced.service"
    copy.write_text(text.replace("/usr/local/sbin/aced", str(prefix / "sbin/aced")).replace("/usr/local/etc", str(prefix / "etc")))
    done = run("systemd-analyze", "verify", "--man=no", copy, check=False)
    about_ours = [line for line in done.stderr.splitlines() if "aced" in line]
    assert not about_ours, done.stderr


def test_unit_is_sandboxed(prefix):
    if not shutil.which("systemd-analyze"):
        pytest.skip("systemd-analyze is not here")
    done = run("systemd-analyze", "security", "--offline=true", "--no-pager", unit(prefix)[0], check=False)
    exposure = float(re.search(r"Overall exposure level for aced\.service: ([0-9.]+)", done.stdout)[1])
    assert exposure <= 1.5, done.stdout


def test_manuals_are_clean():
    if not shutil.which("mandoc"):
        pytest.skip("mandoc is not here")
    for page in sorted((SOURCE / "man").glob("*.[1-8]")):
        assert run("mandoc", "-T", "lint", "-W", "warning", page, check=False).stdout == ""


def test_version_is_the_same_everywhere():
    versions = {re.search(r"\d+\.\d+\.\d+", run(program(name), "--version").stdout)[0] for name in ("aced", "acectl", "aceclient")}
    assert len(versions) == 1 and f"[{versions.pop()}]" in (SOURCE / "configure.ac").read_text()
