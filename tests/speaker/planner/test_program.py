"""The planner between a Kubernetes API and a reflex that the test plays."""

from __future__ import annotations

import json
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from functools import partial
from typing import Any, TypeAlias

import pytest
import trio

from crier.kube import resources
from crier.lab.api.faults import Order, Rule
from speaker.orders import Orders, Vip
from tests.places import free_port
from tests.speaker.planner.lab import (
    PATIENCE,
    SPACE,
    Cluster,
    Speaker,
    open_cluster,
    open_real,
    running,
    soon,
    until,
)

Opened: TypeAlias = Callable[[], AbstractAsyncContextManager[Cluster]]


@pytest.fixture(params=["embedded", "kube"])
def opened(request: pytest.FixtureRequest) -> Opened:
    if request.param == "embedded":
        return open_cluster
    return partial(open_real, *request.getfixturevalue("real"))


@pytest.fixture
async def cluster(opened: Opened) -> AsyncIterator[Cluster]:
    async with opened() as found:
        yield found


faulty = pytest.mark.parametrize("opened", ["embedded"], indirect=True)
"""What asks for faults, or collects garbage, which no real API server does by itself."""


async def eventually(
    cluster: Cluster, kind: resources.Resource, name: str, **expected: Any
) -> dict[str, Any]:
    """The object, once its status has these fields."""

    def right(found: dict[str, Any] | None) -> bool:
        status = (found or {}).get("status", {})
        return found is not None and all(status.get(key) == value for key, value in expected.items())

    return await until(lambda: cluster.found(kind, name, SPACE), right) or {}


async def statuses(cluster: Cluster, expected: set[tuple[str, str]]) -> list[dict[str, Any]]:
    """Every ServiceL2Status, once they are these (node, service)."""

    def right(found: list[dict[str, Any]]) -> bool:
        states = [each.get("status", {}) for each in found]
        said = [(state.get("node"), state.get("serviceName")) for state in states]
        return len(said) == len(expected) and set(said) == expected

    return await until(lambda: cluster.listed(resources.SERVICE_L2_STATUSES, SPACE), right)


async def told(cluster: Cluster, *expected: tuple[str, str, str, int]) -> None:
    """Until these are the events."""
    await until(cluster.events, lambda found: sorted(found) == sorted(expected))


def assigned(service: str, node: str = "iris1", count: int = 1) -> tuple[str, str, str, int]:
    return (service, "nodeAssigned", f'announcing from node "{node}" with protocol "layer2"', count)


# ------------------------------------------------------------------------------------------ orders


async def test_a_service_with_an_address_is_ordered(cluster: Cluster) -> None:
    async with running(cluster, generation=41) as speaker:
        await soon(lambda: speaker.reflex.all_orders)
        assert speaker.reflex.orders == Orders(42, ())
        await cluster.make_service("web", "10.20.30.2")
        await soon(lambda: speaker.reflex.addresses)
        (vip,) = speaker.reflex.orders.vips
        assert vip == Vip("10.20.30.2", ("default/web",), ("iris1", "iris2"), None)


async def test_what_goes_is_withdrawn_by_omission(cluster: Cluster) -> None:
    await cluster.make_service("web", "10.20.30.2")
    await cluster.make_service("db", "10.20.30.3")
    async with running(cluster) as speaker:
        await speaker.settle("10.20.30.2", "10.20.30.3")
        await cluster.api.delete(resources.SERVICES, "db", namespace="default")
        await speaker.settle("10.20.30.2")
        await cluster.assign("web", "10.20.30.7")
        await speaker.settle("10.20.30.7")
        patch = {"endpoints": [{"addresses": ["10.1.0.1"], "conditions": {"ready": False}}]}
        await cluster.api.patch(resources.ENDPOINT_SLICES, "web-1", patch, namespace="default")
        await speaker.settle()


async def test_a_nodes_label_and_condition_count_at_once(cluster: Cluster) -> None:
    await cluster.make_service("web", "10.20.30.2")

    def candidates(speaker: Speaker) -> tuple[str, ...]:
        return speaker.reflex.orders.vips[0].candidates

    async with running(cluster) as speaker:
        await speaker.settle("10.20.30.2")
        label = "node.kubernetes.io/exclude-from-external-load-balancers"
        await cluster.api.patch(resources.NODES, "iris1", {"metadata": {"labels": {label: ""}}})
        await soon(lambda: candidates(speaker) == ("iris2",))
        await cluster.api.patch(resources.NODES, "iris1", {"metadata": {"labels": {label: None}}})
        await soon(lambda: candidates(speaker) == ("iris1", "iris2"))
        await cluster.set_status(
            resources.NODES, "iris2", None, {"conditions": [{"type": "NetworkUnavailable", "status": "True"}]}
        )
        await soon(lambda: candidates(speaker) == ("iris1",))


@faulty
async def test_a_new_planner_waits_until_it_knows_everything(cluster: Cluster) -> None:
    """Or it would order away what it has not heard of yet."""
    await cluster.make_service("web", "10.20.30.2")
    for plural in ("services", "endpointslices.discovery.k8s.io", "nodes", "ipaddresspools.metallb.io"):
        cluster.faults.set(Rule(verb="list", resource=plural, status=503))
        async with running(cluster, generation=7) as speaker:
            await soon(lambda: len(speaker.program.sources.unsynced) == 1)
            status, body = await speaker.fetch("/readyz")
            assert status == 503
            assert plural.split(".")[0] in body.decode()
            assert speaker.reflex.all_orders == []
            cluster.faults.clear()
            await soon(lambda: speaker.reflex.all_orders)
            assert [(each.generation, len(each.vips)) for each in speaker.reflex.all_orders] == [(8, 1)]
            assert (await speaker.fetch("/readyz"))[0] == 200


async def test_a_burst_of_changes_is_few_plans(cluster: Cluster) -> None:
    async with running(cluster) as speaker:
        await soon(lambda: speaker.reflex.all_orders)
        async with trio.open_nursery() as nursery:
            for number in range(60):
                nursery.start_soon(cluster.make_service, f"web-{number}", f"10.20.30.{number + 10}")
        await soon(lambda: len(speaker.reflex.addresses) == 60)
        # three objects each; a plan for every one of them would be 180
        assert speaker.program.metrics.plans.value() < 180
        assert [each.generation for each in speaker.reflex.all_orders] == sorted(
            {each.generation for each in speaker.reflex.all_orders}
        )


async def test_speakers_are_found_by_their_pods(cluster: Cluster) -> None:
    async with running(cluster) as speaker:
        await soon(lambda: speaker.reflex.seeds == ("192.0.2.2",))
        await cluster.make(
            resources.PODS,
            "speaker-3",
            SPACE,
            metadata={"labels": {"app": "metallb", "component": "speaker"}},
            spec={"containers": [{"name": "speaker", "image": "x"}]},
        )
        await cluster.make(
            resources.PODS,
            "other",
            SPACE,
            spec={"containers": [{"name": "x", "image": "x"}]},
            status={"podIP": "192.0.2.77"},
        )
        await cluster.set_status(
            resources.PODS, "speaker-3", SPACE, {"podIP": "192.0.2.3", "phase": "Running"}
        )
        await soon(lambda: speaker.reflex.seeds == ("192.0.2.2", "192.0.2.3"))
        await cluster.set_status(resources.PODS, "speaker-3", SPACE, {"phase": "Failed"})
        await soon(lambda: speaker.reflex.seeds == ("192.0.2.2",))


# ------------------------------------------------------------------------------ the API comes and goes


FAULTS = {
    "watches dropped": Order(drop_watches=True),
    "history forgotten": Order(drop_watches=True, forget_history=True),
}


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS.keys())
@faulty
async def test_a_lost_watch_withdraws_nothing_and_catches_up(cluster: Cluster, fault: Order) -> None:
    await cluster.make_service("web", "10.20.30.2")
    async with running(cluster) as speaker:
        await speaker.settle("10.20.30.2")
        cluster.faults.obey(fault)
        await cluster.make_service("db", "10.20.30.3")
        await soon(lambda: speaker.reflex.addresses == ("10.20.30.2", "10.20.30.3"))
        assert all("10.20.30.2" in {vip.address for vip in each.vips} for each in speaker.reflex.all_orders)


@faulty
async def test_an_outage_withdraws_nothing_and_is_survived(cluster: Cluster) -> None:
    await cluster.make_service("web", "10.20.30.2")
    async with running(cluster) as speaker:
        await speaker.settle("10.20.30.2")
        before = len(speaker.reflex.all_orders)
        cluster.faults.obey(Order(outage=True))
        await soon(lambda: not speaker.program.sources.services.connected)
        assert (await speaker.fetch("/readyz"))[0] == 200
        assert len(speaker.reflex.all_orders) == before
        cluster.faults.obey(Order(outage=False))
        await cluster.make_service("db", "10.20.30.3")
        await soon(lambda: speaker.reflex.addresses == ("10.20.30.2", "10.20.30.3"))
        assert all("10.20.30.2" in {vip.address for vip in each.vips} for each in speaker.reflex.all_orders)


@faulty
async def test_started_during_an_outage_it_orders_nothing_until_it_knows(cluster: Cluster) -> None:
    await cluster.make_service("web", "10.20.30.2")
    cluster.faults.obey(Order(outage=True))
    async with running(cluster, generation=3) as speaker:
        assert (await speaker.fetch("/healthz"))[0] == 200
        assert (await speaker.fetch("/readyz"))[0] == 503
        assert speaker.reflex.down == []
        cluster.faults.obey(Order(outage=False))
        await soon(lambda: speaker.reflex.addresses == ("10.20.30.2",))
        assert len(speaker.reflex.all_orders) == 1


async def test_a_planner_that_comes_after_another_sends_the_same_orders(cluster: Cluster) -> None:
    await cluster.make_service("web", "10.20.30.2")
    async with running(cluster) as first:
        await first.settle("10.20.30.2")
        (made,) = await statuses(cluster, {("iris1", "web")})
    async with running(cluster, generation=first.reflex.orders.generation) as second:
        await soon(lambda: second.reflex.all_orders)
        assert second.reflex.orders.vips == first.reflex.orders.vips
        assert second.reflex.orders.generation > first.reflex.orders.generation
        await second.reflex.obey()
        # MetalLB's tests look for the newest event: there is one more after a restart
        await told(cluster, assigned("web"), assigned("web"))
        (still,) = await statuses(cluster, {("iris1", "web")})
        assert still["metadata"]["uid"] == made["metadata"]["uid"], "the status outlives the planner"


async def test_without_its_reflex_the_planner_ends(cluster: Cluster) -> None:
    async with running(cluster) as speaker:
        await soon(lambda: speaker.reflex.all_orders)
        speaker.reflex.end()
        with trio.fail_after(PATIENCE):
            await speaker.gone.wait()


# -------------------------------------------------------------------------------- configuration


async def test_a_bad_configuration_changes_nothing_but_its_state(cluster: Cluster) -> None:
    await cluster.make_service("web", "10.20.30.2")
    state = (cluster, resources.CONFIGURATION_STATES, "speaker-iris1")
    async with running(cluster) as speaker:
        await speaker.settle("10.20.30.2")
        good = await eventually(*state, result="Valid")
        assert good["metadata"]["labels"] == {
            "metallb.io/component-type": "speaker",
            "metallb.io/node-name": "iris1",
        }
        assert [each["name"] for each in good["metadata"]["ownerReferences"]] == ["speaker-iris1"]
        before = len(speaker.reflex.all_orders)
        await cluster.make_pool("overlapping", "10.20.30.128/25")
        bad = await eventually(*state, result="Invalid")
        (condition,) = bad["status"]["conditions"]
        assert (condition["type"], condition["status"]) == ("configReconcilerValid", "False")
        assert condition["reason"] == "ConfigurationError"
        assert condition["message"] == bad["status"]["errorSummary"]
        assert condition["message"].startswith("configuration error: ")
        assert "overlaps with already defined CIDR" in condition["message"]
        assert speaker.program.metrics.config_stale.value() == 1
        assert len(speaker.reflex.all_orders) == before
        # what else changes is still acted upon, by the last good configuration
        await cluster.make_service("db", "10.20.30.3")
        await soon(lambda: speaker.reflex.addresses == ("10.20.30.2", "10.20.30.3"))
        await cluster.api.delete(resources.IP_ADDRESS_POOLS, "overlapping", namespace=SPACE)
        mended = await eventually(*state, result="Valid")
        assert "errorSummary" not in mended["status"]
        assert speaker.program.metrics.config_stale.value() == 0
        assert speaker.program.metrics.config_loaded.value() == 1


async def test_a_planner_that_finds_only_bad_configuration_leaves_the_orders_alone(cluster: Cluster) -> None:
    await cluster.make_service("web", "10.20.30.2")
    await cluster.make_pool("overlapping", "10.20.30.128/25")
    async with running(cluster, generation=5) as speaker:
        await eventually(cluster, resources.CONFIGURATION_STATES, "speaker-iris1", result="Invalid")
        assert speaker.reflex.all_orders == []
        await cluster.api.delete(resources.IP_ADDRESS_POOLS, "overlapping", namespace=SPACE)
        await soon(lambda: speaker.reflex.addresses == ("10.20.30.2",))


async def test_a_removed_pool_waits_for_the_controller(cluster: Cluster) -> None:
    await cluster.make_service("web", "10.20.30.2")
    async with running(cluster) as speaker:
        await speaker.settle("10.20.30.2")
        await cluster.make_pool("new", "10.20.40.0/24")
        await cluster.api.delete(resources.IP_ADDRESS_POOLS, "default", namespace=SPACE)
        await soon(lambda: speaker.program.metrics.config_stale.value() == 1)
        assert speaker.reflex.addresses == ("10.20.30.2",)
        await cluster.assign("web", "10.20.40.1")
        await soon(lambda: speaker.reflex.addresses == ("10.20.40.1",))
        assert speaker.program.metrics.config_stale.value() == 0
        assert not [each for each in speaker.reflex.all_orders if not each.vips]


async def test_a_deleted_configuration_state_comes_back(cluster: Cluster) -> None:
    async with running(cluster):
        first = await eventually(cluster, resources.CONFIGURATION_STATES, "speaker-iris1", result="Valid")
        await cluster.api.delete(resources.CONFIGURATION_STATES, "speaker-iris1", namespace=SPACE)
        await until(
            lambda: eventually(cluster, resources.CONFIGURATION_STATES, "speaker-iris1", result="Valid"),
            lambda again: again["metadata"]["uid"] != first["metadata"]["uid"],
        )


# ------------------------------------------------------------------------- what the world gets to hear


async def test_the_announcing_node_says_so(cluster: Cluster) -> None:
    await cluster.make_service("web", "10.20.30.2")  # iris1's
    await cluster.make_service("db", "10.20.30.1")  # iris2's
    async with running(cluster) as speaker:
        await speaker.settle("10.20.30.1", "10.20.30.2")
        (found,) = await statuses(cluster, {("iris1", "web")})
        assert found["metadata"]["name"].startswith("l2-")
        assert found["metadata"]["labels"] == {
            "metallb.io/node": "iris1",
            "metallb.io/service-name": "web",
            "metallb.io/service-namespace": "default",
        }
        assert [each["kind"] for each in found["metadata"]["ownerReferences"]] == ["Pod"]
        assert found["status"] == {"node": "iris1", "serviceName": "web", "serviceNamespace": "default"}
        await told(cluster, assigned("web"))

        # iris2 dies: what was its own is ours now
        speaker.reflex.reachable = {"iris1"}
        await speaker.reflex.obey()
        await statuses(cluster, {("iris1", "web"), ("iris1", "db")})
        await told(cluster, assigned("web"), assigned("db"))

        # and comes back
        speaker.reflex.reachable = {"iris1", "iris2"}
        await speaker.reflex.obey()
        await statuses(cluster, {("iris1", "web")})


async def test_two_speakers_leave_one_status_between_them(cluster: Cluster) -> None:
    await cluster.make_service("web", "10.20.30.2")
    async with running(cluster) as one, running(cluster, node="iris2") as two:
        for speaker in (one, two):
            await speaker.settle("10.20.30.2")
        await statuses(cluster, {("iris1", "web")})
        two.reflex.reachable = {"iris2"}  # iris1 is dead, and cannot clean up after itself
        await two.reflex.obey()
        await until(cluster.events, lambda found: assigned("web", "iris2") in found)
        one.reflex.reachable = {"iris2"}
        await one.reflex.obey()
        await statuses(cluster, {("iris2", "web")})


async def test_statuses_name_the_configured_interfaces(cluster: Cluster) -> None:
    await cluster.api.patch(
        resources.L2_ADVERTISEMENTS, "all", {"spec": {"interfaces": ["eth1", "eth0"]}}, namespace=SPACE
    )
    await cluster.make_service("web", "10.20.30.2")
    async with running(cluster) as speaker:
        await speaker.settle("10.20.30.2")
        assert speaker.reflex.orders.vips[0].interfaces == ("eth0", "eth1")
        (found,) = await statuses(cluster, {("iris1", "web")})
        assert found["status"]["interfaces"] == [{"name": "eth0"}, {"name": "eth1"}]
        await cluster.api.patch(
            resources.L2_ADVERTISEMENTS, "all", {"spec": {"interfaces": None}}, namespace=SPACE
        )
        await soon(lambda: speaker.reflex.orders.vips[0].interfaces is None)
        await speaker.reflex.obey()
        await until(
            lambda: cluster.listed(resources.SERVICE_L2_STATUSES, SPACE),
            lambda found: "interfaces" not in found[0]["status"],
        )


async def test_missing_interfaces_and_conflicts_are_told(cluster: Cluster) -> None:
    await cluster.make_service("web", "10.20.30.2")
    async with running(cluster) as speaker:
        await soon(lambda: speaker.reflex.addresses == ("10.20.30.2",))
        await speaker.reflex.obey(missing=["10.20.30.2"])
        text = (
            'the interfaces specified by LB IP "10.20.30.2" doesn\'t exist in assigned node "iris1" '
            'with protocol "layer2"'
        )
        failed = ("web", "announceFailed", text, 1)
        await told(cluster, assigned("web"), failed)
        for _ in range(4):  # one or two are what a healed partition ends with
            await speaker.reflex.happen("conflict", "10.20.30.2", "heard")
        used = ("web", "addressConflict", 'LB IP "10.20.30.2" is also in use by another host: heard', 2)
        await told(cluster, assigned("web"), failed, used)
        mac = "02:00:00:00:00:99"
        await speaker.reflex.happen("conflict", "10.20.30.2", "heard", mac)
        await soon(lambda: speaker.program.metrics.conflicts.value("10.20.30.2", mac))


@faulty
async def test_writes_that_fail_are_made_again(cluster: Cluster) -> None:
    await cluster.make_service("web", "10.20.30.2")
    cluster.faults.set(
        Rule(verb="create", resource="servicel2statuses.metallb.io", status=500, times=2),
        Rule(verb="patch", resource="servicel2statuses.metallb.io/status", status=409, times=2),
        Rule(verb="create", resource="configurationstates.metallb.io", status=503, times=2),
        Rule(verb="create", resource="events", status=429, times=2),
    )
    async with running(cluster) as speaker:
        await speaker.settle("10.20.30.2")
        await statuses(cluster, {("iris1", "web")})
        await eventually(cluster, resources.CONFIGURATION_STATES, "speaker-iris1", result="Valid")
        await told(cluster, assigned("web"))
        assert speaker.program.metrics.api_errors.value("ServiceL2Status") >= 1


@faulty
async def test_once_written_nothing_is_written_again(cluster: Cluster) -> None:
    await cluster.make_service("web", "10.20.30.2")
    async with running(cluster) as speaker:
        await speaker.settle("10.20.30.2")
        await statuses(cluster, {("iris1", "web")})
        await eventually(cluster, resources.CONFIGURATION_STATES, "speaker-iris1", result="Valid")
        await told(cluster, assigned("web"))

        def writes() -> dict[str, int]:
            return {
                what: count
                for what, count in cluster.faults.counted.items()
                if what.split()[0] in ("create", "update", "patch", "delete")
                and "service" not in what.split()[1:]
            }

        await trio.testing.wait_all_tasks_blocked(0.05)
        before = writes()
        for _ in range(20):
            await speaker.reflex.obey()
        # a change that the planner has to look at, and that changes nothing it writes
        plans = speaker.program.metrics.plans.value()
        await cluster.api.patch(resources.NODES, "iris2", {"metadata": {"labels": {"x": "y"}}})
        await soon(lambda: speaker.program.metrics.plans.value() > plans)
        await trio.testing.wait_all_tasks_blocked(0.05)
        after = writes()
        after["patch nodes"] = before.get("patch nodes", 0)
        assert after == {**before, "patch nodes": before.get("patch nodes", 0)}


# ------------------------------------------------------------------------------------- the documents


async def test_the_status_document(cluster: Cluster) -> None:
    await cluster.make_service("web", "10.20.30.2")
    async with running(cluster) as speaker:
        await speaker.settle("10.20.30.2")
        await statuses(cluster, {("iris1", "web")})
        status, body = await speaker.fetch("/status")
        assert status == 200
        document = json.loads(body)
        assert list(document) == [
            "node",
            "version",
            "joined",
            "orders",
            "members",
            "vips",
            "reflex",
            "planner",
            "bgp",
        ]
        assert document["node"] == "iris1"
        assert document["joined"] is True
        assert document["orders"] == {"generation": speaker.reflex.orders.generation}
        assert document["members"][1] == {
            "name": "iris2",
            "address": "192.0.2.9",
            "port": 7946,
            "state": "alive",
            "reachable": True,
        }
        (vip,) = document["vips"]
        assert vip["address"] == "10.20.30.2"
        assert vip["services"] == ["default/web"]
        assert vip["owner"] == "iris1"
        assert vip["answering"] is True
        assert vip["candidates"] == ["iris1", "iris2"]
        assert vip["requests_received"] == 5
        assert set(document["reflex"]) >= {
            "pid",
            "uptime",
            "loop_late_max",
            "loop_late_p99",
            "planner_starts",
        }
        assert document["planner"]["synced"] is True
        why = json.loads((await speaker.fetch("/why"))[1])
        assert why["services"]["default/web"]["here"] is None
        assert (await speaker.fetch("/healthz")) == (200, b"ok")


async def test_the_metrics(cluster: Cluster) -> None:
    await cluster.make_service("web", "10.20.30.2")
    async with running(cluster) as speaker:
        await speaker.settle("10.20.30.2")
        await speaker.reflex.happen("took_over", "10.20.30.2")
        await soon(lambda: speaker.program.metrics.happened.value("took_over"))
        await statuses(cluster, {("iris1", "web")})
        text = (await speaker.fetch("/metrics"))[1].decode()
        labels = 'service="default/web",protocol="layer2",node="iris1",ip="10.20.30.2"'
        for line in (
            f"metallb_speaker_announced{{{labels}}} 1",
            'metallb_layer2_requests_received{ip="10.20.30.2"} 5',
            'metallb_layer2_responses_sent{ip="10.20.30.2"} 4',
            'metallb_layer2_gratuitous_sent{ip="10.20.30.2"} 3',
            "metallb_k8s_client_config_loaded_bool 1",
            "metallb_k8s_client_config_stale_bool 0",
            "metallb_k8s_client_update_errors_total 0",
            'crier_speaker_members{state="alive"} 2',
            'crier_speaker_happenings_total{what="took_over"} 1',
        ):
            assert line in text.splitlines()
        await cluster.api.delete(resources.SERVICES, "web", namespace="default")
        await speaker.settle()
        await statuses(cluster, set())
        assert b"metallb_speaker_announced{" not in (await speaker.fetch("/metrics"))[1]


async def test_without_gossip_the_first_candidate_announces(cluster: Cluster) -> None:
    await cluster.make_service("web", "10.20.30.2")
    async with running(cluster, membership=False) as speaker:
        speaker.reflex.reachable = {"iris1"}
        await speaker.settle("10.20.30.2")
        await statuses(cluster, {("iris1", "web")})


async def test_a_port_that_is_taken_stops_no_orders(cluster: Cluster) -> None:
    await cluster.make_service("web", "10.20.30.2")
    async with running(cluster) as first, running(cluster, f"--health-probe-port={first.port}") as second:
        await second.settle("10.20.30.2")


async def test_the_metrics_are_scraped_over_https(cluster: Cluster) -> None:
    port = free_port()
    async with running(cluster, f"--port={port}"):

        async def connect() -> trio.SocketStream | None:
            try:
                return await trio.open_tcp_stream("127.0.0.1", port)
            except OSError:
                return None

        raw = await until(connect, bool)
        assert raw is not None
        async with raw:
            context = ssl.create_default_context()
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
            stream = trio.SSLStream(raw, context, https_compatible=True)
            head = b"GET /metrics HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer unknown\r\n"
            await stream.send_all(head + b"Connection: close\r\n\r\n")
            answer = b"".join([chunk async for chunk in stream])
        # the API was asked, and knows no such token
        assert answer.startswith(b"HTTP/1.1 401")
        assert answer.endswith(b"the token is not valid\n")
