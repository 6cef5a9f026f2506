"""A LAN of network namespaces for one test: a bridge, and stations on it; gone when the block ends."""

from __future__ import annotations

import ctypes
import functools
import os
import secrets
import signal
import socket
import subprocess
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

COMMAND_TIMEOUT: Final = 60
ETH_P_ALL: Final = 3


def run(*command: str, check: bool = True) -> str:
    """Standard output of a command."""
    done = subprocess.run(command, capture_output=True, text=True, timeout=COMMAND_TIMEOUT, check=False)
    if check and done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)}: status {done.returncode}: {done.stdout}{done.stderr}")
    return done.stdout


class Station:
    """One namespace with `eth0` on the bridge, 10.77.0.N/24 and fd77::N/64."""

    def __init__(self, lan: Lan, name: str, number: int) -> None:
        self.lan, self.name, self.number = lan, name, number
        self.namespace = f"{lan.prefix}-{name}"
        self.ipv4, self.ipv6 = f"10.77.0.{number}", f"fd77::{number:x}"

    def ip(self, *arguments: str) -> str:
        return run("ip", "-n", self.namespace, *arguments)

    def command(self, *command: str) -> tuple[str, ...]:
        return ("ip", "netns", "exec", self.namespace, *command)

    def run(self, *command: str, check: bool = True) -> str:
        return run(*self.command(*command), check=check)

    def attach(self, interface: str, *, mac: str = "", up: bool = True) -> None:
        """A new interface, plugged into the bridge."""
        far = f"{self.name}-{interface}"
        self.ip("link", "add", interface, "type", "veth", "peer", "name", far, "netns", self.lan.bridge)
        if mac:
            self.ip("link", "set", interface, "address", mac)
        run("ip", "-n", self.lan.bridge, "link", "set", far, "master", "br0", "up")
        if up:
            self.ip("link", "set", interface, "up")

    def mac(self, interface: str = "eth0") -> str:
        return self.run("cat", f"/sys/class/net/{interface}/address").strip()

    def packet_socket(self, interface: str = "eth0", protocol: int = ETH_P_ALL) -> socket.socket:
        """A raw socket in this namespace that sees and sends whole frames; one second of patience."""
        sock: list[socket.socket] = []

        def open_there() -> None:  # namespaces belong to threads; this one is gone afterwards
            with Path(f"/run/netns/{self.namespace}").open("rb") as namespace:
                if ctypes.CDLL(None, use_errno=True).setns(namespace.fileno(), 0) != 0:
                    raise OSError(ctypes.get_errno(), "setns")
            made = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(protocol))
            made.bind((interface, protocol))
            made.settimeout(1.0)
            sock.append(made)

        thread = threading.Thread(target=open_there)
        thread.start()
        thread.join()
        return sock[0]

    def processes(self) -> list[int]:
        return [int(pid) for pid in run("ip", "netns", "pids", self.namespace).split()]


class Lan:
    def __init__(self) -> None:
        self.prefix = f"ct-{os.getpid()}-{secrets.token_hex(3)}"
        self.bridge = f"{self.prefix}-br"
        self._stations: list[Station] = []
        self._namespaces: list[str] = []

    def _namespace(self, name: str) -> None:
        run("ip", "netns", "add", name)
        self._namespaces.append(name)
        run("ip", "netns", "exec", name, "sysctl", "-qw", "net.ipv6.conf.all.accept_dad=0",
            "net.ipv6.conf.default.accept_dad=0", "net.ipv4.conf.default.arp_notify=0")  # fmt: skip

    def start(self) -> None:
        self._namespace(self.bridge)
        run("ip", "-n", self.bridge, "link", "add", "br0", "type", "bridge", "mcast_snooping", "0")
        run("ip", "-n", self.bridge, "link", "set", "br0", "up")

    def station(self, name: str) -> Station:
        station = Station(self, name, len(self._stations) + 1)
        self._stations.append(station)
        self._namespace(station.namespace)
        station.ip("link", "set", "lo", "up")
        station.attach("eth0")
        station.ip("address", "add", f"{station.ipv4}/24", "dev", "eth0")
        station.ip("address", "add", f"{station.ipv6}/64", "dev", "eth0", "nodad")
        return station

    def stop(self) -> None:
        for name in self._namespaces:
            remove(name)


def remove(namespace: str) -> None:
    """With all that runs in it."""
    for pid in run("ip", "netns", "pids", namespace, check=False).split():
        with suppress(ProcessLookupError):
            os.kill(int(pid), signal.SIGKILL)
    run("ip", "netns", "del", namespace, check=False)


@functools.cache
def sweep() -> None:
    """What tests that were killed left behind, remove."""
    for each in Path("/run/netns").glob("ct-*"):
        if not Path("/proc", each.name.split("-")[1]).exists():
            remove(each.name)


@contextmanager
def lan(names: Sequence[str] = ()) -> Iterator[tuple[Station, ...]]:
    """Stations on one bridge."""
    sweep()
    made = Lan()
    try:
        made.start()
        yield tuple(made.station(name) for name in names)
    finally:
        made.stop()
