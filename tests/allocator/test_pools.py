"""Pools that come, go and change, restarts, and who gets what becomes free."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from crier.kube.model.annotations import ALLOCATED_FROM
from crier.kube.model.errors import ConfigError
from tests.allocator.worlds import World, pool, service, world

SMALL = pool("small", "192.0.2.0/31")


def filled() -> World:
    found = world(
        [SMALL], *(service(f"default/{name}", created=f"2026-01-0{n}") for n, name in enumerate("abcd", 1))
    )
    found.settle()
    return found


def test_lowest_first_oldest_first() -> None:
    found = filled()
    assert [found.ips(name) for name in "abcd"] == [("192.0.2.0",), ("192.0.2.1",), (), ()]


@pytest.mark.parametrize("go", ["delete", "retype", "class"])
def test_what_becomes_free_goes_to_who_has_waited_longest(go: str) -> None:
    found = filled()
    match go:
        case "delete":
            found.delete("a")
        case "retype":
            found.change("a", type="ClusterIP")
        case "class":
            found.change("a", load_balancer_class="other", ingress_ips=())
    found.settle()
    assert [found.ips(name) for name in "bcd"] == [("192.0.2.1",), ("192.0.2.0",), ()]


def test_who_waits_is_told_that_newer_pools_are_not_in_force() -> None:
    found = filled()
    found.change("d", annotations={"metallb.io/address-pool": "new"})
    found.settle()
    full = "no available IPs in pool small for ipv4 IPFamily"
    found.notices.clear()
    found.allocator.reject(["new", "worse"])
    found.settle()
    not_in_force = "; the newest pools are not in force, because of faults in new, worse"
    assert found.said("AllocationFailed") == [
        f'Failed to allocate IP for "default/c": no available IPs{not_in_force} (small: {full})',
        f'Failed to allocate IP for "default/d": unknown pool "new"{not_in_force} (small: not requested)',
    ]
    found.notices.clear()
    found.allocator.reject(["new", "worse"])
    found.settle()
    assert not found.notices, "once"
    found.set_pools(SMALL)
    found.settle()
    assert 'Failed to allocate IP for "default/d": unknown pool "new" (small: not requested)' in found.said(
        "AllocationFailed"
    )


def test_who_waits_is_told_when_no_pool_was_ever_in_force() -> None:
    found = World()
    found.put(service("default/a"), replace(service("default/b"), ingress_ips=("192.0.2.1",)))
    found.turn()
    assert not found.notices, "nothing is known yet"
    found.allocator.reject(["bad"])
    found.put(*found.services.values())
    found.settle()
    why = "no available IPs (no pool is in force, because of faults in bad)"
    assert found.said("AllocationFailed") == [f'Failed to allocate IP for "default/a": {why}']
    assert found.ips("b") == ("192.0.2.1",), "what it has is not judged"
    found.set_pools(SMALL)
    found.settle()
    assert (found.ips("a"), found.ips("b")) == (("192.0.2.0",), ("192.0.2.1",))


def test_a_restart_changes_nothing() -> None:
    """Two holders and two that wait, five times; in whatever order the services are seen."""
    found = filled()
    before, written = {name: found.ips(name) for name in "abcd"}, len(found.writes)
    for seed in range(5):
        names = list(found.services)
        random.Random(seed).shuffle(names)
        found.services = {name: found.services[name] for name in names}
        found.restart()
        found.settle()
    assert {name: found.ips(name) for name in "abcd"} == before
    assert len(found.writes) == written


def test_what_is_recorded_is_safe_even_from_older_services() -> None:
    """The oldest has nothing yet; at a restart it must not take the first address."""
    found = world([SMALL])
    found.put(
        service("default/young", "v4", "192.0.2.0", created="2026-05-01"),
        service("default/old", created="2020-01-01"),
        service("default/greedy", "v4", "198.51.100.1", created="2020-01-01"),
    )
    found.restart()
    found.settle()
    assert found.ips("young") == ("192.0.2.0",)
    assert {found.ips("old"), found.ips("greedy")} == {("192.0.2.1",), ()}


def test_a_top_up_does_not_take_what_is_recorded() -> None:
    dual = pool("dual", "192.0.2.0/31", "2001:db8::/127")
    found = world(
        [dual],
        replace(
            service("default/a", "dual", "192.0.2.0", created="2020-01-01"),
            ip_family_policy="PreferDualStack",
        ),
        service("default/b", "v6", "2001:db8::", created="2026-01-01"),
    )
    found.settle()
    assert (found.ips("a"), found.ips("b")) == (("192.0.2.0", "2001:db8::1"), ("2001:db8::",))


def test_all_pools_gone() -> None:
    found = filled()
    found.set_pools()
    found.settle()
    assert [found.ips(name) for name in "abcd"] == [()] * 4
    assert all(ALLOCATED_FROM not in each.annotations for each in found.services.values())


def test_a_pool_gone_another_there() -> None:
    found = filled()
    found.set_pools(pool("other", "198.51.100.0/24"))
    found.settle()
    assert sorted(found.ips(name)[0] for name in "abcd") == [f"198.51.100.{n}" for n in range(4)]
    assert len(found.said("ClearAssignment")) == 2


@pytest.mark.parametrize(
    ("pools", "kept"),
    [
        ([SMALL], True),
        ([pool("small", "192.0.2.0/24")], True),
        ([pool("renamed", "192.0.2.0/31")], True),
        ([pool("x", "192.0.2.0/32"), pool("y", "192.0.2.1/32")], True),
        ([pool("small", "192.0.2.0-192.0.2.1")], True),
        ([pool("small", "192.0.2.0/31", autoAssign=False)], True),
        ([pool("small", "192.0.2.0/24", avoidBuggyIPs=True)], False),
        ([pool("small", "192.0.2.1/32")], False),
        ([pool("small", "192.0.2.0/31", serviceAllocation={"namespaces": ["x"]})], False),
    ],
)
def test_a_pool_changes(pools: list[object], kept: bool) -> None:
    found = filled()
    found.set_pools(*pools)  # type: ignore[arg-type]
    found.settle()
    assert (found.ips("a") == ("192.0.2.0",)) is kept
    if kept:
        owner = found.allocator.ledger.pools.locate_all(found.statuses()["default/a"])
        assert owner is not None
        assert found.services["default/a"].annotations[ALLOCATED_FROM] == owner.name
    else:
        assert found.said("ClearAssignment")


def test_a_larger_pool_serves_who_waited() -> None:
    found = filled()
    found.set_pools(pool("small", "192.0.2.0/30"))
    found.settle()
    assert [found.ips(name) for name in "abcd"] == [(f"192.0.2.{n}",) for n in range(4)]


def test_bad_pools_change_nothing() -> None:
    found = filled()
    with pytest.raises(ConfigError):
        found.set_pools(SMALL, pool("overlapping", "192.0.2.0/24"))
    found.settle()
    assert found.ips("a") == ("192.0.2.0",)


def test_prefer_dual_stack_as_pools_grow_and_shrink() -> None:
    four, six = ("192.0.2.0/31",), ("2001:db8::/127",)
    found = world(
        [pool("p", *four)], replace(service("default/s", "dual"), ip_family_policy="PreferDualStack")
    )
    found.settle()
    assert found.ips("s") == ("192.0.2.0",)
    # A dual pool elsewhere does not move it, its own pool becoming dual tops it up.
    other = pool("other", "198.51.100.0/31", "2001:db8:9::/127")
    found.set_pools(pool("p", *four), other)
    found.settle()
    assert found.ips("s") == ("192.0.2.0",)
    found.set_pools(pool("p", *four, *six), other)
    found.settle()
    assert found.ips("s") == ("192.0.2.0", "2001:db8::")
    # Its pool shrinks: both go, and another pool that has both is preferred.
    found.set_pools(pool("p", *four), other)
    found.settle()
    assert found.ips("s") == ("198.51.100.0", "2001:db8:9::")


def test_labels_of_a_namespace_count_for_the_next_service() -> None:
    gold = pool(
        "gold",
        "192.0.2.0/31",
        serviceAllocation={"priority": 1, "namespaceSelectors": [{"matchLabels": {"tier": "gold"}}]},
    )
    found = world([gold, pool("plain", "198.51.100.0/31")], service("default/before"))
    found.set_namespaces({"default": {}})
    found.settle()
    found.set_namespaces({"default": {"tier": "gold"}})
    found.put(service("default/after"))
    found.settle()
    assert (found.ips("before"), found.ips("after")) == (("198.51.100.0",), ("192.0.2.0",))
    # Who may not be there any more has to leave.
    found.set_namespaces({"default": {}})
    found.settle()
    assert found.ips("after") == ("198.51.100.1",)


def test_namespace_selectors_that_fit_nobody_keep_everybody_out() -> None:
    """MetalLB lets explicit requests from anywhere in then."""
    gold = pool(
        "gold", "192.0.2.0/31", serviceAllocation={"namespaceSelectors": [{"matchLabels": {"no": "body"}}]}
    )
    found = world([gold], replace(service("default/s"), load_balancer_ip="192.0.2.0"))
    found.settle()
    assert found.ips("s") == ()


def test_priorities_fill_up_in_order() -> None:
    found = world(
        [
            pool("none", "198.51.100.0/32"),
            pool("second", "192.0.2.1/32", serviceAllocation={"priority": 20, "namespaces": ["default"]}),
            pool("first", "192.0.2.2/32", serviceAllocation={"priority": 10, "namespaces": ["default"]}),
        ],
        *(service(f"default/{name}", created=f"2026-01-0{n}") for n, name in enumerate("abcd", 1)),
    )
    found.settle()
    assert [found.ips(name) for name in "abcd"] == [("192.0.2.2",), ("192.0.2.1",), ("198.51.100.0",), ()]


def test_a_refusal_that_is_about_to_end_is_not_told() -> None:
    """The address is on its way out of another status; no alarm for these milliseconds."""
    found = world([pool("only", "192.0.2.0/32")], service("default/a"))
    found.settle()
    found.change("a", type="ClusterIP")
    found.put(replace(service("default/b"), load_balancer_ip="192.0.2.0"))
    found.settle()
    assert found.ips("b") == ("192.0.2.0",)
    assert found.said("AllocationFailed") == []


def test_a_lost_write_is_decided_again() -> None:
    found = world([SMALL], service("default/a"))
    found.turn()
    found.carry_out("a", lost=True)
    found.settle()
    assert found.ips("a") == ("192.0.2.0",)
    assert len(found.said("IPAllocated")) == 1, "told once it is written"
