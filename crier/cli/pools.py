"""`crier pools`: how full the address pools are, and who may use them."""

from __future__ import annotations

from crier.cli import _common as common
from crier.cli import _tables as tables
from crier.cli._common import Exit, Session
from crier.cli.status import look
from crier.inspect.gather import Wish
from crier.inspect.overview import pool_lines, vip_lines

SUMMARY = "how full the address pools are"
WISH = Wish(kinds=frozenset({"ipaddresspools", "services"}), speakers=False)


def main(argv: list[str]) -> int:
    flags = common.parser("pools", SUMMARY)
    flags.add_argument(
        "pool", nargs="?", metavar="POOL", help="only this one, with every address it gave away"
    )
    options = flags.parse_args(argv)
    return common.run(options, flags.prog, show)


async def show(session: Session) -> Exit:
    picture = await look(session, WISH)
    lines = pool_lines(picture)
    wanted: str | None = session.options.pool
    if wanted is not None:
        lines = tuple(line for line in lines if line.name == wanted)
        if not lines:
            if why := picture.gaps.get("ipaddresspools"):
                raise common.Complaint(Exit.FORBIDDEN if picture.forbidden else Exit.WRONG, why)
            names = ", ".join(sorted(picture.pools)) or "none"
            raise common.Complaint(Exit.NOT_FOUND, f"there is no IPAddressPool {wanted}; there are: {names}")
    given = [line for line in vip_lines(picture) if wanted is None or line.pool == wanted]
    addresses = [{"address": vip.address, "pool": vip.pool, "services": vip.services} for vip in given]
    if session.options.json:
        session.show("Pools", {"pools": lines, "addresses": addresses, "gaps": picture.gaps})
    else:
        session.out.print(tables.pools_table(lines))
        if wanted is not None:
            table = tables.table("ADDRESS", "SERVICE")
            for vip in given:
                table.add_row(vip.address, tables.listed(vip.services))
            session.out.print()
            session.out.print(table)
        for plural, why in picture.gaps.items():
            session.say(f"{plural}: could not be read: {why}")
    return Exit.PARTIAL if picture.gaps else Exit.OK
