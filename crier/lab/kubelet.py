"""What a cluster does around us, played through the API: Nodes and their readiness, our Pods and Deployment,
EndpointSlices, and the Secret a kubelet mounts into the speakers' pods.

A node that goes away is found out here as in a cluster, only sooner: after `GRACE` its Node is NotReady and
its endpoints are not ready (a cluster takes 40 s by default, --node-monitor-grace-period).
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Final

from crier.lab.datapath import SERVICE_LABEL
from crier.lab.lan import Host
from crier.lab.rest import Object, Rest, RestError
from crier.lab.services import NAMESPACE, LabService, pool_manifests

SYSTEM: Final = "metallb-system"
SECRET: Final = "memberlist"  # noqa: S105  (the Secret's name)
SECRET_FILE: Final = "secretkey"  # noqa: S105  (the file's name)
GRACE: Final = 3.0
"""Seconds until the cluster notices that a node is gone."""
VIEWER: Final = "crier-viewer"
CONTROLLER_POD: Final = "controller-0"


def speaker_pod(node: str) -> str:
    return f"speaker-{node}"


def node_manifest(host: Host) -> Object:
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {
            "name": host.name,
            "labels": {"kubernetes.io/hostname": host.name, "kubernetes.io/os": "linux"},
        },
        "spec": {},
        "status": node_status(host, ready=True),
    }


def node_status(host: Host, *, ready: bool) -> Object:
    condition = {
        "type": "Ready",
        "status": "True" if ready else "Unknown",
        "reason": "KubeletReady" if ready else "NodeStatusUnknown",
        "message": "" if ready else "Kubelet stopped posting node status.",
    }
    return {
        "conditions": [condition],
        "addresses": [
            {"type": "InternalIP", "address": str(host.internal4)},
            {"type": "InternalIP", "address": str(host.internal6)},
            {"type": "Hostname", "address": host.name},
        ],
    }


def pod_manifest(name: str, component: str, node: str) -> Object:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": name,
            "namespace": SYSTEM,
            "labels": {"app": "metallb", "component": component},
        },
        "spec": {
            "nodeName": node,
            "hostNetwork": True,
            "containers": [{"name": component, "image": "crier"}],
        },
    }


def pod_status(host: Host, component: str) -> Object:
    return {
        "phase": "Running",
        "hostIP": str(host.internal4),
        "podIP": str(host.internal4),
        "podIPs": [{"ip": str(host.internal4)}, {"ip": str(host.internal6)}],
        "conditions": [{"type": "Ready", "status": "True"}],
        "containerStatuses": [
            {"name": component, "image": "crier", "imageID": "", "ready": True, "restartCount": 0}
        ],
    }


def deployment_manifest() -> Object:
    labels = {"app": "metallb", "component": "controller"}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "controller", "namespace": SYSTEM, "labels": labels},
        "spec": {
            "replicas": 1,
            "selector": {"matchLabels": labels},
            "template": {
                "metadata": {"labels": labels},
                "spec": {"containers": [{"name": "controller", "image": "crier"}]},
            },
        },
    }


def slice_name(service: LabService, family: str) -> str:
    return f"{service.name}-{family.lower()}"


def slice_manifest(
    service: LabService, family: str, hosts: Iterable[Host], unready: frozenset[str]
) -> Object:
    """One pod of the Service on every node, on the node's own address."""
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "name": slice_name(service, family),
            "namespace": NAMESPACE,
            "labels": {SERVICE_LABEL: service.name},
        },
        "addressType": family,
        "ports": [{"name": p.name, "protocol": p.protocol, "port": p.target} for p in service.ports],
        "endpoints": [
            {
                "addresses": [str(host.internal4 if family == "IPv4" else host.internal6)],
                "nodeName": host.name,
                "conditions": {
                    "ready": host.name not in unready,
                    "serving": host.name not in unready,
                    "terminating": False,
                },
                # what kube-proxy goes by for `trafficDistribution: PreferSameNode`
                "hints": {"forNodes": [{"name": host.name}]},
            }
            for host in hosts
        ],
    }


class Kubelet:
    """The kubelets of all nodes and the controllers beside us.  Calls block for milliseconds."""

    def __init__(
        self,
        api: Rest,
        hosts: Iterable[Host],
        services: Iterable[LabService],
        secrets: Path,
        announcement: Sequence[Object] | None = None,
    ) -> None:
        """`announcement`: the metallb.io objects there are; None is a pool on the LAN, in layer 2."""
        self.api = api
        self._hosts = {host.name: host for host in hosts}
        self._services = tuple(services)
        self._secrets = secrets
        self._announcement = announcement
        self._unready: set[str] = set()

    def populate(self) -> None:
        """Everything there is before the controller and the speakers start, the Services included."""
        for name in (SYSTEM, NAMESPACE):
            self._ensure(
                "/api/v1/namespaces", {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
            )
        # as whom `crier` asks the speakers; a real server has it from the manifests
        self._ensure(
            f"/api/v1/namespaces/{SYSTEM}/serviceaccounts",
            {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": VIEWER}},
        )
        for host in self._hosts.values():
            self._ensure("/api/v1/nodes", node_manifest(host))
            self._set_node_status(host, ready=True)
        self._ensure(f"/apis/apps/v1/namespaces/{SYSTEM}/deployments", deployment_manifest())
        interfaces = ("eth0",) if any(host.on_fabric for host in self._hosts.values()) else ()
        announcement = self._announcement
        for thing in pool_manifests(SYSTEM, interfaces) if announcement is None else announcement:
            path = f"/apis/{thing['apiVersion']}/namespaces/{SYSTEM}/{thing['kind'].lower()}s"
            self._ensure(path, thing)
        for service in self._services:
            self._ensure(f"/api/v1/namespaces/{NAMESPACE}/services", service.manifest())
            for family in service.families:
                self._ensure(
                    self._slices(), slice_manifest(service, family, self._hosts.values(), frozenset())
                )

    def run_pod(self, name: str, component: str, host: Host) -> None:
        """The pod's object, as it is once its containers run on `host`."""
        self._ensure(f"/api/v1/namespaces/{SYSTEM}/pods", pod_manifest(name, component, host.name))
        self.api.merge(
            f"/api/v1/namespaces/{SYSTEM}/pods/{name}/status", {"status": pod_status(host, component)}
        )

    def secret_directory(self, node: str) -> Path:
        return self._secrets / node / SECRET

    def mount_secret(self, node: str) -> bool:
        """Write the memberlist Secret to the node's directory.  False while there is no such Secret."""
        secret = self.api.get(f"/api/v1/namespaces/{SYSTEM}/secrets/{SECRET}")
        try:
            key = base64.b64decode((secret or {})["data"][SECRET_FILE], validate=True)
        except (KeyError, TypeError, binascii.Error):
            return False
        directory = self.secret_directory(node)
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        file = directory / SECRET_FILE
        file.touch(mode=0o600)
        file.write_bytes(key)
        return True

    def set_ready(self, node: str, ready: bool) -> None:
        """The Node's condition and the readiness of its endpoints, as the node controller sets them."""
        host = self._hosts[node]
        (self._unready.discard if ready else self._unready.add)(node)
        self._set_node_status(host, ready=ready)
        for service in self._services:
            for family in service.families:
                manifest = slice_manifest(service, family, self._hosts.values(), frozenset(self._unready))
                path = f"{self._slices()}/{slice_name(service, family)}"
                self.api.merge(path, {"endpoints": manifest["endpoints"]})

    def addresses(self) -> dict[str, list[str]]:
        """Service name -> the addresses it was given."""
        found = {}
        for service in self._services:
            thing = self.api.get(f"/api/v1/namespaces/{NAMESPACE}/services/{service.name}") or {}
            ingress: list[dict[str, Any]] = (
                thing.get("status", {}).get("loadBalancer", {}).get("ingress") or []
            )
            found[service.name] = [entry["ip"] for entry in ingress if "ip" in entry]
        return found

    # -- small change

    @staticmethod
    def _slices() -> str:
        return f"/apis/discovery.k8s.io/v1/namespaces/{NAMESPACE}/endpointslices"

    def _set_node_status(self, host: Host, *, ready: bool) -> None:
        self.api.merge(f"/api/v1/nodes/{host.name}/status", {"status": node_status(host, ready=ready)})

    def _ensure(self, collection: str, thing: Object) -> None:
        try:
            self.api.create(collection, thing)
        except RestError as problem:
            if problem.status != 409:  # it is there already
                raise
