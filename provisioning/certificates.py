"""X.509 as Forestall uses it. Pure: keys, names and the time go in, certificates come out.

All keys are EC P-256, which mosquitto, OpenSSL, secure elements and browsers accept. A leaf is either a client
(nodes, services) or a server, never both, so that a stolen node certificate cannot pose as the broker.

TLS stacks compare validity with the wall clock, so ``now`` is real time here, also where a story runs on a scaled
clock.
"""

from __future__ import annotations

import hashlib
import ipaddress
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from fleet_core.errors import BadConfig, BadInput

PrivateKey = ec.EllipticCurvePrivateKey
MAX_CSR_BYTES = 16 * 1024
CA_LIFETIME = timedelta(days=3650)
LEAF_LIFETIME = timedelta(days=365)
CRL_LIFETIME = timedelta(days=30)
BACKDATE = timedelta(minutes=10)  # a device's clock may lag behind the authority's


class Usage(StrEnum):
    """Which end of a TLS connection a certificate may be."""

    CLIENT = "client"
    SERVER = "server"


@dataclass(frozen=True)
class Revoked:
    """One entry of the revocation list."""

    serial: int
    at: datetime


def new_key() -> PrivateKey:
    """A fresh P-256 key from the system's generator."""
    return ec.generate_private_key(ec.SECP256R1())


def key_to_pem(key: PrivateKey, passphrase: bytes | None = None) -> bytes:
    """The key in PKCS#8 PEM, encrypted when there is a passphrase."""
    encryption: serialization.KeySerializationEncryption = serialization.NoEncryption()
    if passphrase:
        encryption = serialization.BestAvailableEncryption(passphrase)
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption)


def key_from_pem(pem: bytes, passphrase: bytes | None = None) -> PrivateKey:
    """The key in ``pem``. Raises BadConfig when it cannot be read, or the passphrase is missing or wrong."""
    try:
        key = serialization.load_pem_private_key(pem, passphrase)
    except TypeError:
        mend = "it is not encrypted: unset the passphrase" if passphrase else "it is encrypted: set the passphrase"
        raise BadConfig(f"the private key cannot be read; {mend}") from None
    except (ValueError, UnsupportedAlgorithm) as error:
        raise BadConfig(f"the private key cannot be read: {error}") from None
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise BadConfig("the private key is not an elliptic-curve key")
    return key


def to_pem(item: x509.Certificate | x509.CertificateRevocationList) -> bytes:
    return item.public_bytes(serialization.Encoding.PEM)


def fingerprint(certificate: x509.Certificate) -> str:
    """SHA-256 over the certificate's DER, lower-case hexadecimal: the fingerprint that devices pin."""
    return certificate.fingerprint(hashes.SHA256()).hex()


def key_digest(public_key: object) -> str:
    """SHA-256 over the SubjectPublicKeyInfo, hexadecimal. It identifies a key whatever request carries it."""
    encoded = public_key.public_bytes(  # type: ignore[attr-defined]  # every public key type has it; no common base
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return hashlib.sha256(encoded).hexdigest()


def make_authority(key: PrivateKey, name: str, now: datetime) -> x509.Certificate:
    """A self-signed root that signs leaves only (path length 0)."""
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    return (
        x509.CertificateBuilder(subject, subject, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - BACKDATE)
        .not_valid_after(now + CA_LIFETIME)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(authority=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )


def make_leaf(
    ca_key: PrivateKey,
    ca: x509.Certificate,
    public_key: object,
    name: str,
    usage: Usage,
    now: datetime,
    *,
    unit: str = "",
    hosts: Sequence[str] = (),
    lifetime: timedelta = LEAF_LIFETIME,
) -> x509.Certificate:
    """A certificate for ``name``. ``unit`` (a node's group) becomes OU; a server answers to ``hosts``.

    The certificate never outlives the authority's.
    """
    attributes = [x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, unit)] if unit else []
    subject = x509.Name([*attributes, x509.NameAttribute(NameOID.COMMON_NAME, name)])
    purpose = ExtendedKeyUsageOID.CLIENT_AUTH if usage is Usage.CLIENT else ExtendedKeyUsageOID.SERVER_AUTH
    builder = (
        x509.CertificateBuilder(ca.subject, subject, public_key, x509.random_serial_number())  # type: ignore[arg-type]  # checked by check_request
        .not_valid_before(now - BACKDATE)
        .not_valid_after(min(now + lifetime, ca.not_valid_after_utc))
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(authority=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([purpose]), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)  # type: ignore[arg-type]  # as above
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key()), critical=False)
    )
    if hosts:
        builder = builder.add_extension(x509.SubjectAlternativeName([_general_name(h) for h in hosts]), critical=False)
    return builder.sign(ca_key, hashes.SHA256())


def make_revocation_list(
    ca_key: PrivateKey, ca: x509.Certificate, revoked: Iterable[Revoked], number: int, now: datetime
) -> x509.CertificateRevocationList:
    """The list of revoked certificates, valid for 30 days. With a stale list OpenSSL refuses every client."""
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(ca.subject)
        .last_update(now - BACKDATE)
        .next_update(now + CRL_LIFETIME)
        .add_extension(x509.CRLNumber(number), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key()), critical=False)
    )
    for entry in revoked:
        builder = builder.add_revoked_certificate(
            x509.RevokedCertificateBuilder().serial_number(entry.serial).revocation_date(entry.at).build()
        )
    return builder.sign(ca_key, hashes.SHA256())


def make_request(key: PrivateKey) -> bytes:
    """A DER certificate request that proves possession of ``key``. Its subject is empty: the claim names the node."""
    return (
        x509.CertificateSigningRequestBuilder()
        .subject_name(x509.Name([]))
        .sign(key, hashes.SHA256())
        .public_bytes(serialization.Encoding.DER)
    )


def check_request(der: bytes) -> object:
    """The public key that a request proves possession of; the request's subject and extensions are ignored.

    Raises BadInput("bad_csr") for a request that is too long, unreadable, wrongly signed, or of a weak kind of key.
    """
    if len(der) > MAX_CSR_BYTES:
        raise BadInput("bad_csr", f"longer than {MAX_CSR_BYTES} bytes")
    try:
        request = x509.load_der_x509_csr(der)
        public_key = request.public_key()
        valid = request.is_signature_valid
    except (ValueError, TypeError, UnsupportedAlgorithm, InvalidSignature) as error:
        raise BadInput("bad_csr", f"cannot be read: {error}") from None
    if not valid:
        raise BadInput("bad_csr", "its signature does not fit its key")
    curves = (ec.SECP256R1, ec.SECP384R1)
    if isinstance(public_key, ed25519.Ed25519PublicKey):
        return public_key
    if isinstance(public_key, ec.EllipticCurvePublicKey) and isinstance(public_key.curve, curves):
        return public_key
    if isinstance(public_key, rsa.RSAPublicKey) and 2048 <= public_key.key_size <= 4096:
        return public_key
    raise BadInput("bad_csr", "use a key on P-256 or P-384, Ed25519, or RSA with 2048 to 4096 bits")


def name_in(certificate: x509.Certificate, attribute: x509.ObjectIdentifier) -> str:
    """The value of one attribute of the subject, or "" when the attribute is absent or repeated."""
    values = certificate.subject.get_attributes_for_oid(attribute)
    return str(values[0].value) if len(values) == 1 else ""


def _key_usage(*, authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not authority,
        key_cert_sign=authority,
        crl_sign=authority,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)
