"""What must hold whatever the size of the cluster: planners and announcers of all its nodes, in one process.

The same on a LAN of namespaces is in `tests/e2e`, with fewer sizes, because that takes longer.
"""

from __future__ import annotations

import random
from collections import Counter
from typing import Any

import pytest

from speaker.orders import Orders, Vip
from speaker.planner.plan import Planner, Rules
from speaker.reflex.announce import HANDOVER_TIMEOUT, Announcer
from speaker.reflex.effects import Answer, Effect
from tests.speaker.announcers import Wire
from tests.speaker.planner.builders import (
    ad_object,
    configuration,
    endpoint,
    nodes,
    pool_object,
    service,
    slice_of,
    view,
)

SIZES = pytest.mark.parametrize("size", [3, 5, 10])
SEEDS = pytest.mark.parametrize("seed", range(5))


# ------------------------------------------------------------------------------ 255 addresses on 5 nodes


def plans(names: list[str], count: int) -> dict[str, tuple[Vip, ...]]:
    """What each node's planner makes of the same cluster."""
    pools = [pool_object("p", "10.20.0.0/16")]
    services: list[Any] = [service(f"s{n}", f"10.20.0.{n}") for n in range(1, count + 1)]
    slices = [slice_of(f"s{n}", endpoint(names[n % len(names)])) for n in range(1, count + 1)]
    world = view(services, slices, nodes(*names), configuration(ad_object(), pools=pools))
    return {name: Planner(name, Rules()).plan(world).vips for name in names}


class Cluster:
    def __init__(self, names: list[str], count: int) -> None:
        self.vips = plans(names, count)
        self.announcers = {name: Announcer(name, membership=True) for name in names}
        for name, announcer in self.announcers.items():
            announcer.open(0.0)
            announcer.joined(0.0)
            announcer.orders(Orders(1, self.vips[name]), 0.0)
        self.members(0.0)

    def members(self, now: float) -> dict[str, list[Effect]]:
        """Everybody hears who is here, and does all there is to do."""
        effects: dict[str, list[Effect]] = {}
        for name, announcer in self.announcers.items():
            effects[name] = announcer.members(set(self.announcers), now)
        for at in (now, now + HANDOVER_TIMEOUT):
            for name, announcer in self.announcers.items():
                while announcer.next_deadline() <= at:
                    effects[name] += announcer.tick(at)
        return effects

    def owners(self) -> dict[str, str]:
        found: dict[str, str] = {}
        for name, announcer in self.announcers.items():
            for address in announcer.addresses():
                if announcer.owns(address):
                    assert found.setdefault(address, name) == name, "exactly one"
        return found

    def opinions(self) -> set[tuple[tuple[str, str | None], ...]]:
        """Who owns what, as each node sees it."""
        return {
            tuple(
                sorted((vip, view.owner) for vip in each.addresses() if (view := each.view(vip)) is not None)
            )
            for each in self.announcers.values()
        }


def test_255_vips_on_5_nodes_have_one_owner_each_and_move_only_where_they_must() -> None:
    names = [f"node-{n}" for n in range(5)]
    cluster = Cluster(names, 255)
    assert len(set(cluster.vips.values())) == 1, "every planner has the same"
    before = cluster.owners()
    assert len(before) == 255
    assert cluster.opinions() == {tuple(sorted(before.items()))}
    share = Counter(before.values())
    assert set(share) == set(names)
    assert min(share.values()) > 255 / 5 / 2, "and each has its share"

    for number, gone in enumerate(names, 1):
        announcer = cluster.announcers.pop(gone)
        effects = cluster.members(10.0 * number)
        after = cluster.owners()
        assert cluster.opinions() == {tuple(sorted(after.items()))}
        moved = {address for address in before if after[address] != before[address]}
        assert moved == {address for address, owner in before.items() if owner == gone}
        gained = {e.address for done in effects.values() for e in done if isinstance(e, Answer)}
        assert gained == moved, "nothing else was even touched"
        cluster.announcers[gone] = announcer
        cluster.members(10.0 * number + 5.0)
        assert cluster.owners() == before, "and back to where they were"


# ----------------------------------------------------------------------- each scenario of the demo, by size


def cluster_of(size: int, seed: int) -> Wire:
    wire = Wire(seed, "abcdefghij"[:size])
    wire.run(6.0)
    assert wire.answering(wire.speakers) == ["a"]
    return wire


def check(wire: Wire, owner: str) -> None:
    assert wire.answering(wire.speakers) == [owner]
    alive = [name for name, each in wire.speakers.items() if each.alive]
    assert {wire.last_heard[name] for name in alive if name in wire.last_heard} == {owner}


@SIZES
@SEEDS
@pytest.mark.parametrize(
    "scenario", ["stop", "kill", "partition", "asymmetric", "power-off", "return", "freeze"]
)
def test_each_scenario_ends_with_one_owner(scenario: str, size: int, seed: int) -> None:
    wire = cluster_of(size, seed)
    everybody = set(wire.speakers)
    others = everybody - {"a"}
    if scenario == "stop":
        wire.stop("a")
        wire.run(3.0)
        assert not wire.speakers["a"].announcer.answering
        check(wire, "b")
    elif scenario in ("kill", "power-off"):
        wire.kill("a")
        wire.run(8.0)
        check(wire, "b")
    elif scenario == "partition":
        wire.cut({"a"}, others)
        wire.run(8.0)
        assert wire.answering(others) == ["b"]
        wire.cut(everybody)
        wire.run(12.0)
        check(wire, "a")
    elif scenario == "asymmetric":
        # one believes that the owner is gone, though everybody's frames still reach everybody
        mistaken = wire.speakers[name := wire.rng.choice(sorted(others))].announcer
        wire.perform(name, mistaken.members(others, wire.now))
        wire.run(wire.rng.uniform(0.5, 4.0))
        wire.perform(name, mistaken.members(everybody, wire.now))
        wire.run(12.0)
        check(wire, "a")
    elif scenario == "return":
        wire.kill("a")
        wire.run(8.0)
        wire.revive("a")
        wire.run(12.0)
        check(wire, "a")
    else:
        wire.freeze("a")
        wire.run(8.0)
        assert wire.answering(others) == ["b"]
        wire.thaw("a")
        wire.run(12.0)
        check(wire, "a")


@SIZES
@SEEDS
def test_members_that_flap_leave_one_owner(size: int, seed: int) -> None:
    """What 20 % loss looks like from here: opinions that come and go, not the same at everybody."""
    wire = cluster_of(size, seed)
    rng = random.Random(seed)
    names = sorted(wire.speakers)
    for _ in range(30):
        name = rng.choice(names)
        believed = {other for other in names if other == name or rng.random() < 0.8}
        wire.perform(name, wire.speakers[name].announcer.members(believed, wire.now))
        wire.run(rng.uniform(0.05, 0.5))
        assert wire.answering(names), "somebody answers all the while"
    wire.spread()
    wire.run(14.0)
    check(wire, "a")
