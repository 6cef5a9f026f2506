"""`crier drain NODE`: take every address off a node, each seen to arrive elsewhere before the next goes."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

from crier.cli import _common as common
from crier.cli import _handover as handover
from crier.cli import _routers as routers
from crier.cli import _wire as wire
from crier.cli._common import Exit, Session
from crier.cli._handover import Group, Mark, Moved, Stuck
from crier.cli.simulate import WISH, Simulation, check_node, simulate
from crier.cli.status import look
from crier.inspect.gather import Picture
from crier.kube.model.node import ALL_ADDRESSES, EXCLUDE_LABEL

SUMMARY = "take every address off a node, one by one and verified"
EPILOG: Final = f"""\
When all have left, the node gets the label {EXCLUDE_LABEL},
which MetalLB's speakers understand, too.  Run again after an interruption, it goes on where it was.
`crier undrain NODE` reverses it.  Pods are left alone: that is `kubectl drain`'s business.
"""


@dataclass(frozen=True, slots=True)
class Drained:
    node: str
    complete: bool
    moved: tuple[Moved, ...]
    stuck: tuple[Stuck, ...]
    """What stays on the node, and why."""


def main(argv: list[str]) -> int:
    flags = common.parser("drain", SUMMARY, epilog=EPILOG)
    handover.add_flags(flags)
    flags.add_argument(
        "--force", action="store_true", help="also take off what nobody else can answer for; it is lost then"
    )
    options = flags.parse_args(argv)
    return common.run(options, flags.prog, work)


async def work(session: Session) -> Exit:
    node: str = session.options.node
    wire.check(session.options.wire)  # before anything is changed
    picture = await look(session, WISH)
    check_node(picture, node)
    if not any(each.says for each in picture.speakers) and not session.options.force:
        silence = next((each.silence for each in picture.speakers), "there is no speaker's pod")
        raise common.Complaint(Exit.PARTIAL, f"no speaker could be asked, so no move verified: {silence}")
    found = await drain(session, picture, node)
    if session.options.json:
        session.show("Drain", found)
    elif found.complete:
        session.say(f"{node} is drained: {len(found.moved)} moved.  `crier undrain {node}` brings it back.")
    else:
        session.say(
            f"{node} is not drained: {len(found.stuck)} could not move (see above; --force loses them)."
        )
    return Exit.OK if found.complete else Exit.WRONG


async def drain(session: Session, picture: Picture, node: str) -> Drained:
    """Raises ApiError, Complaint."""
    plan = simulate(picture, "drain", node)
    before = await handover.see(session, picture.speakers, picture.vips)
    moved: list[Moved] = []
    stuck: list[Stuck] = []
    for group in handover.groups(picture):
        if not _concerns(group, node, plan, before):
            continue
        if why := _hindrance(group, plan):
            if not session.options.force:
                session.say(f"{', '.join(group.addresses)} stays: {why}")
                stuck.append(Stuck(group.addresses, group.services, why))
                continue
            session.say(f"{', '.join(group.addresses)} is lost: {why}")
            await handover.set_mark(session, node, lambda mark, group=group: _adding(mark, group))  # type: ignore[misc]
            continue
        outcome = await _move(session, picture, node, group)
        if isinstance(outcome, Moved):
            moved.append(outcome)
        else:
            stuck.append(outcome)
            if not session.options.force:
                break  # what did not work once is not tried on the others
    complete = not stuck or bool(session.options.force)
    if complete:
        await handover.set_mark(session, node, _everything)
        routed = [group for group in handover.groups(picture) if _is_routed(group, plan, node)]
        stuck += await _withdrawn(session, picture, node, routed)
        complete = not stuck or bool(session.options.force)
    return Drained(node, complete, tuple(moved), tuple(stuck))


async def _withdrawn(session: Session, picture: Picture, node: str, routed: list[Group]) -> list[Stuck]:
    """See the routes of the node go, now that it is labelled; those that do not."""
    if not routed:
        return []
    why = await routers.wait_until_gone(
        session, picture.speakers, routed, node, patience=session.options.move_timeout
    )
    if not why:
        session.say(f"{node} has withdrawn its routes")
        return []
    if why == routers.UNSEEN:
        session.say(f"{node} was told to withdraw its routes; not verified: {why}")
        return []
    session.say(f"{node} was told to withdraw its routes, but {why}")
    addresses = tuple(address for group in routed for address in group.addresses)
    return [Stuck(addresses, tuple(service for group in routed for service in group.services), why)]


async def _move(session: Session, picture: Picture, node: str, group: Group) -> Moved | Stuck:
    what = f"{', '.join(group.addresses)} ({', '.join(group.services)})"
    plan = simulate(picture, "drain", node)
    layer2, routed = _in_layer2(group, plan), _is_routed(group, plan, node)
    if routed and not session.options.force:
        sight = await routers.see(session, picture.speakers, group.addresses)
        if not sight.unseen and not sight.others(group, node):
            why = f"no other node's sessions carry {', '.join(group.addresses)} now"
            session.say(f"{what} stays: {why}")
            return Stuck(group.addresses, group.services, why)
    await handover.set_mark(session, node, lambda mark: _adding(mark, group))
    after, seconds, why, unverified = "", 0.0, "", ""
    if layer2:
        after, seconds, why = await handover.wait_for(
            session, picture.speakers, group, lambda name: name != node, patience=session.options.move_timeout
        )
    if routed and not why:
        seen, longer, why = await routers.wait_until_last(
            session, picture.speakers, group, node, patience=session.options.move_timeout - seconds
        )
        seconds += longer
        after = after or ", ".join(seen.others(group, node))
        if seen.unseen.get(node) == routers.UNSEEN:
            why, unverified = "", routers.UNSEEN
    if not why:
        how = f"not verified: {unverified}" if unverified else f"in {seconds:.1f} s"
        if layer2:
            session.say(f"{what}: {node} -> {after} {how}")
        else:
            session.say(f"{what}: routers are asked to prefer {after or 'the others'}, {how}")
        return Moved(group.addresses, group.services, node, after, round(seconds, 2), unverified)
    if session.options.force:
        session.say(f"{what}: not verified: {why}")
        return Stuck(group.addresses, group.services, why)
    # better where it was than nowhere
    await handover.set_mark(session, node, lambda mark: _removing(mark, group))
    session.say(f"{what}: put back, because within {session.options.move_timeout:g} s {why}")
    return Stuck(group.addresses, group.services, why)


def _concerns(group: Group, node: str, plan: Simulation, before: handover.Sight) -> bool:
    """The node answers for it, or should, or tells routers of it."""
    for address in group.addresses:
        if node in before.answering.get(address, ()) or node in before.owners.get(address, ()):
            return True
    return any(
        node == shift.before or node in shift.bgp_before
        for shift in plan.shifts
        if shift.service in group.services
    )


def _hindrance(group: Group, plan: Simulation) -> str:
    """Why it cannot be moved; "" when it can."""
    reasons = [
        f"{shift.service}: {shift.why or 'no other node tells routers of it'}"
        for shift in plan.shifts
        if shift.service in group.services and shift.outcome == "lost"
    ]
    return "; ".join(reasons)


def _is_routed(group: Group, plan: Simulation, node: str) -> bool:
    return any(node in shift.bgp_before for shift in plan.shifts if shift.service in group.services)


def _in_layer2(group: Group, plan: Simulation) -> bool:
    return any(shift.after or shift.before for shift in plan.shifts if shift.service in group.services)


def _adding(mark: Mark, group: Group) -> Mark:
    if handover.everything(mark):
        return mark
    return replace(mark, drained=mark.drained | frozenset(group.addresses))


def _removing(mark: Mark, group: Group) -> Mark:
    return replace(mark, drained=mark.drained - frozenset(group.addresses))


def _everything(mark: Mark) -> Mark:
    return Mark(frozenset({ALL_ADDRESSES}), handover.OURS if mark.label is None else mark.label)
