"""The lines OSC-001 to OSC-050 of the project's list for OSCORE, and where each is tested: by the tests of that number
in the files test_oscore*.py, which speak to aced as a partner of its own, or elsewhere, as it says below."""

import pathlib
import re

LINES = {
    1: "keys and Common IV", 2: "no ID Context is not an empty one", 3: "HKDF", 4: "identities up to nonce - 6 bytes",
    5: "the option's shortest form", 6: "malformed options", 7: "option twice, no payload", 8: "nonce",
    9: "AAD of responses and notifications", 10: "byte for byte", 11: "Partial IV in the AAD as received",
    12: "outer codes",
    13: "outer Class E options and code dropped", 14: "Uri-Host, Uri-Port, Proxy-Uri", 15: "unknown options inside",
    16: "OSCORE inside OSCORE", 17: "4.02 Failed to decode COSE", 18: "4.01 Security context not found",
    19: "4.01 Replay detected", 20: "retransmissions", 21: "4.00 Decryption failed", 22: "CoAP errors are protected",
    23: "the window", 24: "check and mark at once", 25: "numbers over kill -9", 26: "numbers exhausted",
    27: "Echo after a restart", 28: "Echo wrong or foreign", 29: "the lower limit", 30: "the client obeys Echo once",
    31: "own numbers in notifications", 32: "cancellation", 33: "the token of an observation used again",
    34: "replayed registration", 35: "order of notifications at the client", 36: "blocks inside", 37: "blocks outside",
    38: "No-Response", 39: "Max-Age", 40: "the context says who it is", 41: "protected resources",
    42: "foreign responses",
    43: "osc in links", 44: "one kid, two contexts", 45: "contexts vanish", 46: "all is bounded",
    47: "unprotected answers are rate-limited", 48: "nothing unverified is used", 49: "Appendix B.2", 50: "TCP",
}

# Not to be seen from outside a server of CoAP over UDP.
ELSEWHERE = {
    30: "a client's: test_aceclient.py",
    35: "a client's: test_aceclient.py; the partner of these tests does as much (oscore.Observation)",
    42: "a client's: test_aceclient.py",
    50: "CoAP over TCP is not offered",
}


def lines_of(name):
    """"test_osc_027_029_the_window…" is of 27 and 29."""
    numbers = re.match(r"test_osc((?:_\d{3})+)_", name)
    return [int(n) for n in numbers[1].split("_")[1:]] if numbers else []


def covered():
    names = []
    for path in sorted(pathlib.Path(__file__).parent.glob("test_oscore*.py")):
        names += re.findall(r"^def (test_\w+)\(", path.read_text(), re.MULTILINE)
    return {line for name in names for line in lines_of(name)}


def test_each_line_has_a_test():
    assert set(LINES) == set(range(1, 51))
    assert {line: LINES[line] for line in LINES if line not in covered() and line not in ELSEWHERE} == {}
    assert covered() & set(ELSEWHERE) == set() and covered() | set(ELSEWHERE) == set(LINES)
