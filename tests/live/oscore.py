"""The client side of OSCORE (RFC 8613), written from the RFC with cbor2 and cryptography: an independent partner."""

import dataclasses
import itertools
import os
import random
import time

import cbor2
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESCCM, AESGCM, ChaCha20Poly1305
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

import coap

OBSERVE, OSCORE, BLOCK1, ECHO, REQUEST_TAG = 6, 9, 27, 252, 292
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
ALGORITHM_NAMES = {"A128GCM": 1, "A256GCM": 3, "AES-CCM-16-64-128": 10, "ChaCha20-Poly1305": 24,
                   "AES-CCM-16-128-128": 30}
HASH_NAMES = {"SHA-256": 5, "SHA-512": 7}
R_SIZE = 8  # of what either end adds to the ID Context in Appendix B.2

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
    """What both ends agreed on, seen by the one whose Sender ID is sender_id; and which numbers were used so far."""

    def __init__(self, master_secret, sender_id, recipient_id, master_salt=b"", id_context=None, alg=10, hkdf=5,
                 first=0):
        self.given = dict(master_secret=master_secret, sender_id=sender_id, recipient_id=recipient_id,
                          master_salt=master_salt, alg=alg, hkdf=hkdf)
        self.alg, self.id_context = alg, id_context
        self.sender_id, self.recipient_id = sender_id, recipient_id
        self.numbers = itertools.count(first)
        self.spent = {}  # nonce: the other end's ciphertext under it
        self.n_own = 0   # of those that were the other end's own numbers
        cipher, key_size, self.nonce_size = ALGORITHMS[alg]

        def derive(identity, kind, size):
            info = cbor2.dumps([identity, id_context, alg, kind, size])
            return HKDF(algorithm=HASHES[hkdf](), length=size, salt=master_salt, info=info).derive(master_secret)

        self.sender_key = derive(sender_id, "Key", key_size)
        self.recipient_key = derive(recipient_id, "Key", key_size)
        self.common_iv = derive(b"", "IV", self.nonce_size)
        self.seal, self.unseal = cipher(self.sender_key), cipher(self.recipient_key)

    @classmethod
    def of(cls, record, **more):
        """The context of a provisioning record, as acectl prints it for the device."""
        text = {name: bytes.fromhex(value) for name, value in record.items() if name.endswith("_hex")}
        return cls(text["master_secret_hex"], text["sender_id_hex"], text["recipient_id_hex"],
                   text.get("master_salt_hex", b""), text.get("id_context_hex"), ALGORITHM_NAMES[record["alg"]],
                   HASH_NAMES[record["hkdf"]], **more)

    def under(self, id_context):
        """The same with another ID Context: other keys, so that numbers begin anew."""
        return Context(**self.given, id_context=id_context)

    def nonce(self, identity, piv):
        plain = bytes([len(identity)]) + identity.rjust(self.nonce_size - 6, b"\0") + piv.rjust(5, b"\0")
        return bytes(a ^ b for a, b in zip(plain, self.common_iv))

    def aad(self, kid, piv):
        return cbor2.dumps(["Encrypt0", b"", cbor2.dumps([1, [self.alg], kid, piv, b""])])

    def encrypt(self, plain, piv):
        return self.seal.encrypt(self.nonce(self.sender_id, piv), plain, self.aad(self.sender_id, piv))

    def protect(self, message, piv=None, kid_context=None):
        """A request under this Partial IV, else the next → (outer message, what its responses are bound to)."""
        piv = shortest(next(self.numbers)) if piv is None else piv
        inside = [o for o in message.options if o[0] not in CLASS_U]
        inner = coap.Message(0, message.code, 0, b"", inside, message.payload)
        outer = [o for o in message.options if o[0] in CLASS_U or o[0] == OBSERVE]
        observes = any(number == OBSERVE for number, _ in outer)
        cipher = self.encrypt(bytes([message.code]) + inner.encode()[4:], piv)
        option = Option(piv, self.id_context if kid_context is None else kid_context, self.sender_id).encode()
        return coap.Message(message.type, FETCH if observes else coap.POST, message.mid, message.token,
                            outer + [(OSCORE, option)], cipher), (self.sender_id, piv)

    def unprotect(self, outer, binding):
        """A response → (message, its option)."""
        values = [value for number, value in outer.options if number == OSCORE]
        if not values:
            raise Unprotected(outer)
        assert len(values) == 1 and outer.code in (0x44, 0x45), outer
        option = Option.decode(values[0])
        assert option.encode() == values[0] and option.kid is None, "the shortest form, and a response needs no kid"
        nonce = self.nonce(self.recipient_id, option.piv) if option.piv else self.nonce(*binding)
        plain = self.unseal.decrypt(nonce, outer.payload, self.aad(*binding))
        assert self.spent.setdefault(nonce, outer.payload) == outer.payload, "two messages under one key and nonce"
        self.n_own += option.piv is not None
        inner = coap.decode(bytes([0x40, plain[0], 0, 0]) + plain[1:])
        assert not any(number in CLASS_U for number, _ in inner.options), inner
        inner.type, inner.mid, inner.token = outer.type, outer.mid, outer.token
        return inner, option


def fragments(outer, szx, mids, tokens=None, options=()):
    """The same message as somebody on the way sends it on, in blocks (RFC 8613 §4.1.3.4.2)."""
    size, payload = 16 << szx, outer.payload
    for n in range((len(payload) + size - 1) // size):
        mid, follows = next(mids) & 0xFFFF, (n + 1) * size < len(payload)
        value = n << 4 | follows << 3 | szx
        block = (BLOCK1, value.to_bytes((value.bit_length() + 7) // 8, "big"))
        token = outer.token if tokens is None or not follows else next(tokens)
        yield coap.Message(coap.CON, outer.code, mid, token, [*outer.options, block, *options],
                           payload[n * size : (n + 1) * size])


class Endpoint(coap.Endpoint):
    """coap.Endpoint under a context; answers an Echo once, as §B.1.2 and RFC 9175 want it."""

    def __init__(self, wire, context):
        super().__init__(wire)
        # somebody else may have spoken from this port a minute ago (RFC 7252 §4.4)
        self.mids = itertools.count(random.randrange(0x10000))
        self.context = context
        self.bindings = {}  # token: what responses are bound to
        self.last = None    # the last request's datagram
        self.outer = None   # the last response, as it came
        self.observations = []

    def anew(self, outer):
        """It is no retransmission."""
        outer.mid = next(self.mids) & 0xFFFF
        return outer

    def protect(self, message, **more):
        outer, self.bindings[message.token] = self.context.protect(message, **more)
        return outer

    def send(self, message, **more):
        self.last = self.protect(message, **more).encode()
        self.wire.send(self.last)

    def open(self, outer):
        """What is in a response → (message, its option)."""
        self.outer = outer
        return self.context.unprotect(outer, self.bindings[outer.token])

    def response(self, token, timeout=coap.ANSWER_TIMEOUT_S):
        return self.open(super().response(token, timeout))[0]

    def request(self, code, path, payload=b"", timeout=coap.ANSWER_TIMEOUT_S, echo=True, **more):
        message = self.build(code, path, payload, **more)
        answer = self.exchange(message, timeout)
        value = next((v for n, v in answer.options if n == ECHO), None)
        if echo and answer.code == 0x81 and value is not None:
            again = self.build(code, path, payload, **more)
            again.options.append((ECHO, value))
            answer = self.exchange(again, timeout)
        return answer

    def exchange(self, message, timeout=coap.ANSWER_TIMEOUT_S):
        self.send(message)
        return self.response(message.token, timeout)

    def confirmed(self, code, path, payload=b"", **more):
        """The same bytes again while no answer comes (RFC 8613 §8.1); an Echo is answered."""
        message = self.build(code, path, payload, **more)
        for _ in range(2):
            answer = self.insist(message)
            value = next((v for n, v in answer.options if n == ECHO), None)
            if answer.code != 0x81 or value is None:
                return answer
            message = self.build(code, path, payload, **more)
            message.options.append((ECHO, value))
        return answer

    def insist(self, message):
        datagram = self.protect(message).encode()
        for wait_s in (2, 4, 8, 16, 32):
            self.wire.send(datagram)
            try:
                return self.response(message.token, wait_s)
            except TimeoutError:
                continue
        raise TimeoutError("no answer to five transmissions")

    def raw_answer(self, message, timeout=coap.ANSWER_TIMEOUT_S):
        """An outer message as it is; what comes for it, as it is."""
        self.wire.send(message.encode())
        return super().response(message.token, timeout)

    def observe(self, path, **more):
        self.observations.append(Observation(self, path, **more))
        return self.observations[-1]

    def renew(self, code=coap.GET, path=".well-known/core", *more):
        """Appendix B.2, from the client's side; the answer to request 2. From then on the context is the new one."""
        r1 = os.urandom(R_SIZE)
        first = Endpoint(self.wire, self.context.under(r1))
        first.mids = self.mids
        message = first.build(code, path, *more)
        outer, binding = first.context.protect(message, kid_context=cbor2.dumps(r1))
        answer = first.raw_answer(outer)
        option = Option.decode(next((v for n, v in answer.options if n == OSCORE), None) or b"")
        if option.kid_context is None:
            raise Unprotected(answer)
        r2 = cbor2.loads(option.kid_context)
        assert isinstance(r2, bytes) and len(r2) >= R_SIZE
        assert option.piv == b"\0", "for some the nonce of request 1 is another under R2 || R1"
        told, _ = self.context.under(r2 + r1).unprotect(answer, binding)
        assert told.status == "4.01", told.status
        r3 = os.urandom(R_SIZE)
        self.context, self.bindings = self.context.under(r2 + r3), {}
        message = self.build(code, path, *more)
        outer, self.bindings[message.token] = self.context.protect(message, kid_context=cbor2.dumps(r2 + r3))
        self.renewal = outer  # request 2
        return self.open(self.raw_answer(outer))[0]


class Observation:
    """A resource as it is told (RFC 7641), in the order of Partial IVs (RFC 8613 §4.1.3.5.2)."""

    def __init__(self, session, path, token=None, **more):
        self.session, self.path, self.more = session, path, more
        self.number, self.had_none, self.token = -1, False, token
        self.n_dropped = 0
        self.register()

    def register(self, value=b""):
        options = [(OBSERVE, value)]
        self.first = self.session.request(coap.GET, self.path, options=options, token=self.token, **self.more)
        self.token = self.first.token
        if self.first.option(OBSERVE) is not None:
            option = Option.decode(next(v for n, v in self.session.outer.options if n == OSCORE))
            self.number, self.had_none = -1, False
            assert self.is_new(option)
        return self.first

    def is_new(self, option):
        if option.piv is None:
            is_new, self.had_none = not self.had_none and self.number < 0, True
            return is_new
        number = int.from_bytes(option.piv, "big")
        if number <= self.number:
            return False
        self.number = number
        return True

    def message(self, timeout=coap.ANSWER_TIMEOUT_S, answer=coap.ACK):
        """The next message that is new; None when none comes. What is of another token is a fault."""
        deadline = time.monotonic() + timeout
        while (left := deadline - time.monotonic()) > 0 and (data := self.session.wire.recv(left)) is not None:
            outer = coap.decode(data)
            assert outer.token == self.token, outer
            if outer.type == coap.CON and answer is not None:
                self.session.wire.send(coap.Message(answer, 0, outer.mid).encode())
            inner, option = self.session.open(outer)
            if inner.option(OBSERVE) is None or self.is_new(option):
                return inner
            self.n_dropped += 1
        return None

    def next(self, **more):
        message = self.message(**more)
        assert message and message.status == "2.05" and message.option(OBSERVE) is not None, message
        return cbor2.loads(message.payload)

    def cancel(self):
        return self.session.request(coap.GET, self.path, options=[(OBSERVE, b"\1")], token=self.token, **self.more)

    def hears_nothing(self):
        """What was to come would have come before the answer to this."""
        request = self.session.build(coap.GET, ".well-known/core")
        self.session.send(request)
        answer = coap.decode(self.session.wire.recv(10))
        assert answer.token == request.token, "a notification came"
        self.session.open(answer)
