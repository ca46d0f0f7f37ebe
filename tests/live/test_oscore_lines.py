"""The lines OSC-001 to OSC-050 of the project's list for OSCORE, and where each is tested: by the tests of that number
in the files test_oscore*.py, which speak to aced as a partner of its own, or by those of aceclient named below."""

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

# A device's, which aceclient is: the test that shows it.
ACECLIENT = {
    30: "test_echo_is_no_loop",
    35: "test_notifications_in_the_order_of_their_numbers",
    42: "test_what_does_not_verify_is_not_there",
}
NOT_OFFERED = {50}  # CoAP over TCP
HERE = pathlib.Path(__file__).parent


def lines_of(name):
    """"test_osc_027_029_the_window…" is of 27 and 29."""
    numbers = re.match(r"test_osc((?:_\d{3})+)_", name)
    return [int(n) for n in numbers[1].split("_")[1:]] if numbers else []


def names_in(pattern):
    return [name for path in sorted(HERE.glob(pattern))
            for name in re.findall(r"^def (test_\w+)\(", path.read_text(), re.MULTILINE)]


def test_each_line_has_a_test():
    covered = {line for name in names_in("test_oscore*.py") for line in lines_of(name)}
    assert set(LINES) == set(range(1, 51))
    assert set(ACECLIENT.values()) <= set(names_in("test_aceclient_oscore.py"))
    assert {n: LINES[n] for n in LINES if n not in covered | set(ACECLIENT) | NOT_OFFERED} == {}
    assert covered <= set(LINES) and not covered & NOT_OFFERED
