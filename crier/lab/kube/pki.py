"""The keys of one short-lived API server: its certificate authority, its certificate, and the key that signs
service accounts' tokens.
"""

from __future__ import annotations

import datetime
import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

LIFETIME: Final = datetime.timedelta(days=30)
"""Longer than any lab is left up."""
SERVICE_NAMES: Final = ("localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc")


@dataclass(frozen=True, slots=True)
class Keys:
    """The files, and what others need to know of them."""

    authority: Path
    certificate: Path
    key: Path
    account_key: Path
    """Signs and verifies service accounts' tokens."""
    tokens: Path
    """The API server's static tokens: the administrator's alone."""
    admin_token: str


def make_keys(directory: Path, addresses: Iterable[str], now: datetime.datetime) -> Keys:
    """Write fresh keys into a directory that nobody else can read.

    Args:
        addresses: IP addresses that the server is reached at.
        now: with a time zone; the certificates are valid from an hour before.
    """
    keys = Keys(
        authority=directory / "ca.crt",
        certificate=directory / "server.crt",
        key=directory / "server.key",
        account_key=directory / "accounts.key",
        tokens=directory / "tokens.csv",
        admin_token=secrets.token_urlsafe(32),
    )
    authority_key = ec.generate_private_key(ec.SECP256R1())
    authority = _authority(authority_key, now)
    server_key = ec.generate_private_key(ec.SECP256R1())
    server = _server(server_key, authority, authority_key, addresses, now)
    pem = serialization.Encoding.PEM
    _write(keys.authority, authority.public_bytes(pem))
    _write(keys.certificate, server.public_bytes(pem))
    _write(keys.key, _pem(server_key))
    _write(keys.account_key, _pem(ec.generate_private_key(ec.SECP256R1())))
    # system:masters may do everything, whatever RBAC says
    _write(keys.tokens, f'{keys.admin_token},admin,admin,"system:masters"\n'.encode())
    return keys


def _authority(key: ec.EllipticCurvePrivateKey, now: datetime.datetime) -> x509.Certificate:
    name = _name("crier-lab-ca")
    usage = x509.KeyUsage(
        digital_signature=True, key_cert_sign=True, crl_sign=True, content_commitment=False,
        key_encipherment=False, data_encipherment=False, key_agreement=False, encipher_only=False,
        decipher_only=False,
    )  # fmt: skip
    return (
        _begin(name, name, key, now)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )


def _server(
    key: ec.EllipticCurvePrivateKey,
    authority: x509.Certificate,
    authority_key: ec.EllipticCurvePrivateKey,
    addresses: Iterable[str],
    now: datetime.datetime,
) -> x509.Certificate:
    places = x509.SubjectAlternativeName(
        [
            *(x509.DNSName(name) for name in SERVICE_NAMES),
            *(x509.IPAddress(ip_address(address)) for address in addresses),
        ]
    )
    issuer_id = x509.AuthorityKeyIdentifier.from_issuer_public_key(authority_key.public_key())
    return (
        _begin(_name("kube-apiserver"), authority.subject, key, now)
        .add_extension(places, critical=False)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(issuer_id, critical=False)
        .sign(authority_key, hashes.SHA256())
    )


def _begin(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey, now: datetime.datetime
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + LIFETIME)
    )


def _name(common: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)])


def _pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    # "EC PRIVATE KEY": the form that the server reads service account keys in without being told
    form = serialization.PrivateFormat.TraditionalOpenSSL
    return key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption())


def _write(path: Path, data: bytes) -> None:
    path.touch(mode=0o600)
    path.write_bytes(data)
