"""What every cluster has before anybody asks: the kinds, four namespaces and the API's own Service."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from crier.lab.api.builtin import BUILTIN, METALLB
from crier.lab.api.faults import Faults
from crier.lab.api.handler import Handler
from crier.lab.api.kinds import Kinds
from crier.lab.api.registry import Write
from crier.lab.api.store import DEFAULT_HISTORY, Store

NAMESPACES: Final = ("default", "kube-node-lease", "kube-public", "kube-system")


@dataclass(frozen=True, slots=True)
class Cluster:
    """The parts of one API server, without a shell."""

    store: Store
    faults: Faults
    handler: Handler


def new_cluster(
    *,
    seed: int,
    now: float,
    metallb_crds: bool = False,
    tokens: Mapping[str, str] | None = None,
    history: int = DEFAULT_HISTORY,
) -> Cluster:
    """A fresh cluster; the same seed gives the same uids, names, addresses and faults."""
    store = Store(history=history)
    kinds = Kinds((*BUILTIN, *METALLB) if metallb_crds else BUILTIN)
    # separate streams: a fault more or less leaves the uids as they were
    faults = Faults(rng=random.Random(f"faults {seed}"))
    handler = Handler(store, kinds, rng=random.Random(f"objects {seed}"), faults=faults, tokens=tokens)
    write = Write(now)

    def create(plural: str, namespace: str, body: dict[str, object]) -> None:
        kind = kinds.find("", "v1", plural)
        assert kind is not None, "a core kind"
        handler.registry.create(kind, "v1", namespace, body, write)

    for name in NAMESPACES:
        create("namespaces", "", {"metadata": {"name": name}})
    labels = {"component": "apiserver", "provider": "kubernetes"}
    port = {"name": "https", "port": 443, "protocol": "TCP", "targetPort": 6443}
    spec = {"clusterIP": "10.96.0.1", "ports": [port]}
    create("services", "default", {"metadata": {"name": "kubernetes", "labels": labels}, "spec": spec})
    return Cluster(store, faults, handler)
