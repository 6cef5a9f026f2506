"""`python -m memberlist`: a member on the command line, and what its packets say."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from memberlist.cli import decode, join, members

VERBS = (join, members, decode)
"""Each module has `add_parser`, which sets `run`."""


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m memberlist", description="Gossip that speaks hashicorp/memberlist."
    )
    subparsers = parser.add_subparsers(required=True, metavar="VERB")
    for verb in VERBS:
        verb.add_parser(subparsers)
    args = parser.parse_args(arguments)
    status: int = args.run(args)
    return status


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:  # `| head` has seen enough; Python must not find that out again when it flushes
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
