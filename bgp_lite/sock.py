"""Socket options of a BGP session: MD5 signatures (RFC 2385), TTL security (RFC 5082), time-outs."""

from __future__ import annotations

import ipaddress
import socket
import struct
from collections.abc import Callable
from typing import Final, Protocol

from bgp_lite.config import PeerConfig

# Linux numbers that Python's socket module does not name (linux/in.h, linux/in6.h, linux/tcp.h).
IP_MINTTL: Final = 21
IPV6_MINHOPCOUNT: Final = 73
TCP_MD5SIG: Final = 14
TTL: Final = 255
"""Always sent (RFC 5082): it satisfies those who enforce it, and harms nobody."""
CLASS_SELECTOR_6: Final = 0xC0
"""Routing traffic is marked CS6 (RFC 4271 uses IP precedence internetwork control)."""


class Settable(Protocol):
    @property
    def setsockopt(self) -> Callable[..., None]: ...


def family_of(address: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in address else socket.AF_INET


def md5_option(address: str, key: bytes) -> bytes:
    """`struct tcp_md5sig` for one peer; octet order is the machine's, addresses are the network's."""
    packed = ipaddress.ip_address(address.partition("%")[0]).packed
    if len(packed) == 4:
        sockaddr = struct.pack("=H2x", socket.AF_INET) + packed
    else:
        sockaddr = struct.pack("=H2xI", socket.AF_INET6, 0) + packed
    return struct.pack("=128sBBHi80s", sockaddr, 0, 0, len(key), 0, key)


def set_key(sock: Settable, address: str, key: bytes) -> None:
    """Sign segments to and from a peer with this key; an empty one ends that.  Raises OSError."""
    sock.setsockopt(socket.IPPROTO_TCP, TCP_MD5SIG, md5_option(address, key))


def prepare(sock: Settable, config: PeerConfig, peer: str) -> None:
    """What has to be set before `connect` to the peer's address.  Raises OSError."""
    tune(sock, config, peer)
    if config.password is not None:
        set_key(sock, peer, config.password)
    if config.device is not None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, config.device.encode() + b"\0")


def tune(sock: Settable, config: PeerConfig, peer: str) -> None:
    """What any connection of the session has, whoever made it.  Raises OSError."""
    six = family_of(peer) is socket.AF_INET6
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if config.hold_time:
        # A path that died takes what was written with it; without this the kernel retries for 15 minutes.
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, config.hold_time * 1000)
    if six:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_UNICAST_HOPS, TTL)
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_TCLASS, CLASS_SELECTOR_6)
        if config.ttl_security:
            sock.setsockopt(socket.IPPROTO_IPV6, IPV6_MINHOPCOUNT, TTL)
    else:
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, TTL)
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_TOS, CLASS_SELECTOR_6)
        if config.ttl_security:
            sock.setsockopt(socket.IPPROTO_IP, IP_MINTTL, TTL)
