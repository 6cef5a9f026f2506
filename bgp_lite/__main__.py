"""`python -m bgp_lite announce|bfd|decode`."""

from __future__ import annotations

import argparse
import sys

from bgp_lite.cli import announce, bfd, decode


def main(argv: list[str] | None = None) -> int:
    """Exit status: 0 done, 1 the peer or the network, 2 a mistake in the command line."""
    parser = argparse.ArgumentParser(prog="python -m bgp_lite", description="Announce prefixes over BGP.")
    verbs = parser.add_subparsers(dest="verb", required=True)
    for verb in (announce, bfd, decode):
        verb.add_parser(verbs)
    arguments = parser.parse_args(argv)
    return int(arguments.run(arguments))


if __name__ == "__main__":
    sys.exit(main())
