"""BGP by FRR's daemons: they keep the sessions, we tell them which and what, over their vty sockets.

Every turn is the same: what is wanted minus what FRR has (`changes`), said to the daemons.  What FRR has is
read once per connection and remembered from then on; so a daemon that was restarted is told everything again,
and a planner that was restarted changes nothing.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import trio

from bgp_lite.attributes import Path as RoutePath
from bgp_lite.prefix import Prefix
from crier.kube.model.bgppeer import BgpPeer
from crier.kube.model.node import Node
from crier.kube.watch import backoff
from crier.ops import logs
from speaker.frr import extras, state
from speaker.frr.changes import (
    BFDD,
    BGPD,
    ZEBRA,
    Block,
    changes,
    clear,
    greet,
    part,
    prepare,
    remove_neighbor,
    settled,
    want,
    whole,
)
from speaker.frr.reload import Reload, ReloadError
from speaker.frr.render import Base, peer_id, render, shown, vrf_of
from speaker.frr.running import Held, parse_bfdd, parse_bgpd
from speaker.frr.state import BadState, Seen, Watched
from speaker.frr.vty import Answer, Vty, VtyError
from speaker.planner.routers import SessionView
from speaker.planner.sources import EXTRAS
from speaker.planner.wake import Wakeup

log = logs.get(__name__)

POLL: Final = 1.0
"""Seconds between two looks at the sessions."""
RETRY: Final = 60.0
"""Seconds until what FRR refused is said again: an address may have been missing, and be there now."""
JITTER: Final = 2.0
"""Seconds by which FRR's idea of when a session came up may wander."""
MAX_REFUSALS: Final = 10
"""Of one block: after the first the rest tells nobody anything."""
UNKNOWN: Final = 2
"""A daemon's status for a command it does not know; another one may."""
GOODBYE: Final = 3.0
"""Seconds `close` may take."""

Routes = Mapping[str, Mapping[Prefix, RoutePath]]


def same_tables(one: Routes, other: Routes) -> bool:
    """Whether they are the very same tables; to compare a hundred thousand routes takes too long."""
    return one.keys() == other.keys() and all(one[name] is other[name] for name in one)


def uncounted(view: SessionView) -> SessionView:
    """Without the counters: that a keepalive was sent is no news."""
    return replace(view, counters={})


@dataclass(frozen=True, slots=True)
class FrrPaths:
    """Where FRR is."""

    run_dir: Path = Path("/var/run/frr")
    """With the daemons' vty sockets; shared between FRR's container and ours."""
    config_file: Path = Path("/etc/frr_reloader/frr.conf")
    reloader_pid_file: Path = Path("/etc/frr_reloader/reloader.pid")

    def socket(self, daemon: str) -> Path:
        return self.run_dir / f"{daemon}.vty"


@dataclass(frozen=True, slots=True)
class _Refusal:
    peer: str
    text: str


class FrrRouters:
    """Routers of the planner (`speaker.planner.routers`), by way of FRR."""

    def __init__(
        self,
        paths: FrrPaths,
        *,
        log_level: str = "",
        debounce: float = 3.0,
        changed: Callable[[], None] = lambda: None,
        extra_lines: Callable[[], str] = lambda: "",
        wall: Callable[[], float] = time.time,
    ) -> None:
        """`log_level`: of the daemons, one of FRR's; empty leaves it to them.  `debounce`: seconds a rendered
        frr.conf waits for further changes; the sockets never wait.  `changed`: `sessions` has news.
        `extra_lines`: of frr.conf, beside what follows from what is applied; asked for by each `apply`.
        """
        self._paths, self._log_level, self._debounce = paths, log_level, debounce
        self._changed, self._wall = changed, wall
        self._extra_lines = extra_lines
        self._reload = Reload(paths.config_file, paths.reloader_pid_file)
        self._due = Wakeup()
        self._peers: tuple[BgpPeer, ...] = ()
        self._node = Node(name="")
        self._routes: Routes = {}
        self._base = Base({}, {}, {})
        self._applied = False
        self._closing = False
        self._extras_text = ""
        self._extras: tuple[extras.Line, ...] = ()
        self._extras_held: tuple[extras.Line, ...] = ()
        """What of them FRR was told last."""
        self._extras_faults: tuple[str, ...] = ()

        self._held = Held()
        self._profiles: dict[str, tuple[str, ...]] = {}
        """BFD profiles as they were told over these connections."""
        self._refused: dict[str, tuple[str, str]] = {}
        """Peers FRR did not take: digest of what was said, and why not."""
        self._faults: tuple[str, ...] = ()
        """What FRR did not take that concerns no single peer."""
        self._trouble = "FRR has not been asked yet"
        """Why nothing is known; empty while the sockets answer."""
        self._seen: dict[state.Key, Seen] = {}
        self._watched: dict[state.Key, Watched] = {}
        self._since: dict[str, tuple[str, float]] = {}
        self._views: tuple[SessionView, ...] = ()

    # -------------------------------------------------------------------------------- the door

    def apply(self, peers: Sequence[BgpPeer], routes: Routes, node: Node) -> None:
        """The tables in `routes` are not looked into again unless they are other ones."""
        if self._closing:
            return
        if (text := self._extra_lines()) != self._extras_text:
            self._extras_text, self._extras = text, extras.parse(text)
            self._due.set()
        ordered = tuple(sorted(peers, key=lambda peer: peer.name))
        if not self._applied or (ordered, node) != (self._peers, self._node):
            self._peers, self._node = ordered, node
            self._base = render(ordered, node)
        elif same_tables(self._routes, routes):
            return
        self._routes = dict(routes)
        self._applied = True
        self._look()
        self._due.set()

    def sessions(self) -> Sequence[SessionView]:
        return self._views

    def told(self) -> None:
        return None

    async def run(self) -> None:
        failures, rng = 0, random.Random()
        while True:
            try:
                async with AsyncExitStack() as stack:
                    daemons = await self._connect(stack)
                    failures = 0
                    await self._converse(daemons)
            except VtyError as problem:
                failures += 1
                self._lost(str(problem))
            if not self._paths.socket(BGPD).exists():
                await self._without_sockets()
            await trio.sleep(min(backoff(failures, rng), 5.0))

    async def close(self) -> None:
        self._closing = True
        self._base, self._peers, self._routes = Base({}, {}, {}), (), {}
        with trio.move_on_after(GOODBYE) as scope:
            try:
                async with AsyncExitStack() as stack:
                    daemons = await self._connect(stack)
                    await self._reconcile(daemons)
            except VtyError as problem:
                self._lost(str(problem))
                if not self._paths.socket(BGPD).exists():
                    await self._put()
        if scope.cancelled_caught:
            log.warning("frr_goodbye_unfinished", seconds=GOODBYE)
        self._look()

    # --------------------------------------------------------------------------- over the sockets

    async def _connect(self, stack: AsyncExitStack) -> dict[str, Vty]:
        """bgpd, and of the others those that are there; and what they have already.  Raises VtyError."""
        daemons: dict[str, Vty] = {}
        for name in (BGPD, ZEBRA, BFDD):
            if name == BGPD or self._paths.socket(name).exists():
                daemons[name] = await Vty.open(self._paths.socket(name))
                stack.push_async_callback(daemons[name].aclose)
        self._refused.clear()
        self._profiles.clear()
        await self._say(daemons, [*self._logging(daemons), *greet()])
        await self._read(daemons)
        return daemons

    async def _read(self, daemons: Mapping[str, Vty]) -> None:
        self._held = parse_bgpd(await self._show(daemons[BGPD], "show running-config"))
        if BFDD in daemons:
            self._held.profiles = parse_bfdd(await self._show(daemons[BFDD], "show running-config"))

    async def _converse(self, daemons: Mapping[str, Vty]) -> None:
        """Until a daemon goes away, or one comes that was missing.  Raises VtyError."""
        retry_at = 0.0
        told: tuple[Base, Routes] | None = None
        told_too: tuple[Base, tuple[extras.Line, ...]] | None = None
        self._trouble = ""
        while True:
            now = trio.current_time()
            wanted = (self._base, self._routes)
            if self._applied and (
                told is None or wanted[0] is not told[0] or wanted[1] is not told[1] or now >= retry_at
            ):
                if now >= retry_at:
                    self._refused.clear()
                    told_too = None
                told = wanted
                await self._reconcile(daemons)
                retry_at = now + RETRY if self._refused or self._faults else float("inf")
            wanted_too = (self._base, self._extras)
            if self._applied and (
                told_too is None or any(a is not b for a, b in zip(wanted_too, told_too, strict=True))
            ):
                told_too = wanted_too
                await self._say_extras()
                if self._extras_faults:
                    retry_at = min(retry_at, now + RETRY)
            await self._poll(daemons)
            missing = [name for name in (ZEBRA, BFDD) if name not in daemons]
            if any(self._paths.socket(name).exists() for name in missing):
                raise VtyError(f"{', '.join(missing)} came up")
            await self._due.wait(trio.current_time() + POLL)

    async def _reconcile(self, daemons: Mapping[str, Vty]) -> None:
        base = self._acceptable()
        wanted = want(base, self._routes)
        started = trio.current_time()
        blocks = [
            *prepare(base, self._held.profiles, self._profiles),
            *changes(self._held, wanted),
            *clear(base, self._held.profiles),
        ]
        refusals = await self._say(daemons, blocks)
        held = settled(self._held, wanted)
        held.profiles = set(base.profiles)
        self._held = held
        self._profiles = dict(base.profiles)
        self._note(refusals, base)
        if refusals:
            await self._undo(daemons, base, {refusal.peer for refusal in refusals})
            await self._read(daemons)
        lines = sum(len(block.lines) for block in blocks)
        log.info("frr_told", lines=lines, refused=len(refusals), seconds=trio.current_time() - started)

    def _acceptable(self) -> Base:
        """What is wanted without the peers FRR refused, as long as they are as they were then."""
        routers = {}
        for vrf, router in self._base.routers.items():
            kept = tuple(
                neighbor
                for neighbor in router.neighbors
                if self._refused.get(neighbor.peer, ("", ""))[0] != neighbor.digest
            )
            routers[vrf] = replace(router, neighbors=kept)
        return replace(self._base, routers=routers)

    def _logging(self, daemons: Mapping[str, Vty]) -> list[Block]:
        if not self._log_level:
            return []
        return [Block(name, (), (f"log stdout {self._log_level}",)) for name in daemons]

    async def _say(self, daemons: Mapping[str, Vty], blocks: Sequence[Block]) -> list[_Refusal]:
        """Raises VtyError."""
        refusals: list[_Refusal] = []
        for block in blocks:
            if block.peer and any(refusal.peer == block.peer for refusal in refusals):
                continue
            vty = daemons.get(block.daemon)
            if vty is None:
                if block.daemon == BFDD:
                    refusals.append(_Refusal("", f"{block.daemon} does not run, and BFD is wanted"))
                continue
            found = await self._say_block(vty, block)
            for refusal in found:
                log.warning("frr_refused", daemon=vty.name, peer=refusal.peer, why=refusal.text)
            if block.daemon != ZEBRA:  # later versions want to hear from others what concerns zebra
                refusals += found
        return refusals

    async def _say_block(self, vty: Vty, block: Block) -> list[_Refusal]:
        """In one write: were we killed after half a route-map entry, it would stay half for long.  Where the
        way does not lead to its place the lines are unknown commands, and do nothing."""
        commands = ["end", "configure terminal", *block.path, *block.lines]
        try:
            answers = await vty.ask_many(commands)
        except ValueError as problem:
            return [_Refusal(block.peer, str(problem))]
        refusals = [
            _Refusal(block.peer, f"FRR refuses {shown(line)!r}: {shown(answer.why)}")
            for line, answer in zip(commands, answers, strict=True)
            if not answer.ok and not line.startswith("no ")  # what is not there need not go
        ]
        return refusals[:MAX_REFUSALS]

    def _note(self, refusals: Sequence[_Refusal], base: Base) -> None:
        digests = {
            neighbor.peer: neighbor.digest
            for router in base.routers.values()
            for neighbor in router.neighbors
        }
        for refusal in reversed(refusals):  # of several the first one counts
            if refusal.peer:
                self._refused[refusal.peer] = (digests.get(refusal.peer, ""), refusal.text)
        self._faults = tuple(dict.fromkeys(refusal.text for refusal in refusals if not refusal.peer))

    async def _undo(self, daemons: Mapping[str, Vty], base: Base, peers: set[str]) -> None:
        """Half a session is none: without its password, say, it must not come up."""
        for router in base.routers.values():
            for neighbor in router.neighbors:
                if neighbor.peer in peers:
                    await self._say(daemons, [remove_neighbor(router, neighbor)])

    async def _say_extras(self) -> None:
        """After all of ours, to every daemon there is: which of them knows a line only they know.

        Raises VtyError.
        """
        base, wanted = self._base, self._extras
        wanted += extras.attached(wanted, base)
        held = self._extras_held
        if not held and not wanted:
            return
        restored = extras.again(held, wanted, base)
        back = [*restored, *extras.removed(held, wanted, base), *restored]
        async with AsyncExitStack() as stack:
            vtys: list[Vty] = []
            for path in sorted(self._paths.run_dir.glob("*.vty")):
                try:
                    vtys.append(await Vty.open(path))
                except VtyError:
                    continue  # left by a daemon that ran before
                stack.push_async_callback(vtys[-1].aclose)
            for path_, lines in extras.sections(back):
                await self._say_everywhere(vtys, path_, lines)
            faults: list[str] = []
            for path_, lines in extras.sections(wanted):
                faults += await self._say_everywhere(vtys, path_, lines)
        self._extras_held, self._extras_faults = wanted, tuple(faults[:MAX_REFUSALS])
        for why in self._extras_faults:
            log.warning("frr_refused", why=why)
        log.info("frr_extras_told", lines=len(wanted), taken_back=len(back), refused=len(faults))
        self._look()

    async def _say_everywhere(
        self, vtys: Sequence[Vty], path: tuple[str, ...], lines: tuple[str, ...]
    ) -> list[str]:
        """What no daemon took, and why.  Raises VtyError."""
        said: list[list[Answer]] = []
        try:
            for vty in vtys:
                way = await vty.ask_many(["end", "configure terminal", *path])
                if all(answer.ok for answer in way):  # else the lines would be said in another place
                    said.append(await vty.ask_many(lines))
        except ValueError as problem:
            return [f"{EXTRAS}: {problem}"]
        faults: list[str] = []
        for line, answers in zip(lines, zip(*said, strict=True), strict=False):
            if any(answer.ok for answer in answers):
                continue
            why = next((each.why for each in answers if each.status != UNKNOWN), "no daemon knows it")
            faults.append(f"{EXTRAS}: FRR refuses {shown(line)!r}: {shown(why)}")
        return faults

    async def _show(self, vty: Vty, command: str) -> str:
        """Raises VtyError."""
        _, answer = await vty.ask_many(["end", command])
        if not answer.ok:
            raise VtyError(f"{vty.name}: {command}: {answer.why}")
        return answer.text

    # -------------------------------------------------------------------------------- the sessions

    async def _poll(self, daemons: Mapping[str, Vty]) -> None:
        """Raises VtyError."""
        try:
            self._seen = state.decode_neighbors(await self._show(daemons[BGPD], state.SHOW_NEIGHBORS))
            self._watched = {}
            for vrf in self._base.routers:
                if BFDD in daemons and any(peer.bfd and vrf_of(peer) == vrf for peer in self._peers):
                    name = vrf or "default"
                    shown_peers = await self._show(daemons[BFDD], state.SHOW_BFD.format(name))
                    counters = await self._show(daemons[BFDD], state.SHOW_BFD_COUNTERS.format(name))
                    found = state.decode_bfd(shown_peers, counters)
                    self._watched |= {(vrf, address): watched for address, watched in found.items()}
        except BadState as problem:
            raise VtyError(f"what FRR shows is not understood: {problem}") from None
        self._look()

    def _lost(self, why: str) -> None:
        if why != self._trouble:
            log.warning("frr_unreachable", why=why)
        self._trouble = why
        self._seen, self._watched = {}, {}
        self._look()

    def _look(self) -> None:
        views = tuple(map(self._view, self._peers))
        self._since = {view.peer: (view.state, view.since) for view in views}
        before, self._views = self._views, views
        if list(map(uncounted, views)) != list(map(uncounted, before)):
            self._changed()

    def _view(self, peer: BgpPeer) -> SessionView:
        key = (vrf_of(peer), peer_id(peer))
        refused = self._base.refused.get(peer.name) or self._refused.get(peer.name, ("", ""))[1]
        seen = None if refused else self._seen.get(key)
        watched = self._watched.get(key) if peer.bfd is not None and seen is not None else None
        found = seen.state if seen is not None else "Idle"
        before, since = self._since.get(peer.name, ("", 0.0))
        if seen is not None and seen.established_at is not None:
            # FRR counts in whole seconds, from now: what moves by one is the same
            if found != before or abs(seen.established_at - since) > JITTER:
                since = seen.established_at
        elif found != before:
            since = self._wall()
        error = refused or self._trouble or (seen.error if seen is not None else "")
        return SessionView(
            peer=peer.name,
            address=key[1],
            port=peer.port,
            vrf=peer.vrf,
            state=found,
            since=since,
            last_error=error or next(iter((*self._faults, *self._extras_faults)), ""),
            wanted=len(self._routes.get(peer.name, {})),
            sent=seen.sent if seen is not None else 0,
            bfd=(watched.state if watched is not None else "Down") if peer.bfd is not None else "",
            counters={**(seen.counters if seen else {}), **(watched.counters if watched else {})},
        )

    # --------------------------------------------------------------------------- without the sockets

    async def _without_sockets(self) -> None:
        """Render frr.conf and have it read, until bgpd's socket is there.

        Of the sessions nothing is known then."""
        told: tuple[Base, Routes, str] | None = None
        again_at = float("inf")
        self._held = Held()
        while not self._paths.socket(BGPD).exists():
            now = (self._base, self._routes, self._extras_text)
            if self._applied and (told is None or any(a is not b for a, b in zip(now, told, strict=True))):
                with trio.move_on_at(trio.current_time() + self._debounce if told is not None else 0):
                    await trio.sleep_forever()  # the newest wins
                told = (self._base, self._routes, self._extras_text)
                failure = await self._put()
                again_at = trio.current_time() + RETRY if failure else float("inf")
                self._trouble = failure or (
                    f"{self._paths.socket(BGPD)} is not there: FRR was told by {self._paths.config_file}, "
                    "its sessions cannot be seen"
                )
            if trio.current_time() >= again_at:
                told = None
            if self._reload.has_reloader and (complaint := self._reload.status()):
                self._trouble = complaint
            self._look()
            await self._due.wait(trio.current_time() + POLL)

    async def _put(self) -> str:
        """Returns what went wrong."""
        base = self._base  # another one may be wanted before this one is told
        wanted = want(base, self._routes)
        head = [*greet(), *prepare(base, set(), {})]
        tail = clear(base, self._held.profiles)
        more = extras.attached(self._extras, base)
        after = f"{self._extras_text}\n{part(_blocks(more))}" if self._extras_text else ""
        told_too = (*self._extras, *more)
        restored = extras.again(self._extras_held, told_too, base)
        back = [*restored, *extras.removed(self._extras_held, told_too, base), *restored]
        try:
            await self._reload.put(
                whole([*head, *changes(Held(), wanted)]) + after,
                whole([*head, *changes(self._held, wanted), *tail, *_blocks(back)]) + after,
            )
        except ReloadError as problem:
            log.warning("frr_not_told", why=problem)
            return str(problem)
        self._held, self._extras_held = settled(self._held, wanted), told_too
        self._held.profiles = set(base.profiles)
        return ""


def _blocks(lines: Iterable[extras.Line]) -> list[Block]:
    """For a file: whoever reads it finds the daemon for each line."""
    return [Block(BGPD, path, found) for path, found in extras.sections(lines)]
