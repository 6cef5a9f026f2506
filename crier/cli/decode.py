"""`crier decode`: what captured gossip says.  The gossip library's own verb."""

from __future__ import annotations

import argparse

from memberlist.cli import decode

SUMMARY = "what captured gossip packets say (a pcap file, or hex lines on standard input)"


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="crier")
    decode.add_parser(parser.add_subparsers(required=True))
    options = parser.parse_args(["decode", *argv])
    options.told_by = "crier decode"
    return int(options.run(options))
