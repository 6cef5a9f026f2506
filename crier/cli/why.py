"""`crier why SERVICE`: the whole chain from the Service to the wire, link by link."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Literal

from crier.cli import _common as common
from crier.cli import _tables as tables
from crier.cli import _wire as wire
from crier.cli._common import Exit, Session
from crier.cli._election import Election, elect
from crier.cli.simulate import reason
from crier.cli.status import look
from crier.inspect.gather import Picture, Wish
from crier.inspect.overview import VipLine, vip_lines
from crier.kube.model.service import Service
from speaker.planner.plan import Verdict

SUMMARY = "why a service's address is where it is: allocation, election, who answers"
EVENTS: Final = 5
ASK_NOW: Final = "`--wire INTERFACE`, on the LAN, asks now"


@dataclass(frozen=True, slots=True)
class Link:
    """One step of the chain."""

    step: str
    state: Literal["ok", "warn", "fail"]
    text: str


@dataclass(frozen=True, slots=True)
class Place:
    """One node's part in it, in election order."""

    node: str
    rank: int
    """1 comes first; 0: it is no candidate."""
    reachable: bool
    answers: bool
    objection: str
    """Why it is no candidate; "" when it is one."""
    bgp_peers: tuple[str, ...]
    bgp_objection: str
    """Why it tells no peer of it; "" when it does, or does not say."""
    agrees: bool
    """Its speaker has the same candidates in the same order; true when it was not asked, too."""


@dataclass(frozen=True, slots=True)
class Answer:
    service: str
    addresses: tuple[str, ...]
    owner: str
    links: tuple[Link, ...]
    nodes: tuple[Place, ...]
    vips: tuple[VipLine, ...]
    wire: tuple[wire.Heard, ...]
    """With --wire: who answered a question asked on this machine's interface."""
    events: tuple[str, ...]

    @property
    def healthy(self) -> bool:
        return not any(link.state == "fail" for link in self.links)


def main(argv: list[str]) -> int:
    flags = common.parser("why", SUMMARY)
    flags.add_argument("service", metavar="[NAMESPACE/]SERVICE")
    flags.add_argument(
        "--wire",
        metavar="INTERFACE",
        help="also ask on the wire who has the address (root, on the VIP's LAN)",
    )
    options = flags.parse_args(argv)
    return common.run(options, flags.prog, show)


async def show(session: Session) -> Exit:
    picture = await look(session, Wish(why=True))
    if why := picture.gaps.get("services"):
        raise common.Complaint(Exit.FORBIDDEN, f"services could not be read: {why}")
    service = find(picture, session.options.service)
    heard: tuple[wire.Heard, ...] = ()
    if session.options.wire:
        heard = await wire.ask_all(session.options.wire, [ip for ip in service.ingress_ips if ip])
    found = explain(picture, service, heard)
    if session.options.json:
        session.show("Why", found)
    else:
        render(session, found)
    if not found.healthy:
        return Exit.WRONG
    return Exit.PARTIAL if picture.gaps or any(each.silence for each in picture.speakers) else Exit.OK


def find(picture: Picture, name: str) -> Service:
    """By `namespace/name`, or by name alone when only one has it.  Raises Complaint."""
    keys = [name] if "/" in name else [key for key in picture.services if key.partition("/")[2] == name]
    keys = [key for key in keys if key in picture.services]
    if len(keys) == 1:
        return picture.services[keys[0]]
    if keys:
        raise common.Complaint(Exit.USAGE, f"{name} is the name of several: {', '.join(sorted(keys))}")
    balanced = sorted(key for key, each in picture.services.items() if each.is_load_balancer)
    raise common.Complaint(
        Exit.NOT_FOUND,
        f"there is no service {name}; of type LoadBalancer are: {tables.listed(balanced[:20], 'none')}",
    )


def explain(picture: Picture, service: Service, heard: tuple[wire.Heard, ...] = ()) -> Answer:
    """Pure."""
    election = elect(picture)
    verdict = election.plan.verdicts.get(service.key) or Verdict(service.key)
    addresses = tuple(ip for ip in service.ingress_ips if ip)
    vips = tuple(line for line in vip_lines(picture) if line.address in addresses)
    owner = next((line.owner for line in vips if line.owner), "") or election.owner(verdict)
    events = [each for each in picture.events if each.about == service.key and each.about_kind == "Service"]
    events.sort(key=lambda each: each.last)
    links = [*_allocation(picture, service), *_configuration(election)]
    places: tuple[Place, ...] = ()
    if addresses:
        links += _announcement(picture, service, election, verdict)
        places = _places(picture, service, election, verdict, vips)
        links += _gossip(picture, places)
        links += _answers(vips, heard)
    return Answer(
        service.key,
        addresses,
        owner,
        tuple(links),
        places,
        vips,
        heard,
        tuple(f"{each.last} {each.reason}: {each.message}" for each in events[-EVENTS:]),
    )


def _allocation(picture: Picture, service: Service) -> Iterable[Link]:
    if not service.is_load_balancer:
        yield Link("service", "fail", f"its type is {service.type}, not LoadBalancer")
        return
    lb_class = next((each.pod.flag("lb-class") for each in picture.speakers), "")
    if (service.load_balancer_class or "") != lb_class:
        theirs, ours = service.load_balancer_class or "none", lb_class or "none"
        yield Link("service", "fail", f"its loadBalancerClass is {theirs}; Crier here serves {ours}")
        return
    policy = f"externalTrafficPolicy {service.external_traffic_policy}"
    yield Link(
        "service", "ok", f"type LoadBalancer, {policy}, ports {tables.listed(map(str, service.ports))}"
    )
    given = tuple(ip for ip in service.ingress_ips if ip)
    if not given:
        refusals = [
            each.message for each in picture.events
            if each.about == service.key and each.reason == "AllocationFailed"
        ]  # fmt: skip
        asked = service.annotation("loadBalancerIPs") or service.load_balancer_ip
        wish = f" (it asks for {asked})" if asked else ""
        yield Link(
            "allocation", "fail", f"it has no address{wish}: {(refusals or ['no reason was told'])[-1]}"
        )
        return
    pools = sorted({line.pool for line in vip_lines(picture) if line.address in given and line.pool})
    where = f"from pool {', '.join(pools)}" if pools else "of no pool"
    yield Link("allocation", "ok" if pools else "fail", f"{', '.join(given)} {where}")


def _configuration(election: Election) -> Iterable[Link]:
    for fault in election.faults:
        yield Link("configuration", "warn", f"{fault} (speakers keep the last one that made sense)")


def _announcement(picture: Picture, service: Service, election: Election, verdict: Verdict) -> Iterable[Link]:
    slices = election.view.slices.get(service.key, ())
    ready = [end for each in slices for end in each.endpoints if end.ready or end.serving]
    on = sorted({end.node_name for end in ready if end.node_name})
    where = f" on {', '.join(on)}" if on else ""
    yield Link("endpoints", "ok" if ready else "fail", f"{len(ready)} ready or serving{where}")
    bgp = sorted(
        {each.node for each in picture.bgp_statuses if each.status_service_key == service.key and each.peers}
    )
    if verdict.candidates:
        yield Link("layer 2", "ok", f"{len(verdict.candidates)} candidates: {', '.join(verdict.candidates)}")
    elif not election.faults:
        state: Literal["warn", "fail"] = "warn" if bgp else "fail"
        yield Link("layer 2", state, f"nobody announces it: {reason(election, verdict)}")
    if bgp:
        yield Link("bgp", "ok", f"peers are told by {', '.join(bgp)}")
    elif picture.bgp_advertisements:
        yield Link("bgp", "warn", "there are BGPAdvertisements, and no node tells a peer of it")


def _places(
    picture: Picture, service: Service, election: Election, verdict: Verdict, vips: tuple[VipLine, ...]
) -> tuple[Place, ...]:
    answering = {node for vip in vips for node in vip.answering}
    peers = {each.node: each.peers for each in picture.bgp_statuses if each.status_service_key == service.key}
    opinions = {
        each.node: each.why.services[service.key].candidates
        for each in picture.speakers
        if each.why is not None and service.key in each.why.services
    }
    routed = {
        each.node: each.why.services[service.key].bgp
        for each in picture.speakers
        if each.why is not None and service.key in each.why.services
    }
    names = [*verdict.candidates, *sorted(verdict.nodes)]
    names += sorted({*picture.nodes, *answering, *peers} - set(names))
    ranks = {name: rank for rank, name in enumerate(verdict.candidates, 1)}
    return tuple(
        Place(
            node=name,
            rank=ranks.get(name, 0),
            reachable=name in election.alive,
            answers=name in answering,
            objection=verdict.nodes[name].text if name in verdict.nodes else "",
            bgp_peers=peers.get(name, ()) or (routed[name].peers if name in routed else ()),
            bgp_objection=(routed[name].objection or "") if name in routed and picture.peers else "",
            agrees=opinions.get(name, verdict.candidates) == verdict.candidates,
        )
        for name in names
    )


def _gossip(picture: Picture, places: tuple[Place, ...]) -> Iterable[Link]:
    silent = [f"{each.node or each.pod.name} ({each.silence})" for each in picture.speakers if each.silence]
    if silent:
        yield Link("speakers", "warn", f"could not be asked: {'; '.join(silent)}")
    if not picture.speakers:
        yield Link("speakers", "fail", "there is no pod of a speaker")
        return
    unreached = [place.node for place in places if place.rank and not place.reachable]
    if unreached:
        yield Link("gossip", "warn", f"most speakers do not reach {', '.join(unreached)}")
    elif any(place.rank for place in places):
        yield Link("gossip", "ok", "every candidate is reachable")
    others = [place.node for place in places if not place.agrees]
    if others:
        yield Link(
            "election", "warn", f"{', '.join(others)} sees another order: its view of the API is behind"
        )


def _answers(vips: tuple[VipLine, ...], heard: tuple[wire.Heard, ...]) -> Iterable[Link]:
    for vip in vips:
        if "layer2" not in vip.protocols:
            continue
        where = f" on {', '.join(vip.interfaces)}" if vip.interfaces else ""
        who = f"{vip.address}: {tables.listed(vip.answering, 'nobody')} answers{where}"
        state: Literal["ok", "warn", "fail"] = (
            "ok" if vip.health == "ok" else "warn" if vip.health in ("moving", "unknown") else "fail"
        )
        yield Link("answer", state, f"{who}{f' ({vip.note})' if vip.note else ''}")
        if vip.on_wire:
            # each asks once a minute: after a move some still tell of before
            right = vip.on_wire == vip.answering
            again = "" if right else f"; {ASK_NOW}"
            text = f"{vip.address}: when speakers asked last they heard {', '.join(vip.on_wire)}{again}"
            yield Link("wire", "ok" if right else "warn", text)
    for each in heard:
        if each.problem:
            yield Link("wire", "warn", f"{each.address}: {each.problem}")
        elif len(each.macs) == 1:
            yield Link("wire", "ok", f"{each.address} is at {each.macs[0]}")
        elif each.macs:
            yield Link("wire", "fail", f"{each.address} is at {', '.join(each.macs)}: more than one answers")
        else:
            yield Link("wire", "fail", f"nobody answers for {each.address}")


def _why_not(place: Place) -> str:
    routed = f"bgp: {place.bgp_objection}" if place.bgp_objection else ""
    away = "gossip does not reach it" if place.rank and not place.reachable else ""
    return "; ".join(text for text in (place.objection, away, routed) if text)


def render(session: Session, found: Answer) -> None:
    owner = found.owner or "nobody"
    session.say(f"{found.service}  {tables.listed(found.addresses, 'no address')}  owner: {owner}")
    chain = tables.table("", "STEP", "WHAT")
    for link in found.links:
        chain.add_row(tables.mark(link.state), link.step, link.text)
    session.out.print()
    session.out.print(chain)
    if found.nodes:
        nodes = tables.table("RANK", "NODE", "REACHABLE", "ANSWERS", "BGP PEERS", "WHY NOT", title="Nodes")
        for place in found.nodes:
            nodes.add_row(
                str(place.rank or "-"), place.node, tables.mark("yes" if place.reachable else "no"),
                tables.mark("yes" if place.answers else "no"), tables.listed(place.bgp_peers),
                _why_not(place),
            )  # fmt: skip
        session.out.print()
        session.out.print(nodes)
    if found.events:
        session.out.print()
        for text in found.events:
            session.say(text)
