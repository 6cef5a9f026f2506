"""Each speaker of the comparison behind three calls: `prepare`, `go`, `withdraw`."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO, Final

from bench.bgp_peers import build
from tests.bgp_lite.rig import Rig

SOURCE: Final = "10.9.0.2"
ROOT: Final = Path(__file__).parents[2]


def prefix(number: int) -> str:
    return f"10.{64 + (number >> 16)}.{number >> 8 & 255}.{number & 255}"


class Contender(ABC):
    """One speaker in its namespace, with one session to `router`."""

    def __init__(self, rig: Rig, host: str, router: str) -> None:
        self.rig, self.host, self.router = rig, host, router
        self.processes: list[subprocess.Popen[bytes]] = []

    def spawn(self, command: Sequence[str], **how: object) -> subprocess.Popen[bytes]:
        process = self.rig.spawn(self.host, command, **{"stderr": subprocess.DEVNULL, "cwd": ROOT, **how})
        self.processes.append(process)
        return process

    @property
    def speaker(self) -> int:
        """Process id of what speaks BGP."""
        return self.processes[0].pid

    @abstractmethod
    def prepare(self, count: int) -> None:
        """So many prefixes, not told yet."""

    @abstractmethod
    def go(self) -> None:
        """Tell them."""

    @abstractmethod
    def withdraw(self) -> None:
        """Take them back."""

    def updates(self) -> int | None:
        """UPDATE messages sent so far, where the speaker says so."""
        return None

    def stop(self) -> None:
        for process in self.processes:
            process.send_signal(signal.SIGKILL)
            process.wait()


class Driven(Contender):
    """A program that takes `prepare`, `go` and `withdraw` as lines."""

    def start(self, command: Sequence[str]) -> None:
        self.driven = self.spawn(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def tell(self, line: str) -> None:
        assert self.driven.stdin is not None
        self.driven.stdin.write(f"{line}\n".encode())
        self.driven.stdin.flush()

    def hear(self, word: str) -> list[str]:
        assert self.driven.stdout is not None
        for line in self.driven.stdout:
            if line.split()[:1] == [word.encode()]:
                return line.decode().split()
        raise RuntimeError(f"{type(self).__name__} ended")

    def prepare(self, count: int) -> None:
        self.tell(f"prepare {count}")
        self.hear("ready")

    def go(self) -> None:
        self.tell("go")

    def withdraw(self) -> None:
        self.tell("withdraw")

    def stop(self) -> None:
        super().stop()
        for stream in (self.driven.stdin, self.driven.stdout):
            if stream is not None:
                stream.close()


class Library(Driven):
    def __init__(self, rig: Rig, host: str, router: str) -> None:
        super().__init__(rig, host, router)
        self.start([sys.executable, "-m", "bench.bgp_peers.library", SOURCE, router])
        self._updates = 0

    def updates(self) -> int:
        self._updates = int(self.hear("written")[1])
        return self._updates


class Metallb(Driven):
    def __init__(self, rig: Rig, host: str, router: str) -> None:
        super().__init__(rig, host, router)
        self.start([str(build.metallb()), router, SOURCE])


class Gobgp(Driven):
    def __init__(self, rig: Rig, host: str, router: str) -> None:
        super().__init__(rig, host, router)
        client = build.gobgp_client()
        config = rig.workdir / "gobgp-speaker.toml"
        config.write_text(
            f'[global.config]\nas = 65001\nrouter-id = "{SOURCE}"\nport = -1\n'
            f'[[neighbors]]\n[neighbors.config]\nneighbor-address = "{router}"\npeer-as = 65000\n'
            "[neighbors.timers.config]\nconnect-retry = 1\nidle-hold-time-after-reset = 1\n"
            '[[neighbors.afi-safis]]\n[neighbors.afi-safis.config]\nafi-safi-name = "ipv4-unicast"\n'
        )
        command = ["gobgpd", "-f", str(config), "--pprof-disable", "--api-hosts=127.0.0.1:50051"]
        self.spawn(command, stdout=subprocess.DEVNULL)
        self.start([str(client), SOURCE])


class Lines(Contender):
    """A program that takes a line a prefix."""

    announce: Callable[[str], str]
    take_back: Callable[[str], str]

    def __init__(self, rig: Rig, host: str, router: str) -> None:
        super().__init__(rig, host, router)
        self._over = threading.Event()
        self._feeders: list[threading.Thread] = []

    def prepare(self, count: int) -> None:
        names = [prefix(number) for number in range(count)]
        self._forth = "".join(map(self.announce, names)).encode()
        self._back = "".join(map(self.take_back, names)).encode()

    @property
    @abstractmethod
    def pipe(self) -> IO[bytes]:
        """Where its commands go."""

    def go(self) -> None:
        self._feed(self._forth)

    def withdraw(self) -> None:
        self._feed(self._back)

    def _feed(self, lines: bytes) -> None:
        """As fast as they are read: who reads slowly must not hold up the clock it is measured by."""

        def write() -> None:
            rest, fd = memoryview(lines), self.pipe.fileno()
            os.set_blocking(fd, False)
            while rest and not self._over.is_set():
                select.select([], [fd], [], 0.1)
                try:
                    rest = rest[os.write(fd, rest) :]
                except BlockingIOError:
                    continue
                except BrokenPipeError:
                    return

        thread = threading.Thread(target=write, daemon=True)
        thread.start()
        self._feeders.append(thread)

    def stop(self) -> None:
        self._over.set()
        for thread in self._feeders:
            thread.join()
        super().stop()
        self.pipe.close()


class Announce(Lines):
    announce = staticmethod("+ {}\n".format)
    take_back = staticmethod("- {}\n".format)

    def __init__(self, rig: Rig, host: str, router: str) -> None:
        super().__init__(rig, host, router)
        command = [sys.executable, "-m", "bgp_lite", "announce", "--json", "--local-as", "65001"]
        command += ["--peer-as", "65000", "--peer", router, "--source", SOURCE]
        self._process = self.spawn(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)

    @property
    def pipe(self) -> IO[bytes]:
        assert self._process.stdin is not None
        return self._process.stdin


class Exabgp(Lines):
    announce = staticmethod(f"announce route {{}}/32 next-hop {SOURCE}\n".format)
    take_back = staticmethod(f"withdraw route {{}}/32 next-hop {SOURCE}\n".format)

    def __init__(self, rig: Rig, host: str, router: str) -> None:
        super().__init__(rig, host, router)
        program = build.exabgp()
        fifo, config = rig.workdir / "exabgp.fifo", rig.workdir / "exabgp.conf"
        fifo.unlink(missing_ok=True)
        os.mkfifo(fifo)
        config.write_text(
            f"process api {{\n  run /bin/cat {fifo};\n  encoder text;\n}}\n"
            f"neighbor {router} {{\n  router-id {SOURCE};\n  local-address {SOURCE};\n"
            "  local-as 65001;\n  peer-as 65000;\n  hold-time 90;\n"
            "  family { ipv4 unicast; }\n  api { processes [ api ]; }\n}\n"
        )
        quiet = {"exabgp.api.ack": "false", "exabgp.api.cli": "false", "exabgp.daemon.user": "root"}
        quiet["exabgp.log.level"] = "ERR"
        environment = {**os.environ, **quiet}
        # Opened for both ways, so that neither end of the pipe waits for the other.
        self._pipe = os.fdopen(os.open(fifo, os.O_RDWR), "wb")
        self.spawn(
            [str(program), "-m", "exabgp", str(config)],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
        )

    @property
    def pipe(self) -> IO[bytes]:
        return self._pipe


CONTENDERS: Final[dict[str, type[Contender]]] = {
    "bgp_lite, library": Library,
    "bgp_lite, announce": Announce,
    "MetalLB native 0.16.1": Metallb,
    "GoBGP, gRPC stream": Gobgp,
    f"ExaBGP {build.EXABGP}": Exabgp,
}
