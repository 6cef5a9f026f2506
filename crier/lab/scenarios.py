"""The demo's scenarios: what is done to the node that owns a VIP, and what the client saw of it.

Before each event the lab is steady; after it the lab has `PATIENCE` to become steady again without the node
in question, or with it again.  What the client lost in between is the scenario's result.
"""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable
from typing import Final

import trio

from crier.lab.cluster import Cluster
from crier.lab.errors import LabError
from crier.lab.kubelet import GRACE
from crier.lab.observe import Observer, Snapshot, trouble
from crier.lab.prober import Prober, VipState
from crier.lab.report import SCENARIOS, Phase, ScenarioResult, VipResult, vip_result

PATIENCE: Final = 60.0
"""Seconds to become steady; a slow machine needs some, a broken program any number."""
HOLD: Final = 0.7
"""Seconds that everything must stay well before it counts as steady, so that a second flap is seen."""
SETTLE: Final = 0.2
"""Seconds after the last good look, so that the last probes' answers are in."""


class NotSteady(LabError):
    """The lab did not become steady; the text says what was amiss in the end."""


def parse_scenarios(text: str) -> tuple[str, ...]:
    """`all`, or names separated by commas.  Raises LabError for an unknown one."""
    if text == "all":
        return SCENARIOS
    names = tuple(name.strip() for name in text.split(","))
    for name in names:
        if name not in SCENARIOS:
            raise LabError(f"{name!r} is none of all, {', '.join(SCENARIOS)}")
    return names


def choose_victim(owners: Iterable[str], rng: random.Random) -> str:
    """A node that owns as many VIPs as any; chance decides between equals."""
    counted = Counter(owners)
    most = max(counted.values())
    return rng.choice(sorted(node for node, count in counted.items() if count == most))


class Director:
    """Plays scenarios, one after another."""

    def __init__(
        self,
        cluster: Cluster,
        prober: Prober,
        observer: Observer,
        *,
        rng: random.Random,
        started_at: float,
        say: Callable[[str], None],
        nursery: trio.Nursery,
    ) -> None:
        self._cluster = cluster
        self._prober = prober
        self._observer = observer
        self._rng = rng
        self._started_at = started_at
        self._say = say
        self._nursery = nursery
        self._absences: dict[str, trio.CancelScope] = {}
        self._kubelet_busy = trio.Lock()
        self._live = set(cluster.lan.nodes)
        self._off: str | None = None

    async def play(self, name: str, number: int) -> ScenarioResult:
        """Raises NotSteady when the lab is not fit to start from."""
        if name != "return":
            await self._bring_back()
        elif self._off is None:
            self._say("a node has to be away before it can return")
            await self._power_off(await self._victim())
        else:
            await self.steady()
        play = {
            "stop": self._stop,
            "kill": self._kill,
            "partition": self._partition,
            "power-off": self._power_off_scenario,
            "return": self._return,
        }[name]
        return await play(number)

    # -- the scenarios

    async def _stop(self, number: int) -> ScenarioResult:
        node = await self._victim()
        self._live.discard(node)
        phase = await self._phase(
            f"SIGTERM to the speaker on {node}", lambda: self._cluster.stop_speaker(node)
        )
        return ScenarioResult("stop", number, node, phase, await self._restart(node))

    async def _kill(self, number: int) -> ScenarioResult:
        node = await self._victim()

        async def kill() -> None:
            self._cluster.kill_speaker(node)

        self._live.discard(node)
        phase = await self._phase(f"kill -9 of the speaker on {node}", kill)
        return ScenarioResult("kill", number, node, phase, await self._restart(node))

    async def _restart(self, node: str) -> Phase:
        await self._cluster.speaker(node).wait(PATIENCE)

        async def start() -> None:
            self._cluster.start_speaker(node)

        self._live.add(node)
        return await self._phase(f"the speaker on {node} starts again", start)

    async def _partition(self, number: int) -> ScenarioResult:
        node = await self._victim()

        async def cut() -> None:
            self._cluster.lan.cut(node, silent=True)

        async def heal() -> None:
            self._cluster.lan.heal(node)

        self._live.discard(node)
        self._nursery.start_soon(self._notice, node)
        phase = await self._phase(f"{node} is cut off, its link stays up", cut)
        self._live.add(node)
        after = await self._phase(f"{node} is back on the LAN", heal, back=node)
        return ScenarioResult("partition", number, node, phase, after)

    async def _power_off_scenario(self, number: int) -> ScenarioResult:
        node = await self._victim()
        return ScenarioResult("power-off", number, node, await self._power_off(node), None)

    async def _power_off(self, node: str) -> Phase:
        async def off() -> None:
            self._cluster.power_off(node)

        self._live.discard(node)
        self._off = node
        self._nursery.start_soon(self._notice, node)
        return await self._phase(f"{node} loses power", off)

    async def _return(self, number: int) -> ScenarioResult:
        node = self._off
        assert node is not None
        self._off = None
        self._live.add(node)
        phase = await self._phase(f"{node} boots", lambda: self._cluster.power_on(node), back=node)
        return ScenarioResult("return", number, node, phase, None)

    async def _bring_back(self) -> None:
        """Whatever is away comes back, unmeasured, and the lab is steady."""
        if (node := self._off) is not None:
            self._say(f"{node} comes back first")
            self._off = None
            self._live.add(node)
            await self._cluster.power_on(node)
            await self._welcome(node)
        await self.steady()

    # -- the parts

    async def steady(self) -> Snapshot:
        """Wait until it has been steady for `HOLD`.  Raises NotSteady after `PATIENCE`."""
        seen_at = time.monotonic()
        good_since: float | None = None
        why = "nothing was seen yet"
        with trio.move_on_after(PATIENCE):
            while True:
                snapshot = await self._observer.after(seen_at)
                seen_at = snapshot.begun_at
                wrong = trouble(snapshot, frozenset(self._live))
                if wrong is not None:
                    good_since, why = None, wrong
                elif good_since is None:
                    good_since = seen_at
                elif seen_at - good_since >= HOLD:
                    return snapshot
        raise NotSteady(why)

    async def _victim(self) -> str:
        snapshot = await self.steady()
        return choose_victim((self._holders(vip)[0] for vip in snapshot.vips.values()), self._rng)

    def _holders(self, vip: VipState) -> tuple[str, ...]:
        """The nodes that have a VIP: who answers for it or, behind a router, who served the last probe."""
        if self._cluster.router is None:
            return vip.owners
        return () if vip.served_by is None else (vip.served_by,)

    async def _phase(
        self, event: str, act: Callable[[], Awaitable[None]], *, back: str | None = None
    ) -> Phase:
        """Make something happen and measure until the lab is steady again, or for `PATIENCE`."""
        before = {address: self._holders(vip) for address, vip in (await self._look()).vips.items()}
        at = time.monotonic()
        self._say(event)
        await act()
        if back is not None:
            await self._welcome(back)
        try:
            await self.steady()
        except NotSteady as problem:
            self._say(f"not steady after {PATIENCE:g} s: {problem}")
        took = time.monotonic() - at
        await trio.sleep(SETTLE)
        now = time.monotonic()
        records, late = await self._prober.result(at, now)
        states = await self._prober.state()
        results = tuple(
            vip_result(
                vip,
                records[vip.address],
                event_at=at,
                before=before[vip.address],
                after=self._holders(states[vip.address]),
                routed=self._cluster.router is not None,
            )
            for vip in self._prober.vips
        )
        for result in results:
            self._say(describe(result))
        client, backend = round(late.client * 1000, 1), round(late.backend * 1000, 1)
        return Phase(event, at - self._started_at, took, results, client, backend)

    async def _look(self) -> Snapshot:
        """A look at the wire just before an event; who answers is known, whatever else is going on."""
        return await self._observer.after(time.monotonic())

    async def _notice(self, node: str) -> None:
        """The cluster finds out that a node is away, after its grace period."""
        with trio.CancelScope() as absence:
            self._absences[node] = absence
            await trio.sleep(GRACE)
            await self._set_ready(node, False)

    async def _welcome(self, node: str) -> None:
        """The node's kubelet reports again."""
        if (absence := self._absences.pop(node, None)) is not None:
            absence.cancel()
        await self._set_ready(node, True)

    async def _set_ready(self, node: str, ready: bool) -> None:
        async with self._kubelet_busy:
            await trio.to_thread.run_sync(self._cluster.kubelet.set_ready, node, ready)


def describe(result: VipResult) -> str:
    where = f"  {result.service} {result.address}: "
    if result.problem() is not None:
        return where + (result.problem() or "")
    moved = (
        f"{result.before[0]} -> {result.after[0]}"
        if result.before != result.after and len(result.before) == 1
        else f"stays on {result.after[0]}"
    )
    lost = f"{result.probes_lost} of {result.probes_sent} probes lost"
    return f"{where}{moved}, outage {result.outage_ms:.0f} ms, {lost}"
