"""Our BGP identifier when none is configured: MetalLB's rule, so that routers see the same one as before."""

from __future__ import annotations

import ipaddress
import socket
import zlib
from collections.abc import Iterable

from bgp_lite.addresses import Address, addresses
from crier.kube.model.bgppeer import BgpPeer


def router_id(peer: BgpPeer, node: str) -> str:
    """The configured one; else the IPv4 address the session is made from; over IPv6 the first IPv4 address of
    the interface it is made from; else a number made from the node's name.

    Raises OSError when there is no way to the peer, now.
    """
    if peer.router_id is not None:
        return str(peer.router_id)
    if peer.address is None:
        try:
            index = socket.if_nametoindex(peer.interface)
        except OSError:
            raise OSError(f"there is no interface {peer.interface!r}") from None
        return _first(addresses(), {index}) or from_name(node)
    local = str(peer.source) if peer.source else _towards(str(peer.address), peer.port, peer.vrf)
    ip = ipaddress.ip_address(local.partition("%")[0])
    if ip.version == 4:
        return str(ip)
    known = addresses()
    return _first(known, {each.index for each in known if each.ip == ip}) or from_name(node)


def from_name(node: str) -> str:
    """CRC-32 of the node's name, the octets little end first."""
    return str(ipaddress.IPv4Address(zlib.crc32(node.encode()).to_bytes(4, "little")))


def _first(known: Iterable[Address], indices: set[int]) -> str:
    return next((str(each.ip) for each in known if each.index in indices and each.ip.version == 4), "")


def _towards(peer: str, port: int, device: str) -> str:
    """The address the kernel would take; no packet is sent."""
    family = socket.AF_INET6 if ":" in peer else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        if device:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, device.encode() + b"\0")
        probe.connect((peer, port))
        return str(probe.getsockname()[0])
