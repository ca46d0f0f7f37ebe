"""Tokens taken apart by cbor2 and cryptography alone: nothing of ours decodes here."""

import dataclasses
import hashlib
import hmac

import cbor2
from cryptography.exceptions import InvalidSignature, InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.ciphers.aead import AESCCM, AESGCM, ChaCha20Poly1305
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

ENCRYPT0, MAC0, SIGN1, CWT = 16, 17, 18, 61
COSE_KEY, ENCRYPTED_COSE_KEY, KID = 1, 2, 3  # in cnf (RFC 8747 §7.2)

# COSE number → name, key size, how to build the AEAD (RFC 9053 §4)
ALGORITHMS = {
    10: ("AES-CCM-16-64-128", 16, lambda key: AESCCM(key, tag_length=8), 13),
    30: ("AES-CCM-16-128-128", 16, lambda key: AESCCM(key, tag_length=16), 13),
    1: ("A128GCM", 16, AESGCM, 12),
    3: ("A256GCM", 32, AESGCM, 12),
    24: ("ChaCha20-Poly1305", 32, ChaCha20Poly1305, 12),
}
MACS = {4: ("HMAC-256-64", 8), 5: ("HMAC-256-256", 32)}  # RFC 9053 §3.1
SIGNATURES = {-7: ("ES256", hashes.SHA256, 32), -35: ("ES384", hashes.SHA384, 48), -8: ("EdDSA", None, 32)}  # §2
KEY_SIZES = {name: size for name, size, _, _ in ALGORITHMS.values()} | {name: 32 for name, _ in MACS.values()}


def untag(token):
    """The tags around a token, outermost first, and the array inside."""
    tags, item = [], cbor2.loads(token)
    while isinstance(item, cbor2.CBORTag):
        tags.append(item.tag)
        item = item.value
    return tags, item


def headers(protected, unprotected):
    """Both maps in one; no label is in both (RFC 9052 §3)."""
    header = cbor2.loads(protected) if protected else {}
    assert not set(header) & set(unprotected)
    return header | unprotected


def decrypt(array, key):
    """(header, plaintext) of a COSE_Encrypt0 (RFC 9052 §5.3); InvalidTag."""
    protected, unprotected, ciphertext = array
    header = headers(protected, unprotected)
    _, size, make, nonce_size = ALGORITHMS[header[1]]
    assert set(header) <= {1, 4, 5} and 1 not in unprotected
    if len(key) != size:
        raise InvalidTag
    assert len(header[5]) == nonce_size
    return header, make(key).decrypt(header[5], ciphertext, cbor2.dumps(["Encrypt0", protected, b""]))


def authenticate(array, key):
    """(header, payload) of a COSE_Mac0 (RFC 9052 §6.3); InvalidTag."""
    protected, unprotected, payload, tag = array
    header = headers(protected, unprotected)
    assert set(header) <= {1, 4} and 1 not in unprotected
    _, size = MACS[header[1]]
    good = hmac.new(key, cbor2.dumps(["MAC0", protected, b"", payload]), hashlib.sha256).digest()[:size]
    if not hmac.compare_digest(good, tag):
        raise InvalidTag
    return header, payload


def verify(array, public_key):
    """(header, payload) of a COSE_Sign1 (RFC 9052 §4.4); InvalidSignature."""
    protected, unprotected, payload, signature = array
    header = headers(protected, unprotected)
    assert set(header) <= {1, 4} and 1 not in unprotected
    _, digest, size = SIGNATURES[header[1]]
    data = cbor2.dumps(["Signature1", protected, b"", payload])
    assert len(signature) == 2 * size
    if digest is None:
        public_key.verify(signature, data)
    else:
        r, s = (int.from_bytes(part, "big") for part in (signature[:size], signature[size:]))
        public_key.verify(encode_dss_signature(r, s), data, ec.ECDSA(digest()))
    return header, payload


@dataclasses.dataclass
class Opened:
    kinds: list  # of the COSE objects, outermost first
    tags: list  # around the outermost
    headers: list  # one for each kind
    claims: dict
    protected_only: bool  # RFC 9770 §3: no unprotected header parameter


def open_any(token, key=b"", signer=None):
    """Open a self-contained token of any format; key: the AS-RS key, signer: the server's public key to sign with."""
    tags, array = untag(token)
    outer, kinds, seen = list(tags), [], []
    protected_only = True
    while True:
        # a bare one is told by its shape and algorithm: a resource server would know
        kind = next((tag for tag in tags if tag != CWT), None)
        if kind is None:
            kind = ENCRYPT0 if len(array) == 3 else MAC0 if cbor2.loads(array[0])[1] in MACS else SIGN1
        protected_only = protected_only and array[1] == {}
        opening = {ENCRYPT0: decrypt, MAC0: authenticate, SIGN1: verify}[kind]
        header, payload = opening(array, signer if kind == SIGN1 else key)
        kinds.append(kind)
        seen.append(header)
        tags, inner = untag(payload)
        if isinstance(inner, dict):
            return Opened(kinds, outer, seen, inner, protected_only)
        array = inner


def open_token(token, key):
    """(algorithm name, tags, unprotected header, claims) of a COSE_Encrypt0 token (RFC 9052 §5.3); InvalidTag if it is not
    under this key."""
    tags, array = untag(token)
    header, plain = decrypt(array, key)
    return ALGORITHMS[header[1]][0], tags, array[1], cbor2.loads(plain)


def derived_key(derivation_key, token, size=16):
    """The PoP key of a token that names it by kid alone (RFC 9202 §3.3.1)."""
    info = cbor2.dumps(["ACE-CoAP-DTLS-key-derivation", size, token])
    return HKDF(hashes.SHA256(), size, None, info).derive(derivation_key)


def pop_key(claims, key=b""):
    """The key of cnf: a COSE_Key as a map, decrypted under the AS-RS key when it has to be; None for a kid alone."""
    (kind, value), = claims[8].items()
    if kind == COSE_KEY:
        return value
    if kind == ENCRYPTED_COSE_KEY:
        return cbor2.loads(decrypt(value.value if isinstance(value, cbor2.CBORTag) else value, key)[1])
    assert kind == KID
    return None


def opens(token, key):
    try:
        open_token(token, key)
        return True
    except InvalidTag:
        return False


def opens_any(token, key=b"", signer=None):
    try:
        return open_any(token, key, signer)
    except (InvalidTag, InvalidSignature):
        return None
