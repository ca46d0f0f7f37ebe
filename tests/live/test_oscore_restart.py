"""OSCORE over the end of a process: Echo (RFC 8613 Appendix B.1.2, RFC 9175), numbers, renewal (Appendix B.2). Names as
in test_oscore.py."""

import os

import cbor2
import pytest

import coap
import oscore
from oscore import ECHO, OSCORE, Option, Unprotected, shortest
from realm import introspect, token
from test_oscore import CORE, REPLAYED, UNKNOWN, n_tokens, option_of, request, says, token_request

UNLIMITED = {"limits": {name: 0 for name in ("source_request_rate", "total_request_rate", "peer_request_rate",
                                             "server_request_rate")}}


@pytest.fixture
def world(make_realm):
    """Of a process that knows no context yet: each test ends one."""
    realm = make_realm(UNLIMITED).start()
    client, other = realm.add_client(context=[]), realm.add_client(context=[])
    rs = realm.add_rs(None, context=[])
    realm.policy(client, rs)
    realm.policy(other, rs)
    return {"realm": realm, "client": client, "other": other, "rs": rs}


def echo_of(answer):
    """4.01 with Echo and nothing else (B.1.2)."""
    assert answer.status == "4.01" and answer.payload == b"" and [n for n, _ in answer.options] == [ECHO]
    value = answer.options[0][1]
    assert 1 <= len(value) <= 40
    return value


def ask_echo(session, outer=None):
    answer, option = session.open(session.raw_answer(outer or request(session)))
    assert option.piv is not None, "with a number of its own"
    return echo_of(answer)


def test_osc_027_029_the_window_is_unknown_after_a_restart(world):
    realm = world["realm"]
    with realm.connect(world["client"]) as session:
        session.request(*CORE)
        captured = token_request(session, world)
        assert session.open(session.raw_answer(captured))[0].status == "2.01"
        unsent = token_request(session, world)  # kept back by somebody on the way
    before = n_tokens(realm)
    realm.restart()
    with realm.connect(world["client"]) as session, realm.connect(world["client"]) as attacker:
        attacker.bindings = session.bindings | {outer.token: (session.context.sender_id, option_of(outer).piv)
                                                for outer in (captured, unsent)}
        for outer in (captured, unsent, captured):
            ask_echo(attacker, attacker.anew(outer))  # and it was not run
        assert n_tokens(realm) == before
        assert token(session, world["rs"], "read") and n_tokens(realm) == before + 1
        for outer in (captured, unsent):
            says(attacker, attacker.anew(outer), REPLAYED)
        assert n_tokens(realm) == before + 1


def test_osc_028_an_echo_that_is_not_ours(world):
    """Bent, of another context, of an earlier process: asked again, with another one each time."""
    realm = world["realm"]
    with realm.connect(world["client"]) as session, realm.connect(world["other"]) as other:
        old, foreign = ask_echo(session), ask_echo(other)
        realm.restart()
        session.wire = coap.Udp(realm.address("coap"))
        fresh = ask_echo(session)
        seen = {old, foreign, fresh}
        for value in (old, foreign, bytes([fresh[0] ^ 1]) + fresh[1:], fresh[:-1] + bytes([fresh[-1] ^ 1]), fresh[:-1],
                      fresh + b"\0", b"\0", b"\0" * 40, b"", bytes(41)):
            seen.add(ask_echo(session, request(session, options=[(ECHO, value)])))
        assert len(seen) > 10
        outer = request(session, options=[(ECHO, fresh)])
        assert session.open(session.raw_answer(outer))[0].status == "2.05"


def test_osc_028_an_echo_outside_is_none(world):
    with world["realm"].connect(world["client"]) as session:
        value = ask_echo(session)
        outer = request(session)
        outer.options.append((ECHO, value))
        ask_echo(session, outer)


def test_osc_029_the_number_with_the_echo_is_the_lowest(world):
    realm = world["realm"]
    with realm.connect(world["client"]) as session:
        value = ask_echo(session, request(session, piv=shortest(10)))
        answer, _ = session.open(session.raw_answer(request(session, piv=shortest(100), options=[(ECHO, value)])))
        assert answer.status == "2.05"
        for number in (100, 99, 98, 70, 11, 10, 0):
            says(session, request(session, piv=shortest(number)), REPLAYED)
        for number in (102, 101, 133):
            assert session.open(session.raw_answer(request(session, piv=shortest(number))))[0].status == "2.05"


def test_osc_025_own_numbers_over_kills(world):
    """A few; tests/live/crash has hundreds."""
    realm = world["realm"]
    seen = set()
    for _ in range(5):
        with realm.connect(world["client"]) as session, realm.connect(world["other"]) as other:
            for each in (session, other, session):
                ask_echo(each)
                number = option_of(each.outer).piv
                assert number not in seen, "one number for all contexts, once"
                seen.add(number)
        realm.restart()


def test_tokens_and_devices_survive_a_restart(world):
    realm = world["realm"]
    with realm.connect(world["client"]) as client, realm.connect(world["rs"]) as rs:
        before = token(client, world["rs"], "read")[1]
        realm.restart()
        client.wire, rs.wire = coap.Udp(realm.address("coap")), coap.Udp(realm.address("coap"))
        assert introspect(rs, before)[10] is True
        assert introspect(rs, token(client, world["rs"], "read")[1])[10] is True


def test_a_lost_echo_costs_one_retransmission(world):
    """The same bytes, the same answer: one number of ours."""
    with world["realm"].connect(world["client"]) as session:
        outer = request(session)
        answers = {session.raw(outer.encode()) for _ in range(3)}
        assert len(answers) == 1
        value = echo_of(session.open(coap.decode(answers.pop()))[0])
        outer = request(session, options=[(ECHO, value)])
        answers = {session.raw(outer.encode()) for _ in range(3)}
        assert len(answers) == 1 and session.open(coap.decode(answers.pop()))[0].status == "2.05"


def test_many_echo_rounds_at_once(world):
    """Several requests under way when the server comes back: each is told, and any of them may be the first."""
    realm = world["realm"]
    with realm.connect(world["client"]) as session:
        session.request(*CORE)
        messages = [session.build(*CORE) for _ in range(10)]
        for message in messages:
            session.send(message)
        assert {session.response(message.token).status for message in messages} == {"2.05"}, "its window is known"
        realm.restart()
        session.wire = coap.Udp(realm.address("coap"))
        for message in messages:
            session.send(message)
        values = [echo_of(session.response(message.token)) for message in messages]
        outers = [request(session, options=[(ECHO, value)]) for value in values]
        # the highest first: those below it are too late, and are asked anew by their senders
        assert session.open(session.raw_answer(outers[-1]))[0].status == "2.05"
        says(session, outers[0], REPLAYED)
        assert session.request(*CORE, echo=False).status == "2.05"


# ---- Appendix B.2

@pytest.fixture
def renewing(world):
    realm = world["realm"]
    party = realm.add_client(context=["--renews", "yes"])
    assert party.records[0]["record"]["renews"] is True
    realm.policy(party, world["rs"])
    with realm.connect(party) as session:
        yield session


def renew(session):
    answer = session.renew()
    if any(number == ECHO for number, _ in answer.options):
        answer = session.request(*CORE)
    assert answer.status == "2.05"


def test_osc_049_renewal(world, renewing):
    """A device that knows no number any more; the context of before is gone, that of afterwards stays."""
    realm, old = world["realm"], renewing.context
    token(renewing, world["rs"], "read")
    renew(renewing)
    assert token(renewing, world["rs"], "read") and renewing.context is not old
    with realm.speak(old) as former:
        outer = request(former)
        answer = former.raw_answer(outer)
        assert (answer.status, answer.payload) in (UNKNOWN, ("4.00", b"Decryption failed"))
    realm.restart()
    renewing.wire = coap.Udp(realm.address("coap"))
    assert token(renewing, world["rs"], "read"), "on disk"


def test_osc_049_kid_context_after_a_renewal(world, renewing):
    """Not needed any more; as it is or as a CBOR byte string it is right."""
    renew(renewing)
    id_context = renewing.context.id_context
    for kid_context in (None, id_context, cbor2.dumps(id_context)):
        outer = request(renewing)
        option = Option(option_of(outer).piv, kid_context, renewing.context.sender_id)
        outer.options = [(OSCORE, option.encode())]
        assert renewing.open(renewing.raw_answer(outer))[0].status == "2.05"


def test_osc_049_no_request_of_a_renewal_is_taken_twice(world, renewing):
    """The second is a token request. Again, during the same renewal and after the next, it is at most the beginning of
    another one, which changes nothing."""
    realm, original = world["realm"], renewing.context
    token_request = (coap.POST, "token", cbor2.dumps({5: world["rs"].name, 9: "read"}), coap.ACE_CBOR)
    before = n_tokens(realm)
    answer = renewing.renew(*token_request)
    assert answer.status == "2.01" and n_tokens(realm) == before + 1
    again = renewing.renewal
    with realm.plain() as attacker:
        for n in range(4):
            if n == 2:
                renewing.context = original
                assert renewing.renew().status == "2.05"
            attacker.wire.send(renewing.anew(again).encode())
            answer = attacker.response(again.token)
            if any(number == OSCORE for number, _ in answer.options):
                assert answer.code == 0x44 and option_of(answer).kid_context, "response 1"
            else:
                assert (answer.status, answer.payload) in (REPLAYED, UNKNOWN)
            assert n_tokens(realm) == before + 1
            assert renewing.request(*CORE, echo=False).status == "2.05"


def test_osc_049_a_renewal_that_is_not_finished_changes_nothing(world, renewing):
    """Request 1 of anybody who has it, as often as he wants: the context goes on. (Too often is 5.03, which one source
    alone does not come to: test_renewal.c.)"""
    token(renewing, world["rs"], "read")
    known = []
    for n in range(40):
        r1 = os.urandom(8)
        first = renewing.context.under(r1)
        outer, binding = first.protect(renewing.build(*CORE), kid_context=cbor2.dumps(r1))
        answer = renewing.raw_answer(outer)
        option = option_of(answer)
        r2 = cbor2.loads(option.kid_context)
        assert r2 not in known
        known.append(r2)
        assert renewing.context.under(r2 + r1).unprotect(answer, binding)[0].status == "4.01"
    assert renewing.request(*CORE, echo=False).status == "2.05"


def test_osc_049_who_may_not_renew(world):
    """A context that was not made for it is not found by an ID Context of the device's own choice."""
    with world["realm"].connect(world["client"]) as session:
        session.request(*CORE)
        with pytest.raises(Unprotected) as told:
            session.renew()
        assert (told.value.message.status, told.value.message.payload) == UNKNOWN


def test_osc_049_a_renewal_ends_what_was_observed(world):
    """Notifications were bound to keys that are gone."""
    realm = world["realm"]
    party = realm.add_rs(None, "--trl", "yes", context=["--renews", "yes"])
    realm.policy(world["client"], party)
    with realm.connect(party) as rs, realm.connect(world["client"]) as client:
        watcher = rs.observe("revoke/trl")
        assert watcher.first.option(oscore.OBSERVE) is not None
        renew(rs)
        mine = token(client, party, "read")[1]
        assert client.post("revoke", cbor2.dumps({11: mine})).status == "2.04"
        message = rs.build(*CORE)
        rs.send(message)
        assert coap.decode(rs.wire.recv(10)).token == message.token, "a notification came"
        watcher = rs.observe("revoke/trl")
        assert watcher.first.option(oscore.OBSERVE) is not None
