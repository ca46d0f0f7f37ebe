"""Key pairs and certificates of parties, by cryptography."""

import datetime
import ipaddress

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, x25519

EC_CURVES = {"P-256": (1, ec.SECP256R1, 32), "P-384": (2, ec.SECP384R1, 48)}  # COSE's number, bytes of a coordinate
OKP_CURVES = {"Ed25519": (6, ed25519.Ed25519PrivateKey, ed25519.Ed25519PublicKey),
              "X25519": (4, x25519.X25519PrivateKey, x25519.X25519PublicKey)}
CURVES = (*EC_CURVES, *OKP_CURVES)
OKP, EC2, SYMMETRIC = 1, 2, 4


def new_key(curve="P-256"):
    return ec.generate_private_key(EC_CURVES[curve][1]()) if curve in EC_CURVES else OKP_CURVES[curve][1].generate()


def private_der(key):
    """PKCS #8."""
    return key.private_bytes(serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())


def private_pem(key):
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())


def public(key):
    return key.public_key() if hasattr(key, "public_key") else key


def spki(key):
    """SubjectPublicKeyInfo of a public key, or of a private one's: what a raw public key looks like in TLS (RFC 7250)."""
    return public(key).public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)


def cose_key(key, kid=None):
    """The public key of a pair, or a public key, as COSE_Key (RFC 9053 §7)."""
    key = public(key)
    map = {2: kid} if kid is not None else {}
    if isinstance(key, ec.EllipticCurvePublicKey):
        number, _, size = EC_CURVES["P-256" if key.curve.name == "secp256r1" else "P-384"]
        at = key.public_numbers()
        return {1: EC2, **map, -1: number, -2: at.x.to_bytes(size, "big"), -3: at.y.to_bytes(size, "big")}
    number = 6 if isinstance(key, ed25519.Ed25519PublicKey) else 4
    return {1: OKP, **map, -1: number, -2: key.public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)}


def from_cose_key(map):
    """The public key of a COSE_Key."""
    if map[1] == EC2:
        curve = next(make for number, make, _ in EC_CURVES.values() if number == map[-1])
        numbers = ec.EllipticCurvePublicNumbers(int.from_bytes(map[-2], "big"), int.from_bytes(map[-3], "big"), curve())
        return numbers.public_key()
    return next(kind for number, _, kind in OKP_CURVES.values() if number == map[-1]).from_public_bytes(map[-2])


def name(text):
    return x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, text)])


def alternative(rule):
    """"dns:…", "uri:…", "email:…", "ip:…" as certificates have them."""
    kind, _, value = rule.partition(":")
    make = {"dns": x509.DNSName, "uri": x509.UniformResourceIdentifier, "email": x509.RFC822Name,
            "ip": lambda text: x509.IPAddress(ipaddress.ip_address(text))}[kind]
    return make(value)


def pem(*ders):
    return b"".join(x509.load_der_x509_certificate(der).public_bytes(serialization.Encoding.PEM) for der in ders)


def certify(key, subject, issuer_key, issuer, *, ca=False, path_length=None, names=(), days=(-1, 30)):
    """A certificate in DER for this key, valid from days[0] to days[1] from now."""
    now = datetime.datetime.now(datetime.timezone.utc).replace(tzinfo=None)
    builder = (x509.CertificateBuilder().subject_name(name(subject)).issuer_name(name(issuer)).public_key(public(key))
               .serial_number(x509.random_serial_number()).not_valid_before(now + datetime.timedelta(days[0]))
               .not_valid_after(now + datetime.timedelta(days[1]))
               .add_extension(x509.BasicConstraints(ca, path_length if ca else None), critical=True))
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName([alternative(n) for n in names]), critical=False)
    algorithm = None if isinstance(issuer_key, ed25519.Ed25519PrivateKey) else hashes.SHA256()
    return builder.sign(issuer_key, algorithm).public_bytes(serialization.Encoding.DER)


class Authority:
    """A certification authority; pem is its trust anchor."""

    def __init__(self, subject="Test CA", curve="P-256"):
        self.subject, self.key = subject, new_key(curve)
        self.der = certify(self.key, subject, self.key, subject, ca=True)
        self.pem = pem(self.der)

    def certify(self, key, subject, **more):
        """The chain of this key, trust anchor left out."""
        return [certify(key, subject, self.key, self.subject, **more)]

    def below(self, subject="Test CA below"):
        """An authority certified by this one; what it certifies comes with its own certificate."""
        lower = Authority.__new__(Authority)
        lower.subject, lower.key = subject, new_key()
        lower.der = certify(lower.key, subject, self.key, self.subject, ca=True)
        lower.pem = pem(lower.der)
        chain = lower.certify
        lower.certify = lambda key, name, **more: chain(key, name, **more) + [lower.der]
        return lower
