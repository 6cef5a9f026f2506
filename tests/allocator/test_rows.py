"""What MetalLB's end-to-end tests hold about addresses, with the whole controller on both API servers."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from allocator import report
from crier.kube import resources
from crier.kube.resources import IP_ADDRESS_POOLS, NAMESPACES, SERVICES, Resource
from tests.allocator.clusters import SYSTEM, Cluster, open_controller
from tests.allocator.conftest import Opened

SHARED = {"metallb.io/allow-shared-ip": "k"}
WEB = {"matchLabels": {"app": "web"}}


async def set_pool(cluster: Cluster, name: str, *addresses: str) -> None:
    body = {"spec": {"addresses": addresses}}
    await cluster.api.patch(IP_ADDRESS_POOLS, name, body, namespace=SYSTEM)


async def has(cluster: Cluster, name: str, *addresses: str) -> None:
    """Returns when it has exactly these."""
    await cluster.until(lambda: cluster.ips(name) == list(addresses))


async def waits(cluster: Cluster, name: str, why: str) -> None:
    """Returns when it has no address and an event says why."""

    def told() -> bool:
        return any(who == name and why in text for who, text, _ in cluster.told("AllocationFailed"))

    await cluster.until(lambda: told() and not cluster.ips(name))


async def test_requested_addresses_and_pools(opened: Opened) -> None:
    """By field and by annotation, with the prefix of today and the one of yesterday."""
    async with opened() as cluster, open_controller(cluster):
        await cluster.add_pool("auto", "192.0.2.0 - 192.0.2.99")
        await cluster.add_pool("by-request", "198.51.100.0/28", "2001:db8::/124", autoAssign=False)
        await cluster.add_service("field", load_balancer_ip="192.0.2.7")
        await cluster.add_service("moves", annotations={"metallb.io/address-pool": "by-request"})
        for number, prefix in enumerate(("metallb.io", "metallb.universe.tf")):
            await cluster.add_service(
                f"ips-{number}", annotations={f"{prefix}/loadBalancerIPs": f"198.51.100.{number + 4}"}
            )
            await cluster.add_service(
                f"both-{number}",
                ipFamilyPolicy="RequireDualStack",
                annotations={f"{prefix}/loadBalancerIPs": f"2001:db8::{number + 4}, 198.51.100.{number + 8}"},
            )
            await has(cluster, f"ips-{number}", f"198.51.100.{number + 4}")
            await has(cluster, f"both-{number}", f"2001:db8::{number + 4}", f"198.51.100.{number + 8}")
        await has(cluster, "field", "192.0.2.7")
        await has(cluster, "moves", "198.51.100.0")
        await cluster.until(lambda: len(cluster.told("deprecatedAnnotation")) == 2)
        note: dict[str, Any] = {"metadata": {"annotations": {"metallb.io/address-pool": "auto"}}}
        await cluster.patch_service("moves", note)
        await has(cluster, "moves", "192.0.2.0")
        note["metadata"]["annotations"] = {"metallb.io/address-pool": "nowhere"}
        await cluster.patch_service("moves", note)
        await waits(
            cluster, "moves", 'unknown pool "nowhere" (auto: not requested; by-request: not requested)'
        )
        await cluster.add_pool("nowhere", "203.0.113.0/28")
        await has(cluster, "moves", "203.0.113.0")


async def test_holders_keep_theirs_through_five_restarts(opened: Opened) -> None:
    async with opened() as cluster:
        await cluster.add_pool("one", "192.0.2.0/31")
        async with open_controller(cluster):
            for name in ("a", "b"):
                await cluster.add_service(name)
                await cluster.until(partial(cluster.ips, name))
            for name in ("c", "d"):
                await cluster.add_service(name)
                await waits(cluster, name, "no available IPs")
        before = {name: cluster.ips(name) for name in "abcd"}
        for _ in range(5):
            async with open_controller(cluster):
                await cluster.still("a")
                assert {name: cluster.ips(name) for name in "abcd"} == before
        assert cluster.sent["PUT services status"] == 2


@pytest.mark.parametrize("end", ["delete", "retype"])
async def test_what_is_released_goes_to_who_waits(opened: Opened, end: str) -> None:
    async with opened() as cluster, open_controller(cluster):
        await cluster.add_pool("one", "192.0.2.0/32", "2001:db8::/128")
        await cluster.add_service("first", ipFamilyPolicy="RequireDualStack")
        await has(cluster, "first", "192.0.2.0", "2001:db8::")
        await cluster.add_service("second", ipFamilyPolicy="RequireDualStack")
        await waits(cluster, "second", "no available IPs (one: no available IPs in pool one for dual")
        if end == "delete":
            await cluster.api.delete(SERVICES, "first", namespace="default")
        else:
            await cluster.patch_service("first", {"spec": {"type": "ClusterIP"}})
        await has(cluster, "second", "192.0.2.0", "2001:db8::")
        await cluster.until(lambda: cluster.counters("one") == (1, 1, 0, 0))


async def test_sharing_is_considered_again_when_conditions_change(opened: Opened) -> None:
    async with opened() as cluster, open_controller(cluster):
        await cluster.add_pool("one", "192.0.2.0/32")
        await cluster.add_service("a", annotations=SHARED)
        await has(cluster, "a", "192.0.2.0")
        await cluster.add_service("port", annotations=SHARED)
        await cluster.add_service("key", annotations={"metallb.io/allow-shared-ip": "other"})
        await cluster.add_service("b", annotations=SHARED, ports=[{"port": 443, "name": "https"}])
        await has(cluster, "b", "192.0.2.0")
        for name in ("port", "key"):
            await waits(
                cluster, name, "no available IPs (one: no available IPs in pool one for ipv4 IPFamily)"
            )
        # whose policy no longer fits has to leave, and comes back when it fits again
        local = {"spec": {"externalTrafficPolicy": "Local", "selector": {"app": "b"}}}
        await cluster.patch_service("b", local)
        await waits(cluster, "b", "no available IPs")
        await cluster.until(lambda: len(cluster.told("ClearAssignment")) == 1)
        await cluster.patch_service("b", {"spec": {"externalTrafficPolicy": "Cluster"}})
        await has(cluster, "b", "192.0.2.0")
        await has(cluster, "a", "192.0.2.0")
        # a port that becomes free, and a key that becomes the same
        await cluster.patch_service("a", {"spec": {"ports": [{"port": 81, "name": "http"}]}})
        await has(cluster, "port", "192.0.2.0")
        note = {"metadata": {"annotations": SHARED}}
        await cluster.patch_service("key", {**note, "spec": {"ports": [{"port": 82, "name": "http"}]}})
        await has(cluster, "key", "192.0.2.0")
        await cluster.until(lambda: cluster.counters("one") == (1, 0, 0, 0))


async def test_pools_come_shrink_and_go(opened: Opened) -> None:
    async with opened() as cluster, open_controller(cluster):
        await cluster.add_pool("one", "192.0.2.0/30")
        await cluster.add_pool("two", "198.51.100.0/30")
        for name in ("a", "b"):
            await cluster.add_service(name)
            await cluster.until(partial(cluster.ips, name))
        assert (cluster.ips("a"), cluster.ips("b")) == (["192.0.2.0"], ["192.0.2.1"])
        # shrunk under an address that is in use: only who has it moves
        await set_pool(cluster, "one", "192.0.2.0/32")
        await has(cluster, "b", "198.51.100.0")
        assert cluster.ips("a") == ["192.0.2.0"]
        await cluster.until(lambda: [name for name, _, _ in cluster.told("ClearAssignment")] == ["b"])
        await cluster.until(lambda: cluster.counters("one") == (1, 0, 0, 0))
        # given another name, the new one first: nobody moves, but says where the address is from now
        await cluster.add_pool("renamed", "198.51.100.0/24")
        await cluster.until(lambda: cluster.state().get("result") == "Invalid")
        await cluster.api.delete(IP_ADDRESS_POOLS, "two", namespace=SYSTEM)
        await cluster.until(lambda: cluster.pool_of("b") == "renamed")
        assert cluster.ips("b") == ["198.51.100.0"]
        await cluster.still("b")
        assert [name for name, _, _ in cluster.told("ClearAssignment")] == ["b"], "no more than before"
        await cluster.api.delete(IP_ADDRESS_POOLS, "one", namespace=SYSTEM)
        await cluster.until(lambda: cluster.ips("a") and cluster.ips("a")[0].startswith("198.51.100."))
        await cluster.api.delete(IP_ADDRESS_POOLS, "renamed", namespace=SYSTEM)
        for name in ("a", "b"):
            await waits(cluster, name, "no available IPs (no pool is configured)")
            assert cluster.pool_of(name) == ""


async def test_pools_for_namespaces_and_labels_in_their_order(opened: Opened) -> None:
    async with opened() as cluster, open_controller(cluster):
        gold = {"metadata": {"labels": {"tier": "gold"}}}
        await cluster.api.patch(NAMESPACES, "default", {"metadata": {"labels": {"tier": None}}})
        by_namespace = {"namespaceSelectors": [{"matchLabels": {"tier": "gold"}}], "priority": 10}
        await cluster.add_pool("first", "192.0.2.0/32", serviceAllocation=by_namespace)
        await cluster.add_pool(
            "second",
            "192.0.2.1/32",
            serviceAllocation={"namespaces": ["default"], "serviceSelectors": [WEB], "priority": 20},
        )
        await cluster.add_pool("third", "192.0.2.2/32", serviceAllocation={"priority": 30})
        await cluster.add_pool("anybody", "192.0.2.3/32")
        await cluster.add_service("plain")
        await has(cluster, "plain", "192.0.2.2")
        # another label of its namespace counts for the next one, and moves nobody
        await cluster.api.patch(NAMESPACES, "default", gold)
        await cluster.add_service("golden")
        await has(cluster, "golden", "192.0.2.0")
        await cluster.add_service("unprioritised")
        await has(cluster, "unprioritised", "192.0.2.3")
        await cluster.add_service("left-over")
        why = (
            "no available IPs (anybody: no available IPs in pool anybody for ipv4 IPFamily; "
            "first: no available IPs in pool first for ipv4 IPFamily; "
            "second: no serviceSelector matches the service's labels; "
            "third: no available IPs in pool third for ipv4 IPFamily)"
        )
        await waits(cluster, "left-over", why)
        await cluster.patch_service("left-over", {"metadata": {"labels": {"app": "web"}}})
        await has(cluster, "left-over", "192.0.2.1")
        await cluster.patch_service("left-over", {"metadata": {"labels": {"app": "db"}}})
        await waits(cluster, "left-over", why)
        assert cluster.ips("plain") == ["192.0.2.2"]


async def test_dual_stack_comes_and_goes(opened: Opened) -> None:
    """A living Service and its pools through every policy and family."""
    four, six = "192.0.2.0/31", "2001:db8::/127"
    async with opened() as cluster, open_controller(cluster):

        async def policy(name: str, wanted: str, *families: str) -> None:
            spec: dict[str, Any] = {"ipFamilyPolicy": wanted}
            if families:  # who goes back to one family has to say so of the cluster's addresses, too
                found = cluster.services.objects["default/s"]["spec"]
                spec |= {"ipFamilies": families, "clusterIPs": found["clusterIPs"][: len(families)]}
            await cluster.patch_service(name, {"spec": spec})

        await cluster.add_pool("p", four)
        await cluster.add_service("s", ipFamilyPolicy="PreferDualStack")
        await has(cluster, "s", "192.0.2.0")
        why = "no available IPs in pool p for ipv6 IPFamily (p: has no ipv6 addresses)"
        failed = f"cannot assign additional IP in PreferDualStack: {why}"
        await cluster.until(lambda: cluster.told("AdditionalAssignFailed") == [("s", failed, 1)])
        # it does not leave for a pool that has both
        await cluster.add_pool("dual", "198.51.100.0/31", "2001:db8:9::/127", autoAssign=False)
        await cluster.still("s")
        assert cluster.ips("s") == ["192.0.2.0"]
        await policy("s", "RequireDualStack")
        await waits(cluster, "s", "no available IPs (dual: autoAssign is false; p: is not dual-stack)")
        await policy("s", "PreferDualStack")
        await has(cluster, "s", "192.0.2.0")
        # its pool gets the other family
        await set_pool(cluster, "p", four, six)
        await has(cluster, "s", "192.0.2.0", "2001:db8::")
        await policy("s", "RequireDualStack")
        await cluster.still("s")
        assert cluster.ips("s") == ["192.0.2.0", "2001:db8::"]
        # down to one family and up again
        await policy("s", "SingleStack", "IPv4")
        await has(cluster, "s", "192.0.2.0")
        await policy("s", "PreferDualStack")
        await has(cluster, "s", "192.0.2.0", "2001:db8::")
        # its pool loses a family
        await set_pool(cluster, "p", six)
        await has(cluster, "s", "2001:db8::")
        await cluster.patch_service("s", {"metadata": {"annotations": {"metallb.io/address-pool": "dual"}}})
        await has(cluster, "s", "198.51.100.0", "2001:db8:9::")


@pytest.mark.parametrize(
    ("families", "primary"), [(["IPv4", "IPv6"], "192.0.2.0"), (["IPv6", "IPv4"], "2001:db8::")]
)
async def test_the_primary_family_decides_where_no_pool_has_both(
    opened: Opened, families: list[str], primary: str
) -> None:
    async with opened() as cluster, open_controller(cluster):
        await cluster.add_pool("four", "192.0.2.0/31")
        await cluster.add_pool("six", "2001:db8::/127")
        await cluster.add_service("s", ipFamilyPolicy="PreferDualStack", ipFamilies=families)
        await has(cluster, "s", primary)


async def test_overlapping_pools_one_after_the_other(opened: Opened) -> None:
    """The second is out of force, told everywhere, until the first has made room for it."""
    async with opened() as cluster, open_controller(cluster):
        await cluster.add_pool("one", "192.0.2.0/24")
        await cluster.add_service("a", load_balancer_ip="192.0.2.200")
        await has(cluster, "a", "192.0.2.200")
        await cluster.add_pool("two", "192.0.2.128/25")
        await cluster.until(lambda: cluster.state().get("result") == "Invalid")
        text = (
            'spec.addresses: CIDR "192.0.2.128/25" in pool "two" overlaps with already defined '
            'CIDR "192.0.2.0/24" in pool "one"'
        )
        assert cluster.state()["errorSummary"] == f"configuration error: two: {text}"
        await cluster.until(lambda: len(cluster.told("ConfigurationError")) == 2)
        assert {(name, said) for name, said, _ in cluster.told("ConfigurationError")} == {
            (name, f"configuration error: {text}") for name in ("one", "two")
        }
        await cluster.add_service("b", annotations={"metallb.io/address-pool": "two"})
        why = "the newest pools are not in force, because of faults in two (one: not requested)"
        await waits(cluster, "b", f'unknown pool "two"; {why}')
        assert cluster.ips("a") == ["192.0.2.200"], "it keeps what it has"
        await set_pool(cluster, "one", "192.0.2.0/25")
        await has(cluster, "b", "192.0.2.128")
        await cluster.until(lambda: cluster.state().get("result") == "Valid")
        await cluster.still("a")
        assert cluster.ips("a") == ["192.0.2.200"]
        await cluster.until(lambda: cluster.pool_of("a") == "two")


def counted(cluster: Cluster, *numbers: int) -> Callable[[], bool]:
    return lambda: cluster.counters("one") == numbers


async def test_the_status_of_a_pool(opened: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    """/30 and /126: none used, one, more room, none again."""
    monkeypatch.setattr(report, "COUNTERS_INTERVAL", 0.0)
    async with opened() as cluster, open_controller(cluster):
        await cluster.add_pool("one", "192.0.2.0/30", "2001:db8::/126")
        await cluster.until(counted(cluster, 0, 0, 4, 4))
        await cluster.add_service("s", ipFamilyPolicy="RequireDualStack")
        await cluster.until(counted(cluster, 1, 1, 3, 3))
        await set_pool(cluster, "one", "192.0.2.0/29", "2001:db8::/125")
        await cluster.until(counted(cluster, 1, 1, 7, 7))
        await cluster.api.delete(SERVICES, "s", namespace="default")
        await cluster.until(counted(cluster, 0, 0, 8, 8))


async def test_the_controller_tells_within_a_moment_and_takes_it_back(opened: Opened) -> None:
    async with opened() as cluster, open_controller(cluster):
        await cluster.add_pool("p", "192.0.2.0/28")
        await cluster.add_service("s")
        await cluster.until(lambda: cluster.condition("configurationReviewed").get("status") == "True")

        async def add(resource: Resource, name: str, spec: dict[str, Any]) -> None:
            head = {"apiVersion": resource.api_version, "kind": resource.kind, "metadata": {"name": name}}
            await cluster.api.create(resource, {**head, "spec": spec}, namespace=SYSTEM)

        await add(resources.L2_ADVERTISEMENTS, "ad", {"ipAddressPools": ["p", "later"]})
        await cluster.until(lambda: cluster.condition("configurationReviewed").get("status") == "False")
        assert cluster.condition("configurationReviewed")["reason"] == "UnknownReference"
        assert cluster.state()["result"] == "Valid"
        text = "spec.ipAddressPools[1]: there is no IPAddressPool 'later': the name selects nothing"
        await cluster.until(lambda: cluster.told("UnknownReference") == [("ad", text, 1)])
        (event,) = [each for each in cluster.events.objects.values() if each["reason"] == "UnknownReference"]
        assert event["involvedObject"]["uid"]
        assert event["type"] == "Warning"

        await add(resources.BGP_ADVERTISEMENTS, "wide", {"aggregationLength": 24})
        await cluster.until(lambda: cluster.state()["result"] == "Invalid")
        assert "BGPAdvertisement wide: spec.aggregationLength" in cluster.state()["errorSummary"]
        await cluster.until(lambda: [name for name, _, _ in cluster.told("ConfigurationError")] == ["wide"])
        assert cluster.condition("poolReconcilerValid")["status"] == "True"

        # what the controller acts upon goes on
        await cluster.add_service("t")
        await cluster.until(lambda: cluster.ips("t"))

        await cluster.api.delete(resources.BGP_ADVERTISEMENTS, "wide", namespace=SYSTEM)
        await cluster.add_pool("later", "198.51.100.0/24")
        await cluster.until(lambda: cluster.condition("configurationReviewed").get("status") == "True")
        await cluster.until(lambda: cluster.state()["result"] == "Valid")
        assert not cluster.state()["errorSummary"]
