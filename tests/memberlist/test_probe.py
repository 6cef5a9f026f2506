"""Probe rounds, as one core runs them; the names follow upstream's tests where there is one."""

import pytest

from memberlist.delegate import Delegate
from memberlist.effects import Notify, StartStreamPing
from memberlist.events import Event, Node
from memberlist.messages import (
    Ack,
    Alive,
    IndirectPing,
    Nack,
    Ping,
    State,
    Suspect,
)
from tests.memberlist.one_core import SOMEBODY, first_probe, make, meet, only, parts, run


def test_an_answered_probe_changes_nothing_but_our_health() -> None:
    core = meet(make(), "x")
    core.health.adjust(1)
    now, ping, _ = first_probe(core)
    assert ping == Ping(ping.seq_no, "x", bytes((10, 0, 0, 1)), 7946, "me")
    assert core.handle_packet([Ack(ping.seq_no)], SOMEBODY, now + 0.01) == []
    assert core.health.score == 0
    assert only(Suspect, run(core, now, now + 0.95)) == []


def test_the_delegate_hears_of_answered_probes() -> None:
    told: list[tuple[str, float, bytes | None]] = []

    class Pings(Delegate):
        def ping_complete(self, node: Node, rtt: float, payload: bytes | None) -> None:
            told.append((node.name, rtt, payload))

    core = meet(make(Pings()), "x")
    now, ping, _ = first_probe(core)
    core.handle_packet([Ack(ping.seq_no, b"pl")], SOMEBODY, now + 0.25)
    ((name, rtt, payload),) = told
    assert (name, round(rtt, 6), payload) == ("x", 0.25, b"pl")


def test_silence_is_asked_about_then_suspected() -> None:
    core = meet(make(), "x", "a", "b", "c", "d")
    now, ping, _ = first_probe(core)
    asked = run(core, now, now + 0.5)
    indirect = only(IndirectPing, asked)
    assert len(indirect) == 3
    assert {(m.seq_no, m.node, m.nack) for _, m in indirect} == {(ping.seq_no, ping.node, True)}
    (stream,) = [e for e in asked if isinstance(e, StartStreamPing)]
    assert (stream.ping.seq_no, stream.deadline_at) == (ping.seq_no, now + 1.0)
    effects = run(core, now + 0.5, now + 1.0)
    events = [e.event for e in effects if isinstance(e, Notify)]
    assert [type(event).__name__ for event in events] == ["Suspected"]
    assert core.table.members[ping.node].state is State.SUSPECT
    assert core.health.score == 3, "three nacks were to come and none did"


def test_all_nacks_leave_our_health_alone() -> None:
    core = meet(make(), "x", "a", "b", "c")
    now, ping, _ = first_probe(core)
    run(core, now, now + 0.5)
    for _ in range(3):
        core.handle_packet([Nack(ping.seq_no)], SOMEBODY, now + 0.9)
    run(core, now + 0.9, now + 1.0)
    assert core.health.score == 0
    assert core.table.members[ping.node].state is State.SUSPECT


def test_with_nobody_able_to_nack_a_failure_counts_against_us() -> None:
    core = meet(make(), "x", "a", vsn=bytes((1, 2, 2, 0, 0, 0)))
    now, _, _ = first_probe(core)
    effects = run(core, now, now + 1.0)
    assert [m.nack for _, m in only(IndirectPing, effects)] == [False]
    assert [e for e in effects if isinstance(e, StartStreamPing)] == [], "it does not answer TCP pings"
    assert core.health.score == 1


@pytest.mark.parametrize("when", [0.2, 0.7, 0.99])
def test_any_answer_in_time_ends_the_round(when: float) -> None:
    core = meet(make(), "x", "a")
    now, ping, _ = first_probe(core)
    run(core, now, now + when)
    core.handle_packet([Ack(ping.seq_no)], SOMEBODY, now + when)
    run(core, now + when, now + 1.0)
    assert core.table.members[ping.node].state is State.ALIVE


def test_tcp_contact_is_life() -> None:
    core = meet(make(), "x")
    now, ping, _ = first_probe(core)
    run(core, now, now + 0.5)
    core.stream_acked(ping.seq_no)
    run(core, now + 0.5, now + 1.0)
    assert core.table.members["x"].state is State.ALIVE


def test_without_tcp_pings_it_is_suspected() -> None:
    core = meet(make(tcp_pings=False), "x")
    now, _, _ = first_probe(core)
    effects = run(core, now, now + 1.0)
    assert [e for e in effects if isinstance(e, StartStreamPing)] == []
    assert core.table.members["x"].state is State.SUSPECT


def test_our_health_stretches_the_round_not_the_timeout() -> None:
    core = meet(make(), "x", "a")
    core.health.adjust(1)
    now, ping, _ = first_probe(core)
    assert only(IndirectPing, run(core, now, now + 0.5)) != []
    run(core, now + 0.5, now + 1.9)
    assert core.table.members[ping.node].state is State.ALIVE
    run(core, now + 1.9, now + 2.0)
    assert core.table.members[ping.node].state is State.SUSPECT


def test_a_failed_round_costs_no_tick() -> None:
    """Upstream drops the probe whose tick falls into the end of the round before."""
    core = meet(make(awareness_max=1), "x", "a")
    now, _, _ = first_probe(core)
    assert len(only(Ping, run(core, now, now + 3.0))) == 3


def test_a_suspect_gets_the_accusation_with_the_ping() -> None:
    core = meet(make(), "x")
    core.handle_packet([Suspect(1, "x", "y")], SOMEBODY, 0.0)
    core.broadcasts.prune(0)
    _, ping, effects = first_probe(core)
    assert [m for _, m in parts(effects)] == [ping, Suspect(1, "x", "me")]


def test_the_buddy_answers_with_its_refutation() -> None:
    core = meet(make(), "x")
    effects = core.handle_packet([Ping(7, "me"), Suspect(1, "me", "x")], SOMEBODY, 1.0)
    effects += core.handle_packet([Ping(8, "me")], SOMEBODY, 1.0)
    assert ("10.9.9.9", Alive(2, "me", bytes((10, 0, 0, 1)), 7946)) in parts(effects)
    assert core.health.score == 1


def test_time_we_did_not_run_is_not_the_members_silence() -> None:
    core = meet(make(), "x")
    now, _, _ = first_probe(core)
    core.tick(now + 60.0)
    run(core, now + 60.0, now + 60.3)
    assert core.table.members["x"].state is State.ALIVE
    assert core.late_count == 1


def test_in_a_flood_the_watchers_time_stands_still_and_swim_goes_on() -> None:
    core, now = meet(make(watch=True), "x"), 0.0
    events: list[Event] = []
    while now < 10.0:
        now = max(now + 0.01, core.next_deadline())
        events += [e.event for e in core.tick(now, drained=False) if isinstance(e, Notify)]
    assert [type(event).__name__ for event in events] == ["Suspected", "Died"]
