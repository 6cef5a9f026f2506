"""What Prometheus hears of the BGP and BFD sessions, by MetalLB's names and labels."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Final

from crier.ops.metrics import Family, Kind, Labels, Reported
from speaker.planner.routers import SessionView

_BGP: Final[tuple[tuple[str, Kind, str], ...]] = (
    ("updates_total", "counter", "UPDATE messages sent."),
    ("opens_sent", "counter", "OPEN messages sent."),
    ("opens_received", "counter", "OPEN messages received."),
    ("notifications_sent", "counter", "NOTIFICATION messages sent."),
    ("updates_total_received", "counter", "UPDATE messages received."),
    ("keepalives_sent", "counter", "KEEPALIVE messages sent."),
    ("keepalives_received", "counter", "KEEPALIVE messages received."),
    ("route_refresh_sent", "counter", "ROUTE-REFRESH messages sent."),
    ("total_sent", "counter", "Messages sent."),
    ("total_received", "counter", "Messages received."),
)
_BFD: Final[tuple[tuple[str, Kind, str], ...]] = (
    ("control_packet_input", "counter", "BFD control packets received."),
    ("control_packet_output", "counter", "BFD control packets sent."),
    ("echo_packet_input", "counter", "BFD echo packets received."),
    ("echo_packet_output", "counter", "BFD echo packets sent."),
    ("session_up_events", "counter", "How often the BFD session came up."),
    ("session_down_events", "counter", "How often the BFD session went down."),
    ("zebra_notifications", "counter", "Notifications of FRR's zebra."),
)

Read = Callable[[], Sequence[SessionView]]


def families(sessions: Read, *, native: bool) -> list[Family]:
    """Everything about the sessions.  Native mode has the label `peer` alone, the others `vrf` as well."""
    labels = ("peer",) if native else ("peer", "vrf")

    def of(view: SessionView) -> Labels:
        # natively a VRF is part of the name, or two peers of one address were one series
        name = _peer(view)
        return (f"{name}-{view.vrf}" if view.vrf else name,) if native else (name, view.vrf)

    def family(name: str, kind: Kind, text: str, value: Callable[[SessionView], float | None]) -> Family:
        def samples() -> Iterable[tuple[Labels, float]]:
            found = ((of(view), value(view)) for view in sessions())
            return [(label, number) for label, number in found if number is not None]

        return Reported(name, text, kind, samples, labels)

    def count(name: str) -> Callable[[SessionView], float | None]:
        return lambda view: view.counters.get(name)

    found = [
        family(
            "metallb_bgp_session_up",
            "gauge",
            "1 while the session is established.",
            lambda view: float(view.state == "Established"),
        ),
        family(
            "metallb_bgp_announced_prefixes_total",
            "gauge",
            "Prefixes the peer has been told of.",
            lambda view: view.sent,
        ),
        *(family(f"metallb_bgp_{name}", kind, text, count(name)) for name, kind, text in _BGP),
        family(
            "metallb_bfd_session_up",
            "gauge",
            "1 while the BFD session is up.",
            lambda view: float(view.bfd == "Up") if view.bfd else None,
        ),
        *(family(f"metallb_bfd_{name}", kind, text, count(name)) for name, kind, text in _BFD),
    ]
    if native:
        found.append(
            family(
                "metallb_bgp_pending_prefixes_total",
                "gauge",
                "Prefixes the peer is to be told of.",
                lambda view: view.wanted,
            )
        )
    return found


def _peer(view: SessionView) -> str:
    """As Go joins host and port."""
    return f"[{view.address}]:{view.port}" if ":" in view.address else f"{view.address}:{view.port}"
