"""Tokens taken apart by cbor2 and cryptography alone: nothing of ours decodes here."""

import cbor2
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESCCM, AESGCM

# COSE number → name, key size, how to build the AEAD (RFC 9053 §4)
ALGORITHMS = {
    10: ("AES-CCM-16-64-128", 16, lambda key: AESCCM(key, tag_length=8), 13),
    1: ("A128GCM", 16, AESGCM, 12),
    3: ("A256GCM", 32, AESGCM, 12),
}
KEY_SIZES = {name: size for name, size, _, _ in ALGORITHMS.values()}


def untag(token):
    """The tags around a token, outermost first, and the array inside."""
    tags, item = [], cbor2.loads(token)
    while isinstance(item, cbor2.CBORTag):
        tags.append(item.tag)
        item = item.value
    return tags, item


def open_token(token, key):
    """(algorithm name, tags, unprotected header, claims) of a COSE_Encrypt0 token (RFC 9052 §5.3); InvalidTag if it is not
    under this key."""
    tags, (protected, unprotected, ciphertext) = untag(token)
    header = cbor2.loads(protected)
    name, size, make, nonce_size = ALGORITHMS[header[1]]
    assert set(header) == {1} and len(key) == size and len(unprotected[5]) == nonce_size
    additional = cbor2.dumps(["Encrypt0", protected, b""])
    return name, tags, unprotected, cbor2.loads(make(key).decrypt(unprotected[5], ciphertext, additional))


def opens(token, key):
    try:
        open_token(token, key)
        return True
    except InvalidTag:
        return False
