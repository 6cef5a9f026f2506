"""What a speaker tells of its node, and whether others' gossip ports answer."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
import trio

from crier.cli.main import main
from memberlist import codec
from memberlist.messages import Ping
from speaker.orders import MemberView
from speaker.planner import host
from speaker.planner.hail import hail_tcp, hail_udp
from tests.places import free_port
from tests.speaker.planner.lab import settings


def test_the_excluded_interfaces_are_read_as_metallb_writes_them(tmp_path: Path) -> None:
    file = tmp_path / "excludel2.yaml"
    file.write_text("announcedInterfacesToExclude:\n  - ^docker.*\n  - \"^lo$\"\n  - '^veth.*'\n")
    assert host.excluded(file) == ["^docker.*", "^lo$", "^veth.*"]
    assert host.excluded(tmp_path / "none") == []


def test_interfaces_and_settings_of_this_machine(tmp_path: Path) -> None:
    assert "lo" in {each["name"] for each in host.interfaces()}
    (tmp_path / "all").mkdir()
    (tmp_path / "all" / "rp_filter").write_text("2\n")
    (tmp_path / "all" / "arp_ignore").write_text("what?\n")
    assert host.sysctls(tmp_path) == {"all": {"rp_filter": 2}}


async def test_a_port_that_listens_and_one_that_does_not() -> None:
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    port = listener.socket.getsockname()[1]
    assert await hail_tcp(MemberView("x", "127.0.0.1", port, "alive", True)) == ""
    await listener.aclose()
    assert "refused" in await hail_tcp(MemberView("x", "127.0.0.1", port, "alive", True))
    # nobody has the port, and the kernel says so: no need to wait
    nobody = MemberView("x", "not an address", free_port(), "alive", True)
    assert await hail_udp(nobody, settings()) != ""


def test_decode(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(codec.encode(Ping(7, "iris1")).hex() + "\n"))
    assert main(["decode"]) == 0
    assert "iris1" in capsys.readouterr().out
    monkeypatch.setattr("sys.stdin", io.StringIO("zz\n"))
    assert main(["decode", "--json"]) == 1
