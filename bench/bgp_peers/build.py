"""What the speakers beside ours are made of: fetched and built once, kept outside the tree.

ExaBGP goes into a virtual environment of its own; MetalLB's session code and a client of gobgpd are compiled.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

HERE: Final = Path(__file__).parent
EXABGP: Final = "4.2.25"
"""5.0 is slower at what is measured here."""
METALLB: Final = "go.universe.tf/metallb@v0.16.1"
BUILD_SECONDS: Final = 900


class NotPossible(Exception):
    """What is missing."""


def cache_directory() -> Path:
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    directory = Path(base, "crier", "peers")
    directory.mkdir(parents=True, exist_ok=True)
    return directory


def exabgp() -> Path:
    """The `exabgp` program.  Raises NotPossible."""
    home = cache_directory() / f"exabgp-{EXABGP}"

    def build(scratch: Path) -> None:
        _run([sys.executable, "-m", "venv", str(scratch / "venv")], scratch)
        _run([str(scratch / "venv/bin/pip"), "install", "--quiet", f"exabgp=={EXABGP}"], scratch)
        (scratch / "venv").rename(home)

    with _once(home, build):
        # Scripts of a moved environment name a Python that is gone: the module is run instead.
        return home / "bin" / "python"


def metallb() -> Path:
    """MetalLB's native session, driven by lines.  Raises NotPossible."""
    source = HERE / "metallb.go.txt"
    program = cache_directory() / f"metallb-native-{_hash(source)}"

    def build(scratch: Path) -> None:
        described = _run([_go(), "mod", "download", "-json", METALLB], scratch)
        # A copy: its packages are internal, so what uses them has to be a part of it.
        module = Path(str(json.loads(described)["Dir"]))
        (scratch / "m").mkdir()
        for part in ("api", "internal", "go.mod", "go.sum"):
            source_part = module / part
            if source_part.is_dir():
                shutil.copytree(source_part, scratch / "m" / part, copy_function=shutil.copyfile)
            else:
                shutil.copyfile(source_part, scratch / "m" / part)
        for folder, _, _ in os.walk(scratch / "m"):
            Path(folder).chmod(0o755)
        (scratch / "m" / "bench").mkdir()
        shutil.copyfile(source, scratch / "m" / "bench" / "main.go")
        _run([_go(), "build", "-buildvcs=false", "-o", str(scratch / "out"), "./bench"], scratch / "m")
        (scratch / "out").rename(program)

    with _once(program, build):
        return program


def gobgp_client() -> Path:
    """Announces through gobgpd's gRPC interface.  Raises NotPossible."""
    source = HERE / "gobgp"
    program = cache_directory() / f"gobgp-client-{_hash(*sorted(source.iterdir()))}"

    def build(scratch: Path) -> None:
        _run([_go(), "build", "-buildvcs=false", "-o", str(scratch / "out"), "."], source)
        (scratch / "out").rename(program)

    with _once(program, build):
        return program


def _hash(*files: Path) -> str:
    digest = hashlib.sha256()
    for each in files:
        digest.update(each.name.encode() + b"\0" + each.read_bytes())
    return digest.hexdigest()[:16]


def _go() -> str:
    go = shutil.which("go") or shutil.which("go", path="/usr/local/go/bin")
    if go is None:
        raise NotPossible("there is no `go` to build it with: https://go.dev/dl")
    return go


@contextmanager
def _once(result: Path, build: Callable[[Path], None]) -> Iterator[None]:
    with result.with_name(f"{result.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # one build at a time; who comes second finds it done
        if not result.exists():
            print(f"building {result.name} (once)", file=sys.stderr)
            with tempfile.TemporaryDirectory(prefix=".build-", dir=result.parent) as scratch:
                build(Path(scratch))
        yield


def _run(command: list[str], where: Path) -> str:
    environment = {**os.environ, "GOWORK": "off"}
    where.mkdir(exist_ok=True)
    done = subprocess.run(
        command,
        cwd=where,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=BUILD_SECONDS,
    )
    if done.returncode != 0:
        raise NotPossible(f"`{' '.join(command)}` failed: {done.stderr.strip()[-1000:]}")
    return done.stdout
