"""keepalived in the lab: its configuration, and that the virtual address moves."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from crier.lab import runs
from crier.lab.errors import LabError, NotPossible
from crier.lab.lan import plan_hosts
from crier.lab.peers import keepalived
from crier.lab.peers.keepalived import VIP, Keepalived, render
from crier.lab.runs import Run
from tests.lab.lans import PATIENCE, eventually, pings


def test_the_default_configuration_leaves_the_timing_to_keepalived() -> None:
    host = plan_hosts(Run("abcdef"), 2)[2]
    assert host.name == "node-1"
    text = render(host, 200, None)
    assert "router_id node-1" in text
    assert "priority 200" in text
    assert f"{VIP}/24 dev eth0" in text
    assert "advert_int" not in text
    assert "vrrp_version" not in text
    assert text.count("{") == text.count("}")


def test_adverts_under_a_second_need_version_3() -> None:
    text = render(plan_hosts(Run("abcdef"), 2)[2], 190, 0.03)
    assert "advert_int 0.03\n" in text
    assert "vrrp_version 3\n" in text
    assert text.count("{") == text.count("}")


def test_a_machine_without_keepalived_is_told_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "which", lambda *_, **__: None)
    run = runs.create(tmp_path)
    try:
        with pytest.raises(NotPossible, match="Debian package keepalived"):
            Keepalived(run, 2, None)
    finally:
        run.remove()


@pytest.mark.netns
@pytest.mark.e2e
async def test_the_address_moves_when_its_owner_loses_power(tmp_path: Path) -> None:
    run = runs.create(tmp_path)
    try:
        peer = Keepalived(run, 2, 0.1)
        await peer.start(lambda text: None)
        assert await peer.addresses() == {keepalived.SERVICE.name: [str(VIP)]}
        client = peer.lan.client
        eventually(lambda: pings(client, VIP), "somebody has the address")
        peer.power_off("node-1")
        eventually(lambda: pings(client, VIP), "the other has it")
        assert not peer.processes.unexpected_deaths()
    except LabError as problem:
        pytest.fail(str(problem))
    finally:
        run.remove()
    for process in peer.processes.all.values():
        process.popen.wait(timeout=PATIENCE)
