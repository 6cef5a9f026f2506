"""What a node found on the wire, as the API, the metrics and the status document tell it."""

from __future__ import annotations

import msgspec
import pytest

from crier.kube.model.service import Service
from crier.ops.metrics import Registry
from speaker.orders import Hello, Members, MemberView, Vip, Vips, VipState
from speaker.planner import events
from speaker.planner.metrics import MAX_RIVALS, Metrics
from speaker.planner.reflex import Reflex
from speaker.reflex.selfcheck import Verdict

ADDRESS = "192.0.2.1"
VIP = Vip(ADDRESS, ("ns/web",), ("a", "b", "c"))


def reflex(me: str, *states: VipState, dead: str = "") -> Reflex:
    members = tuple(MemberView(n, "10.0.0.1", 7946, "alive", reachable=n not in dead) for n in "abc")
    return Reflex(Hello(2, me, 1, True, 1), Members(members, True), Vips(1, states))


def state(owner: str | None = "a", *answered_by: str, amiss: str = "", address: str = ADDRESS) -> VipState:
    return VipState(address, owner, False, (), False, 0, 0, 0, "", answered_by, amiss)


def test_every_verdict_has_its_event() -> None:
    assert set(events.FOUND) == {verdict.value for verdict in Verdict}
    kinds = {what: kind for what, (kind, _) in events.FOUND.items()}
    assert [what for what, kind in kinds.items() if kind == "Normal"] == [Verdict.WELL.value]


def test_the_event_names_the_address_the_node_and_the_finding() -> None:
    metadata = {"name": "web", "namespace": "ns", "uid": "1"}
    service = Service.decode(msgspec.json.encode({"metadata": metadata, "spec": {"type": "LoadBalancer"}}))
    event = events.found(service, "unanswered", ADDRESS, "b", "nobody answers; a should")
    assert (event.type, event.reason, event.about.name) == ("Warning", "addressUnanswered", "web")
    assert event.message == f'LB IP "{ADDRESS}", as node "b" sees it on the wire: nobody answers; a should'


@pytest.mark.parametrize(
    ("me", "dead", "tells"), [("a", "", True), ("b", "", True), ("c", "", False), ("c", "b", True)]
)
def test_the_owner_and_the_first_of_the_others_tell(me: str, dead: str, tells: bool) -> None:
    assert reflex(me, state("a"), dead=dead).is_to_tell(VIP) is tells


def rendered(registry: Registry, name: str) -> list[str]:
    lines = registry.render().decode().splitlines()
    return [line for line in lines if line.startswith(name)]


def test_the_metrics_say_who_answers_and_what_is_amiss() -> None:
    seen = reflex(
        "b", state("a", "02:00:00:00:00:99", "a", amiss="answered_twice"), state(address="192.0.2.2")
    )
    registry = Metrics("b", seen).registry
    assert rendered(registry, "crier_vip_answered_by") == [
        f'crier_vip_answered_by{{ip="{ADDRESS}",node="",mac="02:00:00:00:00:99"}} 1',
        f'crier_vip_answered_by{{ip="{ADDRESS}",node="a",mac=""}} 1',
    ]
    assert rendered(registry, "crier_vip_amiss") == [
        f'crier_vip_amiss{{ip="{ADDRESS}",what="answered_twice"}} 1'
    ]


def test_invented_hardware_addresses_do_not_fill_the_metrics() -> None:
    many = (state("a", f"02:00:00:00:{n >> 8:02x}:{n & 255:02x}", address=f"10.0.0.{n}") for n in range(200))
    registry = Metrics("b", reflex("b", *many)).registry
    assert len(rendered(registry, "crier_vip_answered_by")) == MAX_RIVALS
