"""`crier decode`: what captured gossip says.  The gossip library's own verb."""

from __future__ import annotations

import argparse
import os
import sys

from memberlist.cli import decode

SUMMARY = "what captured gossip packets say (a pcap file, or hex lines on standard input)"


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="crier")
    decode.add_parser(parser.add_subparsers(required=True))
    options = parser.parse_args(["decode", *argv])
    try:
        return int(options.run(options))
    except BrokenPipeError:  # `| head` has seen enough; Python must not find that out again when it flushes
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        return 130
