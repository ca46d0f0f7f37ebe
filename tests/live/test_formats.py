"""Every token format with every kind of proof-of-possession key: the resource server opens it by itself, with an independent
decoder; introspection says the same; aceclient decode shows the same."""

import json
import os

import cbor2
import pytest
from cryptography.exceptions import InvalidSignature, InvalidTag
from cryptography.hazmat.primitives.serialization import load_der_public_key

import keys
import oscore
import tokens
from realm import Party, program, run, token

ENCRYPT0, MAC0, SIGN1 = tokens.ENCRYPT0, tokens.MAC0, tokens.SIGN1
NAMES = {ENCRYPT0: "COSE_Encrypt0", MAC0: "COSE_Mac0", SIGN1: "COSE_Sign1"}

# what a resource server is registered with → the COSE objects of its tokens, outermost first
FORMATS = {
    "encrypt0": (["--token-format", "encrypt0"], [ENCRYPT0]),
    "encrypt0 tagged": (["--token-format", "encrypt0", "--token-tagged", "yes"], [ENCRYPT0]),
    "encrypt0 trl": (["--token-format", "encrypt0", "--trl", "yes"], [ENCRYPT0]),
    **{f"encrypt0 {alg}": (["--token-format", "encrypt0", "--token-alg", alg], [ENCRYPT0])
       for alg in ("AES-CCM-16-128-128", "A128GCM", "A256GCM", "ChaCha20-Poly1305")},
    "mac0": (["--token-format", "mac0"], [MAC0]),
    "mac0 short": (["--token-format", "mac0", "--token-alg", "HMAC-256-64", "--wrap-alg", "A256GCM"], [MAC0]),
    "mac0 trl": (["--token-format", "mac0", "--trl", "yes"], [MAC0]),
    "sign1": (["--token-format", "sign1"], [SIGN1]),
    "sign1 trl": (["--token-format", "sign1", "--trl", "yes"], [SIGN1]),
    "sign1 ES384": (["--token-format", "sign1", "--sign-alg", "ES384"], [SIGN1]),
    "sign1 EdDSA": (["--token-format", "sign1", "--sign-alg", "EdDSA"], [SIGN1]),
    "sign-encrypt": (["--token-format", "sign-encrypt"], [ENCRYPT0, SIGN1]),
    "sign-encrypt trl": (["--token-format", "sign-encrypt", "--trl", "yes", "--sign-alg", "EdDSA"], [ENCRYPT0, SIGN1]),
    "opaque": (["--token-format", "opaque"], []),
}
POP_KEYS = ("symmetric", *keys.CURVES)
DERIVING = [name for name, (_, kinds) in FORMATS.items() if kinds]


class Server:
    """A resource server registered with these options: it knows what acectl printed for it, nothing else."""

    def __init__(self, realm, *options):
        self.realm, self.name = realm, f"rs{next(realm.numbers)}"
        self.party = Party(self.name, f"id-{self.name}".encode(), os.urandom(16), private_key=keys.new_key())
        shown = realm.ctl("rs", "add", self.name, "--scope", "read write", *options)
        self.key, self.wrap_key, self.derivation_key = (bytes.fromhex(shown.get(f"{name}_key_hex", "")) for name in (
            "token", "wrap", "derivation"))
        self.signer_hex = next((key["public_key_hex"] for key in realm.ctl_items("key", "list")
                                if (key["role"], key["alg"]) == ("sign", shown["sign_alg"])), "")
        realm.add_credential("rs", self.party)

    def open(self, access_token):
        signer = load_der_public_key(bytes.fromhex(self.signer_hex)) if self.signer_hex else None
        return tokens.open_any(access_token, self.key, signer)

    def pop_key(self, claims):
        return tokens.pop_key(claims, self.wrap_key or self.key)

    def decode(self, access_token):
        """What aceclient makes of it with the same keys."""
        options = ["--as-key", self.signer_hex] if self.signer_hex else []
        for name, key in (("key", self.key), ("wrap-key", self.wrap_key), ("derivation-key", self.derivation_key)):
            options += [f"--{name}-hex", key.hex()] if key else []
        return json.loads(run(program("aceclient"), "-o", "json", *options, "decode", access_token.hex()).stdout)["token"]


@pytest.fixture(scope="module")
def clients(shared):
    """For each kind of PoP key a client that has such a key registered, and the key."""
    made = {}
    for kind in POP_KEYS:
        key = None if kind == "symmetric" else keys.new_key(kind)
        made[kind] = shared.add_client(), key
        if key:
            shared.ctl("client", "credential", "add", made[kind][0].name, "--kind", "rpk", "--public-key-hex",
                       keys.spki(key).hex())
    return made


@pytest.fixture(scope="module", autouse=True)
def signing_keys(shared):
    for alg in ("ES384", "EdDSA"):
        shared.acectl("key", "rotate", "--role", "sign", "--alg", alg)


def ask(realm, client, key, server):
    """A token bound to this key, or to a new symmetric one."""
    realm.policy(client, server)
    with realm.connect(client) as session:
        return token(session, server, "read", extra={4: {1: keys.cose_key(key)}} if key else {})


def check_form(opened, options, kinds):
    """The COSE objects, the tags around them, and where the header parameters are."""
    assert opened.kinds == kinds
    is_trl = "--trl" in options
    tagged = is_trl or "--token-tagged" in options
    assert opened.tags == ([tokens.CWT, kinds[0]] if tagged else [])
    assert opened.protected_only or not is_trl


def layers(shown):
    while shown:
        yield shown
        shown = shown.get("content")


def check_shown(shown, opened, key):
    """aceclient decode has the same layers, claims and key."""
    found = list(layers(shown))
    assert [layer["type"] for layer in found] == [NAMES[kind] for kind in opened.kinds]
    assert all(layer["verified"] for layer in found if layer["type"] != NAMES[ENCRYPT0])
    claims = found[-1]["claims"]
    assert claims["cti"] == opened.claims[7].hex() and claims["scope"] == opened.claims[9]
    (how, value), = claims["cnf"].items()
    if how == "Encrypted_COSE_Key":
        value = found[-1]["pop_key"]
    named = {-1: "k", 2: "kid"} if key[1] == keys.SYMMETRIC else {-2: "x"}
    assert all(value[name] == key[label].hex() for label, name in named.items())


def check_introspection(realm, server, access_token, claims, key):
    said = realm.introspect(server.party, access_token)
    assert said[10] is True and said[8] == {1: key}
    assert {label: said[label] for label in (1, 3, 4, 6, 7, 9)} == {label: claims[label] for label in (1, 3, 4, 6, 7, 9)}


@pytest.mark.parametrize("kind", POP_KEYS)
@pytest.mark.parametrize("form", FORMATS)
def test_format(shared, clients, form, kind):
    options, kinds = FORMATS[form]
    client, key = clients[kind]
    server = Server(shared, *options, "--pop-key", kind)
    answer = ask(shared, client, key, server)
    access_token, expected = answer[1], keys.cose_key(key) if key else answer[8][1]
    assert (41 in answer) == (key is not None)
    if form == "opaque":
        said = shared.introspect(server.party, access_token)
        assert said[10] is True and said[8] == {1: expected} and said[3] == server.name and said[9] == "read"
        assert server.decode(access_token)["type"] == "opaque reference"
        return
    opened = server.open(access_token)
    check_form(opened, options, kinds)
    assert server.pop_key(opened.claims) == expected
    assert opened.claims[3] == server.name and opened.claims[9] == "read"
    if key is None:  # AS-063
        assert expected[-1] not in access_token
    check_introspection(shared, server, access_token, opened.claims, expected)
    check_shown(server.decode(access_token), opened, expected)


@pytest.mark.parametrize("form", DERIVING)
def test_derived_key(shared, form):
    """AS-103, AS-104: the token names the key, the resource server computes it from the token's bytes."""
    server = Server(shared, *FORMATS[form][0], "--derive-key", "yes")
    answer = ask(shared, shared.add_client(), None, server)
    key = answer[8][1]
    opened = server.open(answer[1])
    assert tokens.pop_key(opened.claims) in (None, {1: 4, 2: key[2]})
    assert tokens.derived_key(server.derivation_key, answer[1], len(key[-1])) == key[-1]
    assert server.decode(answer[1])["derived_key"] == key[-1].hex()


@pytest.mark.parametrize("form", DERIVING)
def test_no_other_key_opens(shared, form):
    """AS-064: each format falls to pieces when a bit of it changes, or under another key."""
    server = Server(shared, *FORMATS[form][0])
    access_token = ask(shared, shared.add_client(), None, server)[1]
    assert server.open(access_token)
    damaged = access_token[:-1] + bytes([access_token[-1] ^ 1])
    with pytest.raises((InvalidTag, InvalidSignature)):
        server.open(damaged)
    assert shared.introspect(server.party, damaged) == {10: False}
    keyed = bool(FORMATS[form][1][0] != SIGN1)
    server.key = os.urandom(len(server.key)) if keyed else server.key
    server.signer_hex = server.signer_hex if keyed else keys.spki(keys.new_key("Ed25519" if "EdDSA" in form else
                                                                             "P-384" if "ES384" in form else "P-256")).hex()
    with pytest.raises((InvalidTag, InvalidSignature)):
        server.open(access_token)
    done = run(program("aceclient"), "--key-hex", server.key.hex(), *(["--as-key", server.signer_hex] if server.signer_hex else []),
               "decode", access_token.hex(), check=False)
    assert done.returncode == 1 and ("open" in done.stderr or "not of this key" in done.stderr), done.stderr


# ---- the profile coap_oscore (RFC 9203): formats in which nobody else reads the material

MATERIAL_FORMATS = [name for name, (_, kinds) in FORMATS.items() if kinds[:1] in ([], [ENCRYPT0])]
READABLE_FORMATS = [name for name in FORMATS if name not in MATERIAL_FORMATS]
BOTH_PROFILES = ["--profile", "coap_dtls", "--profile", "coap_oscore"]
ID, MS, HKDF, ALG, SALT, CONTEXT_ID = 0, 2, 3, 4, 5, 6
OSC = 4  # in cnf


def check_material(osc, alg=10, hkdf=5):
    """AS-130, AS-135 to AS-138: integer labels, no algorithm that is the default, always a salt and a context id."""
    assert set(osc) == {ID, MS, SALT, CONTEXT_ID} | ({ALG} if alg != 10 else set()) | ({HKDF} if hkdf != 5 else set())
    assert osc.get(ALG, 10) == alg and osc.get(HKDF, 5) == hkdf
    assert len(osc[MS]) == oscore.ALGORITHMS[alg][1] and len(osc[SALT]) == len(osc[CONTEXT_ID]) == 8
    assert list(osc) == sorted(osc)


def security_context(osc, nonces, sender_id, recipient_id):
    """RFC 9203 §4.3, as client and resource server each do it."""
    salt = b"".join(cbor2.dumps(part) for part in (osc[SALT], *nonces))
    return oscore.Context(osc[MS], sender_id, recipient_id, salt, osc[CONTEXT_ID], osc.get(ALG, 10), osc.get(HKDF, 5))


def check_understanding(of_client, of_server):
    """What the client was told and what the resource server was told lead to one security context."""
    nonces, id1, id2 = [os.urandom(8), os.urandom(8)], b"\x01", b"\x02"
    client, server = security_context(of_client, nonces, id2, id1), security_context(of_server, nonces, id1, id2)
    cipher = client.encrypt(b"open the door", b"\0")
    assert server.unseal.decrypt(server.nonce(id2, b"\0"), cipher, server.aad(id2, b"\0")) == b"open the door"
    assert (server.sender_key, server.common_iv) == (client.recipient_key, client.common_iv)


@pytest.fixture(scope="module", params=["DTLS", "OSCORE"])
def asker(shared, request):
    """A client with both profiles, and the channel that it asks over."""
    return shared.add_client(None, *BOTH_PROFILES, context=[] if request.param == "OSCORE" else None)


@pytest.mark.parametrize("form", MATERIAL_FORMATS)
def test_material(shared, asker, form):
    """AS-130, AS-131, AS-132, AS-160; AS-122, AS-124: and more rights for it, by its id."""
    options, kinds = FORMATS[form]
    server = Server(shared, *options, "--profile", "coap_oscore")
    answer = ask(shared, asker, None, server)
    osc = answer[8][OSC]
    assert set(answer) == {1, 2, 8} and set(answer[8]) == {OSC}
    check_material(osc)
    said = shared.introspect(server.party, answer[1])
    assert said[10] is True and said[38] == 2 and cbor2.dumps(said[8]) == cbor2.dumps({OSC: osc})
    assert osc[MS] not in answer[1] and osc[CONTEXT_ID] not in answer[1]
    if kinds:
        opened = server.open(answer[1])
        check_form(opened, options, kinds)
        assert cbor2.dumps(opened.claims[8]) == cbor2.dumps({OSC: osc})
        check_understanding(osc, opened.claims[8][OSC])
        shown = list(layers(server.decode(answer[1])))[-1]["claims"]["cnf"]["osc"]
        assert shown == {name: osc[label].hex() for name, label in (("id", ID), ("ms", MS), ("salt", SALT),
                                                                   ("contextId", CONTEXT_ID))}
    with shared.connect(asker) as session:
        update = token(session, server, "read write", extra={4: {3: osc[ID]}})
    assert set(update) == {1, 2}
    assert shared.introspect(server.party, update[1])[8] == {3: osc[ID]}
    assert not kinds or server.open(update[1]).claims[8] == {3: osc[ID]}


@pytest.mark.parametrize("hkdf", oscore.HASH_NAMES)
@pytest.mark.parametrize("alg", oscore.ALGORITHM_NAMES)
def test_material_of_other_algorithms(shared, asker, alg, hkdf):
    server = Server(shared, *BOTH_PROFILES, "--prefer-profile", "coap_oscore", "--oscore-alg", alg, "--oscore-hkdf", hkdf)
    answer = ask(shared, asker, None, server)
    osc = answer[8][OSC]
    assert answer[38] == 2
    check_material(osc, oscore.ALGORITHM_NAMES[alg], oscore.HASH_NAMES[hkdf])
    check_understanding(osc, server.open(answer[1]).claims[8][OSC])


def test_profile_like_the_channel(shared, asker):
    """Of several profiles the one that the client speaks to us; it is told, as the client could have got the other."""
    server = Server(shared, *BOTH_PROFILES)
    answer = ask(shared, asker, None, server)
    assert (answer[38], *answer[8]) == ((2, OSC) if asker.context else (1, tokens.COSE_KEY))
    assert shared.ctl("explain", asker.name, server.name, "read", "--channel", "oscore")["profile"] == "coap_oscore"


@pytest.mark.parametrize("form", READABLE_FORMATS)
def test_no_material_that_all_can_read(shared, form):
    done = shared.acectl("rs", "add", f"rs{next(shared.numbers)}", *FORMATS[form][0], *BOTH_PROFILES, check=False)
    assert done.returncode == 1 and "RFC 9203 section 3.2" in done.stderr, done.stderr
