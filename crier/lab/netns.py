"""Network namespaces from inside Python: run something there, open a socket there, see who lives there.

A namespace belongs to a thread, so entering one happens in a thread of its own that ends right afterwards;
the process as a whole never moves.  A socket stays in the namespace it was made in, whoever uses it later.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import signal
import socket
import struct
import subprocess
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final, TypeVar

from crier.lab.errors import LabError

T = TypeVar("T")

DIRECTORY: Final = Path("/run/netns")
CLONE_NEWNET: Final = 0x40000000
SIOCGIFFLAGS: Final = 0x8913  # netdevice(7)
SIOCSIFFLAGS: Final = 0x8914
IFF_UP: Final = 1
COMMAND_TIMEOUT: Final = 60.0
"""Seconds for one `ip` or `nft`; they take milliseconds, so this is a hang and not a slow machine."""

_libc: Final = ctypes.CDLL(None, use_errno=True)


def path(name: str) -> Path:
    return DIRECTORY / name


def run(*argv: str, stdin: str | None = None) -> str:
    """Run a command to its end and return what it printed.  Raises LabError with its complaint."""
    try:
        done = subprocess.run(
            argv, input=stdin, capture_output=True, text=True, check=False, timeout=COMMAND_TIMEOUT
        )
    except FileNotFoundError:
        raise LabError(f"{argv[0]} is not installed") from None
    except subprocess.TimeoutExpired:
        raise LabError(f"`{' '.join(argv)}` did not end within {COMMAND_TIMEOUT:g} s") from None
    if done.returncode != 0:
        raise LabError(f"`{' '.join(argv)}` failed: {(done.stderr or done.stdout).strip()}")
    return done.stdout


def add(name: str) -> None:
    run("ip", "netns", "add", name)


def delete(name: str) -> None:
    """Remove the name.  The namespace itself ends with its last process and socket."""
    run("ip", "netns", "delete", name)


def ip(name: str, *commands: str) -> None:
    """Run `ip` commands in a namespace, one batch.  Raises LabError at the first that fails."""
    run("ip", "-n", name, "-batch", "-", stdin="\n".join(commands) + "\n")


def nft(name: str, ruleset: str) -> None:
    """Apply a ruleset in a namespace, all of it or nothing."""
    run("nsenter", f"--net={path(name)}", "nft", "-f", "-", stdin=ruleset)


def inside(name: str, work: Callable[[], T]) -> T:
    """What `work` returns when it is called inside the namespace.  Its exceptions come through."""
    results: list[T] = []
    problems: list[BaseException] = []

    def visit() -> None:
        try:
            handle = os.open(path(name), os.O_RDONLY | os.O_CLOEXEC)
            try:
                if _libc.setns(handle, CLONE_NEWNET) != 0:
                    number = ctypes.get_errno()
                    raise OSError(number, os.strerror(number), str(path(name)))
            finally:
                os.close(handle)
            results.append(work())
        except BaseException as problem:  # noqa: BLE001  (handed to the caller below)
            problems.append(problem)

    visitor = threading.Thread(target=visit, name=f"netns-{name}")
    visitor.start()
    visitor.join()
    if problems:
        raise problems[0]
    return results[0]


def open_socket(name: str, family: int, kind: int, protocol: int = 0) -> socket.socket:
    return inside(name, lambda: socket.socket(family, kind, protocol))


def set_link(name: str, interface: str, *, up: bool) -> None:
    """`ip link set`, without the time it takes to start `ip`.  Raises OSError."""
    with open_socket(name, socket.AF_INET, socket.SOCK_DGRAM) as sock:
        request = struct.pack("16sH22x", interface.encode(), 0)
        (flags,) = struct.unpack_from("16xH", fcntl.ioctl(sock, SIOCGIFFLAGS, request))
        flags = flags | IFF_UP if up else flags & ~IFF_UP
        fcntl.ioctl(sock, SIOCSIFFLAGS, struct.pack("16sH22x", interface.encode(), flags))


def set_sysctls(name: str, values: Mapping[str, int]) -> None:
    """Write sysctls (slashed, below `net/`) as seen from inside the namespace; those a kernel lacks are
    skipped.
    """

    def write() -> None:
        for key, value in values.items():
            with suppress(FileNotFoundError):
                Path("/proc/sys/net", key).write_text(f"{value}\n", encoding="ascii")

    inside(name, write)


def members(name: str) -> Iterator[int]:
    """Process ids of all that have their main thread in the namespace."""
    try:
        wanted = os.stat(path(name))
    except FileNotFoundError:
        return
    for entry in os.scandir("/proc"):
        if not entry.name.isdecimal():
            continue
        with suppress(OSError):  # it ended while we looked
            found = os.stat(f"/proc/{entry.name}/ns/net")
            if (found.st_dev, found.st_ino) == (wanted.st_dev, wanted.st_ino):
                yield int(entry.name)


def signal_members(name: str, number: signal.Signals) -> int:
    """Send a signal to every process in the namespace.  Returns how many there were.

    Each is pinned by a pidfd before it is looked at again, so a recycled process id is never hit.
    """
    wanted = os.stat(path(name)).st_ino
    count = 0
    for pid in members(name):
        if pid == os.getpid():
            continue
        with suppress(OSError):
            pin = os.pidfd_open(pid)
            try:
                if os.stat(f"/proc/{pid}/ns/net").st_ino == wanted:
                    signal.pidfd_send_signal(pin, number)
                    count += 1
            finally:
                os.close(pin)
    return count
