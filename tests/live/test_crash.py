"""crash.py, a few rounds of it; ACED_LONG=1 makes them 200. `tests/live/crash ROUNDS` is the same as a program."""

import os
import sys

from crash import crash

LONG = os.environ.get("ACED_LONG") == "1"
ROUNDS = 200 if LONG else 20
SECONDS = None if LONG else 90  # then it is a slow machine or a slow build, or others are at work, and fewer must do
ROUNDS_MIN = 3


def test_sigkill_under_load_loses_nothing_acknowledged(capsys):
    seed = int.from_bytes(os.urandom(4), "big")
    with capsys.disabled():
        # a worker of pytest's has no standard output
        print(f"\ncrash: seed {seed}", file=sys.stderr, flush=True)
        rounds, outcome = crash(ROUNDS, seed, SECONDS, ROUNDS_MIN, quiet=True)
        print(f"crash: {outcome}" + (f" (of {ROUNDS}: this is slow)" if rounds < ROUNDS else ""), file=sys.stderr, flush=True)
    assert rounds >= ROUNDS_MIN
