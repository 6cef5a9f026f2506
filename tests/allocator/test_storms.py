"""The whole controller on an API that fails in every way it can, while people edit and it is restarted.

Each seed is a history.  When the storm is over everything comes to rest, and what must always be true is.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
import trio

from crier.kube.client import Api
from crier.kube.errors import ApiError, NotFound
from crier.kube.resources import IP_ADDRESS_POOLS, SERVICES
from crier.kube.transport import Stream, Transport, plain_configuration
from crier.lab.api import Rule
from tests.allocator.clusters import PATIENCE, SYSTEM, Cluster, Embedded, open_cluster, open_controller

NAMES = [f"s{number}" for number in range(8)]
STEPS = 30
POOL_SPECS: list[list[str]] = [
    ["192.0.2.0/29", "2001:db8::/125"],
    ["192.0.2.0/30", "2001:db8::/126"],
    ["192.0.2.0/29", "198.51.100.0/30", "2001:db8::/125"],
]


class Stuttering(Transport):
    """Its watches tell some things twice, and some that are long past again."""

    def __init__(self, url: str, rng: random.Random) -> None:
        super().__init__(plain_configuration(url))
        self._rng = rng

    def stream(self, path: str, *, query: Mapping[str, str], timeout: float) -> Stream:
        return _Stutter(super().stream(path, query=query, timeout=timeout), self._rng)


class _Stutter(Stream):
    def __init__(self, inner: Stream, rng: random.Random) -> None:
        self._inner = inner
        self._rng = rng
        self._past: list[bytes] = []

    def batches(self) -> Iterator[list[bytes]]:
        for lines in self._inner.batches():
            self._past = [*self._past, *lines][-20:]
            again = [line for line in self._past if self._rng.random() < 0.2 and b'"ERROR"' not in line]
            yield [*lines, *again]

    def close(self) -> None:
        self._inner.close()

    def abort(self) -> None:
        self._inner.abort()


class Storm:
    def __init__(self, cluster: Embedded, rng: random.Random) -> None:
        self.cluster = cluster
        self.rng = rng

    async def step(self) -> None:
        """Something happens.  What the API refuses did not happen."""
        act = self.rng.choice(
            [
                *[self.create] * 4, self.delete, self.share, self.request, self.edit_status, self.edit_pool,
                self.retype, self.trouble, self.trouble, self.calm,
            ]
        )  # fmt: skip
        try:
            await act()
        except ApiError:
            return

    async def create(self) -> None:
        policy = self.rng.choice(["SingleStack", "SingleStack", "PreferDualStack", "RequireDualStack"])
        await self.cluster.add_service(self.rng.choice(NAMES), ipFamilyPolicy=policy)

    async def delete(self) -> None:
        await self.cluster.api.delete(SERVICES, self.rng.choice(NAMES), namespace="default")

    async def share(self) -> None:
        key = self.rng.choice(["k", "k", None])
        port = self.rng.choice([80, 81, 82])
        notes = {"metadata": {"annotations": {"metallb.io/allow-shared-ip": key}}}
        spec = {"spec": {"ports": [{"port": port, "name": "http"}]}}
        await self.cluster.patch_service(self.rng.choice(NAMES), {**notes, **spec})

    async def request(self) -> None:
        address = self.rng.choice(["", "192.0.2.1", "192.0.2.6", "203.0.113.1", "nonsense"])
        await self.cluster.patch_service(self.rng.choice(NAMES), {"spec": {"loadBalancerIP": address}})

    async def edit_status(self) -> None:
        """By a hand that has no business there."""
        ingress = self.rng.choice([[], [{"ip": "203.0.113.9"}], [{"hostname": "h.example"}]])
        body = {"status": {"loadBalancer": {"ingress": ingress}}}
        await self.cluster.patch_service(self.rng.choice(NAMES), body, "status")

    async def edit_pool(self) -> None:
        spec = {"spec": {"addresses": self.rng.choice(POOL_SPECS)}}
        await self.cluster.api.patch(IP_ADDRESS_POOLS, "one", spec, namespace=SYSTEM)

    async def retype(self) -> None:
        kind = self.rng.choice(["ClusterIP", "LoadBalancer"])
        await self.cluster.patch_service(self.rng.choice(NAMES), {"spec": {"type": kind}})

    async def trouble(self) -> None:
        rng, faults = self.rng, self.cluster.faults
        match rng.randrange(4):
            case 0:
                faults.drop_watches()
            case 1:
                faults.forget_history()
                faults.drop_watches()
            case _:
                rule = Rule(
                    verb=rng.choice(["update", "list", "watch", "get"]),
                    resource="*",
                    status=rng.choice([409, 429, 500, 503, 504]),
                    share=rng.choice([0.3, 1.0]),
                    retry_after=0,
                    times=rng.randint(1, 4),
                    applied=rng.random() < 0.5,
                )
                faults.set(rule)

    async def calm(self) -> None:
        await trio.sleep(self.rng.random() * 0.05)


def check(cluster: Cluster, claims: Mapping[str, tuple[str, ...]]) -> None:
    holders: dict[str, list[str]] = {}
    for key, found in cluster.services.objects.items():
        name = key.partition("/")[2]
        held = cluster.ips(name)
        assert tuple(held) == claims.get(key, ()), f"{key}: the status is not what the ledger says"
        for address in held:
            assert address.startswith(("192.0.2.", "198.51.100.", "2001:db8::")), f"{key}: {address}"
            holders.setdefault(address, []).append(key)
        assert found["spec"]["type"] == "LoadBalancer" or not held
    for address, keys in holders.items():
        objects = [cluster.services.objects[key] for key in keys]
        if len(keys) > 1:
            sharing = {
                (each["metadata"].get("annotations") or {}).get("metallb.io/allow-shared-ip")
                for each in objects
            }
            assert sharing == {"k"}, f"{address}: {keys}"
            ports = [port["port"] for each in objects for port in each["spec"]["ports"]]
            assert len(ports) == len(set(ports)), f"{address}: {keys}"


async def at_rest(cluster: Cluster, controller: Any) -> dict[str, tuple[str, ...]]:
    """The claims, once nothing is under way and the test has seen all that the controller has."""

    def versions(objects: Mapping[str, Any]) -> dict[str, str]:
        return {key: each["metadata"]["resourceVersion"] for key, each in objects.items()}

    def calm() -> bool:
        seen = {key: each.resource_version for key, each in controller.services.objects.items()}
        return not controller._busy and not controller._again and seen == versions(cluster.services.objects)

    with trio.fail_after(PATIENCE):
        quiet = 0
        while quiet < 5:  # what is to follow from the last change follows within a turn
            quiet = quiet + 1 if calm() else 0
            await trio.sleep(0.02)
    return {
        key: tuple(str(address) for address in claim.addresses)
        for key, claim in controller.allocator.ledger.claims.items()
    }


@pytest.mark.parametrize("seed", range(12))
async def test_after_the_storm(seed: int) -> None:
    rng = random.Random(seed)
    async with open_cluster(seed=seed) as cluster:
        await cluster.add_pool("one", *POOL_SPECS[0])
        storm = Storm(cluster, rng)
        api = Api(Stuttering(cluster.api.transport.host, rng))
        for _ in range(3):  # lives of a controller, each ended in the middle of whatever it does
            async with open_controller(cluster, api=api):
                for _ in range(STEPS // 3):
                    await storm.step()
        cluster.faults.clear()
        async with open_controller(cluster, api=api) as controller:
            await marker(cluster)
            claims = await at_rest(cluster, controller)
            check(cluster, claims)
            before = {key: cluster.ips(key.partition("/")[2]) for key in cluster.services.objects}
        async with open_controller(cluster, api=api) as controller:
            claims = await at_rest(cluster, controller)
            check(cluster, claims)
            after = {key: cluster.ips(key.partition("/")[2]) for key in cluster.services.objects}
        assert after == before, "a restart moves nobody"
        api.close()


async def marker(cluster: Cluster) -> None:
    """The test's own watch has got over the storm, too."""
    with trio.fail_after(PATIENCE):
        while True:
            try:
                await cluster.api.delete(SERVICES, "s0", namespace="default")
            except NotFound:
                break
            except ApiError:
                continue
        await cluster.until(lambda: "default/s0" not in cluster.services.objects)
        await cluster.add_service_at_last("s0")
        await cluster.until(lambda: "default/s0" in cluster.services.objects)
