"""Routed mode in a running planner: what is asked of the API, what the reflex is told and what it is not."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from crier.kube import resources
from crier.lab.api.faults import Rule
from speaker.orders import Bfd, BfdPeer, BfdState
from tests.speaker.planner.lab import SPACE, Cluster, open_cluster, running, soon, until

HERE = "127.0.0.1"


@pytest.fixture
async def cluster() -> AsyncIterator[Cluster]:
    async with open_cluster() as found:
        yield found


def peer_spec(**more: Any) -> dict[str, Any]:
    # nobody listens there: the session is tried, and what it comes to is told
    return {"myASN": 64500, "peerASN": 65000, "peerAddress": HERE, "peerPort": 1, "connectTime": "1s", **more}


async def state(cluster: Cluster) -> dict[str, Any]:
    found = await cluster.found(resources.CONFIGURATION_STATES, "speaker-iris1", SPACE)
    return dict((found or {}).get("status", {}))


async def test_without_peers_no_secret_is_read(cluster: Cluster) -> None:
    async with running(cluster) as speaker:
        sources = speaker.program.sources
        await soon(lambda: sources.bgp_synced and speaker.program.routed.planned)
        assert not sources.secrets.synced
        await cluster.make(resources.BGP_PEERS, "plain", SPACE, spec=peer_spec())
        await soon(lambda: speaker.program.routed.sessions)
        assert not sources.secrets.synced
        signed = peer_spec(passwordSecret={"name": "s"}, peerPort=2)
        await cluster.make(resources.BGP_PEERS, "signed", SPACE, spec=signed)
        await soon(lambda: sources.secrets.synced)
        assert [view.peer for view in speaker.program.routed.sessions] == ["plain"]
        await until(lambda: state(cluster), lambda found: found.get("result") == "Invalid")


async def test_layer_2_does_not_wait_for_the_bgp_kinds(cluster: Cluster) -> None:
    cluster.faults.set(Rule(verb="list", resource="bgppeers.metallb.io", status=503))
    await cluster.make_service("web", "10.20.30.2")
    async with running(cluster) as speaker:
        await speaker.settle("10.20.30.2")
        assert not speaker.program.routed.planned


async def test_a_new_planner_ends_no_bfd_session_it_does_not_know_yet(cluster: Cluster) -> None:
    """The orders before it stay in force until it does."""
    await cluster.make_service("web", "10.20.30.2")
    await cluster.make(resources.BFD_PROFILES, "fast", SPACE, spec={"receiveInterval": 50})
    await cluster.make(resources.BGP_PEERS, "router", SPACE, spec=peer_spec(bfdProfile="fast"))
    cluster.faults.set(Rule(verb="list", resource="bgppeers.metallb.io", status=503))
    async with running(cluster) as speaker:
        kept = BfdState(HERE, "", False, "Up", "No Diagnostic", 0.0, 1, 0, 9, 9)
        await speaker.reflex.tell(Bfd((kept,)))
        await soon(lambda: speaker.program.plan.vips)
        assert speaker.reflex.all_orders == []
        cluster.faults.clear()
        await soon(lambda: speaker.reflex.all_orders)
        assert speaker.reflex.orders.bfd == (BfdPeer(HERE, receive=50),)
        assert speaker.reflex.addresses == ("10.20.30.2",)


async def test_a_peer_that_cannot_be_reached_is_told_with_its_reason(cluster: Cluster) -> None:
    await cluster.make(resources.BGP_PEERS, "router", SPACE, spec=peer_spec())
    async with running(cluster) as speaker:
        await soon(lambda: any("refused" in view.last_error for view in speaker.program.routed.sessions))
        document = json.loads((await speaker.fetch("/status"))[1])
        (session,) = document["bgp"]
        assert (session["peer"], session["address"], session["port"]) == ("router", HERE, 1)
        assert session["state"] in ("Active", "Connect")
        assert session["last_error"].startswith("cannot connect to 127.0.0.1 port 1: ")


async def test_a_bad_peer_is_told_in_state_event_and_metrics_and_cleared(cluster: Cluster) -> None:
    await cluster.make(resources.BGP_PEERS, "good", SPACE, spec=peer_spec())
    async with running(cluster) as speaker:
        await until(lambda: state(cluster), lambda found: found.get("result") == "Valid")
        bad = peer_spec(holdTime="1s", peerPort=2)
        await cluster.make(resources.BGP_PEERS, "bad", SPACE, spec=bad)
        found = await until(lambda: state(cluster), lambda found: found.get("result") == "Invalid")
        assert found["errorSummary"].startswith("configuration error: bad: spec.holdTime: invalid hold time")
        events = await until(
            lambda: cluster.listed(resources.EVENTS, SPACE),
            lambda found: any(each["reason"] == "configurationError" for each in found),
        )
        (event,) = (each for each in events if each["reason"] == "configurationError")
        assert (event["type"], event["involvedObject"]["kind"], event["involvedObject"]["name"]) == (
            "Warning",
            "BGPPeer",
            "bad",
        )
        assert [view.peer for view in speaker.program.routed.sessions] == ["good"]
        metrics = (await speaker.fetch("/metrics"))[1].decode()
        assert "metallb_k8s_client_config_stale_bool 1" in metrics
        await cluster.api.delete(resources.BGP_PEERS, "bad", namespace=SPACE)
        await until(lambda: state(cluster), lambda found: found.get("result") == "Valid")
