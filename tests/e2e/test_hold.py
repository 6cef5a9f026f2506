"""What must hold among five nodes, one thing after the other in one lab: whatever happens, in the end one
node answers for each address, and it is the one it was.
"""

from __future__ import annotations

import signal

import pytest
import trio

from crier.lab import netns
from speaker.settings import DEFAULT_GOSSIP_PORT
from tests.e2e.test_wire import Lab, open_lab

pytestmark = pytest.mark.e2e

PATIENCE = 60


async def owners(lab: Lab) -> dict[str, tuple[str, ...]]:
    return {address: vip.owners for address, vip in (await lab.prober.state()).items()}


async def until_owned(lab: Lab, wanted: dict[str, tuple[str, ...]]) -> None:
    """Until these answer and nobody else: on a busy machine one may be late for a moment."""
    with trio.fail_after(PATIENCE):
        while True:
            found = await owners(lab)
            if {address: found[address] for address in wanted} == wanted:
                return
            await trio.sleep(0.05)


async def until_moved(lab: Lab, away_from: str) -> None:
    """Until others serve what was this node's."""
    with trio.fail_after(PATIENCE):
        while True:
            vips = (await lab.prober.state()).values()
            if all(len(v.owners) == 1 and v.owners[0] != away_from and v.good_since for v in vips):
                return
            await trio.sleep(0.05)


def deafen(lab: Lab, node: str, to: str) -> None:
    """`node` no longer hears the gossip of `to`, which goes on hearing it."""
    hosts = lab.cluster.lan.nodes
    rules = "".join(
        f"add rule inet deaf input ip saddr {hosts[to].ipv4} {kind} {end} {DEFAULT_GOSSIP_PORT} drop\n"
        for kind in ("udp", "tcp")
        for end in ("sport", "dport")
    )
    chain = "add chain inet deaf input { type filter hook input priority -300; }\n"
    netns.nft(hosts[node].netns, f"add table inet deaf\n{chain}{rules}")


def undeafen(lab: Lab, node: str) -> None:
    netns.nft(lab.cluster.lan.nodes[node].netns, "delete table inet deaf\n")


async def test_what_must_hold_on_five_nodes() -> None:
    async with open_lab(services="web,voice,web6", nodes=5) as lab:
        # steady: TCP, UDP, both families, policies Cluster and Local are served, by one node each
        before = await owners(lab)
        lan = lab.cluster.lan
        victim = next(iter(before.values()))[0]
        other = next(node for node in lan.nodes if (node,) not in before.values())

        # asymmetric: one node does not hear the owner any more, the owner hears it, and so do the others
        deafen(lab, other, victim)
        await trio.sleep(3.0)
        await until_owned(lab, before)  # others vouch for the owner
        undeafen(lab, other)
        await lab.director.steady()
        await until_owned(lab, before)

        # a fifth of all frames of the owner is lost: it may be passed over for moments, not for good
        lan.lose(victim, 0.2)
        await trio.sleep(3.0)
        lan.heal(victim)
        await lab.director.steady()
        await until_owned(lab, before)

        # the API answers nothing, a speaker is frozen: gossip decides alone, and the frozen one comes back
        api = lab.cluster.processes.all["api"]
        api.send(signal.SIGSTOP)
        speaker = lab.cluster.speaker(victim)
        speaker.send(signal.SIGSTOP)
        await until_moved(lab, victim)
        # what was not its own stays where it is
        await until_owned(lab, {a: o for a, o in before.items() if o != (victim,)})
        speaker.send(signal.SIGCONT)
        api.send(signal.SIGCONT)
        await lab.director.steady()
        await until_owned(lab, before)
