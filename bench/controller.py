"""How fast the controller gives addresses: many at once, after a restart, one more; and the ledger alone.

    python bench/controller.py [--services 2000] [--more 100] [--peer whole|restart|none] [--peer-limit 300]

Each program gets a fresh API server on this machine, a real kube-apiserver with etcd unless told otherwise,
so what is measured has that server's time in it, and on few cores server, clients and controller compete.
The creation alone, with no controller running, is printed beside it.  MetalLB's own controller does the same
in the same run; what it has not done within its limit is printed as not done.  Of one more service two times
are given: what a client sees, and what Crier's own log says of the way from the watch's news to the status
written.  (Not named after the package it measures: a script's own folder comes
first where Python looks.)
"""

from __future__ import annotations

import argparse
import base64
import gc
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

import trio
import yaml

from allocator.ledger import NO_KEY, Claim, Ledger, Port
from crier.kube.client import Api
from crier.kube.model.pool import Pool, parse_networks
from crier.kube.model.service import Service
from crier.kube.resources import IP_ADDRESS_POOLS, NAMESPACES, PODS, SERVICES
from crier.kube.watch import Mirror, watch
from crier.lab import kube
from crier.lab.api.process import start_api_process
from crier.lab.errors import LabError
from crier.lab.kube.install import install_crds
from crier.lab.peers import metallb

SYSTEM = "metallb-system"
POD = "bench"
CLIENTS = 8
USED = 100_000
TIMED = 20_000
PATIENCE = 1200.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--services", type=int, default=2000)
    parser.add_argument("--more", type=int, default=100, help="services added one by one at the end")
    parser.add_argument(
        "--api", choices=("kube", "embedded", "here"), default="kube",
        help="here: that of KUBECONFIG, on the services and the pool it has: no creation but one by one",
    )  # fmt: skip
    parser.add_argument(
        "--peer", choices=("whole", "restart", "none"), default="whole",
        help="MetalLB: all of it; its restart on the services that Crier served; nothing",
    )  # fmt: skip
    parser.add_argument(
        "--peer-limit", type=float, default=300.0, help="seconds for each thing MetalLB is to do"
    )
    parser.add_argument("--alone", action=argparse.BooleanOptionalAction, default=True, help="creation alone")
    given = parser.parse_args()
    print(f"ledger, a /64 with {USED} addresses used: {ledger_rate():,.0f} allocations/s")
    if given.api == "here":
        with in_pods(*read_kubeconfig(Path(os.environ["KUBECONFIG"]))) as where:
            trio.run(on_what_is_there, where, given.more, given.peer_limit if given.peer != "none" else None)
        return
    if given.alone:
        with an_api(given.api):
            alone = trio.run(creation_alone, given.services)
        print(f"creation of {given.services} services by {CLIENTS} clients, no controller: {alone:.1f} s")
    theirs = peer(given.peer_limit) if given.peer != "none" else None
    heir = theirs if given.peer == "restart" else None
    with an_api(given.api) as where:
        trio.run(against_an_api, OURS, where, given.services, given.more, heir)
    if theirs is not None and given.peer == "whole":
        with an_api(given.api) as where:
            trio.run(against_an_api, theirs, where, given.services, given.more, None)


@dataclass(frozen=True)
class Contender:
    name: str
    command: tuple[str, ...]
    limit: float = PATIENCE
    """Seconds for each thing it is to do."""
    log_level: str = "error"


OURS = Contender(
    "crier", (sys.executable, "-m", "allocator.app", "--webhook-mode=disabled"), log_level="info"
)


def peer(limit: float) -> Contender | None:
    try:
        return Contender(f"metallb {metallb.VERSION}", metallb.programs(progress).controller, limit)
    except LabError as problem:
        progress(f"MetalLB is not measured: {problem}")
        return None


def progress(line: str) -> None:
    print(line, file=sys.stderr)


@dataclass(frozen=True)
class Surroundings:
    """What a controller finds where it runs."""

    prefix: tuple[str, ...] = ()
    """Before its command."""
    environ: Mapping[str, str] = field(default_factory=dict)


AS_IN_A_POD = """
mount -t tmpfs bench /run && mkdir -p /run/secrets/kubernetes.io &&
cp -r "$1" /run/secrets/kubernetes.io/serviceaccount && shift && exec "$@"
"""


@contextmanager
def an_api(kind: str) -> Iterator[Surroundings]:
    """KUBECONFIG leads us to it within the block; the programs find a real one as in a pod."""
    if kind == "embedded":
        with start_api_process("--metallb-crds") as server:
            os.environ["KUBECONFIG"] = str(server.kubeconfig)
            yield Surroundings(environ={"KUBECONFIG": str(server.kubeconfig)})
        return
    with kube.start_kube(kube.programs(progress)) as found:
        install_crds(found)
        os.environ["KUBECONFIG"] = str(found.kubeconfig)
        with in_pods(found.url, found.keys.admin_token, found.keys.authority.read_bytes()) as where:
            yield where


@contextmanager
def in_pods(url: str, token: str, authority: bytes) -> Iterator[Surroundings]:
    """As in a pod: credentials in files, and no need for the official client to read a kubeconfig."""
    with tempfile.TemporaryDirectory() as account:
        Path(account, "token").write_text(token)
        Path(account, "ca.crt").write_bytes(authority)
        Path(account, "namespace").write_text(SYSTEM)
        place = urlsplit(url)
        yield Surroundings(
            ("unshare", "--mount", "--propagation", "private", "sh", "-c", AS_IN_A_POD, "sh", account),
            {"KUBERNETES_SERVICE_HOST": str(place.hostname), "KUBERNETES_SERVICE_PORT": str(place.port)},
        )


def read_kubeconfig(path: Path) -> tuple[str, str, bytes]:
    """Server, token and authority of one as `python -m crier.lab.kube` writes it."""
    found = yaml.safe_load(path.read_text())
    cluster = found["clusters"][0]["cluster"]
    token = found["users"][0]["user"]["token"]
    return cluster["server"], token, base64.b64decode(cluster["certificate-authority-data"])


def ledger_rate() -> float:
    """Allocations a second, each the lowest free address found and claimed."""
    ledger = Ledger()
    ledger.configure([Pool(name="p", networks=parse_networks("2001:db8::/64"))])
    ports = frozenset({Port("TCP", 80)})

    def allocate(number: int) -> None:
        name = f"default/s{number}"
        address = ledger.lowest("p", 6, name, ports, NO_KEY)
        assert address is not None
        ledger.put(Claim(name, "p", (address,), ports, NO_KEY))

    for number in range(USED):
        allocate(number)
    began = time.process_time()
    for number in range(USED, USED + TIMED):
        allocate(number)
    return TIMED / (time.process_time() - began)


def body(name: str) -> dict[str, Any]:
    spec: dict[str, Any] = {"type": "LoadBalancer", "ports": [{"port": 80, "name": "http"}]}
    spec["allocateLoadBalancerNodePorts"] = False  # there are 2,768 of those
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": spec}


async def furnish(api: Api) -> None:
    await api.create(NAMESPACES, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": SYSTEM}})
    pool = {
        "apiVersion": IP_ADDRESS_POOLS.api_version,
        "kind": "IPAddressPool",
        "metadata": {"name": "p"},
        "spec": {"addresses": ["10.64.0.0/16"]},
    }
    await api.create(IP_ADDRESS_POOLS, pool, namespace=SYSTEM)
    pod = {"metadata": {"name": POD}, "spec": {"containers": [{"name": "controller", "image": "none"}]}}
    await api.create(PODS, {"apiVersion": "v1", "kind": "Pod", **pod}, namespace=SYSTEM)


async def create(api: Api, names: list[str]) -> None:
    async def client(mine: list[str]) -> None:
        for name in mine:
            await api.create(SERVICES, body(name), namespace="default")

    async with trio.open_nursery() as nursery:
        for number in range(CLIENTS):
            nursery.start_soon(client, names[number::CLIENTS])


async def creation_alone(count: int) -> float:
    api = Api.connect(timeout=PATIENCE)  # a busy machine is no failure
    await furnish(api)
    began = time.monotonic()
    await create(api, [f"s{number:05}" for number in range(count)])
    return time.monotonic() - began


class Program:
    """A controller as a process."""

    def __init__(self, who: Contender, where: Surroundings) -> None:
        inherited = {name: value for name, value in os.environ.items() if name != "KUBECONFIG"}
        self._log = tempfile.NamedTemporaryFile("ab")  # noqa: SIM115 - closed by `end`
        self.process = subprocess.Popen(
            [
                *where.prefix,
                *who.command,
                *("--health-probe-port=17997", "--port=17998"),
                *(f"--pod-name={POD}", f"--log-level={who.log_level}"),
            ],
            env={**inherited, **where.environ, "METALLB_NAMESPACE": SYSTEM},
            stdout=self._log,
            stderr=subprocess.DEVNULL,
        )

    def writes(self, services: Collection[str]) -> list[float]:
        """What its log says: ms from the news of each of the services to its status written."""
        lines = [
            line for line in Path(self._log.name).read_bytes().splitlines() if b'"service_written"' in line
        ]
        written = [json.loads(line) for line in lines]
        return [line["seconds"] * 1e3 for line in written if line["service"].partition("/")[2] in services]

    def cost(self) -> str:
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        (rss,) = [int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS:")]
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        cpu = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
        return f"{rss / 1024:.0f} MB RSS, {cpu:.1f} CPU s"

    def end(self) -> None:
        self.process.kill()
        self.process.wait()
        self._log.close()


@dataclass
class Seen:
    """What the observer's own watch has told of one service, on its clock."""

    added: float
    assigned: float = 0.0
    changes: int = 0
    """Versions after the first: each is somebody's write."""


class Observer:
    def __init__(self) -> None:
        self.mirror: Mirror[Service] = Mirror(Service.decode, keep_changes=True)
        self.services: dict[str, Seen] = {}
        self.assigned = 0
        self._news = trio.Event()

    def changed(self) -> None:
        now = time.monotonic()
        for key in self.mirror.take_changes():
            service = self.mirror.objects.get(key)
            if service is None or not service.is_load_balancer:
                continue
            if (seen := self.services.get(service.name)) is None:
                seen = self.services[service.name] = Seen(now)
            else:
                seen.changes += 1
            if service.ingress_ips and not seen.assigned:
                seen.assigned = now
                self.assigned += 1
        self._news.set()
        self._news = trio.Event()

    def has(self, name: str) -> bool:
        return name in self.services and self.services[name].assigned > 0

    async def until(self, true: Callable[[], bool], program: Program, limit: float) -> bool:
        """False when the program does not make it true within so many seconds, or ends before."""
        with trio.move_on_after(limit):
            while not true() and program.process.poll() is None:
                with trio.move_on_after(1.0):
                    await self._news.wait()
        return true()

    def versions(self) -> dict[str, str]:
        return {key: service.resource_version for key, service in self.mirror.objects.items()}


async def status_writes(api: Api) -> int | None:
    """Requests to services/status the server has had; None where it does not count."""
    try:
        text = api.transport.request("GET", "/metrics", timeout=30.0).decode()
    except Exception:  # noqa: BLE001 - the embedded API has no such page
        return None
    lines = re.findall(r"^apiserver_request_total\{(.*)\} ([0-9.e+]+)$", text, re.MULTILINE)
    wanted = ('resource="services"', 'subresource="status"')
    return sum(
        int(float(number))
        for labels, number in lines
        if all(each in labels for each in wanted) and ('"PUT"' in labels or '"PATCH"' in labels)
    )


async def against_an_api(
    who: Contender, where: Surroundings, count: int, more: int, heir: Contender | None
) -> None:
    """`heir`: who is started in its place at the end, on the services that are there."""
    api = Api.connect(timeout=PATIENCE)  # a busy machine is no failure
    await furnish(api)
    observer = Observer()
    async with trio.open_nursery() as nursery:
        await nursery.start(watch, api, SERVICES, observer.mirror, observer.changed)
        if await from_nothing(who, where, api, observer, count):
            for each in (who, *([heir] if heir else [])):
                await restart(each, where, api, observer, count, more)
        nursery.cancel_scope.cancel()


async def on_what_is_there(where: Surroundings, more: int, peer_limit: float | None) -> None:
    api = Api.connect(timeout=PATIENCE)
    observer = Observer()
    contenders = [OURS, *([found] if peer_limit and (found := peer(peer_limit)) else [])]
    async with trio.open_nursery() as nursery:
        await nursery.start(watch, api, SERVICES, observer.mirror, observer.changed)
        observer.changed()
        for each in contenders:
            await restart(each, where, api, observer, observer.assigned, more)
        nursery.cancel_scope.cancel()


async def from_nothing(who: Contender, where: Surroundings, api: Api, observer: Observer, count: int) -> bool:
    """False when it did not get done."""
    began = time.monotonic()
    program = Program(who, where)
    try:
        await create(api, ["warm"])
        if not await observer.until(lambda: observer.has("warm"), program, who.limit):
            return tell(who, f"not even one address within {who.limit:.0f} s")
        tell(who, f"from its start to the first address {time.monotonic() - began:.1f} s")
        began = time.monotonic()
        await create(api, [f"s{number:05}" for number in range(count)])
        created = time.monotonic()
        done = await observer.until(lambda: observer.assigned == count + 1, program, who.limit)
        after = f"{time.monotonic() - created:.1f} s later"
        await trio.sleep(2.0)  # what else is written for them
        served = f"all have addresses {after}" if done else f"{observer.assigned - 1} have addresses {after}"
        tell(
            who,
            f"{count} services: created after {created - began:.1f} s, {served}; "
            f"{await status_writes(api)} status writes; {program.cost()}",
        )
        return done
    finally:
        program.end()


async def restart(
    who: Contender, where: Surroundings, api: Api, observer: Observer, count: int, more: int
) -> None:
    before, writes = observer.versions(), await status_writes(api)
    marker = f"next-{len(before)}"
    await create(api, [marker])
    began = time.monotonic()
    program = Program(who, where)
    try:
        if not await observer.until(lambda: observer.has(marker), program, who.limit):
            tell(
                who,
                f"restart with {count} assigned: the next has no address after {who.limit:.0f} s; "
                f"{program.cost()}",
            )
            return
        took = time.monotonic() - began
        await trio.sleep(2.0)
        after, now = observer.versions(), await status_writes(api)
        touched = sum(after[key] != version for key, version in before.items())
        asked = "?" if now is None or writes is None else now - writes
        tell(
            who,
            f"restart with {count} assigned: the next has its address after {took:.1f} s; "
            f"{asked} status writes, {touched} of them changed an old service; {program.cost()}",
        )
        await one_by_one(who, program, api, observer, more)
        tell(who, f"at the end {program.cost()}")
    finally:
        program.end()


async def one_by_one(who: Contender, program: Program, api: Api, observer: Observer, more: int) -> None:
    gc.collect()
    gc.freeze()  # pauses of our own are not the contender's
    whole: list[float] = []
    names = [f"more-{len(observer.services)}-{number}" for number in range(more)]
    for service in names:
        began = time.monotonic()
        await create(api, [service])
        if not await observer.until(lambda service=service: observer.has(service), program, who.limit):  # type: ignore[misc]
            tell(who, f"one more has no address after {who.limit:.0f} s")
            return
        whole.append((time.monotonic() - began) * 1e3)
    heard = [observer.services[service] for service in names]
    inner = [(seen.assigned - seen.added) * 1e3 for seen in heard]
    tell(
        who,
        f"{more} more, one by one: a client sees from the news of it to the news of its address "
        f"{summary(inner)}; from before its creation {summary(whole)}",
    )
    if own := program.writes(set(names)):
        tell(who, f"of these, from the news of it to its status written, says its own log, {summary(own)}")


def tell(who: Contender, text: str) -> Literal[False]:
    """A line with the load it was measured under."""
    print(f"{who.name}: {text} (load {os.getloadavg()[0]:.1f})", flush=True)
    return False


def summary(values: list[float]) -> str:
    values = sorted(values)
    p99 = values[min(len(values) - 1, int(len(values) * 0.99))]
    return f"median {statistics.median(values):.1f} ms, p99 {p99:.1f} ms, worst {values[-1]:.1f} ms"


if __name__ == "__main__":
    main()
