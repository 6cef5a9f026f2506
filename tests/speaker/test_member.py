"""Who was lost is looked for, by few, and found soon after it is there."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio

from memberlist import Config, Event, open_member
from speaker.reflex.member import KNOCKERS, Membership, knocked
from tests.places import free_port

PATIENCE = 60
"""Seconds; without looking it would be for ever."""


def config(name: str) -> Config:
    return Config.local(name=name, bind=("127.0.0.1", 0))


@asynccontextmanager
async def membership(name: str) -> AsyncIterator[tuple[Membership, trio.Event]]:
    opened, joined = trio.Event(), trio.Event()
    news: list[Event] = []
    it = Membership(
        config(name), opened=opened.set, joined=joined.set, changed=news.append, rng=random.Random(1)
    )
    async with trio.open_nursery() as nursery:
        nursery.start_soon(it.run)
        it.open()
        await opened.wait()
        yield it, joined
        nursery.cancel_scope.cancel()


async def until_known(it: Membership, name: str) -> None:
    with trio.fail_after(PATIENCE):
        while name not in {node.name for node in it.nodes()}:  # noqa: ASYNC110 - it tells nobody
            await trio.sleep(0.01)


async def test_one_that_was_not_there_when_we_joined_is_found() -> None:
    async with (
        open_member(config("first")) as first,
        membership("we") as (we, joined),
    ):
        place = ("127.0.0.1", free_port())
        host, port = first.address
        we.seeds((f"{host}:{port}", f"{place[0]}:{place[1]}"))
        with trio.fail_after(PATIENCE):
            await joined.wait()
        await until_known(we, "first")
        async with open_member(Config.local(name="late", bind=place)):
            await until_known(we, "late")


@pytest.mark.parametrize("members", [1, 3, 10, 100])
def test_few_look_at_one_time_however_many_there_are(members: int) -> None:
    rng, rounds = random.Random(members), 2000
    lost = [f"192.0.2.{number}" for number in range(50)]
    looks = [len(knocked(lost, members, rng)) for _ in range(rounds * members)]
    assert set(looks) <= {0, KNOCKERS}
    expected = min(members, KNOCKERS) * KNOCKERS * rounds
    assert 0.9 * expected < sum(looks) < 1.1 * expected


def test_nobody_lost_is_nobody_looked_for() -> None:
    assert knocked([], 1, random.Random(1)) == []
