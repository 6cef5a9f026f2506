"""From MetalLB to Crier and back, node by node, under the eyes of a client: docs/migrating.md as it is lived.

MetalLB's are its real programs, built from its Go module.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from itertools import cycle

import pytest
import trio

from crier.kube.model.node import EXCLUDE_LABEL
from crier.lab.cluster import Programs, Settings, our_programs
from crier.lab.errors import NotPossible
from crier.lab.kubelet import Kubelet
from crier.lab.peers import metallb
from crier.lab.rest import Rest
from crier.lab.services import CATALOGUE, NAMESPACE
from tests.migration.stage import PATIENCE, Stage, open_stage

pytestmark = pytest.mark.e2e

SERVICES = (CATALOGUE["web"], CATALOGUE["voice"], CATALOGUE["web6"])


@pytest.fixture(scope="module")
def theirs(progress: Callable[[str], None]) -> Programs:
    try:
        return metallb.programs(progress)
    except NotPossible as missing:
        pytest.skip(f"no MetalLB to move from: {missing}")


async def replace(stage: Stage, node: str, programs: Programs, owners: dict[str, str]) -> None:
    """What a rolling update does on a node: the old speaker ends, the new one starts.

    The owners are the same afterwards, because both kinds elect alike and know each other by gossip.
    """
    cluster = stage.cluster
    await cluster.stop_speaker(node)
    await others_have_all(stage, node, owners)
    cluster.programs = programs
    cluster.start_speaker(node)
    await stage.owners_become(owners)


async def replace_aside(stage: Stage, node: str, programs: Programs, owners: dict[str, str]) -> None:
    """The same by hand: the node is no candidate while its speaker is replaced, so nothing moves at the
    speaker's end and beginning, but at two words of the API that all speakers hear of at the same time.
    """
    cluster = stage.cluster
    await label(stage, node, "moving")
    await others_have_all(stage, node, owners)
    await cluster.stop_speaker(node)
    cluster.programs = programs
    await stage.start_speaker(node)
    await label(stage, node, None)
    await stage.owners_become(owners)


WAYS = (replace, replace_aside)


async def label(stage: Stage, node: str, value: str | None) -> None:
    change = {"metadata": {"labels": {EXCLUDE_LABEL: value}}}
    await trio.to_thread.run_sync(stage.cluster.kubelet.api.merge, f"/api/v1/nodes/{node}", change)


async def others_have_all(stage: Stage, node: str, owners: dict[str, str]) -> dict[str, str]:
    """Returns who answers without this node, once it is settled; whoever was not touched kept what it had."""
    found = await stage.owners(frozenset(stage.cluster.lan.nodes) - {node})
    untouched = {address: owner for address, owner in owners.items() if owner != node}
    assert {address: found[address] for address in untouched} == untouched
    return found


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
    """Some nodes as by a rolling update, the others as by hand."""
    ours = our_programs()
    async with open_stage(Settings(3, SERVICES, programs=theirs)) as stage:
        kubelet: Kubelet = stage.cluster.kubelet
        addresses = kubelet.addresses()
        owners = await stage.owners()
        for programs, name in ((ours, "Crier"), (theirs, "MetalLB")):
            for node, way in zip(stage.cluster.lan.nodes, cycle(WAYS), strict=False):
                since = time.monotonic()
                await way(stage, node, programs, owners)
                for address, record in (await stage.records(since)).items():
                    progress(
                        f"{node} to {name}, {way.__name__}: {address} at {owners[address]}: no answer for "
                        f"{record.asks.outage * 1000:.0f} ms, two for {record.asks.shared * 1000:.0f} ms, "
                        f"{record.probes.lost} of {record.probes.sent} probes lost"
                    )
                    assert record.probes.recovered
                    assert kubelet.addresses() == addresses
            await change_controller(stage, programs, addresses)
            assert await stage.owners() == owners
