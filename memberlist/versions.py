"""May these members form one cluster?"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeAlias

from .messages import State

Claim: TypeAlias = tuple[str, int, bytes]
"""Name, state as on the wire, and the versions: protocol min, max, current; the same of the delegate."""


def incompatible(claims: Iterable[Claim]) -> str | None:
    """Why not, or None: everybody's current version must suit everybody who is alive.

    Upstream's rule, word for word, or a mixed cluster would split over it: a member without versions sets no
    limits and counts as speaking version 0.
    """
    claims = list(claims)
    alive = [vsn for _, state, vsn in claims if state == State.ALIVE and len(vsn) >= 6]
    for what, at in (("protocol", 0), ("delegate", 3)):
        low = max((vsn[at] for vsn in alive), default=0)
        high = min((vsn[at + 1] for vsn in alive), default=255)
        for name, _, vsn in claims:
            current = vsn[at + 2] if len(vsn) >= 6 else 0
            if not low <= current <= high:
                return f"{name} speaks {what} version {current}, the cluster needs {low} to {high}"
    return None
