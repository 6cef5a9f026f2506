"""The controller is killed at each of its calls of the API in turn; the next one finds everything in order.

A kill is played by the transport: at the N-th call the request is never sent, or it is carried out and nobody
hears the answer; nothing is sent after it.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Mapping
from typing import Any

import pytest
import trio

from crier.kube.client import Api
from crier.kube.errors import unavailable
from crier.kube.model.annotations import ALLOCATED_FROM
from crier.kube.resources import SERVICES
from crier.kube.transport import Stream, Transport, plain_configuration
from tests.allocator.clusters import PATIENCE, Cluster, open_cluster, open_controller

SHARED = {"metallb.io/allow-shared-ip": "k"}


class Mortal(Transport):
    """Dies at the N-th request."""

    def __init__(self, url: str, lives: int, *, applied: bool) -> None:
        super().__init__(plain_configuration(url))
        self.died = trio.Event()
        self.last = ""
        self._lives = lives
        self._applied = applied
        self._lock = threading.Lock()
        self._token = trio.lowlevel.current_trio_token()

    def request(self, method: str, path: str, **options: Any) -> bytes:
        if not self._spend(f"{method} {path}"):
            return super().request(method, path, **options)
        if self._applied and self.last == f"{method} {path}":
            super().request(method, path, **options)
        self._token.run_sync_soon(self.died.set)
        raise unavailable("killed")

    def stream(self, path: str, *, query: Mapping[str, str], timeout: float) -> Stream:
        if not self._spend(f"WATCH {path}"):
            return super().stream(path, query=query, timeout=timeout)
        self._token.run_sync_soon(self.died.set)
        raise unavailable("killed")

    def _spend(self, what: str) -> bool:
        """True when this request is the last, or comes after it."""
        with self._lock:
            self._lives -= 1
            if self._lives == 0:
                self.last = what
            elif self._lives < 0:
                self._applied = False
            return self._lives <= 0


async def furnish(cluster: Cluster) -> None:
    """Some who have an address, some who want one, one who must lose it, and more wishes than addresses."""
    await cluster.add_pool("one", "192.0.2.0/30", "2001:db8::/126")
    await cluster.add_service("held")
    await cluster.add_service("leaves")
    async with open_controller(cluster):
        await cluster.until(lambda: cluster.ips("held") and cluster.ips("leaves"))
        await cluster.still("held")
    await cluster.patch_service("leaves", {"spec": {"loadBalancerIP": "192.0.2.3"}})
    await cluster.add_service("both", ipFamilyPolicy="RequireDualStack")
    await cluster.add_service("first", annotations=SHARED, ports=[{"port": 80, "name": "a"}])
    await cluster.add_service("second", annotations=SHARED, ports=[{"port": 81, "name": "a"}])
    await cluster.add_service("left-over")
    await cluster.add_service("too-many")


WANTED = ("held", "leaves", "both", "first", "second")


def served(cluster: Cluster) -> bool:
    return (
        all(cluster.ips(name) for name in WANTED)
        and cluster.ips("leaves") == ["192.0.2.3"]
        and len([name for name in ("left-over", "too-many") if cluster.ips(name)]) == spare(cluster)
    )


def spare(cluster: Cluster) -> int:
    """IPv4 addresses that are left to those who came last; the two who share may have one or two."""
    return 4 - len({cluster.ips(name)[0] for name in WANTED})


def check(cluster: Cluster) -> None:
    """What is true at every moment, also between the lives of two controllers."""
    holders: dict[str, list[str]] = {}
    for key, service in cluster.services.objects.items():
        for address in cluster.ips(key.partition("/")[2]):
            holders.setdefault(address, []).append(key)
            assert address.startswith(("192.0.2.", "2001:db8::")), "of the pool"
            assert service["metadata"]["annotations"][ALLOCATED_FROM] == "one"
    for address, keys in holders.items():
        assert len(keys) == 1 or sorted(keys) == ["default/first", "default/second"], f"{address}: {keys}"
    assert cluster.ips("held") == ["192.0.2.0"], "kept through every death"


async def die_and_recover(lives: int, *, applied: bool) -> str:
    """The call it died at; "" when it lived on until there was nothing left to do."""
    async with open_cluster() as cluster:
        await furnish(cluster)
        transport = Mortal(cluster.api.transport.host, lives, applied=applied)
        with trio.fail_after(PATIENCE):
            async with trio.open_nursery() as nursery:

                async def live() -> None:
                    async with open_controller(cluster, api=Api(transport)):
                        await cluster.until(lambda: served(cluster))
                        await cluster.still("held")
                    nursery.cancel_scope.cancel()

                nursery.start_soon(live)
                await transport.died.wait()
                nursery.cancel_scope.cancel()
        check(cluster)
        had = {
            name: cluster.ips(name)
            for name in (*WANTED, "left-over", "too-many")
            if cluster.ips(name) and name != "leaves"
        }
        async with open_controller(cluster) as controller:
            await cluster.until(lambda: served(cluster))
            await cluster.still("held")
            check(cluster)
            assert {name: cluster.ips(name) for name in had} == had, "no address changes without a reason"
            ledger = {
                key: [str(address) for address in claim.addresses]
                for key, claim in controller.allocator.ledger.claims.items()
            }
            statuses = {
                key: ips for key in cluster.services.objects if (ips := cluster.ips(key.partition("/")[2]))
            }
            assert ledger == statuses
            used = len({ip for ips in statuses.values() for ip in ips if ":" not in ip})
            await cluster.until(lambda: cluster.counters("one") == (used, 1, 4 - used, 3))
            await cluster.until(lambda: cluster.state().get("result") == "Valid")
            await cluster.api.delete(SERVICES, "held", namespace="default")
            await cluster.until(lambda: "default/held" not in controller.allocator.ledger.claims)
        return transport.last


@pytest.mark.parametrize("applied", [False, True], ids=["never sent", "never answered"])
async def test_killed_at_every_call(applied: bool) -> None:
    died_at: set[str] = set()
    for lives in itertools.count(1):
        last = await die_and_recover(lives, applied=applied)
        if not last:
            break
        died_at.add(last)
    # Requests go out side by side: which is the N-th is chance, that all sorts of them are hit is not.
    writes = {call for call in died_at if call.startswith("PUT /api/v1/") and call.endswith("/status")}
    events = {call for call in died_at if call.startswith("POST ") and call.endswith("/events")}
    watches = {call for call in died_at if call.startswith("WATCH ")}
    assert writes, f"the test did not get far enough to prove anything: {sorted(died_at)}"
    assert events
    assert watches
    assert len(died_at) >= 10
