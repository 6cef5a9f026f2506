"""How fast the watchers notice a crash and how often they are wrong: our core in a simulated network.

    python bench/detection.py [--trials 200] [--large 100] [--large-trials 10] [--seconds 600] [--seed 1]
    python bench/detection.py --hours 2 [--processes 2] [--piece 3600] [--large 100] [--loss 0.01] [--seed 1]
        [--journal F] [--compiled]

The second form is about false alarms alone: independent runs in which nobody crashes, each from a seed of its
own, as many processes at a time as wanted.  With `--journal F` each finished run is a line of F, and one that
stands there already is not run again.  `--compiled` runs the same sources compiled (`bench/compiled.py`).

Virtual time, so the figures do not depend on the machine; what they leave out is the machine, see
`bench/memberlist_peers.py` for real processes.
"""

from __future__ import annotations

import argparse
import dataclasses
import gc
import json
import math
import multiprocessing
import os
import random
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

sys.path.insert(0, str(Path(__file__).parents[1]))

from bench import compiled

sys.path.insert(0, os.environ.get(compiled.PLACE, sys.path[0]))

from memberlist import Reachable, Suspected, Unreachable
from memberlist.testing import Simulation

PATIENCE: Final = 15.0


def detection(
    size: int, loss: float, trials: int, seed: int, lateness: float = 0.0
) -> tuple[list[float], int, int]:
    """Crashes at random moments; `lateness`: each turn of each member is up to so many seconds late.

    Seconds until each survivor noticed; how many did not within 1 s, or `PATIENCE` where they are late; how
    many healthy members were taken for unreachable meanwhile.
    """
    times: list[float] = []
    missed = wrong = 0
    for trial in range(trials):
        rng = random.Random(f"{seed} {trial}")
        cluster = Simulation(seed=rng.getrandbits(32), size=size, watch=True, lateness=lateness)
        cluster.network.loss = loss
        cluster.run(1 + rng.random())
        cluster.log.clear()
        victim, at = f"n{rng.randrange(size)}", cluster.now
        cluster.crash(victim)
        cluster.run(PATIENCE if lateness else 1.0)
        first: dict[str, float] = {}
        for when, who, event in cluster.log:
            if isinstance(event, Unreachable) and event.node.name == victim:
                first.setdefault(who, when - at)
            elif isinstance(event, Unreachable):
                wrong += 1
        times += first.values()
        missed += size - 1 - len(first)
    return sorted(times), missed, wrong


@dataclass(frozen=True, slots=True)
class Piece:
    """A run in which nobody crashes."""

    seed: int
    members: int
    """Wrongly unreachable to somebody, at some time."""
    verdicts: int
    longest: float
    """Seconds such a verdict stood at most, of those that ended."""
    accusations: int
    processor_seconds: float


def false_alarms(size: int, loss: float, seconds: float, seed: int) -> Piece:
    began = time.process_time()
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
    return Piece(
        seed=seed,
        members=len(members),
        verdicts=len(repaired) + len(down),
        longest=max(repaired, default=0.0),
        accusations=len(accusations),
        processor_seconds=time.process_time() - began,
    )


def told(size: int, loss: float, seconds: float, piece: Piece) -> str:
    longest = f", longest {piece.longest:.3f} s" if piece.longest else ""
    return (
        f"{size:4} members, {loss:4.0%} loss, {seconds:6.0f} s: {piece.members} members wrongly unreachable"
        f" ({piece.verdicts} verdicts{longest}), {piece.accusations} wrong accusations"
    )


def _piece(task: tuple[int, float, float, int]) -> Piece:
    gc.freeze()
    gc.set_threshold(100_000)
    return false_alarms(*task)


def journalled(journal: Path | None, run: dict[str, float]) -> list[Piece]:
    """The pieces of a run like this that were done before."""
    if journal is None or not journal.exists():
        return []
    lines = map(json.loads, journal.read_text().splitlines())
    return [Piece(**line["piece"]) for line in lines if line["run"] == run]


def many_hours(
    size: int, loss: float, hours: float, piece: float, processes: int, seed: int, journal: Path | None
) -> None:
    count = math.ceil(hours * 3600 / piece)
    run = {"size": size, "loss": loss, "piece": piece}
    seeds = range(seed, seed + count)
    pieces = [done for done in journalled(journal, run) if done.seed in seeds]
    before = {done.seed for done in pieces}
    tasks = [(size, loss, piece, one) for one in seeds if one not in before]
    began = time.monotonic()
    print(
        f"{count} pieces of {piece:.0f} s, seeds {seed} to {seeds[-1]}, {len(before)} done before", flush=True
    )
    # Started afresh: what this process holds has no business in there.
    with multiprocessing.get_context("spawn").Pool(processes, initializer=os.nice, initargs=(10,)) as pool:
        for done in pool.imap_unordered(_piece, tasks):
            pieces.append(done)
            if journal is not None:
                with journal.open("a") as file:
                    file.write(json.dumps({"run": run, "piece": dataclasses.asdict(done)}) + "\n")
            print(
                f"seed {done.seed}, {done.processor_seconds:.0f} CPU s: {told(size, loss, piece, done)}",
                flush=True,
            )
    total = Piece(
        seed=seed,
        members=sum(one.members for one in pieces),
        verdicts=sum(one.verdicts for one in pieces),
        longest=max(one.longest for one in pieces),
        accusations=sum(one.accusations for one in pieces),
        processor_seconds=sum(one.processor_seconds for one in pieces),
    )
    print(f"all: {told(size, loss, count * piece, total)}")
    print(
        f"{count * piece / 3600:.2f} virtual hours, {total.processor_seconds:.0f} CPU s"
        f" in {time.monotonic() - began:.0f} s on {processes} processes"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--trials", type=int, default=200, help="crashes in small clusters")
    parser.add_argument("--large", type=int, default=100, help="members of the large cluster")
    parser.add_argument("--large-trials", type=int, default=10)
    parser.add_argument("--seconds", type=float, default=600.0, help="virtual, for false alarms")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument(
        "--hours", type=float, default=0.0, help="only false alarms, virtual, of the large cluster"
    )
    parser.add_argument("--piece", type=float, default=3600.0, help="virtual seconds of one run of --hours")
    parser.add_argument("--loss", type=float, default=0.01, help="share of packets lost, with --hours")
    parser.add_argument("--processes", type=int, default=1, help="runs at one time, with --hours")
    parser.add_argument("--journal", type=Path, default=None, help="file of the runs done, with --hours")
    parser.add_argument("--compiled", action="store_true", help="run the same sources compiled by mypyc")
    args = parser.parse_args()
    if args.compiled:
        compiled.use_it()
    if args.hours:
        many_hours(args.large, args.loss, args.hours, args.piece, args.processes, args.seed, args.journal)
        return

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
    print("the same, each turn of each member up to so many seconds late")
    for size, lateness in ((3, 0.05), (3, 0.1), (3, 0.2), (3, 0.5), (10, 0.2)):
        times, missed, wrong = detection(size, 0.0, args.trials // 4, args.seed, lateness)
        at = {share: times[int((len(times) - 1) * share)] for share in (0.5, 0.99, 1.0)}
        print(
            f"{size:4} members, {lateness:4.2f} s late: median {at[0.5]:.3f}  p99 {at[0.99]:.3f}"
            f"  max {at[1.0]:.3f}  ({len(times)} survivors, {missed} missed it, {wrong} wrong)",
            flush=True,
        )
    print("nobody crashes")
    for size, loss in ((3, 0.01), (3, 0.05), (args.large, 0.01), (args.large, 0.05)):
        print(told(size, loss, args.seconds, false_alarms(size, loss, args.seconds, args.seed)), flush=True)


if __name__ == "__main__":
    main()
