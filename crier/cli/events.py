"""`crier events`: what controller and speakers told about Services and pools, the newest last."""

from __future__ import annotations

import time
from typing import Final

from rich.padding import Padding
from rich.text import Text

from crier.cli import _common as common
from crier.cli import _tables as tables
from crier.cli._common import Exit, Session
from crier.cli.status import look
from crier.inspect.gather import Wish

SUMMARY = "what controller and speakers told, the newest last"
WISH = Wish(kinds=frozenset({"events"}), speakers=False)
WIDE: Final = 120
"""Columns from which the message has a place beside the rest; in fewer it gets a line of its own."""


def main(argv: list[str]) -> int:
    flags = common.parser("events", SUMMARY)
    flags.add_argument("about", nargs="?", metavar="[NAMESPACE/]NAME", help="only those about this object")
    flags.add_argument("--warnings", action="store_true", help="only what is of type Warning")
    options = flags.parse_args(argv)
    return common.run(options, flags.prog, show)


async def show(session: Session) -> Exit:
    picture = await look(session, WISH)
    if why := picture.gaps.get("events"):
        raise common.Complaint(Exit.FORBIDDEN if picture.forbidden else Exit.WRONG, f"no permission: {why}")
    about: str | None = session.options.about
    found = sorted(
        (
            each
            for each in picture.events
            if (about is None or about in (each.about, each.about.partition("/")[2]))
            and (not session.options.warnings or each.type == "Warning")
        ),
        key=lambda each: each.last,
    )
    if session.options.json:
        session.show("Events", {"events": found})
        return Exit.OK
    if not found:
        what = f" about {about}" if about is not None else ""
        session.say(f"No events{what}: the API keeps them for an hour.")
        return Exit.OK
    wide = session.out.width >= WIDE or not session.out.is_terminal
    table = tables.table("LAST", "COUNT", "TYPE", "REASON", "ABOUT", "BY", "MESSAGE")
    now = time.time()
    for each in found:
        kind = tables.mark("warning" if each.type == "Warning" else "info")
        by = each.host or each.component.removeprefix("metallb-")
        what = each.about if each.about_kind == "Service" else f"{each.about_kind} {each.about}"
        last = tables.ago(each.last, now)
        if wide:
            table.add_row(last, str(each.count), kind, each.reason, what, by, each.message)
            continue
        times = f", {each.count} times" if each.count > 1 else ""
        session.out.print(f"{last}{times} ", kind, "", each.reason, "", what, "", by)
        session.out.print(Padding(Text(each.message), (0, 0, 0, 4)))
    if wide:
        session.out.print(table)
    return Exit.OK
