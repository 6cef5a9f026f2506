"""One probe round: ask a member, then others about it, then judge it and ourselves.

SWIM section 3.1; Lifeguard section III for the part about ourselves.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True, kw_only=True)
class Probe:
    """The core sends; this remembers what was sent and what came back."""

    target: str
    incarnation: int
    seq_no: int
    """The same for the direct, the indirect and the TCP ping, so that any answer ends the round."""
    started_at: float
    indirect_at: float
    """When others are asked.  Not stretched by our health: the timeout follows the network, not us."""
    deadline_at: float
    indirect: bool = False
    nacks_wanted: int = 0
    nacks: int = 0
    stream_contact: bool = False

    def next_deadline(self) -> float:
        return self.deadline_at if self.indirect else self.indirect_at

    def delay(self, seconds: float) -> None:
        """We did not run for so long; the answers had no chance to be read."""
        self.indirect_at += seconds
        self.deadline_at += seconds

    def blame(self) -> int:
        """What a failed round says about our own health.

        A helper that could not reach the target still says so (nack).  When even those are missing it is
        rather us who are hard to reach; with no helper able to say so we cannot tell, and count it as ours.
        """
        return max(0, self.nacks_wanted - self.nacks) if self.nacks_wanted else 1
