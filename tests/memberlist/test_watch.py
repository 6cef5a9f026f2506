"""Who watches whom, and what a watcher concludes; the whole of it runs in test_simulation."""

import random
from collections import Counter
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from memberlist.awareness import MAX_EXCUSES
from memberlist.config import Config
from memberlist.core import Core
from memberlist.effects import Effect, Notify
from memberlist.events import Reachable, Unreachable
from memberlist.messages import Ack, Alive, Dead, Ping, Suspect
from memberlist.target import MISSED, Target
from memberlist.testing import Simulation
from memberlist.watch import Watch
from tests.memberlist.one_core import SOMEBODY, only, run


def make(others: int, **settings: object) -> tuple[Core, Watch]:
    core = Core(
        Config.lan(name="n0", watch=True, probe_interval=0, push_pull_interval=0, **settings),
        address="10.0.0.1",
        port=7946,
        now=0.0,
        rng=random.Random(3),
    )
    core.start(0.0)
    for number in range(1, others + 1):
        core.handle_packet([Alive(1, f"n{number}", bytes((10, 0, 1, number)), 7946)], SOMEBODY, 0.0)
    core.broadcasts.prune(0)
    run(core, 0.0, 0.021)
    assert core.watch is not None
    return core, core.watch


def answer(core: Core, effects: Sequence[Effect], now: float) -> list[Ping]:
    """Answer every ping among the effects."""
    pings = [ping for _, ping in only(Ping, effects)]
    for ping in pings:
        core.handle_packet([Ack(ping.seq_no)], SOMEBODY, now)
    return pings


def verdicts(effects: Sequence[object]) -> list[tuple[str, str]]:
    return [
        (type(effect.event).__name__, effect.event.node.name)
        for effect in effects
        if isinstance(effect, Notify) and isinstance(effect.event, Unreachable | Reachable)
    ]


# ------------------------------------------------------------------------------------ who watches whom


def test_every_member_has_its_watchers_and_all_agree_who_they_are() -> None:
    simulation = Simulation(seed=1, size=30, watch=True)
    simulation.run(1.0)
    watched: Counter[str] = Counter()
    for name in simulation.running:
        watch = simulation.hosts[name].core.watch
        assert watch is not None
        watched.update(watch.targets)
        for target in watch.targets:
            if len(watch.targets) > 1:
                assert name in watch._watchers(target)
    # A member with nobody to watch looks at somebody all the same, so some have more than three.
    assert set(watched) == set(simulation.running)
    assert min(watched.values()) == 3
    orders = {
        tuple(watch._watchers("n7"))
        for name in simulation.running
        if name != "n7" and (watch := simulation.hosts[name].core.watch) is not None
    }
    assert len(orders) == 1


def test_a_newcomer_is_watched_soon() -> None:
    core, watch = make(1)
    core.handle_packet([Alive(1, "new", bytes((10, 0, 2, 1)), 7946)], SOMEBODY, 1.0)
    run(core, 1.0, 1.03)
    assert set(watch.targets) == {"n1", "new"}


def test_the_dead_are_watched_no_more() -> None:
    core, watch = make(2)
    core.handle_packet([Dead(1, "n2", "n1")], SOMEBODY, 1.0)
    run(core, 1.0, 1.03)
    assert set(watch.targets) == {"n1", "n2"}  # we reach it: others' word alone makes it a suspect
    core.handle_packet([Dead(1, "n2", "n1")], SOMEBODY, 1.03)
    run(core, 1.03, 1.06)
    assert watch.targets == ("n1",)


# ------------------------------------------------------------------------------------ what is concluded


def test_two_accusers_of_three_suffice_and_one_does_not() -> None:
    """n0 watches neither; it believes the majority of the watchers."""
    core, watch = make(20)
    victim = next(name for name in core.table.members if name not in (*watch.targets, "n0"))
    one, other, _ = watch._watchers(victim)
    assert verdicts(core.handle_packet([Suspect(1, victim, one)], SOMEBODY, 1.0)) == []
    assert verdicts(core.handle_packet([Suspect(1, victim, one)], SOMEBODY, 1.0)) == [], "the same again"
    told = core.handle_packet([Suspect(1, victim, other)], SOMEBODY, 1.0)
    assert verdicts(told) == [("Unreachable", victim)]
    assert not core.table.members[victim].node().reachable
    back = core.handle_packet([Alive(2, victim, core.table.members[victim].addr, 7946)], SOMEBODY, 1.5)
    assert verdicts(back) == [("Reachable", victim)]


def test_the_word_of_those_who_do_not_watch_it_counts_nothing() -> None:
    core, watch = make(20)
    victim = next(name for name in core.table.members if name not in (*watch.targets, "n0"))
    others = [name for name in core.table.members if name not in (*watch._watchers(victim), victim)]
    effects = core.handle_packet([Suspect(1, victim, name) for name in (*others, "nobody")], SOMEBODY, 1.0)
    assert verdicts(effects) == []


def test_old_accusations_do_not_add_up() -> None:
    core, watch = make(20)
    victim = next(name for name in core.table.members if name not in (*watch.targets, "n0"))
    one, other, _ = watch._watchers(victim)
    core.handle_packet([Suspect(1, victim, one)], SOMEBODY, 1.0)
    assert verdicts(core.handle_packet([Suspect(1, victim, other)], SOMEBODY, 4.0)) == []
    addr = core.table.members[victim].addr
    core.handle_packet([Alive(5, victim, addr, 7946)], SOMEBODY, 5.0)
    assert verdicts(core.handle_packet([Suspect(4, victim, w) for w in (one, other)], SOMEBODY, 5.0)) == []


def test_an_accused_accuser_has_no_vote() -> None:
    """Watchers that fall together with the watched would otherwise be waited for."""
    core, watch = make(20)
    names = [name for name in core.table.members if name not in (*watch.targets, "n0")]
    victim, fallen = next(
        (a, w) for a in names for w in watch._watchers(a) if w in names and a not in watch._watchers(w)
    )
    rest = [name for name in watch._watchers(victim) if name != fallen]
    about_fallen = next(name for name in watch._watchers(fallen) if name != victim)
    assert verdicts(core.handle_packet([Suspect(1, fallen, about_fallen)], SOMEBODY, 1.0)) == []
    told = core.handle_packet([Suspect(1, victim, rest[0])], SOMEBODY, 1.0)
    assert ("Unreachable", victim) in verdicts(told)


def test_who_hears_it_itself_believes_nobody() -> None:
    core, _ = make(2)
    now = core.next_deadline()
    for _, ping in only(Ping, core.tick(now)):
        core.handle_packet([Ack(ping.seq_no)], SOMEBODY, now)
    assert verdicts(core.handle_packet([Suspect(1, "n1", "n2")], SOMEBODY, now)) == []


def test_a_ping_from_a_watched_member_spares_ours_but_not_for_ever() -> None:
    core, _ = make(1)
    now, sent, pings = 1.0, 0, 0
    run(core, 0.03, 1.0)
    for _ in range(60):
        effects = core.handle_packet([Ping(1, "n0", bytes((10, 0, 1, 1)), 7946, "n1")], SOMEBODY, now)
        pings += len(answer(core, effects, now))
        while (at := core.next_deadline()) <= now + 0.08:
            pings += len(answer(core, core.tick(at), at))
        sent += 1
        now += 0.08
    assert sent == 60
    assert 60 / 5 - 3 <= pings <= 60 / 5 + 3


def test_what_is_due_soon_goes_with_what_woke_us_and_then_waits_for_it_again() -> None:
    core, watch = make(5)
    answer(core, core.tick(core.next_deadline()), core.next_deadline())
    due = watch.next_deadline()
    early = due - 0.2 * 0.08
    assert not only(Ping, core.handle_packet([Ack(1)], SOMEBODY, early - 0.001))
    pings = answer(core, core.handle_packet([Ack(1)], SOMEBODY, early + 0.001), early + 0.001)
    assert {ping.node for ping in pings} == set(watch.targets)
    assert watch.next_deadline() == pytest.approx(early + 0.001 + 1.05 * 0.08)


def test_what_is_overdue_waits_until_it_is_known_how_late_we_are() -> None:
    core, watch = make(5)
    late = watch.next_deadline() + 0.3
    assert not only(Ping, core.handle_packet([Ack(1)], SOMEBODY, late))
    core.tick(late)
    assert core.late_count == 1


def accused_after(core: Core, silent: str, lateness: float) -> tuple[float, int]:
    """Seconds from its first unanswered ping to our accusation, each turn so late; the pings it missed."""
    now, missed = 0.0, list[float]()
    while now < 30.0:
        now = core.next_deadline() + lateness
        sent = core.tick(now)
        if any(accusation.node == silent for _, accusation in only(Suspect, sent)):
            return now - missed[0], len(missed)
        for _, ping in only(Ping, sent):
            if ping.node == silent:
                missed.append(now)
            else:
                core.handle_packet([Ack(ping.seq_no)], SOMEBODY, now + 0.001)
    raise AssertionError("never")


@pytest.mark.parametrize("lateness", [0.0, 0.03, 0.1, 0.3])
def test_lateness_is_excused_so_often_and_an_accusation_takes_four_missed_pings(lateness: float) -> None:
    core, watch = make(5)
    took, missed = accused_after(core, watch.targets[0], lateness)
    assert missed >= MISSED
    if lateness == 0:
        assert took == pytest.approx(0.16, abs=0.005)
    else:
        assert took < 0.16 + (MAX_EXCUSES + MISSED) * lateness


def test_one_long_pause_is_excused_whole() -> None:
    core, _ = make(5)
    for late in (5.0, 0.5):
        now = core.next_deadline() + late
        sent = core.tick(now)
        assert not only(Suspect, sent)
        answer(core, sent, now + 0.001)
    assert core.late_count == 2


def test_accusations_go_to_everybody_at_once_and_again() -> None:
    core, watch = make(5)
    silent = watch.targets[0]
    now, told = 0.0, Counter[str]()
    while now < 1.0:
        now = core.next_deadline()
        sent = core.tick(now)
        told.update(to for to, accusation in only(Suspect, sent) if accusation.node == silent)
        for _, ping in only(Ping, sent):
            if ping.node != silent:
                core.handle_packet([Ack(ping.seq_no)], SOMEBODY, now + 0.001)
    everybody = {member.to[0] for member in core.table.others()}
    assert set(told) == everybody, "the accused too, so that it can refute"
    assert min(told.values()) >= 4
    assert {name for name, accused in watch.opinions().items() if accused} == {silent}
    assert set(watch.opinions()) == set(watch.targets)


# ---------------------------------------------------------------------------------------- arithmetic


def target(**changes: float) -> Target:
    core, _ = make(1)
    one = Target(core.table.members["n1"], silent_since=10.0, pinged_at=10.0)
    for name, value in changes.items():
        setattr(one, name, value)
    return one


def test_the_steps_of_a_silence() -> None:
    one = target()
    assert one.urgent_at(0.08) == pytest.approx(10.04)
    assert one.verdict_at(0.08) == pytest.approx(10.08)
    assert one.doubt_length(0.08, 10.08) == pytest.approx(0.08)


def test_a_long_round_trip_stretches_them_up_to_a_bound() -> None:
    assert target(rtt=0.08).verdict_at(0.08) == pytest.approx(10.16)
    assert target(rtt=0.04, rtt_deviation=0.01).verdict_at(0.08) == pytest.approx(10.16)
    assert target(rtt=9.0).verdict_at(0.08) == pytest.approx(10.32)


def test_patience_grows_with_each_wrong_accusation_and_wears_off() -> None:
    one = target()
    lengths = []
    for _ in range(5):
        one.accused, one.accused_at = True, 99.8
        one.trust(100.0)
        lengths.append(one.doubt_length(0.08, 100.0) / 0.08)
    assert lengths == pytest.approx([2, 4, 8, 8, 8])
    one.accused, one.accused_at = True, 99.0
    one.trust(100.0)
    assert one.doubt_length(0.08, 110.0) == pytest.approx(0.64), "it was away and came back: we were right"
    assert one.doubt_length(0.08, 121.0) == pytest.approx(0.16)
    assert one.doubt_length(0.08, 500.0) == pytest.approx(0.08)


@settings(max_examples=50)
@given(st.lists(st.floats(0.0001, 0.05), min_size=1, max_size=30))
def test_the_round_trip_estimate_stays_within_the_samples(samples: list[float]) -> None:
    one = target()
    for sample in samples:
        one.sample(sample)
    assert min(samples) - 1e-9 <= one.rtt <= max(samples) + 1e-9
    assert one.rtt_deviation >= 0


@given(
    silent_since=st.floats(0, 10),
    after=st.floats(0, 1),
    doubted=st.none() | st.floats(0, 1),
    samples=st.lists(st.floats(0.0001, 0.5), max_size=4),
)
def test_the_short_cut_to_what_a_silent_target_is_due_next(
    silent_since: float, after: float, doubted: float | None, samples: list[float]
) -> None:
    one = target()
    for sample in samples:
        one.sample(sample)
    one.silent_since, one.pinged_at = silent_since, silent_since + after
    if doubted is not None:
        one.doubted_at = silent_since + doubted
        one.judged_at = one.doubted_at + one.doubt_length(0.08, one.doubted_at)
    assert one.worried_at(0.08) == min(one.urgent_at(0.08), one.verdict_at(0.08))
