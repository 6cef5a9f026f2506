"""Whole clusters in virtual time.

CRIER_SEEDS=n runs n seeds of each scenario instead of a few; a failure names its seed, which repeats it.
"""

import os
from typing import Any

import pytest

from memberlist import (
    Delegate,
    Died,
    Event,
    Joined,
    Left,
    Node,
    Reachable,
    Refuted,
    Suspected,
    Unreachable,
    rendezvous,
)
from memberlist.testing import Simulation, secure_wire
from tests.memberlist.churn import agree, bounded, story

SEEDS = int(os.environ.get("CRIER_SEEDS", "3"))
seeds = pytest.mark.parametrize("seed", range(SEEDS))


def cluster(seed: int, size: int, *, settle: float = 2.0, **settings: Any) -> Simulation:
    simulation = Simulation(seed=seed, size=size, **{"watch": True, **settings})
    simulation.run(settle)
    simulation.log.clear()
    return simulation


def seen(simulation: Simulation, kind: type[Event]) -> dict[tuple[str, str], float]:
    """(who noticed, whom) -> when first."""
    found: dict[tuple[str, str], float] = {}
    for at, who, event in simulation.log:
        if isinstance(event, kind) and isinstance(node := getattr(event, "node", None), Node):
            found.setdefault((who, node.name), at)
    return found


# ----------------------------------------------------------------------------------------- crashes


@seeds
@pytest.mark.parametrize("size", [2, 3, 4, 12])
def test_a_crash_is_known_to_every_survivor_within_the_bound(seed: int, size: int) -> None:
    simulation = cluster(seed, size)
    at = simulation.now
    simulation.crash("n1")
    simulation.run(1.0)
    unreachable = seen(simulation, Unreachable)
    assert set(unreachable) == {(who, "n1") for who in simulation.running}
    # 1.15 intervals until the next ping, 2 until the accusation, and the way to everybody.
    assert max(unreachable.values()) - at < 0.08 * 3.15 + 0.005
    assert min(unreachable.values()) - at > 0.15, "not before a node that froze for 0.15 s would be back"


@seeds
def test_swim_confirms_the_crash_and_forgets_the_dead(seed: int) -> None:
    simulation = cluster(seed, 5)
    simulation.crash("n4")
    simulation.run(8.0)
    assert set(seen(simulation, Died)) == {(who, "n4") for who in simulation.running}
    simulation.run(60.0)
    assert all("n4" not in simulation.view(who) for who in simulation.running)
    assert set(seen(simulation, Unreachable)) == {(who, "n4") for who in simulation.running}


@seeds
@pytest.mark.parametrize("watch", [False, True])
def test_without_watchers_swim_alone_finds_it(seed: int, watch: bool) -> None:
    simulation = cluster(seed, 6, watch=watch)
    simulation.crash("n2")
    assert simulation.run_until(
        lambda: set(seen(simulation, Died)) == {(who, "n2") for who in simulation.running}, limit=40
    )
    assert {whom for _, whom in seen(simulation, Suspected)} == {"n2"}
    assert bool(seen(simulation, Unreachable)) == watch


@seeds
def test_two_of_three_crash_together(seed: int) -> None:
    """The survivor has nobody to ask; it concludes that it is alone, and takes over."""
    simulation = cluster(seed, 3)
    simulation.crash("n1")
    simulation.crash("n2")
    simulation.run(0.6)
    assert set(seen(simulation, Unreachable)) == {("n0", "n1"), ("n0", "n2")}


@seeds
def test_a_rack_crashes(seed: int) -> None:
    """Watchers fall together with those they watch; the next in the order take their place."""
    simulation = cluster(seed, 20)
    rack = {f"n{number}" for number in range(8)}
    at = simulation.now
    for name in rack:
        simulation.crash(name)
    simulation.run(1.5)
    unreachable = seen(simulation, Unreachable)
    assert set(unreachable) == {(who, whom) for who in simulation.running for whom in rack}
    assert max(unreachable.values()) - at < 1.2


@seeds
def test_rankings_that_were_dropped_for_their_number_are_made_again(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    places = 19  # of one ranking among twenty
    monkeypatch.setattr(rendezvous, "MAX_RANKED", 3 * places)
    simulation = cluster(seed, 20)
    rack = [f"n{number}" for number in range(6)]
    for name in rack:
        simulation.crash(name)
    for _ in range(20):
        simulation.run(0.05)
        for host in simulation.hosts.values():
            assert host.core.watch is not None
            assert len(host.core.watch._order._rankings) <= 3
    for who in simulation.running:
        assert {name for name, node in simulation.view(who).items() if not node.reachable} == set(rack)


@seeds
def test_a_crash_in_a_lossy_network(seed: int) -> None:
    simulation = cluster(seed, 8)
    simulation.network.loss = 0.05
    simulation.run(5.0)
    assert seen(simulation, Unreachable) == {}
    simulation.crash("n3")
    simulation.run(1.0)
    assert set(seen(simulation, Unreachable)) == {(who, "n3") for who in simulation.running}


# ----------------------------------------------------------------------------------- false alarms


@seeds
@pytest.mark.parametrize("size", [2, 3, 7])
def test_a_network_that_loses_reorders_and_repeats_takes_nobody_away(seed: int, size: int) -> None:
    simulation = cluster(seed, size)
    simulation.network.loss = 0.05
    simulation.network.duplicate = 0.05
    simulation.network.latency = (0.0001, 0.02)
    simulation.run(30.0)
    assert seen(simulation, Unreachable) == {}
    assert seen(simulation, Died) == {}
    bounded(simulation, size)


@seeds
@pytest.mark.parametrize("size", [2, 3, 12])
def test_a_node_frozen_for_150_ms_keeps_its_place(seed: int, size: int) -> None:
    simulation = cluster(seed, size)
    for number in range(20):
        simulation.freeze(f"n{number % size}", 0.15)
        simulation.run(0.7)
    assert seen(simulation, Unreachable) == {}


@seeds
@pytest.mark.parametrize("size", [2, 3, 12])
def test_a_longer_freeze_is_noticed_and_repaired_at_once(seed: int, size: int) -> None:
    simulation = cluster(seed, size)
    simulation.freeze("n1", 0.6)
    simulation.run(0.59)
    others = [name for name in simulation.running if name != "n1"]
    assert set(seen(simulation, Unreachable)) == {(who, "n1") for who in others}
    simulation.run(0.5)
    assert agree(simulation)
    back = seen(simulation, Reachable)
    assert set(back) == {(who, "n1") for who in others}, "and it did not blame anybody when it came to"
    assert set(seen(simulation, Refuted)) == set(back)
    simulation.run(10)
    assert seen(simulation, Died) == {}


@seeds
def test_a_watcher_whose_clock_jumps_or_that_stood_still_blames_nobody(seed: int) -> None:
    simulation = cluster(seed, 4)
    simulation.jump("n1", 5.0)
    simulation.run(1.0)
    simulation.freeze("n2", 3.0)
    simulation.run(3.0)
    simulation.log.clear()
    simulation.run(5.0)
    accused = {whom for _, whom in seen(simulation, Unreachable)}
    assert accused == set()
    assert simulation.hosts["n1"].core.late_count > 0


@seeds
def test_late_timers_everywhere_blame_nobody(seed: int) -> None:
    simulation = cluster(seed, 5, lateness=0.06)
    simulation.run(30.0)
    assert seen(simulation, Unreachable) == {}
    assert seen(simulation, Died) == {}


@seeds
@pytest.mark.parametrize("size", [3, 5])
@pytest.mark.parametrize("lateness", [0.1, 0.2, 0.5])
def test_those_who_are_always_late_notice_a_crash_all_the_same(seed: int, size: int, lateness: float) -> None:
    """Each turn up to so many seconds late, without end, as on nodes whose processors are all taken."""
    simulation = cluster(seed, size, settle=5.0, lateness=lateness)
    at = simulation.now
    simulation.crash("n1")
    simulation.run(10.0)
    unreachable, died = seen(simulation, Unreachable), seen(simulation, Died)
    assert set(unreachable) == set(died) == {(who, "n1") for who in simulation.running}
    assert max(unreachable.values()) - at < 0.26 + 4 * lateness
    assert max(died.values()) - at < 5.0 + 8 * lateness


@seeds
def test_late_and_lossy_few_are_wronged_and_not_for_long(seed: int) -> None:
    """A late watcher sends fewer pings, and each of them may get lost."""
    simulation = cluster(seed, 3, lateness=0.2)
    simulation.network.loss = 0.05
    simulation.run(60.0)
    alarms = [
        (at, who, event.node.name) for at, who, event in simulation.log if isinstance(event, Unreachable)
    ]
    assert len(alarms) <= 2
    simulation.network.loss = 0.0
    assert simulation.run_until(lambda: agree(simulation), limit=2.0)
    assert seen(simulation, Died) == {}


@seeds
def test_a_broken_link_between_two_is_not_a_broken_node(seed: int) -> None:
    """The others still hear both: indirect pings get through.  Cut one way, then both ways."""
    simulation = cluster(seed, 5)
    simulation.network.cut.add(("n0", "n1"))
    simulation.run(15.0)
    simulation.network.cut.add(("n1", "n0"))
    simulation.run(15.0)
    assert seen(simulation, Unreachable) == {}
    assert seen(simulation, Died) == {}


@seeds
def test_a_slow_node_does_not_flap(seed: int) -> None:
    """Whatever n1 hears it hears 0.25 s late: wrongly accused at first, then its watchers have learned."""
    simulation = cluster(seed, 4)
    simulation.network.slow["n1"] = 0.25
    simulation.run(10.0)
    simulation.log.clear()
    simulation.run(20.0)
    later = [at for at, _, event in simulation.log if isinstance(event, Unreachable)]
    assert len(later) <= 3, "at most one more wrong alarm, when the patience has run out"
    assert seen(simulation, Died) == {}


# -------------------------------------------------------------------------------------- partitions


@seeds
def test_both_sides_of_a_cut_take_over_and_a_short_one_heals_by_itself(seed: int) -> None:
    simulation = cluster(seed, 6)
    left, right = {"n0", "n1", "n2", "n3"}, {"n4", "n5"}
    simulation.partition(left, right)
    simulation.run(1.2)
    across = {(a, b) for a in left for b in right} | {(b, a) for a in left for b in right}
    assert set(seen(simulation, Unreachable)) == across
    simulation.heal()
    assert simulation.run_until(lambda: agree(simulation), limit=5.0)


@seeds
def test_after_a_long_cut_one_join_makes_one_cluster_again(seed: int) -> None:
    simulation = cluster(seed, 7)
    left, right = {"n0", "n1", "n2"}, {"n3", "n4", "n5", "n6"}
    simulation.partition(left, right)
    simulation.run(120.0)
    assert set(simulation.view("n0")) == left
    assert set(simulation.view("n3")) == right
    simulation.heal()
    simulation.join("n0", "n3")
    # Gossip may miss one (each piece of news is sent only so often); then its next push/pull tells it.
    assert simulation.run_until(lambda: agree(simulation), limit=60.0)


@seeds
@pytest.mark.parametrize("size", [3, 12])
def test_one_that_is_cut_off_serves_its_side_and_accuses_nobody(seed: int, size: int) -> None:
    simulation = cluster(seed, size)
    others = {f"n{number}" for number in range(1, size)}
    simulation.partition({"n0"}, others)
    simulation.run(1.0)
    unreachable = set(seen(simulation, Unreachable))
    assert unreachable == {("n0", name) for name in others} | {(name, "n0") for name in others}
    watch = simulation.hosts["n0"].core.watch
    assert watch is not None
    assert watch.alone
    simulation.heal()
    assert simulation.run_until(lambda: agree(simulation), limit=2.0)
    assert {whom for _, whom in seen(simulation, Reachable)} == {f"n{number}" for number in range(size)}
    simulation.log.clear()
    simulation.run(5.0)
    assert seen(simulation, Unreachable) == {}


@seeds
@pytest.mark.parametrize("tenths", range(35, 85, 5))
def test_one_that_comes_back_cannot_talk_the_others_out_of_each_other(seed: int, tenths: int) -> None:
    """It held all of them for dead, and its saying so reaches them before it hears better."""
    simulation = cluster(seed, 3)
    simulation.partition({"n0"}, {"n1", "n2"})
    simulation.run(tenths / 10)
    simulation.log.clear()
    simulation.heal()
    simulation.run(6.0)
    stayed = {("n1", "n2"), ("n2", "n1")}
    assert not stayed & (set(seen(simulation, Died)) | set(seen(simulation, Unreachable)))


@seeds
@pytest.mark.parametrize("size", [3, 6])
def test_a_member_that_sends_but_hears_nothing_is_found_out(seed: int, size: int) -> None:
    simulation = cluster(seed, size)
    simulation.network.cut |= {(f"n{number}", "n0") for number in range(1, size)}
    simulation.run(1.5)
    assert {(f"n{number}", "n0") for number in range(1, size)} <= set(seen(simulation, Unreachable))
    assert {whom for who, whom in seen(simulation, Unreachable) if who != "n0"} == {"n0"}


# ------------------------------------------------------------------------------ coming and going


@seeds
def test_a_leave_is_known_at_once_and_is_no_death(seed: int) -> None:
    simulation = cluster(seed, 10)
    at = simulation.now
    simulation.leave("n3")
    simulation.run(0.4)
    left = seen(simulation, Left)
    assert set(left) == {(f"n{number}", "n3") for number in range(10)}
    assert max(left.values()) - at < 0.3
    simulation.crash("n3")
    simulation.run(20.0)
    assert seen(simulation, Died) == {}
    assert seen(simulation, Unreachable) == {}


@seeds
@pytest.mark.parametrize("away", [0.05, 2.0, 20.0])
def test_a_restarted_member_is_taken_back(seed: int, away: float) -> None:
    simulation = cluster(seed, 5)
    simulation.crash("n2")
    simulation.run(away)
    simulation.start("n2")
    simulation.join("n2", "n0")
    assert simulation.run_until(lambda: agree(simulation), limit=5.0)
    simulation.run(10.0)
    assert agree(simulation)


@seeds
def test_one_that_crashes_again_and_again_is_noticed_as_fast_each_time(seed: int) -> None:
    simulation = cluster(seed, 3)
    for _ in range(5):
        simulation.log.clear()
        at = simulation.now
        simulation.crash("n2")
        simulation.run(1.0)
        unreachable = seen(simulation, Unreachable)
        assert set(unreachable) == {("n0", "n2"), ("n1", "n2")}
        assert max(unreachable.values()) - at < 0.08 * 3.15 + 0.005
        simulation.start("n2")
        simulation.join("n2", "n0")
        assert simulation.run_until(lambda: agree(simulation), limit=5.0)
        simulation.run(0.5)


@seeds
def test_strangers_become_a_cluster(seed: int) -> None:
    simulation = Simulation(seed=seed, size=16, joined=False, watch=True, wire=secure_wire(label="blue"))
    for number in range(1, 16):
        simulation.at(0.05 * number, lambda n=number: simulation.join(f"n{n}", f"n{n - 1}"))  # type: ignore[misc]
    assert simulation.run_until(lambda: agree(simulation), limit=60.0)
    assert len(seen(simulation, Joined)) == 16 * 16


@seeds
def test_metadata_reaches_everybody(seed: int) -> None:
    class Meta(Delegate):
        meta = b"old"

        def node_meta(self, limit: int) -> bytes:
            return self.meta

    metas = {f"n{number}": Meta() for number in range(8)}
    simulation = cluster(seed, 8, delegate=metas.__getitem__)
    assert {node.meta for node in simulation.view("n5").values()} == {b"old"}
    metas["n0"].meta = b"new"
    host = simulation.hosts["n0"]
    simulation._perform(host, host.core.update(simulation.now + host.clock)[1])
    # By gossip within a second; whom that misses learns by push/pull.
    assert simulation.run_until(
        lambda: all(simulation.view(who)["n0"].meta == b"new" for who in simulation.running), limit=60.0
    )


@seeds
def test_churn_ends_in_agreement(seed: int) -> None:
    story(seed, (9, 3, 14)[seed % 3])


@pytest.mark.parametrize(("seed", "size"), [(208, 20), (254, 26), (326, 9)])
def test_churn_that_once_ended_badly(seed: int, size: int) -> None:
    """Two members died of a suspicion from a cut that had healed; one that returned stayed away for some."""
    story(seed, size)


def test_a_deadline_that_no_clock_shows_exactly_is_reached_all_the_same() -> None:
    """A member whose clock had just begun woke a rounding error too early, again and again."""
    story(469, 19)


@seeds
def test_one_that_returns_when_some_have_forgotten_that_it_left_is_a_member_to_all(seed: int) -> None:
    simulation = cluster(seed, 6)
    simulation.leave("n5")
    simulation.run(0.5)
    simulation.crash("n5")
    others = [name for name in simulation.running if name != "n5"]

    def forgetful() -> list[str]:
        return [name for name in others if "n5" not in simulation.view(name)]

    assert simulation.run_until(lambda: bool(forgetful()), limit=60.0)
    assert len(forgetful()) < len(others), "all at once"
    simulation.start("n5")
    simulation.join("n5", forgetful()[0])
    assert simulation.run_until(lambda: agree(simulation), limit=8.0), f"seed {seed}"
    simulation.run(40.0)
    assert agree(simulation)


def test_one_seed_is_one_history() -> None:
    def history(seed: int) -> tuple[object, int]:
        simulation = cluster(seed, 6, wire=secure_wire())
        simulation.network.loss = 0.1
        simulation.crash("n2")
        simulation.run(5.0)
        return simulation.log, simulation.packets

    assert history(5) == history(5)
    assert history(5) != history(6)


# ------------------------------------------------------------------------------------------ scale


def test_a_hundred_members_lose_one() -> None:
    simulation = cluster(1, 100, settle=1.0)
    at = simulation.now
    simulation.crash("n7")
    simulation.run(0.6)
    unreachable = seen(simulation, Unreachable)
    assert set(unreachable) == {(who, "n7") for who in simulation.running}
    assert max(unreachable.values()) - at < 0.30
    bounded(simulation, 100)


def test_the_load_of_a_member_does_not_grow_with_the_cluster() -> None:
    def packets_a_second(size: int) -> float:
        simulation = cluster(1, size, settle=3.0)
        simulation.packets = 0
        simulation.run(3.0)
        return simulation.packets / size / 3

    assert packets_a_second(60) < 1.2 * packets_a_second(12)
