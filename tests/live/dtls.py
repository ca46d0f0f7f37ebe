"""DTLS 1.2 clients. With a pre-shared key: OpenSSL's (not the server's library), and GnuTLS' for identities with zero bytes.
With certificates: OpenSSL's. With raw public keys, which OpenSSL 3.0 has not: GnuTLS', which does certificates, too."""

import ctypes
import select
import socket
import time

from keys import private_der, spki

HANDSHAKE_TIMEOUT_S = 20


class HandshakeError(Exception):
    """The handshake failed; alert is the number of the alert received, or None."""

    def __init__(self, text, alert=None):
        super().__init__(text)
        self.alert = alert


class HandshakeTimeout(HandshakeError):
    """Nothing was said against it, and nothing came of it."""


def load(*names):
    for name in names:
        try:
            return ctypes.CDLL(name)
        except OSError:
            continue
    raise OSError(f"none of {names} is installed")


def connected(address):
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    s.connect(address)
    s.setblocking(False)
    return s


class OpenSsl:
    _ssl = _crypto = None
    _PSK = ctypes.CFUNCTYPE(ctypes.c_uint, ctypes.c_void_p, ctypes.c_char_p, ctypes.POINTER(ctypes.c_char), ctypes.c_uint,
                            ctypes.POINTER(ctypes.c_char), ctypes.c_uint)
    WANT_READ, WANT_WRITE, ZERO_RETURN = 2, 3, 6
    CTRL_SET_MIN_PROTO, CTRL_HANDLE_TIMEOUT, CTRL_SET_CONNECTED, DTLS_1_2 = 123, 74, 32, 0xFEFD

    @classmethod
    def _libraries(cls):
        if cls._ssl is None:
            cls._crypto = load("libcrypto.so.3")
            ssl = load("libssl.so.3")
            for library, name, result, arguments in (
                (ssl, "DTLS_client_method", "p", ""), (ssl, "SSL_CTX_new", "p", "p"), (ssl, "SSL_CTX_free", None, "p"),
                (ssl, "SSL_CTX_ctrl", "l", "pilp"), (ssl, "SSL_CTX_set_cipher_list", "i", "ps"),
                (ssl, "SSL_CTX_set_psk_client_callback", None, "pp"), (ssl, "SSL_new", "p", "p"),
                (ssl, "SSL_free", None, "p"), (ssl, "SSL_set_bio", None, "ppp"), (ssl, "SSL_connect", "i", "p"),
                (ssl, "SSL_get_error", "i", "pi"), (ssl, "SSL_ctrl", "l", "pilp"), (ssl, "SSL_read", "i", "ppi"),
                (ssl, "SSL_write", "i", "psi"), (ssl, "SSL_shutdown", "i", "p"), (ssl, "SSL_get_current_cipher", "p", "p"),
                (ssl, "SSL_CTX_use_certificate_ASN1", "i", "pis"), (ssl, "SSL_CTX_use_PrivateKey", "i", "pp"),
                (ssl, "SSL_get1_peer_certificate", "p", "p"), (cls._crypto, "X509_free", None, "p"),
                (cls._crypto, "i2d_X509", "i", "pp"), (cls._crypto, "d2i_X509", "p", "ppl"),
                (cls._crypto, "d2i_AutoPrivateKey", "p", "ppl"), (cls._crypto, "EVP_PKEY_free", None, "p"),
                (ssl, "SSL_CIPHER_get_name", "s", "p"), (cls._crypto, "BIO_new_dgram", "p", "ii"),
                (cls._crypto, "BIO_ctrl", "l", "pilp"), (cls._crypto, "BIO_ADDR_new", "p", ""),
                (cls._crypto, "BIO_ADDR_free", None, "p"), (cls._crypto, "BIO_ADDR_rawmake", "i", "pisnh"),
                (cls._crypto, "ERR_get_error", "L", ""), (cls._crypto, "ERR_clear_error", None, ""),
            ):
                types = {"p": ctypes.c_void_p, "i": ctypes.c_int, "l": ctypes.c_long, "L": ctypes.c_ulong,
                         "s": ctypes.c_char_p, "n": ctypes.c_size_t, "h": ctypes.c_ushort, None: None}
                function = getattr(library, name)
                function.restype, function.argtypes = types[result], [types[a] for a in arguments]
            cls._ssl = ssl
        return cls._ssl, cls._crypto

    def __init__(self, address, identity, key, ciphers="PSK-AES128-CCM8"):
        assert b"\0" not in identity, "OpenSSL takes the identity as a string"
        self.callback = self._PSK(self._psk(identity, key))
        self._open(address, ciphers)

    def _open(self, address, ciphers):
        ssl, crypto = self._libraries()
        self.socket = connected(address)
        self.ctx = ssl.SSL_CTX_new(ssl.DTLS_client_method())
        ssl.SSL_CTX_ctrl(self.ctx, self.CTRL_SET_MIN_PROTO, self.DTLS_1_2, None)
        # the level must come down for tags of 8 bytes, which newer versions rate at 64 bits
        if ssl.SSL_CTX_set_cipher_list(self.ctx, f"{ciphers}:@SECLEVEL=0".encode()) != 1:
            raise OSError(f"OpenSSL has no {ciphers}")
        self.hint_seen = None
        self._credentials()
        self.ssl = ssl.SSL_new(self.ctx)
        bio = crypto.BIO_new_dgram(self.socket.fileno(), 0)
        peer = crypto.BIO_ADDR_new()
        crypto.BIO_ADDR_rawmake(peer, socket.AF_INET, socket.inet_aton(address[0]), 4, socket.htons(address[1]))
        crypto.BIO_ctrl(bio, self.CTRL_SET_CONNECTED, 0, peer)
        crypto.BIO_ADDR_free(peer)
        ssl.SSL_set_bio(self.ssl, bio, bio)
        try:
            self._handshake()
        except BaseException:
            self.abandon()
            raise
        self.cipher = ssl.SSL_CIPHER_get_name(ssl.SSL_get_current_cipher(self.ssl)).decode()

    def _credentials(self):
        self._libraries()[0].SSL_CTX_set_psk_client_callback(self.ctx, ctypes.cast(self.callback, ctypes.c_void_p))

    def _psk(self, identity, key):
        def callback(_ssl, hint, identity_out, identity_max, key_out, key_max):
            self.hint_seen = hint
            ctypes.memmove(identity_out, identity + b"\0", len(identity) + 1)
            ctypes.memmove(key_out, key, len(key))
            return len(key)

        return callback

    def _error(self, result, what):
        """Nothing when the library only waits; else the exception."""
        ssl, crypto = self._libraries()
        error = ssl.SSL_get_error(self.ssl, result)
        if error in (self.WANT_READ, self.WANT_WRITE):
            return None
        reason = crypto.ERR_get_error() & 0x7FFFFF
        crypto.ERR_clear_error()
        alert = reason - 1000 if 1000 <= reason < 1256 else None
        return HandshakeError(f"{what}: error {error}, reason {reason}", alert)

    def _handshake(self):
        ssl, crypto = self._libraries()
        deadline = time.monotonic() + HANDSHAKE_TIMEOUT_S
        while True:
            crypto.ERR_clear_error()
            result = ssl.SSL_connect(self.ssl)
            if result == 1:
                return
            if error := self._error(result, "handshake"):
                raise error
            if time.monotonic() > deadline:
                raise HandshakeTimeout(f"no handshake within {HANDSHAKE_TIMEOUT_S} s")
            if not select.select([self.socket], [], [], 0.2)[0]:
                ssl.SSL_ctrl(self.ssl, self.CTRL_HANDLE_TIMEOUT, 0, None)

    def send(self, data):
        ssl, crypto = self._libraries()
        crypto.ERR_clear_error()
        result = ssl.SSL_write(self.ssl, data, len(data))
        if result != len(data):
            raise self._error(result, "send") or OSError("the record was not sent")

    def recv(self, timeout):
        """One record, None when none came in time; ConnectionError when the server closed the session."""
        ssl, crypto = self._libraries()
        buffer = ctypes.create_string_buffer(65536)
        deadline = time.monotonic() + timeout
        while True:
            crypto.ERR_clear_error()
            result = ssl.SSL_read(self.ssl, buffer, len(buffer))
            if result > 0:
                return buffer.raw[:result]
            if ssl.SSL_get_error(self.ssl, result) == self.ZERO_RETURN:
                raise ConnectionError("close_notify")
            if error := self._error(result, "receive"):
                raise ConnectionError(str(error))
            left = deadline - time.monotonic()
            if left <= 0:
                return None
            select.select([self.socket], [], [], left)

    def close(self):
        if self.ssl:
            self._libraries()[0].SSL_shutdown(self.ssl)
        self.abandon()

    def abandon(self):
        """Go away without a word, as a device that lost power."""
        ssl, _ = self._libraries()
        if self.ssl:
            ssl.SSL_free(self.ssl)
            ssl.SSL_CTX_free(self.ctx)
            self.ssl = None
            self.socket.close()


class OpenSslX509(OpenSsl):
    """With a certificate (DER) of one's own, and the chain above it; the server's certificate is there to look at."""

    CTRL_EXTRA_CHAIN_CERT = 14

    def __init__(self, address, private_key, chain, ciphers="ECDHE-ECDSA-AES128-CCM8"):
        self.private_key, self.chain = private_key, chain
        self._open(address, ciphers)
        self.peer = self._peer()

    def _credentials(self):
        ssl, crypto = self._libraries()
        if not self.chain:
            return
        der = private_der(self.private_key)
        key = crypto.d2i_AutoPrivateKey(None, ctypes.byref(ctypes.c_char_p(der)), len(der))
        assert ssl.SSL_CTX_use_certificate_ASN1(self.ctx, len(self.chain[0]), self.chain[0]) == 1
        assert ssl.SSL_CTX_use_PrivateKey(self.ctx, key) == 1, "the certificate is not that key's"
        crypto.EVP_PKEY_free(key)
        for der in self.chain[1:]:
            above = crypto.d2i_X509(None, ctypes.byref(ctypes.c_char_p(der)), len(der))
            assert ssl.SSL_CTX_ctrl(self.ctx, self.CTRL_EXTRA_CHAIN_CERT, 0, above) == 1

    def _peer(self):
        """The server's certificate in DER."""
        ssl, crypto = self._libraries()
        certificate = ssl.SSL_get1_peer_certificate(self.ssl)
        out = ctypes.create_string_buffer(crypto.i2d_X509(certificate, None))
        crypto.i2d_X509(certificate, ctypes.byref(ctypes.c_void_p(ctypes.addressof(out))))
        crypto.X509_free(certificate)
        return out.raw


class GnuTls:
    _library = None
    CLIENT, DATAGRAM, NONBLOCK, ENABLE_RAWPK, CRD_CERTIFICATE, CRD_PSK, KEY_RAW = 2, 4, 8, 1 << 18, 1, 4, 0
    AGAIN, INTERRUPTED, FATAL_ALERT = -28, -52, -12
    PRIORITY = b"NONE:+VERS-DTLS1.2:+PSK:+ECDHE-PSK:+DHE-PSK:+AES-128-CCM-8:+AES-128-GCM:+AEAD:+SHA256:+GROUP-ALL:+SIGN-ALL:+COMP-NULL"

    class Datum(ctypes.Structure):
        _fields_ = [("data", ctypes.c_char_p), ("size", ctypes.c_uint)]

    @classmethod
    def _gnutls(cls):
        if cls._library is None:
            cls._library = load("libgnutls.so.30")
            cls._library.gnutls_record_recv.restype = ctypes.c_ssize_t
            cls._library.gnutls_record_send.restype = ctypes.c_ssize_t
        return cls._library

    @classmethod
    def _datum(cls, data):
        return ctypes.byref(cls.Datum(data, len(data)))

    def __init__(self, address, identity, key, priority=PRIORITY):
        library = self._gnutls()
        self.credentials, self.credentials_free = ctypes.c_void_p(), library.gnutls_psk_free_client_credentials
        self._check(library.gnutls_psk_allocate_client_credentials(ctypes.byref(self.credentials)))
        self._check(library.gnutls_psk_set_client_credentials2(self.credentials, self._datum(identity), self._datum(key),
                                                               self.KEY_RAW))
        self._open(address, self.CRD_PSK, priority)

    def _open(self, address, kind, priority, flags=0):
        library = self._gnutls()
        self.socket = connected(address)
        self.session = ctypes.c_void_p()
        self._check(library.gnutls_init(ctypes.byref(self.session), self.CLIENT | self.DATAGRAM | self.NONBLOCK | flags))
        self._check(library.gnutls_priority_set_direct(self.session, priority, None))
        self._check(library.gnutls_credentials_set(self.session, kind, self.credentials))
        library.gnutls_transport_set_int2(self.session, self.socket.fileno(), self.socket.fileno())
        library.gnutls_dtls_set_timeouts(self.session, 1000, HANDSHAKE_TIMEOUT_S * 1000)
        try:
            self._handshake()
        except BaseException:
            self.abandon()
            raise

    @staticmethod
    def _check(result):
        if result < 0:
            raise OSError(f"GnuTLS error {result}")

    def _handshake(self):
        library = self._gnutls()
        deadline = time.monotonic() + HANDSHAKE_TIMEOUT_S
        while (result := library.gnutls_handshake(self.session)) != 0:
            if result not in (self.AGAIN, self.INTERRUPTED) and library.gnutls_error_is_fatal(result):
                alert = library.gnutls_alert_get(self.session) if result == self.FATAL_ALERT else None
                raise HandshakeError(f"handshake: {result}", alert)
            if time.monotonic() > deadline:
                raise HandshakeTimeout(f"no handshake within {HANDSHAKE_TIMEOUT_S} s")
            select.select([self.socket], [], [], 0.2)

    def send(self, data):
        if self._gnutls().gnutls_record_send(self.session, data, ctypes.c_size_t(len(data))) != len(data):
            raise OSError("the record was not sent")

    def recv(self, timeout):
        buffer = ctypes.create_string_buffer(65536)
        deadline = time.monotonic() + timeout
        while True:
            result = self._gnutls().gnutls_record_recv(self.session, buffer, ctypes.c_size_t(len(buffer)))
            if result > 0:
                return buffer.raw[:result]
            if result == 0:
                raise ConnectionError("close_notify")
            if result not in (self.AGAIN, self.INTERRUPTED):
                raise ConnectionError(f"receive: {result}")
            left = deadline - time.monotonic()
            if left <= 0:
                return None
            select.select([self.socket], [], [], left)

    def close(self):
        if self.session:
            self._gnutls().gnutls_bye(self.session, 1)
        self.abandon()

    def abandon(self):
        library = self._gnutls()
        if self.session:
            library.gnutls_deinit(self.session)
            self.credentials_free(self.credentials)
            self.session = None
            self.socket.close()


class GnuTlsPublicKey(GnuTls):
    """With a private key of cryptography's, of whose public key the server knows (RFC 7250), or with the certificates (DER)
    in chain. peer: the server's SubjectPublicKeyInfo or certificate, as server_type has it; server_key (SPKI): the handshake
    fails unless it is that. Without a private key the client stays anonymous."""

    SUITES = "+ECDHE-ECDSA:+AES-128-CCM-8"
    GROUPS = "+GROUP-X25519:+GROUP-SECP256R1"
    USAGE_DIGITAL_SIGNATURE, FORMAT_DER = 128, 0
    _CHOOSE = ctypes.CFUNCTYPE(ctypes.c_int, *[ctypes.c_void_p] * 8)

    class Shown(ctypes.Structure):
        """A datum from the library: a c_char_p would end at the first zero byte."""

        _fields_ = [("data", ctypes.c_void_p), ("size", ctypes.c_uint)]

    class Certificate(ctypes.Structure):
        """gnutls_pcert_st, which has room to grow"""

        _fields_ = [("pubkey", ctypes.c_void_p), ("data", ctypes.c_void_p), ("size", ctypes.c_uint), ("type", ctypes.c_int),
                    ("more", ctypes.c_void_p * 4)]

    def __init__(self, address, private_key, chain=(), server_type="RAWPK", server_key=None, suites=SUITES, groups=GROUPS):
        library = self._gnutls()
        library.gnutls_certificate_get_peers.restype = ctypes.POINTER(self.Shown)
        library.gnutls_ciphersuite_get.restype = ctypes.c_char_p
        self.credentials = ctypes.c_void_p()
        self._check(library.gnutls_certificate_allocate_credentials(ctypes.byref(self.credentials)))
        self.certificates, self.key = (self.Certificate * max(len(chain), 1))(), ctypes.c_void_p()
        if private_key:
            self._identity(private_key, chain)
        priority = (f"NONE:+VERS-DTLS1.2:{suites}:+AEAD:+SHA256:{groups}:+SIGN-ALL:+COMP-NULL:"
                    f"+CTYPE-CLI-{'X509' if chain else 'RAWPK'}:+CTYPE-SRV-{server_type}")
        self._open(address, self.CRD_CERTIFICATE, priority.encode(), self.ENABLE_RAWPK)
        self.suite = library.gnutls_ciphersuite_get(self.session).decode()
        peers = library.gnutls_certificate_get_peers(self.session, ctypes.byref(ctypes.c_uint()))
        self.peer = ctypes.string_at(peers[0].data, peers[0].size)
        if server_key is not None and self.peer != server_key:
            self.abandon()
            raise HandshakeError("the server has another key")

    def _identity(self, private_key, chain):
        library, certificates, key = self._gnutls(), self.certificates, self.key
        self._check(library.gnutls_privkey_init(ctypes.byref(key)))
        self._check(library.gnutls_privkey_import_x509_raw(key, self._datum(private_der(private_key)), self.FORMAT_DER, None, 0))
        for certificate, der in zip(certificates, chain):
            self._check(library.gnutls_pcert_import_x509_raw(ctypes.byref(certificate), self._datum(der), self.FORMAT_DER, 0))
        if not chain:
            self._check(library.gnutls_pcert_import_rawpk_raw(ctypes.byref(certificates[0]), self._datum(spki(private_key)),
                                                              self.FORMAT_DER, self.USAGE_DIGITAL_SIGNATURE, 0))

        # left to itself, GnuTLS shows nothing for an Ed25519 key, as no type of certificate request names those
        def choose(_session, _info, certs, count, ocsp, ocsp_count, private, flags):
            ctypes.c_void_p.from_address(certs).value = ctypes.addressof(certificates)
            ctypes.c_uint.from_address(count).value = len(certificates)
            ctypes.c_void_p.from_address(ocsp).value = None
            ctypes.c_uint.from_address(ocsp_count).value = 0
            ctypes.c_void_p.from_address(private).value = key.value
            ctypes.c_uint.from_address(flags).value = 0
            return 0

        self.callback = self._CHOOSE(choose)
        library.gnutls_certificate_set_retrieve_function3(self.credentials, self.callback)

    def credentials_free(self, credentials):
        library = self._gnutls()
        library.gnutls_certificate_free_credentials(credentials)
        for certificate in self.certificates:
            library.gnutls_pcert_deinit(ctypes.byref(certificate))
        library.gnutls_privkey_deinit(self.key)
