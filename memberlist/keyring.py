"""Keys, and the payload they protect: AES-GCM with a version octet, rotated while the cluster runs.

    version 1: 01 | nonce (12) | ciphertext of the message                    | tag (16)
    version 0: 00 | nonce (12) | ciphertext of the message, padded as PKCS #7 | tag (16)

Version 0 is written by members that speak protocol 1 only; every member reads both.  The first key of the
ring, the primary, encrypts; all are tried, in their order, to decrypt.  A ring without keys means no
encryption, and is asked anew for each packet, so that keys can come and go.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from memberlist.errors import ConfigError, DecodeError

KEY_SIZES: Final = (16, 24, 32)
"""Octets: AES-128, AES-192, AES-256."""

NONCE_SIZE: Final = 12
TAG_SIZE: Final = 16
NONCES_AT_ONCE: Final = 64
_BLOCK: Final = 16
_OVERHEAD: Final = (1 + NONCE_SIZE + _BLOCK + TAG_SIZE, 1 + NONCE_SIZE + TAG_SIZE)


def overhead(version: int) -> int:
    """The most octets encryption adds to a message: 45 for version 0, 29 for version 1."""
    return _OVERHEAD[version]


def nonces() -> Iterator[bytes]:
    """Random ones without end, as Go takes them; the kernel is asked for many at a time.

    Not to be shared with a process that was forked: it would use the same again.
    """
    while True:
        chance = os.urandom(NONCES_AT_ONCE * NONCE_SIZE)
        for start in range(0, len(chance), NONCE_SIZE):
            yield chance[start : start + NONCE_SIZE]


def metallb_key(secret: bytes) -> bytes:
    """The AES-256 key MetalLB's speakers make of their secret.

    They mean to hash the secret and append the hash of nothing to it instead, then keep 32 octets: the
    secret, cut, or filled up with the start of SHA-256 of the empty text.  A mixed cluster needs the same.
    """
    return (secret + hashlib.sha256().digest())[:32]


class Keyring:
    """Ordered keys, the primary first.  Raises ConfigError for a key of a wrong size."""

    def __init__(self, keys: Iterable[bytes] = ()) -> None:
        self._ciphers: dict[bytes, AESGCM] = {}  # never changed, only replaced: threads read it
        for key in keys:
            self.add(key)

    @classmethod
    def metallb(cls, secret: bytes) -> Keyring:
        """The ring of a MetalLB cluster.  An empty secret gives an empty ring: no encryption, as there."""
        return cls([metallb_key(secret)] if secret else [])

    def __repr__(self) -> str:
        return f"<Keyring of {len(self._ciphers)}>"  # never the keys

    def __len__(self) -> int:
        return len(self._ciphers)

    def __contains__(self, key: bytes) -> bool:
        return key in self._ciphers

    @property
    def keys(self) -> tuple[bytes, ...]:
        """The keys themselves, primary first.  They are secrets: for persisting, not for showing."""
        return tuple(self._ciphers)

    @property
    def primary(self) -> bytes | None:
        return next(iter(self._ciphers), None)

    def add(self, key: bytes) -> None:
        """Accept `key` for decryption.  The first key becomes the primary; a known one stays where it is."""
        if len(key) not in KEY_SIZES:
            raise ConfigError(f"keyring: a key has {len(key)} octets; it must have 16, 24 or 32")
        if key not in self._ciphers:
            self._ciphers = {**self._ciphers, bytes(key): AESGCM(key)}

    def replace(self, keys: Iterable[bytes]) -> None:
        """Have these keys and no others, the primary first.  Raises ConfigError, and changes nothing then."""
        self._ciphers = Keyring(keys)._ciphers

    def use(self, key: bytes) -> None:
        """Make `key`, which must be in the ring, the primary.  The others keep their order."""
        if key not in self._ciphers:
            raise ConfigError("keyring: the key to use is not in the ring")
        self._ciphers = {bytes(key): self._ciphers[key], **self._without(key)}

    def remove(self, key: bytes) -> None:
        """Stop accepting `key`.  One that is not in the ring is no error; the primary cannot go."""
        if key == self.primary:
            raise ConfigError("keyring: the primary key cannot be removed; use another first")
        self._ciphers = self._without(key)

    def _without(self, key: bytes) -> dict[bytes, AESGCM]:
        return {one: cipher for one, cipher in self._ciphers.items() if one != key}

    def encrypt(self, text: bytes, *, aad: bytes, nonce: bytes, version: int = 1) -> bytes:
        """The protected payload.  `nonce` is 12 octets that were never used with this key before."""
        if len(nonce) != NONCE_SIZE:
            raise ValueError(f"nonce: {len(nonce)} octets; it must have {NONCE_SIZE}")
        if version == 0:
            padding = _BLOCK - len(text) % _BLOCK
            text += bytes((padding,)) * padding
        cipher = next(iter(self._ciphers.values()))
        return b"%c%b%b" % (version, nonce, cipher.encrypt(nonce, text, aad))

    def decrypt(self, payload: bytes, *, aad: bytes) -> bytes:
        """The text.  Raises DecodeError if no key of the ring opens it, or it is no such payload at all."""
        if not payload:
            raise DecodeError("nothing to decrypt")
        version = payload[0]
        if version > 1:
            raise DecodeError(f"encryption version {version} is unknown")
        if len(payload) < _OVERHEAD[version]:
            raise DecodeError(f"{len(payload)} octets are too few to decrypt")
        nonce, ciphertext = payload[1 : 1 + NONCE_SIZE], payload[1 + NONCE_SIZE :]
        for cipher in self._ciphers.values():
            try:
                text = cipher.decrypt(nonce, ciphertext, aad)
            except InvalidTag:
                continue
            return text if version == 1 else _unpad(text)
        raise DecodeError("no installed keys could decrypt the message")


def _unpad(text: bytes) -> bytes:
    """Go takes the last octet's word for the number of octets to cut, and panics if there are fewer."""
    padding = text[-1] if text else 0
    if padding > len(text):
        raise DecodeError(f"padding of {padding} octets in a text of {len(text)}")
    return text[: len(text) - padding]
