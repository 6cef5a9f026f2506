"""A certificate nobody vouches for, for metrics served without one of their own.

`python -m crier.ops.selfsigned NAME` writes key and certificate as PEM to stdout.  A program of its own,
because the cryptography it needs once at the start would stay in the memory of a speaker for ever.
"""

from __future__ import annotations

import datetime
import sys

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

LIFETIME = datetime.timedelta(days=365)


def make(name: str, now: datetime.datetime) -> bytes:
    """PEM of an EC key and its certificate for the DNS name `name` (at most 64 characters are used)."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name[:64])])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + LIFETIME)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name[:64])]), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    return key.private_bytes(
        pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ) + certificate.public_bytes(pem)


if __name__ == "__main__":
    sys.stdout.buffer.write(make(sys.argv[1], datetime.datetime.now(datetime.UTC)))
