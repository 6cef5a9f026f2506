"""What kube-proxy does for the addresses of LoadBalancer Services, in nftables, on one node of the lab.

    python -m crier.lab.datapath --node node-1 --server http://172.30.0.2:6443   (in the node's namespace)

A packet for a VIP's port is sent on to a ready endpoint by destination NAT.  Under the policy `Cluster` any
ready endpoint will do, and an endpoint on another node sees this node as the source (masquerade), so that
its answer comes back this way; `Local` knows only endpoints on this node and keeps the source.
`trafficDistribution: PreferSameNode` takes this node's endpoints while there are any.  Whatever is for a VIP
and has nowhere to go is dropped, never forwarded back onto the LAN.  `plan` and `render` are pure; a change
is one nftables transaction.
"""

from __future__ import annotations

import argparse
import signal
import subprocess
import sys
import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Final

from crier.lab.conntrack import IPAddress, Place, forget_udp
from crier.lab.rest import Object, Rest

SERVICES: Final = "/api/v1/services"
SLICES: Final = "/apis/discovery.k8s.io/v1/endpointslices"
SERVICE_LABEL: Final = "kubernetes.io/service-name"
TABLE: Final = "crier-lab-proxy"
SETTLE: Final = 0.02
"""Seconds to gather further changes before a transaction."""
RETRY: Final = 1.0


@dataclass(frozen=True, slots=True, order=True)
class Backend:
    address: IPAddress
    port: int


@dataclass(frozen=True, slots=True)
class Front:
    """One port of one VIP and where its traffic goes; no backends means it is dropped."""

    address: IPAddress
    protocol: str
    """`tcp` or `udp`."""
    port: int
    backends: tuple[Backend, ...]


def plan(services: Iterable[Object], slices: Iterable[Object], node: str) -> tuple[Front, ...]:
    """Every VIP port of every LoadBalancer Service, as `node` has to treat it."""
    by_service: dict[tuple[str, str], list[Object]] = {}
    for piece in slices:
        metadata = piece["metadata"]
        owner = (metadata.get("namespace", ""), metadata.get("labels", {}).get(SERVICE_LABEL, ""))
        by_service.setdefault(owner, []).append(piece)
    fronts = []
    for service in services:
        spec, metadata = service["spec"], service["metadata"]
        if spec.get("type") != "LoadBalancer":
            continue
        ingress = service.get("status", {}).get("loadBalancer", {}).get("ingress") or []
        pieces = by_service.get((metadata.get("namespace", ""), metadata["name"]), [])
        for address in (ip_address(entry["ip"]) for entry in ingress if entry.get("ip")):
            for port in spec.get("ports") or []:
                protocol = port.get("protocol", "TCP").lower()
                if protocol in ("tcp", "udp"):
                    backends = _backends(spec, pieces, port, address.version, node)
                    fronts.append(Front(address, protocol, port["port"], backends))
    return tuple(
        sorted(fronts, key=lambda front: (front.address.version, front.address, front.protocol, front.port))
    )


def _backends(
    spec: Mapping[str, Any], pieces: Iterable[Object], port: Mapping[str, Any], version: int, node: str
) -> tuple[Backend, ...]:
    here: set[Backend] = set()
    elsewhere: set[Backend] = set()
    for piece in pieces:
        if piece.get("addressType") != f"IPv{version}":
            continue
        for slice_port in piece.get("ports") or []:
            same = slice_port.get("name", "") == port.get("name", "")
            if not same or slice_port.get("protocol", "TCP") != port.get("protocol", "TCP"):
                continue
            for endpoint in piece.get("endpoints") or []:
                if endpoint.get("conditions", {}).get("ready", True):
                    place = here if endpoint.get("nodeName") == node else elsewhere
                    place.update(
                        Backend(ip_address(text), slice_port["port"]) for text in endpoint["addresses"]
                    )
    if spec.get("externalTrafficPolicy", "Cluster") == "Local":
        return tuple(sorted(here))
    if spec.get("trafficDistribution") == "PreferSameNode" and here:
        return tuple(sorted(here))
    return tuple(sorted(here | elsewhere))


def render(fronts: Iterable[Front]) -> str:
    """The whole data path as one nftables transaction, replacing whatever was there."""
    fronts = list(fronts)
    return "".join(_render_family(family, [f for f in fronts if f.address.version == version])
                   for family, version in (("ip", 4), ("ip6", 6)))  # fmt: skip


def _render_family(family: str, fronts: list[Front]) -> str:
    rules = "".join(f"    {_dnat(family, front)}\n" for front in fronts if front.backends)
    vips = ", ".join(sorted({str(front.address) for front in fronts}))
    # After NAT nothing is addressed to a VIP any more, so what still is found no backend.
    stray = f"    {family} daddr {{ {vips} }} drop\n" if vips else ""
    return f"""table {family} {TABLE}
delete table {family} {TABLE}
table {family} {TABLE} {{
  chain vips {{
{rules}  }}
  chain prerouting {{
    type nat hook prerouting priority dstnat; policy accept;
    jump vips
  }}
  chain output {{
    type nat hook output priority -100; policy accept;
    jump vips
  }}
  chain postrouting {{
    type nat hook postrouting priority srcnat; policy accept;
    ct status dnat masquerade
  }}
  chain forward {{
    type filter hook forward priority filter; policy accept;
{stray}  }}
  chain stray-output {{
    type filter hook output priority filter; policy accept;
{stray}  }}
}}
"""


def _dnat(family: str, front: Front) -> str:
    match = f"{family} daddr {front.address} {front.protocol} dport {front.port} dnat to"
    if len(front.backends) == 1:
        (backend,) = front.backends
        host = f"[{backend.address}]" if family == "ip6" else str(backend.address)
        return f"{match} {host}:{backend.port}"
    choices = ", ".join(f"{n} : {b.address} . {b.port}" for n, b in enumerate(front.backends))
    return f"{match} numgen random mod {len(front.backends)} map {{ {choices} }}"


def lost_backends(before: Iterable[Front], after: Iterable[Front]) -> dict[Place, frozenset[Place]]:
    """UDP ports that are new or lost a backend, with the backends they have now."""
    now = {
        (f.address, f.port): frozenset((b.address, b.port) for b in f.backends)
        for f in after
        if f.protocol == "udp"
    }
    known = {(f.address, f.port) for f in before if f.protocol == "udp"}
    lost = {place: backends for place, backends in now.items() if place not in known}
    for front in before:
        place = (front.address, front.port)
        left = now.get(place, frozenset())
        if front.protocol == "udp" and any((b.address, b.port) not in left for b in front.backends):
            lost[place] = left
    return lost


# ------------------------------------------------------------------------------------ the process


class Datapath:
    """Keeps the namespace it runs in equal to the plan."""

    def __init__(self, node: str, api: Rest) -> None:
        self._node = node
        self._api = api
        self._changed = threading.Event()
        self._seen: dict[str, dict[str, Object]] = {}
        self._fronts: tuple[Front, ...] | None = None

    def run(self) -> None:
        for collection in (SERVICES, SLICES):
            threading.Thread(target=self._follow, args=(collection,), daemon=True).start()
        while True:
            self._changed.wait()
            threading.Event().wait(SETTLE)
            self._changed.clear()
            if len(self._seen) == 2:
                self._apply()

    def _follow(self, collection: str) -> None:
        for objects in self._api.watch(collection):
            self._seen[collection] = objects
            self._changed.set()

    def _apply(self) -> None:
        fronts = plan(self._seen[SERVICES].values(), self._seen[SLICES].values(), self._node)
        if fronts == self._fronts:
            return
        done = subprocess.run(
            ["nft", "-f", "-"],
            input=render(fronts),
            text=True,
            capture_output=True,
            check=False,
            timeout=RETRY * 10,
        )
        if done.returncode != 0:
            print(f"nft refused: {done.stderr.strip()}", flush=True)
            threading.Timer(RETRY, self._changed.set).start()
            return
        before, self._fronts = self._fronts or (), fronts
        # A UDP "connection" never ends while its client keeps talking: without this a client would follow an
        # endpoint that the plan no longer has, or none at all since it asked before its port was programmed.
        forgotten = forget_udp(stale) if (stale := lost_backends(before, fronts)) else 0
        print(f"{len(fronts)} ports programmed, {forgotten} flows forgotten", flush=True)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m crier.lab.datapath", description=__doc__.splitlines()[0])
    parser.add_argument("--node", required=True, help="the node this namespace is")
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("--server", help="the lab's API, http://ADDRESS:PORT")
    where.add_argument("--kubeconfig", type=Path, help="the lab's API, by a kubeconfig that it wrote")
    options = parser.parse_args(argv)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    api = Rest(options.server) if options.server else Rest.from_kubeconfig(options.kubeconfig)
    Datapath(options.node, api).run()
    return 0


if __name__ == "__main__":
    sys.exit(main())
