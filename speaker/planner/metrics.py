"""The speaker's metrics: MetalLB's by MetalLB's names and labels, ours under `crier_`."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Final

from crier.ops.metrics import Counter, Family, Gauge, Kind, Labels, Registry, Reported
from speaker.orders import Gossip, Happened, VipState
from speaker.planner.reflex import Reflex

MAX_RIVALS: Final = 32
FAILOVER_WINDOW: Final = 5.0
"""Seconds after a loss in which what is taken over is taken over because of it."""
HAPPENINGS: Final = (
    "took_over", "handed_over", "withdrew", "member_joined", "member_left", "member_died",
    "member_unreachable", "member_reachable", "interface_added", "interface_removed", "conflict",
    "contradicted", "name_conflict", "unanswered", "answered_twice", "answered_by_wrong_host",
    "answered_well",
)  # fmt: skip
"""Counted from 0 on: in a series that begins with 1 Prometheus sees no increase."""
MAX_UNEXPLAINED: Final = 16_384
TOLD_TOGETHER: Final = 0.1
"""Seconds.  A member that is suspected and unreachable at once is acted upon before the second is told."""
_LOSSES: Final = frozenset({"member_unreachable", "member_died", "member_left"})


class Metrics:
    """What the planner counts itself are attributes; what the reflex counts is read when somebody scrapes."""

    def __init__(
        self,
        node: str,
        reflex: Reflex,
        log_lines_dropped: Callable[[], int] = lambda: 0,
        *,
        announced: Callable[[], Mapping[str, Mapping[str, tuple[str, ...]]]] = dict,
        more: Iterable[Family] = (),
    ) -> None:
        """`announced`: by protocol, the services and the addresses this node announces for each.
        `more`: families that others count."""
        self.updates = Counter("metallb_k8s_client_updates_total", "Changes seen in the Kubernetes API.")
        self.update_errors = Counter(
            "metallb_k8s_client_update_errors_total", "Changes that could not be acted upon."
        )
        self.config_loaded = Gauge(
            "metallb_k8s_client_config_loaded_bool", "1 once a configuration was in force."
        )
        self.config_stale = Gauge(
            "metallb_k8s_client_config_stale_bool", "1 while the newest configuration is not in force."
        )
        self.announced = Reported(
            "metallb_speaker_announced",
            "1 for each address this node announces.",
            "gauge",
            lambda: [
                ((service, protocol, node, address), 1.0)
                for protocol, services in announced().items()
                for service, addresses in services.items()
                for address in addresses
            ],
            ("service", "protocol", "node", "ip"),
        )
        self.plans = Counter("crier_speaker_plans_total", "Plans made.")
        self.orders_sent = Counter("crier_speaker_orders_total", "Different orders given to the reflex.")
        self.api_errors = Counter("crier_speaker_api_errors_total", "Writes the API refused.", ("kind",))
        self.happened = Counter(
            "crier_speaker_happenings_total",
            "What happened in the reflex: took_over, handed_over, conflict, member_unreachable and the like.",
            ("what",),
        )
        for what in HAPPENINGS:
            self.happened.add(what, amount=0.0)
        self.failovers = Counter(
            "crier_speaker_failover_seconds_count", "Addresses taken over because a speaker was lost or left."
        )
        self.failover_seconds = Counter(
            "crier_speaker_failover_seconds_sum",
            "Seconds from the news that a speaker is lost or leaves to our answering in its place; before "
            "the news is what the watchers or SWIM need to notice.",
        )
        self._lost_at = -math.inf
        self._unexplained: list[float] = []
        """When addresses were taken over that no loss was told for; it may be told next."""
        self.conflicts = Counter(
            "crier_vip_conflicts_total",
            "Announcements of our addresses by other hosts that were answered; the hosts beyond the first "
            f"{MAX_RIVALS} are told as `other`.",
            ("ip", "mac"),
        )
        self._rivals: set[str] = set()
        self.registry = Registry(
            self.updates,
            self.update_errors,
            self.config_loaded,
            self.config_stale,
            self.announced,
            self.plans,
            self.orders_sent,
            self.api_errors,
            self.happened,
            self.failovers,
            self.failover_seconds,
            self.conflicts,
            _per_address(
                "metallb_layer2_requests_received",
                "ARP and NDP requests for an address of ours.",
                reflex,
                lambda state: state.requests_received,
            ),
            _per_address(
                "metallb_layer2_responses_sent",
                "ARP and NDP answers sent.",
                reflex,
                lambda state: state.responses_sent,
            ),
            _per_address(
                "metallb_layer2_gratuitous_sent",
                "Unasked ARP and NDP announcements sent.",
                reflex,
                lambda state: state.gratuitous_sent,
            ),
            Reported(
                "crier_vip_answered_by",
                "1 for each station that answered for an address when this node asked last: the node of a "
                "speaker, or the hardware address of another host.",
                "gauge",
                lambda: _answered_by(reflex),
                ("ip", "node", "mac"),
            ),
            Reported(
                "crier_vip_amiss",
                "1 for each address that is unanswered, answered_twice or answered_by_wrong_host, as this "
                "node sees it on the wire.",
                "gauge",
                lambda: _amiss(reflex),
                ("ip", "what"),
            ),
            Reported(
                "crier_speaker_members",
                "Members of the gossip cluster by state, ourselves included.",
                "gauge",
                lambda: _members_by_state(reflex),
                ("state",),
            ),
            _single(
                "crier_speaker_members_reachable",
                "Members that may announce, in the watchers' opinion.",
                "gauge",
                lambda: sum(member.reachable for member in reflex.members.members) if reflex.members else 0,
            ),
            _single(
                "crier_speaker_reflex_loop_late_max_seconds",
                "Worst lateness of the reflex's loop in the last second.",
                "gauge",
                lambda: reflex.pulse.loop_late_max if reflex.pulse else 0.0,
            ),
            _single(
                "crier_speaker_reflex_loop_late_p99_seconds",
                "99th percentile of the lateness of the reflex's loop.",
                "gauge",
                lambda: reflex.pulse.loop_late_p99 if reflex.pulse else 0.0,
            ),
            _single(
                "crier_speaker_gossip_health_score",
                "memberlist's own opinion of our health; 0 is healthy.",
                "gauge",
                lambda: reflex.pulse.health if reflex.pulse else 0,
            ),
            Reported(
                "crier_speaker_watch_up",
                "1 for each member this node watches and hears, 0 for each it accuses of being unreachable.",
                "gauge",
                lambda: [
                    ((member,), float(not accused))
                    for gossip in _gossip(reflex)
                    for member, accused in gossip.watched.items()
                ],
                ("member",),
            ),
            _gossiped("alone", "1 while this node hears no other.", "gauge", reflex, lambda it: it.alone),
            _gossiped("queued", "News still being spread.", "gauge", reflex, lambda it: it.queued),
            _gossiped(
                "probes_total",
                "SWIM's rounds; the watchers' pings are not among them.",
                "counter",
                reflex,
                lambda it: it.probes,
            ),
            _gossiped(
                "probes_failed_total",
                "Rounds of SWIM that nobody answered in any way.",
                "counter",
                reflex,
                lambda it: it.probes_failed,
            ),
            _gossiped(
                "late_total",
                "How often this node was so late that it held itself for slow, not others.",
                "counter",
                reflex,
                lambda it: it.late,
            ),
            Reported(
                "crier_speaker_gossip_packets_total",
                "Datagrams received, dropped (wrong key, wrong label or nonsense), sent, and unsent (the "
                "system did not take them).",
                "counter",
                lambda: [
                    ((what,), float(count))
                    for gossip in _gossip(reflex)
                    for what, count in gossip.packets.items()
                ],
                ("what",),
            ),
            _single(
                "crier_speaker_happenings_lost_total",
                "Happenings the reflex could not keep for an absent planner.",
                "counter",
                lambda: reflex.pulse.happenings_lost if reflex.pulse else 0,
            ),
            _single(
                "crier_speaker_planner_starts_total",
                "Planners the reflex has started.",
                "counter",
                lambda: reflex.hello.planner_starts,
            ),
            _single(
                "crier_speaker_log_lines_dropped_total",
                "Log lines of the planner nobody took in time.",
                "counter",
                log_lines_dropped,
            ),
            *more,
        )

    def note(self, what: Happened) -> None:
        """Count what the reflex tells."""
        self.happened.add(what.what)
        if what.what in _LOSSES:
            self._lost_at = what.at
            self.failovers.add(amount=sum(0 <= what.at - at <= TOLD_TOGETHER for at in self._unexplained))
            self._unexplained.clear()
        elif what.what == "took_over":
            seconds = what.at - self._lost_at
            if 0 <= seconds <= FAILOVER_WINDOW:
                self.failovers.add()
                self.failover_seconds.add(amount=seconds)
            elif len(self._unexplained) < MAX_UNEXPLAINED:
                self._unexplained.append(what.at)

    def conflict(self, address: str, mac: str) -> None:
        """Count one.  A host may invent hardware addresses, so only so many become labels."""
        if mac not in self._rivals:
            if len(self._rivals) < MAX_RIVALS:
                self._rivals.add(mac)
            else:
                mac = "other"
        self.conflicts.add(address, mac)


def _per_address(name: str, text: str, reflex: Reflex, read: Callable[[VipState], int]) -> Reported:
    def samples() -> Iterable[tuple[Labels, float]]:
        states = reflex.vips.vips if reflex.vips else ()
        # an address appears once there is something to count, as in MetalLB; it may stand in several entries
        totals = {state.address: float(read(state)) for state in states}
        return [((address,), total) for address, total in totals.items() if total]

    return Reported(name, text, "counter", samples, ("ip",))


def _single(name: str, text: str, kind: str, read: Callable[[], float]) -> Reported:
    return Reported(name, text, "counter" if kind == "counter" else "gauge", lambda: [((), float(read()))])


def _gossip(reflex: Reflex) -> tuple[Gossip, ...]:
    """It, or nothing: without gossip there are no such series."""
    return (reflex.pulse.gossip,) if reflex.pulse and reflex.pulse.gossip else ()


def _gossiped(name: str, text: str, kind: Kind, reflex: Reflex, read: Callable[[Gossip], float]) -> Reported:
    return Reported(
        f"crier_speaker_gossip_{name}", text, kind, lambda: [((), float(read(it))) for it in _gossip(reflex)]
    )


def _answered_by(reflex: Reflex) -> Iterable[tuple[Labels, float]]:
    strangers: set[str] = set()
    for state in reflex.vips.vips if reflex.vips else ():
        for name in state.answered_by:
            if ":" not in name:  # no node's name has one
                yield (state.address, name, ""), 1.0
            elif name in strangers or len(strangers) < MAX_RIVALS:
                strangers.add(name)
                yield (state.address, "", name), 1.0


def _amiss(reflex: Reflex) -> Iterable[tuple[Labels, float]]:
    for state in reflex.vips.vips if reflex.vips else ():
        if state.amiss:
            yield (state.address, state.amiss), 1.0


def _members_by_state(reflex: Reflex) -> list[tuple[Labels, float]]:
    counts = dict.fromkeys(("alive", "suspect", "dead", "left"), 0)
    for member in reflex.members.members if reflex.members else ():
        counts[member.state] = counts.get(member.state, 0) + 1
    return [((state,), float(count)) for state, count in counts.items()]
