"""`crier simulate drain|fail NODE`: what would move where, by the speakers' own plan.  Nothing is changed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from crier.cli import _common as common
from crier.cli import _tables as tables
from crier.cli._common import Exit, Session
from crier.cli._election import Election, drained, elect, without
from crier.cli.status import look
from crier.inspect.gather import Picture, Wish
from speaker.planner.plan import Objection, Verdict

SUMMARY = "what would move where if a node was drained or failed"
WISH: Final = Wish(
    kinds=frozenset(
        {
            "services", "endpointslices", "nodes", "ipaddresspools", "l2advertisements", "servicel2statuses",
            "servicebgpstatuses",
        }
    )
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Shift:
    """What happens to a service's addresses."""

    service: str
    addresses: tuple[str, ...]
    before: str
    """The node that answers in layer 2; "" for nobody."""
    after: str
    outcome: Literal["stays", "moves", "lost", "none"]
    """`lost`: somebody answers now and nobody would; `none`: nobody does, nor would."""
    why: str
    """Why nobody would."""
    bgp_before: tuple[str, ...]
    bgp_after: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Simulation:
    action: str
    node: str
    shifts: tuple[Shift, ...]
    moves: int
    lost: int
    assumptions: tuple[str, ...]


def main(argv: list[str]) -> int:
    flags = common.parser("simulate", SUMMARY)
    flags.add_argument("action", choices=("drain", "fail"), help="hand over in order, or be gone at once")
    flags.add_argument("node", metavar="NODE")
    flags.add_argument("--all", action="store_true", help="show services that stay where they are, too")
    options = flags.parse_args(argv)
    return common.run(options, flags.prog, show)


async def show(session: Session) -> Exit:
    picture = await look(session, WISH)
    node: str = session.options.node
    check_node(picture, node)
    needed = sorted({"services", "endpointslices", "nodes", "ipaddresspools"} & picture.gaps.keys())
    if needed:
        raise common.Complaint(Exit.FORBIDDEN, f"{needed[0]}: could not be read: {picture.gaps[needed[0]]}")
    found = simulate(picture, session.options.action, node)
    if session.options.json:
        session.show("Simulation", found)
    else:
        render(session, found)
    return Exit.WRONG if found.lost else Exit.OK


def check_node(picture: Picture, node: str) -> None:
    """Raises Complaint when there is no such node."""
    if "nodes" in picture.gaps:
        raise common.Complaint(Exit.FORBIDDEN, f"nodes could not be read: {picture.gaps['nodes']}")
    if node not in picture.nodes:
        names = ", ".join(sorted(picture.nodes)) or "none"
        raise common.Complaint(Exit.NOT_FOUND, f"there is no node {node}; there are: {names}")


def simulate(picture: Picture, action: str, node: str) -> Simulation:
    """Pure."""
    now = elect(picture)
    then = without(now, node) if action == "fail" else drained(now, node)
    peers: dict[str, list[str]] = {}
    for status in picture.bgp_statuses:
        if status.peers:
            peers.setdefault(status.status_service_key, []).append(status.node)
    shifts = tuple(
        _shift(key, verdict, now, then, node, tuple(sorted(peers.get(key, ()))))
        for key, verdict in sorted(now.plan.verdicts.items())
        if verdict.addresses
    )
    assumptions = [f"configuration: {fault}" for fault in now.faults]
    if not any(speaker.says for speaker in picture.speakers):
        assumptions.append("no speaker could be asked: those whose pods are ready are taken to be reachable")
    if action == "drain":
        assumptions.append("endpoints stay where they are; `kubectl drain` would move pods, too")
    return Simulation(
        action,
        node,
        shifts,
        sum(shift.outcome == "moves" for shift in shifts),
        sum(shift.outcome == "lost" for shift in shifts),
        tuple(assumptions),
    )


def _shift(
    key: str, verdict: Verdict, now: Election, then: Election, node: str, bgp: tuple[str, ...]
) -> Shift:
    later = then.plan.verdicts[key]
    before, after = now.owner(verdict), then.owner(later)
    bgp_after = tuple(name for name in bgp if name != node)
    outcome: Literal["stays", "moves", "lost", "none"]
    if before:
        outcome = "lost" if not after else "stays" if after == before else "moves"
    elif bgp:
        outcome = "lost" if not bgp_after else "stays" if bgp_after == bgp else "moves"
    else:
        outcome = "none"
    return Shift(
        key,
        verdict.addresses,
        before,
        after,
        outcome,
        reason(then, later) if not after and (before or not bgp) else "",
        bgp,
        bgp_after,
    )


def reason(found: Election, verdict: Verdict) -> str:
    """Why nobody answers for a service in layer 2; "" when somebody does."""
    if found.owner(verdict):
        return ""
    if verdict.candidates:
        return f"no speaker on {', '.join(verdict.candidates)} is reachable"
    if verdict.objection is Objection.NO_CANDIDATE and verdict.nodes:
        return "; ".join(f"{name}: {why.text}" for name, why in sorted(verdict.nodes.items()))
    return verdict.objection.text if verdict.objection else ""


def render(session: Session, found: Simulation) -> None:
    verb = "is drained" if found.action == "drain" else "fails"
    session.say(
        f"If {found.node} {verb}: {found.moves} of {len(found.shifts)} services move, {found.lost} lost."
    )
    shown = [each for each in found.shifts if session.options.all or each.outcome in ("moves", "lost")]
    if shown:
        table = tables.table("SERVICE", "ADDRESSES", "NOW", "THEN", "", "WHY")
        for each in shown:
            before = each.before or tables.listed(each.bgp_before)
            after = each.after or tables.listed(each.bgp_after, "nobody")
            style = {"moves": "ok", "lost": "nobody"}.get(each.outcome, "")
            mark = tables.mark(style)
            mark.plain = each.outcome
            table.add_row(each.service, tables.listed(each.addresses), before, after, mark, each.why)
        session.out.print()
        session.out.print(table)
    for text in found.assumptions:
        session.say(f"({text})")
