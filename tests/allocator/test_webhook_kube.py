"""The webhook asked by a real API server, with the manifests of overlays/webhooks and their roles.

Nobody here routes a Service's address, so the Service is made one that the API server finds by a name.
"""

from __future__ import annotations

import base64
import datetime
import json
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, TypeVar

import pytest
import trio

from allocator.webhook import service
from allocator.webhook.certificates import AUTHORITY_LIFETIME, LIFETIME, bring_up
from crier.kube.client import Api
from crier.kube.kubeconfig import from_kubeconfig
from crier.kube.transport import Transport
from crier.lab.kube import Kube, Programs, start_kube
from crier.lab.kube.install import MANIFESTS, SYSTEM
from crier.lab.rest import RestError
from crier.ops.scrape import Tls
from tests.places import free_port

POOLS = f"/apis/metallb.io/v1beta1/namespaces/{SYSTEM}/ipaddresspools"
PROFILES = f"/apis/metallb.io/v1beta1/namespaces/{SYSTEM}/bfdprofiles"
PEERS = f"/apis/metallb.io/v1beta2/namespaces/{SYSTEM}/bgppeers"
OLD_PEERS = f"/apis/metallb.io/v1beta1/namespaces/{SYSTEM}/bgppeers"
CONFIGURATION = (
    "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations/metallb-webhook-configuration"
)
SECRET = f"/api/v1/namespaces/{SYSTEM}/secrets/metallb-webhook-cert"
NAMES = (f"metallb-webhook-service.{SYSTEM}.svc",)
PATIENCE = 60.0

T = TypeVar("T")


@pytest.fixture(scope="module")
def kube(kube_programs: Programs) -> Iterator[Kube]:
    with start_kube(kube_programs) as kube:
        yield kube


@pytest.fixture(scope="module")
def port(kube: Kube) -> int:
    """Where the webhook must listen to be asked."""
    kube.kubectl("apply", "--server-side", "--kustomize", f"{MANIFESTS}/overlays/webhooks")
    kube.kubectl("wait", "--for=condition=Established", "--timeout=30s", "crds", "--all")
    port = free_port()
    configured = kube.rest.get(CONFIGURATION) or {}
    patch = [
        {"op": "add", "path": f"/webhooks/{index}/clientConfig/service/port", "value": port}
        for index in range(len(configured["webhooks"]))
    ]
    name = "validatingwebhookconfiguration/metallb-webhook-configuration"
    kube.kubectl("patch", name, "--type=json", f"--patch={json.dumps(patch)}")
    patch = [{"op": "add", "path": "/spec/conversion/webhook/clientConfig/service/port", "value": port}]
    kube.kubectl("patch", "crd/bgppeers.metallb.io", "--type=json", f"--patch={json.dumps(patch)}")
    spec = {"type": "ExternalName", "externalName": "localhost", "selector": None, "clusterIP": ""}
    services = f"/api/v1/namespaces/{SYSTEM}/services"
    kube.rest.delete(f"{services}/metallb-webhook-service")
    kube.rest.create(services, {"metadata": {"name": "metallb-webhook-service"}, "spec": spec})
    return port


@asynccontextmanager
async def running(kube: Kube, port: int) -> AsyncIterator[None]:
    """The webhook as the controller's service account; asked once it is trusted."""
    kubeconfig = await trio.to_thread.run_sync(kube.kubeconfig_of, SYSTEM, "controller")
    api = Api(Transport(from_kubeconfig(kubeconfig)))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(
            partial(
                service.serve_webhook, api, Tls(), namespace=SYSTEM, port=port,
                secret="metallb-webhook-cert", service="metallb-webhook-service", directory="",
            )
        )  # fmt: skip
        await refused(kube, POOLS, pool("probe", "192.0.2.9-192.0.2.1"), "is after the end IP")
        yield
        nursery.cancel_scope.cancel()
    api.close()


async def eventually(look: Callable[[], T], right: Callable[[T], object] = bool) -> T:
    """What `look` finds once it is right: the API server takes a moment to see what it is told."""
    with trio.fail_after(PATIENCE):
        while not right(found := await trio.to_thread.run_sync(look)):  # noqa: ASYNC110 - of another program
            await trio.sleep(0.1)
    return found


def attempt(kube: Kube, path: str, body: Any) -> str:
    """What the API server has against it; "" when it was made."""
    try:
        kube.rest.create(path, body)
    except RestError as problem:
        return str(problem)
    return ""


async def refused(kube: Kube, path: str, body: Any, why: str) -> None:
    """By the webhook, with those words."""
    found = await eventually(partial(attempt, kube, path, body), lambda text: "failed calling" not in text)
    assert "denied the request" in found
    assert why in found


async def admitted(kube: Kube, path: str, body: Any) -> None:
    found = await eventually(partial(attempt, kube, path, body), lambda text: "failed calling" not in text)
    assert found == ""


def pool(name: str, *addresses: str) -> dict[str, Any]:
    head = {"apiVersion": "metallb.io/v1beta1", "kind": "IPAddressPool", "metadata": {"name": name}}
    return {**head, "spec": {"addresses": addresses}}


def peer(name: str, version: str = "v1beta2", **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": f"metallb.io/{version}",
        "kind": "BGPPeer",
        "metadata": {"name": name},
        "spec": {"myASN": 64512, "peerASN": 64513, "peerAddress": "192.0.2.1", **spec},
    }


async def test_admission_and_conversion(kube: Kube, port: int) -> None:
    async with running(kube, port):
        await admitted(kube, POOLS, pool("one", "192.0.2.0/28"))
        await refused(
            kube, POOLS, pool("two", "192.0.2.8/32"),
            'CIDR "192.0.2.8/32" in pool "two" overlaps with already defined CIDR "192.0.2.0/28" in pool',
        )  # fmt: skip
        elsewhere = "/apis/metallb.io/v1beta1/namespaces/default/ipaddresspools"
        await refused(
            kube, elsewhere, pool("two", "198.51.100.0/24"), f"must be created in {SYSTEM} namespace"
        )

        head = {"apiVersion": "metallb.io/v1beta1", "kind": "BFDProfile", "metadata": {"name": "fast"}}
        await admitted(kube, PROFILES, {**head, "spec": {}})
        await admitted(kube, PEERS, peer("router", bfdProfile="fast", vrf="red", holdTime="30s"))
        with pytest.raises(RestError, match="failed to delete BFDProfile fast, used by BGPPeer router"):
            await trio.to_thread.run_sync(kube.rest.request, "DELETE", f"{PROFILES}/fast")
        await refused(kube, PEERS, peer("bad", peerAddress="router.example"), "invalid BGPPeer address")

        # the old version is judged as the new one, stored as it, and read as either
        await refused(kube, OLD_PEERS, peer("bad", "v1beta1", peerAddress="no"), "invalid BGPPeer address")
        await admitted(kube, OLD_PEERS, peer("old", "v1beta1", holdTime="90s"))
        found = await trio.to_thread.run_sync(kube.rest.get, f"{PEERS}/old")
        assert found is not None
        assert (found["apiVersion"], found["spec"]["holdTime"]) == ("metallb.io/v1beta2", "90s")
        assert "keepaliveTime" not in found["spec"]
        found = await trio.to_thread.run_sync(kube.rest.get, f"{OLD_PEERS}/router")
        assert found is not None
        assert found["apiVersion"] == "metallb.io/v1beta1"
        assert found["spec"]["bfdProfile"] == "fast"
        assert "vrf" not in found["spec"]


async def test_a_rotated_certificate_keeps_working(
    kube: Kube, port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "CHECK", 0.2)
    now = datetime.datetime.now(datetime.UTC)
    async with running(kube, port):
        for lifetime in (LIFETIME, AUTHORITY_LIFETIME):
            ending, _ = bring_up({}, NAMES, now - lifetime + datetime.timedelta(days=1))
            data = {name: base64.b64encode(value).decode() for name, value in ending.items()}
            await trio.to_thread.run_sync(kube.rest.merge, SECRET, {"data": data})

            def renewed(data: dict[str, str] = data) -> bool:
                secret, configured = kube.rest.get(SECRET) or {}, kube.rest.get(CONFIGURATION) or {}
                bundles = {each["clientConfig"]["caBundle"] for each in configured["webhooks"]}
                return secret["data"]["tls.crt"] != data["tls.crt"] and bundles == {secret["data"]["ca.crt"]}

            await eventually(renewed)
            await refused(kube, POOLS, pool("probe", "192.0.2.9-192.0.2.1"), "is after the end IP")
