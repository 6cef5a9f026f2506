"""What the reflex last told us, kept for the plan's report, the metrics and the status document."""

from __future__ import annotations

from dataclasses import dataclass

from speaker.orders import Bfd, Hello, Members, Pulse, Vip, Vips


@dataclass(slots=True)
class Reflex:
    """The newest of each snapshot; None until the first came."""

    hello: Hello
    members: Members | None = None
    vips: Vips | None = None
    bfd: Bfd | None = None
    pulse: Pulse | None = None

    def note(self, message: Members | Vips | Bfd | Pulse) -> None:
        match message:
            case Members():
                self.members = message
            case Vips():
                self.vips = message
            case Bfd():
                self.bfd = message
            case Pulse():
                self.pulse = message

    def is_to_tell(self, vip: Vip) -> bool:
        """Whether we own it, or come first of those that do not."""
        reachable = {
            member.name for member in (self.members.members if self.members else ()) if member.reachable
        }
        owners = {
            state.owner for state in (self.vips.vips if self.vips else ()) if state.address == vip.address
        }
        others = (name for name in vip.candidates if name in reachable and name not in owners)
        return self.hello.node in owners or self.hello.node == next(others, None)

    @property
    def joined(self) -> bool:
        return self.members is not None and self.members.joined
