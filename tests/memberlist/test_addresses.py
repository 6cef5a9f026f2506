import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memberlist.addresses import _host_addresses, advertised, parse_join
from memberlist.entry import address_octets, address_text
from memberlist.errors import ConfigError, JoinError


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("10.0.0.1", "10.0.0.1", 7946),
        ("10.0.0.1:80", "10.0.0.1", 80),
        ("host", "host", 7946),
        ("host.example:80", "host.example", 80),
        ("fd00::1", "fd00::1", 7946),
        ("[fd00::1]", "fd00::1", 7946),
        ("[fd00::1]:80", "fd00::1", 80),
        ("name/10.0.0.1:80", "10.0.0.1", 80),
        ("name/[fd00::1]:80", "fd00::1", 80),
    ],
)
def test_a_join_address(text: str, host: str, port: int) -> None:
    assert parse_join(text, 7946) == (host, port)


@pytest.mark.parametrize(
    "text", ["", ":80", "/1.2.3.4:8000", "h:80000", "h:0", "h:x", "h:-1", "[fd00::1", "[::1]80"]
)
def test_what_is_none(text: str) -> None:
    with pytest.raises(JoinError):
        parse_join(text, 7946)


@given(st.text())
def test_any_text_is_a_join_address_or_an_error(text: str) -> None:
    try:
        host, port = parse_join(text, 7946)
    except JoinError:
        return
    assert host
    assert 0 < port < 65536


@given(st.ip_addresses())
def test_octets_and_text(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> None:
    octets = address_octets(str(address))
    assert octets == address.packed
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        assert address_text(octets) == str(address.ipv4_mapped)
    else:
        assert ipaddress.ip_address(address_text(octets)) == address


@given(st.ip_addresses(v=4))
def test_a_mapped_address_reads_as_ipv4(address: ipaddress.IPv4Address) -> None:
    assert address_text(bytes(10) + b"\xff\xff" + address.packed) == str(address)


@pytest.mark.parametrize("octets", [b"", b"abc", bytes(5), bytes(17)])
def test_no_address(octets: bytes) -> None:
    with pytest.raises(ValueError, match="an address of"):
        address_text(octets)


def test_what_is_advertised() -> None:
    assert advertised(("10.0.0.1", 0), None, 7000) == ("10.0.0.1", 7000)
    assert advertised(("10.0.0.1", 0), ("192.0.2.1", 80), 7000) == ("192.0.2.1", 80)
    assert advertised(("10.0.0.1", 0), ("192.0.2.1", 0), 7000) == ("192.0.2.1", 7000)
    assert advertised(("fd00:0:0::1", 0), None, 1) == ("fd00::1", 1)


def test_the_hosts_own_addresses_are_found() -> None:
    assert "127.0.0.1" in list(_host_addresses(4))
    assert "::1" in list(_host_addresses(6))


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (["127.0.0.1", "8.8.8.8", "192.168.7.1", "10.0.0.1"], "192.168.7.1"),
        (["127.0.0.1", "169.254.1.1"], None),
    ],
)
def test_bound_to_everything_the_first_private_address_is_told(
    found: list[str], expected: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("memberlist.addresses._host_addresses", lambda _: iter(found))
    if expected is not None:
        assert advertised(("0.0.0.0", 7946), None, 7946) == (expected, 7946)
        return
    with pytest.raises(
        ConfigError, match=r"^advertise: 0\.0\.0\.0 is bound and no private address was found"
    ):
        advertised(("0.0.0.0", 7946), None, 7946)
