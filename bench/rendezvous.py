"""What a member that comes or goes costs each of the others: whom to watch, anew and from what is known.

    python bench/rendezvous.py [--members 100 1000 5000] [--changes 20]

Both in turn, on the same changes; the answers are compared.  Processor time of one core.
"""

from __future__ import annotations

import argparse
import os
import random
import statistics
import time
from collections.abc import Callable, Sequence

from memberlist.rendezvous import Rendezvous

ME = "node-0.example"
WATCHERS = 3


def spent(job: Callable[[], list[str]]) -> tuple[float, list[str]]:
    """Milliseconds, and the answer."""
    began = time.process_time()
    found = job()
    return (time.process_time() - began) * 1000, found


def anew(names: Sequence[str]) -> list[str]:
    return Rendezvous(ME, WATCHERS).watched(names, names)


def measure(members: int, changes: int) -> str:
    names = [f"node-{number}.example" for number in range(1, members)]
    order, rng = Rendezvous(ME, WATCHERS), random.Random(members)
    order.watched(names, names)
    whole: list[float] = []
    known: list[float] = []
    for _ in range(changes):
        gone = rng.choice(names)
        rest = [name for name in names if name != gone]
        for now in (rest, names):
            took, found = spent(lambda: order.watched(now, now))  # noqa: B023 - called here and now
            known.append(took)
            took, wanted = spent(lambda: anew(now))  # noqa: B023
            whole.append(took)
            assert found == wanted
    return (
        f"{members:6} members: anew {statistics.median(whole):8.2f} ms (worst {max(whole):.2f}),"
        f" from what is known {statistics.median(known):6.3f} ms (worst {max(known):.3f})"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--members", type=int, nargs="+", default=[100, 1000, 5000])
    parser.add_argument("--changes", type=int, default=20, help="members that go and come back (default 20)")
    args = parser.parse_args()
    print(f"load {os.getloadavg()[0]:.1f}")
    for members in args.members:
        print(measure(members, args.changes), flush=True)


if __name__ == "__main__":
    main()
