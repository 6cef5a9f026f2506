"""Standing orders on their way in: what is sense, what is not, and what need not be read again."""

from __future__ import annotations

from contextlib import suppress

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from speaker import orders as module
from speaker.orders import HEADER, BadOrder, Orders, Pulse, SealedOrders, Seeds, Vip, decode_down, encode
from speaker.reflex import intake
from speaker.reflex.intake import SLICE, Intake, Reading

PULSE = Pulse(1.0, 0.0, 0.0, 0, 0)


def orders(**vip: object) -> Orders:
    fields: dict[str, object] = {"address": "192.0.2.1", "services": ("n/s",), "candidates": ("a",), **vip}
    return Orders(1, (Vip(**fields),))  # type: ignore[arg-type]


def sealed(message: Orders) -> SealedOrders:
    made = decode_down(encode(message)[HEADER:])
    assert isinstance(made, SealedOrders)
    return made


def read(message: Orders, by: Intake | None = None) -> Reading:
    reading = Reading()
    for _ in (by or Intake("a")).read(sealed(message), reading):
        pass
    return reading


def test_what_comes_out_is_what_went_in() -> None:
    both = (*orders().vips, *orders(candidates=("b",), interfaces=("eth1",), restriction=7).vips)
    sixth = orders(address="2001:db8::1", restriction=9, interfaces=("eth0",)).vips
    reading = read(Orders(1, (*both, *sixth)))
    assert reading.entries == {"192.0.2.1": both, "2001:db8::1": sixth}
    assert set(reading.texts.values()) == {"192.0.2.1", "2001:db8::1"}
    assert reading.restrictions == {0: None, 9: frozenset({"eth0"})}, "of 7 we are no candidate"


@pytest.mark.parametrize(
    ("message", "why"),
    [
        (orders(address="192.0.2.256"), "is not an IP address"),
        (orders(address="eth0"), "is not an IP address"),
        (orders(address="fe80::1%eth0"), "is not an IP address"),
        (orders(address=""), "is not an IP address"),
        (Orders(1, (*orders(address="::1").vips, *orders(address="0::1").vips)), "are the same address"),
        (orders(candidates=("",)), "a name of 0 characters"),
        (orders(candidates=("x" * 256,)), "a name of 256 characters"),
        (orders(interfaces=("x" * 256,)), "a name of 256 characters"),
        (orders(candidates=("a",) * 20000), "20000 candidates"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_nonsense_is_named(message: Orders, why: str) -> None:
    with pytest.raises(BadOrder, match=why):
        read(message)


def test_what_may_not_come_down_is_bad() -> None:
    with pytest.raises(BadOrder):
        decode_down(encode(PULSE)[HEADER:])


@pytest.mark.parametrize("vip", [1, "x", {}, {"address": 1, "services": [], "candidates": []}])
def test_an_entry_that_is_none_is_bad(vip: object) -> None:
    body = msgspec.msgpack.encode({"type": "orders", "generation": 1, "vips": [vip]})
    message = decode_down(body)
    assert isinstance(message, SealedOrders)
    with pytest.raises(BadOrder, match="vips: "):
        list(Intake("a").read(message, Reading()))


def _take(body: bytes) -> None:
    message = decode_down(body)
    if isinstance(message, SealedOrders):
        list(Intake("a").read(message, Reading()))
    else:
        assert isinstance(message, Seeds)


@given(st.binary(max_size=200))
def test_any_octets_are_orders_or_bad(body: bytes) -> None:
    with suppress(BadOrder):
        _take(body)


@given(st.lists(st.builds(Vip, st.text(st.characters(codec="utf-8")), st.just(()), st.just(()))), st.data())
def test_any_addresses_and_broken_orders_are_orders_or_bad(vips: list[Vip], data: st.DataObject) -> None:
    body = bytearray(encode(Orders(1, tuple(vips)))[HEADER:])
    with suppress(BadOrder):
        _take(bytes(body))
    body[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))
    with suppress(BadOrder):
        _take(bytes(body))


def test_ten_thousand_are_read_in_slices_and_only_what_is_new_is_read_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    many = [*orders().vips] + [
        Vip(f"10.{n >> 16}.{n >> 8 & 255}.{n & 255}", (f"n/{n}",), ("a", "b")) for n in range(9999)
    ]
    read_now: list[Vip] = []

    def counted(vip: msgspec.Raw) -> Vip:
        read_now.append(module.unseal(vip))
        return read_now[-1]

    monkeypatch.setattr(intake, "unseal", counted)
    door = Intake("a")
    sizes: list[int] = []
    for _ in door.read(sealed(Orders(1, tuple(many))), Reading()):
        sizes.append(len(read_now))
        read_now.clear()
    sizes.append(len(read_now))
    read_now.clear()
    assert sum(sizes) == 10_000
    assert max(sizes) <= SLICE
    many[5000] = Vip("10.9.9.9", ("n/new",), ("b",))
    reading = read(Orders(2, tuple(many)), door)
    assert [vip.address for vip in read_now] == ["10.9.9.9"]
    assert reading.entries == {vip.address: (vip,) for vip in many}


def test_orders_refused_are_forgotten() -> None:
    door = Intake("a")
    with pytest.raises(BadOrder):
        read(Orders(1, (*orders().vips, *orders(address="x").vips)), door)
    assert read(orders(), door).entries == {"192.0.2.1": orders().vips}
