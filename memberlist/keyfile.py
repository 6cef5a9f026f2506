"""Files of keys, as people have them: raw octets, hexadecimal or base64 text, or several of those.

`load` is for a new `Keyring` and for `Keyring.replace` of one that is in use.
"""

from __future__ import annotations

import base64
import json
from contextlib import suppress
from os import PathLike
from pathlib import Path
from typing import Final

from memberlist.errors import ConfigError
from memberlist.keyring import KEY_SIZES, metallb_key

MAX_SECRET: Final = 65536
"""Octets of a key file; Kubernetes has secrets of at most 1 MiB, and a key needs 32."""


def load(path: str | PathLike[str], *, metallb: bool = False) -> tuple[bytes, ...]:
    """The keys in a file, the primary first; with `metallb`, the one MetalLB makes of its octets.

    Raises ConfigError, which names the file.
    """
    return tuple(readings[0] for readings in possible(path, metallb=metallb))


def possible(path: str | PathLike[str], *, metallb: bool = False) -> list[list[bytes]]:
    """For each key in the file all that it may be, the likeliest first.  Raises ConfigError."""
    try:
        with Path(path).open("rb") as file:
            secret = file.read(MAX_SECRET + 1)
    except OSError as problem:
        raise ConfigError(f"{path}: {problem.strerror}") from None
    if not secret:
        raise ConfigError(f"{path}: it is empty; write the key into it")
    if len(secret) > MAX_SECRET:
        raise ConfigError(f"{path}: over {MAX_SECRET} octets; that is no key")
    if metallb:
        return [[metallb_key(secret)]]
    try:
        return _several(secret) or [readings(secret)]
    except ConfigError as problem:
        raise ConfigError(f"{path}: {problem}") from None


def readings(secret: bytes) -> list[bytes]:
    """Every key these octets may be, the likeliest first.  Raises ConfigError.

    Its text does not repeat what may be a secret with one character wrong.
    """
    keys = []
    with suppress(UnicodeDecodeError):
        keys = from_text(secret.decode("ascii"))
    if len(secret) in KEY_SIZES and secret not in keys:
        keys.append(secret)
    if not keys:
        raise ConfigError(
            f"{len(secret)} octets that are neither a raw key (16, 24 or 32) nor one in hexadecimal or base64"
        )
    return keys


def from_text(text: str) -> list[bytes]:
    """What hexadecimal or base64 text may mean, the likeliest first; empty if it is no key."""
    text = text.strip()
    if not text.isprintable():
        return []
    found = []
    with suppress(ValueError):
        found.append(bytes.fromhex(text))
    with suppress(ValueError):
        bare = text.rstrip("=").replace("-", "+").replace("_", "/")
        found.append(base64.b64decode(bare + "=" * (-len(bare) % 4), validate=True))
    return [key for key in found if len(key) in KEY_SIZES]


def _several(secret: bytes) -> list[list[bytes]]:
    """Keys of a JSON list, as Serf keeps them, or of lines; empty if it is neither."""
    try:
        text = secret.decode("ascii").strip()
    except UnicodeDecodeError:
        return []
    lines: list[object] = [line for line in text.splitlines() if line.strip()]
    if text.startswith("["):
        try:
            listed = json.loads(text)
        except (ValueError, RecursionError):
            return []
        if not isinstance(listed, list) or not listed:
            raise ConfigError("a JSON list of no keys")
        lines = listed
    elif len(lines) < 2:
        return []
    keys = [from_text(line) if isinstance(line, str) else [] for line in lines]
    wrong = [number for number, found in enumerate(keys, 1) if not found]
    if len(wrong) == len(keys):
        return []
    if wrong:
        raise ConfigError(
            f"key {wrong[0]} of {len(keys)} is neither hexadecimal nor base64 of 16, 24 or 32 octets"
        )
    return keys
