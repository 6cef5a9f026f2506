"""A picture of a cluster, summed up: what `crier status` and the status page show.  Pure.

The records are the fields of JSON documents, so they are stable: one may be added, none changes its meaning.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, Literal, TypeAlias

from crier.inspect.gather import Controller, Picture, Speaker
from crier.inspect.moves import Move, moves
from crier.inspect.words import MemberWords, SessionWords, VipWords
from crier.kube.model.addresses import parse_address
from crier.kube.model.errors import ConfigError
from crier.kube.model.pool import PoolIndex, parse_pools

Health: TypeAlias = Literal["ok", "moving", "nobody", "several", "conflict", "amiss", "unknown"]
Severity: TypeAlias = Literal["error", "warning", "info"]

EXPLANATIONS: Final[Mapping[str, str]] = {
    "ok": "exactly the owner answers",
    "moving": "its owner and who answers differ at this moment",
    "nobody": "nobody answers",
    "several": "more than one node answers",
    "conflict": "a host that is no speaker uses the address, too",
    "amiss": "the owner answers, and on the wire another node finds it otherwise",
    "unknown": "no speaker could be asked",
}
AMISS: Final[Mapping[str, str]] = {
    "unanswered": "nobody answers on the wire",
    "answered_twice": "more than one answers on the wire",
    "answered_by_wrong_host": "another host answers on the wire",
}
_WORST_FIRST: Final[tuple[Severity, ...]] = ("error", "warning", "info")
ESTABLISHED: Final = "Established"
MAX_MOVES: Final = 200
MAX_INT64: Final = 2**63 - 1


@dataclass(frozen=True, slots=True)
class SessionLine:
    peer: str
    state: str
    """In RFC 4271's words; `Established` is up."""
    prefixes: int
    """It has been told of."""
    note: str
    """Why it is not up; BFD's opinion."""


@dataclass(frozen=True, slots=True)
class NodeLine:
    name: str
    speaker: str
    """Its pod; "" when the node has none."""
    version: str
    heard: bool
    """The speaker answered us."""
    silence: str
    """Why not; "" when it did."""
    state: str
    """In gossip, as most others see it: alive, suspect, dead, left; "" when nobody says."""
    reachable_for: int
    """How many of the other speakers that answered us reach it."""
    asked: int
    """How many others answered."""
    excluded: bool
    draining: tuple[str, ...]
    """Addresses it hands over, or `*`."""
    vips: int
    """Addresses it answers for."""
    bgp: tuple[SessionLine, ...]
    """Its BGP sessions."""
    loop_late_ms: float
    """The longest its event loop was late, in milliseconds, since it started."""


@dataclass(frozen=True, slots=True)
class PoolLine:
    name: str
    addresses: tuple[str, ...]
    assigned: int
    available: int
    used_percent: float
    auto_assign: bool


@dataclass(frozen=True, slots=True)
class VipLine:
    address: str
    services: tuple[str, ...]
    pool: str
    protocols: tuple[str, ...]
    """`layer2`, `bgp`: by which it is announced now."""
    owner: str
    """The node whose turn it is in layer 2; "" for nobody."""
    answering: tuple[str, ...]
    """Nodes that say they answer ARP or NDP for it."""
    interfaces: tuple[str, ...]
    """Of those nodes: on which."""
    on_wire: tuple[str, ...]
    """Who answered when speakers asked the wire: names of nodes, hardware addresses of strangers."""
    candidates: tuple[str, ...]
    """In election order."""
    bgp_nodes: tuple[str, ...]
    """Nodes that tell a BGP peer of it."""
    health: Health
    note: str


@dataclass(frozen=True, slots=True)
class ControllerLine:
    pod: str
    node: str
    ready: bool
    leading: bool
    silence: str


@dataclass(frozen=True, slots=True)
class Problem:
    severity: Severity
    about: str
    text: str


@dataclass(frozen=True, slots=True)
class Overview:
    at: str
    """RFC 3339."""
    namespace: str
    nodes: tuple[NodeLine, ...]
    pools: tuple[PoolLine, ...]
    vips: tuple[VipLine, ...]
    controllers: tuple[ControllerLine, ...]
    moves: tuple[Move, ...]
    """The newest first."""
    problems: tuple[Problem, ...]

    @property
    def healthy(self) -> bool:
        return not any(problem.severity == "error" for problem in self.problems)


def overview(picture: Picture) -> Overview:
    vips = vip_lines(picture)
    nodes = node_lines(picture, vips)
    pools = pool_lines(picture)
    owners = {service: vip.owner for vip in vips for service in vip.services}
    return Overview(
        at=stamp(picture.at),
        namespace=picture.namespace,
        nodes=nodes,
        pools=pools,
        vips=vips,
        controllers=tuple(_controller_line(each) for each in picture.controllers),
        moves=moves(picture.events, owners)[:MAX_MOVES],
        problems=tuple(
            sorted(_problems(picture, nodes, pools, vips), key=lambda each: _WORST_FIRST.index(each.severity))
        ),
    )


def stamp(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


# ------------------------------------------------------------------------------------------------ nodes


def node_lines(picture: Picture, vips: Iterable[VipLine]) -> tuple[NodeLine, ...]:
    speakers = {each.node: each for each in picture.speakers if each.node}
    views: dict[str, list[MemberWords]] = {}
    for speaker in picture.speakers:
        if speaker.says is not None:
            for member in speaker.says.members:
                if member.name != speaker.says.node:
                    views.setdefault(member.name, []).append(member)
    answered = Counter(node for vip in vips for node in vip.answering)
    heard = {each.node for each in picture.speakers if each.says is not None}
    names = sorted({*picture.nodes, *speakers, *views})
    return tuple(
        _node_line(name, picture, speakers.get(name), views.get(name, []), heard - {name}, answered[name])
        for name in names
    )


def _node_line(
    name: str,
    picture: Picture,
    speaker: Speaker | None,
    views: list[MemberWords],
    others: set[str],
    vips: int,
) -> NodeLine:
    states = Counter(member.state for member in views)
    says = speaker.says if speaker else None
    own = next((each.state for each in says.members if each.name == name), "") if says else ""
    node = picture.nodes.get(name)
    return NodeLine(
        name=name,
        speaker=speaker.pod.name if speaker else "",
        version=says.version if says else "",
        heard=says is not None,
        silence=speaker.silence if speaker else "it has no speaker",
        state=states.most_common(1)[0][0] if states else own,
        reachable_for=sum(member.reachable for member in views),
        asked=len(others),
        excluded=node is not None and node.excluded,
        draining=tuple(sorted(node.drained)) if node else (),
        vips=vips,
        bgp=tuple(_session_line(each) for each in says.bgp) if says else (),
        loop_late_ms=round(says.reflex.loop_late_max * 1000, 1) if says else 0.0,
    )


def _session_line(said: SessionWords) -> SessionLine:
    up = said.state == ESTABLISHED
    notes = [said.last_error] if said.last_error and not up else []
    if said.bfd and said.bfd != "Up":
        notes.append(f"BFD is {said.bfd}")
    return SessionLine(said.peer, said.state, said.sent, "; ".join(notes))


# ------------------------------------------------------------------------------------------------ pools


def pool_lines(picture: Picture) -> tuple[PoolLine, ...]:
    lines = []
    for name, pool in sorted(picture.pools.items()):
        counters = pool.counters
        assigned = counters.assigned_ipv4 + counters.assigned_ipv6 if counters else 0
        available = counters.available_ipv4 + counters.available_ipv6 if counters else 0
        total = assigned + available
        lines.append(
            PoolLine(
                name=name,
                addresses=pool.spec.addresses or (),
                assigned=assigned,
                available=min(MAX_INT64, available),
                used_percent=round(100 * assigned / total, 1) if total else 0.0,
                auto_assign=pool.spec.auto_assign is not False,
            )
        )
    return tuple(lines)


# ------------------------------------------------------------------------------------------------- vips


def vip_lines(picture: Picture) -> tuple[VipLine, ...]:
    index = _index(picture)
    said: dict[str, list[tuple[str, VipWords]]] = {}
    for speaker in picture.speakers:
        if speaker.says is not None:
            for vip in speaker.says.vips:
                said.setdefault(vip.address, []).append((speaker.node, vip))
    found = picture.vips
    lines = []
    for address in sorted(found, key=_in_order):
        services = tuple(found[address])
        lines.append(_vip_line(picture, address, services, _pool_of(index, address), said.get(address, [])))
    return tuple(lines)


def _vip_line(
    picture: Picture, address: str, services: tuple[str, ...], pool: str, said: list[tuple[str, VipWords]]
) -> VipLine:
    bgp = sorted({s.node for s in picture.bgp_statuses if s.status_service_key in services and s.peers})
    told = sorted({s.node for s in picture.l2_statuses if s.status_service_key in services and s.node})
    answering = tuple(sorted(node for node, vip in said if vip.answering))
    owners = Counter(vip.owner for _, vip in said if vip.owner)
    owner = owners.most_common(1)[0][0] if owners else (told[0] if told and not said else "")
    candidates = next((vip.candidates for _, vip in said), ())
    layer2 = bool(candidates) or bool(told)
    claims = [(node, vip.claimed_by) for node, vip in said if vip.claimed_by]
    heard = any(each.says is not None for each in picture.speakers)
    health: Health
    note = ""
    amiss = sorted({f"{AMISS.get(vip.amiss, vip.amiss)}, says {node}" for node, vip in said if vip.amiss})
    if claims:
        health, note = "conflict", f"{claims[0][1]} uses it, too, says {claims[0][0]}"
    elif len(answering) > 1:
        health, note = "several", f"{', '.join(answering)} answer"
    elif answering and len(owners) == 1 and answering == (owner,):
        health, note = ("amiss", "; ".join(amiss)) if amiss else ("ok", "")
    elif answering:
        health, note = "moving", f"{answering[0]} answers, {' or '.join(sorted(owners))} should"
    elif not heard:
        health, note = "unknown", "no speaker could be asked"
    elif bgp and not candidates:
        health = "ok"
    elif missing := [node for node, vip in said if vip.missing_interfaces]:
        health, note = "nobody", f"{missing[0]} has none of the interfaces its L2Advertisement names"
    elif owner and owner not in {each.node for each in picture.speakers if each.says is not None}:
        health, note = "unknown", f"the speaker of {owner}, which should answer, could not be asked"
    else:
        health, note = "nobody", "" if candidates else "no node may announce it"
    return VipLine(
        address=address,
        services=services,
        pool=pool,
        protocols=(*(("layer2",) if layer2 else ()), *(("bgp",) if bgp else ())),
        owner=owner,
        answering=answering,
        interfaces=tuple(sorted({name for _, vip in said if vip.answering for name in vip.interfaces or ()})),
        on_wire=tuple(sorted({who for _, vip in said for who in vip.answered_by})),
        candidates=candidates,
        bgp_nodes=tuple(bgp),
        health=health,
        note=note,
    )


def _index(picture: Picture) -> PoolIndex | None:
    try:
        return PoolIndex(parse_pools(picture.pools.values()))
    except ConfigError:
        return None


def _pool_of(index: PoolIndex | None, address: str) -> str:
    try:
        pool = index.locate(parse_address(address)) if index else None
    except ValueError:
        return ""
    return pool.name if pool else ""


def _in_order(address: str) -> tuple[int, int, str]:
    try:
        parsed = parse_address(address)
    except ValueError:
        return 9, 0, address
    return parsed.version, int(parsed), address


# ------------------------------------------------------------------------------------------ the others


def _controller_line(controller: Controller) -> ControllerLine:
    says = controller.says
    pod = controller.pod
    return ControllerLine(
        pod.name, pod.node, pod.ready, says is not None and says.leading, controller.silence
    )


def _problems(
    picture: Picture, nodes: Iterable[NodeLine], pools: Iterable[PoolLine], vips: Iterable[VipLine]
) -> Iterable[Problem]:
    for plural, why in picture.gaps.items():
        yield Problem("warning", plural, f"could not be read: {why}")
    for about, why in picture.faults.items():
        yield Problem("error", about, f"makes no sense: {why}")
    for state in picture.states:
        if state.error_summary:
            yield Problem("error", f"configuration ({state.name})", state.error_summary)
    for vip in vips:
        if vip.health not in ("ok", "unknown"):
            severity: Severity = "warning" if vip.health == "moving" else "error"
            text = EXPLANATIONS[vip.health] + (f": {vip.note}" if vip.note else "")
            yield Problem(severity, f"{vip.address} ({', '.join(vip.services)})", text)
    yield from _without_address(picture)
    for node in nodes:
        yield from _of_node(node)
    for pool in pools:
        if not pool.available and pool.assigned:
            yield Problem("warning", f"IPAddressPool {pool.name}", "every address is given away")
    if picture.controllers and not any(each.says and each.says.leading for each in picture.controllers):
        silent = all(each.says is None for each in picture.controllers)
        text = f"could not be asked: {picture.controllers[0].silence}" if silent else "none leads"
        yield Problem("warning" if silent else "error", "controller", text)
    elif not picture.controllers and "pods" not in picture.gaps and picture.speakers:
        yield Problem("error", "controller", "there is no pod of the controller")


def _without_address(picture: Picture) -> Iterable[Problem]:
    reasons = {
        event.about: event.message
        for event in sorted(picture.events, key=lambda event: event.last)
        if event.reason == "AllocationFailed"
    }
    for key, service in sorted(picture.services.items()):
        if service.is_load_balancer and not service.load_balancer_class and not any(service.ingress_ips):
            yield Problem("error", key, f"has no address: {reasons.get(key, 'the controller gave it none')}")


def _of_node(node: NodeLine) -> Iterable[Problem]:
    if not node.speaker:
        if node.state == "alive":
            return
        yield Problem("info", node.name, "no speaker's pod is on this node")
    elif not node.heard:
        yield Problem("warning", node.name, f"its speaker did not answer: {node.silence}")
    if node.speaker and node.asked and node.reachable_for < node.asked:
        missing = node.asked - node.reachable_for
        severity: Severity = "error" if node.reachable_for == 0 else "warning"
        yield Problem(severity, node.name, f"{missing} of {node.asked} speakers do not reach it by gossip")
    for session in node.bgp:
        if session.state != ESTABLISHED:
            note = f": {session.note}" if session.note else ""
            yield Problem("warning", node.name, f"BGP session with {session.peer} is {session.state}{note}")
    if node.draining:
        what = "all addresses" if "*" in node.draining else ", ".join(node.draining)
        yield Problem("info", node.name, f"is drained of {what}")
