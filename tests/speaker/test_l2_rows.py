"""The rows of MetalLB's L2 end-to-end suite as far as a planner decides them: objects change in the API, and
what the reflex is told, and what the world gets to hear, follows.  `test_rows` maps rows to tests.
"""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator
from typing import Any

import pytest

from crier.kube import resources
from tests.speaker.planner.lab import NODES, SPACE, Cluster, Speaker, open_cluster, running, soon, until
from tests.speaker.planner.test_program import assigned, statuses, told

IP = "10.20.30.2"
EXCLUDED = "node.kubernetes.io/exclude-from-external-load-balancers"


@pytest.fixture
async def cluster() -> AsyncIterator[Cluster]:
    async with open_cluster() as found:
        yield found


def hostname(*names: str) -> list[dict[str, Any]]:
    return [{"matchLabels": {"kubernetes.io/hostname": name}} for name in names]


def tier(*names: str) -> list[dict[str, Any]]:
    return [{"matchLabels": {"tier": name}} for name in names]


async def advertise(cluster: Cluster, name: str, **spec: Any) -> None:
    """Make the advertisement, or give it another spec."""
    if await cluster.found(resources.L2_ADVERTISEMENTS, name, SPACE) is None:
        await cluster.make(resources.L2_ADVERTISEMENTS, name, SPACE, spec=spec)
        return
    empty = dict.fromkeys(
        ("ipAddressPools", "ipAddressPoolSelectors", "nodeSelectors", "interfaces", "serviceSelectors")
    )
    await cluster.api.patch(resources.L2_ADVERTISEMENTS, name, {"spec": {**empty, **spec}}, namespace=SPACE)


async def label(cluster: Cluster, name: str, **labels: str | None) -> None:
    await cluster.api.patch(resources.SERVICES, name, {"metadata": {"labels": labels}}, namespace="default")


def candidates(speaker: Speaker, address: str = IP) -> tuple[str, ...]:
    """Of the address, none when it is not ordered."""
    orders = speaker.reflex.all_orders
    return next((vip.candidates for vip in orders[-1].vips if vip.address == address), ()) if orders else ()


async def until_candidates(speaker: Speaker, *expected: str, address: str = IP) -> None:
    await soon(lambda: candidates(speaker, address) == expected)


def interfaces(speaker: Speaker) -> tuple[str, ...] | None:
    return speaker.reflex.orders.vips[0].interfaces


# ---------------------------------------------------------------------------------------- node selectors


async def test_should_work_selecting_one_node(cluster: Cluster) -> None:
    await cluster.make_service("web", IP)
    async with running(cluster) as speaker:
        for node in (*NODES, *NODES):
            await advertise(cluster, "all", nodeSelectors=hostname(node))
            await until_candidates(speaker, node)


async def test_should_work_with_multiple_node_selectors(cluster: Cluster) -> None:
    """Two pools, an advertisement and a node for each: the node follows the pool."""
    await cluster.make_pool("second", "10.20.31.0/24")
    for name, pool, node in (("all", "default", "iris1"), ("other", "second", "iris2")):
        await advertise(cluster, name, ipAddressPools=[pool], nodeSelectors=hostname(node))
    await cluster.make_service("web", IP)
    async with running(cluster) as speaker:
        await until_candidates(speaker, "iris1")
        await cluster.assign("web", "10.20.31.2")
        await until_candidates(speaker, "iris2", address="10.20.31.2")
        assert speaker.reflex.addresses == ("10.20.31.2",)


async def test_should_work_when_adding_nodes(cluster: Cluster) -> None:
    await advertise(cluster, "all", nodeSelectors=[{"matchLabels": {"announces": "yes"}}])
    await cluster.make_service("web", IP)
    async with running(cluster) as speaker:
        await soon(lambda: speaker.reflex.all_orders)
        assert speaker.reflex.addresses == ()
        await cluster.api.patch(resources.NODES, "iris2", {"metadata": {"labels": {"announces": "yes"}}})
        await until_candidates(speaker, "iris2")
        metadata = {"labels": {"announces": "yes", "kubernetes.io/hostname": "iris3"}}
        await cluster.make(resources.NODES, "iris3", metadata=metadata)
        await soon(lambda: set(candidates(speaker)) == {"iris2", "iris3"})


@pytest.mark.parametrize("how", ["NetworkUnavailable", "NodeExcludeBalancers"])
async def test_the_leader_moves_away_and_returns_to_the_same_node(cluster: Cluster, how: str) -> None:
    await cluster.make_service("web", IP)

    async def exclude(away: bool) -> None:
        if how == "NetworkUnavailable":
            condition = {"type": how, "status": "True" if away else "False"}
            await cluster.set_status(resources.NODES, "iris1", None, {"conditions": [condition]})
        else:
            metadata = {"labels": {EXCLUDED: "" if away else None}}
            await cluster.api.patch(resources.NODES, "iris1", {"metadata": metadata})

    async with running(cluster) as one, running(cluster, node="iris2") as two:
        for away in (False, True, False):
            await exclude(away)
            for speaker in (one, two):
                await until_candidates(speaker, *(("iris2",) if away else ("iris1", "iris2")))
                await speaker.reflex.obey()
            await statuses(cluster, {("iris2" if away else "iris1", "web")})
        await told(cluster, assigned("web", count=2), assigned("web", "iris2"))


# ------------------------------------------------------------------------------------- interface selector


async def test_modify_l2_interface(cluster: Cluster) -> None:
    await advertise(cluster, "all", interfaces=["eth0"])
    await cluster.make_service("web", IP)
    async with running(cluster) as speaker:
        await speaker.settle(IP)
        restrictions = set()
        for names in (["eth0"], ["eth1"], ["eth0", "eth1"], None):
            await advertise(cluster, "all", interfaces=names)
            expected = None if names is None else tuple(names)
            await soon(lambda: interfaces(speaker) == expected)  # noqa: B023
            restrictions.add(speaker.reflex.orders.vips[0].restriction)
        assert len(restrictions) == 4, "and every list is told from every other"


async def test_address_pool_connected_with_two_l2_advertisements(cluster: Cluster) -> None:
    await advertise(cluster, "all", interfaces=["eth0"])
    await advertise(cluster, "other", interfaces=["eth1"])
    await cluster.make_service("web", IP)
    async with running(cluster) as speaker:
        await speaker.settle(IP)
        assert interfaces(speaker) == ("eth0", "eth1")


async def test_interface_and_node_selector_combined(cluster: Cluster) -> None:
    await advertise(cluster, "all", interfaces=["eth0"], nodeSelectors=hostname("iris1"))
    await advertise(cluster, "other", interfaces=["eth1"], nodeSelectors=hostname("iris2"))
    await cluster.make_service("web", IP)
    async with running(cluster) as one, running(cluster, node="iris2") as two:
        for speaker, interface in ((one, "eth0"), (two, "eth1")):
            await until_candidates(speaker, "iris1", "iris2")
            assert interfaces(speaker) == (interface,)


async def test_specify_not_existing_interfaces(cluster: Cluster) -> None:
    await advertise(cluster, "all", interfaces=["bogus0"])
    await cluster.make_service("web", IP)
    async with running(cluster) as speaker:
        await soon(lambda: speaker.reflex.addresses == (IP,))
        await speaker.reflex.obey(missing=[IP])
        text = (
            f'the interfaces specified by LB IP "{IP}" doesn\'t exist in assigned node "iris1" '
            'with protocol "layer2"'
        )
        await told(cluster, assigned("web"), ("web", "announceFailed", text, 1))


# --------------------------------------------------------------------------------------- service selector


async def test_only_services_matching_both_pool_and_service_selectors(cluster: Cluster) -> None:
    """And labels that change withdraw and restore."""
    await cluster.make_pool("second", "10.20.31.0/24")
    await advertise(cluster, "all", ipAddressPools=["default"], serviceSelectors=tier("front"))
    await cluster.make_service("web", IP)
    await cluster.make_service("elsewhere", "10.20.31.2")
    async with running(cluster) as speaker:
        await soon(lambda: speaker.reflex.all_orders)
        assert speaker.reflex.addresses == ()
        await label(cluster, "elsewhere", tier="front")
        await label(cluster, "web", tier="front")
        await speaker.settle(IP)
        await label(cluster, "web", tier="back")
        await speaker.settle()
        await label(cluster, "web", tier="front")
        await speaker.settle(IP)


async def test_exactly_one_node_when_both_advertisements_match(cluster: Cluster) -> None:
    for name, node in (("all", "iris1"), ("other", "iris2")):
        await advertise(cluster, name, serviceSelectors=tier("front"), nodeSelectors=hostname(node))
    await cluster.make_service("web", IP)
    await label(cluster, "web", tier="front")
    async with running(cluster) as one, running(cluster, node="iris2") as two:
        for speaker in (one, two):
            await until_candidates(speaker, "iris1", "iris2")
            await speaker.reflex.obey()
        await statuses(cluster, {("iris1", "web")})


async def test_nobody_when_no_advertisement_matches_service_and_node(cluster: Cluster) -> None:
    await advertise(cluster, "all", serviceSelectors=tier("front"), nodeSelectors=hostname("iris1"))
    await advertise(cluster, "other", serviceSelectors=tier("back"), nodeSelectors=hostname("nobody"))
    await cluster.make_service("web", IP)
    await label(cluster, "web", tier="back")
    async with running(cluster) as speaker:
        await soon(lambda: "default/web" in speaker.program.plan.verdicts)
        assert speaker.program.plan.verdicts["default/web"].objection is not None
        assert speaker.reflex.addresses == ()


async def test_or_logic_for_multiple_selectors(cluster: Cluster) -> None:
    await advertise(cluster, "all", serviceSelectors=tier("front", "back"))
    await cluster.make_service("web", IP)
    async with running(cluster) as speaker:
        for value, expected in (("front", (IP,)), ("other", ()), ("back", (IP,))):
            await label(cluster, "web", tier=value)
            await speaker.settle(*expected)


# --------------------------------------------------------------------------------------------- the service


async def test_services_sharing_an_address_are_announced_from_one_node(cluster: Cluster) -> None:
    """Although their endpoints are on different nodes."""
    await cluster.make_service("web", IP)
    await cluster.make_service("dns", IP)
    where = {"endpoints": [{"addresses": ["10.1.0.9"], "nodeName": "iris2", "conditions": {"ready": True}}]}
    await cluster.api.patch(resources.ENDPOINT_SLICES, "dns-1", where, namespace="default")
    async with running(cluster) as one, running(cluster, node="iris2") as two:
        for speaker in (one, two):
            await speaker.settle(IP)
            assert speaker.reflex.orders.vips[0].services == ("default/dns", "default/web")
        await statuses(cluster, {("iris1", "web"), ("iris1", "dns")})


async def test_external_traffic_policy_local_follows_the_endpoints(cluster: Cluster) -> None:
    await cluster.make_service("web", IP, externalTrafficPolicy="Local")
    async with running(cluster) as speaker:
        for nodes in (("iris1",), ("iris2",), ("iris1", "iris2"), ("iris2",)):
            endpoints = [
                {"addresses": [f"10.1.0.{n}"], "nodeName": node, "conditions": {"ready": True}}
                for n, node in enumerate(nodes, 1)
            ]
            await cluster.api.patch(
                resources.ENDPOINT_SLICES, "web-1", {"endpoints": endpoints}, namespace="default"
            )
            await until_candidates(speaker, *nodes)


async def test_a_service_of_another_class_is_not_ours(cluster: Cluster) -> None:
    await cluster.make_service("foreign", "10.20.30.9", loadBalancerClass="foo")
    await cluster.make_service("web", IP)
    async with running(cluster) as ours, running(cluster, "--lb-class=foo", node="iris2") as theirs:
        await ours.settle(IP)
        await theirs.settle("10.20.30.9")


@pytest.mark.parametrize("how", ["another type", "deleted"])
async def test_a_service_that_ends_takes_its_status_and_series_with_it(cluster: Cluster, how: str) -> None:
    await cluster.make_service("web", IP)
    async with running(cluster) as speaker:
        await speaker.settle(IP)
        await statuses(cluster, {("iris1", "web")})

        async def announced() -> bool:
            return b'metallb_speaker_announced{service="default/web"' in (await speaker.fetch("/metrics"))[1]

        await until(announced, bool)
        if how == "deleted":
            await cluster.api.delete(resources.SERVICES, "web", namespace="default")
        else:
            patch = {"spec": {"type": "ClusterIP"}}
            await cluster.api.patch(resources.SERVICES, "web", patch, namespace="default")
        await speaker.settle()
        await statuses(cluster, set())
        await until(announced, lambda found: not found)


async def test_pools_of_ranges_and_of_prefixes(cluster: Cluster) -> None:
    await cluster.make_pool("range", "10.20.32.5-10.20.32.9")
    await cluster.make_pool("prefix", "10.20.33.0/30")
    inside = ("10.20.32.5", "10.20.32.9", "10.20.33.0", "10.20.33.3")
    for number, address in enumerate((*inside, "10.20.32.10", "10.20.33.4")):
        await cluster.make_service(f"s{number}", address)
    async with running(cluster) as speaker:
        await soon(lambda: sorted(speaker.reflex.addresses) == sorted(inside))


async def test_mass_endpoint_churn_moves_nothing_it_need_not(cluster: Cluster) -> None:
    """Endpoints come and go by the dozen; as long as one is servable there is nothing to tell."""
    await cluster.make_service("web", IP)
    async with running(cluster) as speaker:
        await speaker.settle(IP)
        before = len(speaker.reflex.all_orders)
        for first in range(1, 200, 20):
            endpoints = [
                {"addresses": [f"10.1.0.{n}"], "nodeName": node, "conditions": {"ready": ready}}
                for n, (node, ready) in enumerate(itertools.product(NODES, (True, False)), first)
            ]
            await cluster.api.patch(
                resources.ENDPOINT_SLICES, "web-1", {"endpoints": endpoints}, namespace="default"
            )
        await cluster.make_service("last", "10.20.30.3")
        await soon(lambda: "10.20.30.3" in speaker.reflex.addresses)
        assert len(speaker.reflex.all_orders) == before + 1
        assert candidates(speaker) == ("iris1", "iris2")
