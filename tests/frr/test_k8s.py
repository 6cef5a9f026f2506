"""FrrK8sRouters before the embedded API; the test plays FRR-K8s."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import suppress
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
import trio
import yaml
from hypothesis import given
from hypothesis import strategies as st

from bgp_lite.attributes import Path as RoutePath
from crier.kube import resources
from crier.kube.client import AlreadyExists, Api, NotFound
from crier.kube.model.bfdprofile import BfdProfile
from crier.kube.model.errors import DecodeError
from crier.kube.resources import Resource
from crier.kube.transport import Transport, plain_configuration
from crier.lab.api import inprocess
from speaker.frr import k8sdocument as document
from speaker.frr.k8s import FrrK8sRouters
from speaker.frr.k8sdocument import BGP_SESSION_STATES, FRR_CONFIGURATIONS, FRR_NODE_STATES
from speaker.planner.routers import SessionView
from tests.frr.rig import NODE, paths, peer, until

SPACE = "metallb-system"
NAME = "metallb-node-2"
CRDS = Resource(
    "apiextensions.k8s.io", "v1", "customresourcedefinitions", "CustomResourceDefinition", namespaced=False
)


def test_every_field() -> None:
    routes = paths("203.0.113.9/32", "2001:db8::9/128") | paths(
        "203.0.113.10/32",
        path=RoutePath(communities=(65001 << 16 | 7,), large_communities=((65001, 1, 2),), local_pref=250),
    )
    profile = BfdProfile(name="fast", receive_interval=100)
    found = document.spec(
        [
            peer(
                "tor",
                router_id=ip_address("1.2.3.4"),
                source=ip_address("10.9.0.22"),
                password=b"geheim",
                port=1179,
                hold_time=9,
                bfd=profile,
                multihop=True,
                graceful_restart=True,
                dual_stack=True,
            ),
            peer("un", interface="eth0", peer_asn="external", vrf="red", my_asn=65002),
        ],
        {"tor": routes},
        "node-2",
        secrets=False,
    )
    assert found == {
        "nodeSelector": {"matchLabels": {"kubernetes.io/hostname": "node-2"}},
        "bgp": {
            "routers": [
                {
                    "asn": 65001,
                    "id": "1.2.3.4",
                    "prefixes": ["2001:db8::9/128", "203.0.113.10/32", "203.0.113.9/32"],
                    "neighbors": [
                        {
                            "asn": 65000,
                            "address": "10.9.0.1",
                            "port": 1179,
                            "sourceaddress": "10.9.0.22",
                            "password": "geheim",
                            "holdTime": "9s",
                            "keepaliveTime": "3s",
                            "connectTime": "1s",
                            "bfdProfile": "fast",
                            "ebgpMultiHop": True,
                            "enableGracefulRestart": True,
                            "dualStackAddressFamily": True,
                            "toAdvertise": {
                                "allowed": {
                                    "prefixes": ["2001:db8::9/128", "203.0.113.10/32", "203.0.113.9/32"]
                                },
                                "withCommunity": [
                                    {"community": "65001:7", "prefixes": ["203.0.113.10/32"]},
                                    {"community": "large:65001:1:2", "prefixes": ["203.0.113.10/32"]},
                                ],
                                "withLocalPref": [{"localPref": 250, "prefixes": ["203.0.113.10/32"]}],
                            },
                        }
                    ],
                },
                {
                    "asn": 65002,
                    "vrf": "red",
                    "prefixes": [],
                    "neighbors": [
                        {
                            "dynamicASN": "external",
                            "interface": "eth0",
                            "port": 179,
                            "holdTime": "90s",
                            "keepaliveTime": "30s",
                            "connectTime": "1s",
                            "toAdvertise": {"allowed": {"prefixes": []}},
                        }
                    ],
                },
            ],
            "bfdProfiles": [
                {
                    "name": "fast",
                    "receiveInterval": 100,
                    "transmitInterval": 300,
                    "detectMultiplier": 3,
                    "echoInterval": 50,
                    "echoMode": False,
                    "passiveMode": False,
                    "minimumTtl": 254,
                }
            ],
        },
    }


def test_a_secret_is_named_where_frr_k8s_can_read_it() -> None:
    told = [peer(password=b"geheim", password_secret="tor-password")]

    def neighbor(*, secrets: bool) -> dict[str, Any]:
        found = document.spec(told, {}, "node-2", secrets=secrets)["bgp"]["routers"][0]["neighbors"][0]
        return {key: value for key, value in found.items() if "password" in key}

    assert neighbor(secrets=True) == {"passwordSecret": {"name": "tor-password"}}
    assert neighbor(secrets=False) == {"password": "geheim"}


@given(st.binary(max_size=60))
def test_any_octets_are_an_object_or_one_exception(data: bytes) -> None:
    for decode in (document.Existing.decode, document.SessionState.decode, document.decode_complaint):
        with suppress(DecodeError):
            decode(data)


# ------------------------------------------------------------------------------------- with an API


class Cluster:
    """What FRR-K8s and people do to the API."""

    def __init__(self, server: inprocess.Api) -> None:
        self.faults = server.faults
        self.api = Api(Transport(plain_configuration(server.url)))

    async def make(self, kind: Resource, body: dict[str, Any], namespace: str | None = None) -> None:
        await self.api.create(kind, body, namespace=namespace)

    async def configuration(self) -> dict[str, Any] | None:
        try:
            return dict(json.loads(await self.api.get(FRR_CONFIGURATIONS, NAME, namespace=SPACE)))
        except NotFound:
            return None

    async def neighbors(self) -> list[str]:
        found = await self.configuration()
        routers = found["spec"]["bgp"]["routers"] if found else []
        return [each.get("address", "") for router in routers for each in router["neighbors"]]

    async def told(self, *addresses: str) -> None:
        """Until these are the neighbours that are asked for."""
        with trio.fail_after(10):
            found = await self.neighbors()
            while found != list(addresses):
                await trio.sleep(0.01)
                found = await self.neighbors()

    async def say(self, name: str, **status: str) -> None:
        kind, labels = BGP_SESSION_STATES, {document.NODE_LABEL: "node-2"}
        body = {
            "apiVersion": kind.api_version,
            "kind": kind.kind,
            "metadata": {"name": name, "labels": labels},
        }
        with suppress(AlreadyExists):
            await self.make(kind, body, SPACE)
        await self.api.patch(kind, name, {"status": status}, namespace=SPACE, subresource="status")


@pytest.fixture
async def cluster() -> AsyncIterator[Cluster]:
    async with inprocess.open_api() as server:
        found = Cluster(server)
        await found.make(
            resources.NAMESPACES, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": SPACE}}
        )
        for crd in yaml.safe_load_all((Path(__file__).parent / "frrk8s-crds.yaml").read_text()):
            await found.make(CRDS, crd)
        yield found


def view(routers: FrrK8sRouters, name: str = "tor") -> SessionView:
    return next(each for each in routers.sessions() if each.peer == name)


async def soon(routers: FrrK8sRouters, name: str, **fields: Any) -> None:
    await until(lambda: all(getattr(view(routers, name), key) == value for key, value in fields.items()))


async def test_one_object_says_it_all(cluster: Cluster, nursery: trio.Nursery) -> None:
    routers = FrrK8sRouters(cluster.api, "node-2", SPACE, pause=0.05)
    nursery.start_soon(routers.run)
    first, second = peer("tor"), peer("two", "10.9.0.3")
    routers.apply([first], {"tor": paths("203.0.113.9/32")}, NODE)
    await cluster.told("10.9.0.1")
    made = await cluster.configuration()
    assert made is not None
    assert made["spec"]["bgp"]["routers"][0]["prefixes"] == ["203.0.113.9/32"]

    routers.apply([first, second], {}, NODE)
    await cluster.told("10.9.0.1", "10.9.0.3")
    again = await cluster.configuration()
    assert again is not None
    assert again["metadata"]["uid"] == made["metadata"]["uid"]
    await trio.sleep(0.7)
    assert (await cluster.configuration() or {})["metadata"]["resourceVersion"] == again["metadata"][
        "resourceVersion"
    ], "defaults the API adds are no reason to write again"

    await cluster.api.patch(FRR_CONFIGURATIONS, NAME, {"spec": {"bgp": {"routers": []}}}, namespace=SPACE)
    await cluster.told("10.9.0.1", "10.9.0.3")
    await cluster.api.delete(FRR_CONFIGURATIONS, NAME, namespace=SPACE)
    await cluster.told("10.9.0.1", "10.9.0.3")
    nursery.cancel_scope.cancel()
    with trio.CancelScope(shield=True):
        await routers.close()
        assert await cluster.configuration() is None


async def test_what_frr_k8s_says_is_the_sessions_state(cluster: Cluster, nursery: trio.Nursery) -> None:
    routers = FrrK8sRouters(cluster.api, "node-2", SPACE, pause=0.05, wall=lambda: 1000.0)
    nursery.start_soon(routers.run)
    peers = [
        peer("bad", "10.9.0.7", local_asn=65009),
        peer("six", "fd09::1", bfd=BfdProfile(name="b")),
        peer("tor"),
    ]
    routers.apply(peers, {"tor": paths("203.0.113.9/32")}, NODE)
    await cluster.told("fd09::1", "10.9.0.1")
    assert "does not say anything" in view(routers).last_error
    assert view(routers, "bad").last_error == "spec.localASN: an FRRConfiguration has no such field"
    await cluster.say("one", peer="10.9.0.1", vrf="", bgpStatus="Established", bfdStatus="N/A")
    await cluster.say(
        "two", peer="fd09-0000-0000-0000-0000-0000-0000-0001", bgpStatus="Active", bfdStatus="down"
    )
    await soon(routers, "tor", state="Established", sent=1, bfd="", last_error="", since=1000.0)
    await soon(routers, "six", state="Active", sent=0, bfd="Down", last_error="")
    await cluster.say("two", bgpStatus="Established", bfdStatus="up")
    await soon(routers, "six", state="Established", bfd="Up")
    nursery.cancel_scope.cancel()


async def test_frr_k8s_complains(cluster: Cluster, nursery: trio.Nursery) -> None:
    kind = FRR_NODE_STATES
    body = {"apiVersion": kind.api_version, "kind": kind.kind, "metadata": {"name": "node-2"}}
    await cluster.make(kind, body)
    status = {"lastConversionResult": "failed: peer\n x", "runningConfig": "password geheim"}
    await cluster.api.patch(kind, "node-2", {"status": status}, subresource="status")
    routers = FrrK8sRouters(cluster.api, "node-2", SPACE)
    nursery.start_soon(routers.run)
    routers.apply([peer()], {}, NODE)
    await soon(routers, "tor", last_error="FRR-K8s: failed: peer x")
    nursery.cancel_scope.cancel()


async def test_without_frr_k8s(nursery: trio.Nursery) -> None:
    """No such kinds: that is said, and nothing ends."""
    async with inprocess.open_api() as server:
        api = Cluster(server).api
        routers = FrrK8sRouters(api, "node-2", SPACE)
        nursery.start_soon(routers.run)
        routers.apply([peer()], {}, NODE)
        await until(lambda: "FRRConfigurations cannot be read" in view(routers).last_error)
        nursery.cancel_scope.cancel()
