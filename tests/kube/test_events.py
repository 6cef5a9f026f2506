"""Events: counted, held back, and never in anybody's way."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from crier.kube import events
from crier.kube.client import Api
from crier.kube.events import (
    BURST,
    MAX_MESSAGE,
    MAX_QUEUED,
    REFILL,
    Aggregator,
    CountUp,
    Create,
    Recorder,
    Reference,
)
from crier.kube.resources import EVENTS
from crier.lab.api import Api as Lab
from crier.lab.api import Rule, open_api

ABOUT = Reference("v1", "Service", "default", "web", "uid-1")


def test_the_same_news_is_counted() -> None:
    news = Aggregator()
    first = news.offer(ABOUT, "Normal", "Good", "all is well", 100.0)
    second = news.offer(ABOUT, "Normal", "Good", "all is well", 101.0)
    other = news.offer(ABOUT, "Warning", "Bad", "it is not", 102.0)
    assert isinstance(first, Create)
    assert isinstance(second, CountUp)
    assert (second.name, second.count, second.at) == (first.name, 2, 101.0)
    assert isinstance(other, Create)
    assert other.name != first.name
    # The version of the object is no part of what it is.
    newer = Reference("v1", "Service", "default", "web", "uid-1", "77")
    assert isinstance(news.offer(newer, "Normal", "Good", "all is well", 103.0), CountUp)
    # Another object of the same name is another object.
    reborn = Reference("v1", "Service", "default", "web", "uid-2")
    assert isinstance(news.offer(reborn, "Normal", "Good", "all is well", 103.0), Create)


def test_old_news_are_new_again() -> None:
    news = Aggregator()
    first = news.offer(ABOUT, "Normal", "Good", "well", 0.0)
    later = news.offer(ABOUT, "Normal", "Good", "well", events.FORGET_AFTER + 1)
    assert isinstance(first, Create)
    assert isinstance(later, Create)
    assert first.name != later.name


def test_one_object_cannot_flood() -> None:
    news = Aggregator()
    sent = [news.offer(ABOUT, "Normal", "R", f"message {number}", 0.0) for number in range(100)]
    assert sum(each is not None for each in sent) == BURST
    assert news.offer(ABOUT, "Normal", "R", "later", REFILL + 1) is not None
    assert news.offer(ABOUT, "Normal", "R", "much too soon", REFILL + 2) is None
    other = Reference("v1", "Service", "default", "other", "uid-9")
    assert news.offer(other, "Normal", "R", "x", 0.0) is not None


def test_messages_have_a_bound() -> None:
    made = Aggregator().offer(ABOUT, "Normal", "R", "x" * 5000, 0.0)
    assert isinstance(made, Create)
    assert len(made.message) == MAX_MESSAGE


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 5), st.floats(0, 1e6)), max_size=200))
def test_names_are_never_used_twice(offers: list[tuple[int, int, float]]) -> None:
    news = Aggregator()
    made = [
        news.offer(Reference("v1", "Service", "n", f"s{who}", f"u{who}"), "Normal", "R", str(what), when)
        for who, what, when in offers
    ]
    names = [each.name for each in made if isinstance(each, Create)]
    assert len(set(names)) == len(names)


# ------------------------------------------------------------------------------------ sending


@asynccontextmanager
async def recording() -> AsyncIterator[tuple[Lab, Recorder]]:
    async with open_api(seed=1) as lab:
        recorder = Recorder(Api.at(lab.url), "crier-test", host="n1", clock=lambda: 1_700_000_000.0)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(recorder.run)
            yield lab, recorder
            nursery.cancel_scope.cancel()


async def sent(lab: Lab, count: int) -> list[dict[str, Any]]:
    """What is there, once it is that many or has been counted up that often."""
    api = Api.at(lab.url)
    with trio.fail_after(60):
        while True:
            found = [
                msgspec.json.decode(item)
                async for page in api.list_pages(EVENTS, namespace="default")
                for item in page.items
            ]
            if sum(each["count"] for each in found) >= count:
                return found


async def test_an_event_as_kubectl_shows_it() -> None:
    async with recording() as (lab, recorder):
        recorder.record(ABOUT, "Warning", "AllocationFailed", "no available IPs")
        (found,) = await sent(lab, 1)
        assert found["metadata"]["name"].startswith("web.")
        assert found["involvedObject"] == {
            "apiVersion": "v1",
            "kind": "Service",
            "namespace": "default",
            "name": "web",
            "uid": "uid-1",
        }
        assert found["source"] == {"component": "crier-test", "host": "n1"}
        assert (found["type"], found["reason"], found["message"], found["count"]) == (
            "Warning",
            "AllocationFailed",
            "no available IPs",
            1,
        )
        assert found["firstTimestamp"] == found["lastTimestamp"] == "2023-11-14T22:13:20Z"


async def test_counting_up_and_what_was_deleted() -> None:
    async with recording() as (lab, recorder):
        for _ in range(3):
            recorder.record(ABOUT, "Normal", "R", "again")
        (found,) = await sent(lab, 3)
        assert found["count"] == 3
        await Api.at(lab.url).delete(EVENTS, found["metadata"]["name"], namespace="default")
        recorder.record(ABOUT, "Normal", "R", "again")
        (found,) = await sent(lab, 1)
        assert found["count"] == 1


async def test_an_outage_delays_and_refusals_do_not_block() -> None:
    async with recording() as (lab, recorder):
        lab.faults.set(Rule(verb="create", resource="events", status=503, times=2))
        recorder.record(ABOUT, "Normal", "R", "late")
        await sent(lab, 1)
        lab.faults.set(Rule(verb="create", resource="events", status=500, times=1))
        recorder.record(ABOUT, "Normal", "R", "refused")
        recorder.record(ABOUT, "Normal", "R", "after")
        found = await sent(lab, 2)
        assert {each["message"] for each in found} == {"late", "after"}
        assert recorder.dropped == 1


async def test_the_queue_is_bounded_and_keeps_the_newest() -> None:
    async with open_api(seed=1) as lab:
        recorder = Recorder(Api.at(lab.url), "crier-test")
        for number in range(MAX_QUEUED + 10):
            about = Reference("v1", "Service", "default", f"s{number}", f"u{number}")
            recorder.record(about, "Normal", "R", str(number))
        assert recorder.dropped == 10
