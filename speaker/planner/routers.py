"""What runs the BGP sessions, as the rest of the planner sees it: our own, or FRR's daemons."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Protocol

from bgp_lite.attributes import Path
from bgp_lite.prefix import Prefix
from crier.kube.model.bgppeer import BgpPeer
from crier.kube.model.node import Node


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionView:
    """One session, for statuses, metrics and people."""

    peer: str
    """Name of the BGPPeer."""
    address: str
    """The router's address; its interface for an unnumbered peer."""
    port: int = 179
    vrf: str = ""
    state: str = "Idle"
    """Idle, Connect, Active, OpenSent, OpenConfirm or Established (RFC 4271)."""
    since: float = 0.0
    """Unix time of the last change of state."""
    last_error: str = ""
    """Why it ended, or could not begin, the last time; empty when it never did."""
    wanted: int = 0
    """Prefixes it is to be told of."""
    sent: int = 0
    """Prefixes it has been told of and that are not withdrawn."""
    bfd: str = ""
    """Up, Down, Init, AdminDown (RFC 5880); empty without BFD."""
    counters: Mapping[str, int] = field(default_factory=lambda: MappingProxyType({}))
    """Messages and octets since the start of the process, by the last part of MetalLB's metric's name
    (`updates_total`, `opens_sent`, `total_sent`, ...)."""


class Routers(Protocol):
    """`apply` says what is wanted, as often as it changes; `run` makes it so until it is cancelled."""

    def apply(
        self, peers: Sequence[BgpPeer], routes: Mapping[str, Mapping[Prefix, Path]], node: Node
    ) -> None:
        """The peers this node is to have sessions with, and all that each is to be told, by its name.

        Never waits and never fails: what cannot be had is in `sessions`, as `last_error`.
        """

    async def run(self) -> None:
        """Keep the sessions.  Ends only by cancellation, and leaves what a graceful restart needs."""

    async def close(self) -> None:
        """The speaker ends: say goodbye to every router that is not to keep our routes meanwhile."""

    def sessions(self) -> Sequence[SessionView]:
        """Every peer of the last `apply`, sorted by name."""

    def told(self) -> Mapping[str, Mapping[Prefix, Path]] | None:
        """What established sessions carry, by the name of the peer; None where that cannot be seen."""
