"""Runs of the lab: who owns what on this machine, and how what a dead run left behind is removed.

A run is a directory `/run/crier-lab/<id>/`.  It exists before the first thing the run makes and is removed
after the last, and it names its owner by process id and start time (a process id alone comes round again).
Namespaces carry the id in their names; processes are written down as they start, and those inside the
namespaces are found there anyway.  So whatever killed a run, the next one can tell what is left of it, and a
living run is never touched.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import secrets
import shutil
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from crier.lab import netns
from crier.lab.errors import LabError

BASE: Final = Path("/run/crier-lab")
KILL_PATIENCE: Final = 20.0
"""Seconds to wait for killed processes to be gone before saying so."""
_NAME: Final = re.compile(r"[0-9a-f]{6}")
_UNBORN_AGE: Final = 60.0
"""Seconds after which a run directory that never got its owner file counts as left behind."""


def start_time(pid: int) -> int | None:
    """When the process started, in clock ticks since boot; None when it is gone or a zombie (proc(5))."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    fields = stat.rpartition(")")[
        2
    ].split()  # the command in parentheses may hold anything, so count from its end
    return None if fields[0] in ("Z", "X") else int(fields[19])


@dataclass(frozen=True, slots=True)
class Owner:
    pid: int
    started: int
    kept: bool = False
    """The run was left up on purpose; only its id removes it."""

    @property
    def alive(self) -> bool:
        return start_time(self.pid) == self.started


class Run:
    """One run's directory and everything that carries its id."""

    def __init__(self, run_id: str, base: Path = BASE) -> None:
        if not _NAME.fullmatch(run_id):
            raise LabError(f"run id {run_id!r}: six hexadecimal digits expected")
        self.id = run_id
        self.directory = base / run_id

    # -- the record

    def owner(self) -> Owner | None:
        return _read_owner(self.directory)

    def keep(self) -> None:
        """Mark the run as left up on purpose: it no longer ends with its owner."""
        owner = self.owner()
        if owner is None:
            raise LabError(f"run {self.id} has no owner on record")
        _write_owner(self.directory, Owner(owner.pid, owner.started, kept=True))

    def record_process(self, pid: int, name: str) -> None:
        started = start_time(pid)
        if started is not None:
            with (self.directory / "processes").open("a", encoding="utf-8") as record:
                record.write(json.dumps({"pid": pid, "started": started, "name": name}) + "\n")

    def processes(self) -> dict[int, int]:
        """Process id -> start time of those on record that still live."""
        found = {}
        with suppress(FileNotFoundError):
            for line in (self.directory / "processes").read_text(encoding="utf-8").splitlines():
                with suppress(ValueError, KeyError, TypeError):  # a line cut short by a kill
                    entry = json.loads(line)
                    if start_time(entry["pid"]) == entry["started"]:
                        found[int(entry["pid"])] = int(entry["started"])
        return found

    # -- namespaces

    def netns(self, role: str) -> str:
        return f"crier-{self.id}-{role}"

    def namespaces(self) -> list[str]:
        if not netns.DIRECTORY.is_dir():
            return []
        return sorted(p.name for p in netns.DIRECTORY.iterdir() if p.name.startswith(f"crier-{self.id}-"))

    # -- the end

    def remove(self) -> None:
        """End every process of the run, remove its namespaces and its directory.  Raises LabError if some
        stay.
        """
        names = self.namespaces()
        deadline = time.monotonic() + KILL_PATIENCE
        while True:
            left = set(self.processes())
            for name in names:
                left.update(netns.members(name))
            left.discard(os.getpid())
            if not left:
                break
            if time.monotonic() > deadline:
                raise LabError(f"run {self.id}: processes that do not die: {sorted(left)}")
            for pid, started in self.processes().items():
                _kill(pid, started)
            for name in names:
                with suppress(FileNotFoundError):
                    netns.signal_members(name, signal.SIGKILL)
            time.sleep(0.01)
        for name in names:
            netns.delete(name)
        shutil.rmtree(self.directory, ignore_errors=True)


def create(base: Path = BASE) -> Run:
    """A new run owned by this process, after removing what dead runs left."""
    with _locked(base):
        sweep(base)
        run = Run(secrets.token_hex(3), base)
        while run.directory.exists():
            run = Run(secrets.token_hex(3), base)
        unborn = base / f".new-{run.id}"  # renamed when complete, so nobody ever sees a run without an owner
        unborn.mkdir(mode=0o700)
        started = start_time(os.getpid())
        assert started is not None
        _write_owner(unborn, Owner(os.getpid(), started))
        unborn.rename(run.directory)
    return run


def sweep(base: Path = BASE) -> list[str]:
    """Remove what runs with a dead owner left behind, unless kept on purpose.  Returns their ids."""
    swept = []
    for run in all_runs(base):
        owner = run.owner()
        if owner is None or not (owner.alive or owner.kept):
            run.remove()
            swept.append(run.id)
    for unborn in base.glob(".new-*"):
        owner = _read_owner(unborn)
        with suppress(FileNotFoundError):
            abandoned = (
                time.time() - unborn.stat().st_mtime > _UNBORN_AGE if owner is None else not owner.alive
            )
            if abandoned:
                shutil.rmtree(unborn, ignore_errors=True)
    return swept


def all_runs(base: Path = BASE) -> list[Run]:
    if not base.is_dir():
        return []
    return [Run(p.name, base) for p in sorted(base.iterdir()) if _NAME.fullmatch(p.name) and p.is_dir()]


def kept_runs(base: Path = BASE) -> list[Run]:
    return [run for run in all_runs(base) if (owner := run.owner()) is not None and owner.kept]


@contextmanager
def _locked(base: Path) -> Iterator[None]:
    """One creation or sweep at a time on this machine."""
    base.mkdir(mode=0o755, parents=True, exist_ok=True)
    with (base / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _read_owner(directory: Path) -> Owner | None:
    try:
        record = json.loads((directory / "owner.json").read_text(encoding="utf-8"))
        return Owner(int(record["pid"]), int(record["started"]), bool(record["kept"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _write_owner(directory: Path, owner: Owner) -> None:
    fresh = directory / ".owner.json"
    fresh.write_text(
        json.dumps({"pid": owner.pid, "started": owner.started, "kept": owner.kept}) + "\n", encoding="utf-8"
    )
    fresh.rename(directory / "owner.json")


def _kill(pid: int, started: int) -> None:
    with suppress(OSError):
        pin = os.pidfd_open(pid)  # from here on the id cannot come round to another process
        try:
            if start_time(pid) == started:
                signal.pidfd_send_signal(pin, signal.SIGKILL)
        finally:
            os.close(pin)
