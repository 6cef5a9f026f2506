"""What several verbs ask for: who may read us, and where somebody is."""

from __future__ import annotations

import argparse
from contextlib import suppress
from pathlib import Path

from memberlist.cli.decode import MAX_SECRET, parse_key
from memberlist.config import DEFAULT_PORT, Address
from memberlist.errors import ConfigError
from memberlist.keyring import KEY_SIZES, Keyring, metallb_key


def add_secrets(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--label", default="", help="the cluster's label; default: none")
    parser.add_argument(
        "--secret-file", metavar="F", help="the key: 16, 24 or 32 octets, as they are or as hex or base64"
    )
    parser.add_argument(
        "--metallb-key", action="store_true", help="make a key of the secret file's octets as MetalLB does"
    )


def keyring(args: argparse.Namespace) -> Keyring | None:
    """None without --secret-file.  Raises ConfigError and OSError."""
    if not args.secret_file:
        if args.metallb_key:
            raise ConfigError("--metallb-key: needs --secret-file")
        return None
    with Path(args.secret_file).open("rb") as file:
        secret = file.read(MAX_SECRET)
    if args.metallb_key:
        if not secret:
            raise ConfigError("--secret-file: it is empty")
        return Keyring([metallb_key(secret)])
    if len(secret) in KEY_SIZES:
        return Keyring([secret])
    with suppress(ConfigError):
        return Keyring(parse_key(secret.decode("ascii", "replace"))[:1])
    raise ConfigError("--secret-file: neither a key of 16, 24 or 32 octets nor one in hex or base64")


def parse_address(text: str, flag: str, *, default_port: int = DEFAULT_PORT) -> Address:
    """`host:port`, `[IPv6]:port`, or either without port.  Raises ConfigError; `Config` checks the host."""
    host, colon, port = text.rpartition(":")
    bare = ":" in host and not host.startswith("[")
    if not colon or bare or text.endswith("]"):
        host, port = text, str(default_port)
    if not (port.isascii() and port.isdigit() and int(port) < 65536):
        raise ConfigError(f"{flag}: {text!r} has no port from 0 to 65535")
    return host.removeprefix("[").removesuffix("]"), int(port)
