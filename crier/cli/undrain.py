"""`crier undrain NODE`: let a node have its addresses again, each seen to arrive before the next comes."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

from crier.cli import _common as common
from crier.cli import _handover as handover
from crier.cli import _wire as wire
from crier.cli._common import Exit, Session
from crier.cli._election import elect
from crier.cli._handover import Group, Mark, Moved, Stuck
from crier.cli.simulate import WISH, check_node
from crier.cli.status import look
from crier.inspect.gather import Picture
from crier.kube.model.node import EXCLUDE_LABEL, MAX_DRAINED

SUMMARY = "let a drained node have its addresses again, one by one and verified"
NOTHING: Final[frozenset[str]] = frozenset()


@dataclass(frozen=True, slots=True)
class Undrained:
    node: str
    complete: bool
    moved: tuple[Moved, ...]
    stuck: tuple[Stuck, ...]
    label: str | None
    """The excluding label's value when somebody else set it, so that it stays."""


def main(argv: list[str]) -> int:
    flags = common.parser("undrain", SUMMARY)
    handover.add_flags(flags)
    flags.add_argument(
        "--force",
        action="store_true",
        help="also remove the excluding label when `crier drain` did not set it",
    )
    options = flags.parse_args(argv)
    return common.run(options, flags.prog, work)


async def work(session: Session) -> Exit:
    node: str = session.options.node
    wire.check(session.options.wire)  # before anything is changed
    picture = await look(session, WISH)
    check_node(picture, node)
    found = await undrain(session, picture, node)
    if session.options.json:
        session.show("Undrain", found)
    elif found.complete:
        session.say(f"{node} is back: {len(found.moved)} moved to it.")
    for each in found.stuck:
        session.say(f"{', '.join(each.addresses)} did not arrive: {each.why}")
    if found.label is not None:
        session.say(
            f"{node} keeps the label {EXCLUDE_LABEL}={found.label}, which `crier drain` did not set; "
            "--force removes it"
        )
    return Exit.OK if found.complete and found.label is None else Exit.WRONG


async def undrain(session: Session, picture: Picture, node: str) -> Undrained:
    """Raises ApiError, Complaint."""
    groups = handover.groups(picture)
    vips = frozenset(address for group in groups for address in group.addresses)
    if len(vips) > MAX_DRAINED:
        vips = NOTHING  # more than can be named: all at once

    def named(mark: Mark) -> Mark:
        """From "everything" to every address by name, and the label off: nothing moves yet."""
        ours = mark.label == handover.OURS or session.options.force
        drained = vips if handover.everything(mark) else mark.drained & vips
        return Mark(drained, None if ours else mark.label)

    mark = await handover.set_mark(session, node, named)
    moved: list[Moved] = []
    stuck: list[Stuck] = []
    if mark.label is None:
        picture = await look(session, WISH)
        for group in groups:
            if not set(group.addresses) & mark.drained:
                continue
            outcome = await _return(session, picture, node, group)
            if isinstance(outcome, Moved):
                moved.append(outcome)
            elif outcome is not None:
                stuck.append(outcome)
                break
    if not stuck:
        await handover.set_mark(session, node, lambda mark: replace(mark, drained=NOTHING))
    return Undrained(node, not stuck, tuple(moved), tuple(stuck), mark.label)


async def _return(session: Session, picture: Picture, node: str, group: Group) -> Moved | Stuck | None:
    """None when it is another node's turn anyway, so that nothing moves."""
    before = await handover.see(session, picture.speakers, group.addresses)
    comes = _comes_here(picture, node, group)
    await handover.set_mark(
        session, node, lambda mark: replace(mark, drained=mark.drained - frozenset(group.addresses))
    )
    if not comes:
        return None
    after, seconds, why = await handover.wait_for(
        session, picture.speakers, group, lambda name: name == node, patience=session.options.move_timeout
    )
    if not after:
        return Stuck(group.addresses, group.services, why)
    was = ", ".join(before.answering.get(group.addresses[0], ())) or "nobody"
    what = f"{', '.join(group.addresses)} ({', '.join(group.services)})"
    session.say(f"{what}: {was} -> {node} in {seconds:.1f} s")
    return Moved(group.addresses, group.services, was, node, round(seconds, 2))


def _comes_here(picture: Picture, node: str, group: Group) -> bool:
    """Whether the node owns the group once it is no longer drained of it."""
    there = picture.nodes[node]
    freed = replace(
        there,
        drained=NOTHING,
        labels={name: value for name, value in there.labels.items() if name != EXCLUDE_LABEL},
    )
    election = elect(replace(picture, nodes={**picture.nodes, node: freed}))
    verdicts = [election.plan.verdicts.get(key) for key in group.services]
    return any(verdict is not None and election.owner(verdict) == node for verdict in verdicts)
