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
import yaml

from crier.lab.kube import Kube, Programs, start_kube
from crier.lab.peers import metallb
from tests.manifests import helm
from tests.manifests.render import MANIFESTS, find, kustomize

KINDS = (("Deployment", "controller"), ("DaemonSet", "speaker"))
PATIENCE = 300.0


@pytest.fixture(scope="module")
def theirs() -> Path:
    """MetalLB's own manifests and chart, from its Go module."""
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
    return Path(json.loads(done.stdout)["Dir"])


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
    file = str(theirs / "config" / "manifests" / f"metallb-{mode}.yaml")
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


CRDS = ("ipaddresspools", "l2advertisements", "bgppeers", "bgpadvertisements", "bfdprofiles", "communities")


def test_a_release_of_its_chart_is_upgraded_and_rolled_back(kube: Kube, theirs: Path, tmp_path: Path) -> None:
    """`helm upgrade` as in docs/migrating.md: workloads and kinds stay the same objects, so no pod runs twice
    and no pool is lost; what only MetalLB needs goes, and comes again with `helm rollback`.
    """
    mine = {"frrk8s": {"enabled": False}, "loadBalancerClass": "lab", "speaker": {"logLevel": "debug"}}
    file = tmp_path / "values.yaml"
    file.write_text(yaml.safe_dump(mine), encoding="utf-8")

    def helm_run(*arguments: str) -> str:
        return helm.run(kube.kubeconfig, tmp_path, *arguments)

    def state() -> dict[str, str]:
        return {name: live(kube, kind, f"metallb-{name}")["metadata"]["uid"] for kind, name in KINDS} | {
            name: json.loads(kube.kubectl("get", "crd", f"{name}.metallb.io", "--output=json"))["metadata"][
                "uid"
            ]
            for name in CRDS
        }

    def webhooks() -> str:
        return kube.kubectl("get", "validatingwebhookconfigurations", "--output=name")

    chart = str(theirs / "charts" / "metallb")
    helm_run("install", "metallb", chart, "--create-namespace", "--values", str(file))
    before = state()
    assert "metallb" in webhooks()
    given = yaml.safe_load(helm_run("get", "values", "metallb", "--output", "yaml"))
    assert given == mine
    for component in ("controller", "speaker"):
        given.setdefault(component, {})["image"] = {"repository": "registry.example.org/crier"}
    file.write_text(yaml.safe_dump(given), encoding="utf-8")
    helm_run("upgrade", "metallb", str(helm.CHART), "--values", str(file))
    assert state() == before
    assert "metallb" not in webhooks()
    wanted = {each["kind"]: each for each in helm.render(given, tmp_path)}
    for kind, name in KINDS:
        assert shape(live(kube, kind, f"metallb-{name}")) == shape(wanted[kind])
    pool = {
        "apiVersion": "metallb.io/v1beta1", "kind": "IPAddressPool",
        "metadata": {"name": "lan", "namespace": "metallb-system"}, "spec": {"addresses": ["192.0.2.0/28"]},
    }  # fmt: skip
    kube.kubectl("apply", "--filename=-", stdin=json.dumps(pool))
    helm_run("rollback", "metallb", "1")
    assert state() == before
    assert "lan" in kube.kubectl("--namespace=metallb-system", "get", "ipaddresspools", "--output=name")


CHANGED: dict[str, Any] = {
    "controller.image.repository": "registry.example.org/crier",
    "speaker.image.repository": "registry.example.org/crier",
    "controller.strategy.type": "Recreate",
    "controller.webhookMode": "disabled",
    "frrk8s.enabled": False,
}
TAKEN_OUT = (
    "speaker.frr.image", "speaker.frr.metricsPort", "speaker.frr.resources", "speaker.reloader",
    "speaker.frrMetrics", "speaker.initContainers", "speaker.bgpDebounceTimeout",
    "crds.validationFailurePolicy", "frr-k8s",
)  # fmt: skip


def parent(values: dict[str, Any], path: str) -> tuple[dict[str, Any], str]:
    *way, last = path.split(".")
    for name in way:
        values = values[name]
    return values, last


def test_a_values_file_of_metallbs_chart(theirs: Path, tmp_path: Path) -> None:
    """All of MetalLB's values, as somebody has them who copied its file: what has to change is named, and is
    what docs/migrating.md says; everything else is taken.
    """
    values = yaml.safe_load((theirs / "charts" / "metallb" / "values.yaml").read_text(encoding="utf-8"))
    said = helm.template(values, tmp_path).stderr
    for path in TAKEN_OUT:
        assert f"'{path.rpartition('.')[2]}'" in said
        holder, name = parent(values, path)
        del holder[name]
    said = helm.template(values, tmp_path).stderr
    for path, value in CHANGED.items():
        assert f"* {path}: " in said
        holder, name = parent(values, path)
        holder[name] = value
    assert said.count("\n  * ") == len(CHANGED)
    assert len(helm.render(values, tmp_path)) > len(KINDS)
    document = (MANIFESTS.parent / "docs" / "migrating.md").read_text(encoding="utf-8")
    assert all(f"`{path}" in document for path in (*CHANGED, *TAKEN_OUT))
