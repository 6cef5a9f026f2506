"""`crier status`: nodes, gossip, pools, VIPs with owner and health, and what is wrong."""

from __future__ import annotations

from crier.cli import _common as common
from crier.cli import _tables as tables
from crier.cli._common import Exit, Session
from crier.inspect.gather import Gatherer, Picture, Wish
from crier.inspect.overview import Overview, overview

SUMMARY = "nodes, gossip, pools, VIPs with owner and health, and what is wrong"

MOVES = 5
ALL = Wish()


def main(argv: list[str]) -> int:
    flags = common.parser("status", SUMMARY)
    options = flags.parse_args(argv)
    return common.run(options, flags.prog, show)


async def show(session: Session) -> Exit:
    picture = await look(session)
    found = overview(picture)
    if session.options.json:
        session.show("Status", found)
    else:
        render(session, found)
    return verdict(picture, found)


async def look(session: Session, wish: Wish = ALL) -> Picture:
    """Raises Complaint when there is no Crier to be looked at."""
    picture = await Gatherer(session.api, session.namespace, session.reach).gather(wish)
    if picture.forbidden and not picture.services and not picture.pools:
        raise common.Complaint(Exit.FORBIDDEN, f"no permission: {next(iter(picture.gaps.values()))}")
    return picture


def verdict(picture: Picture, found: Overview) -> Exit:
    if not found.healthy:
        return Exit.WRONG
    return Exit.PARTIAL if partial(picture) else Exit.OK


def partial(picture: Picture) -> bool:
    """Whether there is something we were not told."""
    silent = any(each.silence or each.host_silence for each in picture.speakers)
    return bool(picture.gaps) or not picture.speakers or silent


def render(session: Session, found: Overview) -> None:
    out = session.out
    if not found.controllers and not any(node.speaker for node in found.nodes):
        session.say(f"There is no sign of Crier in namespace {found.namespace} (-n says another).")
    out.print(tables.nodes_table(found.nodes))
    out.print()
    if found.controllers:
        out.print(tables.controllers_table(found.controllers))
        out.print()
    out.print(tables.pools_table(found.pools))
    out.print()
    out.print(tables.vips_table(found.vips))
    out.print()
    if found.moves:
        out.print(tables.moves_table(found.moves[:MOVES]))
        out.print()
    if found.problems:
        out.print(tables.problems_table(found.problems))
    else:
        session.say("No problems.")
