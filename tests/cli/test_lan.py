"""`crier` and the status page on a LAN with real speakers, and a client that counts what is lost."""

from __future__ import annotations

import io
import json
import os
import struct
import subprocess
import sys
import time
import zlib
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any, Final

import pytest
import trio

from crier.cli.main import main
from tests.e2e.test_wire import Lab, lost_nothing, open_lab

pytestmark = pytest.mark.e2e
CRIER: Final = Path(sys.executable).parent / "crier"
PATIENCE: Final = 180.0
ROUNDS: Final = 3
BROWSER: Final = (
    "chromium", "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--hide-scrollbars",
    "--window-size=1280,1100", "--enable-logging=stderr",
)  # fmt: skip
PAGE: Final = "http://127.0.0.1:17472/"


async def run(*command: str, **environment: str) -> subprocess.CompletedProcess[bytes]:
    with trio.fail_after(PATIENCE):
        return await trio.run_process(
            command, capture_stdout=True, capture_stderr=True, check=False, env={**os.environ, **environment}
        )


async def crier(lab: Lab, *arguments: str, status: int | None = 0) -> dict[str, Any]:
    """In this process, because to start Python anew each time takes longer than what is asked for.

    `status` None: whatever it finds, so long as it finds an answer.
    """

    def call() -> tuple[int, str, str]:
        out, err = io.StringIO(), io.StringIO()
        with redirect_stdout(out), redirect_stderr(err):
            ended = main([*arguments, "--json", "--kubeconfig", str(lab.cluster.kubeconfig)])
        return ended, out.getvalue(), err.getvalue()

    ended, said, complaint = await trio.to_thread.run_sync(call)
    assert ended in ((0, 1, 6) if status is None else (status,)), said + complaint
    document: dict[str, Any] = json.loads(said)
    return document


async def test_what_is_shown_is_what_is_and_a_drain_is_not_noticed() -> None:
    """One LAN for all of it, because to make one takes longer than what is done there."""
    async with open_lab(services="web,voice,web6", patience=600) as lab:
        owners = {address: vip.owners[0] for address, vip in (await lab.director.steady()).vips.items()}
        victim = next(iter(owners.values()))
        for seen in range(1, ROUNDS + 1):
            try:
                await _look_at_what_is_well(lab, owners)
                break
            except AssertionError:  # what is amiss is so each time; who is late for once, for once
                if seen == ROUNDS:
                    raise
        lost = [await _drain_and_undrain(lab, owners, victim)]
        # A move that loses anything loses it each time; a machine with too much to do loses something now and
        # then, for nodes that nobody drains as well.
        while sum(lost[-1].values()) and len(lost) < ROUNDS:
            lost.append(await _drain_and_undrain(lab, owners, victim))
        assert sum(lost[-1].values()) == 0, f"{victim} was drained of its own among {owners}: {lost}"
        lab.cluster.kill_speaker(victim)
        await lab.cluster.speaker(victim).wait(PATIENCE)
        found = await _once_moved(lab, victim)
        assert {node["name"] for node in found["nodes"] if not node["heard"]} == {victim}
        assert any(problem["about"] == victim for problem in found["problems"])
        await _in_the_browser(lab, victim)


async def _look_at_what_is_well(lab: Lab, owners: dict[str, str]) -> None:
    found = await crier(lab, "status", status=None)
    assert {vip["address"]: vip["owner"] for vip in found["vips"]} == owners
    assert {vip["address"]: list(vip["answering"]) for vip in found["vips"]} == {
        address: [owner] for address, owner in owners.items()
    }
    # a speaker that starts before it knows another's hardware addresses may take it for a stranger at first
    macs = [host.mac for host in lab.cluster.lan.nodes.values()]
    strange = [vip for vip in found["vips"] if vip["health"] != "ok" and vip["note"].split()[0] not in macs]
    assert strange == []
    assert all(node["reachable_for"] == node["asked"] == 2 for node in found["nodes"])
    why = await crier(lab, "why", "web", status=None)
    broken = {link["step"] for link in why["links"] if link["state"] == "fail"}
    assert not broken & {"service", "allocation", "endpoints", "layer 2", "gossip"}
    assert [place["rank"] for place in why["nodes"]] == [1, 2, 3]
    inside = [*lab.cluster.lan.enter("client").split(), str(CRIER)]
    kubeconfig = str(lab.cluster.run.directory / "kubeconfig-nodes")
    on_wire = await run(*inside, "why", "web", "--json", "--wire", "eth0", KUBECONFIG=kubeconfig)
    (heard,) = json.loads(on_wire.stdout)["wire"]
    assert heard["macs"] == [lab.cluster.lan.nodes[owners[heard["address"]]].mac]
    checks = {check["name"]: check["state"] for check in (await crier(lab, "doctor", status=None))["checks"]}
    assert checks["gossip-udp"] == checks["gossip-tcp"] == checks["speakers"] == checks["clock"] == "ok"


async def _drain_and_undrain(lab: Lab, owners: dict[str, str], victim: str) -> dict[str, int]:
    """How many of the client's probes were lost, by address, unless to a backend that stood still."""
    its = {address for address, owner in owners.items() if owner == victim}
    since = time.monotonic()
    foretold = await crier(lab, "simulate", "drain", victim)
    drained = await crier(lab, "drain", victim)
    assert drained["complete"]
    assert {address for move in drained["moved"] for address in move["addresses"]} == its
    promised = {address: each["after"] for each in foretold["shifts"] for address in each["addresses"]}
    for move in drained["moved"]:
        assert move["after"] == promised[move["addresses"][0]] != victim
    with trio.fail_after(PATIENCE):  # what the client says is of the last half second
        while True:
            during = [vip.owners for vip in (await lab.prober.state()).values()]
            if all(len(nodes) == 1 and victim not in nodes for nodes in during):
                break
            await trio.sleep(0.1)
    again = await crier(lab, "drain", victim)
    assert (again["complete"], again["moved"]) == (True, [])

    undrained = await crier(lab, "undrain", victim)
    assert undrained["complete"]
    after = {address: vip.owners for address, vip in (await lab.director.steady()).vips.items()}
    assert after == {address: (owner,) for address, owner in owners.items()}
    records, late = await lab.prober.result(since, time.monotonic())
    (line,) = [node for node in (await crier(lab, "status", status=None))["nodes"] if node["name"] == victim]
    assert (line["draining"], line["excluded"]) == ([], False)
    return {
        address: record.probes.lost for address, record in records.items() if not lost_nothing(record, late)
    }


async def _once_moved(lab: Lab, victim: str) -> dict[str, Any]:
    with trio.fail_after(PATIENCE):
        while True:
            # 6 as long as gossip has not given the node up, then 1
            found = await crier(lab, "status", status=None)
            if victim not in {vip["owner"] for vip in found["vips"]}:
                return found


async def _in_the_browser(lab: Lab, victim: str) -> None:
    directory = lab.cluster.run.directory
    enter = lab.cluster.lan.enter("control-plane").split()
    browser = [*enter, *BROWSER, f"--user-data-dir={directory}/browser"]
    # a virtual clock, so that the page has renewed itself twice when it is looked at
    dump = await run(*browser, "--virtual-time-budget=7000", "--dump-dom", PAGE)
    text = dump.stdout.decode()
    assert victim in text
    for address in await lab.prober.state():
        assert address in text
    assert '<section id="stale" hidden' in text, "it could renew itself"
    complaints = [line for line in dump.stderr.decode().splitlines() if "CONSOLE" in line]
    assert complaints == [], "neither the policy nor the script has anything to say"
    picture = directory / "dark.png"
    await run(*browser, f"--screenshot={picture}", "--blink-settings=preferredColorScheme=0", PAGE)
    assert max(corner(picture.read_bytes())) < 50, "dark is dark"


def corner(png: bytes) -> bytes:
    """Red, green and blue of the first pixel; whatever filter its row has, nothing is before it."""
    data, at = b"", 8
    while at < len(png):
        (size,) = struct.unpack_from("!I", png, at)
        if png[at + 4 : at + 8] == b"IDAT":
            data += png[at + 8 : at + 8 + size]
        at += size + 12
    return zlib.decompress(data)[1:4]
