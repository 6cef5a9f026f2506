"""The dashboard as Grafana's own types read it (grafana-foundation-sdk, a Go module).  They are no Grafana:
how it looks there is for somebody to see who has one.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.manifests.render import MANIFESTS

SOURCES = Path(__file__).parent / "grafana"
DASHBOARD = MANIFESTS / "overlays" / "prometheus" / "dashboard.json"
BUILD_PATIENCE = 900.0


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built once, in half a minute; kept in the user's cache."""
    go = shutil.which("go") or shutil.which("go", path="/usr/local/go/bin")
    if go is None:
        pytest.skip("Grafana's types of a dashboard are a Go module, and there is no `go`: https://go.dev/dl")
    digest = hashlib.sha256(b"".join(path.read_bytes() for path in sorted(SOURCES.iterdir())))
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "crier", "tools")
    program = base / f"dashboard-{digest.hexdigest()[:16]}"
    if not program.exists():
        base.mkdir(parents=True, exist_ok=True)
        built = tmp_path_factory.mktemp("build") / "dashboard"
        done = subprocess.run(
            [go, "build", "-trimpath", "-buildvcs=false", "-o", str(built), "."],
            cwd=SOURCES,
            env={**os.environ, "GOWORK": "off"},
            capture_output=True,
            text=True,
            timeout=BUILD_PATIENCE,
            check=False,
        )
        assert done.returncode == 0, done.stderr[-2000:]
        shutil.move(built, program)
    return program


def read(reader: Path, document: dict[str, Any], directory: Path) -> str:
    """What is wrong with it."""
    file = directory / "dashboard.json"
    file.write_text(json.dumps(document), encoding="utf-8")
    done = subprocess.run([reader, file], capture_output=True, text=True, timeout=60, check=False)
    return done.stdout


def test_grafanas_types_take_it(reader: Path, tmp_path: Path) -> None:
    document = json.loads(DASHBOARD.read_text(encoding="utf-8"))
    assert read(reader, document, tmp_path) == ""
    for panel in document["panels"]:
        for place in (panel.get("options"), *panel.get("targets", ())):
            if place is None:
                continue
            place["bogus"] = 1
            assert "unexpected field 'bogus'" in read(reader, document, tmp_path), panel["title"]
            del place["bogus"]
