"""ServiceBGPStatus, the news of what is announced, and the metrics: as values."""

from __future__ import annotations

import msgspec

from crier.kube.model.states import ServiceBgpStatus
from crier.ops.metrics import Registry
from speaker.planner import bgpmetrics, bgpstatus
from speaker.planner.bgpreport import BgpReporter
from speaker.planner.l2status import Amend, Create, Delete, Owner
from speaker.planner.report import Assigned, Withdrawn
from speaker.planner.routers import SessionView
from speaker.planner.routes import Objection, Routes, Verdict
from tests.speaker.planner.builders import service

WEB = "default/web"
ME = Owner("speaker-a", "uid-1")


def status(
    name: str = "bgp-1",
    node: str = "a",
    peers: tuple[str, ...] = ("x",),
    said: str = WEB,
    owners: tuple[str, ...] = ("uid-1",),
) -> ServiceBgpStatus:
    return ServiceBgpStatus(
        namespace="lb",
        name=name,
        uid=f"uid-{name}",
        node_label=node,
        service_key=WEB,
        node=node,
        status_service_key=said,
        peers=peers,
        owner_uids=owners,
    )


def test_made_amended_left_alone_and_deleted() -> None:
    def actions(*existing: ServiceBgpStatus, wanted: dict[str, tuple[str, ...]]) -> list[object]:
        return list(bgpstatus.reconcile(wanted, existing, "a", ME))

    assert actions(wanted={WEB: ("x",)}) == [Create(WEB)]
    assert actions(status(), wanted={WEB: ("x",)}) == []
    assert actions(status(), wanted={WEB: ("x", "y")}) == [Amend("bgp-1", WEB, ("x", "y"))]
    assert actions(status(owners=()), wanted={WEB: ("x",)}) == [Amend("bgp-1", WEB, ("x",))]
    assert actions(status(), wanted={}) == [Delete("bgp-1", "uid-bgp-1")]
    twice = [status("bgp-1"), status("bgp-2")]
    assert actions(*twice, wanted={WEB: ("x",)}) == [Delete("bgp-2", "uid-bgp-2")]
    # what can be set once and is wrong is no use
    assert actions(status(said="default/db"), wanted={WEB: ("x",)}) == [
        Delete("bgp-1", "uid-bgp-1"),
        Create(WEB),
    ]


def test_another_nodes_objects_are_its_own() -> None:
    theirs = status(node="b")
    assert bgpstatus.reconcile({WEB: ("x",)}, [theirs], "a", ME) == [Create(WEB)]
    assert bgpstatus.reconcile({}, [theirs], "a", ME) == []


def test_what_is_written_is_what_is_read() -> None:
    body = bgpstatus.new_object(WEB, "a", ME)
    assert body["metadata"].pop("generateName") == "bgp-"
    body["metadata"] |= {"name": "bgp-1", "namespace": "lb", "uid": "uid-bgp-1"}
    body |= bgpstatus.status_patch(WEB, "a", ("x",))
    assert ServiceBgpStatus.decode(msgspec.json.encode(body)) == status()


def test_news_of_what_is_announced() -> None:
    reporter = BgpReporter()
    here = {WEB: service("web", "10.20.30.1")}
    good = Routes({}, {WEB: Verdict(WEB, peers=("x",))})
    assert reporter.update(good, here) == [Assigned(WEB, ("10.20.30.1",))]
    assert reporter.update(good, here) == []
    moved = Routes({}, {WEB: Verdict(WEB, peers=("x",))})
    assert [type(news) for news in reporter.update(moved, {WEB: service("web", "10.20.30.2")})] == [
        Withdrawn,
        Assigned,
    ]
    bad = Routes({}, {WEB: Verdict(WEB, Objection.NO_ENDPOINT)})
    (news,) = reporter.update(bad, here)
    assert isinstance(news, Withdrawn)
    assert (news.reason, news.addresses) == ("noEndpoints", ("10.20.30.2",))
    assert reporter.update(Routes(), {}) == []
    reporter.update(Routes({}, {WEB: Verdict(WEB)}), here)
    (news,) = reporter.update(Routes(), {})
    assert isinstance(news, Withdrawn)
    assert news.reason == "serviceDeleted"


def test_metrics_have_metallbs_names_and_labels() -> None:
    views = [
        SessionView(peer="x", address="192.0.2.1", state="Established", wanted=3, sent=2, bfd="Up",
                    counters={"updates_total": 4, "session_up_events": 1}),
        SessionView(peer="y", address="2001:db8::1", port=1790, vrf="red"),
    ]  # fmt: skip
    native = Registry(*bgpmetrics.families(lambda: views, native=True)).render().decode()
    for line in (
        'metallb_bgp_session_up{peer="192.0.2.1:179"} 1',
        'metallb_bgp_session_up{peer="[2001:db8::1]:1790-red"} 0',
        'metallb_bgp_announced_prefixes_total{peer="192.0.2.1:179"} 2',
        'metallb_bgp_pending_prefixes_total{peer="192.0.2.1:179"} 3',
        'metallb_bgp_updates_total{peer="192.0.2.1:179"} 4',
        'metallb_bfd_session_up{peer="192.0.2.1:179"} 1',
        'metallb_bfd_session_up_events{peer="192.0.2.1:179"} 1',
    ):
        assert line in native.splitlines()
    assert 'metallb_bfd_session_up{peer="[2001' not in native
    frr = Registry(*bgpmetrics.families(lambda: views, native=False)).render().decode()
    assert 'metallb_bgp_session_up{peer="[2001:db8::1]:1790",vrf="red"} 0' in frr.splitlines()
    assert "pending" not in frr
