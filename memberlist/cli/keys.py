"""What the command line says about keys."""

from __future__ import annotations

import argparse
from typing import Final

from memberlist import keyfile
from memberlist.errors import ConfigError

HOW_READ: Final = """\
A key file is text if it can be: printable characters, white space around them aside, that are hexadecimal
or base64 (either alphabet, padded or not) of 16, 24 or 32 octets.  What is both is taken for hexadecimal.
Several keys, the primary first, are so many lines or a JSON list, as Serf keeps them.
Anything else of exactly 16, 24 or 32 octets is the key as it stands, a final newline included.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--secret-file", metavar="F", help="file of the key: hex or base64 text, else 16, 24 or 32 raw octets"
    )
    parser.add_argument(
        "--metallb-key", action="store_true", help="make a key of the secret file's octets as MetalLB does"
    )


def from_file(path: str | None, *, metallb: bool) -> list[list[bytes]]:
    """For each key in the file all that it may be; none without a file.  Raises ConfigError."""
    if not path:
        if metallb:
            raise ConfigError("--metallb-key: needs --secret-file")
        return []
    try:
        return keyfile.possible(path, metallb=metallb)
    except ConfigError as problem:
        raise ConfigError(f"--secret-file: {problem}") from None


def from_text(text: str) -> list[bytes]:
    """What a --key may mean, the likeliest first.  Raises ConfigError."""
    keys = keyfile.from_text(text)
    if not keys:
        raise ConfigError("--key: neither hexadecimal nor base64 of 16, 24 or 32 octets")
    return keys
