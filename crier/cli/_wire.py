"""Asking on the wire who has an address, from an interface of this machine: ARP and neighbour discovery."""

from __future__ import annotations

import fcntl
import socket
import struct
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path
from typing import Final

import trio

from crier.cli._common import Complaint, Exit
from speaker.reflex.l2 import arp, ndp
from speaker.reflex.l2.ethernet import BROADCAST, BadFrame

PATIENCE: Final = 0.6
"""Seconds an answer may take; two questions are asked in them."""
_ARP: Final = 0x0806
_IPV6: Final = 0x86DD
_SIOCGIFADDR: Final = 0x8915
MAX_FRAME: Final = 2048


@dataclass(frozen=True, slots=True)
class Heard:
    """Who answered for an address."""

    address: str
    macs: tuple[str, ...]
    problem: str = ""
    """Why it could not be asked; "" when it was."""


def check(interface: str | None) -> None:
    """Raises Complaint: there is no such interface, or we may not.  Without an interface nothing is asked."""
    if interface:
        _mac(interface)
        _open().close()


async def ask_all(interface: str, addresses: Iterable[str]) -> tuple[Heard, ...]:
    """Raises Complaint: there is no such interface, or we may not."""
    found = [await ask(interface, address) for address in addresses]
    return tuple(found)


async def ask(interface: str, text: str) -> Heard:
    """Everybody who answers for one address within `PATIENCE`.  Raises Complaint."""
    address = ip_address(text)
    mac = _mac(interface)
    try:
        question, ethertype = _question(interface, mac, address)
    except OSError as problem:
        return Heard(text, (), f"{interface} has no address to ask from: {problem.strerror}")
    macs: set[str] = set()
    with trio.socket.from_stdlib_socket(_open()) as sock:
        try:
            await sock.bind((interface, ethertype))
            for _ in range(2):
                await sock.send(question)
                with trio.move_on_after(PATIENCE / 2):
                    while True:
                        frame, origin = await sock.recvfrom(MAX_FRAME)
                        if origin[2] != socket.PACKET_OUTGOING and (found := _claimant(frame, address)):
                            macs.add(found)
        except OSError as problem:
            return Heard(text, tuple(sorted(macs)), problem.strerror or str(problem))
    return Heard(text, tuple(sorted(macs)))


def _mac(interface: str) -> bytes:
    """Raises Complaint."""
    try:
        return bytes.fromhex(Path("/sys/class/net", interface, "address").read_text("ascii").replace(":", ""))
    except (OSError, ValueError):
        raise Complaint(Exit.NOT_FOUND, f"--wire: there is no interface {interface} here") from None


def _open() -> socket.socket:
    """To ask by hand: the kernel would tell of one answer only.  Raises Complaint."""
    try:
        return socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
    except PermissionError:
        raise Complaint(Exit.FORBIDDEN, "--wire: raw sockets need root or CAP_NET_RAW") from None


def _question(interface: str, mac: bytes, address: IPv4Address | IPv6Address) -> tuple[bytes, int]:
    """Raises OSError: the interface has no address of the family."""
    if isinstance(address, IPv4Address):
        request = arp.Arp(
            BROADCAST, mac, arp.ETHERNET_IPV4, arp.Operation.REQUEST, mac, _own4(interface), bytes(6),
            address.packed,
        )  # fmt: skip
        return arp.encode(request), _ARP
    return ndp.solicit(mac, _own6(interface), address.packed), _IPV6


def _claimant(frame: bytes, address: IPv4Address | IPv6Address) -> str:
    """Hardware address of who says it has the address; "" for every other frame."""
    with suppress(BadFrame):
        if isinstance(address, IPv4Address):
            answer = arp.decode(frame)
            if answer.sender_ip == address.packed and answer.operation == arp.Operation.REPLY:
                return answer.sender_mac.hex(":")
        else:
            told = ndp.decode(frame)
            if isinstance(told, ndp.Advertisement) and told.target == address.packed:
                return (told.target_link_layer or told.ether_source).hex(":")
    return ""


def _own4(interface: str) -> bytes:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        request = struct.pack("256s", interface.encode()[:15])
        return fcntl.ioctl(sock, _SIOCGIFADDR, request)[20:24]


def _own6(interface: str) -> bytes:
    """The link-local address, which no router forwards."""
    for line in Path("/proc/net/if_inet6").read_text("ascii").splitlines():
        fields = line.split()
        if len(fields) == 6 and fields[5] == interface and fields[0].startswith("fe80"):
            return bytes.fromhex(fields[0])
    raise OSError(99, "no link-local IPv6 address")
