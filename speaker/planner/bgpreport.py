"""Which services this node announces by BGP: news out of one plan of routes after another.

A core.  A service counts as announced when nothing stands in its way, whether there is a router or not:
MetalLB has it so, and its dashboards with it.
"""

from __future__ import annotations

from collections.abc import Mapping

from crier.kube.model.service import Service
from speaker.planner.report import Assigned, Withdrawn
from speaker.planner.routes import Routes, Verdict
from speaker.planner.view import addresses


class BgpReporter:
    def __init__(self) -> None:
        self.announced: dict[str, tuple[str, ...]] = {}
        """By `namespace/name`: the addresses."""
        self._seen: Mapping[str, Verdict] = {}

    def update(self, routes: Routes, services: Mapping[str, Service]) -> list[Assigned | Withdrawn]:
        verdicts = routes.verdicts
        if verdicts is self._seen:
            return []
        changed = sorted(
            [key for key, verdict in verdicts.items() if self._seen.get(key) is not verdict]
            + [key for key in self._seen if key not in verdicts]
        )
        self._seen = verdicts
        return [news for key in changed for news in self._look(key, verdicts.get(key), services.get(key))]

    def _look(self, key: str, verdict: Verdict | None, service: Service | None) -> list[Assigned | Withdrawn]:
        was = self.announced.get(key)
        now = None
        if verdict is not None and verdict.objection is None and service is not None:
            now = tuple(dict.fromkeys(str(ip) for ip in addresses(service) or ()))
        if was == now:
            return []
        news: list[Assigned | Withdrawn] = []
        if was is not None:
            news.append(Withdrawn(key, was, *_reason(verdict)))
            del self.announced[key]
        if now is not None:
            news.append(Assigned(key, now))
            self.announced[key] = now
        return news


def _reason(verdict: Verdict | None) -> tuple[str, str]:
    if verdict is None:
        return "serviceDeleted", "it was deleted, or is of another class now"
    if verdict.objection is None:
        return "loadBalancerIPChanged", "its addresses changed"
    return verdict.objection.reason, verdict.objection.text
