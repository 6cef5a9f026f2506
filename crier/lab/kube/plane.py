"""The real API server in the control plane's namespace of a LAN, and everybody's way to it."""

from __future__ import annotations

import datetime
import sys
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

import trio

from crier.lab.api.listen import listen
from crier.lab.errors import LabError, NotPossible
from crier.lab.kube.build import Programs
from crier.lab.kube.install import Accounts, install
from crier.lab.kube.pki import make_keys
from crier.lab.kube.server import Kube, Place, apiserver_command, etcd_command, wait_until_ready
from crier.lab.lan import Host
from crier.lab.process import Processes

PORT: Final = 6443
PROXY_ACCOUNT: Final = "kube-proxy"
# The kernel's own connection tracking limits stay as they are: a namespace may not write them.
_CONNTRACK: Final = (
    *("--conntrack-max-per-core=0", "--conntrack-min=0"),
    *("--conntrack-tcp-timeout-established=0", "--conntrack-tcp-timeout-close-wait=0"),
)


@dataclass(frozen=True, slots=True)
class Plane:
    """A running control plane."""

    kube: Kube
    """As this machine reaches it."""
    accounts: Accounts
    inside: Path
    """The administrator's kubeconfig for use on the LAN."""
    proxy: Path
    """kube-proxy's."""


async def start_plane(
    programs: Programs, processes: Processes, host: Host, directory: Path, namespace: str
) -> Plane:
    """etcd, kube-apiserver and our manifests.

    Args:
        host: the control plane, which the server runs on.
        directory: for the server's files, and nobody else's.
        namespace: where kube-proxy's service account lives.

    Raises:
        LabError: it did not come up; the text has the end of its log.
    """
    place = Place(directory, str(host.ipv4), PORT)
    addresses = [str(host.ipv4), str(host.ipv6), "127.0.0.1"]
    keys = make_keys(directory, addresses, datetime.datetime.now(datetime.UTC))
    processes.start("etcd", etcd_command(programs, directory), namespace=host.netns)
    api = processes.start("api", apiserver_command(programs, place, keys), namespace=host.netns)
    with listen("127.0.0.1", 0) as outside:
        number = outside.fileno()
        command = [sys.executable, "-m", "crier.lab.kube.forward", "--fd", str(number)]
        command += ["--to", f"{host.ipv4}:{PORT}"]
        processes.start("api-forward", command, namespace=host.netns, pass_fds=(number,))
        kube = Kube(f"https://127.0.0.1:{outside.getsockname()[1]}", directory, programs, keys)
    try:
        await trio.to_thread.run_sync(wait_until_ready, kube.rest, partial(getattr, api, "running"))
    except LabError as problem:
        raise LabError(f"kube-apiserver: {problem}\n{api.tail()}") from None
    accounts = await trio.to_thread.run_sync(partial(install, kube, url=place.url))
    proxy = await trio.to_thread.run_sync(_admit_proxy, kube, namespace, place.url)
    inside = kube.write_kubeconfig("inside.kubeconfig", keys.admin_token, url=place.url)
    return Plane(kube, accounts, inside, proxy)


def proxy_command(programs: Programs, node: str, kubeconfig: Path) -> list[str]:
    """kube-proxy of one node, in its namespace.  Raises NotPossible without such a program."""
    if programs.proxy is None:
        raise NotPossible(f"there is {programs.apiserver} but no kube-proxy beside it or on PATH")
    return [
        *(str(programs.proxy), "--proxy-mode=nftables", f"--kubeconfig={kubeconfig}"),
        *(f"--hostname-override={node}", *_CONNTRACK),
    ]


def _admit_proxy(kube: Kube, namespace: str, url: str) -> Path:
    """kube-proxy's account, with the role that every cluster has for it."""
    kube.rest.create(f"/api/v1/namespaces/{namespace}/serviceaccounts", {"metadata": {"name": PROXY_ACCOUNT}})
    binding = {
        "metadata": {"name": "crier-lab:kube-proxy"},
        "roleRef": {
            "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "system:node-proxier"
        },
        "subjects": [{"kind": "ServiceAccount", "name": PROXY_ACCOUNT, "namespace": namespace}],
    }  # fmt: skip
    kube.rest.create("/apis/rbac.authorization.k8s.io/v1/clusterrolebindings", binding)
    return kube.kubeconfig_of(namespace, PROXY_ACCOUNT, url=url)
