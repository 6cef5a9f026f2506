"""The image's file system, made once a session; what is downloaded for it stays in the user's cache."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.places import alone_in

CHECKOUT = Path(__file__).parents[2]
BUILD_PATIENCE = 600.0


@pytest.fixture(scope="session")
def image(tmp_path_factory: pytest.TempPathFactory, progress: Callable[[str], None]) -> Path:
    """The unpacked image, as the Dockerfile's last stage has it; CRIER_IMAGE is one that was really built."""
    if given := os.environ.get("CRIER_IMAGE"):
        return Path(given)
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "crier", "image")
    root = tmp_path_factory.mktemp("image") / "root"
    progress("the image's file system: the first time it is downloaded, which takes a minute")
    command = [sys.executable, str(CHECKOUT / "hack" / "rootfs.py"), str(root), "--cache", str(cache)]
    with alone_in(cache):
        done = subprocess.run(command, capture_output=True, text=True, timeout=BUILD_PATIENCE)
    assert done.returncode == 0, done.stderr
    return root
