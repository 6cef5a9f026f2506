"""Faults on order, over real sockets in process."""

from __future__ import annotations

import random
from typing import Any

import h11
import pytest
import trio
from trio.testing import MockClock

from crier.lab.api import Api, Faults, Rule, open_api
from tests.lab.raw_http import call, connect

MAPS = "/api/v1/namespaces/default/configmaps"
POOLS = "/apis/metallb.io/v1beta1/namespaces/default/ipaddresspools"
GONE = (trio.BrokenResourceError, h11.RemoteProtocolError)
"""How a reset looks: while writing or reading, or where an answer should be."""


def config_map(name: str) -> dict[str, Any]:
    return {"metadata": {"name": name}}


async def test_an_outage_resets_everybody_but_the_control_endpoint() -> None:
    async with open_api() as api, connect(api.url) as idle:
        assert (await idle.call("GET", "/version")).status == 200
        reply = await call(api.url, "POST", "/crier-lab/faults", {"outage": True})
        assert reply.json["outage"] is True
        with pytest.raises(GONE):
            await idle.call("GET", "/version")
        for path in ("/version", MAPS, "/api"):
            with pytest.raises(GONE):
                await call(api.url, "GET", path)
        assert (await call(api.url, "POST", "/crier-lab/faults", {"outage": False})).status == 200
        assert (await call(api.url, "GET", MAPS)).status == 200


async def test_an_outage_keeps_the_objects() -> None:
    async with open_api() as api:
        await call(api.url, "POST", MAPS, config_map("a"))
        api.faults.set_outage(True)
        with pytest.raises(GONE):
            await call(api.url, "POST", MAPS, config_map("b"))
        api.faults.set_outage(False)
        names = [thing["metadata"]["name"] for thing in (await call(api.url, "GET", MAPS)).json["items"]]
        assert names == ["a"]


async def test_watches_are_dropped() -> None:
    async with open_api() as api, connect(api.url) as watcher:
        await watcher.send("GET", f"{MAPS}?watch=1")
        await call(api.url, "POST", MAPS, config_map("a"))
        seen = []

        async def follow() -> None:
            async for event in watcher.lines():
                seen.append(event["type"])
                api.faults.drop_watches()

        with pytest.raises(GONE):
            await follow()
        assert seen == ["ADDED"]
        assert (await call(api.url, "GET", MAPS)).status == 200


async def test_a_watcher_that_is_gone_before_we_read_of_it_costs_its_connection_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As when its machine loses power: what we send fails first."""
    from crier.lab.api import server

    async with open_api() as api, connect(api.url) as watcher:
        await watcher.send("GET", f"{MAPS}?watch=1")
        await call(api.url, "POST", MAPS, config_map("a"))
        lines = watcher.lines()
        assert (await anext(lines))["type"] == "ADDED"

        async def fail(*_: object) -> None:
            raise server._Broken

        with monkeypatch.context() as patch:
            patch.setattr(server._Connection, "send_chunk", fail)
            await call(api.url, "POST", MAPS, config_map("b"))
            with pytest.raises(GONE):
                await anext(lines)
        assert (await call(api.url, "GET", MAPS)).status == 200


async def test_a_watch_from_before_what_was_forgotten_is_refused() -> None:
    async with open_api() as api:
        revision = (await call(api.url, "GET", MAPS)).json["metadata"]["resourceVersion"]
        await call(api.url, "POST", MAPS, config_map("a"))
        api.faults.forget_history()
        reply = await call(api.url, "GET", f"{MAPS}?watch=1&resourceVersion={revision}")
        assert (reply.status, reply.json["reason"]) == (410, "Expired")
        assert reply.json["message"].startswith("too old resource version: ")
        now = (await call(api.url, "GET", MAPS)).json["metadata"]["resourceVersion"]
        async with connect(api.url) as watcher:
            await watcher.send("GET", f"{MAPS}?watch=1&resourceVersion={now}&timeoutSeconds=1")
            await call(api.url, "POST", MAPS, config_map("b"))
            assert [event["object"]["metadata"]["name"] async for event in watcher.lines()] == ["b"]


async def test_a_list_in_progress_is_forgotten_too() -> None:
    async with open_api() as api:
        for name in ("a", "b", "c"):
            await call(api.url, "POST", MAPS, config_map(name))
        token = (await call(api.url, "GET", MAPS + "?limit=1")).json["metadata"]["continue"]
        api.faults.forget_history()
        reply = await call(api.url, "GET", f"{MAPS}?limit=1&continue={token}")
        assert (reply.status, reply.json["reason"]) == (410, "Expired")


async def test_a_watch_that_falls_behind_is_told_in_the_stream() -> None:
    async with open_api() as api, connect(api.url) as watcher:
        await watcher.send("GET", f"{MAPS}?watch=1")
        await watcher.event()
        await call(api.url, "POST", MAPS, config_map("a"))
        # between the write and the watcher's turn nothing can come, so both are done in one step
        body = {"metadata": {"name": "b", "namespace": "default", "uid": "u"}}
        api.store.put("configmaps", ("default", "b"), body)
        api.faults.forget_history()
        events = b""
        while isinstance(event := await watcher.event(), h11.Data):
            events += event.data
        assert b'"type":"ERROR"' in events
        assert b'"code":410' in events
        assert b'"reason":"Expired"' in events


@pytest.mark.parametrize(
    ("status", "reason"),
    [
        (409, "Conflict"),
        (429, "TooManyRequests"),
        (500, "InternalError"),
        (503, "ServiceUnavailable"),
        (504, "Timeout"),
    ],
)
async def test_errors_are_statuses(status: Any, reason: str) -> None:
    async with open_api() as api:
        api.faults.set(Rule(verb="create", resource="configmaps", status=status))
        reply = await call(api.url, "POST", MAPS, config_map("a"))
        assert (reply.status, reply.json["reason"], reply.json["kind"]) == (status, reason, "Status")
        assert (await call(api.url, "GET", MAPS)).json["items"] == []
        api.faults.clear()
        assert (await call(api.url, "POST", MAPS, config_map("a"))).status == 201


async def test_too_many_requests_says_when_to_come_again() -> None:
    async with open_api() as api:
        api.faults.set(Rule(status=429, retry_after=7))
        reply = await call(api.url, "GET", MAPS)
        assert (reply.status, reply.headers["retry-after"]) == (429, "7")
        assert reply.json["details"]["retryAfterSeconds"] == 7


async def test_a_rule_may_lose_the_answer_only() -> None:
    async with open_api() as api:
        api.faults.set(Rule(verb="create", status=504, applied=True, times=1))
        assert (await call(api.url, "POST", MAPS, config_map("a"))).status == 504
        assert (await call(api.url, "POST", MAPS, config_map("a"))).status == 409


async def test_rules_match_verb_and_resource() -> None:
    async with open_api(metallb_crds=True) as api:
        head = {"apiVersion": "metallb.io/v1beta1", "kind": "IPAddressPool"}
        assert (await call(api.url, "POST", POOLS, {**head, **config_map("p")})).status == 201
        api.faults.set(
            Rule(verb="patch", resource="ipaddresspools.metallb.io/status", status=500),
            Rule(verb="watch", resource="configmaps", status=500),
        )
        merge = {"Content_Type": "application/merge-patch+json"}
        assert (await call(api.url, "PATCH", POOLS + "/p/status", {}, **merge)).status == 500
        assert (await call(api.url, "PATCH", POOLS + "/p", {}, **merge)).status == 200
        assert (await call(api.url, "GET", MAPS)).status == 200
        assert (await call(api.url, "GET", MAPS + "?watch=1")).status == 500
        assert [rule["hits"] for rule in (await call(api.url, "GET", "/crier-lab/faults")).json["rules"]] == [
            1,
            1,
        ]


async def test_latency_is_waited_out(autojump_clock: MockClock) -> None:
    async with open_api(clock=trio.current_time) as api:
        api.faults.set(Rule(verb="list", resource="configmaps", latency=2.5))
        began = trio.current_time()
        assert (await call(api.url, "GET", MAPS)).status == 200
        assert trio.current_time() - began >= 2.5
        began = trio.current_time()
        assert (await call(api.url, "GET", MAPS + "/none")).status == 404
        assert trio.current_time() == began


async def test_it_dies_at_the_nth_call_and_is_revived() -> None:
    async with open_api() as api:
        api.faults.die_after(2, verb="create", resource="configmaps", applied=True)
        assert (await call(api.url, "POST", MAPS, config_map("a"))).status == 201
        assert (await call(api.url, "GET", MAPS)).status == 200
        with pytest.raises(GONE):
            await call(api.url, "POST", MAPS, config_map("b"))
        with pytest.raises(GONE):
            await call(api.url, "GET", MAPS)
        api.faults.clear()
        names = [thing["metadata"]["name"] for thing in (await call(api.url, "GET", MAPS)).json["items"]]
        assert names == ["a", "b"], "the call was carried out, only never answered"


async def test_requests_are_counted() -> None:
    async with open_api() as api:
        await call(api.url, "POST", MAPS, config_map("a"))
        await call(api.url, "GET", MAPS)
        await call(api.url, "GET", MAPS)
        assert api.faults.counted == {"create configmaps": 1, "list configmaps": 2}


@pytest.mark.parametrize(
    ("order", "field"),
    [
        ({"rules": [{"share": 2}]}, "share"),
        ({"rules": [{"status": 200}]}, "status"),
        ({"outage": "yes"}, "outage"),
        ({"drop": True}, "drop"),
        ({"die_after": {"requests": 0}}, "requests"),
        (b"{", ""),
    ],
)
async def test_an_order_that_is_wrong_is_named(order: Any, field: str) -> None:
    async with open_api() as api:
        reply = await call(api.url, "POST", "/crier-lab/faults", order)
        assert (reply.status, reply.json["kind"]) == (400, "Status")
        assert field in reply.json["message"]
        assert not api.faults.outage


def hits(seed: int) -> list[bool]:
    faults = Faults(rng=random.Random(seed))
    faults.set(Rule(share=0.3, status=500))
    return [faults.judge("get", "pods", "p").error is not None for _ in range(500)]


def test_a_share_is_chance_from_a_seed() -> None:
    assert hits(1) == hits(1)
    assert hits(1) != hits(2)
    assert 100 < sum(hits(1)) < 200


async def test_the_same_seed_gives_the_same_objects() -> None:
    async def story(api: Api) -> Any:
        body = {"metadata": {"generateName": "x-"}, "spec": {"type": "LoadBalancer", "ports": [{"port": 80}]}}
        return (await call(api.url, "POST", "/api/v1/namespaces/default/services", body)).json

    made = []
    for seed in (5, 5, 6):
        async with open_api(seed=seed, clock=lambda: 1_700_000_000.0) as api:
            made.append(await story(api))
    assert made[0] == made[1] != made[2]
    assert made[0]["metadata"]["creationTimestamp"] == "2023-11-14T22:13:20Z"
