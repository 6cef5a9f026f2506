"""The webhook's certificates: an authority of our own, and what it vouches for.

`python -m allocator.webhook.certificates` reads {"names", "data"} from stdin and writes {"data", "changed"}
to stdout; the values of `data` are a Secret's.  A program of its own, because the cryptography it needs now
and then would stay in the controller's memory for ever.

The Secret's keys, the authority's name and its organisation are MetalLB's, so that either program takes over
what the other one made.
"""

from __future__ import annotations

import datetime
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

import msgspec
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from allocator.webhook.certificates_io import CA, CA_KEY, CERTIFICATE, KEY, Outcome, Task

_Key: TypeAlias = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey
"""Ours, and MetalLB's."""


AUTHORITY_NAME: Final = "cert"
ORGANISATION: Final = "metallb"
AUTHORITY_LIFETIME: Final = datetime.timedelta(days=3650)
LIFETIME: Final = datetime.timedelta(days=365)
LOOKAHEAD: Final = datetime.timedelta(days=90)
"""What ends sooner than this is renewed."""
MAX_OLD: Final = 3
"""Former authorities that are still trusted, for whoever still shows a certificate of theirs."""
_SKEW: Final = datetime.timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class _Authority:
    certificate: x509.Certificate
    key: _Key
    older: tuple[x509.Certificate, ...]

    def pem(self) -> bytes:
        return b"".join(_pem(each) for each in (self.certificate, *self.older))


def bring_up(
    data: Mapping[str, bytes], names: Sequence[str], now: datetime.datetime
) -> tuple[dict[str, bytes], bool]:
    """What the Secret should say, and whether that is other than it does.

    `data` may be anything; what of it is good is kept.  `names`: DNS names of the server, the first its own.
    """
    authority = _read_authority(data, now)
    kept = authority is not None and _is_good(data, authority, names, now)
    if authority is None:
        authority = _new_authority(_certificates(data.get(CA, b"")), now)
    if kept:
        return dict(data), False
    certificate, key = _issue(authority, names, now)
    return {
        **data,
        CA: authority.pem(),
        CA_KEY: _key_pem(authority.key),
        CERTIFICATE: certificate,
        KEY: key,
    }, True


def _read_authority(data: Mapping[str, bytes], now: datetime.datetime) -> _Authority | None:
    """The one there is, unless it is unreadable, not one, or near its end."""
    found = _certificates(data.get(CA, b""))
    try:
        key = serialization.load_pem_private_key(data.get(CA_KEY, b""), None)
        if not found or not isinstance(key, (ec.EllipticCurvePrivateKey, rsa.RSAPrivateKey)):
            return None
        constraints = found[0].extensions.get_extension_for_class(x509.BasicConstraints).value
        if not constraints.ca or found[0].public_key() != key.public_key():
            return None
    except (ValueError, TypeError, x509.ExtensionNotFound):
        return None
    return _Authority(found[0], key, tuple(found[1:])) if _lasts(found[0], now) else None


def _is_good(
    data: Mapping[str, bytes], authority: _Authority, names: Sequence[str], now: datetime.datetime
) -> bool:
    found = _certificates(data.get(CERTIFICATE, b""))
    try:
        key = serialization.load_pem_private_key(data.get(KEY, b""), None)
        if not found or found[0].public_key() != key.public_key():
            return False
        found[0].verify_directly_issued_by(authority.certificate)
        alternatives = found[0].extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        good = set(names) <= set(alternatives.get_values_for_type(x509.DNSName))
    except (ValueError, TypeError, InvalidSignature, x509.ExtensionNotFound):
        return False
    return good and _lasts(found[0], now)


def _lasts(certificate: x509.Certificate, now: datetime.datetime) -> bool:
    return certificate.not_valid_before_utc <= now and now + LOOKAHEAD < certificate.not_valid_after_utc


def _certificates(pem: bytes) -> list[x509.Certificate]:
    try:
        return x509.load_pem_x509_certificates(pem)
    except ValueError:
        return []


def _new_authority(older: Sequence[x509.Certificate], now: datetime.datetime) -> _Authority:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, ORGANISATION),
            x509.NameAttribute(NameOID.COMMON_NAME, AUTHORITY_NAME),
        ]
    )
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - _SKEW)
        .not_valid_after(now + AUTHORITY_LIFETIME)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(_usage(signs=True), critical=True)
        # of the same name as its forerunner, it is told from it by its key
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    still_valid = [each for each in older if now < each.not_valid_after_utc]
    return _Authority(certificate, key, tuple(still_valid[:MAX_OLD]))


def _issue(authority: _Authority, names: Sequence[str], now: datetime.datetime) -> tuple[bytes, bytes]:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0][:64])])
    end = min(now + LIFETIME, authority.certificate.not_valid_after_utc)
    issuer = authority.key.public_key()
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(authority.certificate.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _SKEW)
        .not_valid_after(end)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(signs=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name) for name in names]), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer), critical=False)
        .sign(authority.key, hashes.SHA256())
    )
    return _pem(certificate), _key_pem(key)


def _usage(*, signs: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True, content_commitment=False, key_encipherment=not signs, data_encipherment=False,
        key_agreement=False, key_cert_sign=signs, crl_sign=signs, encipher_only=False, decipher_only=False,
    )  # fmt: skip


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def _key_pem(key: _Key) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def main() -> None:
    task = msgspec.json.decode(sys.stdin.buffer.read(), type=Task)
    data, changed = bring_up(task.data, task.names, datetime.datetime.now(datetime.UTC))
    sys.stdout.buffer.write(msgspec.json.encode(Outcome(data, changed)))


if __name__ == "__main__":
    main()
