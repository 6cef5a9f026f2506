"""The same containers by a real OCI runtime, `runc`, with the seccomp profile that container engines apply.

What a kubelet would tell it is made from the rendered manifests.  The profile is Docker's, from which
containerd's `RuntimeDefault` is made, in the form in which engines keep it: they, not the runtime, work out
what of it holds for a container's capabilities.
"""

from __future__ import annotations

import json
import os
import platform
import re
import shutil
import subprocess
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from crier.lab.errors import LabError, NotPossible
from crier.lab.pods import Launch, Place, Workloads

PROFILE: Final = "github.com/moby/profiles/seccomp@v0.3.0"
CGROUPS: Final = Path("/sys/fs/cgroup")
ARCHITECTURES: Final = {"x86_64": "amd64", "aarch64": "arm64"}

# The layer above the image that mount points are made in, as engines have it.
_START: Final = """set -e
mount -t tmpfs -o size=16m,mode=755 crier "$2"
mkdir "$2/upper" "$2/work" "$2/root"
mount -t overlay -o "lowerdir=$1,upperdir=$2/upper,workdir=$2/work" crier "$2/root"
shift 2
exec "$@"
"""
_MASKED: Final = ("/proc/kcore", "/proc/keys", "/proc/latency_stats", "/proc/timer_list", "/proc/sched_debug")
_READ_ONLY: Final = ("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger")


def container_name(run: str, pod: str) -> str:
    return f"crier-{run}-{pod}"


def remove_cgroups(run: str) -> None:
    """Those that are left where containers were killed together with their runtime."""
    for pattern in (container_name(run, "*"), f"*/{container_name(run, '*')}"):
        for left in CGROUPS.glob(pattern):
            with suppress(OSError):  # another hierarchy's name for one that is gone already
                left.rmdir()


def download_profile() -> dict[str, Any]:
    """From its Go module.  Raises NotPossible without a Go to download it with."""
    go = shutil.which("go") or shutil.which("go", path="/usr/local/go/bin")
    if go is None:
        raise NotPossible("the seccomp profile is a Go module, and there is no `go`: https://go.dev/dl")
    command = [go, "mod", "download", "-json", PROFILE]
    environment = {**os.environ, "GOWORK": "off"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, env=environment)
    if done.returncode != 0:
        raise LabError(f"{PROFILE}: {done.stdout}{done.stderr}")
    file = Path(json.loads(done.stdout)["Dir"], "default.json")
    profile: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return profile


def seccomp(profile: Mapping[str, Any], capabilities: frozenset[str]) -> dict[str, Any]:
    """The engine's profile as the runtime takes it, for a container with these capabilities."""
    architecture = ARCHITECTURES[platform.machine()]

    def holds(condition: Mapping[str, Any]) -> bool:
        return (
            capabilities.issuperset(condition.get("caps", ()))
            and architecture in condition.get("arches", (architecture,))
            and _kernel() >= _version(condition.get("minKernel", "0.0"))
        )

    calls = []
    for rule in profile["syscalls"]:
        without = rule.get("excludes") or {}
        excluded = bool(capabilities & set(without.get("caps", ()))) or architecture in without.get(
            "arches", ()
        )
        if holds(rule.get("includes") or {}) and not excluded:
            kept = ("names", "action", "args", "errnoRet")
            calls.append({key: rule[key] for key in kept if rule.get(key) is not None})
    of_machine = next(each for each in profile["archMap"] if _is_named(each["architecture"], architecture))
    return {
        "defaultAction": profile["defaultAction"],
        "defaultErrnoRet": profile.get("defaultErrnoRet", 1),
        "architectures": [of_machine["architecture"], *of_machine.get("subArchitectures", ())],
        "syscalls": calls,
    }


def _is_named(name: str, architecture: str) -> bool:
    return {"SCMP_ARCH_X86_64": "amd64", "SCMP_ARCH_AARCH64": "arm64"}.get(name) == architecture


def _version(text: str) -> tuple[int, int]:
    major, minor = re.findall(r"\d+", text)[:2]
    return int(major), int(minor)


def _kernel() -> tuple[int, int]:
    return _version(platform.release())


@dataclass(frozen=True, slots=True)
class RuncWorkloads(Workloads):
    """Pods by `runc`; the network is the one it is started in, as with `hostNetwork`."""

    profile: Mapping[str, Any]

    def launch(self, component: str, place: Place, scratch: Path) -> Launch:
        spec = self.template(component)
        (container,) = (each for each in spec["containers"] if each["name"] == component)
        security = {**spec["securityContext"], **container["securityContext"]}
        assert security["seccompProfile"] == {"type": "RuntimeDefault"}
        assert security["capabilities"]["drop"] == ["ALL"]
        capabilities = frozenset(f"CAP_{name}" for name in security["capabilities"].get("add", ()))
        overlay, bundle = scratch / "overlay", scratch / "bundle"
        for directory in (overlay, bundle):
            directory.mkdir(parents=True, exist_ok=True)
        environment = {
            **self._environment(container, place),
            "PATH": "/usr/bin:/bin",
            "KUBERNETES_SERVICE_HOST": place.api[0],
            "KUBERNETES_SERVICE_PORT": str(place.api[1]),
        }
        user, group = int(security["runAsUser"]), int(security["runAsGroup"])
        config = {
            "ociVersion": "1.0.2",
            "root": {"path": str(overlay / "root"), "readonly": security["readOnlyRootFilesystem"]},
            "process": {
                "user": {"uid": user, "gid": group},
                "args": [*container["command"], *container["args"]],
                "env": [f"{key}={value}" for key, value in environment.items()],
                "cwd": "/",
                "noNewPrivileges": not security["allowPrivilegeEscalation"],
                # Kubernetes gives a user who is not root none in effect
                "capabilities": dict.fromkeys(("bounding", "effective", "permitted"), sorted(capabilities)),
            },
            "mounts": [*_SYSTEM_MOUNTS, *self._binds(spec, container, place, scratch)],
            "linux": {
                "namespaces": [{"type": kind} for kind in ("pid", "mount", "ipc", "uts")],
                "seccomp": seccomp(self.profile, capabilities),
                "maskedPaths": list(_MASKED),
                "readonlyPaths": list(_READ_ONLY),
            },
        }
        (bundle / "config.json").write_text(json.dumps(config), encoding="utf-8")
        return Launch(
            command=(
                *("unshare", "--mount", "--propagation", "private", "sh", "-c", _START, "sh"),
                *(str(self.root), str(overlay), "runc", "--root", str(scratch / "runc"), "run"),
                *("--bundle", str(bundle), container_name(scratch.parent.parent.name, place.pod)),
            ),
            environment={},
        )

    def _binds(
        self, spec: Mapping[str, Any], container: Mapping[str, Any], place: Place, scratch: Path
    ) -> list[dict[str, Any]]:
        return [
            {
                "destination": f"/{target.lstrip('/')}",
                "source": str(source),
                "type": "bind",
                "options": ["bind", "ro" if read_only else "rw"],
            }
            for target, source, read_only in self.wanted_mounts(spec, container, place, scratch)
        ]


_SYSTEM_MOUNTS: Final = (
    {"destination": "/proc", "type": "proc", "source": "proc"},
    {
        "destination": "/dev",
        "type": "tmpfs",
        "source": "tmpfs",
        "options": ["nosuid", "mode=755", "size=64k"],
    },
    {
        "destination": "/sys",
        "type": "sysfs",
        "source": "sysfs",
        "options": ["nosuid", "noexec", "nodev", "ro"],
    },
)
