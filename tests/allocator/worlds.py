"""A cluster in memory: services, pools, a core that decides on them, and writes that can be late or lost."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import msgspec

from allocator.choose import NamespaceLabels
from allocator.notices import Notice
from allocator.reconcile import Allocator, Plan, Write, addresses_in
from crier.kube.model.addresses import Address
from crier.kube.model.annotations import ALLOCATED_FROM
from crier.kube.model.pool import Pool, PoolObject, parse_pools
from crier.kube.model.service import Service, ServicePort


def pool(name: str, *addresses: str, **spec: Any) -> PoolObject:
    """An IPAddressPool; keywords are fields of the spec as they are written, `labels` are the object's."""
    labels = spec.pop("labels", {})
    return PoolObject.decode(
        msgspec.json.encode(
            {
                "metadata": {"name": name, "namespace": "metallb-system", "labels": labels},
                "spec": {"addresses": addresses, **spec},
            }
        )
    )


def pools(*objects: PoolObject) -> tuple[Pool, ...]:
    return parse_pools(objects)


CLUSTER_IPS = {"v4": ("10.96.0.1",), "v6": ("fd00::1",), "dual": ("10.96.0.1", "fd00::1")}


def service(name: str, family: str = "v4", *ingress: str, **fields: Any) -> Service:
    """A LoadBalancer; `family` is v4, v6 or dual, `ingress` what its status says."""
    namespace, _, short = name.rpartition("/")
    base = Service(
        namespace=namespace or "default",
        name=short,
        uid=f"uid-{name}",
        type="LoadBalancer",
        cluster_ips=CLUSTER_IPS[family],
        ip_family_policy="RequireDualStack" if family == "dual" else "SingleStack",
        ports=(ServicePort("TCP", 80),),
        ingress_ips=ingress,
        resource_version="1",
    )
    return replace(base, **fields)


@dataclass
class World:
    """The API's side of it.  `settle` brings everything to rest."""

    objects: dict[str, PoolObject] = field(default_factory=dict)
    services: dict[str, Service] = field(default_factory=dict)
    namespaces: NamespaceLabels = field(default_factory=dict)
    allocator: Allocator = field(default_factory=Allocator)
    notices: list[Notice] = field(default_factory=list)
    writes: list[Write] = field(default_factory=list)
    """All that were applied, in order."""
    under_way: dict[str, Write] = field(default_factory=dict)
    audit: Callable[[World, Write], None] = lambda _world, _write: None
    """Looks at every write before it is under way."""
    _dirty: set[str] = field(default_factory=set)
    _version: int = 1

    def set_pools(self, *objects: PoolObject) -> None:
        """Raises ConfigError and changes nothing when they make no sense together."""
        parsed = parse_pools(objects)
        self.objects = {each.name: each for each in objects}
        self.allocator.configure(parsed)
        self._all_dirty()

    def set_namespaces(self, namespaces: NamespaceLabels) -> None:
        self.namespaces = namespaces
        self.allocator.set_namespaces(namespaces)
        self._all_dirty()

    def put(self, *services: Service) -> None:
        for each in services:
            self._version += 1
            self.services[each.key] = replace(each, resource_version=str(self._version))
            self._dirty.add(each.key)

    def change(self, name: str, **fields: Any) -> None:
        self.put(replace(self.services[key(name)], **fields))

    def annotate(self, name: str, **annotations: str) -> None:
        """With `pool`, `ips`, `share`; "" removes."""
        names = {"pool": "address-pool", "ips": "loadBalancerIPs", "share": "allow-shared-ip"}
        found = dict(self.services[key(name)].annotations)
        for short, value in annotations.items():
            found[f"metallb.io/{names[short]}"] = value
        self.change(name, annotations={name: value for name, value in found.items() if value})

    def delete(self, name: str) -> None:
        del self.services[key(name)]
        self._dirty.add(key(name))
        # Like the shell's: the write finds nobody, and the service is not busy any more.
        self.under_way.pop(key(name), None)

    def restart(self) -> None:
        """A new controller that knows nothing but the API."""
        self.under_way.clear()
        configured, self.allocator = self.allocator.configured, Allocator()
        self.allocator.set_namespaces(self.namespaces)
        if configured:
            self.allocator.configure(parse_pools(self.objects.values()))
        self._all_dirty()

    def turn(self) -> Plan:
        """One reconciliation; its writes are under way afterwards."""
        dirty, self._dirty = self._dirty, set()
        self._dirty |= dirty & self.under_way.keys()
        plan = self.allocator.reconcile(self.services, dirty, self.under_way.keys())
        assert not {write.service for write in plan.writes} & self.under_way.keys(), (
            "a busy service was decided"
        )
        for write in plan.writes:
            self.audit(self, write)
        self.notices.extend(plan.notices)
        self.under_way.update((write.service, write) for write in plan.writes)
        return plan

    def carry_out(self, name: str, *, lost: bool = False) -> None:
        """One write arrives; `lost` says it is refused because the service is another by now."""
        write = self.under_way.pop(key(name))
        self._dirty.add(key(name))
        found = self.services.get(write.service)
        if lost or found is None or found.resource_version != write.resource_version:
            return
        annotations = {name: value for name, value in found.annotations.items() if name != ALLOCATED_FROM}
        if write.pool:
            annotations[ALLOCATED_FROM] = write.pool
        self.put(replace(found, ingress_ips=write.addresses, annotations=annotations))
        self.writes.append(write)
        self.notices.extend(write.notices)
        self.allocator.settle(write.service)

    def settle(self, rng: random.Random | None = None, rounds: int = 50) -> None:
        """Turns and writes until there is nothing left to do."""
        for _ in range(rounds):
            self.turn()
            names = list(self.under_way)
            if rng is not None:
                rng.shuffle(names)
            for name in names:
                self.carry_out(name)
            if not names and not self._dirty:
                return
        raise AssertionError(f"no rest after {rounds} rounds: {self.under_way}")

    def _all_dirty(self) -> None:
        self._dirty |= self.services.keys() | self.allocator.ledger.claims.keys()

    # ---------------------------------------------------------------------- looking

    def ips(self, name: str) -> tuple[str, ...]:
        return self.services[key(name)].ingress_ips

    def said(self, reason: str) -> list[str]:
        return [notice.message for notice in self.notices if notice.reason == reason]

    def statuses(self) -> Mapping[str, tuple[Address, ...]]:
        found = {name: addresses_in(each) for name, each in self.services.items()}
        return {name: addresses for name, addresses in found.items() if addresses}


def key(name: str) -> str:
    return name if "/" in name else f"default/{name}"


def world(objects: Iterable[PoolObject], *services: Service) -> World:
    """A world at the start of a controller."""
    made = World()
    made.put(*services)
    made.set_pools(*objects)
    return made
