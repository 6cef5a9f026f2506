"""What is said to another's announcement of an address that is ours.

*Speaking last.* Switches and neighbours believe who spoke last, so whoever believes to be the owner and
hears another announce its VIP repeats its own announcement: this ends what a healed partition or a false
alarm left behind.  Two that go on disagreeing (their orders differ, or it is no speaker at all) do so ever
more rarely.

*Strangers.* What a host that is no speaker announces is reported with its hardware address, and met by
policy: defended, left to it, or neither.
"""

from __future__ import annotations

from typing import Final

from speaker.reflex.agenda import Agenda
from speaker.reflex.effects import Announce, Effect, Happened
from speaker.reflex.vip import Address, Rival
from speaker.settings import ConflictPolicy

CONFLICT_SETTLE: Final = 0.2
"""Seconds between hearing another's announcement and answering it.  A member that comes back announces in the
same millisecond in which we learn of it; answering at once would take the VIP back from its owner."""
CONFLICT_ROUNDS: Final = 2
"""Announcements after hearing another's: the second for receivers that ignore a change within a second."""
CONFLICT_INTERVAL_MIN: Final = 2.2
"""Seconds between two such answers; each time without peace in between doubles it."""
CONFLICT_INTERVAL_MAX: Final = 64.0


class Conflicts:
    """Those that wait to be answered; `due` holds their times."""

    def __init__(self, policy: ConflictPolicy) -> None:
        self.policy = policy
        self.due = Agenda()

    def note(self, vip: Address, rival: Rival, now: float) -> None:
        if vip.text not in self.due:
            vip.rival = rival
            self.due.set(vip.text, max(now + CONFLICT_SETTLE, vip.conflict_quiet_until))
        elif rival.stranger:
            vip.rival = rival

    def forget(self, vip: Address) -> None:
        self.due.drop(vip.text)

    def settle(self, vip: Address, now: float, effects: list[Effect]) -> bool:
        """Answer with our own announcement, as policy says.  True when the address is to be left alone."""
        calm = now - vip.conflict_quiet_until > CONFLICT_INTERVAL_MAX
        vip.conflict_interval = (
            CONFLICT_INTERVAL_MIN if calm else min(2 * vip.conflict_interval, CONFLICT_INTERVAL_MAX)
        )
        vip.conflict_quiet_until = now + vip.conflict_interval
        rival = vip.rival
        if rival.speaker:
            effects.append(Announce(vip.text, CONFLICT_ROUNDS))
            effects.append(Happened("contradicted", vip.text, f"{rival.speaker} announced it too", rival.mac))
            return False
        who = "a host that is no speaker" if rival.stranger else "another host"
        mac = f", hardware address {rival.mac}," if rival.mac else ""
        effects.append(Happened("conflict", vip.text, f"{who}{mac} announced it too", rival.mac))
        if rival.stranger and self.policy is ConflictPolicy.YIELD:
            return True
        if not rival.stranger or self.policy is ConflictPolicy.DEFEND:
            effects.append(Announce(vip.text, CONFLICT_ROUNDS))
        return False
