"""Three speakers between an API and two routers, FRR (eBGP) and BIRD (iBGP); a client behind the routers.

Everything is real but the API server and the controller, whose part the tests play.  Started once for all
tests of a module; each test begins and ends with the same configuration.
"""

from __future__ import annotations

import base64
import http.client
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

from crier.inspect.reach import VIEWER
from crier.lab import netns, runs
from crier.lab.cluster import API_PORT, STATUS_PORT, _kubeconfig, _read_line
from crier.lab.kubelet import node_manifest, pod_manifest, speaker_pod
from crier.lab.lan import Lan
from crier.lab.process import LabProcess, Processes, entry_point
from crier.lab.rest import Rest
from crier.lab.router import BFD, KINDS, NODES_ASN, NUMBER, Bird, Frr, Neighbour, Router

T = TypeVar("T")

SPACE = "metallb-system"
METALLB = f"/apis/metallb.io/v1beta1/namespaces/{SPACE}"
PEERS = f"/apis/metallb.io/v1beta2/namespaces/{SPACE}/bgppeers"
NODES_AS, FRR_AS = NODES_ASN, KINDS["frr"].asn
POOL4, POOL6 = "198.51.100.0/24", "fd00:c71e:8::/64"
PORT, BACKEND = 80, 8080
UDP_PORT, UDP_BACKEND = 8000, 9080
PATIENCE = 20.0


def eventually(look: Callable[[], T], right: Callable[[T], object] = bool, *, within: float = PATIENCE) -> T:
    """What `look` finds, once it is right; bounded, for there are real routers at the other end."""
    deadline = time.monotonic() + within
    while True:
        found = look()
        if right(found):
            return found
        assert time.monotonic() < deadline, f"not within {within:g} s; last seen: {found!r}"
        time.sleep(0.02)


class AllProcesses(Processes):
    """With those whose name another has by now."""

    def __init__(self, run: runs.Run) -> None:
        super().__init__(run)
        self.ever: list[LabProcess] = []

    def start(self, *words: Any, **how: Any) -> LabProcess:
        self.ever.append(super().start(*words, **how))
        return self.ever[-1]


class Stage:
    def __init__(self, run: runs.Run, processes: AllProcesses, nodes: int = 3) -> None:
        self.run = run
        self.lan = Lan(run, nodes)
        self.processes = processes
        self.lan.up()
        self.rest = self._start_api()
        homes = run.directory / "routers"
        self.frr = Frr(self.lan, self.processes, homes, "frr", NUMBER, FRR_AS)
        self.bird = Bird(self.lan, self.processes, homes, "bird", NUMBER + 1, NODES_AS)
        for router in self.routers:
            router.start(self.neighbours())
        self._furnish()
        for node in self.lan.nodes:
            self.start_node(node)
        self._client_routes(self.frr)

    @property
    def routers(self) -> tuple[Router, Router]:
        return self.frr, self.bird

    @property
    def addresses(self) -> frozenset[str]:
        """Of all nodes: the next hops of a service that is announced everywhere."""
        return frozenset(str(host.ipv4) for host in self.lan.nodes.values())

    def at(self, *nodes: str) -> frozenset[str]:
        return frozenset(str(self.lan.nodes[node].ipv4) for node in nodes)

    def neighbours(self, **more: Any) -> list[Neighbour]:
        return [
            Neighbour(address=str(host.ipv4), asn=NODES_AS, **{"bfd": BFD, **more})
            for host in self.lan.nodes.values()
        ]

    # -- coming up

    def _start_api(self) -> Rest:
        host = self.lan.control_plane
        readable, writable = os.pipe()
        try:
            self.processes.start(
                "api",
                [
                    sys.executable, "-m", "crier.lab.api", "--listen", "127.0.0.1:0",
                    "--listen-netns", f"{netns.path(host.netns)}={host.ipv4}:{API_PORT}",
                    "--pod-netns", host.netns, "--metallb-crds", "--ready-fd", str(writable),
                ],
                pass_fds=(writable,),
            )  # fmt: skip
        finally:
            os.close(writable)
        try:
            line = _read_line(readable, PATIENCE)
        finally:
            os.close(readable)
        local = next(text for text in json.loads(line)["listening"] if "127.0.0.1" in text)
        self.server = f"http://{host.ipv4}:{API_PORT}"
        self.kubeconfig = self.run.directory / "kubeconfig"
        self.kubeconfig.write_text(_kubeconfig(self.server), encoding="ascii")
        local = local if local.startswith("http") else f"http://{local}"
        self.outside = self.run.directory / "kubeconfig-outside"
        """For who is in no namespace of the lab."""
        self.outside.write_text(_kubeconfig(local), encoding="ascii")
        return Rest(local)

    def _furnish(self) -> None:
        for name in (SPACE, "default"):
            if self.rest.get(f"/api/v1/namespaces/{name}") is None:
                namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
                self.rest.create("/api/v1/namespaces", namespace)
        for node, host in self.lan.nodes.items():
            manifest = node_manifest(host)
            self.rest.create("/api/v1/nodes", manifest)
            status = {"status": manifest["status"]}
            self.rest.merge(f"/api/v1/nodes/{node}/status", status)
            pod = pod_manifest(speaker_pod(node), "speaker", node)
            self.rest.create(f"/api/v1/namespaces/{SPACE}/pods", pod)
            self.rest.merge(
                f"/api/v1/namespaces/{SPACE}/pods/{speaker_pod(node)}/status",
                {"status": {"phase": "Running", "podIP": str(host.ipv4)}},
            )
        account = {
            "apiVersion": "v1",
            "kind": "ServiceAccount",
            "metadata": {"name": VIEWER, "namespace": SPACE},
        }
        self.rest.create(f"/api/v1/namespaces/{SPACE}/serviceaccounts", account)
        self.make("IPAddressPool", "pool", addresses=[POOL4, POOL6])

    def start_node(self, node: str) -> None:
        host = self.lan.nodes[node]
        python = [sys.executable, "-m"]
        backend = [*python, "crier.lab.backend", "--node", node, "--address", str(host.ipv4)]
        backend += ["--address", str(host.ipv6), "--tcp", f"{BACKEND}=default/web"]
        backend += ["--udp", f"{UDP_BACKEND}=default/web"]
        self.processes.start(f"backend-{node}", backend, namespace=host.netns)
        datapath = [*python, "crier.lab.datapath", "--node", node, "--server", self.server]
        self.processes.start(f"datapath-{node}", datapath, namespace=host.netns)
        self.start_speaker(node)

    def start_speaker(self, node: str) -> LabProcess:
        host = self.lan.nodes[node]
        environment = {
            "KUBECONFIG": str(self.kubeconfig),
            "METALLB_NODE_NAME": node,
            "METALLB_POD_NAME": speaker_pod(node),
            "METALLB_NAMESPACE": SPACE,
            "METALLB_ML_BIND_ADDR": str(host.ipv4),
            "METALLB_ML_LABELS": "app=metallb,component=speaker",
        }
        command = [entry_point("crier-speaker"), "--log-level=debug"]
        return self.processes.start(f"speaker-{node}", command, namespace=host.netns, environment=environment)

    def _client_routes(self, router: Router) -> None:
        netns.ip(
            self.lan.client.netns,
            f"route replace {POOL4} via {router.host.ipv4}",
            f"route replace {POOL6} via {router.host.ipv6}",
        )

    # -- objects

    def make(self, kind: str, name: str, *, labels: Mapping[str, str] | None = None, **spec: Any) -> None:
        version = "v1beta2" if kind == "BGPPeer" else "v1beta1"
        thing = {
            "apiVersion": f"metallb.io/{version}",
            "kind": kind,
            "metadata": {"name": name, "namespace": SPACE, "labels": dict(labels or {})},
            "spec": spec,
        }
        self.rest.create(_collection(kind), thing)

    def change(self, kind: str, name: str, **spec: Any) -> None:
        self.rest.merge(f"{_collection(kind)}/{name}", {"spec": spec})

    def delete(self, kind: str, *names: str) -> None:
        for name in names:
            self.rest.delete(f"{_collection(kind)}/{name}")

    def secret(self, name: str, password: str, kind: str = "kubernetes.io/basic-auth") -> None:
        path = f"/api/v1/namespaces/{SPACE}/secrets"
        self.rest.delete(f"{path}/{name}")
        self.rest.create(
            path,
            {
                "apiVersion": "v1",
                "kind": "Secret",
                "metadata": {"name": name, "namespace": SPACE},
                "type": kind,
                "data": {"password": base64.b64encode(password.encode()).decode()},
            },
        )

    def service(
        self,
        name: str,
        *ips: str,
        nodes: Sequence[str] | None = None,
        local: bool = False,
        labels: Mapping[str, str] | None = None,
        port: int = PORT,
    ) -> None:
        """A service with an endpoint on each of the nodes, and its addresses."""
        self.endpoints(name, nodes)
        self.rest.create(
            "/api/v1/namespaces/default/services",
            {
                "apiVersion": "v1",
                "kind": "Service",
                "metadata": {"name": name, "namespace": "default", "labels": dict(labels or {})},
                "spec": {
                    "type": "LoadBalancer",
                    "externalTrafficPolicy": "Local" if local else "Cluster",
                    "ports": [
                        {"name": "http", "port": port, "targetPort": BACKEND, "protocol": "TCP"},
                        {
                            "name": "probe",
                            "port": UDP_PORT + port - PORT,
                            "targetPort": UDP_BACKEND,
                            "protocol": "UDP",
                        },
                    ],
                },
            },
        )
        self.assign(name, *ips)

    def assign(self, name: str, *ips: str) -> None:
        status = {"status": {"loadBalancer": {"ingress": [{"ip": ip} for ip in ips]}}}
        self.rest.merge(f"/api/v1/namespaces/default/services/{name}/status", status)

    def endpoints(self, name: str, nodes: Sequence[str] | None = None) -> None:
        slices = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices"
        for version in ("4", "6"):
            self.rest.delete(f"{slices}/{name}-{version}")
            self.rest.create(
                slices,
                {
                    "apiVersion": "discovery.k8s.io/v1",
                    "kind": "EndpointSlice",
                    "metadata": {
                        "name": f"{name}-{version}",
                        "namespace": "default",
                        "labels": {"kubernetes.io/service-name": name},
                    },
                    "addressType": f"IPv{version}",
                    "endpoints": [
                        {
                            "addresses": [str(getattr(self.lan.nodes[node], f"ipv{version}"))],
                            "nodeName": node,
                            "conditions": {"ready": True},
                        }
                        for node in (self.lan.nodes if nodes is None else nodes)
                    ],
                    "ports": [
                        {"name": "http", "port": BACKEND, "protocol": "TCP"},
                        {"name": "probe", "port": UDP_BACKEND, "protocol": "UDP"},
                    ],
                },
            )

    def label(self, node: str, **labels: str | None) -> None:
        found = {key.replace("__", "/").replace("_", "-"): value for key, value in labels.items()}
        self.rest.merge(f"/api/v1/nodes/{node}", {"metadata": {"labels": found}})

    def peers(self, **more: Any) -> None:
        """Both routers, as BGPPeers `frr` and `bird`."""
        self.make("BGPPeer", "frr", **self.towards(self.frr, **more))
        self.make("BGPPeer", "bird", **self.towards(self.bird, **more))

    def towards(self, router: Router, **more: Any) -> dict[str, Any]:
        return {
            "myASN": NODES_AS,
            "peerASN": router.asn,
            "peerAddress": router.address,
            "connectTime": "1s",
            **more,
        }

    def listed(self, kind: str) -> list[dict[str, Any]]:
        return list(self.rest.request("GET", _collection(kind))["items"])

    def state(self, node: str) -> dict[str, Any]:
        """Status of the speaker's ConfigurationState."""
        found = self.rest.get(f"{METALLB}/configurationstates/speaker-{node}")
        return dict((found or {}).get("status", {}))

    def clear(self) -> None:
        """No configuration but the pool, no services; routers as they were first."""
        for kind in ("BGPPeer", "BGPAdvertisement", "BFDProfile", "Community", "L2Advertisement"):
            self.delete(kind, *(each["metadata"]["name"] for each in self.listed(kind)))
        for path in (
            "/api/v1/namespaces/default/services",
            "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices",
            f"/api/v1/namespaces/{SPACE}/secrets",
        ):
            for each in self.rest.request("GET", path)["items"]:
                self.rest.delete(f"{path}/{each['metadata']['name']}")
        for router in self.routers:
            router.configure(self.neighbours())

    # -- what there is to see

    def document(self, node: str, path: str = "/status") -> dict[str, Any]:
        return dict(json.loads(self.fetch(node, path) or "{}"))

    def fetch(self, node: str, path: str) -> str:
        def get() -> str:
            connection = http.client.HTTPConnection("127.0.0.1", STATUS_PORT, timeout=5)
            try:
                connection.request("GET", path)
                return connection.getresponse().read().decode()
            finally:
                connection.close()

        try:
            return netns.inside(self.lan.nodes[node].netns, get)
        except (OSError, http.client.HTTPException):
            return ""

    def session(self, node: str, peer: str) -> dict[str, Any]:
        """One session as the speaker tells it; {} while there is none."""
        return next((each for each in self.document(node).get("bgp", ()) if each["peer"] == peer), {})

    def metric(self, node: str, name: str, *labels: str) -> float | None:
        for line in self.fetch(node, "/metrics").splitlines():
            if line.startswith((f"{name}{{", f"{name} ")) and all(label in line for label in labels):
                return float(line.rsplit(" ", 1)[1])
        return None

    def events(self, kind: str, name: str, namespace: str = "default") -> list[tuple[str, str]]:
        found = self.rest.request("GET", f"/api/v1/namespaces/{namespace}/events")["items"]
        return [
            (each["reason"], each["message"])
            for each in found
            if (each["involvedObject"]["kind"], each["involvedObject"]["name"]) == (kind, name)
        ]

    def up(self, *routers: Router, nodes: Sequence[str] | None = None) -> None:
        """Until the sessions of these nodes are up at these routers."""
        wanted = self.addresses if nodes is None else self.at(*nodes)
        for router in routers or self.routers:
            eventually(router.established, lambda found: found == wanted)

    def hops(self, router: Router, prefix: str, wanted: frozenset[str]) -> None:
        """Until these are the next hops of a prefix in the router's kernel."""
        eventually(lambda: router.fib().get(prefix, frozenset()), lambda found: found == wanted)

    def served_by(self, address: str, times: int, port: int = PORT) -> list[str]:
        """Which node answered each of so many requests of the client, "" for none."""
        return [netns.inside(self.lan.client.netns, lambda: _request(address, port)) for _ in range(times)]

    def planner(self, node: str) -> int:
        """Process id of a speaker's planner."""
        return int(self.document(node)["planner"]["pid"])

    def kill_planner(self, node: str) -> None:
        os.kill(self.planner(node), signal.SIGKILL)


def _request(address: str, port: int) -> str:
    connection = http.client.HTTPConnection(address, port, timeout=2)
    try:
        connection.request("GET", "/")
        return str(json.loads(connection.getresponse().read())["node"])
    except (OSError, http.client.HTTPException, ValueError):
        return ""
    finally:
        connection.close()


def _collection(kind: str) -> str:
    plural = {
        "Community": "communities",
        "ServiceBGPStatus": "servicebgpstatuses",
        "ServiceL2Status": "servicel2statuses",
    }
    return PEERS if kind == "BGPPeer" else f"{METALLB}/{plural.get(kind, kind.lower() + 's')}"


@contextmanager
def open_stage() -> Iterator[Stage]:
    run = runs.create()
    processes = AllProcesses(run)
    try:
        yield Stage(run, processes)
    except BaseException:
        keep_logs(run)
        raise
    finally:
        run.remove()
        for process in processes.ever:
            process.popen.wait(PATIENCE)


def keep_logs(run: runs.Run) -> None:
    """The ends of all logs into the test's output."""
    for file in sorted((run.directory / "logs").glob("*.log")):
        print(f"==> {file.name}")
        print("\n".join(file.read_text(encoding="utf-8", errors="replace").splitlines()[-15:]))
