"""`crier undrain NODE`: let a node have its addresses again, each seen to arrive before the next comes."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import Final

from crier.cli import _common as common
from crier.cli import _handover as handover
from crier.cli import _routers as routers
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
        help="also remove the excluding label when `crier drain` did not set it, and let the node have its "
        "addresses though its speaker cannot be asked",
    )
    options = flags.parse_args(argv)
    return common.run(options, flags.prog, work)


async def work(session: Session) -> Exit:
    node: str = session.options.node
    wire.check(session.options.wire)  # before anything is changed
    picture = await look(session, WISH)
    check_node(picture, node)
    silence = _silence(picture, node)
    if silence and not session.options.force:
        raise common.Complaint(
            Exit.PARTIAL, f"nothing was changed: {silence}, so no address could be seen to arrive; --force"
            " lets the node have them all the same",
        )  # fmt: skip
    found = await undrain(session, picture, node, blindly=silence)
    if session.options.json:
        session.show("Undrain", found)
    elif found.complete:
        seen = f"not verified: {silence}" if silence else f"{len(found.moved)} moved to it"
        session.say(f"{node} is back: {seen}.")
    for each in found.stuck:
        session.say(f"{', '.join(each.addresses)} did not arrive: {each.why}")
    if found.label is not None:
        session.say(
            f"{node} keeps the label {EXCLUDE_LABEL}={found.label}, which `crier drain` did not set; "
            "--force removes it"
        )
    return Exit.OK if found.complete and found.label is None else Exit.WRONG


def _silence(picture: Picture, node: str) -> str:
    """Why the node's own speaker cannot be asked; "" when it was."""
    here = [each for each in picture.speakers if each.node == node]
    if not here:
        return f"there is no speaker's pod on {node}"
    if any(each.says for each in here):
        return ""
    return handover.does_not_answer(node, here[0].silence)


async def undrain(session: Session, picture: Picture, node: str, *, blindly: str = "") -> Undrained:
    """`blindly`: why no address can be seen to arrive; they all come at once then.

    Raises ApiError, Complaint.
    """
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
    if mark.label is None and not blindly:
        picture = await look(session, WISH)
        left = set(mark.drained)
        for group in groups:
            if not set(group.addresses) & mark.drained:
                continue
            left -= set(group.addresses)
            outcome = await _return(session, picture, node, group, left)
            if isinstance(outcome, Moved):
                moved.append(outcome)
            elif outcome is not None:
                stuck.append(outcome)
                break
    if not stuck:
        await handover.set_mark(session, node, lambda mark: replace(mark, drained=NOTHING))
    return Undrained(node, not stuck, tuple(moved), tuple(stuck), mark.label)


async def _return(
    session: Session, picture: Picture, node: str, group: Group, left: Collection[str]
) -> Moved | Stuck | None:
    """`left`: addresses that come later.  None when it is other nodes' business anyway: nothing moves."""
    before = await handover.see(session, picture.speakers, group.addresses)
    routes = await routers.see(session, picture.speakers, group.addresses)
    comes = _comes_here(picture, node, group)
    await handover.set_mark(
        session, node, lambda mark: replace(mark, drained=mark.drained - frozenset(group.addresses))
    )
    seconds, why, patience = 0.0, "", session.options.move_timeout
    if comes:
        _, seconds, why = await handover.wait_for(
            session, picture.speakers, group, lambda name: name == node, patience=patience, needs=node
        )
    if why:
        return Stuck(group.addresses, group.services, why)
    back = await routers.wait_until_back(
        session, picture.speakers, group, node, left, patience=patience - seconds
    )
    unverified = back.why if back.why == routers.UNSEEN else ""
    if back.why and not unverified:
        return Stuck(group.addresses, group.services, back.why)
    if not comes and not back.peers:
        return None
    seconds = round(seconds + back.seconds, 2)
    how = f"not verified: {unverified}" if unverified else f"in {seconds:.1f} s"
    what = f"{', '.join(group.addresses)} ({', '.join(group.services)})"
    if comes:
        was, now = ", ".join(before.answering.get(group.addresses[0], ())) or "nobody", node
        session.say(f"{what}: {was} -> {node} {how}")
    else:
        others = routes.others(group, node)
        was, now = ", ".join(others) or "nobody", ", ".join(sorted({node, *others}))
        session.say(f"{what}: {node} tells {', '.join(back.peers)} of it again, {how}")
    return Moved(group.addresses, group.services, was, now, seconds, unverified)


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
