"""Ports, loopback networks and directories that nobody else on this machine has meanwhile."""

from __future__ import annotations

import fcntl
import functools
import itertools
import random
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

_RANDOM: Final = random.SystemRandom()
_LOWEST: Final = 10_000
_ENOUGH: Final = 1_000
_USUALLY_GIVEN: Final = 32_768
_RESERVED: Final = 17_945
"""The port by which a network is held."""


@functools.cache
def _ports() -> itertools.cycle[int]:
    """Below those the kernel gives to whoever asks for any: one it called free would be so for others, too,
    until the program that is to have it has started.  Each process begins somewhere else.
    """
    ephemeral = Path("/proc/sys/net/ipv4/ip_local_port_range").read_text(encoding="ascii")
    lowest_given = int(ephemeral.split()[0])
    ports = range(_LOWEST, lowest_given if lowest_given > _LOWEST + _ENOUGH else _USUALLY_GIVEN)
    begin = _RANDOM.randrange(len(ports))
    return itertools.cycle([*ports[begin:], *ports[:begin]])


def free_port() -> int:
    """One that is free on every address, for TCP and UDP, for a program that is started now."""
    family, every = (socket.AF_INET6, "::") if socket.has_dualstack_ipv6() else (socket.AF_INET, "")
    while True:
        port = next(_ports())
        try:
            for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
                with socket.socket(family, kind) as sock:
                    if family == socket.AF_INET6:
                        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
                    sock.bind((every, port))
        except OSError:
            continue
        return port


@functools.cache
def loopback_network() -> str:
    """`127.N`, the first half of addresses that are this process's as long as it lives."""
    for number in _RANDOM.sample(range(16, 240), 224):
        holder = socket.socket()
        try:
            holder.bind((f"127.{number}.0.1", _RESERVED))
        except OSError:
            holder.close()
        else:
            holder.detach()  # and so open until the process ends
            return f"127.{number}"
    raise RuntimeError("every loopback network is taken")


@contextmanager
def alone_in(directory: Path) -> Iterator[None]:
    """One at a time on this machine: who comes second finds what the first has built or fetched."""
    directory.mkdir(parents=True, exist_ok=True)
    with (directory / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
