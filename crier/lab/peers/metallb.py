"""MetalLB's controller and speaker: built once from their Go module, run in the lab in the place of ours.

They take the same flags, environment and kinds as ours, so a lab cluster runs them by their paths alone
(`Settings.programs`).  The webhook is off: nothing in the lab is to be refused, and it would need a
certificate and a Service of its own.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Final

from crier.lab.cluster import Programs
from crier.lab.errors import LabError, NotPossible

VERSION: Final = "0.16.1"
MODULE: Final = "go.universe.tf/metallb"
BUILD_TIMEOUT: Final = 900.0
"""Seconds; it takes some five minutes on two cores that have nothing else to do."""
PROGRAMS: Final = ("controller", "speaker")


def cache_directory() -> Path:
    """Where the programs are kept once built."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base, "crier", "peers", f"metallb-{VERSION}")


def programs(progress: Callable[[str], None]) -> Programs:
    """MetalLB's programs as a lab cluster runs them; built where they are missing.

    Raises:
        NotPossible: they are missing and there is no Go to build them with.
        LabError: the build failed; the text has the compiler's words.
    """
    directory = cache_directory()
    directory.parent.mkdir(parents=True, exist_ok=True)
    with directory.with_name(f"{directory.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # one build at a time; who comes second finds it done
        if not all((directory / name).exists() for name in PROGRAMS):
            _build(directory, progress)
    return Programs(
        controller=(str(directory / "controller"), "--webhook-mode=disabled"),
        speaker=(str(directory / "speaker"),),
    )


def _build(directory: Path, progress: Callable[[str], None]) -> None:
    go = shutil.which("go") or shutil.which("go", path="/usr/local/go/bin")
    if go is None:
        raise NotPossible("MetalLB is built from source, and there is no `go`: https://go.dev/dl")
    progress(f"building MetalLB {VERSION} from source: once, some minutes")
    # Built beside its place and renamed, so that nobody ever sees half a program.
    with tempfile.TemporaryDirectory(prefix=".build-", dir=directory.parent) as scratch:
        command = ["nice", "-n", "10", go, "install"]
        command += [f"{MODULE}/{name}@v{VERSION}" for name in PROGRAMS]
        environment = {**os.environ, "GOWORK": "off", "GOBIN": scratch}
        try:
            done = subprocess.run(
                command, cwd=scratch, env=environment, capture_output=True, text=True, check=False,
                timeout=BUILD_TIMEOUT,
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            raise LabError(f"building MetalLB took longer than {BUILD_TIMEOUT:g} s") from None
        if done.returncode != 0:
            raise LabError(f"building MetalLB {VERSION} failed: {done.stderr.strip()[-2000:]}")
        directory.mkdir(exist_ok=True)
        for name in PROGRAMS:
            Path(scratch, name).rename(directory / name)
