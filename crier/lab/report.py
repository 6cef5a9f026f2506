"""What a demo measured, as records and as the JSON of `report.json` (described in docs/demo.md)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from crier import __version__
from crier.lab.prober import Vip, VipRecord

SCHEMA: Final = 1
SCENARIOS: Final = ("stop", "kill", "partition", "power-off", "return")


@dataclass(frozen=True, slots=True)
class VipResult:
    """What one event did to one VIP, as the client saw it.  Durations are in milliseconds."""

    service: str
    address: str
    outage_ms: float
    """The longest time without a successful probe, from the first lost one; 0 when none was lost."""
    probes_sent: int
    probes_lost: int
    requests_sent: int
    requests_lost: int
    arp_gap_ms: float | None
    """The longest time in which nobody answered ARP (NDP) questions for the VIP; None behind a router."""
    two_owners_ms: float | None
    """The longest time in which more than one node answered them; None behind a router."""
    gratuitous_ms: float | None
    """From the event to the first gratuitous ARP or unsolicited NA that names the new owner; None without
    one.
    """
    before: tuple[str, ...]
    """Who answered when it began, and who in the end: one node each.  Behind a router: who served."""
    after: tuple[str, ...]
    recovered: bool
    """The client's probes were answered again in the end."""

    @property
    def healthy(self) -> bool:
        return self.recovered and len(self.after) == 1

    def problem(self) -> str | None:
        """What is wrong in the end, as a sentence; None when all is well."""
        where = f"{self.service} {self.address}"
        if not self.after:
            return f"{where}: no node answers"
        if len(self.after) > 1:
            return f"{where}: {' and '.join(self.after)} answer at once"
        return None if self.recovered else f"{where}: the client never recovered"

    def document(self) -> dict[str, Any]:
        return {
            "service": self.service,
            "address": self.address,
            "outage_ms": self.outage_ms,
            "probes_sent": self.probes_sent,
            "probes_lost": self.probes_lost,
            "requests_sent": self.requests_sent,
            "requests_lost": self.requests_lost,
            "arp_gap_ms": self.arp_gap_ms,
            "two_owners_ms": self.two_owners_ms,
            "gratuitous_ms": self.gratuitous_ms,
            "from": self.before[0] if len(self.before) == 1 else None,
            "to": self.after[0] if len(self.after) == 1 else None,
            "owners_after": list(self.after),
            "recovered": self.recovered,
        }


def vip_result(
    vip: Vip,
    record: VipRecord,
    *,
    event_at: float,
    before: tuple[str, ...],
    after: tuple[str, ...],
    routed: bool = False,
) -> VipResult:
    changed = after if after != before else ()
    gratuitous = [at for at, who in record.announcements if who in changed and at >= event_at]
    return VipResult(
        service=vip.service.key,
        address=vip.address,
        outage_ms=_ms(record.probes.outage),
        probes_sent=record.probes.sent,
        probes_lost=record.probes.lost,
        requests_sent=record.requests.sent,
        requests_lost=record.requests.lost,
        arp_gap_ms=None if routed else _ms(record.asks.outage),
        two_owners_ms=None if routed else _ms(record.asks.shared),
        gratuitous_ms=_ms(gratuitous[0] - event_at) if gratuitous else None,
        before=before,
        after=after,
        recovered=record.probes.recovered,
    )


def _ms(seconds: float) -> float:
    return round(seconds * 1000, 1)


@dataclass(frozen=True, slots=True)
class Phase:
    """One event and what came of it."""

    event: str
    at: float
    """Seconds since the demo's clock started."""
    took: float
    """Seconds until everything was steady again."""
    vips: tuple[VipResult, ...]
    client_late_ms: float
    """How late the client's own loop was at worst: no figure of this phase is finer than this."""
    backend_late_ms: float
    """How long a probe lay unread in a backend's socket at worst."""

    def document(self) -> dict[str, Any]:
        return {
            "event": self.event,
            "at_s": round(self.at, 3),
            "took_s": round(self.took, 3),
            "client_late_ms": self.client_late_ms,
            "backend_late_ms": self.backend_late_ms,
            "vips": [vip.document() for vip in self.vips],
        }


@dataclass(frozen=True, slots=True)
class ScenarioResult:
    name: str
    run: int
    node: str
    """The node it happened to."""
    phase: Phase
    afterwards: Phase | None
    """The undoing: the speaker's restart, the partition's end.  None where that is a scenario of its own."""

    def phases(self) -> tuple[Phase, ...]:
        return (self.phase,) if self.afterwards is None else (self.phase, self.afterwards)

    def problems(self) -> list[str]:
        return [
            f"{self.name} #{self.run}, {phase.event}: {problem}"
            for phase in self.phases()
            for vip in phase.vips
            if (problem := vip.problem()) is not None
        ]

    def document(self) -> dict[str, Any]:
        main = self.phase.document()
        return {
            "name": self.name,
            "run": self.run,
            "node": self.node,
            **main,
            "afterwards": None if self.afterwards is None else self.afterwards.document(),
        }


@dataclass(slots=True)
class Report:
    nodes: int
    settings: Mapping[str, Any]
    machine: Mapping[str, str]
    scenarios: list[ScenarioResult] = field(default_factory=list)
    failure: str | None = None
    """Why the demo ended before its time."""

    def problems(self) -> list[str]:
        found = [problem for scenario in self.scenarios for problem in scenario.problems()]
        return found if self.failure is None else [*found, self.failure]

    def document(self) -> dict[str, Any]:
        return {
            "schema": SCHEMA,
            "version": __version__,
            "nodes": self.nodes,
            "settings": dict(self.settings),
            "machine": dict(self.machine),
            "scenarios": [scenario.document() for scenario in self.scenarios],
            "problems": self.problems(),
        }

    def write(self, directory: Path) -> Path:
        directory.mkdir(parents=True, exist_ok=True)
        file = directory / "report.json"
        file.write_text(json.dumps(self.document(), indent=2) + "\n", encoding="utf-8")
        return file
