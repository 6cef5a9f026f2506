"""The arithmetic of SWIM and Lifeguard: pure functions of a few numbers.

Rounded as hashicorp/memberlist rounds, so that the members of a mixed cluster run out of patience together.
"""

from __future__ import annotations

import math
from typing import Final

PUSH_PULL_SCALE_THRESHOLD: Final = 32
"""Members up to which the push/pull interval is used as it is."""


def suspicion_timeout(members: int, *, mult: int, probe_interval: float) -> float:
    """Seconds a suspect has to refute, once enough members agree, before it is called dead.

    Grows with log10 of the cluster because the refutation has to cross it by gossip; never less than `mult`
    probe intervals, so that a small cluster does not judge faster than it can ask.
    """
    scale = max(1.0, math.log10(max(1, members)))
    return mult * (math.floor(scale * 1000) / 1000) * probe_interval


def confirmations_wanted(members: int, *, mult: int) -> int:
    """Other accusers that bring a suspicion down to its shortest time (Lifeguard's k).

    Upstream asks for `mult - 2` whenever that many others exist at all, so in a cluster of four every single
    survivor must confirm, and one lost message costs 20 s.  Here one survivor may stay silent.
    """
    return max(0, min(mult - 2, members - 3))


def remaining_suspicion(
    confirmed: int, wanted: int, elapsed: float, shortest: float, longest: float
) -> float:
    """Seconds left of a suspicion that is `elapsed` old and `confirmed` by so many; negative when overdue.

    Lifeguard section V: falls from `longest` to `shortest` with the logarithm of the confirmations.
    """
    share = math.log(confirmed + 1) / math.log(wanted + 1) if wanted > 0 else 1.0
    total = longest - share * (longest - shortest)
    return max(math.floor(1000 * total) / 1000, shortest) - elapsed


def retransmit_limit(members: int, *, mult: int) -> int:
    """How often one broadcast is sent before it is taken to have reached everybody (SWIM's lambda log n)."""
    return mult * math.ceil(math.log10(members + 1))


def push_pull_interval(interval: float, members: int) -> float:
    """Seconds between two full exchanges; longer in a large cluster, where each carries more."""
    if members <= PUSH_PULL_SCALE_THRESHOLD:
        return interval
    return interval * (math.ceil(math.log2(members) - math.log2(PUSH_PULL_SCALE_THRESHOLD)) + 1)
