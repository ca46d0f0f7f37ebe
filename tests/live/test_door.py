"""Raw public keys and certificates at the door: who gets in, what those hear who do not, keys and trust that change."""

import signal
import subprocess

import pytest

import dtls
import keys
from realm import COMMAND_TIMEOUT_S, Party, program, run, token
from tokens import opens

FATAL_ALERT_RECEIVED = -12  # what GnuTLS says then
UNSUPPORTED_CERTIFICATE, CERTIFICATE_EXPIRED, CERTIFICATE_UNKNOWN, UNKNOWN_CA, ACCESS_DENIED = 43, 45, 46, 48, 49
RAW = ("NONE:+VERS-DTLS1.2:+AEAD:+ECDHE-ECDSA:+AES-128-CCM-8:+GROUP-X25519:+SIGN-ALL:+COMP-NULL:+CTYPE-CLI-RAWPK:"
       "+CTYPE-SRV-RAWPK")


@pytest.fixture
def authority():
    return keys.Authority()


@pytest.fixture
def trusting(make_realm, authority):
    """A running realm that trusts the authority."""
    realm = make_realm()
    anchors = realm.directory / "anchors.pem"
    anchors.write_bytes(authority.pem)
    realm.write_config({"coaps": {"trust_anchors": anchors}})
    return realm.start()


def party(name, key, chain=()):
    return Party(name, b"", b"", private_key=key, chain=list(chain))


def alert_of(realm, client, wire=None, **more):
    with pytest.raises(dtls.HandshakeError) as failed:
        realm.connect(client, wire=wire, **more).close()
    return failed.value.alert


@pytest.mark.parametrize("curve", ["P-256", "Ed25519"])
def test_raw_public_key(shared, curve):
    client = shared.add_client(private_key=keys.new_key(curve))
    rs = shared.add_rs()
    shared.policy(client, rs)
    assert opens(shared.token(client, rs, "read")[1], rs.token_key)


@pytest.mark.parametrize("curve,alert", [("P-256", CERTIFICATE_UNKNOWN), ("Ed25519", CERTIFICATE_UNKNOWN)])
def test_unknown_raw_public_key(shared, curve, alert):
    assert alert_of(shared, party("nobody", keys.new_key(curve))) == alert
    assert "nobody active has the raw public key" in shared.log_text()


def test_suspended(shared):
    client = shared.add_client(private_key=keys.new_key())
    shared.acectl("client", "suspend", client.name)
    assert alert_of(shared, client) == CERTIFICATE_UNKNOWN
    shared.acectl("client", "resume", client.name)
    shared.connect(client).close()


def test_no_trust_anchors(shared, authority):
    key = keys.new_key()
    assert alert_of(shared, party("c", key, authority.certify(key, "c")), wire=dtls.OpenSslX509) == UNKNOWN_CA


@pytest.mark.parametrize("wire", [dtls.OpenSslX509, dtls.GnuTlsPublicKey])
@pytest.mark.parametrize("rule", ["dns:meter-7.example", "uri:urn:dev:mac:0024befffe804ff1", "email:m7@example.com",
                                  "ip:192.0.2.7", "subject:CN=meter 7", "spki"])
def test_certificate(trusting, authority, rule, wire):
    key = keys.new_key()
    names = [] if rule.startswith(("subject", "spki")) else [rule]
    issuer = authority.below() if wire is dtls.OpenSslX509 else authority
    client = party("meter", key, issuer.certify(key, "meter 7", names=names))
    trusting.acectl("client", "add", client.name)
    trusting.add_credential("client", client, *([] if rule == "spki" else ["--match", rule]))
    rs = trusting.add_rs()
    trusting.policy(client, rs)
    with trusting.connect(client, wire=wire) as session:
        assert opens(token(session, rs, "read")[1], rs.token_key)


def test_certificate_of_a_suspended_client_lets_in_nobody_else(trusting, authority):
    key = keys.new_key()
    device = party("device", key, authority.certify(key, "meter", names=["dns:meter.example"]))
    for name, rule in (("narrow", "dns:meter.example"), ("broad", "subject:CN=meter")):
        trusting.acectl("client", "add", name)
        trusting.acectl("client", "credential", "add", name, "--match", rule)
    trusting.connect(device).close()
    trusting.acectl("client", "suspend", "narrow")
    assert alert_of(trusting, device, wire=dtls.OpenSslX509) == ACCESS_DENIED
    assert "is suspended" in trusting.log_text()


@pytest.mark.parametrize("what,alert", [
    ("expired", CERTIFICATE_EXPIRED), ("not yet", CERTIFICATE_EXPIRED), ("foreign", UNKNOWN_CA), ("unmatched", ACCESS_DENIED),
    ("P-384", UNSUPPORTED_CERTIFICATE), ("long", UNKNOWN_CA)])
def test_refused_certificate(trusting, authority, what, alert):
    key = keys.new_key("P-384" if what == "P-384" else "P-256")
    issuer = keys.Authority("Other CA") if what == "foreign" else authority
    for n in range(4 if what == "long" else 0):
        below, above = issuer.below(f"CA {n}"), getattr(issuer, "chain_above", [])
        below.chain_above = [below.der] + above
        issuer = below
    days = {"expired": (-20, -10), "not yet": (10, 20)}.get(what, (-1, 30))
    chain = [keys.certify(key, "meter", issuer.key, issuer.subject, names=["dns:meter.example"], days=days)]
    client = party("meter", key, chain + getattr(issuer, "chain_above", []))
    trusting.acectl("client", "add", client.name)
    if what != "unmatched":
        trusting.acectl("client", "credential", "add", client.name, "--match", "dns:meter.example")
    before = trusting.ctl("status")["figures"]["handshakes_failed"]
    assert alert_of(trusting, client, wire=dtls.OpenSslX509) == alert
    assert trusting.ctl("status")["figures"]["handshakes_failed"] == before + 1
    assert trusting.log_text().count("no DTLS session") == 1


def test_refusals_do_not_fill_the_log(trusting, authority):
    key = keys.new_key()
    client = party("meter", key, [keys.certify(key, "meter", authority.key, authority.subject, days=(-20, -10))])
    for _ in range(15):
        assert alert_of(trusting, client, wire=dtls.OpenSslX509) == CERTIFICATE_EXPIRED
    lines = [line for line in trusting.log_text().splitlines() if "the certificate has expired" in line]
    told = [line for line in lines if line.startswith("info: ")]
    assert len(lines) == 15 and lines[:10] == told[:10] and all(line.startswith(("info: ", "debug: ")) for line in lines)


def test_command_line_clients(trusting, authority, tmp_path):
    """openssl s_client with a certificate, gnutls-cli with a raw public key and with a certificate; both know the server."""
    key = keys.new_key()
    client = party("tool", key, authority.certify(key, "tool", names=["dns:tool.example"]))
    trusting.acectl("client", "add", client.name)
    trusting.acectl("client", "credential", "add", client.name, "--match", "dns:tool.example")
    (tmp_path / "key").write_bytes(keys.private_pem(key))
    (tmp_path / "certificate").write_bytes(keys.pem(*client.chain))
    trusting.acectl("client", "credential", "add", client.name, "--public-key", tmp_path / "certificate")
    server = next(k for k in trusting.ctl_items("key", "list") if (k["role"], k["alg"]) == ("door", "ES256"))
    (tmp_path / "server").write_text(trusting.acectl("key", "pem", server["id"]).stdout)
    run("openssl", "pkey", "-in", tmp_path / "key", "-pubout", "-out", tmp_path / "public")
    host, port = trusting.address("coaps")
    done = subprocess.run(
        ["openssl", "s_client", "-dtls1_2", "-cert", tmp_path / "certificate", "-key", tmp_path / "key",
         "-CAfile", tmp_path / "server", "-verify_return_error", "-cipher", "ECDHE-ECDSA-AES128-CCM8:@SECLEVEL=0",
         "-curves", "X25519:P-256",
         "-connect", f"{host}:{port}"], input=b"Q\n", capture_output=True, timeout=COMMAND_TIMEOUT_S)
    assert b"Cipher is ECDHE-ECDSA-AES128-CCM8" in done.stdout, done.stdout + done.stderr
    assert b"Verify return code: 0 (ok)" in done.stdout and b"Peer Temp Key: X25519" in done.stdout.replace(b"Server", b"Peer")
    for how in (["--rawpkfile", tmp_path / "public", "--rawpkkeyfile", tmp_path / "key", "--priority", RAW],
                ["--x509certfile", tmp_path / "certificate", "--x509keyfile", tmp_path / "key"]):
        done = subprocess.run(["gnutls-cli", "--udp", "--no-ca-verification", *how, "-p", str(port), host], input=b"",
                              capture_output=True, timeout=COMMAND_TIMEOUT_S)
        assert b"Handshake was completed" in done.stdout, done.stdout + done.stderr


def test_trust_changes(trusting, authority):
    """Trust anchors are read again at a reload; a file with a fault changes nothing; sessions end with their own."""
    other, key = keys.Authority("Other CA"), keys.new_key()
    old, new = (party("meter", key, a.certify(key, "meter", names=["dns:meter"])) for a in (authority, other))
    trusting.acectl("client", "add", "meter")
    trusting.acectl("client", "credential", "add", "meter", "--match", "dns:meter")
    rs = trusting.add_rs()
    trusting.policy(old, rs)
    assert alert_of(trusting, new, wire=dtls.OpenSslX509) == UNKNOWN_CA
    anchors = trusting.directory / "anchors.pem"
    with trusting.connect(old) as session:
        broken = b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"
        for text, says in ((broken, "is no certificate that can be read"),
                           (b"nothing", "there is no certificate in it")):
            anchors.write_bytes(text)
            checked = subprocess.run([program("aced"), "--check", trusting.config_path], capture_output=True,
                                     timeout=COMMAND_TIMEOUT_S)
            assert checked.returncode == 1 and says.encode() in checked.stderr
            reload(trusting)
            assert says in trusting.log_text()
        trusting.connect(old).close()
        anchors.write_bytes(other.pem + authority.pem)
        reload(trusting)
        assert opens(token(session, rs, "read")[1], rs.token_key)
        anchors.write_bytes(other.pem)
        reload(trusting)
        with pytest.raises(ConnectionError, match=f"receive: {FATAL_ALERT_RECEIVED}"):
            token(session, rs, "read")
        assert alert_of(trusting, old, wire=dtls.OpenSslX509) == UNKNOWN_CA
        trusting.connect(new).close()


def reload(realm):
    realm.notify.forget()
    realm.process.send_signal(signal.SIGHUP)
    assert realm.notify.wait("READY=1", realm.process)


def test_server_key_rotates(realm):
    """A client sees the old key until the overlap has passed, then the new one; an open session stays; so over a restart."""
    client = realm.add_client(private_key=keys.new_key())
    rs = realm.add_rs()
    realm.policy(client, rs)
    first = next(k for k in realm.ctl_items("key", "list") if (k["role"], k["alg"]) == ("door", "ES256"))

    def shown():
        with realm.connect(client) as session:
            return session.wire.peer.hex()

    assert shown() == first["public_key_hex"]
    with realm.connect(client) as session:
        later = realm.ctl("key", "rotate", "--overlap", "3600")
        assert later["state"] == "announced" and shown() == first["public_key_hex"]
        second = realm.ctl("key", "rotate", "--overlap", "0")
        assert second["state"] == "in force" and shown() == second["public_key_hex"]
        assert {k["id"]: k["state"] for k in realm.ctl("status")["keys"] if k["alg"] == "ES256" and k["role"] == "door"} == {
            first["id"]: "retired", second["id"]: "in force", later["id"]: "announced"}
        assert opens(token(session, rs, "read")[1], rs.token_key)
    assert realm.acectl("key", "delete", second["id"], check=False).returncode == 1
    realm.acectl("key", "delete", first["id"])
    realm.restart()
    assert shown() == second["public_key_hex"]
