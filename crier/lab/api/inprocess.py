"""The API inside a trio program."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass

import trio

from crier.lab.api.cluster import new_cluster
from crier.lab.api.faults import Faults
from crier.lab.api.handler import Handler
from crier.lab.api.listen import listen, url_of
from crier.lab.api.server import Server, serving
from crier.lab.api.store import Store


@dataclass(frozen=True, slots=True)
class Api:
    """A running server."""

    url: str
    store: Store
    faults: Faults
    handler: Handler


@asynccontextmanager
async def open_api(
    *,
    seed: int = 0,
    clock: Callable[[], float] = time.time,
    metallb_crds: bool = False,
    tokens: Mapping[str, str] | None = None,
    host: str = "127.0.0.1",
    port: int = 0,
) -> AsyncIterator[Api]:
    """Serve a fresh cluster on `host`:`port` within the block.

    Args:
        seed: of uids, generated names, addresses, ports and faults.
        clock: Unix time; it dates objects and ends watches.
        metallb_crds: serve MetalLB's kinds although nobody has applied their CRDs.
        tokens: bearer token to user; none means no authentication.
        port: 0 takes one that is free.

    Raises:
        ListenError: the address cannot be listened on.
    """
    cluster = new_cluster(seed=seed, now=clock(), metallb_crds=metallb_crds, tokens=tokens)
    server = Server(cluster.handler, cluster.faults, clock=clock)
    listener = listen(host, port)
    with trio.socket.from_stdlib_socket(listener) as sock:
        async with serving(server, [sock]):
            yield Api(url_of(listener), cluster.store, cluster.faults, cluster.handler)
