"""What FRR says of its sessions: the JSON of its show commands as records.  Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Final

import msgspec

SHOW_NEIGHBORS: Final = "show bgp vrf all neighbors json"
SHOW_BFD: Final = "show bfd vrf {} peers json"
SHOW_BFD_COUNTERS: Final = "show bfd vrf {} peers counters json"

Key = tuple[str, str]
"""VRF, empty for the default one, and FRR's name for the neighbour."""

_STATS: Final = {
    "updatesSent": "updates_total",
    "updatesRecv": "updates_total_received",
    "opensSent": "opens_sent",
    "opensRecv": "opens_received",
    "notificationsSent": "notifications_sent",
    "keepalivesSent": "keepalives_sent",
    "keepalivesRecv": "keepalives_received",
    "routeRefreshSent": "route_refresh_sent",
    "totalSent": "total_sent",
    "totalRecv": "total_received",
}
_BFD_COUNTERS: Final = {
    "control-packet-input": "control_packet_input",
    "control-packet-output": "control_packet_output",
    "echo-packet-input": "echo_packet_input",
    "echo-packet-output": "echo_packet_output",
    "session-up": "session_up_events",
    "session-down": "session_down_events",
    "zebra-notifications": "zebra_notifications",
}
_BFD_STATES: Final = {"up": "Up", "down": "Down", "init": "Init", "shutdown": "AdminDown"}
_STATES: Final = ("Idle", "Connect", "Active", "OpenSent", "OpenConfirm", "Established")
_FIRST: Final = ("Waiting for peer OPEN", "No AFI/SAFI activated for peer")
"""FRR's words for "never since it was configured"."""
_MAX_TEXT: Final = 256


class BadState(Exception):
    """The only thing the functions here raise: this is not what FRR shows."""


@dataclass(frozen=True, slots=True)
class Seen:
    """One session as bgpd knows it."""

    state: str
    established_at: float | None
    """Unix time."""
    error: str
    sent: int
    counters: Mapping[str, int] = field(default_factory=lambda: MappingProxyType({}))


@dataclass(frozen=True, slots=True)
class Watched:
    """One session as bfdd knows it."""

    state: str
    counters: Mapping[str, int] = field(default_factory=lambda: MappingProxyType({}))


def decode_neighbors(text: str) -> dict[Key, Seen]:
    """The answer to `SHOW_NEIGHBORS`.  Raises BadState."""
    found: dict[Key, Seen] = {}
    for vrf, neighbors in _object(_json(text)).items():
        for name, said in _object(neighbors).items():
            if isinstance(said, dict):  # beside vrfId and vrfName
                found["" if vrf == "default" else vrf, name] = _seen(said)
    return found


def decode_bfd(peers: str, counters: str) -> dict[str, Watched]:
    """The answers to `SHOW_BFD` and `SHOW_BFD_COUNTERS`, by the peer's address.  Raises BadState."""
    counts: dict[str, dict[str, int]] = {}
    for each in _list(_json(counters)):
        said = _object(each)
        counts[_text(said, "peer")] = {
            name: _number(said, key) for key, name in _BFD_COUNTERS.items() if key in said
        }
    found: dict[str, Watched] = {}
    for each in _list(_json(peers)):
        said = _object(each)
        address = _text(said, "peer")
        state = _BFD_STATES.get(_text(said, "status"), "Down")
        found[address] = Watched(state, counts.get(address, {}))
        if interface := _text(said, "interface"):
            found.setdefault(interface, found[address])
    return found


def _seen(said: Mapping[str, Any]) -> Seen:
    stats = _object(said.get("messageStats", {}))
    families = _object(said.get("addressFamilyInfo", {})).values()
    state = _text(said, "bgpState")
    epoch = _number(said, "bgpTimerUpEstablishedEpoch")
    return Seen(
        state=state if state in _STATES else "Idle",  # also Clearing and Deleted, which nobody else has
        established_at=float(epoch) if state == "Established" and epoch else None,
        error=_error(said),
        sent=sum(_number(_object(family), "sentPrefixCounter") for family in families),
        counters={name: _number(stats, key) for key, name in _STATS.items()},
    )


def _error(said: Mapping[str, Any]) -> str:
    """Why it ended the last time, or why it does not begin, in FRR's words."""
    why = _text(said, "lastResetDueTo")
    if not _number(said, "connectionsDropped") and (why in _FIRST or said.get("bgpState") == "Established"):
        why = ""
    parts = [why, _text(said, "lastNotificationReason"), _text(said, "lastShutdownDescription")]
    return ": ".join(part for part in parts if part)[:_MAX_TEXT]


def _json(text: str) -> Any:
    try:
        return msgspec.json.decode(text or "{}")
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as problem:
        raise BadState(f"no JSON: {problem}") from None


def _object(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise BadState("not an object where one is expected")
    return value


def _list(value: Any) -> list[Any]:
    if value == {}:
        return []  # what an empty answer was taken for
    if not isinstance(value, list):
        raise BadState("not a list where one is expected")
    return value


def _text(said: Mapping[str, Any], key: str) -> str:
    """Printable; what comes from the router passes through here."""
    value = said.get(key, "")
    if not isinstance(value, str):
        raise BadState(f"{key} is no text")
    return "".join(letter if letter.isprintable() else " " for letter in value[:_MAX_TEXT]).strip()


def _number(said: Mapping[str, Any], key: str) -> int:
    value = said.get(key, 0)
    if not isinstance(value, int) or isinstance(value, bool) or not -(1 << 63) <= value < 1 << 64:
        raise BadState(f"{key} is no whole number")
    return value
