"""OSCORE (RFC 8613) at the coap door, as an independent partner sees it. Tests are named for the lines of the list in
test_oscore_lines.py; what is refused is refused as §8.2 says, and nothing is changed by it."""

import itertools
import json
import os
import sqlite3

import cbor2
import pytest

import coap
import oscore
from oscore import ECHO, FETCH, OSCORE, Option, shortest
from realm import SOURCE, introspect, refused, token
from test_blocks import fetch_rest

RFC = json.loads((SOURCE / "tests/vectors/oscore-rfc8613.json").read_text())
COMPUTED = json.loads((SOURCE / "tests/vectors/oscore-computed.json").read_text())
UNDECODABLE = ("4.02", b"Failed to decode COSE")
UNKNOWN = ("4.01", b"Security context not found")
REPLAYED = ("4.01", b"Replay detected")
UNDECRYPTABLE = ("4.00", b"Decryption failed")
CORE = (coap.GET, ".well-known/core")
GREASE, CRITICAL = 65000, 65001  # options that nobody knows
NO_RESPONSE, PROXY_URI, URI_HOST, URI_PORT = 258, 35, 3, 7


@pytest.fixture(scope="module")
def world(unlimited):
    realm = unlimited
    client, other = realm.add_client(context=[]), realm.add_client(context=[])
    rs = realm.add_rs(None, "--trl", "yes", context=[])
    realm.policy(client, rs)
    realm.policy(other, rs)
    return {"realm": realm, "client": client, "other": other, "rs": rs}


def n_tokens(realm):
    return realm.ctl("status")["store"]["tokens"]


def ask(world, **more):
    return cbor2.dumps({5: world["rs"].name, 9: "read", **more})


@pytest.fixture
def session(world):
    """The client's, known to the server; what is refused leaves nothing behind and the next request is served."""
    realm = world["realm"]
    with realm.connect(world["client"]) as session:
        assert session.request(*CORE).status == "2.05"
        before = n_tokens(realm)
        yield session
        assert n_tokens(realm) == before, "something was stored"
        assert session.request(*CORE, echo=False).status == "2.05", "its window is not what it was"


def says(session, outer, expected):
    """The answer to an outer message is this, unprotected; without its text when that would be more than was asked."""
    answer = session.raw_answer(outer)
    fits = 4 + len(outer.token) + 1 + len(expected[1]) <= len(outer.encode())
    assert (answer.status, answer.payload) == (expected if fits else (expected[0], b""))
    assert answer.type == (coap.ACK if outer.type == coap.CON else coap.NON) and len(answer.options) <= 1
    assert answer.option(coap.MAX_AGE) == 0 or not answer.options, "Max-Age 0 at most (§8.2)"
    assert not any(number == OSCORE for number, _ in answer.options)
    return answer


def request(session, code=coap.GET, path=".well-known/core", payload=b"", piv=None, **more):
    """A protected request that was not sent yet, and its token request if it is for one."""
    return session.protect(session.build(code, path, payload, **more), piv=piv)


def token_request(session, world, **more):
    return request(session, coap.POST, "token", ask(world), content_format=coap.ACE_CBOR, **more)


def with_option(outer, value):
    outer.options = [o for o in outer.options if o[0] != OSCORE] + [(OSCORE, value)]
    return outer


def option_of(outer):
    return Option.decode(next(value for number, value in outer.options if number == OSCORE))


def add(realm, client, *options):
    """Whether it may be registered is to be seen."""
    return realm.acectl("-o", "json", "client", "credential", "add", client.name, "--kind", "oscore", *options,
                        check=False)


# ---- keys, identities, algorithms

COMBINATIONS = [(alg, hkdf) for alg in oscore.ALGORITHM_NAMES for hkdf in oscore.HASH_NAMES]


@pytest.mark.parametrize("alg,hkdf", COMBINATIONS)
def test_osc_001_003_010_keys_of_each_algorithm(world, alg, hkdf):
    """Also with a context that was made up elsewhere, salt, ID Context and all."""
    realm = world["realm"]
    secret, salt, id_context = os.urandom(32), os.urandom(8), os.urandom(8)
    client = realm.add_client(context=["--alg", alg, "--hkdf", hkdf, "--secret-hex", secret.hex(), "--salt-hex",
                                       salt.hex(), "--id-context-hex", id_context.hex()])
    record = client.records[0]["record"]
    assert (record["master_secret_hex"], record["master_salt_hex"], record["id_context_hex"]) == \
        (secret.hex(), salt.hex(), id_context.hex())
    assert (record["alg"], record["hkdf"]) == (alg, hkdf)
    realm.policy(client, world["rs"])
    assert realm.token(client, world["rs"], "read")[1]


def test_osc_001_the_context_of_appendix_c(world):
    """RFC 8613 C.1.1, C.4: the published request, byte for byte as it stands there, is understood."""
    realm, given = world["realm"], RFC["key_derivation"][0]["input"]
    client = realm.add_client(context=["--secret-hex", given["master_secret"], "--salt-hex", given["master_salt"],
                                       "--sender-id-hex", given["sender_id"],
                                       "--recipient-id-hex", given["recipient_id"]])
    vector = next(row for row in RFC["messages"] if row["name"] == "C.4")
    with realm.connect(client) as session:
        outer = coap.decode(bytes.fromhex(vector["output"]["protected_coap"]))
        session.bindings[outer.token] = (session.context.sender_id, option_of(outer).piv)
        echo, _ = session.open(session.raw_answer(outer))
        assert echo.status == "4.01" and echo.options[0][0] == ECHO
        session.context.numbers = itertools.count(21)
        assert session.request(*CORE).status == "2.05"


@pytest.mark.parametrize("id_context", [None, b"", b"\0"], ids=["none", "no bytes", "a zero byte"])
def test_osc_002_id_context_none_and_empty(world, id_context):
    realm = world["realm"]
    options = [] if id_context is None else ["--id-context-hex", id_context.hex()]
    client = realm.add_client(context=options)
    assert client.context.id_context == id_context
    with realm.connect(client) as session:
        assert session.request(*CORE).status == "2.05"
        for other in {None, b"", b"\0"} - {id_context}:
            wrong = client.context.under(other)
            wrong.numbers = client.context.numbers
            session.context = wrong
            outer = request(session, piv=shortest(1000))
            says(session, with_option(outer, Option(shortest(1000), None, wrong.sender_id).encode()), UNDECRYPTABLE)
        session.context = client.context
        assert session.request(*CORE, echo=False).status == "2.05"


def test_osc_003_unknown_hkdf_is_refused(world):
    realm = world["realm"]
    for option in (["--hkdf", "SHA-1"], ["--hkdf", "99"], ["--alg", "AES-CCM-64-64-128-X"]):
        done = add(realm, world["client"], *option)
        assert done.returncode != 0 and done.stderr


SIZES = [("AES-CCM-16-64-128", 7), ("AES-CCM-16-128-128", 7), ("A128GCM", 6), ("A256GCM", 6), ("ChaCha20-Poly1305", 6)]


@pytest.mark.parametrize("alg,most", SIZES)
def test_osc_004_identities_up_to_their_limit(world, alg, most):
    realm = world["realm"]
    kid = os.urandom(most)
    client = realm.add_client(context=["--alg", alg, "--sender-id-hex", kid.hex(), "--recipient-id-hex", "ff" * most])
    assert (client.context.sender_id, client.context.recipient_id) == (kid, b"\xff" * most)
    with realm.connect(client) as session:
        assert session.request(*CORE).status == "2.05"
    for side in ("--sender-id-hex", "--recipient-id-hex"):
        done = add(realm, client, "--alg", alg, side, os.urandom(most + 1).hex())
        assert done.returncode != 0 and done.stderr


def test_osc_004_an_identity_of_no_bytes(world):
    realm = world["realm"]
    client = realm.add_client(context=["--sender-id-hex", "", "--recipient-id-hex", "01", "--id-context-hex", "00"])
    assert client.context.sender_id == b""
    with realm.connect(client) as session:
        assert session.request(*CORE).status == "2.05"
        outer = request(session)
        assert option_of(outer).kid == b"" and option_of(outer).encode()[0] & 8
        assert session.open(session.raw_answer(outer))[0].status == "2.05"


def test_osc_044_contexts_with_one_kid(world):
    """The kid context picks one; without, all are tried."""
    realm, kid = world["realm"], os.urandom(2)
    clients = [realm.add_client(context=["--sender-id-hex", kid.hex(), *id_context])
               for id_context in ([], ["--id-context-hex", "01"], ["--id-context-hex", "02"])]
    for client in clients:
        realm.policy(client, world["rs"])
        with realm.connect(client) as session:
            token(session, world["rs"], "read")
            outer = request(session)
            outer = with_option(outer, Option(option_of(outer).piv, None, kid).encode())
            assert session.open(session.raw_answer(outer))[0].status == "2.05"
            outer = request(session)
            wrong = b"\x01" if client.context.id_context != b"\x01" else b"\x02"
            says(session, with_option(outer, Option(option_of(outer).piv, wrong, kid).encode()), UNDECRYPTABLE)
            outer = request(session)
            says(session, with_option(outer, Option(option_of(outer).piv, b"\x03", kid).encode()), UNKNOWN)
    owners = {row["client"] for row in realm.ctl_items("token", "list", "--rs", world["rs"].name)}
    assert {client.name for client in clients} <= owners, "each got a token of its own"


def test_osc_044_as_many_contexts_with_one_kid_as_can_be_served(world):
    """However many may be registered: each of them is served."""
    realm, kid = world["realm"], os.urandom(2)
    client, contexts = realm.add_client(context=[]), []
    for n in range(20):
        done = add(realm, client, "--sender-id-hex", kid.hex(), "--id-context-hex", f"{n:02x}")
        if done.returncode != 0:
            assert n >= 8, done.stderr
            break
        contexts.append(oscore.Context.of(json.loads(done.stdout)["record"]))
    for context in contexts:
        with realm.speak(context) as session:
            assert session.request(*CORE).status == "2.05"


def test_two_contexts_have_no_number_in_common(world):
    """Whatever is registered, no secret is there twice and no kid with its ID Context either."""
    realm, context = world["realm"], world["client"].context
    for options in (["--secret-hex", context.given["master_secret"].hex()],
                    ["--sender-id-hex", context.sender_id.hex()]):
        done = add(realm, world["other"], *options)
        assert done.returncode != 0 and done.stderr


# ---- what cannot be read

MALFORMED = {f"{row['option']}: {row['reason'][:40]}": bytes.fromhex(row["option"]) for row in RFC["malformed_options"]}


@pytest.mark.parametrize("type", [coap.CON, coap.NON], ids=["CON", "NON"])
@pytest.mark.parametrize("value", MALFORMED.values(), ids=MALFORMED)
def test_osc_006_017_malformed_option(world, session, value, type):
    says(session, with_option(token_request(session, world, type=type), value), UNDECODABLE)


@pytest.mark.parametrize("flag", [0x20, 0x40, 0x80])
def test_osc_006_reserved_flags_of_an_otherwise_good_request(world, session, flag):
    outer = token_request(session, world)
    value = option_of(outer).encode()
    says(session, with_option(outer, bytes([value[0] | flag]) + value[1:]), UNDECODABLE)


@pytest.mark.parametrize("size", [6, 7])
def test_osc_006_partial_iv_over_five_bytes(world, session, size):
    outer = token_request(session, world)
    value = bytes([0x08 | size]) + os.urandom(size) + session.context.sender_id
    says(session, with_option(outer, value), UNDECODABLE)


def test_osc_006_an_option_of_255_bytes_and_more(world, session):
    outer = token_request(session, world)
    says(session, with_option(outer, b"\x09\x01" + bytes(253)), UNKNOWN)
    outer = token_request(session, world)
    answer = session.raw_answer(with_option(outer, b"\x09\x01" + bytes(254)))
    assert answer.status == "4.02" and len(answer.encode()) < len(outer.encode())


def test_osc_007_the_option_twice(world, session):
    outer = token_request(session, world)
    outer.options += [o for o in outer.options if o[0] == OSCORE]
    answer = session.raw_answer(outer)
    assert answer.status == "4.02" and not any(number == OSCORE for number, _ in answer.options)


def test_osc_007_no_payload(world, session):
    outer = token_request(session, world)
    outer.payload = b""
    says(session, outer, UNDECODABLE)


def test_osc_005_options_are_as_short_as_can_be(session):
    """Of an ordinary answer it is of no bytes; the partner judges each that it reads."""
    assert session.request(*CORE).status == "2.05"
    assert [value for number, value in session.outer.options if number == OSCORE] == [b""]


# ---- numbers

def test_osc_008_the_highest_number(world):
    realm = world["realm"]
    client = realm.add_client(context=[])
    with realm.connect(client) as session:
        assert session.request(*CORE).status == "2.05"
        answer, _ = session.open(session.raw_answer(request(session, piv=b"\xff" * 5)))
        assert answer.status == "2.05"
        says(session, request(session), REPLAYED)


def test_osc_011_leading_zeros_are_no_other_number(world, session):
    number = next(session.context.numbers)
    says(session, request(session, piv=b"\0" + shortest(number)), UNDECODABLE)
    assert session.open(session.raw_answer(request(session, piv=shortest(number))))[0].status == "2.05"
    says(session, request(session, piv=b"\0" + shortest(number)), UNDECODABLE)


def test_osc_023_the_replay_window(world):
    """The published steps of a window of 32; the Echo makes the first."""
    realm = world["realm"]
    first, *steps = COMPUTED["replay_window_32"]["steps"]
    client = realm.add_client(context=[])
    with realm.connect(client) as session:
        value, = [v for n, v in session.request(*CORE, echo=False).options if n == ECHO]
        outer = request(session, options=[(ECHO, value)], piv=shortest(first["partial_iv"]))
        assert session.open(session.raw_answer(outer))[0].status == "2.05"
        for step in steps:
            outer = request(session, piv=shortest(step["partial_iv"]))
            if step["accept"]:
                assert session.open(session.raw_answer(outer))[0].status == "2.05", step
            else:
                says(session, outer, REPLAYED)


def test_osc_019_replay(world, session):
    """Another Message ID and token, another address: the number decides. The window is as before."""
    realm = world["realm"]
    outer = request(session)
    assert session.open(session.raw_answer(outer))[0].status == "2.05"
    for its_token in (outer.token, b"\xaa", b""):
        outer.token = its_token
        says(session, session.anew(outer), REPLAYED)
    with realm.connect(world["client"]) as elsewhere:
        says(elsewhere, elsewhere.anew(outer), REPLAYED)


def test_osc_019_a_token_request_is_not_run_twice(world):
    realm = world["realm"]
    with realm.connect(world["client"]) as session, realm.connect(world["client"]) as attacker:
        session.request(*CORE)
        before = n_tokens(realm)
        outer = token_request(session, world)
        assert session.open(session.raw_answer(outer))[0].status == "2.01"
        for _ in range(5):
            says(attacker, attacker.anew(outer), REPLAYED)
        assert n_tokens(realm) == before + 1


def test_osc_020_a_retransmission_gets_the_same_bytes(world):
    realm = world["realm"]
    with realm.connect(world["client"]) as session:
        session.request(*CORE)
        before = n_tokens(realm)
        outer = token_request(session, world)
        answers = {session.raw(outer.encode()) for _ in range(3)}
        assert len(answers) == 1 and n_tokens(realm) == before + 1
        assert session.open(coap.decode(answers.pop()))[0].status == "2.01"


def test_osc_024_the_same_request_on_two_sockets(world):
    realm = world["realm"]
    with realm.connect(world["client"]) as one, realm.connect(world["client"]) as two:
        one.request(*CORE)
        before = n_tokens(realm)
        for _ in range(20):
            outer = token_request(one, world)
            for each in (one, two):
                each.wire.send(outer.encode())
            answers = [coap.decode(each.wire.recv(10)) for each in (one, two)]
            protected = [a for a in answers if any(n == OSCORE for n, _ in a.options)]
            assert len(protected) == 1 and one.open(protected[0])[0].status == "2.01"
            assert [(a.status, a.payload) for a in answers if a not in protected] == [REPLAYED]
        assert n_tokens(realm) == before + 20


# ---- who it is

def test_osc_018_unknown_kid_and_unknown_kid_context(world, session):
    """One text for both: nobody learns which it was."""
    outer, piv = token_request(session, world), b"\x05"
    for option in (Option(piv, None, os.urandom(5)), Option(piv, None, os.urandom(9)),
                   Option(piv, b"\x99", session.context.sender_id), Option(piv, b"", session.context.sender_id),
                   Option(piv, os.urandom(70), session.context.sender_id)):
        session.anew(outer)
        says(session, with_option(outer, option.encode()), UNKNOWN)
    why = f"no OSCORE request: kid {session.context.sender_id.hex()}: {UNKNOWN[1].decode()}"
    assert why in world["realm"].log_text(), "whoever sets a device up can read it"


def test_osc_021_wrong_tag(world, session):
    """No bit of the ciphertext may be another one. The window does not move: also not to the highest number."""
    outer = token_request(session, world)
    good = outer.payload
    for n in range(len(good)):
        outer.payload = good[:n] + bytes([good[n] ^ 1 << n % 8]) + good[n + 1 :]
        says(session, session.anew(outer), UNDECRYPTABLE)
    for size in (1, 7, 8):
        outer.payload = good[:size]
        says(session, session.anew(outer), UNDECRYPTABLE)
    forged = with_option(request(session), Option(b"\xff" * 5, None, session.context.sender_id).encode())
    says(session, forged, UNDECRYPTABLE)


def test_osc_048_a_number_that_was_not_what_it_was_encrypted_under(session):
    outer = request(session)
    number = int.from_bytes(option_of(outer).piv, "big") + 1
    says(session, with_option(outer, Option(shortest(number), None, session.context.sender_id).encode()), UNDECRYPTABLE)


def test_osc_040_the_context_says_who_it_is(world, session):
    realm, other = world["realm"], world["other"]
    with realm.connect(other) as foreign:
        foreign.request(*CORE)
        outer = token_request(foreign, world, piv=shortest(2**30))
        stolen = with_option(outer, Option(option_of(outer).piv, None, session.context.sender_id).encode())
        says(foreign, stolen, UNDECRYPTABLE)
        # Uri-Host is anybody's
        answer = foreign.post("token", cbor2.dumps({5: world["rs"].name, 24: world["client"].name}),
                              options=[(URI_HOST, world["client"].name.encode())])
        refused(answer, 2, "4.01")


def test_osc_040_from_a_new_port_without_a_word(world):
    """NAT rebinding: the same context from wherever its device is now, and no round more."""
    realm = world["realm"]
    for _ in range(3):
        with realm.connect(world["client"]) as session:
            session.request(*CORE)
        with realm.connect(world["client"]) as session:
            assert session.request(*CORE, echo=False).status == "2.05"


def test_the_audit_trail_and_log_have_the_address_of_each_request(world):
    """The client is whom the context says, wherever it was that time."""
    realm = world["realm"]
    client = realm.add_client(context=[])
    realm.policy(client, world["rs"])
    ports = []
    for _ in range(3):
        with realm.connect(client) as session:
            token(session, world["rs"], "read")
            ports.append(session.wire.socket.getsockname()[1])
    rows = realm.ctl_items("audit", "list", "--actor", client.name)
    assert [int(row["peer"].rpartition(":")[2]) for row in rows] == ports
    known_by = f"ACED_CHANNEL=oscore ACED_CREDENTIAL={rows[0]['credential']} ACED_CREDENTIAL_KIND=oscore"
    for row in rows:
        assert f" ACED_PEER={row['peer']} {known_by} " in realm.log_text()


@pytest.mark.parametrize("path", ["token", "introspect", "revoke", "revoke/trl"])
def test_osc_041_unprotected_request_to_a_protected_resource(world, path):
    realm = world["realm"]
    before = n_tokens(realm)
    with realm.plain() as plain:
        code = coap.GET if path == "revoke/trl" else coap.POST
        answer = plain.request(code, path, b"" if code == coap.GET else ask(world), content_format=coap.ACE_CBOR)
        assert answer.status == "4.01" and (not answer.payload or set(cbor2.loads(answer.payload)) <= {30, 31})
    assert n_tokens(realm) == before


def test_osc_041_another_principals_context(world, session):
    """Who may ask what is as over DTLS: a server gets no token, a client learns of no token."""
    realm = world["realm"]
    answer = session.post("introspect", cbor2.dumps({11: b"x"}))
    assert answer.status == "4.03" and answer.payload == b""
    with realm.connect(world["rs"]) as rs:
        refused(rs.post("token", cbor2.dumps({5: world["rs"].name})), 4)


def test_osc_043_links_say_that_it_is_osc(world):
    with world["realm"].plain() as plain:
        links = fetch_rest(plain, plain.request(*CORE), CORE[1], CORE[0]).decode().split(",")
    for path in ("/token", "/introspect"):
        attributes = next(link for link in links if link.startswith(f"<{path}>")).split(";")
        assert attributes.count("osc") == 1 and not any(a.startswith("osc=") for a in attributes)


# ---- inside and outside

def test_osc_012_outer_codes(world):
    realm = world["realm"]
    with realm.connect(world["rs"]) as session:
        session.request(*CORE)
        assert session.outer.code == 0x44
        assert session.post("introspect", b"").status == "4.00" and session.outer.code == 0x44
        first = session.request(coap.GET, "revoke/trl", options=[(oscore.OBSERVE, b"")])
        assert first.option(oscore.OBSERVE) is not None and session.outer.code == 0x45
        assert all(number in (oscore.OBSERVE, OSCORE, coap.MAX_AGE) for number, _ in session.outer.options)


@pytest.mark.parametrize("code", [coap.POST, FETCH, coap.PUT, coap.GET], ids=["POST", "FETCH", "PUT", "GET"])
def test_osc_013_outer_code_is_dropped(session, code):
    outer = request(session)
    outer.code = code
    assert session.open(session.raw_answer(outer))[0].status == "2.05"


def test_osc_013_outer_class_e_options_are_dropped(world):
    """Wherever they lead: inside it says what is meant."""
    realm = world["realm"]
    with realm.connect(world["client"]) as session:
        session.request(*CORE)
        before = n_tokens(realm)
        outer = token_request(session, world)
        outer.options += [(1, b"if"), (4, b"\1\2"), (5, b""), (coap.MAX_AGE, b""), (coap.CONTENT_FORMAT, b"\x32"), (coap.ACCEPT, b"\x32"),
                          (coap.URI_PATH, b"introspect"), (coap.URI_QUERY, b"x=y"), (GREASE, b"anything"),
                          (ECHO, b"echo")]
        answer, _ = session.open(session.raw_answer(outer))
        assert answer.status == "2.01" and n_tokens(realm) == before + 1


@pytest.mark.parametrize("size", [0, 1, 8])
def test_tokens_of_each_size(session, size):
    for type in (coap.CON, coap.NON):
        assert session.request(*CORE, token=os.urandom(size), type=type).status == "2.05"


def test_edhoc_is_not_spoken(world, session):
    """Option 21 (RFC 9668) is critical: what is in front of the ciphertext is nobody's to guess."""
    outer = token_request(session, world)
    outer.options.append((21, b""))
    answer = session.raw_answer(outer)
    assert answer.status in ("4.00", "4.02") and not any(number == OSCORE for number, _ in answer.options)


def test_osc_014_uri_host_and_port_stand_outside(world, session):
    outer = request(session, options=[(URI_HOST, b"as.example"), (URI_PORT, b"\x16\x33")])
    assert {URI_HOST, URI_PORT} <= {number for number, _ in outer.options}
    assert session.open(session.raw_answer(outer))[0].status == "2.05"


def test_osc_014_we_are_no_proxy(world, session):
    outer = token_request(session, world)
    outer.options.append((PROXY_URI, b"coap://elsewhere.example"))
    assert session.raw_answer(outer).status == "5.05"


def test_osc_015_unknown_options_inside(session):
    answer = session.request(*CORE, options=[(CRITICAL, b"x")])
    assert answer.status == "4.02" and session.outer.code == 0x44
    assert session.request(*CORE, options=[(GREASE, b"x")]).status == "2.05"


def inside(session, plain, piv=None):
    """A request with any bytes inside, whether they are a message or not."""
    outer = request(session, piv=piv)
    outer.payload = session.context.encrypt(plain, option_of(outer).piv)
    return outer


def core_plain(*options):
    return bytes([coap.GET]) + coap.Message(0, 0, 0, b"", [*options, (11, b".well-known"), (11, b"core")]).encode()[4:]


def test_osc_016_oscore_inside_oscore(world, session):
    inner = request(session)
    plain = bytes([coap.POST]) + coap.Message(0, 0, 0, b"", inner.options, inner.payload).encode()[4:]
    says(session, inside(session, plain), UNDECRYPTABLE)
    # what was inside was never looked at: its number is as good as new
    assert session.open(session.raw_answer(session.anew(inner)))[0].status == "2.05"


@pytest.mark.parametrize("number,value", [(PROXY_URI, b"coap://elsewhere.example"), (39, b"coap")])
def test_osc_014_022_proxying_asked_for_inside(session, number, value):
    """Where no partner puts it (Class U): that we are no proxy is said inside, too."""
    outer = inside(session, core_plain((number, value)))
    assert session.open(session.raw_answer(outer))[0].status == "5.05"


NO_MESSAGES = {
    "an empty message": b"\0",
    "an empty message and more": b"\0\xb3abc",
    "a response": b"\x45",
    "a code of no class": b"\x20\xb3abc",
    "cut in an option": b"\1\xbb.well",
    "a reserved nibble": b"\1\xf0",
    "a payload marker and no payload": b"\1\xff",
    "33 options": b"\1" + b"\xb1x" + b"\x01x" * 32,
    "an option beyond 65535": b"\1\xe0\xff\xff\xe0\xff\xff",
}


@pytest.mark.parametrize("plain", NO_MESSAGES.values(), ids=NO_MESSAGES)
def test_malformed_inner_message(session, plain):
    """It is from whom it says, and no message: told as what does not decrypt is, and its number is spent."""
    outer = inside(session, plain)
    says(session, outer, UNDECRYPTABLE)
    says(session, session.anew(outer), REPLAYED)


def test_osc_021_nothing_inside_at_all(session):
    """A tag around no byte, not even a code."""
    says(session, inside(session, b""), UNDECRYPTABLE)


# ---- errors of the inside are protected

# name, what is asked, status
ERRORS = [
    ("unknown path", dict(code=coap.GET, path="nothing"), "4.04"),
    ("admin from the network", dict(code=coap.GET, path="v1/status"), "4.04"),
    ("GET /token", dict(code=coap.GET, path="token"), "4.05"),
    ("method 31", dict(code=31, path="token"), "4.05"),
    ("DELETE of nothing", dict(code=coap.DELETE, path="nothing"), "4.04"),
    ("not ACE's CBOR", dict(code=coap.POST, path="token", payload=b"\xa0", content_format=60), "4.15"),
    ("answer asked in JSON", dict(code=coap.POST, path="token", payload=b"\xa0", content_format=19, accept=50), "4.06"),
    ("If-Match", dict(code=coap.POST, path="token", payload=b"\xa0", content_format=19, options=[(1, b"x")]), "4.02"),
    ("no map", dict(code=coap.POST, path="token", payload=b"\x80", content_format=19), "4.00"),
    ("parameters in the query", dict(code=coap.POST, path="token", query=["audience=x"], content_format=19), "4.00"),
    ("proxying inside", dict(code=coap.GET, path=".well-known/core", options=[(CRITICAL, b"")]), "4.02"),
]


# 4.02 to who expects no acknowledgement is no answer at all (RFC 7252 §5.4.1)
TYPED = [(type, *row) for type in ("CON", "NON") for row in ERRORS if (type, row[2]) != ("NON", "4.02")]


@pytest.mark.parametrize("type,what,status", [(type, *row[1:]) for type, *row in TYPED],
                         ids=[f"{type}-{row[0]}" for type, *row in TYPED])
def test_osc_022_errors_are_protected(session, type, what, status):
    answer = session.request(type=coap.CON if type == "CON" else coap.NON, **what)
    assert answer.status == status and session.outer.code == 0x44
    assert [number for number, _ in session.outer.options] == [OSCORE]


def test_osc_022_too_large(world, session):
    """A body of more than payload_max in blocks inside."""
    limit = world["realm"].ctl("status")["limits"]["payload_max"]
    limit = limit["max"] if isinstance(limit, dict) else limit
    answer = session.request(coap.POST, "token", bytes(1024), content_format=19,
                             options=[(oscore.BLOCK1, b"\x0e"), (60, (limit + 1).to_bytes(2, "big"))])
    assert answer.status == "4.13" and session.outer.code == 0x44


def test_osc_039_max_age_stands_inside(make_realm):
    """4.29 to who asks too often (RFC 8516): when to come back is nobody else's business."""
    realm = make_realm({"limits": {"peer_request_rate": 1, "peer_request_burst": 5}}).start()
    client = realm.add_client(context=[])
    with realm.connect(client) as session:
        for _ in range(20):
            answer = session.request(*CORE)
            if answer.status != "2.05":
                break
        assert answer.status == "4.29" and answer.option(coap.MAX_AGE) >= 1
        assert [number for number, _ in session.outer.options] == [OSCORE] and session.outer.code == 0x44


def test_osc_038_no_response(world, session):
    """Inside it is honoured, outside it is not (RFC 7967)."""
    outer = request(session)
    outer.options.append((NO_RESPONSE, b"\x1a"))
    assert session.open(session.raw_answer(outer))[0].status == "2.05"
    for type in (coap.NON, coap.CON):
        quiet = request(session, options=[(NO_RESPONSE, b"\x1a")], type=type)
        session.wire.send(quiet.encode())
        after = request(session)
        session.wire.send(after.encode())
        heard = []
        while not heard or heard[-1].token != after.token:
            heard.append(coap.decode(session.wire.recv(10)))
        assert all(m.code == 0 and m.mid == quiet.mid for m in heard[:-1]), "an empty acknowledgement at most"
        assert session.open(heard[-1])[0].status == "2.05"


# ---- contexts come and go

def test_osc_045_suspended_and_deleted(world):
    realm = world["realm"]
    client = realm.add_client(context=[])
    realm.policy(client, world["rs"])
    with realm.connect(client) as session:
        token(session, world["rs"], "read")
        realm.acectl("client", "suspend", client.name)
        says(session, token_request(session, world), UNKNOWN)
        realm.acectl("client", "resume", client.name)
        token(session, world["rs"], "read")
        realm.acectl("client", "credential", "delete", client.name, client.records[0]["id"])
        says(session, token_request(session, world), UNKNOWN)
        again = realm.add_context("client", client)
        with realm.speak(again) as anew:
            token(anew, world["rs"], "read")
            realm.acectl("client", "delete", client.name)
            says(anew, token_request(anew, world), UNKNOWN)


def test_osc_045_a_secret_registered_again(world):
    """Its numbers begin where no number was: the partner would see a nonce twice."""
    realm = world["realm"]
    client = realm.add_client(context=[])
    context, record = client.context, client.records[0]["record"]
    with realm.connect(client) as session:
        session.request(*CORE)
        realm.acectl("client", "credential", "delete", client.name, client.records[0]["id"])
        realm.add_context("client", client, "--secret-hex", record["master_secret_hex"],
                          "--salt-hex", record["master_salt_hex"], "--sender-id-hex", record["sender_id_hex"],
                          "--recipient-id-hex", record["recipient_id_hex"])
        own = context.n_own
        assert session.request(*CORE).status == "2.05"
        assert context.n_own == own + 1, "an Echo was asked for: it does not know what was seen"


def test_osc_026_no_number_is_left(make_realm):
    """Ours: then nothing more is said under a number of ours, and nothing twice. The device's: 2^40 - 1 is the last."""
    realm = make_realm()
    realm.start()
    client = realm.add_client(context=[])
    with realm.connect(client) as session:
        assert session.request(*CORE).status == "2.05"
    realm.kill()
    with sqlite3.connect(realm.state / "aced.db") as db:
        assert db.execute("UPDATE leases SET next = ? WHERE kind = 3", (2**40 - 10,)).rowcount == 1
    db.close()
    realm.start()
    with realm.connect(client) as session:
        for _ in range(3):  # the Echo that would have to be asked for has no number
            answer = session.raw_answer(request(session))
            assert (answer.status, answer.payload) == ("5.03", b"")
            assert not any(number in (OSCORE, ECHO) for number, _ in answer.options)
    with realm.plain() as plain:
        assert plain.request(*CORE).status == "2.05"


# ---- endpoints

def test_token_and_introspection(world):
    realm = world["realm"]
    with realm.connect(world["client"]) as client, realm.connect(world["rs"]) as rs:
        access_token = token(client, world["rs"], "read")[1]
        assert introspect(rs, access_token)[10] is True
        assert introspect(rs, access_token[:-1]) == {10: False}
        answer = client.post("revoke", cbor2.dumps({11: access_token}))
        assert answer.status == "2.04"
        assert introspect(rs, access_token) == {10: False}


def test_the_same_answers_as_over_dtls(world):
    """Whoever has both kinds of credential is one party."""
    realm = world["realm"]
    client = realm.add_client()
    context = realm.add_context("client", client)
    realm.policy(client, world["rs"])
    with realm.connect(client) as dtls, realm.speak(context) as session:
        access_token = token(dtls, world["rs"], "read")[1]
        assert session.post("revoke", cbor2.dumps({11: access_token})).status == "2.04"
        for payload in (b"", b"\xa0", cbor2.dumps({5: "nobody"}), cbor2.dumps({5: world["rs"].name, 9: "admin"})):
            one, two = (each.post("token", payload) for each in (dtls, session))
            assert (one.status, one.options) == (two.status, two.options)
            one, two = (cbor2.loads(answer.payload) for answer in (one, two))
            assert one[30] == two[30] and one[31].partition(" (")[0] == two[31].partition(" (")[0]


def test_oscore_inside_dtls(world, session):
    """Over a session of somebody else it is not the context's owner who is answered, and nothing is done."""
    realm = world["realm"]
    somebody = realm.add_client()
    with realm.connect(somebody) as dtls:
        outer = token_request(session, world)
        dtls.wire.send(outer.encode())
        answer = coap.decode(dtls.wire.recv(10))
        assert (answer.status, answer.payload) == UNKNOWN and not answer.options
        assert dtls.request(*CORE).status == "2.05"
    # the number is not spent
    assert session.open(session.raw_answer(request(session, piv=option_of(outer).piv)))[0].status == "2.05"


def test_oscore_inside_dtls_of_the_same_party(world):
    """Needless, and right."""
    realm = world["realm"]
    client = realm.add_client()
    context = realm.add_context("client", client)
    realm.policy(client, world["rs"])
    with realm.connect(client) as dtls:
        assert token(oscore.Endpoint(dtls.wire, context), world["rs"], "read")
        assert token(dtls, world["rs"], "read")
