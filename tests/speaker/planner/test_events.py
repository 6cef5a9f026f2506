from __future__ import annotations

from speaker.planner.events import LASTING, WITHIN, Quarrels, assigned, no_interface
from tests.speaker.planner.builders import service


def test_the_texts_are_metallbs() -> None:
    event = assigned(service("web"), "iris1")
    assert (event.type, event.reason) == ("Normal", "nodeAssigned")
    assert event.message == 'announcing from node "iris1" with protocol "layer2"'
    assert (event.about.kind, event.about.namespace, event.about.name) == ("Service", "default", "web")
    event = no_interface(service("web"), "10.20.30.1", "iris1")
    assert (event.type, event.reason) == ("Warning", "announceFailed")


def test_only_a_lasting_conflict_is_told() -> None:
    quarrels = Quarrels()
    told = [quarrels.lasts("10.20.30.1", float(at)) for at in range(LASTING + 1)]
    assert told == [False] * (LASTING - 1) + [True, True]
    assert not quarrels.lasts("10.20.30.2", 3.0)


def test_conflicts_far_apart_do_not_last() -> None:
    quarrels = Quarrels()
    assert not any(quarrels.lasts("10.20.30.1", at * (WITHIN + 1)) for at in range(10))
    assert not any(quarrels.lasts(f"10.20.{at}.1", 1e6 + at * WITHIN) for at in range(100))
    assert len(quarrels._noted) <= 2, "what is over is forgotten"
