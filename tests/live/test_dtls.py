"""The door of aced: who gets in, with which suites, and what those hear who do not."""

import os
import shutil
import socket
import subprocess
import time

import pytest

import coap
import dtls
from realm import COMMAND_TIMEOUT_S, Party, run, token
from tokens import opens

UNKNOWN_PSK_IDENTITY = 115
# OpenSSL's names of the suites that a device may come with; RFC 9202 §3.3.2 has the first as its must
SUITES = ["PSK-AES128-CCM8", "PSK-AES128-CCM", "PSK-AES128-GCM-SHA256", "PSK-CHACHA20-POLY1305", "ECDHE-PSK-CHACHA20-POLY1305"]
# and by the other library
GNUTLS_SUITES = {
    "ECDHE-PSK-CHACHA20-POLY1305":
        b"NONE:+VERS-DTLS1.2:+ECDHE-PSK:+CHACHA20-POLY1305:+AEAD:+SHA256:+GROUP-ALL:+SIGN-ALL:+COMP-NULL",
    "PSK-AES128-CCM": b"NONE:+VERS-DTLS1.2:+PSK:+AES-128-CCM:+AEAD:+SHA256:+SIGN-ALL:+COMP-NULL",
    "PSK-AES128-CCM-8": b"NONE:+VERS-DTLS1.2:+PSK:+AES-128-CCM-8:+AEAD:+SHA256:+SIGN-ALL:+COMP-NULL",
}


@pytest.mark.parametrize("suite", SUITES)
def test_suite(shared, suite):
    """AS-107 and its neighbours, by OpenSSL."""
    client, rs = shared.pair()
    with shared.connect(client, ciphers=suite) as session:
        assert session.wire.cipher == suite
        assert opens(token(session, rs, "read")[1], rs.token_key)


@pytest.mark.parametrize("suite", GNUTLS_SUITES)
def test_suite_by_gnutls(shared, suite):
    client, rs = shared.pair()
    with shared.connect(client, wire=dtls.GnuTls, priority=GNUTLS_SUITES[suite]) as session:
        assert opens(token(session, rs, "read")[1], rs.token_key)


@pytest.mark.parametrize("suite", ["PSK-AES128-CBC-SHA256", "PSK-NULL-SHA256"])
def test_suite_not_offered(shared, suite):
    with pytest.raises(dtls.HandshakeError):
        shared.connect(shared.add_client(), ciphers=suite)


def test_command_line_clients(shared):
    """openssl s_client and gnutls-cli get through the cookie and the handshake."""
    client = shared.add_client()
    host, port = shared.address("coaps")
    done = subprocess.run(
        ["openssl", "s_client", "-dtls1_2", "-psk_identity", client.identity.decode(), "-psk", client.key.hex(), "-cipher",
         "PSK-AES128-CCM8:@SECLEVEL=0", "-connect", f"{host}:{port}"],
        input=b"Q\n", capture_output=True, timeout=COMMAND_TIMEOUT_S)
    assert b"Cipher is PSK-AES128-CCM8" in done.stdout, done.stdout + done.stderr
    done = subprocess.run(
        ["gnutls-cli", "--udp", "--pskusername", client.identity.decode(), "--pskkey", client.key.hex(), "--priority",
         "NONE:+VERS-DTLS1.2:+PSK:+AES-128-CCM-8:+AEAD:+SHA256:+SIGN-ALL:+COMP-NULL", "-p", str(port), host],
        input=b"", capture_output=True, timeout=COMMAND_TIMEOUT_S)
    assert b"Handshake was completed" in done.stdout, done.stdout + done.stderr


def test_unknown_identity_hears_of_it_at_once(shared):
    before = time.monotonic()
    with pytest.raises(dtls.HandshakeError) as error:
        shared.connect(Party("nobody", b"nobody", os.urandom(16)))
    assert error.value.alert == UNKNOWN_PSK_IDENTITY
    assert time.monotonic() - before < dtls.HANDSHAKE_TIMEOUT_S / 2


@pytest.mark.parametrize("wire", [dtls.OpenSsl, dtls.GnuTls])
def test_wrong_psk(shared, wire):
    client, rs = shared.pair()
    before = shared.ctl("status")["store"]
    with pytest.raises(dtls.HandshakeError) as error:
        shared.connect(Party(client.name, client.identity, os.urandom(16)), wire=wire)
    assert error.value.alert is not None, "the server says that it is no use"
    assert shared.ctl("status")["store"] == before | {
        key: value for key, value in shared.ctl("status")["store"].items() if key.endswith("size")}
    assert opens(shared.token(client, rs, "read")[1], rs.token_key), "the right key still gets in"


@pytest.mark.parametrize("identity", [b"a\0b", b"\0", b"a\0", bytes(range(128)), bytes([0xFF] * 128)])
def test_binary_identity(shared, identity):
    client = shared.add_client(identity=identity)
    with shared.connect(client, wire=dtls.GnuTls) as session:
        assert session.request(coap.GET, ".well-known/core").status == "2.05"


def test_identities_that_differ_behind_a_zero_byte(shared):
    a, b = shared.add_client(identity=b"same\0a"), shared.add_client(identity=b"same\0b")
    for party in (a, b):
        shared.connect(party, wire=dtls.GnuTls).close()
    with pytest.raises(dtls.HandshakeError):
        shared.connect(Party("crossed", a.identity, b.key), wire=dtls.GnuTls)
    with pytest.raises(dtls.HandshakeError):
        shared.connect(Party("cut", b"same", a.key), wire=dtls.GnuTls)


def test_close_notify(shared):
    client = shared.add_client()
    before = shared.ctl("status")["figures"]["sessions"]
    session = shared.connect(client)
    assert session.request(coap.GET, ".well-known/core").status == "2.05"
    assert shared.ctl("status")["figures"]["sessions"] == before + 1
    session.close()
    deadline = time.monotonic() + 60
    while shared.ctl("status")["figures"]["sessions"] != before:
        assert time.monotonic() < deadline, "the session outlives its close_notify"


def test_client_that_reboots(shared):
    """The same address and port again, by a device that forgot its session."""
    client, rs = shared.pair()
    first = shared.connect(client)
    token(first, rs, "read")
    source = first.wire.socket.getsockname()
    first.wire.abandon()
    connected = dtls.connected

    def from_source(address):
        s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        s.bind(source)
        s.connect(address)
        s.setblocking(False)
        return s

    dtls.connected = from_source
    try:
        with shared.connect(client) as session:
            assert session.wire.socket.getsockname() == source
            assert opens(token(session, rs, "read")[1], rs.token_key)
    finally:
        dtls.connected = connected


def test_rubbish_at_the_door(shared):
    """Datagrams that are no DTLS are answered with nothing, and nobody else notices."""
    client, rs = shared.pair()
    with shared.connect(client) as session:
        for rubbish in (b"\x16", b"\x16\xfe\xfd" + bytes(10), os.urandom(1200), b"\x17\xfe\xfd" + os.urandom(60), bytes(1)):
            stranger = coap.Udp(shared.address("coaps"))
            stranger.send(rubbish)
            assert stranger.recv(0.1) is None
            stranger.close()
        assert opens(token(session, rs, "read")[1], rs.token_key)


def test_hello_without_cookie_is_answered_small(shared):
    """Only a HelloVerifyRequest, not longer than what called for it, and no session is kept."""
    hello = bytearray(os.urandom(32))
    body = b"\xfe\xfd" + bytes(hello) + b"\0" + b"\0" + b"\x00\x02\xc0\xa8" + b"\x01\x00"
    handshake = b"\x01" + len(body).to_bytes(3, "big") + b"\0\0" + b"\0\0\0" + len(body).to_bytes(3, "big") + body
    record = b"\x16\xfe\xff" + bytes(8) + len(handshake).to_bytes(2, "big") + handshake
    before = shared.ctl("status")["figures"]
    stranger = coap.Udp(shared.address("coaps"))
    stranger.send(record)
    answer = stranger.recv(10)
    stranger.close()
    assert answer[13] == 3, "HelloVerifyRequest (RFC 6347 §4.2.1)"
    assert len(answer) <= len(record)
    after = shared.ctl("status")["figures"]
    assert after["sessions"] == before["sessions"] and after["handshakes_begun"] == before["handshakes_begun"]


def test_idle_sessions_go(make_realm):
    realm = make_realm({"limits": {"session_idle_s": "10"}}).start()
    session = realm.connect(realm.add_client())
    with pytest.raises(ConnectionError):
        while session.wire.recv(60) is None:
            pytest.fail("the idle session was not closed")
    session.close()


def test_programs_are_here():
    """The clients that this file runs are in scripts/check's list of packages."""
    assert shutil.which("openssl") and shutil.which("gnutls-cli") and run("openssl", "version").stdout
