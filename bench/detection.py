"""How fast the watchers notice a crash and how often they are wrong: our core in a simulated network.

    python bench/detection.py [--trials 200] [--large 100] [--large-trials 10] [--seconds 600] [--seed 1]

Virtual time, so the figures do not depend on the machine; what they leave out is the machine, see
`bench/memberlist_peers.py` for real processes.
"""

from __future__ import annotations

import argparse
import random
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from memberlist import Reachable, Suspected, Unreachable
from memberlist.testing import Simulation


def detection(size: int, loss: float, trials: int, seed: int) -> tuple[list[float], int, int]:
    """Crashes at random moments.

    Seconds until each survivor noticed; how many did not within 1 s; how many healthy members were taken for
    unreachable meanwhile.
    """
    times: list[float] = []
    missed = wrong = 0
    for trial in range(trials):
        rng = random.Random(f"{seed} {trial}")
        cluster = Simulation(seed=rng.getrandbits(32), size=size, watch=True)
        cluster.network.loss = loss
        cluster.run(1 + rng.random())
        cluster.log.clear()
        victim, at = f"n{rng.randrange(size)}", cluster.now
        cluster.crash(victim)
        cluster.run(1.0)
        first: dict[str, float] = {}
        for when, who, event in cluster.log:
            if isinstance(event, Unreachable) and event.node.name == victim:
                first.setdefault(who, when - at)
            elif isinstance(event, Unreachable):
                wrong += 1
        times += first.values()
        missed += size - 1 - len(first)
    return sorted(times), missed, wrong


def false_alarms(size: int, loss: float, seconds: float, seed: int) -> str:
    cluster = Simulation(seed=seed, size=size, watch=True)
    cluster.network.loss = loss
    cluster.run(2.0)
    cluster.log.clear()
    cluster.run(seconds)
    down: dict[tuple[str, str], float] = {}
    repaired: list[float] = []
    for when, who, event in cluster.log:
        if isinstance(event, Unreachable):
            down[who, event.node.name] = when
        elif isinstance(event, Reachable) and (who, event.node.name) in down:
            repaired.append(when - down.pop((who, event.node.name)))
    members = {event.node.name for _, _, event in cluster.log if isinstance(event, Unreachable)}
    accusations = {
        (event.node.name, event.node.incarnation)
        for _, _, event in cluster.log
        if isinstance(event, Suspected)
    }
    longest = f", longest {max(repaired):.3f} s" if repaired else ""
    return (
        f"{size:4} members, {loss:4.0%} loss, {seconds:6.0f} s: {len(members)} members wrongly unreachable"
        f" ({len(repaired) + len(down)} verdicts{longest}), {len(accusations)} wrong accusations"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--trials", type=int, default=200, help="crashes in small clusters")
    parser.add_argument("--large", type=int, default=100, help="members of the large cluster")
    parser.add_argument("--large-trials", type=int, default=10)
    parser.add_argument("--seconds", type=float, default=600.0, help="virtual, for false alarms")
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()

    print(f"crash -> unreachable at each survivor, seconds (seed {args.seed})")
    for size, loss, trials in (
        (2, 0.0, args.trials),
        (3, 0.0, args.trials),
        (3, 0.05, args.trials),
        (5, 0.0, args.trials),
        (args.large, 0.0, args.large_trials),
        (args.large, 0.01, args.large_trials),
    ):
        times, missed, wrong = detection(size, loss, trials, args.seed)
        at = {share: times[int((len(times) - 1) * share)] for share in (0.5, 0.99, 1.0)}
        print(
            f"{size:4} members, {loss:4.0%} loss: median {at[0.5]:.3f}  p99 {at[0.99]:.3f}  max {at[1.0]:.3f}"
            f"  ({len(times)} survivors, {missed} missed it, {wrong} wrong)",
            flush=True,
        )
    print("nobody crashes")
    for size, loss in ((3, 0.01), (3, 0.05), (args.large, 0.01), (args.large, 0.05)):
        print(false_alarms(size, loss, args.seconds, args.seed), flush=True)


if __name__ == "__main__":
    main()
