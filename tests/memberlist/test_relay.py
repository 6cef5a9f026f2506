"""Indirect pings carried for others."""

from memberlist.effects import SendPacket
from memberlist.messages import (
    Ack,
    IndirectPing,
    Nack,
    Ping,
)
from memberlist.relay import MAX_RELAYS, Relays
from tests.memberlist.one_core import SOMEBODY, make, only, run

ASK = IndirectPing(77, bytes((10, 0, 0, 5)), 7946, "x", True, bytes((10, 0, 0, 2)), 7946, "asker")


def test_an_indirect_ping_is_carried_there_and_back() -> None:
    core = make()
    ((to, ping),) = only(Ping, core.handle_packet([ASK], SOMEBODY, 1.0))
    assert (to, ping.node, ping.source_node) == ("10.0.0.5", "x", "me")
    effects = core.handle_packet([Ack(ping.seq_no, b"pl")], SOMEBODY, 1.1)
    assert effects == [SendPacket(("10.0.0.2", 7946), (Ack(77),))]
    assert core.handle_packet([Ack(ping.seq_no)], SOMEBODY, 1.1) == [], "once"


def test_a_nack_comes_in_time_to_be_heard_and_a_late_answer_still_counts() -> None:
    core = make()
    ((_, ping),) = only(Ping, core.handle_packet([ASK], SOMEBODY, 1.0))
    assert run(core, 1.0, 1.39) == []
    assert only(Nack, run(core, 1.39, 1.4)) == [("10.0.0.2", Nack(77))]
    assert only(Ack, core.handle_packet([Ack(ping.seq_no)], SOMEBODY, 1.45)) == [("10.0.0.2", Ack(77))]
    ((_, late),) = only(Ping, core.handle_packet([ASK], SOMEBODY, 2.0))
    run(core, 2.0, 2.5)
    assert core.handle_packet([Ack(late.seq_no)], SOMEBODY, 2.6) == []


def test_relays_are_bounded() -> None:
    relays = Relays(0.5)
    carried = [relays.carry(n, n, SOMEBODY, nack=True, now=0.0) for n in range(MAX_RELAYS + 5)]
    assert carried.count(True) == len(relays) == MAX_RELAYS
    relays.tick(1.0)
    assert len(relays) == 0
