"""Keys as people have them: raw octets in a file, or hexadecimal or base64 text."""

from __future__ import annotations

import argparse
import base64
from contextlib import suppress
from pathlib import Path
from typing import Final

from memberlist.errors import ConfigError
from memberlist.keyring import KEY_SIZES, metallb_key

MAX_SECRET: Final = 65536
"""Octets of a secret file; Kubernetes has secrets of at most 1 MiB, and the key needs 32."""

HOW_READ: Final = """\
A key file is text if it can be: printable characters, white space around them aside, that are hexadecimal
or base64 (either alphabet, padded or not) of 16, 24 or 32 octets.  What is both is taken for hexadecimal.
Anything else of exactly 16, 24 or 32 octets is the key as it stands, a final newline included.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--secret-file", metavar="F", help="file of the key: hex or base64 text, else 16, 24 or 32 raw octets"
    )
    parser.add_argument(
        "--metallb-key", action="store_true", help="make a key of the secret file's octets as MetalLB does"
    )


def from_file(path: str | None, *, metallb: bool) -> list[bytes]:
    """Every key the file may hold, the likeliest first; none without a file.  Raises ConfigError."""
    if not path:
        if metallb:
            raise ConfigError("--metallb-key: needs --secret-file")
        return []
    try:
        with Path(path).open("rb") as file:
            secret = file.read(MAX_SECRET + 1)
    except OSError as problem:
        raise ConfigError(f"--secret-file: {path}: {problem.strerror}") from None
    if not secret:
        raise ConfigError(f"--secret-file: {path}: it is empty; write the key into it")
    if len(secret) > MAX_SECRET:
        raise ConfigError(f"--secret-file: {path}: over {MAX_SECRET} octets; that is no key")
    if metallb:
        return [metallb_key(secret)]
    try:
        return readings(secret)
    except ConfigError as problem:
        raise ConfigError(f"--secret-file: {path}: {problem}") from None


def from_text(text: str) -> list[bytes]:
    """What a --key may mean, the likeliest first.  Raises ConfigError."""
    keys = _decoded(text)
    if not keys:
        raise ConfigError("--key: neither hexadecimal nor base64 of 16, 24 or 32 octets")
    return keys


def readings(secret: bytes) -> list[bytes]:
    """Every key these octets may be, the likeliest first.  Raises ConfigError.

    Its text does not repeat what may be a secret with one character wrong.
    """
    keys = []
    with suppress(UnicodeDecodeError):
        keys = _decoded(secret.decode("ascii"))
    if len(secret) in KEY_SIZES and secret not in keys:
        keys.append(secret)
    if not keys:
        raise ConfigError(
            f"{len(secret)} octets that are neither a raw key (16, 24 or 32) nor one in hexadecimal or base64"
        )
    return keys


def _decoded(text: str) -> list[bytes]:
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
