"""A cluster that is given no peace: crashes, restarts, leaves, freezes, clock jumps, cuts, in a bad network.

Nobody is called dead who could reach most of the others and ran, nothing grows without bound, and when peace
comes all that run agree.  The same seed is the same story; `bench/seeds.py` tells a thousand.
"""

from __future__ import annotations

import random
from collections.abc import Iterator

from memberlist import Died, State, Unreachable
from memberlist.testing import Simulation

DISASTERS = 25
SETTLED = 60.0
"""Virtual seconds peace may take; push/pull, every 30 s, repairs what gossip missed."""
NOTICED = 2.0
"""Virtual seconds from a crash until every survivor knows."""


def story(seed: int, size: int) -> Simulation:
    """Raises AssertionError, which names the seed."""
    simulation = Simulation(seed=seed, size=size, watch=True)
    rng = random.Random(f"churn {seed}")
    simulation.run(2.0)
    simulation.log.clear()
    simulation.network.loss, simulation.network.duplicate = 0.02, 0.02
    simulation.network.latency = (0.0001, rng.choice((0.001, 0.005, 0.015)))
    faulty: set[str] = set()
    for name in _disasters(simulation, rng):
        faulty.add(name)
        simulation.run(rng.uniform(0.1, 2.0))
        bounded(simulation, size, f"seed {seed}")
    died = {event.node.name for _, _, event in simulation.log if isinstance(event, Died)}
    assert died <= faulty, f"seed {seed}: {died - faulty} never failed"
    simulation.network.loss = simulation.network.duplicate = 0.0
    for name in simulation.running:
        simulation.join(name, simulation.running[0])
    agreed = simulation.run_until(lambda: agree(simulation), limit=SETTLED, step=0.5)
    assert agreed, f"seed {seed}: no agreement"
    simulation.log.clear()
    victim = rng.choice(simulation.running)
    simulation.crash(victim)
    simulation.run(NOTICED)
    noticed = {
        who
        for _, who, event in simulation.log
        if isinstance(event, Unreachable) and event.node.name == victim
    }
    assert noticed == set(simulation.running), f"seed {seed}: the crash of {victim}"
    bounded(simulation, size, f"seed {seed}")
    return simulation


def _disasters(simulation: Simulation, rng: random.Random) -> Iterator[str]:
    enough = len(simulation.hosts) // 2 + 1
    for _ in range(DISASTERS):
        name = rng.choice(sorted(simulation.hosts))
        running = simulation.hosts[name].running
        expendable = running and len(simulation.running) > enough
        match rng.randrange(6):
            case 0 if expendable:
                simulation.crash(name)
            case 1 if not running:
                simulation.start(name)
                simulation.join(name, rng.choice(sorted(simulation.running)))
            case 2 if expendable:
                simulation.leave(name)
                simulation.run(0.5)
                simulation.crash(name)
            case 3 if running:
                simulation.freeze(name, rng.uniform(0.1, 2.0))
            case 4 if running:
                simulation.partition({name}, set(simulation.hosts) - {name})
                simulation.run(rng.uniform(0.1, 3.0))
                simulation.heal()
            case 5 if running:
                simulation.jump(name, rng.uniform(0.01, 10.0))
            case _:
                continue
        yield name


def agree(simulation: Simulation) -> bool:
    """Everybody who runs holds everybody who runs, and nobody else, for a reachable member."""
    running = set(simulation.running)
    return all(_holds(simulation, who, running) for who in running)


def _holds(simulation: Simulation, who: str, running: set[str]) -> bool:
    members = simulation.hosts[who].core.table.members
    return {name for name, one in members.items() if one.reachable} == running and all(
        members[name].state is State.ALIVE for name in running
    )


def bounded(simulation: Simulation, ever: int, what: str = "") -> None:
    """Nothing a core keeps may outgrow the members it has met."""
    for name in simulation.running:
        core = simulation.hosts[name].core
        watch = core.watch
        assert watch is not None
        assert len(core.table.members) == len(core.table._order) <= ever, what
        assert len(core.broadcasts) <= ever, what
        assert len(core._relays) < 100, what
        assert len(watch._targets) <= ever, what
        assert len(watch._waiting) == sum(len(t.unanswered) for t in watch._targets.values()) <= 64 * ever, (
            what
        )
        assert len(watch._checks) <= 100, what
        assert len(watch._votes) <= ever, what
