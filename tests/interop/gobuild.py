"""Builds the Go peer when a test asks for it and keeps the program outside the tree.

The cached name carries a hash of the sources and of the compiler's version, so nothing stale is ever run.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Final

SOURCES: Final = Path(__file__).parents[1] / "peers" / "memberlist"
MODULE_FILES: Final = {"0.5.1": "go.mod", "0.6.0": "v0.6.0.mod"}
"""Version of hashicorp/memberlist -> the module file that names it."""

BUILD_SECONDS: Final = 600


class CannotBuildError(Exception):
    """What is missing, and how to get it."""


def cache_directory() -> Path:
    """Where built and fetched peers are kept: `$XDG_CACHE_HOME/crier/peers`."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    directory = Path(base) / "crier" / "peers"
    directory.mkdir(parents=True, exist_ok=True)
    return directory


def go_peer(version: str, progress: Callable[[str], None] = lambda line: None) -> Path:
    """The program for one version of the library, built if it is not in the cache.

    Raises CannotBuildError when there is no Go compiler or it fails.
    """
    go = shutil.which("go") or shutil.which("go", path="/usr/local/go/bin")
    if go is None:
        raise CannotBuildError(
            "no `go` on PATH: the real memberlist peers need Go 1.25 or newer (https://go.dev/dl)"
        )
    compiler = subprocess.run([go, "version"], capture_output=True, check=True, text=True).stdout
    program = cache_directory() / f"memberlist-{version}-{_fingerprint(compiler)}"
    if not program.exists():
        progress(f"building the Go peer with hashicorp/memberlist v{version} (once, about half a minute)")
        _build(go, MODULE_FILES[version], program)
    return program


def _fingerprint(compiler: str) -> str:
    digest = hashlib.sha256(compiler.encode())
    for source in sorted(SOURCES.iterdir()):
        if source.suffix in {".go", ".mod", ".sum"}:
            digest.update(f"{source.name}\0".encode() + source.read_bytes())
    return digest.hexdigest()[:16]


def _build(go: str, module_file: str, program: Path) -> None:
    # Built beside its place and renamed, so that two test runs at once cannot see half a program.
    with tempfile.TemporaryDirectory(dir=program.parent) as scratch:
        built = Path(scratch) / program.name
        command = [
            go,
            "build",
            "-trimpath",
            "-buildvcs=false",
            f"-modfile={module_file}",
            "-o",
            str(built),
            ".",
        ]
        result = subprocess.run(
            command, cwd=SOURCES, capture_output=True, text=True, check=False, timeout=BUILD_SECONDS
        )
        if result.returncode != 0:
            raise CannotBuildError(f"`{' '.join(command)}` failed: {result.stderr.strip()[-2000:]}")
        built.rename(program)
