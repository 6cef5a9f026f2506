"""An embedded Kubernetes API for tests and the demo.

In a trio program::

    async with open_api(seed=1, metallb_crds=True) as api:
        ...  # api.url, api.store, api.faults

As a process, from synchronous tests::

    with start_api_process("--metallb-crds") as api:
        ...  # api.url, api.kubeconfig, api.faults({"outage": True})

Alone: `python -m crier.lab.api --listen 127.0.0.1:0`.
"""

from crier.lab.api.faults import Death, Faults, Order, Rule
from crier.lab.api.inprocess import Api, open_api
from crier.lab.api.kubeconfig import render_kubeconfig, write_kubeconfig
from crier.lab.api.process import ApiProcess, start_api_process
from crier.lab.api.store import Store

__all__ = [
    "Api",
    "ApiProcess",
    "Death",
    "Faults",
    "Order",
    "Rule",
    "Store",
    "open_api",
    "render_kubeconfig",
    "start_api_process",
    "write_kubeconfig",
]
