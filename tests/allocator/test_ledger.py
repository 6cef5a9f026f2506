"""The ledger: claims, and indexes that never disagree with them."""

from __future__ import annotations

import itertools
import random
from ipaddress import ip_address

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from allocator.ledger import Claim, ClaimError, Key, Ledger, Port
from allocator.span import Span
from allocator.status import MAX_INT64, capacity
from tests.allocator.worlds import pool, pools

HTTP, HTTPS = Port("TCP", 80), Port("TCP", 443)
NOTHING: frozenset[Port] = frozenset()


def claim(service: str, *texts: str, key: Key = Key(), ports: frozenset[Port] = frozenset({HTTP})) -> Claim:  # noqa: B008
    return Claim(service, "p", tuple(ip_address(text) for text in texts), ports, key)


@pytest.mark.parametrize(
    ("texts", "why"),
    [
        (["198.51.100.1"], "is not allowed in config"),
        (["192.0.2.0", "192.0.2.1"], "same address family"),
        (["192.0.2.0", "2001:db8::", "2001:db8::1"], "invalid ips length 3"),
        ([], "invalid ips length 0"),
        (["192.0.2.0"], 'can\'t change sharing key for "me", address also in use by other'),
    ],
)
def test_a_claim_that_breaks_a_rule_changes_nothing(texts: list[str], why: str) -> None:
    ledger = Ledger(pools(pool("p", "192.0.2.0/24", "2001:db8::/64")))
    ledger.put(claim("other", "192.0.2.0"))
    ledger.put(claim("me", "192.0.2.9"))
    with pytest.raises(ClaimError, match=why.replace("(", r"\(")):
        ledger.put(claim("me", *texts))
    assert ledger.get("me") == claim("me", "192.0.2.9")
    assert ledger.usage("p").ipv4 == 2


def test_one_address_counts_once() -> None:
    ledger = Ledger(pools(pool("p", "192.0.2.0/24")))
    ledger.put(claim("a", "192.0.2.7", key=Key("k")))
    ledger.put(claim("b", "192.0.2.7", key=Key("k"), ports=frozenset({HTTPS})))
    assert ledger.usage("p").ipv4 == 1
    assert ledger.holders(ip_address("192.0.2.7")) == ("a", "b")
    ledger.drop("a")
    assert ledger.usage("p").ipv4 == 1
    ledger.drop("b")
    assert ledger.usage("p").ipv4 == 0


def test_a_claim_moves_with_its_address() -> None:
    ledger = Ledger(pools(pool("p", "192.0.2.0/24")))
    ledger.put(claim("a", "192.0.2.7"))
    ledger.put(claim("b", "192.0.2.200"))
    lost = ledger.configure(pools(pool("q", "192.0.2.0/25")))
    assert [each.service for each in lost] == ["b"]
    assert ledger.claims["a"].pool == "q"


@settings(deadline=None)
@given(st.integers(0, 600), st.integers(0, 40), st.booleans(), st.integers(0, 2**32))
def test_a_span_always_knows_its_lowest(start: int, size: int, skip: bool, seed: int) -> None:
    rng = random.Random(seed)
    span = Span(4, start, start + size, skip_buggy=skip)
    used: set[int] = set()
    usable = [n for n in range(start, start + size + 1) if not (skip and n & 0xFF in (0, 255))]
    for _ in range(100):
        expected = min((n for n in usable if n not in used), default=None)
        assert span.lowest_free() == expected
        if used and rng.random() < 0.4:
            number = rng.choice(sorted(used))
            span.free(number)
            used.remove(number)
        elif free := [n for n in usable if n not in used]:
            number = free[0] if rng.random() < 0.6 else rng.choice(free)
            span.take(number)
            used.add(number)
        assert span.in_use == len(used)


def test_order_of_the_spec_decides() -> None:
    ledger = Ledger(pools(pool("p", "192.0.2.8/31", "192.0.2.0/31", "192.0.2.4-192.0.2.5")))
    given_out = []
    for number in range(6):
        address = ledger.lowest("p", 4, f"s{number}", NOTHING, Key())
        assert address is not None
        ledger.put(claim(f"s{number}", str(address)))
        given_out.append(str(address))
    assert given_out == [f"192.0.2.{n}" for n in (8, 9, 0, 1, 4, 5)]
    assert ledger.lowest("p", 4, "s", NOTHING, Key()) is None
    assert ledger.lowest("p", 6, "s", NOTHING, Key()) is None


class Counting(Span):
    """Counts how many addresses `lowest_free` had to look at."""

    looked = 0

    def lowest_free(self) -> int | None:
        before = self._frontier + len(self._heap)
        found = super().lowest_free()
        Counting.looked += abs(self._frontier + len(self._heap) - before) + 1
        return found


def test_cost_does_not_grow_with_what_is_in_use() -> None:
    """Work per allocation, counted not timed: as little at the 20,000th as at the first."""
    span, work = Counting(4, 0, 2**24), []
    for _ in range(20_000):
        before = Counting.looked
        number = span.lowest_free()
        assert number is not None
        span.take(number)
        work.append(Counting.looked - before)
    assert max(work) <= 2
    rng = random.Random(1)
    for number in rng.sample(range(20_000), 5_000):
        span.free(number)
    before = Counting.looked
    freed = []
    for _ in range(5_000):
        number = span.lowest_free()
        assert number is not None
        span.take(number)
        freed.append(number)
    assert freed == sorted(freed)
    assert Counting.looked - before <= 10_001


def test_a_huge_network_is_no_more_work() -> None:
    ledger = Ledger(pools(pool("p", "2001:db8::/32")))
    assert str(ledger.lowest("p", 6, "s", NOTHING, Key())) == "2001:db8::"


@pytest.mark.parametrize(
    ("addresses", "avoid", "expected"),
    [
        (["192.0.2.0/24"], False, (256, 0)),
        (["192.0.2.0/24", "198.51.100.0/25"], False, (384, 0)),
        (["192.0.2.0/24", "198.51.100.128/25"], True, (381, 0)),
        (["192.0.2.0/31", "1000::/127"], True, (1, 2)),
        (["192.0.2.0/32"], True, (0, 0)),
        (["10.0.0.0/16"], True, (65536 - 512, 0)),
        (["192.0.2.4-192.0.2.9"], False, (6, 0)),
        (["2001:db8::/66"], False, (0, MAX_INT64)),
        (["2001:db8::/67"], False, (0, 2**61)),
        (["2001:db8::/64", "2001:db9::/67", "192.0.2.0/31"], False, (2, MAX_INT64)),
        (["2001:db9::/67", "2001:db8::/64"], False, (0, MAX_INT64)),
    ],
)
def test_capacity(addresses: list[str], avoid: bool, expected: tuple[int, int]) -> None:
    (found,) = pools(pool("p", *addresses, avoidBuggyIPs=avoid))
    total = capacity(found)
    assert (total.ipv4, total.ipv6) == expected


def test_capacity_is_what_can_be_given_out() -> None:
    for text, avoid in itertools.product(
        ["192.0.2.0/24", "192.0.2.128/25", "192.0.2.255/32", "192.0.1.250-192.0.3.3", "192.0.2.7/30"],
        [True, False],
    ):
        (found,) = pools(pool("p", text, avoidBuggyIPs=avoid))
        ledger = Ledger([found])
        count = 0
        while (address := ledger.lowest("p", 4, "s", NOTHING, Key())) is not None:
            ledger.put(claim(f"s{count}", str(address)))
            count += 1
        assert count == capacity(found).ipv4, text
