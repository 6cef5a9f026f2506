"""`python -m crier.lab.api`: the embedded API as a process."""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import signal
import socket
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import trio

from crier.lab.api.cluster import new_cluster
from crier.lab.api.kubeconfig import write_kubeconfig
from crier.lab.api.listen import ListenError, listen, listen_in_netns, parse_endpoint, url_of
from crier.lab.api.server import Server

PR_SET_PDEATHSIG: Final = 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m crier.lab.api", description=__doc__)
    add = parser.add_argument
    add(
        "--listen",
        action="append",
        default=[],
        metavar="HOST:PORT",
        help="may be repeated; port 0 takes a free one",
    )
    add("--listen-netns", action="append", default=[], metavar="NETNS=HOST:PORT",
        help="listen inside a network namespace (/run/netns/NAME); may be repeated")  # fmt: skip
    add("--pod-netns", default="", metavar="NAME", help="the namespace from which pods are reached")
    add("--kubeconfig", type=Path, metavar="FILE", help="write one that leads to the first address")
    add("--metallb-crds", action="store_true", help="serve MetalLB's kinds before their CRDs are applied")
    add(
        "--ready-fd",
        type=int,
        default=1,
        metavar="FD",
        help="where to say that it is ready (default: stdout)",
    )
    add(
        "--token",
        action="append",
        default=[],
        metavar="TOKEN=USER",
        help="demand a bearer token; may be repeated",
    )
    add("--seed", type=int, default=0, help="of uids, generated names, addresses, ports and faults")
    add("--parent-pid", type=int, metavar="PID", help="end when this process, which must be the parent, ends")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    parser = _parser()
    options = parser.parse_args(arguments)
    if options.parent_pid is not None:
        _die_with_parent(options.parent_pid)
    tokens = {}
    for text in options.token:
        token, separator, user = text.partition("=")
        if not (separator and token and user):
            parser.error("--token: expected TOKEN=USER")
        tokens[token] = user
    try:
        sockets = _sockets(
            options.listen or ([] if options.listen_netns else ["127.0.0.1:0"]), options.listen_netns
        )
    except ListenError as error:
        parser.error(f"cannot listen: {error}")
    urls = [url_of(sock) for sock in sockets]
    if options.kubeconfig is not None:
        try:
            write_kubeconfig(options.kubeconfig, urls[0], token=next(iter(tokens), ""))
        except OSError as error:
            parser.error(f"--kubeconfig: {options.kubeconfig}: {error.strerror}")
    trio.run(_run, sockets, urls, options, tokens)
    return 0


def _sockets(plain: Sequence[str], in_netns: Sequence[str]) -> list[socket.socket]:
    sockets = [listen(*parse_endpoint(text)) for text in plain]
    for text in in_netns:
        namespace, separator, endpoint = text.partition("=")
        if not separator:
            raise ListenError(f"{text!r} is not NETNS=HOST:PORT")
        sockets.append(listen_in_netns(namespace, *parse_endpoint(endpoint)))
    return sockets


async def _run(
    sockets: list[socket.socket], urls: list[str], options: argparse.Namespace, tokens: dict[str, str]
) -> None:
    cluster = new_cluster(
        seed=options.seed, now=time.time(), metallb_crds=options.metallb_crds, tokens=tokens
    )
    server = Server(cluster.handler, cluster.faults, clock=time.time)
    server.pod_network = options.pod_netns
    server.on_death = lambda: os._exit(70)  # as a crash: nothing is said, nothing is tidied
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(server.serve, [trio.socket.from_stdlib_socket(sock) for sock in sockets])
            _say_ready(options.ready_fd, urls)
            async for _ in signals:
                break
            nursery.cancel_scope.cancel()


def _say_ready(fd: int, urls: list[str]) -> None:
    line = json.dumps({"listening": urls}).encode() + b"\n"
    os.write(fd, line)
    if fd > 2:
        os.close(fd)


def _die_with_parent(parent: int) -> None:
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:  # it was gone before we asked
        sys.exit(0)


if __name__ == "__main__":
    sys.exit(main())
