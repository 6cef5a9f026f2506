"""`crier demo`: the failover demo on a LAN of network namespaces."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn, TypeVar

from crier.lab import router
from crier.lab.cluster import Settings, check_machine
from crier.lab.demo import USAGE_ERROR, Demo, Options, remove
from crier.lab.errors import LabError, NotPossible
from crier.lab.kube import Programs, programs
from crier.lab.lan import MAX_NODES, MIN_NODES
from crier.lab.report import SCENARIOS
from crier.lab.scenarios import parse_scenarios
from crier.lab.services import CATALOGUE, DEFAULT, parse_services

SUMMARY = "the failover demo, on a LAN of network namespaces on this machine (root)"

MAX_RUNS = 100
T = TypeVar("T")


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """One line that names the flag and what is wrong with it."""
        print(f"{self.prog}: {message}", file=sys.stderr)
        raise SystemExit(USAGE_ERROR)


def _number(low: int, high: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        try:
            number = int(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"{text!r} is not a whole number") from None
        if not low <= number <= high:
            raise argparse.ArgumentTypeError(f"{number} is not between {low} and {high}")
        return number

    return parse


def _checked(parse: Callable[[str], T]) -> Callable[[str], T]:
    def checked(text: str) -> T:
        try:
            return parse(text)
        except LabError as problem:
            raise argparse.ArgumentTypeError(str(problem)) from None

    return checked


def parser() -> argparse.ArgumentParser:
    flags = _Parser(prog="crier demo", description=SUMMARY, allow_abbrev=False)
    flags.add_argument(
        "--nodes", type=_number(MIN_NODES, MAX_NODES), default=3, metavar="N", help="nodes of the LAN (3)"
    )
    flags.add_argument(
        "--scenario",
        type=_checked(parse_scenarios),
        default=SCENARIOS,
        metavar="NAMES",
        help=f"all, or some of {', '.join(SCENARIOS)}, separated by commas",
    )
    flags.add_argument(
        "--runs",
        type=_number(1, MAX_RUNS),
        default=1,
        metavar="N",
        help="how often each scenario is played (1)",
    )
    flags.add_argument(
        "--services",
        type=_checked(parse_services),
        default=parse_services(",".join(DEFAULT)),
        metavar="NAMES",
        help=f"some of {', '.join(CATALOGUE)}, separated by commas ({','.join(DEFAULT)})",
    )
    flags.add_argument(
        "--gossip-port", type=_number(1, 65535), metavar="PORT", help="the speakers' gossip port (7946)"
    )
    flags.add_argument(
        "--seed", type=_number(0, 2**32 - 1), default=1, metavar="N", help="decides between equal victims (1)"
    )
    flags.add_argument(
        "--report-dir", type=Path, default=Path("demo-report"), metavar="DIR", help="where the report goes"
    )
    flags.add_argument("--json", action="store_true", help="print the report as JSON, and nothing else")
    flags.add_argument("--no-color", action="store_true", help="plain lines instead of the live view")
    flags.add_argument(
        "--keep", action="store_true", help="leave the LAN up at the end and say how to enter it"
    )
    flags.add_argument(
        "--api",
        choices=("embedded", "kube"),
        default="embedded",
        help="the Kubernetes API: the lab's own, or a real kube-apiserver, built on first use (embedded)",
    )
    flags.add_argument(
        "--data-path",
        choices=("lab", "kube-proxy"),
        default="lab",
        help="what serves a VIP's traffic: the lab's own, or kube-proxy with --api kube (lab)",
    )
    flags.add_argument(
        "--bgp",
        nargs="?",
        choices=tuple(router.KINDS),
        const="frr",
        default="",
        metavar="ROUTER",
        help=f"routed mode: the client is behind {' or '.join(router.KINDS)}, from Debian (frr)",
    )
    flags.add_argument("--remove", metavar="RUN", help="remove a LAN that was left up, and do nothing else")
    return flags


def main(argv: list[str]) -> int:
    flags = parser()
    options = flags.parse_args(argv)
    if options.data_path == "kube-proxy" and options.api != "kube":
        flags.error("--data-path: kube-proxy needs --api kube")
    try:
        check_machine()
        if options.remove is not None:
            return remove(options.remove, _complain)
        if options.bgp:
            router.check(*router.KINDS[options.bgp].programs)
        _check_report_directory(options.report_dir)
        return Demo(
            Options(
                settings=Settings(
                    options.nodes,
                    options.services,
                    options.gossip_port,
                    options.keep,
                    kube=_kube(options.data_path) if options.api == "kube" else None,
                    kube_proxy=options.data_path == "kube-proxy",
                    router=options.bgp,
                ),
                scenarios=options.scenario,
                runs=options.runs,
                seed=options.seed,
                report_directory=options.report_dir,
                json=options.json,
                color=not options.no_color,
            )
        ).run()
    except NotPossible as problem:
        _complain(f"crier demo: {problem}")
        return USAGE_ERROR
    except LabError as problem:
        _complain(f"crier demo: {problem}")
        return 1
    except KeyboardInterrupt:
        return 130


def _kube(data_path: str) -> Programs:
    """A real API server's programs, now rather than with half a LAN up.  Raises LabError."""
    found = programs(_complain)
    if data_path == "kube-proxy" and found.proxy is None:
        raise NotPossible(f"--data-path: there is {found.apiserver} but no kube-proxy beside it or on PATH")
    return found


def _check_report_directory(directory: Path) -> None:
    """Raises NotPossible now, rather than after a minute of measuring."""
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as problem:
        raise NotPossible(f"--report-dir: {directory}: {problem.strerror}") from None


def _complain(text: str) -> None:
    print(text, file=sys.stderr)
