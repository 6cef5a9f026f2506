"""Which BFD sessions are ordered, and what their news mean."""

from __future__ import annotations

from ipaddress import ip_address
from typing import Any

import pytest

from crier.kube.model.bfdprofile import BfdProfile
from crier.kube.model.bgppeer import BgpPeer
from speaker.orders import REMOTE_ADMIN_DOWN, Bfd, BfdPeer, BfdState
from speaker.planner import bfd
from speaker.planner.bfd import BfdWatch, News

FAST = BfdProfile(
    name="fast", receive_interval=50, transmit_interval=60, detect_multiplier=4, passive_mode=True
)


def peer(name: str = "tor", **more: Any) -> BgpPeer:
    found: dict[str, Any] = {
        "my_asn": 64500,
        "peer_asn": 65000,
        "address": ip_address("192.0.2.1"),
        "bfd": FAST,
        **more,
    }
    return BgpPeer(name=name, **found)


def watch(neighbor: str = "") -> BfdWatch:
    return BfdWatch(lambda _: neighbor)


def state(state_: str = "Up", downs: int = 0, why: str = "No Diagnostic", **more: Any) -> Bfd:
    where = {"address": "192.0.2.1", "device": "", "multihop": False, **more}
    return Bfd(
        (BfdState(state=state_, diagnostic=why, since=0.0, ups=1, downs=downs, sent=7, received=8, **where),)
    )


def failures(found: list[News]) -> list[str]:
    return [news.peer for news in found if news.failed]


def test_a_profile_is_an_order() -> None:
    far = peer(multihop=True, vrf="red", source=ip_address("192.0.2.9"))
    assert watch().wanted([far, peer("none", bfd=None)]) == (
        BfdPeer("192.0.2.1", "192.0.2.9", "red", True, 50, 60, 4, True, 254),
    )


def test_two_peers_at_one_address_share_a_session() -> None:
    slow = BfdProfile(name="slow")
    (order,) = watch().wanted([peer("b", bfd=slow), peer("a")])
    assert order.receive == 50
    both = watch()
    both.news([peer("a"), peer("b")], state())
    assert failures(both.news([peer("a"), peer("b")], state("Down", 1))) == ["a", "b"]


def test_an_unnumbered_peer_is_watched_once_it_is_known() -> None:
    unnumbered = peer(address=None, interface="eth1")
    assert watch().wanted([unnumbered]) == ()
    (order,) = watch("fe80::7%eth1").wanted([unnumbered])
    assert (order.address, order.device, order.multihop) == ("fe80::7", "eth1", False)


def test_an_internal_peer_on_another_network_is_far(monkeypatch: pytest.MonkeyPatch) -> None:
    networks = {"192.0.2.1": True, "198.51.100.1": False}
    monkeypatch.setattr(bfd, "_on_link", lambda address: networks[str(address)])
    near, far = (
        peer("near", peer_asn=64500),
        peer("x", peer_asn="internal", address=ip_address("198.51.100.1")),
    )
    looking = watch()
    assert [order.multihop for order in looking.wanted([near, far])] == [False, True]
    networks["192.0.2.1"] = False  # the link went down: nothing moved
    assert [order.multihop for order in looking.wanted([near, far])] == [False, True]


def test_only_what_happened_since_the_last_snapshot_is_a_failure() -> None:
    looking = watch()
    assert failures(looking.news([peer()], state("Down", 5))) == []  # a new planner was not there
    assert failures(looking.news([peer()], state("Up", 5))) == []
    assert failures(looking.news([peer()], state("Up", 6))) == ["tor"]  # down and up between two snapshots
    assert failures(looking.news([peer()], state("Up", 6))) == []
    assert failures(looking.news([peer()], state("Up", 0))) == []  # another session, from the beginning
    assert failures(looking.news([peer()], state("Down", 1))) == ["tor"]


def test_a_router_that_ends_bfd_on_purpose_has_not_failed() -> None:
    looking = watch()
    looking.news([peer()], state())
    assert failures(looking.news([peer()], state("Down", 1, REMOTE_ADMIN_DOWN))) == []


def test_news_are_for_whom_they_concern() -> None:
    looking = watch()
    others = [peer("elsewhere", address=ip_address("192.0.2.2")), peer("without", bfd=None)]
    (news,) = looking.news([peer(), *others], state())
    assert (news.peer, news.state, news.counters["control_packet_input"]) == ("tor", "Up", 8)
