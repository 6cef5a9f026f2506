"""From MetalLB to Crier and back, node by node, under the eyes of a client: docs/migrating.md as it is lived.

MetalLB's are its real programs, built from its Go module.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Callable

import pytest
import trio

from crier.lab.cluster import Programs, Settings, our_programs
from crier.lab.errors import NotPossible
from crier.lab.kubelet import Kubelet
from crier.lab.peers import metallb
from crier.lab.rest import Rest
from crier.lab.services import CATALOGUE, NAMESPACE
from tests.lab.conftest import progress
from tests.migration.stage import PATIENCE, Stage, open_stage

__all__ = ["progress"]

pytestmark = pytest.mark.e2e

SERVICES = (CATALOGUE["web"], CATALOGUE["voice"], CATALOGUE["web6"])


@pytest.fixture(scope="module")
def theirs(progress: Callable[[str], None]) -> Programs:
    try:
        return metallb.programs(progress)
    except NotPossible as missing:
        pytest.skip(f"no MetalLB to move from: {missing}")


async def replace(stage: Stage, node: str, programs: Programs, owners: dict[str, str]) -> dict[str, str]:
    """What a rolling update does on a node: the old speaker ends, the new one starts.

    The owners are the same afterwards, because both kinds elect alike and know each other by gossip.
    """
    cluster = stage.cluster
    rest = frozenset(cluster.lan.nodes) - {node}
    await cluster.stop_speaker(node)
    between = await stage.owners(rest)
    assert {a: o for a, o in between.items() if owners[a] != node} == {
        a: o for a, o in owners.items() if o != node
    }, "whoever was not touched kept what it had"
    cluster.programs = programs
    cluster.start_speaker(node)
    await stage.owners_become(owners)
    return between


async def change_controller(stage: Stage, programs: Programs, addresses: dict[str, list[str]]) -> None:
    """One ends before the other begins; nobody's address changes, and a new Service gets one."""
    cluster = stage.cluster
    old = cluster.processes.all["controller"]
    old.expected = True
    old.send(signal.SIGTERM)
    await old.wait(PATIENCE)
    cluster.programs = programs
    await cluster.start_controller()
    api: Rest = cluster.kubelet.api
    path = f"/api/v1/namespaces/{NAMESPACE}/services"
    name = f"after-{cluster.processes.all['controller'].pid}"
    spec = {"type": "LoadBalancer", "ports": [{"port": 80}], "clusterIP": "10.96.77.77"}
    await trio.to_thread.run_sync(api.create, path, {"metadata": {"name": name}, "spec": spec})

    def given() -> list[str]:
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            found = (api.get(f"{path}/{name}") or {}).get("status", {}).get("loadBalancer", {})
            if ingress := found.get("ingress"):
                return [entry["ip"] for entry in ingress]
            time.sleep(0.1)
        pytest.fail("the new controller gives no address")

    new = await trio.to_thread.run_sync(given)
    assert new[0] not in {each for those in addresses.values() for each in those}
    assert cluster.kubelet.addresses() == addresses
    await trio.to_thread.run_sync(api.delete, f"{path}/{name}")


async def test_there_and_back_again(theirs: Programs, progress: Callable[[str], None]) -> None:
    ours = our_programs()
    async with open_stage(Settings(3, SERVICES, programs=theirs)) as stage:
        kubelet: Kubelet = stage.cluster.kubelet
        addresses = kubelet.addresses()
        owners = await stage.owners()
        for programs, name in ((ours, "Crier"), (theirs, "MetalLB")):
            for node in stage.cluster.lan.nodes:
                since = time.monotonic()
                await replace(stage, node, programs, owners)
                for address, record in (await stage.records(since)).items():
                    progress(
                        f"{node} to {name}: {address} at {owners[address]}: no answer for "
                        f"{record.asks.outage * 1000:.0f} ms, two for {record.asks.shared * 1000:.0f} ms, "
                        f"{record.probes.lost} of {record.probes.sent} probes lost"
                    )
                    assert record.probes.recovered
                    assert kubelet.addresses() == addresses
            await change_controller(stage, programs, addresses)
            assert await stage.owners() == owners
