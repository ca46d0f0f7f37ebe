"""The client side of OSCORE (RFC 8613), written from the RFC with cbor2 and cryptography: an independent partner."""

import dataclasses
import itertools

import cbor2
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESCCM, AESGCM, ChaCha20Poly1305
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

import coap

OSCORE, OBSERVE, ECHO = 9, 6, 252
FETCH = 5
PIV_MAX = 2**40 - 1

# COSE algorithm: cipher, sizes of key and nonce
ALGORITHMS = {
    1: (AESGCM, 16, 12),
    3: (AESGCM, 32, 12),
    10: (lambda key: AESCCM(key, tag_length=8), 16, 13),
    24: (ChaCha20Poly1305, 32, 12),
    30: (lambda key: AESCCM(key, tag_length=16), 16, 13),
}
HASHES = {5: hashes.SHA256, 7: hashes.SHA512}

# §4.1: what is not encrypted; every option that is not named here is
CLASS_U = {3, 7, OSCORE, 21, 35, 39}


class Unprotected(Exception):
    """An answer without OSCORE: a hint at most (§8.4). Its message is in .message."""

    def __init__(self, message):
        super().__init__(f"{message.status} {message.payload!r}")
        self.message = message


def shortest(number):
    return number.to_bytes(max(1, (number.bit_length() + 7) // 8), "big")


@dataclasses.dataclass
class Option:
    """The value of the OSCORE option (§6.1); None: absent."""

    piv: bytes = None
    kid_context: bytes = None
    kid: bytes = None

    def encode(self):
        if self.piv is None and self.kid_context is None and self.kid is None:
            return b""
        flags = len(self.piv or b"") | (self.kid_context is not None) << 4 | (self.kid is not None) << 3
        out = bytes([flags]) + (self.piv or b"")
        if self.kid_context is not None:
            out += bytes([len(self.kid_context)]) + self.kid_context
        return out + (self.kid or b"")

    @classmethod
    def decode(cls, value):
        if not value:
            return cls()
        assert not value[0] & 0xE0 and value[0] & 7 < 6, value.hex()
        at = 1 + (value[0] & 7)
        option = cls(piv=value[1:at] or None)
        if value[0] & 0x10:
            size = value[at]
            option.kid_context = value[at + 1 : at + 1 + size]
            at += 1 + size
        if value[0] & 0x08:
            option.kid = value[at:]
        return option


class Context:
    """What both ends agreed on, seen by the one whose Sender ID is sender_id."""

    def __init__(self, master_secret, sender_id, recipient_id, master_salt=b"", id_context=None, alg=10, hkdf=5):
        self.alg, self.id_context = alg, id_context
        self.sender_id, self.recipient_id = sender_id, recipient_id
        cipher, key_size, self.nonce_size = ALGORITHMS[alg]

        def derive(identity, kind, size):
            info = cbor2.dumps([identity, id_context, alg, kind, size])
            return HKDF(algorithm=HASHES[hkdf](), length=size, salt=master_salt, info=info).derive(master_secret)

        self.sender_key = derive(sender_id, "Key", key_size)
        self.recipient_key = derive(recipient_id, "Key", key_size)
        self.common_iv = derive(b"", "IV", self.nonce_size)
        self.seal, self.unseal = cipher(self.sender_key), cipher(self.recipient_key)

    def nonce(self, identity, piv):
        plain = bytes([len(identity)]) + identity.rjust(self.nonce_size - 6, b"\0") + piv.rjust(5, b"\0")
        return bytes(a ^ b for a, b in zip(plain, self.common_iv))

    def aad(self, kid, piv):
        return cbor2.dumps(["Encrypt0", b"", cbor2.dumps([1, [self.alg], kid, piv, b""])])

    def protect(self, message, piv):
        """A request under this Partial IV → (outer message, what its responses are bound to)."""
        inside = [o for o in message.options if o[0] not in CLASS_U]
        inner = coap.Message(0, message.code, 0, b"", inside, message.payload)
        outer = [o for o in message.options if o[0] in CLASS_U or o[0] == OBSERVE]
        observes = any(number == OBSERVE for number, _ in outer)
        plain = bytes([message.code]) + inner.encode()[4:]
        cipher = self.seal.encrypt(self.nonce(self.sender_id, piv), plain, self.aad(self.sender_id, piv))
        option = Option(piv, self.id_context, self.sender_id).encode()
        return coap.Message(message.type, FETCH if observes else coap.POST, message.mid, message.token,
                            outer + [(OSCORE, option)], cipher), (self.sender_id, piv)

    def unprotect(self, outer, binding):
        """A response → (message, its own Partial IV or None)."""
        values = [value for number, value in outer.options if number == OSCORE]
        if not values:
            raise Unprotected(outer)
        assert len(values) == 1 and outer.code in (0x44, 0x45), outer
        option = Option.decode(values[0])
        assert option.kid is None and option.kid_context is None, "a response needs neither"
        nonce = self.nonce(self.recipient_id, option.piv) if option.piv else self.nonce(*binding)
        plain = self.unseal.decrypt(nonce, outer.payload, self.aad(*binding))
        inner = coap.decode(bytes([0x40, plain[0], 0, 0]) + plain[1:])
        inner.type, inner.mid, inner.token = outer.type, outer.mid, outer.token
        return inner, option.piv


class Endpoint(coap.Endpoint):
    """coap.Endpoint under a context; answers an Echo once, as §B.1.2 and RFC 9175 want it. Keeps what it saw."""

    def __init__(self, wire, context, first=0):
        super().__init__(wire)
        self.context = context
        self.pivs = itertools.count(first)
        self.seen = []  # the server's own Partial IVs, in the order they came

    def request(self, code, path, payload=b"", timeout=10, echo=True, **more):
        message = self.build(code, path, payload, **more)
        answer = self.exchange(message, timeout)
        value = next((v for n, v in answer.options if n == ECHO), None)
        if echo and answer.code == 0x81 and value is not None:
            again = self.build(code, path, payload, **more)
            again.options.append((ECHO, value))
            answer = self.exchange(again, timeout)
        return answer

    def exchange(self, message, timeout=10):
        outer, self.binding = self.context.protect(message, shortest(next(self.pivs)))
        self.last = outer.encode()
        self.wire.send(self.last)
        inner, piv = self.context.unprotect(self.response(message.token, timeout), self.binding)
        if piv is not None:
            assert piv not in self.seen, "a number of the server's came twice"
            self.seen.append(piv)
        return inner
