"""Short ways to say what somebody sees who looks at a cluster."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from crier.inspect.gather import Controller, Picture, Speaker
from crier.inspect.records import Event, ProgramPod
from crier.inspect.words import (
    ControllerWords,
    HailWords,
    HostWords,
    InterfaceWords,
    MemberWords,
    SpeakerWords,
    VipWords,
)
from speaker.planner.plan import Rules, plan
from speaker.planner.view import Configuration, View, by_service
from tests.speaker.planner.builders import (
    SPACE,
    ad_object,
    endpoint,
    node,
    pool_object,
    service,
    slice_of,
)

NODES = ("iris1", "iris2", "iris3")
POOL = "10.20.30.0/24"


def pod(
    of: str, component: str = "speaker", *, ready: bool = True, arguments: Iterable[str] = ()
) -> ProgramPod:
    return ProgramPod(
        name=f"{component}-{of}", component=component, node=of, ip="192.0.2.1", phase="Running", ready=ready,
        restarts=0, arguments=tuple(arguments), environment=(),
    )  # fmt: skip


def event(about: str, reason: str, message: str, at: str, *, first: str = "", revision: int = 1) -> Event:
    return Event(
        namespace="default", name="x", about_kind="Service", about=about, type="Normal", reason=reason,
        message=message, count=1, first=first or at, last=at, component="metallb-speaker", host="",
        revision=revision,
    )  # fmt: skip


def taken(about: str, by: str, at: str, **more: Any) -> Event:
    return event(about, "nodeAssigned", f'announcing from node "{by}" with protocol "layer2"', at, **more)


def host(name: str, **fields: Any) -> HostWords:
    """A node with nothing wrong with it, whose gossip port reaches all others."""
    usual: dict[str, Any] = {
        "interfaces": (InterfaceWords("eth0", True), InterfaceWords("lo", True)),
        "sysctls": {"all": {"rp_filter": 0, "arp_ignore": 0, "arp_announce": 0}},
        "exclude_l2": ("^lo$",),
        "gossip": tuple(HailWords(other, "192.0.2.1", 7946) for other in NODES if other != name),
    }
    return HostWords(node=name, **{**usual, **fields})


def picture(
    services: Mapping[str, tuple[str, ...]] | None = None,
    *,
    dead: Iterable[str] = (),
    silent: Iterable[str] = (),
    answering: Mapping[str, Iterable[str]] | None = None,
    drains: Mapping[str, str] | None = None,
    local: Mapping[str, str] | None = None,
    **fields: Any,
) -> Picture:
    """Three nodes; each speaker says what it would, given who is dead; `answering` overrides who answers.

    Args:
        services: name to addresses; by default `web` has the first address.
        local: name of a service to the one node it has an endpoint on.
        drains: node to its annotation.
    """
    named = {"web": ("10.20.30.1",)} if services is None else services
    local = local or {}
    made = [service(name, *ips, local=name in local) for name, ips in named.items()]
    slices = [
        slice_of(name, *(endpoint(of) for of in ([local[name]] if name in local else NODES)))
        for name in named
    ]
    nodes = {name: node(name, drain=(drains or {}).get(name, "")) for name in NODES}
    pools = [pool_object("default", POOL)]
    ads = [ad_object()]
    view = View({each.key: each for each in made}, by_service(slices), nodes, Configuration.parse(pools, ads))
    vips = plan(view, "", Rules()).vips
    gone = set(dead)
    speakers = []
    for name in NODES:
        if name in gone or name in set(silent):
            speakers.append(Speaker(pod(name, ready=name not in gone), silence="no answer within 8 s"))
            continue
        words = []
        for vip in vips:
            owner = next((each for each in vip.candidates if each not in gone), None)
            answers = owner == name if answering is None else name in answering.get(vip.address, ())
            words.append(VipWords(vip.address, tuple(vip.services), tuple(vip.candidates), owner, answers))
        members = tuple(
            MemberWords(each, "192.0.2.1", 7946, "dead" if each in gone else "alive", each not in gone)
            for each in NODES
        )
        speakers.append(
            Speaker(pod(name), SpeakerWords(name, "1", True, members, tuple(words)), host=host(name))
        )
    usual = Picture(
        namespace=SPACE,
        at=1_800_000_000.0,
        services={each.key: each for each in made},
        slices=tuple(slices),
        nodes=nodes,
        pools={each.name: each for each in pools},
        l2_advertisements=tuple(ads),
        speakers=tuple(speakers),
        controllers=(Controller(pod("c", "controller"), ControllerWords(leading=True, synced=True)),),
    )
    return replace(usual, **fields)
