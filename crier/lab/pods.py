"""A workload's container as a kubelet and a container runtime run it, without either.

From a rendered manifest come command, flags, environment, volumes, user and capabilities; from an unpacked
image the root file system, read-only but for what the manifest mounts.  What is not done: cgroups (requests
and limits) and the seccomp profile, which tests/image has from a real runtime.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from crier.lab.errors import LabError

ACCOUNT: Final = "/var/run/secrets/kubernetes.io/serviceaccount"
ROOT_ONLY: Final = 0
CAPSH: Final = "/usr/sbin/capsh"
KINDS: Final = {"controller": "Deployment", "speaker": "DaemonSet"}

_CAPABILITIES: Final = (
    "chown", "dac_override", "dac_read_search", "fowner", "fsetid", "kill", "setgid", "setuid", "setpcap",
    "linux_immutable", "net_bind_service", "net_broadcast", "net_admin", "net_raw", "ipc_lock", "ipc_owner",
    "sys_module", "sys_rawio", "sys_chroot", "sys_ptrace", "sys_pacct", "sys_admin", "sys_boot", "sys_nice",
    "sys_resource", "sys_time", "sys_tty_config", "mknod", "lease", "audit_write", "audit_control", "setfcap",
    "mac_override", "mac_admin", "syslog", "wake_alarm", "block_suspend", "audit_read", "perfmon", "bpf",
    "checkpoint_restore",
)  # fmt: skip

# The layer that mount points are made in is in memory and read-only before the program starts.
_ENTER: Final = """set -e
mount -t tmpfs -o size=16m,mode=755 crier "$2"
mkdir "$2/upper" "$2/work" "$2/root"
mount -t overlay -o "lowerdir=$1,upperdir=$2/upper,workdir=$2/work" crier "$2/root"
cd "$2/root"
mount -t proc proc proc
mount -t tmpfs -o size=64k,mode=755 dev dev
for each in null zero random urandom; do touch dev/$each; mount --bind /dev/$each dev/$each; done
{mounts}
{seal}
shift 2
exec "$@"
"""


@dataclass(frozen=True, slots=True)
class Place:
    """What is known only once a pod is somewhere."""

    pod: str
    namespace: str
    node: str
    address: str
    """The node's and, with the host's network, the pod's."""
    account: Path
    """A directory with `token`, `ca.crt` and `namespace`."""
    api: tuple[str, int]
    secrets: Mapping[str, Path]
    """Directories with the content of Secrets, by name."""

    @property
    def fields(self) -> dict[str, str]:
        """The downward API's."""
        return {
            "metadata.name": self.pod,
            "metadata.namespace": self.namespace,
            "spec.nodeName": self.node,
            "status.hostIP": self.address,
            "status.podIP": self.address,
        }


@dataclass(frozen=True, slots=True)
class Launch:
    """How to start it."""

    command: tuple[str, ...]
    environment: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Workloads:
    """Rendered manifests, and the image that all of their containers run from."""

    documents: tuple[Mapping[str, Any], ...]
    root: Path

    def find(self, kind: str, name: str) -> Mapping[str, Any] | None:
        for each in self.documents:
            if (each["kind"], each["metadata"]["name"]) == (kind, name):
                return each
        return None

    def template(self, component: str) -> Mapping[str, Any]:
        """The pod's spec.  Raises LabError when nothing of the name is rendered."""
        found = [
            each
            for each in self.documents
            if each["kind"] == KINDS[component]
            and each["spec"]["template"]["metadata"]["labels"].get("component") == component
        ]
        if len(found) != 1:
            raise LabError(f"{len(found)} workloads of the component {component} are rendered, need one")
        spec: Mapping[str, Any] = found[0]["spec"]["template"]["spec"]
        return spec

    def launch(self, component: str, place: Place, scratch: Path) -> Launch:
        """The container called like its component.

        Args:
            scratch: a directory of this pod alone, which is there for as long as it runs.

        Raises:
            LabError: the manifest uses something that is not played here, or not there.
        """
        spec = self.template(component)
        container = next((each for each in spec["containers"] if each["name"] == component), None)
        if container is None:
            raise LabError(f"{component}: no container of that name")
        security = {**spec.get("securityContext", {}), **container.get("securityContext", {})}
        user = int(security.get("runAsUser", ROOT_ONLY))
        if security.get("runAsNonRoot") and user == ROOT_ONLY:
            raise LabError(f"{component}: runAsNonRoot, and the user is root")
        mounts = self._mounts(spec, container, place, scratch)
        overlay = scratch / "overlay"
        overlay.mkdir(parents=True, exist_ok=True)
        program = self._program(container["command"][0])
        arguments = [*container["command"][1:], *container.get("args", ())]
        seal = "mount -o remount,ro ." if security.get("readOnlyRootFilesystem") else ""
        script = _ENTER.format(mounts="\n".join(mounts), seal=seal)
        return Launch(
            command=(
                *("unshare", "--mount", "--propagation", "private", "sh", "-c", script, "sh"),
                *(str(self.root), str(overlay), *_confined(security, user, overlay / "root")),
                *(f"--shell={program}", "--", *arguments),
            ),
            environment={
                **self._environment(container, place),
                "PATH": "/usr/bin:/bin",
                "KUBERNETES_SERVICE_HOST": place.api[0],
                "KUBERNETES_SERVICE_PORT": str(place.api[1]),
            },
        )

    def _program(self, name: str) -> str:
        """As the image's PATH finds it."""
        for place in ("",) if name.startswith("/") else ("/usr/bin/", "/bin/"):
            if (self.root / f"{place}{name}".lstrip("/")).exists():
                return place + name
        raise LabError(f"there is no {name} in the image")

    def _environment(self, container: Mapping[str, Any], place: Place) -> dict[str, str]:
        found = {}
        for each in container.get("env", ()):
            if "valueFrom" not in each:
                found[each["name"]] = str(each.get("value", ""))
                continue
            path = each["valueFrom"].get("fieldRef", {}).get("fieldPath")
            if path not in place.fields:
                raise LabError(f"env {each['name']}: {json.dumps(each['valueFrom'])} is not played here")
            found[each["name"]] = place.fields[path]
        return found

    def wanted_mounts(
        self, spec: Mapping[str, Any], container: Mapping[str, Any], place: Place, scratch: Path
    ) -> list[tuple[str, Path, bool]]:
        """Where the container wants which directory, and whether only to read; the outer ones first."""
        volumes = {each["name"]: each for each in spec.get("volumes", ())}
        wanted = [(ACCOUNT, place.account, True)]
        for each in container.get("volumeMounts", ()):
            directory = self._volume(volumes[each["name"]], place, scratch / "volumes")
            wanted.append((each["mountPath"], directory, bool(each.get("readOnly"))))
        wanted.sort()
        for path, _, _ in wanted:
            for outer, outside, _ in wanted:
                if path.startswith(outer + "/"):  # a kubelet makes the place for one volume in another
                    (outside / path.removeprefix(outer + "/")).mkdir(parents=True, exist_ok=True)
        return wanted

    def _mounts(
        self, spec: Mapping[str, Any], container: Mapping[str, Any], place: Place, scratch: Path
    ) -> list[str]:
        """Shell lines that mount what the container asks for."""
        lines = []
        for path, directory, read_only in self.wanted_mounts(spec, container, place, scratch):
            target = shlex.quote(path.lstrip("/"))
            lines.append(f"mkdir -p {target}")
            lines.append(f"mount --bind {shlex.quote(str(directory))} {target}")
            if read_only:
                lines.append(f"mount -o remount,bind,ro {target}")
        return lines

    def _volume(self, volume: Mapping[str, Any], place: Place, scratch: Path) -> Path:
        name = str(volume["name"])
        directory = scratch / name
        directory.mkdir(parents=True, exist_ok=True)
        if "emptyDir" in volume:
            directory.chmod(0o777)
            return directory
        if "secret" in volume:
            secret = volume["secret"]["secretName"]
            if secret in place.secrets:
                return place.secrets[secret]
            if not volume["secret"].get("optional"):
                raise LabError(f"volume {name}: there is no Secret {secret}")
            return directory
        if "configMap" in volume:
            wanted = volume["configMap"]["name"]
            found = self.find("ConfigMap", wanted)
            if found is None and not volume["configMap"].get("optional"):
                raise LabError(f"volume {name}: there is no ConfigMap {wanted}")
            for key, text in (found or {}).get("data", {}).items():
                (directory / key).write_text(text, encoding="utf-8")
            return directory
        raise LabError(f"volume {name}: {', '.join(volume)} is not played here")


def _confined(security: Mapping[str, Any], user: int, root: Path) -> Sequence[str]:
    """A command prefix: inside `root`, with the manifest's user and capabilities and no way to more."""
    told = security.get("capabilities", {})
    kept = {each.lower() for each in told.get("add", ())}
    if "ALL" not in told.get("drop", ()):
        raise LabError("capabilities: ALL are to be dropped")
    if unknown := kept - set(_CAPABILITIES):
        raise LabError(f"capabilities: {', '.join(sorted(unknown))}: unknown")
    drop = ",".join(f"cap_{each}" for each in _CAPABILITIES if each not in kept)
    group = int(security.get("runAsGroup", user))
    privileges = [] if security.get("allowPrivilegeEscalation", True) else ["--no-new-privs"]
    return (
        *(CAPSH, f"--groups={group}", f"--gid={group}", f"--chroot={root}", f"--drop={drop}"),
        *(f"--uid={user}", *privileges),
    )
