"""Without FRR's sockets: a rendered frr.conf, for MetalLB's reloader or for vtysh."""

from __future__ import annotations

import os
import signal
import stat
from pathlib import Path

import pytest
import trio

from speaker.frr.backend import FrrPaths, FrrRouters
from tests.frr.rig import apply, paths, peer, session, until

PASSWORD = b"geheim"


@pytest.fixture
def frr(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FrrPaths:
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    for name in ("bin", "etc"):
        (tmp_path / name).mkdir()
    etc = tmp_path / "etc"
    return FrrPaths(tmp_path / "run", etc / "frr.conf", etc / "reloader.pid")


async def told(routers: FrrRouters, text: str) -> None:
    await until(lambda: text in session(routers).last_error)


async def test_the_reloader(frr: FrrPaths, nursery: trio.Nursery) -> None:
    """It is woken for each change, and its complaint is the sessions'."""
    frr.reloader_pid_file.write_text(f"{os.getpid()}\n")
    with trio.open_signal_receiver(signal.SIGHUP) as hangups:
        routers = FrrRouters(frr, debounce=0.01)
        nursery.start_soon(routers.run)
        apply(routers, [peer(password=PASSWORD)], paths("203.0.113.9/32"))
        with trio.fail_after(10):
            await anext(hangups)
        await told(routers, "was told by")
        text = frr.config_file.read_text()
        assert "neighbor 10.9.0.1 password geheim" in text
        assert "network 203.0.113.9/32" in text
        assert stat.S_IMODE(frr.config_file.stat().st_mode) == 0o600
        apply(routers, [peer(password=PASSWORD)], paths("203.0.113.10/32"))
        with trio.fail_after(10):
            await anext(hangups)
        text = frr.config_file.read_text()
        assert "network 203.0.113.10/32" in text
        assert "203.0.113.9/32" not in text
        (frr.config_file.parent / ".status").write_text("1795444598 failure\n")
        await told(routers, "FRR's reloader could not put the configuration in force")
    nursery.cancel_scope.cancel()


async def test_vtysh(frr: FrrPaths, nursery: trio.Nursery) -> None:
    """It gets the difference, and what it says of a line is not repeated."""
    vtysh = frr.config_file.parents[1] / "bin" / "vtysh"
    record = frr.config_file.with_name("seen")
    vtysh.write_text(f'#!/bin/sh\nexec /bin/cp "$2" {record}\n')
    vtysh.chmod(0o755)
    routers = FrrRouters(frr, debounce=0.01)
    nursery.start_soon(routers.run)
    apply(routers, [peer(password=PASSWORD)], paths("203.0.113.9/32"))
    await told(routers, "was told by")
    assert "neighbor 10.9.0.1 remote-as 65000" in record.read_text()
    record.unlink()
    apply(routers, [peer(password=PASSWORD)], paths("203.0.113.10/32"))
    await until(lambda: record.exists() and record.read_text().endswith("\n"))
    text = record.read_text()
    assert "  no network 203.0.113.9/32 route-map" in text
    assert "remote-as" not in text

    vtysh.write_text("#!/bin/sh\necho 'line 12: % Unknown command: neighbor x password geheim' >&2\nexit 2\n")
    apply(routers, [peer(password=PASSWORD)], {})
    await told(routers, "vtysh ended with 2; lines it dislikes: 12")
    assert "geheim" not in session(routers).last_error
    nursery.cancel_scope.cancel()


async def test_nobody_at_all(frr: FrrPaths, nursery: trio.Nursery) -> None:
    routers = FrrRouters(frr)
    nursery.start_soon(routers.run)
    apply(routers, [peer()], {})
    await told(routers, "there is neither an FRR socket, nor")
    assert session(routers).state == "Idle"
    nursery.cancel_scope.cancel()


@pytest.mark.parametrize("text", ["", "x", "0", "-1", "99999999999"])
async def test_a_reloader_that_is_none(frr: FrrPaths, text: str, nursery: trio.Nursery) -> None:
    frr.reloader_pid_file.write_text(text)
    routers = FrrRouters(frr)
    nursery.start_soon(routers.run)
    apply(routers, [peer()], {})
    await told(routers, "reloader.pid: there is no process number in it")
    nursery.cancel_scope.cancel()
