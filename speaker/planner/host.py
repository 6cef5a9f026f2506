"""What the node we run on is like, for `crier doctor`: kernel settings, interfaces, clock, kube-proxy's mode.

Read when it is asked for and never otherwise; a file that cannot be read is left out.
"""

from __future__ import annotations

import fcntl
import re
import socket
import struct
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import trio

from speaker.orders import MemberView
from speaker.planner.hail import hail_tcp, hail_udp
from speaker.settings import Settings

SYSCTLS: Final = ("rp_filter", "arp_ignore", "arp_announce", "forwarding")
KUBE_PROXY: Final = ("127.0.0.1", 10249)
"""Where kube-proxy tells its mode (`--metrics-bind-address`), at `/proxyMode`."""
KUBE_PROXY_PATIENCE: Final = 1.0
MAX_INTERFACES: Final = 512
MAX_HAILED: Final = 512
MAX_ANSWER: Final = 4096
_SIOCGIFFLAGS: Final = 0x8913
_SIOCGIFHWADDR: Final = 0x8927
_IFF_UP: Final = 0x1
_IFF_RUNNING: Final = 0x40
_CONF: Final = Path("/proc/sys/net/ipv4/conf")
_PATTERN: Final = re.compile(r"^\s*-\s*[\"']?(.*?)[\"']?\s*$")


async def document(settings: Settings, members: Iterable[MemberView]) -> dict[str, Any]:
    """The `/host` document; takes no longer than a second or two."""
    found: dict[str, Any] = {
        "node": settings.node_name,
        "interfaces": interfaces(),
        "sysctls": sysctls(),
        "exclude_l2": excluded(settings.exclude_l2_file),
        "kube_proxy": "",
        "gossip": [],
    }

    async def ask_kube_proxy() -> None:
        found["kube_proxy"] = await kube_proxy_mode()

    async def hail(member: MemberView) -> None:
        entry = {"name": member.name, "address": member.address, "port": member.port, "tcp": "", "udp": ""}
        found["gossip"].append(entry)
        async with trio.open_nursery() as both:
            both.start_soon(_note, entry, "tcp", hail_tcp, member)
            both.start_soon(_note, entry, "udp", hail_udp, member, settings)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(ask_kube_proxy)
        others = [member for member in members if member.name != settings.node_name]
        for member in others[:MAX_HAILED]:
            nursery.start_soon(hail, member)
    found["gossip"].sort(key=lambda entry: str(entry["name"]))
    found["time"] = time.time()  # last, so that it is as old as the way back is long
    return found


async def _note(entry: dict[str, Any], how: str, hail: Any, *args: Any) -> None:
    """ "" is an answer; anything else says why there was none."""
    entry[how] = await hail(*args)


def interfaces() -> list[dict[str, Any]]:
    """Name, whether it is up and has carrier, its hardware address.

    Asked of the kernel by socket, which is of our network namespace whatever /sys is of.
    """
    found = []
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        for _, name in sorted(socket.if_nameindex(), key=lambda pair: pair[1])[:MAX_INTERFACES]:
            request = struct.pack("256s", name.encode()[:15])
            with suppress(OSError):  # it went away while we looked
                flags = struct.unpack_from("H", fcntl.ioctl(sock, _SIOCGIFFLAGS, request), 16)[0]
                mac = fcntl.ioctl(sock, _SIOCGIFHWADDR, request)[18:24].hex(":")
                up = bool(flags & _IFF_UP and flags & _IFF_RUNNING)
                found.append({"name": name, "up": up, "mac": mac})
    return found


def sysctls(root: Path = _CONF) -> dict[str, dict[str, int]]:
    """Interface (or `all`, `default`) to what of `SYSCTLS` can be read."""
    found: dict[str, dict[str, int]] = {}
    with suppress(OSError):
        for path in sorted(root.iterdir())[:MAX_INTERFACES]:
            values = {}
            for name in SYSCTLS:
                with suppress(ValueError):
                    values[name] = int(_text(path / name))
            found[path.name] = values
    return found


def excluded(file: Path) -> list[str]:
    """The patterns in MetalLB's file of interfaces that never announce; [] without one."""
    patterns = []
    for line in _text(file).splitlines():
        match = _PATTERN.match(line)
        if match and match[1]:
            patterns.append(match[1])
    return patterns


async def kube_proxy_mode() -> str:
    """`iptables`, `ipvs`, `nftables`; "" when nobody says."""
    with trio.move_on_after(KUBE_PROXY_PATIENCE), suppress(OSError, ValueError):
        stream = await trio.open_tcp_stream(*KUBE_PROXY)
        async with stream:
            await stream.send_all(b"GET /proxyMode HTTP/1.0\r\nHost: localhost\r\n\r\n")
            answer = b""
            while len(answer) < MAX_ANSWER and (chunk := await stream.receive_some(MAX_ANSWER)):
                answer += chunk
        head, _, body = answer.partition(b"\r\n\r\n")
        if b" 200 " in head.split(b"\r\n")[0] + b" ":
            return body.decode("ascii")[:32].strip()
    return ""


def _text(file: Path) -> str:
    try:
        with file.open(encoding="utf-8", errors="replace") as opened:
            return opened.read(65536).strip()
    except OSError:
        return ""
