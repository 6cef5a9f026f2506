"""Helm, built once from its Go module; kept in the user's cache."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.manifests.render import MANIFESTS, Document
from tests.places import alone_in

VERSION = "v3.18.6"
KUBERNETES = "1.34.0"
BUILD_PATIENCE = 900.0
CHART = MANIFESTS / "chart"


def program() -> Path:
    """Skips the test where there is neither Helm nor a Go to build it with."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "crier", "tools")
    kept = cache / f"helm-{VERSION}"
    if kept.exists():
        return kept
    if found := shutil.which("helm"):
        return Path(found)
    go = shutil.which("go") or shutil.which("go", path="/usr/local/go/bin")
    if go is None:
        pytest.skip("no Helm: it is built from its Go module, and there is no `go` (https://go.dev/dl)")
    with alone_in(cache), tempfile.TemporaryDirectory(dir=cache) as scratch:
        if kept.exists():
            return kept
        done = subprocess.run(
            ["nice", go, "install", f"helm.sh/helm/v3/cmd/helm@{VERSION}"],
            env={**os.environ, "GOBIN": scratch, "GOWORK": "off"},
            capture_output=True,
            text=True,
            timeout=BUILD_PATIENCE,
            check=False,
        )
        assert done.returncode == 0, done.stderr[-2000:]
        Path(scratch, "helm").rename(kept)
    return kept


def run(kubeconfig: Path, directory: Path, *arguments: str) -> str:
    """A verb of Helm that needs a cluster.  Returns what it says; fails the test when it does."""
    environment = {
        "PATH": os.environ.get("PATH", os.defpath), "HOME": str(directory), "KUBECONFIG": str(kubeconfig),
    }  # fmt: skip
    command = [str(program()), *arguments, "--namespace", "metallb-system"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, env=environment, check=False)
    assert done.returncode == 0, f"{' '.join(arguments)}: {done.stdout}{done.stderr}"
    return done.stdout


def template(
    values: dict[str, Any], directory: Path, release: str = "metallb"
) -> subprocess.CompletedProcess[str]:
    """`helm template` with these values; what went wrong is in its stderr."""
    file = directory / "values.yaml"
    file.write_text(yaml.safe_dump(values), encoding="utf-8")
    command = [str(program()), "template", release, str(CHART), "--namespace", "metallb-system"]
    command += ["--kube-version", KUBERNETES, "--values", str(file)]
    environment = {"PATH": os.environ.get("PATH", os.defpath), "HOME": str(directory)}
    return subprocess.run(command, capture_output=True, text=True, timeout=60, env=environment, check=False)


def render(values: dict[str, Any], directory: Path) -> tuple[Document, ...]:
    done = template(values, directory)
    assert done.returncode == 0, done.stderr
    return tuple(each for each in yaml.safe_load_all(done.stdout) if each)
