"""Where kube-apiserver, kube-proxy, kubectl and etcd come from: found on this machine, or built once.

Looked for in `KUBEBUILDER_ASSETS` (where the Kubernetes test tools keep theirs), then on PATH.  A
kube-apiserver that is in neither is built from its Go module, with kube-proxy and kubectl, and kept in
`$XDG_CACHE_HOME/crier/kube`.  etcd is Debian's.

The module k8s.io/kubernetes replaces the staging modules it consists of by directories beside it, which
nobody who requires it has; the go.mod rendered here replaces each by its published twin, v0.X.Y of v1.X.Y.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from crier.lab.errors import LabError, NotPossible

VERSION: Final = "1.34.4"
"""Of Kubernetes."""
GO_VERSION: Final = "1.24.0"
"""The oldest Go that builds it (the `go` line of its go.mod)."""
BUILD_TIMEOUT: Final = 1500.0
"""Seconds; it takes four minutes on two cores that have nothing else to do."""
BUILT: Final = ("kube-apiserver", "kube-proxy", "kubectl")
GO_PLACES: Final = ("/usr/local/go/bin",)
"""Where Go is besides PATH: its own installer leaves it to the user to extend that."""
STAGING: Final = (
    "api", "apiextensions-apiserver", "apimachinery", "apiserver", "cli-runtime", "client-go",
    "cloud-provider", "cluster-bootstrap", "code-generator", "component-base", "component-helpers",
    "controller-manager", "cri-api", "cri-client", "csi-translation-lib", "dynamic-resource-allocation",
    "endpointslice", "externaljwt", "kms", "kube-aggregator", "kube-controller-manager", "kube-proxy",
    "kube-scheduler", "kubectl", "kubelet", "metrics", "mount-utils", "pod-security-admission",
    "sample-apiserver", "sample-cli-plugin", "sample-controller",
)  # fmt: skip
"""Every module that go.mod of v1.34 replaces by a directory of its own, below `k8s.io/`."""


@dataclass(frozen=True, slots=True)
class Programs:
    """Paths of the programs."""

    etcd: Path
    apiserver: Path
    kubectl: Path
    proxy: Path | None
    """None where somebody else's kube-apiserver was found without a kube-proxy."""


def render_go_mod(version: str = VERSION) -> str:
    """A module that does nothing but require Kubernetes."""
    twin = "v0." + version.partition(".")[2]
    replaced = "".join(f"\tk8s.io/{name} => k8s.io/{name} {twin}\n" for name in STAGING)
    return (
        f"module crier.lab/kube\n\ngo {GO_VERSION}\n\n"
        f"require k8s.io/kubernetes v{version}\n\nreplace (\n{replaced})\n"
    )


def linker_flags(version: str = VERSION) -> str:
    """Stamps the version as its own build scripts do; unstamped, it calls itself v0.0.0."""
    major, minor, _ = version.split(".")
    stamps = {
        "k8s.io/component-base/version.gitVersion": f"v{version}",
        "k8s.io/component-base/version.gitMajor": major,
        "k8s.io/component-base/version.gitMinor": minor,
        "k8s.io/component-base/version.gitTreeState": "clean",
        "k8s.io/client-go/pkg/version.gitVersion": f"v{version}",
        "k8s.io/client-go/pkg/version.gitMajor": major,
        "k8s.io/client-go/pkg/version.gitMinor": minor,
    }
    return " ".join(["-s", "-w", *(f"-X {name}={value}" for name, value in stamps.items())])


def cache_directory() -> Path:
    """Where the built programs of this version are, or will be.

    Its name tells apart whatever decides what is in them; a newer Go compiler is no reason to build again.
    """
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    recipe = f"{render_go_mod()}\0{linker_flags()}\0{platform.machine()}"
    return Path(base, "crier", "kube", f"v{VERSION}-{hashlib.sha256(recipe.encode()).hexdigest()[:12]}")


def programs(progress: Callable[[str], None]) -> Programs:
    """All that a real API server needs; what is missing is built, which `progress` gets to hear.

    Raises:
        NotPossible: something is missing and cannot be built; the text says what, and how to get it.
        LabError: the build failed; the text has the compiler's words.
    """
    etcd = _find("etcd")
    if etcd is None:
        raise NotPossible("etcd is not installed (Debian package etcd-server)")
    apiserver = _find("kube-apiserver")
    if apiserver is not None:
        kubectl = _beside(apiserver, "kubectl")
        if kubectl is None:
            raise NotPossible(f"there is {apiserver} but no kubectl (Debian package kubernetes-client)")
        return Programs(etcd, apiserver, kubectl, _beside(apiserver, "kube-proxy"))
    directory = cache_directory()
    with _locked(directory, progress):
        if not all((directory / name).exists() for name in BUILT):
            _build(directory, progress)
    return Programs(etcd, directory / "kube-apiserver", directory / "kubectl", directory / "kube-proxy")


def _find(name: str) -> Path | None:
    assets = os.environ.get("KUBEBUILDER_ASSETS")
    path = os.pathsep.join([*([assets] if assets else []), os.environ.get("PATH", os.defpath), "/usr/sbin"])
    found = shutil.which(name, path=path)
    return Path(found) if found else None


def _beside(program: Path, name: str) -> Path | None:
    """The one of the same release, if it is there; one that stands alone may be years older."""
    twin = program.with_name(name)
    return twin if twin.exists() else _find(name)


def _build(directory: Path, progress: Callable[[str], None]) -> None:
    go = next(filter(None, (shutil.which("go", path=place) for place in (None, *GO_PLACES))), None)
    if go is None:
        raise NotPossible(
            f"no kube-apiserver in KUBEBUILDER_ASSETS or on PATH, and no `go` to build it with: "
            f"install Go {GO_VERSION} or newer (https://go.dev/dl) or a kube-apiserver"
        )
    progress(f"building kube-apiserver, kube-proxy and kubectl v{VERSION} from source: once, some 5 minutes")
    # Built beside its place and renamed, so that nobody ever sees half a program.
    with tempfile.TemporaryDirectory(prefix=".build-", dir=directory.parent) as scratch:
        Path(scratch, "go.mod").write_text(render_go_mod(), encoding="utf-8")
        fetched = _go(go, scratch, "mod", "download", "k8s.io/kubernetes")
        if fetched is not None:
            raise NotPossible(
                f"no kube-apiserver here, and its source cannot be fetched (GOPROXY): {fetched}"
            )
        built = Path(scratch, "bin")
        problem = _go(
            *(go, scratch, "build", "-mod=mod", "-trimpath", "-buildvcs=false", "-ldflags", linker_flags()),
            *("-o", f"{built}{os.sep}", *(f"k8s.io/kubernetes/cmd/{name}" for name in BUILT)),
        )
        if problem is not None:
            raise LabError(f"building Kubernetes v{VERSION} failed: {problem}")
        directory.mkdir(exist_ok=True)
        for name in BUILT:
            (built / name).rename(directory / name)
    progress(f"kube-apiserver v{VERSION} is built and kept in {directory}")


def _go(go: str, directory: str, *arguments: str) -> str | None:
    """Run Go, out of the way of whatever else runs here.  None, or the end of what it complained about."""
    command = [*(("nice", "-n", "10") if shutil.which("nice") else ()), go, *arguments]
    # Without cgo the programs are static: they need no C compiler now and no C library later.
    environment = {**os.environ, "CGO_ENABLED": "0", "GOWORK": "off"}
    try:
        done = subprocess.run(
            command, cwd=directory, env=environment, capture_output=True, text=True, check=False,
            timeout=BUILD_TIMEOUT,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return f"it took longer than {BUILD_TIMEOUT:g} s"
    return None if done.returncode == 0 else done.stderr.strip()[-2000:]


@contextmanager
def _locked(directory: Path, progress: Callable[[str], None]) -> Iterator[None]:
    """One build at a time on this machine; whoever comes second waits and then finds it done."""
    directory.parent.mkdir(parents=True, exist_ok=True)
    with directory.with_suffix(".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            progress("somebody else is building kube-apiserver; waiting for that")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield
