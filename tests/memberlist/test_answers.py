"""What a core answers to a ping."""

from typing import Any

import pytest

from memberlist.codec import MAX_USER_STATE
from memberlist.delegate import Delegate
from memberlist.effects import SendPacket
from memberlist.messages import (
    Ack,
    Alive,
    Dead,
    Ping,
)
from tests.memberlist.one_core import SOMEBODY, make, meet, only, parts


def test_a_ping_is_answered_where_the_asker_says() -> None:
    core = make()
    ping = Ping(7, "me", bytes((10, 0, 0, 2)), 7000, "x")
    assert core.handle_packet([ping], SOMEBODY, 1.0) == [SendPacket(("10.0.0.2", 7000), (Ack(7),))]
    assert core.handle_packet([Ping(8, "me")], SOMEBODY, 1.0) == [SendPacket(SOMEBODY, (Ack(8),))]
    assert core.handle_packet([Ping(9, "")], SOMEBODY, 1.0) == [SendPacket(SOMEBODY, (Ack(9),))]


def test_a_ping_for_another_name_is_not() -> None:
    assert make().handle_packet([Ping(7, "other")], SOMEBODY, 1.0) == []


def test_three_pings_in_one_datagram_are_three_answers() -> None:
    effects = make().handle_packet([Ping(seq, "me") for seq in (1, 2, 3)], SOMEBODY, 1.0)
    assert [ack.seq_no for _, ack in only(Ack, effects)] == [1, 2, 3]


def test_news_travel_with_the_answer_but_not_with_every_one() -> None:
    """A watcher's pings come so fast that its answers would use up all transmissions of a piece of news."""
    core = meet(make(), "x")
    core.handle_packet([Alive(1, "y", bytes((10, 0, 0, 3)), 7946)], SOMEBODY, 1.0)
    ping = Ping(1, "me", bytes((10, 0, 0, 2)), 7946, "x")
    assert [type(m) for _, m in parts(core.handle_packet([ping], SOMEBODY, 1.0))] == [Ack, Alive]
    assert [type(m) for _, m in parts(core.handle_packet([ping], SOMEBODY, 1.1))] == [Ack]
    assert [type(m) for _, m in parts(core.handle_packet([ping], SOMEBODY, 1.6))] == [Ack, Alive]


def test_who_is_gone_and_asks_hears_that_it_is() -> None:
    """Or it never refutes: nobody who holds it for gone asks it anything."""
    ping = Ping(1, "me", bytes((10, 0, 0, 2)), 7946, "x")
    elsewhere = Ping(1, "me", bytes((10, 0, 0, 9)), 7946, "x")
    for verdict in (Dead(1, "x", "x"), Dead(1, "x", "y")):
        core = meet(make(), "x", "y")
        core.handle_packet([verdict], SOMEBODY, 1.0)
        assert core.table.members["x"].gone
        assert parts(core.handle_packet([ping], SOMEBODY, 1.0)) == [
            ("10.0.0.2", Ack(1)),
            ("10.0.0.2", Dead(1, "x", "me")),
        ]
        assert parts(core.handle_packet([ping], SOMEBODY, 1.4)) == [("10.0.0.2", Ack(1))], "not every time"
        answer = parts(core.handle_packet([elsewhere], SOMEBODY, 2.0))
        assert not [message for _, message in answer if message == Dead(1, "x", "me")], "another of that name"


def test_an_observer_tells_nobody_that_it_is_gone() -> None:
    core = meet(make(observe=True), "x")
    core.handle_packet([Dead(1, "x", "x")], SOMEBODY, 1.0)
    ping = Ping(1, "me", bytes((10, 0, 0, 2)), 7946, "x")
    told = [message.sender for _, message in only(Dead, core.handle_packet([ping], SOMEBODY, 1.0))]
    assert "me" not in told


def test_the_delegates_payload_travels_with_the_answer() -> None:
    class Payload(Delegate):
        def ack_payload(self) -> bytes:
            return b"pl"

    effects = make(Payload()).handle_packet([Ping(7, "me")], SOMEBODY, 1.0)
    assert only(Ack, effects) == [("10.9.9.9", Ack(7, b"pl"))]


@pytest.mark.parametrize("wrong", ["text", 5, [5], ["text"], [bytes(2000)], bytes(MAX_USER_STATE + 1)])
def test_what_a_hook_returns_and_cannot_be_sent_costs_nobody_its_membership(wrong: Any) -> None:
    class Mistaken(Delegate):
        def ack_payload(self) -> bytes | None:
            return wrong  # type: ignore[no-any-return]

        def broadcasts(self, overhead: int, limit: int) -> list[bytes]:
            return wrong  # type: ignore[no-any-return]

        def local_state(self, join: bool) -> bytes:
            return wrong  # type: ignore[no-any-return]

    core = make(Mistaken())
    effects = core.handle_packet([Ping(7, "me")], SOMEBODY, 1.0)
    assert parts(effects) == [("10.9.9.9", Ack(7))]
    assert core.local_state(join=True).user_state == b""


def test_a_packet_stays_within_the_buffer_size() -> None:
    core = make(udp_buffer_size=1400)
    for number in range(60):
        core.handle_packet([Alive(1, f"node-{number:03}", bytes((10, 0, 1, number)), 7946)], SOMEBODY, 1.0)
    (effect,) = core.handle_packet([Ping(7, "me")], SOMEBODY, 1.0)
    assert isinstance(effect, SendPacket)
    sizes = [len(part) for part in effect.parts if isinstance(part, bytes)]
    assert 1200 < sum(2 + size for size in sizes) <= 1400
