"""A throw-away certificate authority, and the one certificate it ever signs.

The authority's key is never written: nobody can sign a second certificate with it.
"""

from __future__ import annotations

import ipaddress
import os
import ssl
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

LIFETIME = timedelta(days=90)
RENEWAL = timedelta(days=1)
"""A stored certificate that ends sooner than this is replaced."""

_SLACK = timedelta(hours=1)
_NAMES = (
    x509.DNSName("localhost"),
    x509.IPAddress(ipaddress.ip_address("127.0.0.1")),
    x509.IPAddress(ipaddress.ip_address("::1")),
)


@dataclass(frozen=True, slots=True)
class Certificates:
    """The files in a folder: `ca_file` is for those who connect, the others for the server."""

    folder: Path

    @property
    def ca_file(self) -> Path:
        """The authority's certificate, PEM."""
        return self.folder / "ca.pem"

    @property
    def certificate_file(self) -> Path:
        """The server's certificate, PEM."""
        return self.folder / "server.pem"

    @property
    def key_file(self) -> Path:
        """The server's private key, PEM, readable by its owner only."""
        return self.folder / "server.key"

    def server_context(self) -> ssl.SSLContext:
        """Return the TLS settings of a server that shows the certificate."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.load_cert_chain(self.certificate_file, self.key_file)
        return context


def provide(folder: Path, *, now: datetime) -> Certificates:
    """Return certificates for localhost, 127.0.0.1 and ::1 from this folder, made if needed.

    Those of a former start are kept while they are valid, so that a server that trusts them
    need not be started again. Raises OSError if the folder cannot be written.
    """
    certificates = Certificates(folder)
    if not _usable(certificates, now=now):
        folder.mkdir(parents=True, exist_ok=True)
        _make(certificates, now=now)
    return certificates


def _usable(certificates: Certificates, *, now: datetime) -> bool:
    try:
        certificates.server_context()
        certificate, authority = (
            x509.load_pem_x509_certificate(path.read_bytes())
            for path in (certificates.certificate_file, certificates.ca_file)
        )
        certificate.verify_directly_issued_by(authority)
    except (OSError, ValueError, TypeError, InvalidSignature):
        return False
    return certificate.not_valid_after_utc > now + RENEWAL


def _make(certificates: Certificates, *, now: datetime) -> None:
    authority_key = ec.generate_private_key(ec.SECP256R1())
    authority_name = _name("Signalpost throw-away CA")
    authority = (
        _builder(subject=authority_name, issuer=authority_name, now=now)
        .public_key(authority_key.public_key())
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(signs_certificates=True), critical=True)
        .add_extension(_key_identifier(authority_key), critical=False)
        .sign(authority_key, hashes.SHA256())
    )
    key = ec.generate_private_key(ec.SECP256R1())
    certificate = (
        _builder(subject=_name("localhost"), issuer=authority_name, now=now)
        .public_key(key.public_key())
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectAlternativeName(_NAMES), critical=False)
        .add_extension(_key_identifier(key), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(authority_key.public_key()),
            critical=False,
        )
        .sign(authority_key, hashes.SHA256())
    )
    _write_key(certificates.key_file, key)
    certificates.certificate_file.write_bytes(_pem(certificate))
    certificates.ca_file.write_bytes(_pem(authority))


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _builder(*, subject: x509.Name, issuer: x509.Name, now: datetime) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _SLACK)
        .not_valid_after(now + LIFETIME)
    )


def _key_usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _key_identifier(key: ec.EllipticCurvePrivateKey) -> x509.SubjectKeyIdentifier:
    return x509.SubjectKeyIdentifier.from_public_key(key.public_key())


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def _write_key(path: Path, key: ec.EllipticCurvePrivateKey) -> None:
    pem = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    path.unlink(missing_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(pem)
