"""The planner with METALLB_BGP_TYPE=frr and frr-k8s: from objects in the API to what FRR is told."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import trio
import yaml

from crier.kube import resources
from crier.kube.resources import Resource
from speaker.frr.k8sdocument import FRR_CONFIGURATIONS
from tests.bgp_lite.rig import Bird, rig
from tests.frr import rig as frr
from tests.speaker.planner.lab import SPACE, Cluster, open_cluster, running, until

CRDS = Resource(
    "apiextensions.k8s.io", "v1", "customresourcedefinitions", "CustomResourceDefinition", namespaced=False
)


@pytest.fixture
async def cluster() -> AsyncIterator[Cluster]:
    async with open_cluster() as found:
        peer = {"myASN": 65001, "peerASN": 65000, "peerAddress": "10.9.0.1", "connectTime": "1s"}
        await found.make(resources.BGP_PEERS, "tor", SPACE, spec=peer)
        communities = {"communities": ["65001:7"], "localPref": 0}
        await found.make(resources.BGP_ADVERTISEMENTS, "all", SPACE, spec=communities)
        await found.make_service("web", "10.20.30.1")
        yield found


@pytest.mark.netns
@pytest.mark.e2e
async def test_a_service_reaches_the_router_by_frr(cluster: Cluster, tmp_path: Path) -> None:
    with rig(tmp_path) as lan:
        bird, us = Bird(lan, 1), frr.Speaker(lan)
        async with running(cluster, "--bgp-type=frr", f"--frr-run-dir={us.run_dir}") as speaker:
            await frr.until(lambda: bird.count() == 1)
            routes = bird.routes()
            assert "10.20.30.1/32" in routes
            assert "BGP.community: (65001,7)" in routes

            async def metrics() -> str:
                return (await speaker.fetch("/metrics"))[1].decode()

            up = 'metallb_bgp_session_up{peer="10.9.0.1:179",vrf=""} 1'
            told = 'metallb_bgp_announced_prefixes_total{peer="10.9.0.1:179",vrf=""} 1'
            await until(metrics, lambda text: up in text and told in text)
            lines = {"extras": "ip prefix-list theirs seq 5 permit 10.0.0.0/8\n"}
            await cluster.make(resources.CONFIG_MAPS, "other", SPACE, data={"extras": "nonsense"})
            await cluster.make(resources.CONFIG_MAPS, "bgpextras", SPACE, data=lines)
            await frr.until(lambda: "theirs seq 5 permit 10.0.0.0/8" in us.show("show running-config"))
            await cluster.api.delete(resources.CONFIG_MAPS, "bgpextras", namespace=SPACE)
            await frr.until(lambda: "theirs" not in us.show("show running-config"))
            await cluster.api.delete(resources.SERVICES, "web", namespace="default")
            await frr.until(lambda: bird.count() == 0)


async def test_a_service_reaches_frr_k8s(cluster: Cluster) -> None:
    for crd in yaml.safe_load_all((Path(__file__).parent / "frrk8s-crds.yaml").read_text()):
        await cluster.api.create(CRDS, crd)

    async def prefixes() -> list[Any]:
        found = await cluster.found(FRR_CONFIGURATIONS, "metallb-iris1", SPACE)
        return [each["prefixes"] for each in found["spec"]["bgp"]["routers"]] if found else []

    async with running(cluster, "--bgp-type=frr-k8s") as speaker:
        await until(prefixes, lambda found: found == [["10.20.30.1/32"]])
        found = await cluster.found(FRR_CONFIGURATIONS, "metallb-iris1", SPACE)
        assert found is not None
        (told,) = found["spec"]["bgp"]["routers"][0]["neighbors"]
        assert told["toAdvertise"]["withCommunity"] == [
            {"community": "65001:7", "prefixes": ["10.20.30.1/32"]}
        ]
        status = json.loads((await speaker.fetch("/status"))[1])
        assert "FRR-K8s does not say anything" in json.dumps(status)
        with trio.fail_after(10):
            await cluster.api.delete(resources.BGP_PEERS, "tor", namespace=SPACE)
            await until(prefixes, lambda found: found == [])
