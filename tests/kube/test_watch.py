"""The mirror of an API that breaks in every way it can."""

from __future__ import annotations

import functools
import random
import threading
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import msgspec
import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from crier.kube.client import Api
from crier.kube.errors import ApiError
from crier.kube.model.errors import DecodeError
from crier.kube.model.namespace import Namespace
from crier.kube.model.service import Service
from crier.kube.model.wire import decode_meta
from crier.kube.resources import NAMESPACES, SERVICES
from crier.kube.watch import MAX_GONE, Change, EventDecoder, Mirror, backoff, version_number, watch
from crier.lab.api import Faults, Rule, open_api

PATIENCE = 60.0


@dataclass
class Seen:
    """A mirror, and every state its reader was shown."""

    api: Api
    faults: Faults
    mirror: Mirror[Namespace] = field(default_factory=lambda: Mirror(Namespace.decode, keep_changes=True))
    states: list[frozenset[str]] = field(default_factory=list)
    _news: trio.Event = field(default_factory=trio.Event)

    def changed(self) -> None:
        self.states.append(frozenset(self.mirror.objects))
        self._news.set()
        self._news = trio.Event()

    async def until(self, *names: str, present: bool = True) -> None:
        with trio.fail_after(PATIENCE):
            while not all((name in self.mirror.objects) is present for name in names):
                await self._news.wait()

    async def make(self, name: str, **labels: str) -> None:
        body = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}
        await self.api.create(NAMESPACES, body)


@asynccontextmanager
async def open_seen(**options: Any) -> AsyncIterator[Seen]:
    async with open_api(seed=1) as lab:
        seen = Seen(Api.at(lab.url), lab.faults)
        async with trio.open_nursery() as nursery:
            start = functools.partial(watch, **options)
            await nursery.start(start, seen.api, NAMESPACES, seen.mirror, seen.changed)
            yield seen
            nursery.cancel_scope.cancel()
        seen.api.close()


async def test_list_then_watch() -> None:
    began = time.monotonic()
    async with open_seen() as seen:
        assert seen.mirror.synced
        assert {"default", "kube-system"} <= seen.mirror.objects.keys()
        assert len(seen.states) == 1, "one call for the whole first list"
        await seen.make("new")
        await seen.until("new")
        await seen.api.patch(NAMESPACES, "new", {"metadata": {"labels": {"a": "b"}}})
        with trio.fail_after(PATIENCE):
            while seen.mirror.objects["new"].labels.get("a") != "b":
                await seen._news.wait()
        await seen.api.delete(NAMESPACES, "new")
        await seen.until("new", present=False)
        news = seen.mirror.take_news()
        assert {"new", "default"} <= news.keys()
        assert all(began <= heard_at <= time.monotonic() for heard_at in news.values())
        assert seen.mirror.take_changes() == set()


async def test_a_list_of_many_pages() -> None:
    async with open_api(seed=1) as lab:
        api = Api.at(lab.url)
        for number in range(23):
            await api.create(
                NAMESPACES, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": f"n{number:02}"}}
            )
        pages = [page async for page in api.list_pages(NAMESPACES, limit=10)]
        assert [len(page.items) for page in pages] == [10, 10, 7]
        names = [Namespace.decode(bytes(item)).name for page in pages for item in page.items]
        assert len(set(names)) == 27
        api.close()


async def test_lost_history_never_empties_the_mirror() -> None:
    """410 Gone: a new list, compared with what is there."""
    async with open_seen() as seen:
        await seen.make("a")
        await seen.make("b")
        await seen.until("a", "b")
        seen.states.clear()
        seen.faults.set(Rule(verb="watch", status=503))  # while nobody watches...
        seen.faults.drop_watches()
        await seen.api.delete(NAMESPACES, "a")
        await seen.make("c")
        seen.faults.forget_history()
        seen.faults.set()
        await seen.until("c")
        await seen.until("a", present=False)
        assert all("b" in state and "default" in state for state in seen.states)
        assert seen.mirror.synced
        assert seen.faults.counted["list namespaces"] >= 2


async def test_a_broken_watch_goes_on_where_it_was() -> None:
    async with open_seen() as seen:
        for number in range(5):
            seen.faults.drop_watches()
            await seen.make(f"n{number}")
        await seen.until(*(f"n{number}" for number in range(5)))
        assert seen.faults.counted["list namespaces"] == 1, "nothing was listed again"


async def test_an_api_that_is_away_when_we_start() -> None:
    async with open_api(seed=1) as lab:
        seen = Seen(Api.at(lab.url), lab.faults)
        lab.faults.set(Rule(verb="list", status=503, times=2), Rule(verb="watch", status=500, times=2))
        async with trio.open_nursery() as nursery:
            with trio.fail_after(PATIENCE):
                await nursery.start(watch, seen.api, NAMESPACES, seen.mirror, seen.changed)
            await seen.make("late")
            await seen.until("late")
            nursery.cancel_scope.cancel()


async def test_too_many_requests_are_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)
        await trio.lowlevel.checkpoint()

    monkeypatch.setattr(trio, "sleep", sleep)
    async with open_api(seed=1) as lab:
        seen = Seen(Api.at(lab.url), lab.faults)
        lab.faults.set(Rule(verb="list", status=429, retry_after=7, times=1))
        async with trio.open_nursery() as nursery:
            await nursery.start(watch, seen.api, NAMESPACES, seen.mirror, seen.changed)
            nursery.cancel_scope.cancel()
    assert 7.0 in slept


async def test_silence_is_a_dead_connection() -> None:
    """A server that says nothing any more is left for a new watch."""
    async with open_seen(read_timeout=0.2) as seen:
        with trio.fail_after(PATIENCE):
            while seen.faults.counted.get("watch namespaces", 0) < 3:
                await trio.lowlevel.checkpoint()
        await seen.make("still-here")
        await seen.until("still-here")


async def test_a_watch_is_cancelled_at_once() -> None:
    """Also while its thread waits for octets that do not come; and the thread goes too."""
    async with open_api(seed=1) as lab:
        seen = Seen(Api.at(lab.url), lab.faults)
        async with trio.open_nursery() as nursery:
            await nursery.start(watch, seen.api, NAMESPACES, seen.mirror, seen.changed)
            await seen.make("a")
            await seen.until("a")
            assert is_watching()
            nursery.cancel_scope.cancel()
        with trio.fail_after(PATIENCE):
            while is_watching():
                await trio.lowlevel.checkpoint()


def is_watching() -> bool:
    return any(thread.name == "watch namespaces" for thread in threading.enumerate())


async def test_an_object_that_cannot_be_read_keeps_its_last_good_state() -> None:
    def decode(data: bytes) -> Namespace:
        found = Namespace.decode(data)
        if "bad" in found.labels:
            raise DecodeError("it is bad")
        return found

    async with open_api(seed=1) as lab:
        seen = Seen(Api.at(lab.url), lab.faults, Mirror(decode, keep_changes=True))
        async with trio.open_nursery() as nursery:
            await nursery.start(watch, seen.api, NAMESPACES, seen.mirror, seen.changed)
            await seen.make("x", good="yes")
            await seen.until("x")
            await seen.api.patch(NAMESPACES, "x", {"metadata": {"labels": {"bad": "yes"}}})
            with trio.fail_after(PATIENCE):
                while "x" not in seen.mirror.errors:
                    await seen._news.wait()
            assert seen.mirror.objects["x"].labels["good"] == "yes"
            assert dict(seen.mirror.errors) == {"x": "it is bad"}
            await seen.api.patch(NAMESPACES, "x", {"metadata": {"labels": {"bad": None}}})
            with trio.fail_after(PATIENCE):
                while seen.mirror.errors:
                    await seen._news.wait()
            nursery.cancel_scope.cancel()


async def test_selectors_reach_the_api() -> None:
    async with open_api(seed=1) as lab:
        seen = Seen(Api.at(lab.url), lab.faults)
        await seen.make("in", pick="me")
        await seen.make("out")
        async with trio.open_nursery() as nursery:
            start = lambda task_status: watch(  # noqa: E731
                seen.api,
                NAMESPACES,
                seen.mirror,
                seen.changed,
                label_selector="pick=me",
                task_status=task_status,
            )
            await nursery.start(start)
            assert seen.mirror.objects.keys() == {"in"}
            await seen.make("too", pick="me")
            await seen.until("too")
            assert seen.mirror.objects.keys() == {"in", "too"}
            nursery.cancel_scope.cancel()


# ------------------------------------------------------------------------- without a network


def namespace(name: str, version: str = "1", **labels: str) -> Namespace:
    return Namespace(name=name, labels=labels)


def test_a_mirror_tells_news_from_repetition() -> None:
    mirror: Mirror[Namespace] = Mirror(Namespace.decode)
    assert mirror.apply(Change("a", namespace("a")))
    assert not mirror.apply(Change("a", namespace("a")))
    assert mirror.apply(Change("a", namespace("a", x="y")))
    assert mirror.apply(Change("a", None, "broken"))
    assert not mirror.apply(Change("a", None, "broken"))
    assert mirror.objects["a"].labels == {"x": "y"}
    assert mirror.apply(Change("a", namespace("a", x="y"))), "the error is gone: that is news"
    assert mirror.apply(Change("a", None))
    assert not mirror.apply(Change("a", None))
    with pytest.raises(RuntimeError):
        mirror.take_changes()
    with pytest.raises(TypeError):
        mirror.objects["b"] = namespace("b")  # type: ignore[index]


def test_news_is_as_old_as_what_was_heard_first() -> None:
    mirror: Mirror[Namespace] = Mirror(Namespace.decode, keep_changes=True)
    mirror.apply(Change("a", namespace("a")), heard_at=1.0)
    mirror.apply(Change("b", namespace("b")), heard_at=2.0)
    mirror.apply(Change("a", namespace("a", x="y")), heard_at=3.0)
    assert mirror.take_news() == {"a": 1.0, "b": 2.0}
    mirror.apply(Change("a", None), heard_at=4.0)
    assert mirror.take_news() == {"a": 4.0}


def test_what_a_new_list_does_not_have_is_gone() -> None:
    mirror: Mirror[Namespace] = Mirror(Namespace.decode)
    for name in "abc":
        mirror.apply(Change(name, namespace(name)))
    mirror.apply(Change("d", None, "broken"))
    assert mirror.keep_only({"a", "c"})
    assert mirror.objects.keys() == {"a", "c"}
    assert not mirror.errors
    assert not mirror.keep_only({"a", "c", "z"})


def event(kind: str, name: str, version: int) -> bytes:
    return msgspec.json.encode(
        {"type": kind, "object": {"metadata": {"name": name, "resourceVersion": str(version)}}}
    )


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_events_that_come_again_or_late_change_nothing(data: st.DataObject) -> None:
    """The mirror ends where the history ends, in whatever order and how often its events arrive."""
    history: list[bytes] = []
    alive: dict[str, int] = {}
    for version in range(1, data.draw(st.integers(1, 12)) + 1):
        name = data.draw(st.sampled_from("abc"))
        if name in alive and data.draw(st.booleans()):
            del alive[name]
            history.append(event("DELETED", name, version))
        else:
            history.append(event("MODIFIED" if name in alive else "ADDED", name, version))
            alive[name] = version
    again = data.draw(st.lists(st.sampled_from(history), max_size=8))
    lines = data.draw(st.permutations(history + again))
    mirror: Mirror[int] = Mirror(lambda raw: version_number(decode_meta(raw).resource_version))
    for line in lines:
        changes, _, _ = EventDecoder(mirror.decode).decode_events([line])
        for change in changes:
            mirror.apply(change)
    assert mirror.objects == alive


def test_a_list_is_the_truth_whatever_was_heard_before() -> None:
    """As after a restore of the API's database, when versions begin again lower."""
    mirror: Mirror[int] = Mirror(int)
    mirror.apply(Change("a", 1, version=9))
    assert not mirror.apply(Change("a", 2, version=3))
    assert mirror.apply(Change("a", 2, version=3), listed=True)
    assert mirror.apply(Change("a", 4, version=4))


def test_only_so_many_of_the_gone_are_remembered() -> None:
    mirror: Mirror[int] = Mirror(int)
    for number in range(3 * MAX_GONE):
        mirror.apply(Change(str(number), 1, version=2 * number + 1))
        mirror.apply(Change(str(number), None, version=2 * number + 2))
    assert len(mirror._versions) <= MAX_GONE


@pytest.mark.parametrize("text", [None, "", "-1", "1.5", "0x1", "9" * 5000, "\u0661"])
def test_what_is_no_version(text: str | None) -> None:
    assert version_number(text) == 0


LINES = st.binary(max_size=60) | st.fixed_dictionaries(
    {
        "type": st.sampled_from(["ADDED", "MODIFIED", "DELETED", "BOOKMARK", "ERROR", "x"]) | st.integers(),
        "object": st.none()
        | st.integers()
        | st.fixed_dictionaries(
            {},
            optional={
                "metadata": st.fixed_dictionaries(
                    {},
                    optional={
                        "name": st.text(max_size=3) | st.none(),
                        "namespace": st.sampled_from(["", "n"]),
                        "resourceVersion": st.sampled_from(["1", "2"]) | st.integers(),
                    },
                ),
                "code": st.integers() | st.text(max_size=3),
                "reason": st.sampled_from(["Gone", "Expired"]),
            },
        ),
    }
).map(msgspec.json.encode)


@settings(max_examples=150, deadline=None)
@given(st.lists(LINES, max_size=6))
def test_no_octets_break_the_decoder(lines: list[bytes]) -> None:
    changes, version, error = EventDecoder(Service.decode).decode_events(lines)
    assert all(change.key for change in changes)
    assert isinstance(version, str)
    assert error is None or isinstance(error, ApiError)


def test_backoff_doubles_to_its_bound() -> None:
    rng = random.Random(7)
    for failures, ceiling in [(1, 0.1), (2, 0.2), (3, 0.4), (8, 12.8), (9, 25.6), (10, 30.0), (10_000, 30.0)]:
        waits = [backoff(failures, rng) for _ in range(200)]
        assert ceiling / 2 <= min(waits)
        assert max(waits) <= ceiling
        assert len(set(waits)) > 100


async def test_services_carry_their_namespace() -> None:
    async with open_api(seed=1) as lab:
        api, mirror = Api.at(lab.url), Mirror(Service.decode)
        async with trio.open_nursery() as nursery:
            await nursery.start(watch, api, SERVICES, mirror, lambda: None)
            assert "default/kubernetes" in mirror.objects
            nursery.cancel_scope.cancel()
        api.close()
