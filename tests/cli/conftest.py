"""A cluster of each kind of API server, with objects in it and no program running."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from crier.lab.api import start_api_process
from crier.lab.kube import start_kube
from crier.lab.kube.install import SYSTEM, install
from crier.lab.rest import Rest
from tests.lab.conftest import KINDS

SECRETS = ("hunter2-of-the-router", "gossip-key-nobody-may-see", "eyJhbGciOi.eyJzdWIiOi.c2lnbmF0dXJl")
NODES = ("iris1", "iris2")
UNREACHABLE = "127.0.0.1"
"""With a port nobody listens on; a real server refuses to go there at all."""


@dataclass(slots=True)
class Stage:
    kubeconfig: Path
    rest: Rest
    real: bool
    directory: Path

    def as_account(self, name: str, *, cluster_role: str = "", role: str = "") -> Path:
        """A kubeconfig of a new service account with these roles; only on a real server."""
        self.rest.create("/api/v1/namespaces/default/serviceaccounts", {"metadata": {"name": name}})
        subjects = [{"kind": "ServiceAccount", "name": name, "namespace": "default"}]
        rbac = "/apis/rbac.authorization.k8s.io/v1"
        if cluster_role:
            ref = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": cluster_role}
            binding = {"metadata": {"name": name}, "roleRef": ref, "subjects": subjects}
            self.rest.create(f"{rbac}/clusterrolebindings", binding)
        if role:
            ref = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": role}
            binding = {"metadata": {"name": name}, "roleRef": ref, "subjects": subjects}
            self.rest.create(f"{rbac}/namespaces/{SYSTEM}/rolebindings", binding)
        assert self._kube is not None
        return Path(self._kube.kubeconfig_of("default", name))

    _kube: Any = None


@pytest.fixture(scope="session", params=KINDS)
def stage(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    with ExitStack() as stack:
        directory = tmp_path_factory.mktemp("stage")
        if request.param == "embedded":
            process = stack.enter_context(start_api_process("--metallb-crds"))
            found = Stage(process.kubeconfig, Rest.from_kubeconfig(process.kubeconfig), False, directory)
            found.rest.create("/api/v1/namespaces", {"metadata": {"name": SYSTEM}})
            found.rest.create(
                f"/api/v1/namespaces/{SYSTEM}/serviceaccounts", {"metadata": {"name": "crier-viewer"}}
            )
        else:
            kube = stack.enter_context(start_kube(request.getfixturevalue("kube_programs")))
            install(kube)
            found = Stage(kube.kubeconfig, kube.rest, True, directory, kube)
        furnish(found.rest)
        yield found


def furnish(rest: Rest) -> None:
    """Two nodes with a speaker's pod each that nobody reaches, a service with an address, one that waits."""
    for name in NODES:
        rest.create("/api/v1/nodes", {"metadata": {"name": name, "labels": {"kubernetes.io/hostname": name}}})
        path = f"/api/v1/namespaces/{SYSTEM}/pods"
        labels = {"app": "metallb", "component": "speaker"}
        env = [{"name": "ROUTER_PASSWORD", "value": SECRETS[0]}]
        container = {"name": "speaker", "image": "crier", "args": ["--port=1"], "env": env}
        rest.create(
            path,
            {
                "metadata": {"name": f"speaker-{name}", "labels": labels},
                "spec": {"nodeName": name, "containers": [container]},
            },
        )
        status = {"phase": "Running", "podIP": UNREACHABLE, "podIPs": [{"ip": UNREACHABLE}]}
        rest.merge(f"{path}/speaker-{name}/status", {"status": status})
    metallb = f"/apis/metallb.io/v1beta1/namespaces/{SYSTEM}"
    for kind, spec in (("IPAddressPool", {"addresses": ["192.0.2.0/30"]}), ("L2Advertisement", {})):
        head = {"apiVersion": "metallb.io/v1beta1", "kind": kind, "metadata": {"name": "one"}}
        rest.create(f"{metallb}/{kind.lower()}s", {**head, "spec": spec})
    rest.create(
        f"/apis/metallb.io/v1beta2/namespaces/{SYSTEM}/bgppeers",
        {
            "apiVersion": "metallb.io/v1beta2",
            "kind": "BGPPeer",
            "metadata": {"name": "tor", "annotations": {"note": f"password={SECRETS[0]}"}},
            "spec": {"myASN": 64512, "peerASN": 64513, "peerAddress": "192.0.2.9", "password": SECRETS[0]},
        },
    )
    secret = {"secretkey": base64.b64encode(SECRETS[1].encode()).decode()}
    rest.create(f"/api/v1/namespaces/{SYSTEM}/secrets", {"metadata": {"name": "memberlist"}, "data": secret})
    for name in ("web", "waits"):
        note = {"example.com/hook": f"Authorization: Bearer {SECRETS[2]}"}
        rest.create(
            "/api/v1/namespaces/default/services",
            {
                "metadata": {"name": name, "annotations": note},
                "spec": {"type": "LoadBalancer", "ports": [{"name": "http", "port": 80}]},
            },
        )
    ingress = {"status": {"loadBalancer": {"ingress": [{"ip": "192.0.2.1"}]}}}
    rest.merge("/api/v1/namespaces/default/services/web/status", ingress)
    rest.create(
        "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices",
        {
            "metadata": {"name": "web-1", "labels": {"kubernetes.io/service-name": "web"}},
            "addressType": "IPv4",
            "endpoints": [
                {"addresses": ["10.1.0.1"], "nodeName": name, "conditions": {"ready": True}} for name in NODES
            ],
            "ports": [],
        },
    )
    rest.create(
        "/api/v1/namespaces/default/events",
        {
            "metadata": {"name": "web.1"},
            "involvedObject": {"kind": "Service", "namespace": "default", "name": "web"},
            "reason": "nodeAssigned",
            "message": 'announcing from node "iris1" with protocol "layer2"',
            "type": "Normal",
            "count": 1,
            "firstTimestamp": "2026-01-01T00:00:00Z",
            "lastTimestamp": "2026-01-01T00:00:00Z",
            "source": {"component": "metallb-speaker", "host": "iris1"},
        },
    )
