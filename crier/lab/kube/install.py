"""What makes a cluster one that Crier runs in: our manifests, as `kubectl apply -k` installs them, and the
service accounts' kubeconfigs.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from crier.lab.errors import NotPossible
from crier.lab.kube.server import Kube

MANIFESTS: Final = Path(__file__).parents[3] / "manifests"
SYSTEM: Final = "metallb-system"
"""The namespace of manifests/base."""
ESTABLISHED_PATIENCE: Final = "30s"


@dataclass(frozen=True, slots=True)
class Accounts:
    """Kubeconfigs with the rights that manifests/base gives, and not one more."""

    controller: Path
    speaker: Path


def install_crds(kube: Kube) -> None:
    """Returns when MetalLB's kinds are served.  Raises LabError with the API's words when it refuses one."""
    _apply(kube, "crds")
    kube.kubectl("wait", "--for=condition=Established", f"--timeout={ESTABLISHED_PATIENCE}", "crds", "--all")


def install(kube: Kube, *, url: str | None = None) -> Accounts:
    """CRDs, namespace, roles and workloads; nobody here runs the workloads' pods.

    Args:
        url: the server as controller and speakers see it; None is as we do.
    """
    install_crds(kube)
    _apply(kube, "base")
    return Accounts(
        controller=kube.kubeconfig_of(SYSTEM, "controller", url=url),
        speaker=kube.kubeconfig_of(SYSTEM, "speaker", url=url),
    )


def _apply(kube: Kube, part: str) -> None:
    # A workload with the image "crier" is what the kustomization makes of it; both are only stored.
    kube.kubectl("apply", "--server-side", "--kustomize", f"{_manifests()}/{part}")


def _manifests() -> Path:
    if not MANIFESTS.is_dir():
        raise NotPossible(
            f"a real API server needs our manifests, and there is no {MANIFESTS}: run from a checkout"
        )
    return MANIFESTS
