"""One service after another against the contract."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from crier.kube.model.annotations import ALLOCATED_FROM
from crier.kube.model.service import ServicePort
from tests.allocator.cases import BOTH, CASES, ONE, POOLS, SIX, Case
from tests.allocator.worlds import pool, service, world


def test_names_of_cases_differ() -> None:
    assert len({case.name for case in CASES}) == len(CASES) >= 60


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_one_service(case: Case) -> None:
    found = world(case.pools, case.service)
    found.settle()
    assert found.ips("s") == case.ips
    annotation = found.services["default/s"].annotations.get(ALLOCATED_FROM, "")
    if case.pool:
        assert annotation == case.pool
    assert bool(annotation) == bool(case.ips)
    for reason, text in case.says.items():
        assert any(text in message for message in found.said(reason)), found.notices
    if case.silent:
        assert found.notices == []
    if case.untouched:
        assert found.writes == []
    assert len(found.writes) <= 1, "one change, one write"


def test_cases_do_not_depend_on_each_other() -> None:
    """All cases with the common pools, one after the other in any order, on one controller."""
    common = [case for case in CASES if case.pools is POOLS]
    assert len(common) > 30
    for seed in range(20):
        rng = random.Random(seed)
        found = world(POOLS)
        for case in rng.sample(common, len(common)):
            found.put(case.service)
            found.settle(rng)
            assert found.ips("s") == case.ips, f"{case.name}, seed {seed}"
            found.delete("s")
            found.settle(rng)
            assert not found.allocator.ledger.claims


def test_nothing_is_decided_before_pools_are_known() -> None:
    found = world([], service("default/s", "v4", "192.0.2.0"))
    fresh = type(found)()
    fresh.put(service("default/s", "v4", "192.0.2.0"))
    fresh.settle()
    assert fresh.writes == []
    assert fresh.ips("s") == ("192.0.2.0",)


def test_a_class_of_our_own() -> None:
    found = world([ONE])
    found.allocator = type(found.allocator)(lb_class="crier")
    found.set_pools(ONE)
    found.put(service("default/a"), service("default/b", load_balancer_class="crier"))
    found.settle()
    assert (found.ips("a"), found.ips("b")) == ((), ("192.0.2.0",))


def test_prefer_and_require_by_turns() -> None:
    """A single-stack pool: Prefer is content, Require is not, and back again."""
    found = world([ONE], replace(service("default/s", "dual"), ip_family_policy="PreferDualStack"))
    found.settle()
    assert found.ips("s") == ("192.0.2.0",)
    found.change("s", ip_family_policy="RequireDualStack")
    found.settle()
    assert found.ips("s") == ()
    found.change("s", ip_family_policy="PreferDualStack")
    found.settle()
    assert found.ips("s") == ("192.0.2.0",)


def test_prefer_is_at_rest_on_a_single_stack_service() -> None:
    """MetalLB adds and removes a second address for ever here."""
    found = world([BOTH], replace(service("default/s", "v4"), ip_family_policy="PreferDualStack"))
    found.settle()
    written = len(found.writes)
    for _ in range(3):
        found.put(found.services["default/s"])
        found.settle()
    assert (found.ips("s"), len(found.writes)) == (("203.0.113.0",), written)


def test_the_same_refusal_is_told_once() -> None:
    found = world([SIX], service("default/s"))
    found.settle()
    for _ in range(3):
        found.put(found.services["default/s"])
        found.settle()
    assert len(found.said("AllocationFailed")) == 1
    found.set_pools(SIX, pool("other", "2001:db8:5::/64"))
    found.settle()
    assert len(found.said("AllocationFailed")) == 2, "another pool was considered: that is news"


def test_ports_are_read_with_their_protocol() -> None:
    tcp = service(
        "default/tcp", annotations={"metallb.io/allow-shared-ip": "dns"}, ports=(ServicePort("TCP", 53),)
    )
    udp = replace(tcp, name="udp", uid="udp", ports=(ServicePort("UDP", 53),))
    found = world([ONE], tcp, udp)
    found.settle()
    assert found.ips("tcp") == found.ips("udp") == ("192.0.2.0",)
