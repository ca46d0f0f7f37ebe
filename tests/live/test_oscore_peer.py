"""The partner that OSCORE is tested with agrees with the vectors of RFC 8613."""

import json

import pytest

import coap
from oscore import ALGORITHMS, OBSERVE, OSCORE, Context, Endpoint, Observation, Option
from realm import SOURCE

RFC = json.loads((SOURCE / "tests/vectors/oscore-rfc8613.json").read_text())
COMPUTED = json.loads((SOURCE / "tests/vectors/oscore-computed.json").read_text())
HKDF = {"SHA-256": 5, "SHA-512": 7}


def unhex(text):
    return None if text is None else bytes.fromhex(text)


@pytest.mark.parametrize("vector", RFC["key_derivation"], ids=lambda vector: vector["name"])
def test_keys(vector):
    given, wanted = vector["input"], vector["output"]
    context = Context(unhex(given["master_secret"]), unhex(given["sender_id"]), unhex(given["recipient_id"]),
                      unhex(given["master_salt"]), unhex(given["id_context"]))
    assert (context.sender_key.hex(), context.recipient_key.hex(), context.common_iv.hex()) == \
        (wanted["sender_key"], wanted["recipient_key"], wanted["common_iv"])


@pytest.mark.parametrize("vector", [v for v in COMPUTED["contexts"] if v["input"]["aead"] in ALGORITHMS],
                         ids=lambda v: f"{v['input']['aead_name']}-{v['input']['hkdf']}-{v['input']['id_context']}")
def test_algorithms(vector):
    given, wanted = vector["input"], vector["output"]
    context = Context(unhex(given["master_secret"]), unhex(given["client_id"]), unhex(given["server_id"]),
                      unhex(given["master_salt"]), unhex(given["id_context"]), given["aead"], HKDF[given["hkdf"]])
    assert context.sender_key.hex() == wanted["client_key"]
    assert context.recipient_key.hex() == wanted["server_key"]
    message = coap.Message(coap.CON, coap.GET, 1, b"", [(coap.URI_PATH, b"temp")])
    for piv, name in ((b"\0", "get_temp_piv_0"), (b"\xff" * 5, "get_temp_piv_max")):
        outer, _ = context.protect(message, piv)
        assert outer.payload.hex() == wanted[name]["ciphertext"]


def test_messages():
    given = COMPUTED["messages"]["context"]
    context = Context(unhex(given["master_secret"]), unhex(given["client_id"]), unhex(given["server_id"]),
                      unhex(given["master_salt"]), unhex(given["id_context"]))
    for vector in COMPUTED["messages"]["list"]:
        plain, protected = unhex(vector["unprotected_coap"]), unhex(vector["protected_coap"])
        binding = (unhex(vector["request_kid"]), unhex(vector["request_piv"]))
        if vector["sender"] == "client":
            outer, bound = context.protect(coap.decode(plain), binding[1])
            assert (outer.encode(), bound) == (protected, binding), vector["name"]
        else:
            inner, _ = context.unprotect(coap.decode(protected), binding)
            assert inner.encode() == plain, vector["name"]


class Script:
    """A wire that says what it was told to, whatever it hears."""

    def __init__(self):
        self.heard, self.says = [], []
        self.send, self.close = self.heard.append, lambda: None

    def recv(self, timeout):
        return self.says.pop(0) if self.says else None


def test_observation_takes_each_number_once_and_in_order():
    """RFC 8613 §4.1.3.5.2, with the other side's half of the context."""
    device = Context(b"s" * 16, b"\1", b"\2")
    server = Context(b"s" * 16, b"\2", b"\1")
    session = Endpoint(Script(), device)

    def told(piv, token):
        nonce = server.nonce(server.sender_id, piv) if piv else server.nonce(*session.bindings[token])
        cipher = server.seal.encrypt(nonce, b"\x45\x60\xff" + (piv or b"-"), server.aad(*session.bindings[token]))
        message = coap.Message(coap.NON, 0x45, 7, token, [(OBSERVE, b"\1"), (OSCORE, Option(piv).encode())], cipher)
        return message.encode()

    message = session.build(coap.GET, "x", options=[(OBSERVE, b"")], token=b"t")
    session.send(message)
    session.wire.says = [told(None, b"t")]
    watcher = Observation.__new__(Observation)
    watcher.session, watcher.token, watcher.n_dropped = session, b"t", 0
    watcher.number, watcher.had_none = -1, False
    assert watcher.message().payload == b"-"
    session.wire.says = [told(piv, b"t") for piv in (b"\1", b"\3", b"\2", b"\3", None, b"\4")]
    assert [watcher.message().payload for _ in range(3)] == [b"\1", b"\3", b"\4"]
    assert watcher.message(timeout=0.01) is None and watcher.n_dropped == 3


def test_options():
    for vector in RFC["option_compression"]:
        value, wanted = unhex(vector["oscore_option"]), vector["decoded"]
        option = Option.decode(value)
        assert (option.piv, option.kid, option.kid_context) == \
            (unhex(wanted["partial_iv"]), unhex(wanted["kid"]), unhex(wanted["kid_context"]))
        assert option.encode() == value
