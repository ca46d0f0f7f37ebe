"""crash.py, a few rounds of it; ACED_LONG=1 makes them 200. `tests/live/crash ROUNDS` is the same as a program."""

import os

from crash import crash

LONG = os.environ.get("ACED_LONG") == "1"
ROUNDS = 200 if LONG else 20
SECONDS = None if LONG else 45  # then it is a slow machine or a slow build, and fewer must do
ROUNDS_MIN = 3


def test_sigkill_under_load_loses_nothing_acknowledged(capsys):
    seed = int.from_bytes(os.urandom(4), "big")
    with capsys.disabled():
        print(f"\ncrash: seed {seed}", flush=True)
        rounds, outcome = crash(ROUNDS, seed, SECONDS, quiet=True)
        print(f"crash: {outcome}" + (f" (of {ROUNDS}: this is slow)" if rounds < ROUNDS else ""), flush=True)
    assert rounds >= ROUNDS_MIN
