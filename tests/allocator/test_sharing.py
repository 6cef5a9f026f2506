"""Several services behind one address: who may, who may not, and what happens when they change."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from crier.kube.model.service import Service, ServicePort
from tests.allocator.worlds import World, pool, service, world

PAIR = pool("pair", "192.0.2.0/31")
ONLY = pool("only", "192.0.2.0/32")


def sharer(name: str, *ports: int, key: str = "k", **fields: Any) -> Service:
    made = service(f"default/{name}", ports=tuple(ServicePort("TCP", port) for port in ports))
    return replace(made, annotations={"metallb.io/allow-shared-ip": key} if key else {}, **fields)


def local(name: str, *ports: int, selector: dict[str, str]) -> Service:
    return sharer(name, *ports, external_traffic_policy="Local", selector=selector)


@pytest.mark.parametrize(
    ("one", "other", "together"),
    [
        (sharer("a", 80), sharer("b", 443), True),
        (sharer("a", 80), sharer("b", 80), False),
        (sharer("a", 80), sharer("b", 443, key="other"), False),
        (sharer("a", 80), sharer("b", 443, key=""), False),
        (sharer("a", 80, key=""), sharer("b", 443, key=""), False),
        (sharer("a", 80), replace(sharer("b", 80), ports=(ServicePort("UDP", 80),)), True),
        (sharer("a", 80), replace(sharer("b", 443), namespace="elsewhere"), True),
        (local("a", 80, selector={"x": "1", "y": "2"}), local("b", 443, selector={"y": "2", "x": "1"}), True),
        (local("a", 80, selector={"x": "1"}), local("b", 443, selector={"x": "2"}), False),
        (sharer("a", 80), local("b", 443, selector={"x": "1"}), False),
        # As MetalLB has it: to take such an address away from a running cluster would be worse.
        (sharer("a", 80), local("b", 443, selector={}), True),
        (sharer("a", 80, 81), sharer("b", 81, 82), False),
    ],
)
def test_two(one: Service, other: Service, together: bool) -> None:
    for first, second in ((one, other), (other, one)):
        found = world([PAIR], first)
        found.settle()
        found.put(second)
        found.settle()
        assert found.ips(first.key) == ("192.0.2.0",)
        assert found.ips(second.key) == (("192.0.2.0",) if together else ("192.0.2.1",))
        refused = world([ONLY], first)
        refused.settle()
        refused.put(second)
        refused.settle()
        assert refused.ips(second.key) == (("192.0.2.0",) if together else ())


def test_the_texts_of_refusals() -> None:
    found = world([ONLY], sharer("a", 80), sharer("b", 443))
    found.settle()
    found.put(
        replace(sharer("c", 443), load_balancer_ip="192.0.2.0"),
        replace(sharer("d", 22, key="mine"), load_balancer_ip="192.0.2.0"),
    )
    found.settle()
    assert found.said("AllocationFailed") == [
        'Failed to allocate IP for "default/c": port TCP/443 is already in use on "192.0.2.0" by default/b',
        (
            'Failed to allocate IP for "default/d": can\'t change sharing key for "default/d", '
            "address also in use by default/a,default/b"
        ),
    ]


def test_a_lower_free_address_comes_before_sharing() -> None:
    found = world([PAIR], replace(sharer("a", 80), load_balancer_ip="192.0.2.1"))
    found.settle()
    found.put(sharer("b", 443))
    found.settle()
    assert found.ips("b") == ("192.0.2.0",)


def test_both_addresses_must_be_shareable() -> None:
    dual = pool("dual", "192.0.2.0/32", "2001:db8::/127")
    found = world([dual], replace(sharer("six", 80), cluster_ips=("fd00::1",)))
    found.settle()
    both = replace(sharer("both", 80), cluster_ips=("10.96.0.1", "fd00::1"))
    found.put(both)
    found.settle()
    assert found.ips("both") == ("192.0.2.0", "2001:db8::1")


def test_the_only_holder_may_change_its_key_and_ports() -> None:
    found = world([ONLY], sharer("a", 80))
    found.settle()
    found.change("a", annotations={"metallb.io/allow-shared-ip": "new"}, ports=(ServicePort("TCP", 81),))
    found.settle()
    assert found.ips("a") == ("192.0.2.0",)
    found.put(sharer("b", 80, key="new"), sharer("c", 81, key="new"), sharer("d", 82))
    found.settle()
    assert (found.ips("b"), found.ips("c"), found.ips("d")) == (("192.0.2.0",), (), ())


def test_who_becomes_incompatible_has_to_go_and_may_come_back() -> None:
    found = world([ONLY], sharer("a", 80), sharer("b", 443))
    found.settle()
    found.change("b", external_traffic_policy="Local", selector={"x": "1"})
    found.settle()
    assert (found.ips("a"), found.ips("b")) == (("192.0.2.0",), ())
    assert len(found.said("ClearAssignment")) == 1
    found.change("b", external_traffic_policy="Cluster")
    found.settle()
    assert (found.ips("a"), found.ips("b")) == (("192.0.2.0",), ("192.0.2.0",))


def test_who_waits_for_a_key_gets_the_address_when_the_holder_takes_that_key() -> None:
    found = world([ONLY], sharer("a", 80, key=""))
    found.settle()
    found.put(sharer("b", 443))
    found.settle()
    assert found.ips("b") == ()
    found.annotate("a", share="k")
    found.settle()
    assert found.ips("b") == ("192.0.2.0",)


def test_a_port_that_becomes_free_lets_the_next_one_in() -> None:
    found = world([ONLY], sharer("a", 80, 81), sharer("b", 443))
    found.settle()
    found.put(sharer("c", 81))
    found.settle()
    assert found.ips("c") == ()
    found.change("a", ports=(ServicePort("TCP", 80),))
    found.settle()
    assert found.ips("c") == ("192.0.2.0",)


def test_two_that_change_together_stay_together() -> None:
    found = world([ONLY], sharer("a", 80), sharer("b", 443))
    found.settle()
    for name in ("a", "b"):
        found.annotate(name, share="new")
    found.settle()
    assert found.ips("a") == found.ips("b") == ("192.0.2.0",)
    assert found.said("ClearAssignment") == []


def test_an_address_is_not_given_on_before_it_was_taken_away() -> None:
    """Two services trade addresses: at no moment does one stand in both statuses."""
    found = world([PAIR], service("default/a"), service("default/b"))
    found.settle()

    def watch(now: World) -> None:
        held = [text for each in now.services.values() for text in each.ingress_ips]
        assert len(held) == len(set(held))

    found.change("a", load_balancer_ip="192.0.2.1")
    found.change("b", load_balancer_ip="192.0.2.0")
    for _ in range(10):
        found.turn()
        for name in list(found.under_way):
            found.carry_out(name)
            watch(found)
    assert (found.ips("a"), found.ips("b")) == (("192.0.2.1",), ("192.0.2.0",))
