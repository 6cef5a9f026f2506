"""The controller against both API servers: one write a change, and nothing lost when the API is not well."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from functools import partial

import msgspec
import pytest
import trio

from allocator import controller as controller_module
from allocator import report as report_module
from allocator.reconcile import Write
from allocator.writer import Done, Stale, write_service, write_services
from crier.kube.client import Api, PatchType
from crier.kube.errors import ApiError, Unavailable
from crier.kube.model.annotations import ALLOCATED_FROM
from crier.kube.model.service import Service
from crier.kube.resources import CONFIGURATION_STATES, IP_ADDRESS_POOLS, SERVICES
from crier.lab.api import Rule
from tests.allocator.clusters import PATIENCE, SYSTEM, Cluster, Counted, open_cluster, open_controller
from tests.allocator.conftest import Opened


def decided(cluster: Cluster, name: str) -> bool:
    return bool(cluster.ips(name) or cluster.told("AllocationFailed"))


async def test_addresses_of_both_families_are_given_and_told(opened: Opened) -> None:
    async with opened() as cluster, open_controller(cluster):
        await cluster.add_pool("one", "192.0.2.0/30", "2001:db8::/126")
        await cluster.add_service("four")
        await cluster.add_service("six", ipFamilies=["IPv6"], ipFamilyPolicy="SingleStack")
        await cluster.add_service("both", ipFamilyPolicy="RequireDualStack")
        await cluster.until(lambda: cluster.ips("four") and cluster.ips("six") and cluster.ips("both"))
        assert cluster.ips("four") == ["192.0.2.0"]
        assert cluster.ips("six") == ["2001:db8::"]
        assert cluster.ips("both") == ["192.0.2.1", "2001:db8::1"]
        four = cluster.services.objects["default/four"]
        assert four["metadata"]["annotations"][ALLOCATED_FROM] == "one"
        await cluster.until(lambda: len(cluster.told("IPAllocated")) == 3)
        assert ("both", 'Assigned IP ["192.0.2.1" "2001:db8::1"]', 1) in cluster.told("IPAllocated")
        event = next(iter(cluster.events.objects.values()))
        assert event["source"]["component"] == "metallb-controller"
        assert event["involvedObject"]["uid"]
        await cluster.until(lambda: cluster.counters("one") == (2, 2, 2, 2))


async def test_one_write_for_a_change_and_none_for_nothing(opened: Opened) -> None:
    """`ipMode`, which the API adds by itself, is no reason to write again."""
    async with opened() as cluster, open_controller(cluster):
        await cluster.add_pool("one", "192.0.2.0/30")
        await cluster.add_service("s")
        await cluster.until(lambda: cluster.ips("s"))
        assert cluster.services.objects["default/s"]["status"]["loadBalancer"]["ingress"] == [
            {"ip": "192.0.2.0", "ipMode": "VIP"}
        ]
        for number in range(3):
            await cluster.patch_service("s", {"metadata": {"labels": {"n": str(number)}}})
        await cluster.still("s")
        assert cluster.sent["PUT services status"] == 1


async def test_release_serves_who_waits_and_says_so(opened: Opened) -> None:
    async with opened() as cluster, open_controller(cluster):
        await cluster.add_pool("one", "192.0.2.0/32")
        await cluster.add_service("first")
        await cluster.until(lambda: cluster.ips("first"))
        await cluster.add_service("second")
        await cluster.until(lambda: cluster.told("AllocationFailed"))
        assert cluster.told("AllocationFailed") == [
            (
                "second",
                (
                    'Failed to allocate IP for "default/second": no available IPs '
                    "(one: no available IPs in pool one for ipv4 IPFamily)"
                ),
                1,
            )
        ]
        await cluster.patch_service("first", {"spec": {"type": "ClusterIP"}})
        await cluster.until(lambda: cluster.ips("second") == ["192.0.2.0"])
        assert cluster.ips("first") == []
        # a real API server empties the status itself when the type changes; the annotation is left to us
        await cluster.until(lambda: cluster.pool_of("first") == "")


async def test_what_is_still_amiss_is_told_again(opened: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    """An API server forgets events after an hour, and a Service may wait for longer than that."""
    for module in (controller_module, report_module):
        monkeypatch.setattr(module, "REMIND", 0.05)
    async with opened() as cluster, open_controller(cluster):
        await cluster.add_pool("one", "192.0.2.0/32")
        await cluster.add_service("served")
        await cluster.until(lambda: cluster.ips("served"))
        await cluster.add_service("waits")
        await cluster.add_pool("bad", "192.0.2.0/32")

        def counts(reason: str) -> dict[str, int]:
            return {name: count for name, _, count in cluster.told(reason)}

        await cluster.until(lambda: counts("AllocationFailed").get("waits", 0) >= 3)
        await cluster.until(lambda: counts("ConfigurationError").get("bad", 0) >= 3)
        await cluster.api.delete(IP_ADDRESS_POOLS, "bad", namespace=SYSTEM)
        await cluster.patch_service("served", {"spec": {"type": "ClusterIP"}})
        await cluster.until(lambda: cluster.ips("waits"))
        await cluster.until(lambda: cluster.state().get("result") == "Valid")
        told = []
        for _ in range(2):
            await cluster.still("served")
            told.append((counts("AllocationFailed")["waits"], counts("ConfigurationError")))
        assert told[0] == told[1], "and no more once it is mended"


async def test_a_restart_writes_nothing(opened: Opened) -> None:
    async with opened() as cluster:
        await cluster.add_pool("one", "192.0.2.0/31")
        async with open_controller(cluster):
            for name in "abc":
                await cluster.add_service(name)
                await cluster.until(partial(decided, cluster, name))
        written = cluster.sent["PUT services status"]
        for _ in range(3):
            async with open_controller(cluster):
                await cluster.still("a")
        assert [cluster.ips(name) for name in "abc"] == [["192.0.2.0"], ["192.0.2.1"], []]
        assert cluster.sent["PUT services status"] == written


async def test_an_outage_is_waited_out() -> None:
    async with open_cluster() as cluster, open_controller(cluster) as controller:
        await cluster.add_pool("one", "192.0.2.0/30")
        await cluster.add_service("before")
        await cluster.until(lambda: cluster.ips("before"))
        cluster.faults.set_outage(True)
        with trio.fail_after(PATIENCE):
            while controller.services.connected or controller.pools.connected:
                await trio.lowlevel.checkpoint()
        # What it knew it still knows, and acts on nothing it does not know.
        assert controller.allocator.ledger.claims.keys() == {"default/before"}
        assert "default/before" in controller.services.objects
        cluster.faults.set_outage(False)
        await cluster.add_service_at_last("after")
        await cluster.until(lambda: cluster.ips("after"))
        assert (cluster.ips("before"), cluster.ips("after")) == (["192.0.2.0"], ["192.0.2.1"])


async def test_a_write_that_was_done_but_not_acknowledged_is_not_done_twice() -> None:
    async with open_cluster() as cluster, open_controller(cluster):
        await cluster.add_pool("one", "192.0.2.0/30")
        cluster.faults.set(Rule(verb="update", resource="services/status", status=504, applied=True, times=1))
        await cluster.add_service("s")
        await cluster.until(lambda: cluster.ips("s"))
        await cluster.add_service("t")
        await cluster.until(lambda: cluster.ips("t"))
        assert (cluster.ips("s"), cluster.ips("t")) == (["192.0.2.0"], ["192.0.2.1"])
        await cluster.still("s")
        # once more at most, to the version that is gone, when the watch is slower than the second attempt
        assert cluster.faults.counted["update services/status"] in (2, 3)


async def test_refused_writes_are_tried_again() -> None:
    async with open_cluster() as cluster, open_controller(cluster):
        await cluster.add_pool("one", "192.0.2.0/30")
        cluster.faults.set(
            Rule(verb="update", resource="services/status", status=500, times=2),
            Rule(verb="update", resource="services/status", status=409, times=2),
            Rule(verb="update", resource="services/status", status=429, retry_after=0, times=1),
        )
        await cluster.add_service("s")
        await cluster.until(lambda: cluster.ips("s") == ["192.0.2.0"])


async def test_watches_that_break_and_history_that_is_lost() -> None:
    async with open_cluster() as cluster, open_controller(cluster):
        await cluster.add_pool("one", "192.0.2.0/24")
        for number in range(8):
            await cluster.add_service(f"s{number}")
            if number % 2:
                cluster.faults.forget_history()
            cluster.faults.drop_watches()
        await cluster.until(lambda: all(cluster.ips(f"s{number}") for number in range(8)))
        assert sorted(cluster.ips(f"s{number}")[0] for number in range(8)) == [
            f"192.0.2.{n}" for n in range(8)
        ]


async def test_many_at_once(opened: Opened) -> None:
    async with opened() as cluster:
        await cluster.add_pool("one", "192.0.2.0/25")
        for number in range(100):
            await cluster.add_service(f"s{number:03}")
        async with open_controller(cluster):
            await cluster.until(lambda: all(cluster.ips(f"s{number:03}") for number in range(100)))
            given = [cluster.ips(f"s{number:03}")[0] for number in range(100)]
            assert sorted(given) == sorted(f"192.0.2.{n}" for n in range(100))
            await cluster.until(lambda: cluster.counters("one") == (100, 0, 28, 0))
            # Gathered, not one write of the counters for each address.
            assert cluster.sent["PUT ipaddresspools status"] <= 25


async def test_many_at_once_while_some_writes_are_refused() -> None:
    async with open_cluster() as cluster:
        await cluster.add_pool("one", "192.0.2.0/25")
        for number in range(60):
            await cluster.add_service(f"s{number:02}")
        cluster.faults.set(
            *(
                Rule(
                    verb="update", resource="services/status", status=status, share=0.3, times=6,
                    retry_after=0, applied=status == 504,
                )
                for status in (409, 429, 500, 504)
            )
        )  # fmt: skip
        async with open_controller(cluster):
            await cluster.until(lambda: all(cluster.ips(f"s{number:02}") for number in range(60)))
        given = [cluster.ips(f"s{number:02}")[0] for number in range(60)]
        assert sorted(given) == sorted(f"192.0.2.{n}" for n in range(60))


async def test_who_is_away_is_asked_once_for_all_that_is_to_be_written() -> None:
    async with open_cluster() as cluster:
        sent = Counter[str]()
        api = Api(Counted(cluster.access(), sent))
        writes = []
        for name in ("a", "b", "c"):
            await cluster.add_service(name)
            seen = Service.decode(await cluster.api.get(SERVICES, name, namespace="default"))
            version = seen.resource_version
            writes.append(
                Write(service=seen.key, uid=seen.uid, resource_version=version, addresses=(), pool="")
            )
        cluster.faults.set_outage(True)
        outcomes = await api.in_thread(partial(write_services, api, writes))
        assert [type(each) for each in outcomes] == [Unavailable] * 3
        assert sent.total() == 1
        cluster.faults.set_outage(False)
        cluster.faults.set(Rule(verb="get", resource="services", status=500, times=1))
        first, *rest = await api.in_thread(partial(write_services, api, writes))
        assert isinstance(first, ApiError), "what is refused is no reason to stop"
        assert [type(each) for each in rest] == [Done, Done]
        api.close()


async def test_counters_that_somebody_edits_are_put_right(opened: Opened) -> None:
    async with opened() as cluster, open_controller(cluster):
        await cluster.add_pool("one", "192.0.2.0/30", "2001:db8::/126")
        await cluster.until(lambda: cluster.counters("one") == (0, 0, 4, 4))
        wrong = {"assignedIPv4": 9, "assignedIPv6": 9, "availableIPv4": 9, "availableIPv6": 9}
        answer = await cluster.api.patch(
            IP_ADDRESS_POOLS, "one", {"status": wrong}, namespace=SYSTEM, subresource="status"
        )
        edited = int(msgspec.json.decode(answer)["metadata"]["resourceVersion"])

        def put_right() -> bool:
            version = int(cluster.pools.objects[f"{SYSTEM}/one"]["metadata"]["resourceVersion"])
            return version > edited and cluster.counters("one") == (0, 0, 4, 4)

        await cluster.until(put_right)


async def test_bad_pools_are_reported_and_the_last_good_ones_stay(opened: Opened) -> None:
    async with opened() as cluster, open_controller(cluster):
        await cluster.add_pool("good", "192.0.2.0/30")
        await cluster.until(lambda: cluster.state().get("result") == "Valid")
        await cluster.add_pool("worse", "192.0.2.2/32", "192.0.2.9-192.0.2.1")
        await cluster.until(lambda: cluster.state().get("result") == "Invalid")
        summary = cluster.state()["errorSummary"]
        assert summary.startswith("configuration error: ")
        assert "worse: spec.addresses[1]: invalid IP range" in summary
        assert "start IP 192.0.2.9 is after the end IP 192.0.2.1" in summary
        assert (
            'CIDR "192.0.2.2/32" in pool "worse" overlaps with already defined CIDR "192.0.2.0/30"' in summary
        )
        condition = cluster.condition("poolReconcilerValid")
        assert (condition["type"], condition["status"], condition["reason"]) == (
            "poolReconcilerValid",
            "False",
            "ConfigurationError",
        )
        await cluster.until(lambda: len(cluster.told("ConfigurationError")) == 3)
        told = [(name, text.partition(": ")[2]) for name, text, _ in cluster.told("ConfigurationError")]
        assert [name for name, _ in told] == ["good", "worse", "worse"], "an overlap is told about both"
        assert all(text.startswith("spec.addresses") for _, text in told)
        await cluster.add_service("s")
        await cluster.until(lambda: cluster.ips("s") == ["192.0.2.0"])
        await cluster.api.delete(IP_ADDRESS_POOLS, "worse", namespace=SYSTEM)
        await cluster.until(lambda: cluster.state().get("result") == "Valid")
        assert cluster.state()["errorSummary"] == ""


async def test_the_state_is_made_again_when_somebody_deletes_it(opened: Opened) -> None:
    async with opened() as cluster, open_controller(cluster):
        await cluster.until(lambda: cluster.state().get("result") == "Valid")
        before = cluster.states.objects[f"{SYSTEM}/controller"]["metadata"]["uid"]
        await cluster.api.delete(CONFIGURATION_STATES, "controller", namespace=SYSTEM)
        await cluster.until(
            lambda: (
                cluster.state().get("result") == "Valid"
                and cluster.states.objects[f"{SYSTEM}/controller"]["metadata"]["uid"] != before
            )
        )
        labels = cluster.states.objects[f"{SYSTEM}/controller"]["metadata"]["labels"]
        assert labels == {"metallb.io/component-type": "controller"}


async def test_a_class_of_our_own(opened: Opened) -> None:
    async with opened() as cluster, open_controller(cluster, lb_class="crier"):
        await cluster.add_pool("one", "192.0.2.0/30")
        await cluster.add_service("theirs")
        await cluster.add_service("ours", loadBalancerClass="crier")
        await cluster.until(lambda: cluster.ips("ours"))
        assert cluster.ips("theirs") == []


async def test_only_the_version_decided_on_is_written(opened: Opened) -> None:
    """Between the decision and the write somebody edits the service."""
    async with opened() as cluster:
        await cluster.add_service("s")
        seen = Service.decode(await cluster.api.get(SERVICES, "s", namespace="default"))
        write = Write(
            service=seen.key,
            uid=seen.uid,
            resource_version=seen.resource_version,
            addresses=("192.0.2.1",),
            pool="one",
        )
        await cluster.patch_service("s", {"metadata": {"labels": {"a": "b"}}})
        now = Service.decode(await cluster.api.get(SERVICES, "s", namespace="default"))
        stale = partial(write_service, cluster.api, write)
        assert await cluster.api.in_thread(stale) == Stale(now.resource_version)
        again = replace(write, uid=now.uid, resource_version=now.resource_version)
        outcome = await cluster.api.in_thread(partial(write_service, cluster.api, again))
        assert isinstance(outcome, Done)
        written = Service.decode(await cluster.api.get(SERVICES, "s", namespace="default"))
        assert (written.ingress_ips, written.labels) == (("192.0.2.1",), {"a": "b"})
        await cluster.api.delete(SERVICES, "s", namespace="default")
        assert await cluster.api.in_thread(stale) == Stale("")


async def test_a_status_cleared_by_hand_is_filled_again(opened: Opened) -> None:
    async with opened() as cluster, open_controller(cluster):
        await cluster.add_pool("one", "192.0.2.0/30")
        await cluster.add_service("s")
        await cluster.until(lambda: cluster.ips("s"))
        patch = [{"op": "replace", "path": "/status", "value": {"loadBalancer": {}}}]
        answer = await cluster.api.patch(
            SERVICES, "s", patch, namespace="default", subresource="status", kind=PatchType.JSON
        )
        cleared = int(msgspec.json.decode(answer)["metadata"]["resourceVersion"])

        def filled_again() -> bool:
            version = int(cluster.services.objects["default/s"]["metadata"]["resourceVersion"])
            return version > cleared and cluster.ips("s") == ["192.0.2.0"]

        await cluster.until(filled_again)


async def test_it_ends_at_once_also_when_the_api_is_away() -> None:
    async with open_cluster() as cluster:
        cluster.faults.set_outage(True)
        with trio.move_on_after(0.2) as scope:
            async with open_controller(cluster):
                raise AssertionError("there is nothing to start with")
        assert scope.cancelled_caught
        cluster.faults.set_outage(False)
