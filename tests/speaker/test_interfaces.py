"""Which interface answers, and what becomes of one that goes and comes back, on a LAN of namespaces."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.speaker.lan import lan
from tests.speaker.running import reflex, until
from tests.speaker.test_reflex import EVERYTHING, V4, V6, ask, ask_v6, heard, vips, who_has, who_has_v6

pytestmark = [pytest.mark.netns, pytest.mark.e2e]


def test_the_list_of_interfaces_moves_the_answers(tmp_path: Path) -> None:
    """Both are on the wire of the client, which tells them by their hardware addresses."""
    with lan(["client", "a"]) as (client, a):
        a.attach("eth1", mac="02:00:00:00:0a:01")
        macs = {"eth0": a.mac("eth0"), "eth1": a.mac("eth1")}
        with reflex(a, tmp_path / "a") as running:
            for wanted in (["eth0"], ["eth1"], ["eth0", "eth1"], ["bogus0"], ["bogus0", "eth1"], None):
                names = list(macs) if wanted is None else [name for name in wanted if name in macs]
                running.order(*vips("a", interfaces=wanted))
                until(lambda: running.vip(V4).get("interfaces") == names, f"{wanted}: answered on")  # noqa: B023
                until(lambda: running.vip(V6).get("interfaces") == names, f"{wanted}: NDP, too")  # noqa: B023
                assert who_has(client, answers=len(names)) == {macs[name] for name in names}
                assert set(filter(None, [ask_v6(client)])) <= {macs[name] for name in names}
                assert running.vip(V4)["missing_interfaces"] is (not names)


def test_an_interface_that_is_removed_and_comes_back(tmp_path: Path) -> None:
    """Not down, but gone; and then each address family by itself."""
    with lan(["client", "a"]) as (client, a):
        a.attach("eth1", mac="02:00:00:00:0a:01")
        with reflex(a, tmp_path / "a") as running:
            running.order(*vips("a", interfaces=["eth1"]))
            until(lambda: running.vip(V6).get("interfaces") == ["eth1"], "answered")
            a.ip("link", "delete", "eth1")
            until(lambda: running.happened("interface_removed"), "noticed")
            assert ask(client) == set()
            with client.packet_socket() as sock:
                a.attach("eth1", mac="02:00:00:00:0a:02")
                assert heard(sock, "02:00:00:00:0a:02") == EVERYTHING
            assert who_has(client) == {"02:00:00:00:0a:02"}
            assert who_has_v6(client) == "02:00:00:00:0a:02"

            a.ip("-6", "address", "flush", "dev", "eth1")  # IPv6 goes
            until(lambda: not running.vip(V6)["interfaces"], "no NDP without a link-local address")
            assert who_has(client) == {"02:00:00:00:0a:02"}
            a.ip("address", "add", "fe80::a/64", "dev", "eth1", "nodad")  # and is back
            until(lambda: running.vip(V6)["interfaces"] == ["eth1"], "NDP again")
            assert who_has_v6(client) == "02:00:00:00:0a:02"
