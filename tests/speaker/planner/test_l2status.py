from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from crier.kube.model.states import ServiceL2Status
from speaker.planner.l2status import (
    CALM,
    PAUSE_FIRST,
    PAUSE_MAX,
    Amend,
    Create,
    Damper,
    Delete,
    Owner,
    new_object,
    reconcile,
    status_patch,
)

ME = "iris1"
OWNER = Owner("speaker-x", "uid-x")


def status(
    name: str,
    on: str = ME,
    service: str = "default/web",
    *,
    written: bool = True,
    interfaces: tuple[str, ...] = (),
    owner: str = "uid-x",
) -> ServiceL2Status:
    return ServiceL2Status(
        namespace="metallb-system",
        name=name,
        uid=f"uid-{name}",
        node_label=on,
        service_key=service,
        node=on if written else "",
        status_service_key=service if written else "",
        interfaces=interfaces,
        owner_uids=(owner,),
    )


def test_the_announcing_node_makes_its_object() -> None:
    assert reconcile({"default/web": ()}, [], ME, OWNER) == [Create("default/web")]


def test_when_all_is_well_nothing_is_written() -> None:
    assert reconcile({"default/web": ()}, [status("l2-a")], ME, OWNER) == []
    assert reconcile({}, [status("l2-a", "iris2")], ME, OWNER) == []


def test_it_deletes_what_others_left_and_duplicates() -> None:
    found = [status("l2-c", "iris2"), status("l2-b"), status("l2-a")]
    assert reconcile({"default/web": ()}, found, ME, OWNER) == [
        Delete("l2-b", "uid-l2-b"),
        Delete("l2-c", "uid-l2-c"),
    ]


def test_a_node_that_does_not_announce_deletes_only_its_own() -> None:
    found = [status("l2-a"), status("l2-b", "iris2")]
    assert reconcile({}, found, ME, OWNER) == [Delete("l2-a", "uid-l2-a")]


def test_what_is_wrong_is_amended() -> None:
    wanted = {"default/web": ("eth0",)}
    amend = [Amend("l2-a", "default/web", ("eth0",))]
    assert reconcile(wanted, [status("l2-a", written=False)], ME, OWNER) == amend
    assert reconcile(wanted, [status("l2-a", interfaces=("eth1",))], ME, OWNER) == amend
    assert reconcile(wanted, [status("l2-a", interfaces=("eth0",), owner="old")], ME, OWNER) == amend
    assert reconcile(wanted, [status("l2-a", interfaces=("eth0",), owner="old")], ME, None) == []


def test_a_status_that_can_never_be_right_is_replaced() -> None:
    """Node and service in a status cannot be changed once they are set."""
    wrong = ServiceL2Status(
        namespace="metallb-system",
        name="l2-a",
        uid="u",
        node_label=ME,
        service_key="default/web",
        node="iris2",
        status_service_key="default/web",
    )
    assert reconcile({"default/web": ()}, [wrong], ME, OWNER) == [Delete("l2-a", "u"), Create("default/web")]


def test_objects_without_all_three_labels_are_left_alone() -> None:
    found = [status("l2-a", on=""), status("l2-b", service="")]
    assert reconcile({}, found, ME, OWNER) == []


def test_the_two_writes() -> None:
    made = new_object("default/web", ME, OWNER)
    assert made["metadata"]["generateName"] == "l2-"
    assert made["metadata"]["labels"] == {
        "metallb.io/node": ME,
        "metallb.io/service-name": "web",
        "metallb.io/service-namespace": "default",
    }
    assert made["metadata"]["ownerReferences"] == [
        {"apiVersion": "v1", "kind": "Pod", "name": "speaker-x", "uid": "uid-x"}
    ]
    assert made["spec"] == {}
    assert status_patch("default/web", ME, ("eth0",))["status"] == {
        "node": ME,
        "serviceName": "web",
        "serviceNamespace": "default",
        "interfaces": [{"name": "eth0"}],
    }
    assert status_patch("default/web", ME, ())["status"]["interfaces"] is None


SERVICES = ["default/a", "default/b"]


@given(
    st.dictionaries(st.sampled_from(SERVICES), st.sampled_from([(), ("eth0",)])),
    st.lists(
        st.builds(
            status,
            st.text("xyz", min_size=1, max_size=3),
            st.sampled_from([ME, "iris2"]),
            st.sampled_from(SERVICES),
            written=st.booleans(),
            interfaces=st.sampled_from([(), ("eth0",)]),
            owner=st.sampled_from(["uid-x", "old"]),
        ),
        unique_by=lambda each: each.name,
    ),
    st.randoms(use_true_random=False),
)
def test_once_done_there_is_nothing_to_do(
    wanted: dict[str, tuple[str, ...]], found: list[ServiceL2Status], rng: random.Random
) -> None:
    """And then each announced service has exactly one object, ours, and we have no other."""
    world = {each.name: each for each in found}
    for number, action in enumerate(reconcile(wanted, world.values(), ME, OWNER)):
        match action:
            case Create(service):
                name = f"new-{number}"
                world[name] = status(name, service=service, interfaces=wanted[service])
            case Amend(name, service, interfaces):
                world[name] = status(name, service=service, interfaces=interfaces)
            case Delete(name):
                del world[name]
    shuffled = list(world.values())
    rng.shuffle(shuffled)
    assert reconcile(wanted, shuffled, ME, OWNER) == []
    ours = [each.service_key for each in shuffled if each.node_label == ME]
    assert sorted(ours) == sorted(wanted)
    assert not [each for each in shuffled if each.node_label != ME and each.service_key in wanted]


def test_two_that_fight_slow_down() -> None:
    damper = Damper()
    now, made = 0.0, 0
    while now < 3600:
        damper.made("default/web", now)
        made += 1
        now = damper.ready_at("default/web")
    assert made < 3600 / PAUSE_MAX + 10
    assert damper.ready_at("default/web") - now <= PAUSE_MAX
    assert damper.ready_at("default/other") < 0
    later = now + CALM + 1
    damper.made("default/web", later)
    assert damper.ready_at("default/web") == later + PAUSE_FIRST


def test_the_damper_forgets() -> None:
    damper = Damper()
    damper.made("default/web", 0.0)
    damper.forget([], 1.0)
    assert damper.ready_at("default/web") == PAUSE_FIRST
    damper.forget(["default/web"], CALM + 1)
    assert damper.ready_at("default/web") == PAUSE_FIRST
    damper.forget([], CALM + 1)
    assert damper.ready_at("default/web") < 0
