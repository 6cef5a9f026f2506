"""What several verbs ask for: who may read us, and where somebody is."""

from __future__ import annotations

import argparse

from memberlist.cli import keys
from memberlist.config import DEFAULT_PORT, Address
from memberlist.errors import ConfigError
from memberlist.keyring import Keyring


def add_secrets(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--label", default="", help="the cluster's label; default: none")
    keys.add_arguments(parser)
    parser.epilog, parser.formatter_class = keys.HOW_READ, argparse.RawDescriptionHelpFormatter


def keyring(args: argparse.Namespace) -> Keyring | None:
    """The keys of --secret-file; None without.  Raises ConfigError."""
    found = keys.from_file(args.secret_file, metallb=args.metallb_key)
    return Keyring(readings[0] for readings in found) if found else None


def parse_address(text: str, flag: str, *, default_port: int = DEFAULT_PORT) -> Address:
    """`host:port`, `[IPv6]:port`, or either without port.  Raises ConfigError; `Config` checks the host."""
    host, colon, port = text.rpartition(":")
    bare = ":" in host and not host.startswith("[")
    if not colon or bare or text.endswith("]"):
        host, port = text, str(default_port)
    if not (port.isascii() and port.isdigit() and int(port) < 65536):
        raise ConfigError(f"{flag}: {text!r} has no port from 0 to 65535")
    return host.removeprefix("[").removesuffix("]"), int(port)
