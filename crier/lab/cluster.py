"""A whole cluster on the lab's LAN: the API, the controller, and on each node a speaker, a data path and
backends.

The programs are the real ones, through their console entry points, each a process in its node's namespace.
"""

from __future__ import annotations

import http.client
import json
import os
import selectors
import signal
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

import trio

from crier.lab import lan, netns, router
from crier.lab.datapath import Backend, Front, render
from crier.lab.errors import LabError
from crier.lab.kube import Programs as KubePrograms
from crier.lab.kube.plane import Plane, proxy_command, start_plane
from crier.lab.kubelet import CONTROLLER_POD, SECRET, SYSTEM, Kubelet, speaker_pod
from crier.lab.lan import Host, Lan
from crier.lab.pods import Launch, Place, Workloads
from crier.lab.process import LabProcess, Processes, entry_point
from crier.lab.rest import Object, Rest
from crier.lab.router import Neighbour, Router
from crier.lab.runs import Run
from crier.lab.services import ROUTED_NETWORKS, LabService, routed_manifests

API_PORT: Final = 6443
STATUS_PORT: Final = 17472
MACHINES_OWN: Final = Path("/etc/metallb")
"""Settings that this machine may have as a node of a real cluster; the lab's nodes must not see them."""
START_PATIENCE: Final = 60.0
STATUS_PATIENCE: Final = 1.0
MAX_STATUS: Final = 4 * 1024 * 1024
STOP_PATIENCE: Final = 15.0


@dataclass(frozen=True, slots=True)
class Programs:
    """Command lines of a controller and a speaker that take MetalLB's environment."""

    controller: tuple[str, ...]
    speaker: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Settings:
    nodes: int
    services: tuple[LabService, ...]
    gossip_port: int | None = None
    """None leaves memberlist's own, 7946."""
    keep: bool = False
    programs: Programs | None = None
    """None runs ours."""
    kube: KubePrograms | None = None
    """A real API server; None is the embedded one."""
    kube_proxy: bool = False
    """A real kube-proxy on every node, which needs a real API server; else the lab's own data path."""
    fabric: bool = False
    """Nodes, pods, gossip and the embedded API on a network of their own: see `lan`."""
    workloads: Workloads | None = None
    """Run controller and speakers as these manifests say, from an unpacked image; needs a real API server."""
    router: str = ""
    """One of `router.KINDS`, behind which the client is: routed mode.  Without one it is layer 2."""


class Cluster:
    """Everything that runs.  `start` builds it; ending the `Run` takes it down."""

    def __init__(self, run: Run, settings: Settings) -> None:
        self.run = run
        self.settings = settings
        self.programs = settings.programs or our_programs()
        self.lan = Lan(run, settings.nodes, fabric=settings.fabric)
        self.processes = Processes(run, outlive_us=settings.keep)
        self.server = f"http://{self.lan.control_plane.internal4}:{API_PORT}"
        self.kubeconfig = run.directory / "kubeconfig"
        """For `kubectl` on this machine."""
        self._node_kubeconfig = run.directory / "kubeconfig-nodes"
        self._plane: Plane | None = None
        self.router: Router | None = None
        self.kubelet: Kubelet

    # -- coming up

    async def start(self, say: Callable[[str], None]) -> None:
        say(f"a LAN of {self.settings.nodes} nodes, a client and a control plane")
        self.lan.up()
        if self.settings.router:
            say(f"a router, {self.settings.router}")
            await trio.to_thread.run_sync(self._start_router)
        if self.settings.kube is None:
            say("the Kubernetes API")
            api = Rest(await self._start_api())
        else:
            say("the Kubernetes API, a real one")
            api = await self._start_kube(self.settings.kube)
        nodes = self.run.directory / "nodes"
        self.kubelet = Kubelet(
            api, self.lan.nodes.values(), self.settings.services, nodes, self._announcement()
        )
        await trio.to_thread.run_sync(self.kubelet.populate)
        say("the controller")
        await self.start_controller()
        await self._wait_for(
            "the controller to create the memberlist Secret",
            lambda: self.kubelet.mount_secret(next(iter(self.lan.nodes))),
        )
        say(f"speakers on {', '.join(self.lan.nodes)}")
        for name in self.lan.nodes:
            await self.start_node(name)

    def _start_router(self) -> None:
        """The router, with every node as its neighbour, and the client's way to it."""
        kind = router.KINDS[self.settings.router]
        homes = self.run.directory / "routers"
        found = kind.make(self.lan, self.processes, homes, "router", router.NUMBER, kind.asn)
        found.start(
            [
                Neighbour(address=str(host.ipv4), asn=router.NODES_ASN, bfd=router.BFD)
                for host in self.lan.nodes.values()
            ]
        )
        ways = zip(ROUTED_NETWORKS, (found.host.ipv4, found.host.ipv6), strict=True)
        netns.ip(self.lan.client.netns, *(f"route replace {pool} via {way}" for pool, way in ways))
        self.router = found

    def _announcement(self) -> list[Object] | None:
        if self.router is None:
            return None
        return routed_manifests(
            SYSTEM,
            router=self.router.address,
            router_asn=self.router.asn,
            asn=router.NODES_ASN,
            bfd=router.BFD,
        )

    async def _start_api(self) -> str:
        """Returns the API's address on this machine's loopback."""
        readable, writable = os.pipe()
        try:
            api = self.processes.start(
                "api",
                [
                    sys.executable, "-m", "crier.lab.api", "--listen", "127.0.0.1:0",
                    "--listen-netns",
                    f"{netns.path(self.lan.control_plane.netns)}={self.lan.control_plane.internal4}:{API_PORT}",
                    "--pod-netns", self.lan.control_plane.netns,
                    "--kubeconfig", str(self.kubeconfig), "--metallb-crds", "--ready-fd", str(writable),
                ],
                pass_fds=(writable,),
            )  # fmt: skip
        finally:
            os.close(writable)
        try:
            line = await trio.to_thread.run_sync(partial(_read_line, readable, START_PATIENCE))
        finally:
            os.close(readable)
        try:
            listening = json.loads(line)["listening"]
            local = next(text for text in listening if "127.0.0.1" in text)
        except (ValueError, KeyError, TypeError, StopIteration):
            raise LabError(f"the API did not start:\n{api.tail()}") from None
        self._node_kubeconfig.write_text(_kubeconfig(self.server), encoding="utf-8")
        return local if local.startswith("http") else f"http://{local}"

    async def _start_kube(self, programs: KubePrograms) -> Rest:
        host, directory = self.lan.control_plane, make_private(self.run.directory / "kube")
        self._plane = await start_plane(programs, self.processes, host, directory, "kube-system")
        await trio.to_thread.run_sync(self.kubeconfig.symlink_to, self._plane.kube.kubeconfig)
        return self._plane.kube.rest

    def _kubeconfig_of(self, component: str) -> str:
        """The API as our programs see it: with a real server, each as its service account."""
        if self._plane is None:
            return str(self._node_kubeconfig)
        accounts = self._plane.accounts
        return str(accounts.controller if component == "controller" else accounts.speaker)

    def _datapath_command(self, name: str) -> list[str]:
        ours = [sys.executable, "-m", "crier.lab.datapath", "--node", name]
        if self._plane is None:
            return [*ours, "--server", self.server]
        if self.settings.kube_proxy:
            return proxy_command(self._plane.kube.programs, name, self._plane.proxy)
        return [*ours, "--kubeconfig", str(self._plane.inside)]

    async def start_controller(self) -> None:
        host = self.lan.control_plane
        await trio.to_thread.run_sync(self.kubelet.run_pod, CONTROLLER_POD, "controller", host)
        if self.settings.workloads is not None:
            launch = await trio.to_thread.run_sync(self._launch, "controller", CONTROLLER_POD, host)
            self._start_container("controller", launch, host)
            return
        self.processes.start(
            "controller",
            self.programs.controller,
            namespace=host.netns,
            environment={
                "KUBECONFIG": self._kubeconfig_of("controller"),
                "METALLB_NAMESPACE": SYSTEM,
                "METALLB_POD_NAME": CONTROLLER_POD,
                "METALLB_DEPLOYMENT": "controller",
                "METALLB_ML_SECRET_NAME": SECRET,
            },
        )

    async def start_node(self, name: str) -> None:
        """What a node runs once it has booted: its pods of the Services, kube-proxy, the speaker."""
        host = self.lan.nodes[name]
        self.processes.start(f"backend-{name}", self._backend_command(host), namespace=host.netns)
        self.processes.start(f"datapath-{name}", self._datapath_command(name), namespace=host.netns)
        await trio.to_thread.run_sync(self.kubelet.run_pod, speaker_pod(name), "speaker", host)
        await trio.to_thread.run_sync(self.kubelet.mount_secret, name)
        self.start_speaker(name)

    def _launch(self, component: str, pod: str, host: Host) -> Launch:
        """How the manifests and the image say that it is started.  Blocks."""
        assert self.settings.workloads is not None
        if self._plane is None:
            raise LabError("pods as manifests describe them need a real API server")
        kube, directory = self._plane.kube, self.run.directory / "pods" / pod
        account = directory / "account"
        account.mkdir(parents=True, exist_ok=True)
        (account / "token").write_text(kube.token(SYSTEM, component), encoding="utf-8")
        (account / "ca.crt").write_bytes(kube.keys.authority.read_bytes())
        (account / "namespace").write_text(SYSTEM, encoding="utf-8")
        place = Place(
            pod=pod,
            namespace=SYSTEM,
            node=host.name,
            address=str(host.internal4),
            account=account,
            api=(str(self.lan.control_plane.internal4), API_PORT),
            secrets={SECRET: self.kubelet.secret_directory(host.name)} if component == "speaker" else {},
        )
        return self.settings.workloads.launch(component, place, directory)

    def _start_container(self, name: str, launch: Launch, host: Host) -> LabProcess:
        return self.processes.start(
            name, launch.command, namespace=host.netns, environment=launch.environment
        )

    def start_speaker(self, name: str) -> LabProcess:
        host = self.lan.nodes[name]
        if self.settings.workloads is not None:
            launch = self._launch("speaker", speaker_pod(name), host)
            return self._start_container(f"speaker-{name}", launch, host)
        environment = {
            "KUBECONFIG": self._kubeconfig_of("speaker"),
            "METALLB_NODE_NAME": name,
            "METALLB_POD_NAME": speaker_pod(name),
            "METALLB_NAMESPACE": SYSTEM,
            "METALLB_ML_BIND_ADDR": str(host.internal4),
            "METALLB_ML_LABELS": "app=metallb,component=speaker",
            "METALLB_ML_SECRET_KEY_PATH": str(self.kubelet.secret_directory(name)),
        }
        if self.settings.gossip_port is not None:
            environment["METALLB_ML_BIND_PORT"] = str(self.settings.gossip_port)
        return self.processes.start(
            f"speaker-{name}",
            [*hiding(MACHINES_OWN), *self.programs.speaker],
            namespace=host.netns,
            environment=environment,
        )

    def _backend_command(self, host: Host) -> list[str]:
        command = [sys.executable, "-m", "crier.lab.backend", "--node", host.name]
        command += ["--address", str(host.internal4), "--address", str(host.internal6)]
        for service in self.settings.services:
            for port in service.ports:
                command += [f"--{port.protocol.lower()}", f"{port.target}={service.key}"]
        return command

    # -- while it runs

    def speaker(self, node: str) -> LabProcess:
        return self.processes.all[f"speaker-{node}"]

    async def stop_speaker(self, node: str) -> None:
        """SIGTERM, and wait until it has said good-bye."""
        speaker = self.speaker(node)
        speaker.expected = True
        speaker.send(signal.SIGTERM)
        await speaker.wait(STOP_PATIENCE)

    def kill_speaker(self, node: str) -> None:
        speaker = self.speaker(node)
        speaker.expected = True
        speaker.kill_tree()

    def power_off(self, node: str) -> None:
        for process in self._on(node):
            process.expected = True
        self.lan.power_off(node)
        self.processes.reap()

    async def power_on(self, node: str) -> None:
        self.lan.power_on(node)
        await self.start_node(node)

    def _on(self, node: str) -> Iterable[LabProcess]:
        return (p for name, p in self.processes.all.items() if name.endswith(f"-{node}"))

    async def addresses(self) -> dict[str, list[str]]:
        """The addresses the controller gave each Service, once all have theirs."""
        found: dict[str, list[str]] = {}
        wanted = {service.name: len(service.families) for service in self.settings.services}

        def complete() -> bool:
            found.update(self.kubelet.addresses())
            return all(len(found.get(name, ())) == count for name, count in wanted.items())

        await self._wait_for("every Service to have its addresses", complete)
        return found

    async def status(self, node: str) -> dict[str, Any] | None:
        """The speaker's own account; None when it gives none."""
        if not self.lan.is_on(node):
            return None
        return await trio.to_thread.run_sync(_fetch_status, self.lan.nodes[node].netns)

    async def _wait_for(self, what: str, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + START_PATIENCE
        while not await trio.to_thread.run_sync(condition):
            if time.monotonic() > deadline:
                raise LabError(f"waited {START_PATIENCE:g} s for {what}")
            await trio.sleep(0.05)


def our_programs() -> Programs:
    return Programs(
        (entry_point("crier-controller"), "--webhook-mode=disabled"), (entry_point("crier-speaker"),)
    )


def check_machine() -> None:
    """Raises NotPossible with the one thing that stands in the way of a cluster here."""
    backends = [(Backend(host, 80), Backend(host + 1, 80)) for host in (lan.NETWORK4[1], lan.NETWORK6[1])]
    fronts = [Front(pair[0].address, "tcp", 80, pair[:count]) for pair in backends for count in (0, 1, 2)]
    lan.check_machine(render(fronts))


def make_private(directory: Path) -> Path:
    directory.mkdir(mode=0o700)
    return directory


def hiding(directory: Path) -> list[str]:
    """A command prefix that shows a program an empty directory in the place of this one, if there is one."""
    if not directory.is_dir():
        return []
    hide = 'mount -t tmpfs -o size=64k lab "$1" && shift && exec "$@"'
    return ["unshare", "--mount", "--propagation", "private", "sh", "-c", hide, "sh", str(directory)]


def _fetch_status(namespace: str) -> dict[str, Any] | None:
    def fetch() -> bytes:
        connection = http.client.HTTPConnection("127.0.0.1", STATUS_PORT, timeout=STATUS_PATIENCE)
        try:
            connection.request("GET", "/status")
            response = connection.getresponse()
            return response.read(MAX_STATUS) if response.status == 200 else b""
        finally:
            connection.close()

    try:
        document = json.loads(netns.inside(namespace, fetch))
    except (OSError, http.client.HTTPException, ValueError):
        return None  # not up yet, not up any more, or not answering: in each case it does not say
    return document if isinstance(document, dict) else None


def _read_line(descriptor: int, patience: float) -> bytes:
    """What a pipe says until a newline, its end or the deadline."""
    deadline = time.monotonic() + patience
    line = b""
    with selectors.DefaultSelector() as selector:
        selector.register(descriptor, selectors.EVENT_READ)
        while not line.endswith(b"\n") and selector.select(max(0.0, deadline - time.monotonic())):
            piece = os.read(descriptor, 4096)
            if not piece:
                break
            line += piece
    return line


def _kubeconfig(server: str) -> str:
    """JSON is YAML."""
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "lab", "cluster": {"server": server}}],
        "users": [{"name": "lab", "user": {}}],
        "contexts": [{"name": "lab", "context": {"cluster": "lab", "user": "lab"}}],
        "current-context": "lab",
    }
    return json.dumps(document, indent=1) + "\n"


def machine() -> dict[str, str]:
    """What a report should say about where it was made."""
    system = os.uname()
    return {
        "kernel": system.release,
        "architecture": system.machine,
        "python": sys.version.split()[0],
        "cpus": str(os.cpu_count()),
    }
