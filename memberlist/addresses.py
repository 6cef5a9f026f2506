"""Addresses a member is given, and those it finds."""

from __future__ import annotations

import array
import contextlib
import fcntl
import ipaddress
import socket
import struct
from collections.abc import Iterator
from pathlib import Path

import trio

from .config import Address
from .errors import ConfigError, JoinError


def parse_join(text: str, default_port: int, *, name_required: bool = False) -> tuple[str, int]:
    """`[name/]host[:port]` -> host, port; IPv6 with or without brackets.  Raises JoinError.

    The name is for the reader: who answers says itself what it is called.
    """
    name, slash, rest = text.rpartition("/")
    if slash and not name:
        raise JoinError(f"{text!r}: the name in front of the slash is empty")
    if name_required and not name:
        raise JoinError(f"{text!r}: require_node_names wants name/address")
    host, port_text = rest, ""
    if rest.startswith("["):
        host, bracket, after = rest[1:].partition("]")
        if not bracket or (after and not after.startswith(":")):
            raise JoinError(f"{text!r}: write [IPv6 address]:port")
        port_text = after[1:]
    elif rest.count(":") == 1:
        host, _, port_text = rest.partition(":")
    if not host:
        raise JoinError(f"{text!r}: there is no host")
    if ":" in host and not _is_ipv6(host):
        raise JoinError(f"{text!r}: {host!r} is no IPv6 address, and a name has no colons")
    if not port_text:
        return host, default_port
    if not (port_text.isascii() and port_text.isdigit() and 0 < int(port_text) < 65536):
        raise JoinError(f"{text!r}: port {port_text!r} is not a number from 1 to 65535")
    return host, int(port_text)


def _is_ipv6(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).version == 6
    except ValueError:
        return False


async def resolve(host: str, port: int) -> list[Address]:
    """Every address of the host.  Raises JoinError."""
    with contextlib.suppress(ValueError):
        return [(str(ipaddress.ip_address(host)), port)]
    try:
        found = await trio.socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as problem:
        why = problem.strerror if isinstance(problem, OSError) else str(problem)
        raise JoinError(f"{host}: cannot be resolved: {why}") from None
    return list(dict.fromkeys((str(entry[4][0]), port) for entry in found))


def advertised(bind: Address, advertise: Address | None, port: int) -> Address:
    """What others are told to send to.  Raises ConfigError when this host has no address to tell."""
    if advertise is not None:
        return (advertise[0], advertise[1] or port)
    bound = ipaddress.ip_address(bind[0])
    if not bound.is_unspecified:
        return (str(bound), port)
    for text in _host_addresses(bound.version):
        address = ipaddress.ip_address(text)
        if address.is_private and not (address.is_loopback or address.is_link_local):
            return (text, port)
    raise ConfigError(f"advertise: {bind[0]} is bound and no private address was found; name one")


def _host_addresses(version: int) -> Iterator[str]:
    if version == 6:
        for line in Path("/proc/net/if_inet6").read_text("ascii").splitlines():
            yield str(ipaddress.ip_address(bytes.fromhex(line.split()[0])))
        return
    # SIOCGIFCONF: one 40-octet record for each interface's IPv4 address, in the interfaces' order.
    room = array.array("B", bytes(40 * 256))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        request = struct.pack("iL", len(room), room.buffer_info()[0])
        used = struct.unpack("iL", fcntl.ioctl(probe.fileno(), 0x8912, request))[0]
    for start in range(0, used, 40):
        yield socket.inet_ntoa(room[start + 20 : start + 24].tobytes())
