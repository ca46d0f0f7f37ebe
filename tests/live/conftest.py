"""Fixtures: `realm` is a running aced of the test's own, `shared` one for all tests of a file that only add to it,
`unlimited` the same without limits of rates."""

import os
import pathlib
import sys

import pytest

sys.path.insert(0, os.path.dirname(__file__))

from realm import Realm, program  # noqa: E402


# Those that take longest begin first, when several run at a time: none of them is to be left over at the end
LONGEST = ["test_crash", "test_bulk", "test_acectl", "test_aceclient_oscore", "test_formats", "test_audit", "test_trl",
           "test_dtls", "test_aceclient"]
RATES = ("source_request_rate", "total_request_rate", "peer_request_rate", "server_request_rate")
LOST = pytest.StashKey()


def pytest_configure(config):
    missing = [name for name in ("aced", "acectl", "aceclient") if not pathlib.Path(program(name)).exists()]
    if missing:
        raise pytest.UsageError(f"{', '.join(missing)} not built: set ACED_BUILDDIR to the build directory")
    config.addinivalue_line("markers", "alone: loads the machine by itself; scripts/check runs nothing beside it")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    order = {name: n for n, name in enumerate(LONGEST)}
    items.sort(key=lambda item: order.get(item.path.stem, len(order)))


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node, error):
    """A worker that died fails the run, even one that had no test at hand."""
    if error:
        node.config.stash[LOST] = True


def pytest_sessionfinish(session):
    if session.config.stash.get(LOST, False):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


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
