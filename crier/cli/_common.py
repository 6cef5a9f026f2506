"""What the verbs that look at a cluster share: flags, the way there, complaints and exit codes."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, Final, NoReturn, TextIO

import msgspec
import trio
from rich.console import Console

from crier.inspect.reach import Reach, Via
from crier.kube.client import Api
from crier.kube.errors import ApiError, Forbidden, NotFound, Unavailable
from crier.kube.transport import NoCluster, Transport, load_configuration

DEFAULT_NAMESPACE: Final = "metallb-system"
PLAIN_WIDTH: Final = 132
"""Columns when the output is no terminal."""
LONG: Final = 2.0
"""Seconds after which somebody at a terminal is told for whom we wait."""
VERSION: Final = "crier.dev/v1"
"""`apiVersion` of the JSON documents."""


class Exit(IntEnum):
    """Exit status of every verb that looks at a cluster; docs/cli.md."""

    OK = 0
    WRONG = 1
    """The question was answered, and the answer is that something is wrong."""
    USAGE = 2
    NOT_FOUND = 3
    """There is no such service, node or file."""
    NO_CLUSTER = 4
    """No configuration, or nobody answers there."""
    FORBIDDEN = 5
    PARTIAL = 6
    """Nothing is known to be wrong, but a speaker could not be asked, or a kind not read."""
    INTERRUPTED = 130


class Complaint(Exception):
    """Ends a verb with one message."""

    def __init__(self, status: Exit, text: str) -> None:
        super().__init__(text)
        self.status = status


class Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """One line that names the flag and what is wrong with it."""
        print(f"{self.prog}: {message}", file=sys.stderr)
        raise SystemExit(Exit.USAGE)


def parser(verb: str, summary: str, *, epilog: str = "") -> Parser:
    flags = Parser(
        prog=f"crier {verb}",
        description=summary,
        epilog=epilog,
        allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    flags.add_argument("--json", action="store_true", help="one JSON document instead of text")
    flags.add_argument("--no-color", action="store_true", help="no colours")
    flags.add_argument("--kubeconfig", metavar="FILE", help="instead of KUBECONFIG or ~/.kube/config")
    flags.add_argument("--context", metavar="NAME", help="of the kubeconfig; its current one otherwise")
    flags.add_argument(
        "-n", "--namespace",
        default=os.environ.get("METALLB_NAMESPACE") or DEFAULT_NAMESPACE,
        metavar="NAME", help=f"where Crier's pods are (METALLB_NAMESPACE, {DEFAULT_NAMESPACE})",
    )  # fmt: skip
    flags.add_argument(
        "--via", choices=[each.value for each in Via], default=Via.PROXY.value,
        help="the way to the speakers: the API server's pod proxy, or their nodes' own addresses (proxy)",
    )  # fmt: skip
    flags.add_argument(
        "--timeout", type=seconds, default=10.0, metavar="SECONDS", help="for each request (10)"
    )
    return flags


def seconds(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds") from None
    if not 0 < number <= 86400:
        raise argparse.ArgumentTypeError(f"{text} is not between 0 and 86400 seconds")
    return number


@dataclass(frozen=True, slots=True)
class Session:
    """A verb at work."""

    options: argparse.Namespace
    api: Api
    reach: Reach
    out: Console

    @property
    def namespace(self) -> str:
        return str(self.options.namespace)

    def show(self, kind: str, document: Any) -> None:
        """The JSON document, on a line of its own."""
        head = {"apiVersion": VERSION, "kind": kind}
        print(json.dumps({**head, **msgspec.to_builtins(document)}))

    def say(self, text: str) -> None:
        """A line for people: standard output, or standard error when that has JSON."""
        self.out.print(text, markup=False, highlight=False, soft_wrap=True)


def run(options: argparse.Namespace, prog: str, work: Callable[[Session], Awaitable[Exit]]) -> int:
    """The verb, from the connection to the exit status."""
    text, status = "", Exit.OK
    try:
        return trio.run(_run, options, work)
    except* Complaint as group:
        complaint = _first(group)
        assert isinstance(complaint, Complaint)
        text, status = str(complaint), complaint.status
    except* NoCluster as group:
        text, status = str(_first(group)), Exit.NO_CLUSTER
    except* ApiError as group:
        problem = _first(group)
        assert isinstance(problem, ApiError)
        text, status = _told(problem)
    except* BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # nobody reads: no complaint either
    except* KeyboardInterrupt:
        status = Exit.INTERRUPTED
    if text:
        print(f"{prog}: {text}", file=sys.stderr)
    return status


async def _run(options: argparse.Namespace, work: Callable[[Session], Awaitable[Exit]]) -> int:
    api = connect(options)
    reach = Reach(api, options.namespace, Via(options.via), options.timeout)
    try:
        async with trio.open_nursery() as nursery:
            if sys.stderr.isatty():
                nursery.start_soon(tell_who_is_awaited, reach, sys.stderr)
            status = await work(Session(options, api, reach, console(options)))
            nursery.cancel_scope.cancel()
        return status
    finally:
        reach.close()
        api.close()


async def tell_who_is_awaited(reach: Reach, to: TextIO) -> None:
    """Name, once, each pod that does not answer at once, so that nobody wonders what takes so long."""
    told: set[str] = set()
    while True:
        await trio.sleep(LONG / 4)
        slow = reach.awaited(trio.current_time() - LONG) - told
        if slow:
            print(f"waiting for {', '.join(sorted(slow))}, {reach.patience:g} s at most", file=to, flush=True)
            told |= slow


def console(options: argparse.Namespace) -> Console:
    is_terminal = (sys.stderr if options.json else sys.stdout).isatty()
    return Console(
        stderr=options.json,
        no_color=options.no_color,
        highlight=False,
        width=None if is_terminal else PLAIN_WIDTH,
    )


def connect(options: argparse.Namespace) -> Api:
    """Raises NoCluster."""
    if not (options.kubeconfig or options.context):
        return Api.connect(timeout=options.timeout)
    from kubernetes.client.configuration import Configuration
    from kubernetes.config.config_exception import ConfigException
    from kubernetes.config.kube_config import load_kube_config

    from crier.kube.kubeconfig import Official

    configuration = Configuration()
    configuration.api_key.clear()
    file = options.kubeconfig or os.environ.get("KUBECONFIG") or None
    try:
        load_kube_config(file, context=options.context, client_configuration=configuration)  # type: ignore[no-untyped-call]
    except (ConfigException, OSError, ValueError, KeyError, TypeError) as problem:
        which = f"--kubeconfig {options.kubeconfig}" if options.kubeconfig else f"--context {options.context}"
        raise NoCluster(f"{which}: {problem}") from None
    return Api(Transport(Official(configuration)), timeout=options.timeout)


def _told(problem: ApiError) -> tuple[str, Exit]:
    match problem:
        case Forbidden(status=401):
            return "the API does not know who you are: " + problem.message, Exit.FORBIDDEN
        case Forbidden():
            return f"no permission: {problem.message}", Exit.FORBIDDEN
        case Unavailable():
            return f"the Kubernetes API does not answer: {problem.message}", Exit.NO_CLUSTER
        case NotFound():
            return problem.message, Exit.NOT_FOUND
    return str(problem), Exit.WRONG


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    problem: BaseException = group
    while isinstance(problem, BaseExceptionGroup):
        problem = problem.exceptions[0]
    return problem


__all__ = [
    "Complaint",
    "Exit",
    "Parser",
    "Session",
    "connect",
    "load_configuration",
    "parser",
    "run",
    "seconds",
]
