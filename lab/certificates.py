"""The lab's own certificate authority and the certificates that its servers and clients present."""

from __future__ import annotations

import datetime
import ipaddress
import os
from collections.abc import Sequence
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

_LIFETIME = datetime.timedelta(days=365)
# A start in the last month of the certificates makes new ones.
_RENEW_BEFORE = datetime.timedelta(days=30)

_LOOPBACK = ipaddress.ip_address("127.0.0.1")


def ensure_certificates(folder: Path) -> None:
    """Writes the authority and the certificates of the servers and clients, if they are missing or old.

    The authority's key is never written to disk. So nobody can make another certificate later that the
    lab's programs would trust.
    """
    if _still_good(folder / "api-server.crt"):
        return
    authority_key = ec.generate_private_key(ec.SECP256R1())
    authority = _authority(authority_key)
    write_private(folder / "ca.crt", authority.public_bytes(serialization.Encoding.PEM))
    both = (ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH)
    # etcd's gateway is also a client of etcd, so this certificate needs both uses.
    _issue(folder, "etcd", both, authority_key)
    _issue(folder, "etcd-client", both[1:], authority_key)
    # The key signs service-account tokens; the controller manager and the API server share it.
    service_account = ec.generate_private_key(ec.SECP256R1())
    write_private(folder / "service-account.key", _private_pem(service_account))
    write_private(
        folder / "service-account.pub",
        service_account.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        ),
    )
    # This certificate is the last: if it exists, the others are complete.
    _issue(folder, "api-server", both[:1], authority_key)


def write_private(path: Path, content: bytes) -> None:
    """Writes a file that only its owner can read, also while it is being written."""
    partial = path.with_name(f".{path.name}.partial")
    partial.unlink(missing_ok=True)
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
    partial.replace(path)


def _still_good(certificate: Path) -> bool:
    if not certificate.exists():
        return False
    end = x509.load_pem_x509_certificate(certificate.read_bytes()).not_valid_after_utc
    return end - datetime.datetime.now(datetime.UTC) > _RENEW_BEFORE


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _builder(common_name: str, key: ec.EllipticCurvePrivateKey, issuer: str) -> x509.CertificateBuilder:
    # An hour back, because somebody may set the clock while the lab runs.
    now = datetime.datetime.now(datetime.UTC) - datetime.timedelta(hours=1)
    return (
        x509.CertificateBuilder()
        .subject_name(_name(common_name))
        .issuer_name(_name(issuer))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now)
        .not_valid_after(now + _LIFETIME)
    )


_AUTHORITY = "archshift-lab"


def _authority(key: ec.EllipticCurvePrivateKey) -> x509.Certificate:
    return (
        _builder(_AUTHORITY, key, issuer=_AUTHORITY)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signs_certificates=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        key_cert_sign=signs_certificates,
        crl_sign=False,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _issue(
    folder: Path,
    name: str,
    uses: Sequence[x509.ObjectIdentifier],
    authority_key: ec.EllipticCurvePrivateKey,
) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    alternatives = [x509.DNSName("localhost"), x509.DNSName("kubernetes"), x509.IPAddress(_LOOPBACK)]
    certificate = (
        _builder(name, key, issuer=_AUTHORITY)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage(uses), critical=False)
        .add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(authority_key.public_key()), critical=False
        )
        .sign(authority_key, hashes.SHA256())
    )
    write_private(folder / f"{name}.key", _private_pem(key))
    write_private(folder / f"{name}.crt", certificate.public_bytes(serialization.Encoding.PEM))


def _private_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
