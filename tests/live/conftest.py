"""Fixtures: `realm` is a running aced of the test's own, `shared` one for all tests of a file that only add to it,
`unlimited` the same without limits of rates."""

import os
import pathlib
import sys

import pytest

sys.path.insert(0, os.path.dirname(__file__))

from realm import Realm, program  # noqa: E402


RATES = ("source_request_rate", "total_request_rate", "peer_request_rate", "server_request_rate")


def pytest_configure(config):
    missing = [name for name in ("aced", "acectl", "aceclient") if not pathlib.Path(program(name)).exists()]
    if missing:
        raise pytest.UsageError(f"{', '.join(missing)} not built: set ACED_BUILDDIR to the build directory")


def running(config=None):
    realm = Realm(config)
    try:
        realm.init()
        yield realm.start()
    finally:
        realm.close()


@pytest.fixture
def realm():
    yield from running()


@pytest.fixture(scope="module")
def shared():
    yield from running()


@pytest.fixture(scope="module")
def unlimited():
    """Where nobody is told that he asks too often."""
    yield from running({"limits": {name: 0 for name in RATES}})


@pytest.fixture
def make_realm():
    """Realms with a configuration of the test's choosing, initialised, not started."""
    realms = []

    def make(config=None):
        realms.append(Realm(config))
        realms[-1].init()
        return realms[-1]

    yield make
    for each in realms:
        each.close()
