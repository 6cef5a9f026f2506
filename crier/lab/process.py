"""Programs of the lab as processes: started in a namespace, logged to a file, ended with the run.

Each is a session of its own, so that a Ctrl-C at the terminal reaches the demo and not them, and asks the
kernel to be killed when the demo dies (PR_SET_PDEATHSIG), unless the run is to be kept.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Final

import trio

from crier.lab import netns
from crier.lab.errors import LabError
from crier.lab.runs import Run

BIN: Final = Path(sys.executable).parent
"""Where this installation's console entry points are."""
_SYSTEM_PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def entry_point(name: str) -> str:
    """The path of an installed program.  Raises LabError when it is not there."""
    program = BIN / name
    if not program.exists():
        raise LabError(f"{program} is missing: install Crier into this environment (make setup)")
    return str(program)


@dataclass(slots=True)
class LabProcess:
    name: str
    log: Path
    popen: subprocess.Popen[bytes]
    expected: bool = field(default=False)
    """Its end is wanted (or already reported), so the watch over unexpected deaths is silent about it."""

    @property
    def pid(self) -> int:
        return self.popen.pid

    @property
    def running(self) -> bool:
        return self.popen.poll() is None

    def tail(self, lines: int = 12) -> str:
        with suppress(OSError):
            return "\n".join(self.log.read_text(encoding="utf-8", errors="replace").splitlines()[-lines:])
        return ""

    def send(self, number: signal.Signals) -> None:
        """A signal to the process itself; nothing happens when it has ended."""
        self.popen.send_signal(number)

    def kill_tree(self) -> None:
        """SIGKILL to the process and all it started, as the end of a container does."""
        pins = []
        try:
            for pid in [self.pid, *descendants(self.pid)] if self.running else []:
                with suppress(OSError):
                    pins.append(os.pidfd_open(pid))
            for pin in pins:
                with suppress(ProcessLookupError):
                    signal.pidfd_send_signal(pin, signal.SIGKILL)
        finally:
            for pin in pins:
                os.close(pin)

    async def wait(self, patience: float) -> int:
        """The exit status.  Raises LabError when the process lives longer than `patience` seconds."""
        deadline = time.monotonic() + patience
        while (status := self.popen.poll()) is None:
            if time.monotonic() > deadline:
                raise LabError(f"{self.name} (pid {self.pid}) did not end within {patience:g} s")
            await trio.sleep(0.01)
        return status


class Processes:
    """Every process of one run."""

    def __init__(self, run: Run, *, outlive_us: bool = False) -> None:
        self._run = run
        self._outlive_us = outlive_us
        self.logs = run.directory / "logs"
        self.logs.mkdir(exist_ok=True)
        self.all: dict[str, LabProcess] = {}
        """Newest process of each name."""

    def start(
        self,
        name: str,
        argv: Sequence[str],
        *,
        namespace: str | None = None,
        environment: Mapping[str, str] | None = None,
        stdin: IO[bytes] | int = subprocess.DEVNULL,
        stdout: int | None = None,
        pass_fds: Sequence[int] = (),
    ) -> LabProcess:
        """Start a program; nothing of our own environment reaches it but the language.

        A process dies with the *thread* that started it, so this must be called from the main thread.
        """
        command = list(argv)
        if not self._outlive_us:
            command = ["setpriv", "--pdeathsig", "KILL", "--", *command]
        if namespace is not None:
            command = ["nsenter", f"--net={netns.path(namespace)}", "--", *command]
        # A proxy, a kubeconfig or a METALLB_* of the caller's would otherwise leak into the lab.
        clean = {"PATH": f"{BIN}:{_SYSTEM_PATH}", "HOME": "/nonexistent", "PYTHONUNBUFFERED": "1"}
        clean.update((key, value) for key, value in os.environ.items() if key in ("LANG", "LC_ALL", "TZ"))
        log = self.logs / f"{name}.log"
        with log.open("ab") as output:
            try:
                popen = subprocess.Popen(
                    command,
                    stdin=stdin,
                    stdout=output if stdout is None else stdout,
                    stderr=output,
                    env={**clean, **(environment or {})},
                    cwd="/",
                    start_new_session=True,
                    pass_fds=pass_fds,
                )
            except OSError as problem:
                raise LabError(f"cannot start {name}: {problem}") from None
        self._run.record_process(popen.pid, name)
        process = LabProcess(name, log, popen)
        self.all[name] = process
        return process

    def unexpected_deaths(self) -> list[LabProcess]:
        """Processes that ended without anybody asking for it; each is returned once."""
        dead = [p for p in self.all.values() if not p.expected and not p.running]
        for process in dead:
            process.expected = True
        return dead

    def reap(self) -> None:
        for process in self.all.values():
            process.popen.poll()


def descendants(pid: int) -> list[int]:
    """Children, their children and so on, of every thread (proc(5), task/*/children)."""
    found: list[int] = []
    queue = [pid]
    while queue:
        parent = queue.pop()
        for children in Path(f"/proc/{parent}/task").glob("*/children"):
            with suppress(OSError):
                below = [int(text) for text in children.read_text(encoding="ascii").split()]
                found.extend(below)
                queue.extend(below)
    return found
