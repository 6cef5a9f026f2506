"""Many light members in one process, each on a loopback address of its own, around one that is measured.

    python -m bench.memberlist_crowd --around NAME --size 99 --block 20 --port 17947 [--key HEX]

All of them are members of our own kind; those whom the rendezvous order makes watchers of NAME watch, the
others only run SWIM.  To NAME that is no difference: whom it watches, who watches it and who probes it is as
if all watched.  Writes one line when all know one another; ends with its input.
"""

from __future__ import annotations

import argparse
import sys
from contextlib import AsyncExitStack

import trio

from memberlist import Config, Keyring, Member, open_member
from memberlist.rendezvous import rank


def watchers_of(name: str, others: list[str], count: int) -> set[str]:
    return set(sorted(others, key=lambda other: rank(name, other), reverse=True)[:count])


async def run(around: str, size: int, block: int, port: int, key: bytes | None) -> None:
    names = [f"light-{number:03}" for number in range(1, size + 1)]
    watching = watchers_of(around, names, Config.lan(name=around).watchers)
    async with AsyncExitStack() as stack:
        members: list[Member] = []
        for number, name in enumerate(names, 1):
            config = Config.lan(
                name=name,
                bind=(f"127.{block}.{number >> 8}.{number & 255}", port),
                watch=name in watching,
                keyring=Keyring([key]) if key else None,
            )
            members.append(await stack.enter_async_context(open_member(config)))
        for member in members[1:]:
            await member.join([f"{members[0].address[0]}:{port}"])
        while any(len(member.members()) < size for member in members):  # noqa: ASYNC110 (nothing to wait for)
            await trio.sleep(0.2)
        sys.stdout.write(f"{size} members\n")
        sys.stdout.flush()
        await trio.lowlevel.wait_readable(sys.stdin)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--around", required=True, help="name of the member that is measured")
    parser.add_argument("--size", type=int, default=99)
    parser.add_argument("--block", type=int, default=20, help="second octet of the loopback addresses")
    parser.add_argument("--port", type=int, default=17947)
    parser.add_argument("--key", type=bytes.fromhex, default=None, help="of the cluster, in hexadecimal")
    args = parser.parse_args()
    trio.run(run, args.around, args.size, args.block, args.port, args.key)


if __name__ == "__main__":
    main()
