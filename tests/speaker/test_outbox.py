from __future__ import annotations

import pytest
import trio

from speaker.orders import MAX_HAPPENINGS, Happened, Members, Pulse, UpSealed
from speaker.reflex.outbox import Outbox

PULSE = Pulse(1.0, 0.0, 0.0, 0, 0)


class Sources:
    """Counts how often each snapshot is made."""

    def __init__(self) -> None:
        self.made: list[str] = []
        self.outbox = Outbox({"members": self.members, "pulse": self.pulse})

    async def members(self) -> Members:
        self.made.append("members")
        return Members((), joined=len(self.made) > 1)

    async def pulse(self) -> Pulse:
        self.made.append("pulse")
        return PULSE


def happening(number: int) -> Happened:
    return Happened(float(number), "took_over", "192.0.2.1")


async def test_a_new_planner_gets_every_snapshot_and_then_what_happened() -> None:
    sources = Sources()
    outbox = sources.outbox
    outbox.happened(happening(1))
    outbox.mark_all()
    told: list[UpSealed] = [await outbox.next() for _ in range(3)]
    assert told == [Members((), joined=False), PULSE, happening(1)]


async def test_a_snapshot_marked_often_is_made_once_and_when_taken() -> None:
    sources = Sources()
    for _ in range(100):
        sources.outbox.mark("members")
    assert sources.made == []
    assert await sources.outbox.next() == Members((), joined=False)
    assert sources.made == ["members"]
    with trio.move_on_after(0) as nothing_more:
        await sources.outbox.next()
    assert nothing_more.cancelled_caught


async def test_the_oldest_happenings_make_room_and_are_counted() -> None:
    outbox = Outbox({})
    for number in range(MAX_HAPPENINGS + 5):
        outbox.happened(happening(number))
    assert outbox.lost == 5
    assert await outbox.next() == happening(5)


async def test_waiting_ends_with_news(autojump_clock: trio.testing.MockClock) -> None:
    outbox = Sources().outbox
    async with trio.open_nursery() as nursery:

        @nursery.start_soon
        async def later() -> None:
            await trio.sleep(5)
            outbox.mark("pulse")

        assert await outbox.next() == PULSE
    assert trio.current_time() == pytest.approx(5)
