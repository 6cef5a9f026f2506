"""Running the demo as its user does, and knowing whether anything is left of it."""

from __future__ import annotations

import json
import os
import selectors
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from crier.lab import runs
from crier.lab.runs import Run, start_time

CRIER = Path(sys.executable).parent / "crier"
PATIENCE = 300.0
"""Seconds until a test gives up; a demo takes a tenth of it, on a machine that does nothing else."""


@contextmanager
def demo(directory: Path, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """`crier demo` as a process, standard error and output in one; killed at the end if it still runs."""
    process = subprocess.Popen(
        [CRIER, "demo", "--no-color", "--report-dir", str(directory), *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait(timeout=PATIENCE)
        assert process.stdout is not None
        process.stdout.close()
        sweep()


def run_demo(directory: Path, *arguments: str) -> dict[str, Any]:
    """Play it to its end; the report.  Fails with everything it said when it fails."""
    with demo(directory, *arguments) as process:
        run = run_of(process)
        said, _ = process.communicate(timeout=PATIENCE)
        assert process.returncode == 0, said
        assert left_of(run) == []
    document: dict[str, Any] = json.loads((directory / "report.json").read_text(encoding="utf-8"))
    assert document["problems"] == []
    return document


def wait_for(process: subprocess.Popen[str], text: str) -> None:
    """Read what it says until a line holds `text`."""
    assert process.stdout is not None
    said = ""
    deadline = time.monotonic() + PATIENCE
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        while text not in said:
            assert selector.select(deadline - time.monotonic()), f"it never said {text!r}:\n{said}"
            piece = os.read(process.stdout.fileno(), 65536).decode()
            assert piece, f"it ended before it said {text!r}:\n{said}"
            said += piece


def run_of(process: subprocess.Popen[str]) -> Run:
    """The run a demo has just made for itself."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline and process.poll() is None:
        for run in runs.all_runs():
            owner = run.owner()
            if owner is not None and owner.pid == process.pid:
                return run
        time.sleep(0.02)
    raise AssertionError("the demo never made a run")


def left_of(run: Run, processes: Mapping[int, int] | None = None) -> list[str]:
    """Namespaces, directory and processes (id -> start time, as they once were) that are still there."""
    directory = [str(run.directory)] if run.directory.exists() else []
    alive = [str(pid) for pid, started in (processes or {}).items() if start_time(pid) == started]
    return [*run.namespaces(), *directory, *alive]


def sweep() -> None:
    """What the next demo would do first."""
    runs.create().remove()


def vips(scenario: dict[str, Any]) -> Sequence[dict[str, Any]]:
    """Results of a scenario and of its undoing."""
    undone: dict[str, Any] = scenario["afterwards"] or {"vips": []}
    return [*scenario["vips"], *undone["vips"]]
