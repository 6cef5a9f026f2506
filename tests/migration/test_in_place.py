"""Our manifests applied over MetalLB's (docs/migrating.md) and MetalLB's over ours, on a real API server."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from crier.lab.kube import Kube, Programs, start_kube
from crier.lab.peers import metallb
from tests.lab.conftest import kube_programs, progress
from tests.manifests.render import MANIFESTS, find, kustomize

__all__ = ["kube_programs", "progress"]

KINDS = (("Deployment", "controller"), ("DaemonSet", "speaker"))
PATIENCE = 300.0


@pytest.fixture(scope="module")
def theirs() -> Path:
    """MetalLB's own manifests, from its Go module."""
    go = shutil.which("go") or shutil.which("go", path="/usr/local/go/bin")
    if go is None:
        pytest.skip("MetalLB's manifests come with its Go module, and there is no `go`: https://go.dev/dl")
    done = subprocess.run(
        [go, "mod", "download", "-json", f"{metallb.MODULE}@v{metallb.VERSION}"],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
        env={**os.environ, "GOWORK": "off"},
    )
    assert done.returncode == 0, done.stderr + done.stdout
    return Path(json.loads(done.stdout)["Dir"], "config", "manifests")


@pytest.fixture
def kube(kube_programs: Programs) -> Iterator[Kube]:
    with start_kube(kube_programs) as kube:
        yield kube


def shape(workload: dict[str, Any]) -> dict[str, Any]:
    """What decides how its pods run."""
    template = workload["spec"]["template"]
    spec = template["spec"]
    return {
        "strategy": workload["spec"].get("strategy", workload["spec"].get("updateStrategy"))["type"],
        "labels": template["metadata"]["labels"],
        "volumes": sorted(each["name"] for each in spec.get("volumes", ())),
        "init": [each["name"] for each in spec.get("initContainers", ())],
        "security": spec["securityContext"],
        "containers": {
            each["name"]: {
                "command": each.get("command"),
                "args": each.get("args"),
                "env": sorted(variable["name"] for variable in each.get("env", ())),
                "mounts": sorted(mount["mountPath"] for mount in each.get("volumeMounts", ())),
                "ports": sorted(port["name"] for port in each.get("ports", ())),
                "security": each["securityContext"],
            }
            for each in spec["containers"]
        },
    }


def live(kube: Kube, kind: str, name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(
        kube.kubectl("get", kind, name, "--namespace=metallb-system", "--output=json")
    )
    return found


@pytest.mark.parametrize("mode", ["native", "frr"])
def test_there_and_back(kube: Kube, theirs: Path, mode: str) -> None:
    """Nothing of the one is left in the pods of the other, whatever sidecars it had."""
    file = str(theirs / f"metallb-{mode}.yaml")
    kube.kubectl("apply", "--filename", file)
    kube.kubectl("wait", "--for=condition=Established", "--timeout=30s", "crds", "--all")
    before = {name: live(kube, kind, name) for kind, name in KINDS}
    kube.kubectl("apply", "--kustomize", str(MANIFESTS / "overlays" / "native"))
    wanted = kustomize("overlays/native")
    for kind, name in KINDS:
        now = live(kube, kind, name)
        assert now["metadata"]["uid"] == before[name]["metadata"]["uid"], "replaced, not rolled over"
        assert now["metadata"]["generation"] > before[name]["metadata"]["generation"]
        assert shape(now) == shape(find(wanted, kind, name))
    conversion = json.loads(kube.kubectl("get", "crd", "bgppeers.metallb.io", "--output=json"))
    assert conversion["spec"]["conversion"]["strategy"] == "None"
    kube.kubectl("apply", "--filename", file)
    for kind, name in KINDS:
        assert shape(live(kube, kind, name)) == shape(before[name])
