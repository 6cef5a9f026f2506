"""LANs for tests: up for the length of a `with`, gone afterwards whatever happened."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from crier.lab import netns, runs
from crier.lab.lan import Host, Lan
from crier.lab.process import Processes
from crier.lab.runs import Run

PATIENCE = 60.0
"""Seconds until a test gives up; a busy machine may need many."""
ECHO_PATIENCE = "30"


@contextmanager
def open_lan(base: Path, nodes: int = 2, *, fabric: bool = False) -> Iterator[tuple[Lan, Run, Processes]]:
    run = runs.create(base)
    try:
        lan = Lan(run, nodes, fabric=fabric)
        processes = Processes(run)
        lan.up()
        yield lan, run, processes
    finally:
        run.remove()
    for process in processes.all.values():
        process.popen.wait(timeout=PATIENCE)


def eventually(condition: Callable[[], bool], what: str) -> None:
    """Poll until it holds; fail after `PATIENCE`."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, f"never came: {what}"
        time.sleep(0.02)


def inside(host: Host, *argv: str) -> subprocess.CompletedProcess[str]:
    command = ["nsenter", f"--net={netns.path(host.netns)}", *argv]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=PATIENCE)


def pings(host: Host, address: object) -> bool:
    """Whether one echo comes back within a second."""
    return inside(host, "ping", "-q", "-c", "1", "-W", "1", str(address)).returncode == 0


def reaches(host: Host, address: object) -> bool:
    """Whether one of many echoes comes back."""
    return inside(host, "ping", "-q", "-c", "1", "-w", ECHO_PATIENCE, str(address)).returncode == 0


def start_backend(processes: Processes, host: Host, ports: Sequence[str]) -> None:
    addresses = ["--address", str(host.ipv4), "--address", str(host.ipv6)]
    processes.start(
        f"backend-{host.name}",
        [sys.executable, "-m", "crier.lab.backend", "--node", host.name, *addresses, *ports],
        namespace=host.netns,
    )
    backend = processes.all[f"backend-{host.name}"]
    eventually(lambda: "serving" in backend.tail(), f"the backend on {host.name}")


def ask_udp(
    host: Host, address: object, port: int, *, source_port: int = 0, patience: float = PATIENCE
) -> bytes | None:
    """One datagram from a host and its answer; None when none came."""
    family = socket.AF_INET6 if ":" in str(address) else socket.AF_INET

    def ask() -> bytes | None:
        with socket.socket(family, socket.SOCK_DGRAM) as sock:
            sock.settimeout(patience)
            sock.bind(("", source_port))
            sock.connect((str(address), port))
            try:
                sock.send(b"7")
                return sock.recv(2048)
            except OSError:
                return None

    return netns.inside(host.netns, ask)


def ask_tcp(host: Host, address: object, port: int) -> bytes | None:
    def ask() -> bytes | None:
        try:
            with socket.create_connection((str(address), port), timeout=PATIENCE) as sock:
                sock.sendall(b"GET / HTTP/1.0\r\n\r\n")
                answer = b""
                while piece := sock.recv(4096):
                    answer += piece
                return answer
        except OSError:
            return None

    return netns.inside(host.netns, ask)
