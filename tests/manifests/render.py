"""Manifests as `kubectl apply -k` and `helm install` would send them."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any, TypeAlias

import yaml

MANIFESTS = Path(__file__).parents[2] / "manifests"
OVERLAYS = tuple(sorted(path.parent.name for path in MANIFESTS.glob("overlays/*/kustomization.yaml")))

Document: TypeAlias = dict[str, Any]


def kustomize(folder: str) -> tuple[Document, ...]:
    """The documents of a folder under manifests/."""
    done = subprocess.run(
        ["kubectl", "kustomize", str(MANIFESTS / folder)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return tuple(each for each in yaml.safe_load_all(done.stdout) if each)


def find(documents: tuple[Document, ...], kind: str, name: str) -> Document:
    (found,) = [each for each in documents if (each["kind"], each["metadata"]["name"]) == (kind, name)]
    return found
