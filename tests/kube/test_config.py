"""Pools, advertisements and selectors: every rule of the configuration, and all faults at once."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from ipaddress import ip_address, ip_network
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crier.kube.model.addresses import Family, family_of_all, parse_address, quoted
from crier.kube.model.advertisement import L2Advertisement, L2AdvertisementObject, parse_l2_advertisements
from crier.kube.model.errors import ConfigError
from crier.kube.model.pool import Allocation, Pool, PoolIndex, PoolObject, parse_networks, parse_pools
from crier.kube.model.selector import (
    Operator,
    Requirement,
    Selector,
    SelectorWire,
    parse_selector,
    parse_selectors,
)


def of_labels(labels: Mapping[str, str]) -> Selector:
    """The selector of `matchLabels` alone."""
    return Selector(tuple(Requirement(key, Operator.IN, frozenset({labels[key]})) for key in sorted(labels)))


def pool_object(name: str, *addresses: str, **spec: Any) -> PoolObject:
    body = {"metadata": {"name": name, "namespace": "m"}, "spec": {"addresses": addresses, **spec}}
    return PoolObject.decode(msgspec.json.encode(body))


def l2(name: str, **spec: Any) -> L2AdvertisementObject:
    body = {"metadata": {"name": name, "namespace": "m"}, "spec": spec}
    return L2AdvertisementObject.decode(msgspec.json.encode(body))


# ----------------------------------------------------------------------------------------- addresses


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("192.0.2.0/24", ["192.0.2.0/24"]),
        ("192.0.2.77/24", ["192.0.2.0/24"]),
        ("192.0.2.1-192.0.2.1", ["192.0.2.1/32"]),
        (" 192.0.2.0 - 192.0.2.4 ", ["192.0.2.0/30", "192.0.2.4/32"]),
        ("2001:db8::-2001:db8::4", ["2001:db8::/126", "2001:db8::4/128"]),
        ("2001:db8::1/64", ["2001:db8::/64"]),
        ("0.0.0.0/0", ["0.0.0.0/0"]),
    ],
)
def test_addresses(text: str, expected: list[str]) -> None:
    assert parse_networks(text) == tuple(ip_network(each) for each in expected)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("192.0.2.1", "invalid CIDR"),
        ("192.0.2.0/33", "invalid CIDR"),
        ("192.0.2.0/255.255.255.0", "invalid CIDR"),
        ("192.0.2.0/", "invalid CIDR"),
        ("192.0.2.0/+8", "invalid CIDR"),
        ("192.0.2.0/²", "invalid CIDR"),
        ("fe80::1%eth0/64", "invalid CIDR"),
        ("::ffff:192.0.2.0/120", "write IPv4 addresses as IPv4"),
        ("", "invalid CIDR"),
        ("x-192.0.2.1", "invalid start IP 'x'"),
        ("192.0.2.1-x", "invalid end IP 'x'"),
        ("192.0.2.1-", "invalid end IP ''"),
        ("192.0.2.9-192.0.2.1", "start IP 192.0.2.9 is after the end IP 192.0.2.1"),
        ("192.0.2.1-2001:db8::1", "different families"),
        ("192.0.2.1-2-3", "invalid end IP '2-3'"),
    ],
)
def test_what_are_no_addresses(text: str, why: str) -> None:
    with pytest.raises(ValueError, match=r"invalid (CIDR|IP range)") as problem:
        parse_networks(text)
    assert why in str(problem.value)


@settings(deadline=None)
@given(st.ip_addresses(v=4) | st.ip_addresses(v=6, network="2001:db8::/32"), st.integers(0, 300))
def test_a_range_is_taken_apart_without_loss(first: Any, size: int) -> None:
    last = type(first)(min(int(first) + size, 2**first.max_prefixlen - 1))
    numbers: list[int] = []
    for network in parse_networks(f"{first}-{last}"):
        numbers.extend(range(int(network.network_address), int(network.broadcast_address) + 1))
    assert numbers == list(range(int(first), int(last) + 1))


@given(st.text(max_size=40) | st.from_regex(r"[0-9a-f:./%-]{1,30}"))
def test_any_text_is_networks_or_refused(text: str) -> None:
    with suppress(ValueError):
        assert parse_networks(text)


def test_addresses_as_go_has_them() -> None:
    assert str(parse_address("::ffff:192.0.2.1")) == "192.0.2.1"
    assert str(parse_address("2001:DB8:0:0::1")) == "2001:db8::1"
    for bad in ("fe80::1%eth0", "192.0.2.01", "192.0.2", "", " 192.0.2.1"):
        with pytest.raises(ValueError, match=r".+"):
            parse_address(bad)


@settings(max_examples=300, deadline=None)
@given(
    st.ip_addresses(v=4).map(str)
    | st.from_regex(r"[0-9]{1,4}(\.[0-9]{1,4}){0,4}\n?", fullmatch=True)
    | st.text(alphabet="0123456789.x \n\0\u0661", max_size=16)
)
def test_ipv4_is_read_as_the_library_reads_it(text: str) -> None:
    try:
        expected = ip_address(text)
    except ValueError:
        with pytest.raises(ValueError, match="does not appear"):
            parse_address(text)
    else:
        assert parse_address(text) == expected


def test_families() -> None:
    four, six = parse_address("192.0.2.1"), parse_address("2001:db8::1")
    assert [family_of_all(each) for each in ([four], [six], [four, six], [six, four])] == [
        Family.IPV4,
        Family.IPV6,
        Family.DUAL,
        Family.DUAL,
    ]
    for bad in ([], [four, four], [four, six, six]):
        with pytest.raises(ValueError, match=r"^IPFamilyForAddresses: "):
            family_of_all(bad)
    assert quoted([four, six]) == '["192.0.2.1" "2001:db8::1"]'


# --------------------------------------------------------------------------------------------- pools


def test_a_pool() -> None:
    (found,) = parse_pools(
        [
            pool_object(
                "p",
                "192.0.2.0-192.0.2.4",
                "2001:db8::/64",
                autoAssign=False,
                avoidBuggyIPs=True,
                serviceAllocation={
                    "priority": 3,
                    "namespaces": ["a"],
                    "serviceSelectors": [{"matchLabels": {"x": "y"}}],
                },
            )
        ]
    )
    assert found == Pool(
        name="p",
        networks=tuple(ip_network(each) for each in ("192.0.2.0/30", "192.0.2.4/32", "2001:db8::/64")),
        auto_assign=False,
        avoid_buggy_ips=True,
        allocation=Allocation(3, frozenset({"a"}), (), (of_labels({"x": "y"}),)),
        items=(
            (ip_network("192.0.2.0/30"), ip_network("192.0.2.4/32")),
            (ip_network("2001:db8::/64"),),
        ),
    )


@pytest.mark.parametrize(
    ("objects", "problems"),
    [
        ([pool_object("p")], ["p: spec.addresses: pool has no prefixes defined"]),
        (
            [pool_object("p", "x/24", "192.0.2.9-192.0.2.1")],
            ["p: spec.addresses[0]: invalid CIDR 'x/24'", "p: spec.addresses[1]: invalid IP range"],
        ),
        (
            [pool_object("p", "192.0.2.0/24", "192.0.2.128/25")],
            ['p: spec.addresses: CIDR "192.0.2.128/25" in pool "p" overlaps with already defined CIDR'],
        ),
        (
            [pool_object("b", "192.0.2.0/24"), pool_object("a", "192.0.2.128/25")],
            ['overlaps with already defined CIDR "192.0.2.128/25" in pool "a"'],
        ),
        (
            [pool_object("p", "192.0.2.0/24"), pool_object("p", "198.51.100.0/24")],
            ["duplicate definition of pool 'p'"],
        ),
        (
            [pool_object("p", "192.0.2.0/24", serviceAllocation={"namespaces": ["a", "b", "a"]})],
            ["p: spec.serviceAllocation.namespaces: duplicate definition in namespaces field: 'a'"],
        ),
        (
            [
                pool_object(
                    "p",
                    "192.0.2.0/24",
                    serviceAllocation={"serviceSelectors": [{"matchLabels": {"a": "b"}}] * 2},
                )
            ],
            ["p: spec.serviceAllocation.serviceSelectors[1]: duplicate definition of serviceSelectors 'a=b'"],
        ),
        (
            [
                pool_object(
                    "p",
                    "192.0.2.0/24",
                    serviceAllocation={
                        "namespaceSelectors": [
                            {"matchExpressions": [{"key": "a", "operator": "In", "values": ["x", "x"]}]}
                        ]
                    },
                )
            ],
            ["duplicate definition of match expression value in label selector: x"],
        ),
        (
            # Every fault of every pool, not only the first.
            [
                pool_object("a", "nonsense"),
                pool_object("b"),
                pool_object("c", "192.0.2.0/24", "192.0.2.0/25"),
            ],
            ["a: spec.addresses[0]", "b: spec.addresses", "overlaps"],
        ),
    ],
)
def test_bad_pools(objects: list[PoolObject], problems: list[str]) -> None:
    with pytest.raises(ConfigError) as found:
        parse_pools(objects)
    assert len(found.value.problems) == len(problems)
    for expected, problem in zip(problems, found.value.problems, strict=True):
        assert expected in problem


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 63), st.integers(26, 32)), min_size=1, max_size=8), st.integers(0, 63)
)
def test_overlaps_are_found_and_addresses_located(spans: list[tuple[int, int]], probe: int) -> None:
    networks = [ip_network(f"192.0.2.{start}/{bits}", strict=False) for start, bits in spans]
    objects = [pool_object(f"p{number}", str(network)) for number, network in enumerate(networks)]
    overlapping = any(one.overlaps(other) for at, one in enumerate(networks) for other in networks[at + 1 :])
    if overlapping:
        with pytest.raises(ConfigError, match="overlaps"):
            parse_pools(objects)
        return
    index = PoolIndex(parse_pools(objects))
    address = ip_address(f"192.0.2.{probe}")
    expected = [pool.name for pool in index.pools.values() if pool.allows(address)]
    found = index.locate(address)
    assert [found.name] if found else expected == []
    assert (found.name if found else None) == (expected[0] if expected else None)


def test_who_may_draw_from_a_pool() -> None:
    gold = of_labels({"tier": "gold"})
    web = of_labels({"app": "web"})
    table = [
        (Allocation(), "n", {}, {}, True),
        (Allocation(namespaces=frozenset({"n"})), "n", {}, {}, True),
        (Allocation(namespaces=frozenset({"n"})), "o", {}, {}, False),
        (
            Allocation(namespaces=frozenset({"n"}), namespace_selectors=(gold,)),
            "o",
            {"tier": "gold"},
            {},
            True,
        ),
        (Allocation(namespace_selectors=(gold,)), "o", {}, {}, False),
        (Allocation(service_selectors=(web, gold)), "o", {}, {"app": "web"}, True),
        (Allocation(service_selectors=(web,)), "o", {}, {}, False),
        (Allocation(namespaces=frozenset({"n"}), service_selectors=(web,)), "n", {}, {}, False),
        (Allocation(namespaces=frozenset({"n"}), service_selectors=(web,)), "o", {}, {"app": "web"}, False),
        (Allocation(namespaces=frozenset({"n"}), service_selectors=(web,)), "n", {}, {"app": "web"}, True),
    ]
    for allocation, namespace, namespace_labels, labels, expected in table:
        assert (allocation.objection(namespace, namespace_labels, labels) == "") is expected, allocation


# ------------------------------------------------------------------------------------ advertisements


def test_an_advertisement() -> None:
    (found,) = parse_l2_advertisements(
        [
            l2(
                "a",
                ipAddressPools=["p"],
                interfaces=["eth0", "eth0", "eth1"],
                nodeSelectors=[{"matchLabels": {"x": "y"}}],
            )
        ]
    )
    assert found == L2Advertisement(
        name="a", pools=("p",), interfaces=("eth0", "eth1"), node_selectors=(of_labels({"x": "y"}),)
    )


def test_an_empty_advertisement_is_for_all() -> None:
    (found,) = parse_l2_advertisements([l2("a")])
    (pool,) = parse_pools([pool_object("p", "192.0.2.0/24")])
    assert found.selects_pool(pool)
    assert found.selects_node({})
    assert found.selects_service({})


def test_pools_by_name_or_label() -> None:
    body = {
        "metadata": {"name": "p", "namespace": "m", "labels": {"zone": "a"}},
        "spec": {"addresses": ["192.0.2.0/24"]},
    }
    (pool,) = parse_pools([PoolObject.decode(msgspec.json.encode(body))])
    table: list[tuple[dict[str, Any], bool]] = [
        ({"ipAddressPools": ["p"]}, True),
        ({"ipAddressPools": ["gone"]}, False),
        ({"ipAddressPoolSelectors": [{"matchLabels": {"zone": "a"}}]}, True),
        ({"ipAddressPoolSelectors": [{"matchLabels": {"zone": "b"}}]}, False),
        ({"ipAddressPools": ["p"], "ipAddressPoolSelectors": [{"matchLabels": {"zone": "b"}}]}, True),
    ]
    for spec, expected in table:
        (found,) = parse_l2_advertisements([l2("a", **spec)])
        assert found.selects_pool(pool) is expected


@pytest.mark.parametrize(
    ("spec", "problem"),
    [
        (
            {"ipAddressPools": ["p", "p"]},
            "a: spec.ipAddressPools: duplicate definition of ipAddressPools 'p'",
        ),
        ({"nodeSelectors": [{}, {}]}, "a: spec.nodeSelectors[1]: duplicate definition of nodeSelectors ''"),
        ({"ipAddressPoolSelectors": [{}, {}]}, "duplicate definition of ipAddressPoolSelectors"),
        ({"serviceSelectors": [{}, {}]}, "duplicate definition of serviceSelectors"),
        (
            {"nodeSelectors": [{"matchLabels": {"": "x"}}]},
            "spec.nodeSelectors[0].matchLabels: invalid label selector",
        ),
    ],
)
def test_bad_advertisements(spec: dict[str, Any], problem: str) -> None:
    with pytest.raises(ConfigError) as found:
        parse_l2_advertisements([l2("a", **spec)])
    assert problem in str(found.value)


# ----------------------------------------------------------------------------------------- selectors


def selector(**wire: Any) -> tuple[Selector, list[str]]:
    problems: list[str] = []
    return parse_selector(msgspec.convert(wire, SelectorWire), "s", problems), problems


@pytest.mark.parametrize(
    ("wire", "labels", "expected", "text"),
    [
        ({}, {}, True, ""),
        ({"matchLabels": {"a": "b"}}, {"a": "b", "c": "d"}, True, "a=b"),
        ({"matchLabels": {"a": "b"}}, {"a": "x"}, False, "a=b"),
        ({"matchLabels": {"a": ""}}, {}, False, "a="),
        (
            {"matchExpressions": [{"key": "a", "operator": "In", "values": ["x", "b"]}]},
            {"a": "b"},
            True,
            "a in (b,x)",
        ),
        ({"matchExpressions": [{"key": "a", "operator": "In", "values": ["x"]}]}, {}, False, "a=x"),
        ({"matchExpressions": [{"key": "a", "operator": "NotIn", "values": ["x"]}]}, {}, True, "a notin (x)"),
        (
            {"matchExpressions": [{"key": "a", "operator": "NotIn", "values": ["x"]}]},
            {"a": "x"},
            False,
            "a notin (x)",
        ),
        ({"matchExpressions": [{"key": "a", "operator": "Exists"}]}, {"a": ""}, True, "a"),
        ({"matchExpressions": [{"key": "a", "operator": "Exists"}]}, {}, False, "a"),
        ({"matchExpressions": [{"key": "a", "operator": "DoesNotExist"}]}, {}, True, "!a"),
        ({"matchExpressions": [{"key": "a", "operator": "DoesNotExist"}]}, {"a": "b"}, False, "!a"),
        (
            {"matchLabels": {"a": "b"}, "matchExpressions": [{"key": "c", "operator": "Exists"}]},
            {"a": "b"},
            False,
            "a=b,c",
        ),
    ],
)
def test_selectors_match(wire: dict[str, Any], labels: dict[str, str], expected: bool, text: str) -> None:
    found, problems = selector(**wire)
    assert problems == []
    assert found.matches(labels) is expected
    assert str(found) == text


@pytest.mark.parametrize(
    ("wire", "why"),
    [
        ({"matchLabels": {"": "b"}}, "is not a label key"),
        ({"matchLabels": {"a b": "c"}}, "is not a label key"),
        ({"matchLabels": {"/a": "c"}}, "is not a label key"),
        ({"matchLabels": {"Upper.io/a": "c"}}, "is not a label key"),
        ({"matchLabels": {"a" * 64: "c"}}, "is not a label key"),
        ({"matchLabels": {"a": "b!"}}, "is not a label value"),
        ({"matchLabels": {"a": "b" * 64}}, "is not a label value"),
        ({"matchLabels": {"a": "b\n"}}, "is not a label value"),
        ({"matchExpressions": [{"key": "a", "operator": "Equals", "values": ["b"]}]}, "operator 'Equals'"),
        ({"matchExpressions": [{"key": "a", "operator": "In"}]}, "In needs values"),
        ({"matchExpressions": [{"key": "a", "operator": "NotIn", "values": []}]}, "NotIn needs values"),
        (
            {"matchExpressions": [{"key": "a", "operator": "Exists", "values": ["b"]}]},
            "Exists takes no values",
        ),
        (
            {"matchExpressions": [{"key": "a", "operator": "Exists"}] * 2},
            "duplicate definition of match expressions",
        ),
    ],
)
def test_bad_selectors(wire: dict[str, Any], why: str) -> None:
    _, problems = selector(**wire)
    assert len(problems) == 1
    assert problems[0].startswith("s.match")
    assert why in problems[0]


def test_good_label_keys() -> None:
    for key in ("a", "A", "a-b_c.D9", "example.com/a", "node.kubernetes.io/" + "a" * 63):
        assert selector(matchLabels={key: ""})[1] == []


def test_many_selectors_cost_no_square() -> None:
    """Ten thousand of them, as many as an object can hold, without a comparison of each with each."""
    problems: list[str] = []
    wires = [SelectorWire(match_labels={"n": str(number)}) for number in range(10_000)]
    assert len(parse_selectors(wires, "s", problems)) == 10_000
    assert problems == []
