"""What a member can tell about itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Statistics:
    """Counts are since the start."""

    members: int
    """Neither dead nor left, ourselves included."""
    health: int
    """0 is healthy; grows while others have reason to complain about us (Lifeguard's awareness)."""
    queued: int
    """Pieces of news still being gossiped."""
    probes: int
    """Rounds of SWIM's own; the watchers' pings are not among them."""
    probes_failed: int
    """Of those, answered in no way: neither directly, nor through others, nor over TCP."""
    rtts: Mapping[str, float]
    """By member: seconds a direct probe takes, smoothed; who was not probed yet is missing."""
    watched: Mapping[str, bool]
    """By member: whether we, who are one of its watchers, accuse it of being unreachable."""
    alone: bool
    """We hear nobody: for all we know it is we who are cut off."""
    late_max: float
    """Seconds by which we were behind a deadline at worst."""
    late_count: int
    """How often we were so late that we held ourselves for slow, not others."""
    packets_received: int
    """Datagrams that could be read."""
    packets_dropped: int
    """Datagrams that were not ours to read: wrong key, wrong label, or nonsense."""
    packets_sent: int
    packets_unsent: int
    """Datagrams the system did not take: no route, or no room."""
    messages: Mapping[str, int]
    """Messages received in datagrams, by type: "Ping", "Ack", "Alive", ..."""
