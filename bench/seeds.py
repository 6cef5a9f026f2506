"""A thousand stories: clusters of 3 to 50 members that are given no peace, and some of a thousand members.

    python bench/seeds.py [--seeds 1000] [--first 0] [--large 0 | --compiled] [--processes 1]

Each is `tests/memberlist/churn.py`'s; one that does not end well is named by its seed, which repeats it.  The
large ones lose a rack of ten members at once, which all the others have to notice; they do not run compiled,
for the compiled copy has a memory of ranks that is too small for them, and cannot be given another.
"""

from __future__ import annotations

import argparse
import functools
import multiprocessing
import os
import random
import sys
import time
from pathlib import Path
from typing import Final

sys.path.insert(0, str(Path(__file__).parents[1]))

from bench import compiled

sys.path.insert(0, os.environ.get(compiled.PLACE, sys.path[0]))

from memberlist import Unreachable, rendezvous
from memberlist.testing import Simulation
from tests.memberlist.churn import story

SMALLEST: Final = 3
LARGEST: Final = 50
THOUSAND: Final = 1000
RACK: Final = 10


def one(seed: int) -> tuple[int, int, float, str]:
    """Seed, members, processor seconds, and what went wrong."""
    size = random.Random(seed).randint(SMALLEST, LARGEST)
    began = time.process_time()
    try:
        story(seed, size)
    except AssertionError as problem:
        return seed, size, time.process_time() - began, str(problem) or repr(problem)
    return seed, size, time.process_time() - began, ""


def large(seed: int) -> str:
    began = time.process_time()
    # A thousand members in one process ask the one memory of ranks: it has to be as large as all of theirs.
    rank = rendezvous.rank.__wrapped__
    vars(rendezvous)["rank"] = functools.lru_cache(maxsize=None)(rank)
    simulation = Simulation(seed=seed, size=THOUSAND, watch=True)
    simulation.network.loss = 0.01
    simulation.run(2.0)
    simulation.log.clear()
    at = simulation.now
    rack = {f"n{number}" for number in random.Random(seed).sample(range(THOUSAND), RACK)}
    for name in rack:
        simulation.crash(name)
    simulation.run(2.0)
    noticed: dict[tuple[str, str], float] = {}
    for when, who, event in simulation.log:
        if isinstance(event, Unreachable):
            noticed.setdefault((who, event.node.name), when - at)
    times = sorted(seconds for (_, whom), seconds in noticed.items() if whom in rack)
    wrong = {whom for _, whom in noticed} - rack
    missed = len(rack) * (THOUSAND - len(rack)) - len(times)
    return (
        f"seed {seed}, {THOUSAND} members, {len(rack)} crash at once: median {times[len(times) // 2]:.3f} s,"
        f" last {times[-1]:.3f} s, {missed} missed, {len(wrong)} wrong"
        f" ({time.process_time() - began:.0f} CPU s)"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--seeds", type=int, default=1000)
    parser.add_argument("--first", type=int, default=0, help="the first seed (default 0)")
    parser.add_argument("--large", type=int, default=0, help="so many of a thousand members (default 0)")
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--compiled", action="store_true", help="run the same sources compiled by mypyc")
    args = parser.parse_args()
    if args.large and args.compiled:
        parser.error("--large: not with --compiled")
    if args.compiled:
        compiled.use_it()
    for seed in range(args.first, args.first + args.large):
        print(large(seed), flush=True)
    failures, members, seconds = [], 0, 0.0
    with multiprocessing.get_context("spawn").Pool(args.processes) as pool:
        seeds = range(args.first, args.first + args.seeds)
        for done, (seed, size, took, problem) in enumerate(pool.imap_unordered(one, seeds), 1):
            members, seconds = members + size, seconds + took
            if problem:
                failures.append(seed)
                print(f"seed {seed}, {size} members: {problem}", flush=True)
            if done % 50 == 0 or done == args.seeds:
                print(f"{done} stories, {len(failures)} ended badly, {seconds:.0f} CPU s", flush=True)
    average = members / max(args.seeds, 1)
    print(f"{args.seeds} seeds, {average:.1f} members on average; failed: {failures or 'none'}")
    sys.exit(1 if failures else 0)


if __name__ == "__main__":
    main()
