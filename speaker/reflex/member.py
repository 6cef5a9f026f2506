"""Our membership in the gossip cluster: opened with the first orders, joined and kept joined, left on
purpose."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Callable, Sequence
from typing import Final

import trio

from crier.ops import logs
from memberlist import (
    Config,
    ConfigError,
    Conflict,
    Delegate,
    Event,
    JoinError,
    Member,
    Node,
    Statistics,
    Timeout,
    open_member,
)

log = logs.get(__name__)

JOIN_RETRY_MIN: Final = 0.5
JOIN_RETRY_MAX: Final = 60.0
"""Seconds between attempts to reach anybody at all: doubling."""

KNOCK_PAUSE: Final = 0.2
"""Seconds between two looks for those who are no members though the API knows their addresses.  Once both
sides of a cut hold each other for dead, memberlist leaves to chance when they hear of each other again."""
KNOCK_PATIENCE: Final = 0.5
"""Seconds an exchange with one of them may take: on a LAN milliseconds do.  The next looks do not wait."""
KNOCKERS: Final = 3
"""Members that look at one time, on average, and how many each looks for: what is not there costs a cluster
the same few packets whatever its size."""

REOPEN_PAUSE: Final = 0.5
"""Seconds until the port is tried again that our predecessor still holds."""

LEAVE_TIMEOUT: Final = 1.0
UPDATE_TIMEOUT: Final = 0.1
"""Seconds between two changes of our metadata at least, while gossip is busy with the first."""
MAX_JOINS: Final = 8
"""Exchanges at one time."""
MAX_SEEDS: Final = 4096


class _Describer(Delegate):
    def __init__(self) -> None:
        self.meta: bytes | None = None

    def node_meta(self, limit: int) -> bytes | None:  # noqa: ARG002 - a card keeps within it
        return self.meta


class Membership:
    """`changed` is called in the very call that took in the news, and must not block; so are the others."""

    def __init__(
        self,
        config: Config,
        *,
        opened: Callable[[], None],
        joined: Callable[[], None],
        changed: Callable[[Event], None],
        knocks: Callable[[str], None] = lambda _: None,
        rng: random.Random | None = None,
    ) -> None:
        """`knocks`: at this address somebody who is lost is about to be looked for."""
        self._config = config
        self._knocks = knocks
        self._rng = rng or random.Random()
        self._opened, self._joined, self._changed = opened, joined, changed
        self._wanted = trio.Event()
        self._member: Member | None = None
        self._seeds: tuple[str, ...] = ()
        self._reached = False
        self._news = trio.Event()
        self._leaving = False
        self._describer = _Describer()
        self._described_anew = trio.Event()

    # ----------------------------------------------------------------------------------- from outside

    def open(self) -> None:
        """Become a member; again is no error."""
        self._wanted.set()

    def seeds(self, addresses: tuple[str, ...]) -> None:
        """Where others may be, `ip` or `ip:port`."""
        self._seeds = addresses[:MAX_SEEDS]
        self._news.set()

    def describe(self, meta: bytes) -> None:
        """Our metadata from now on; told to everybody at once."""
        self._describer.meta = meta
        self._described_anew.set()

    def nodes(self) -> tuple[Node, ...]:
        """Everybody remembered, the dead and gone included; nobody before we are open."""
        return self._member.nodes() if self._member is not None else ()

    @property
    def health(self) -> int:
        return self._member.health if self._member is not None else 0

    def statistics(self) -> Statistics | None:
        """None while we are not open."""
        return self._member.statistics() if self._member is not None else None

    async def leave(self) -> None:
        """Say goodbye.  We go on answering pings until `run` is cancelled."""
        self._leaving = True
        if self._member is not None:
            try:
                await self._member.leave(LEAVE_TIMEOUT)
            except Timeout as problem:
                log.info("leave_unconfirmed", why=str(problem))

    # ------------------------------------------------------------------------------------------ tasks

    async def run(self) -> None:
        """For ever.  A port that is taken is waited for: until then nobody counts on us."""
        await self._wanted.wait()
        told = False
        while True:
            try:
                await self._be_member()
            except ConfigError as problem:
                if not told:
                    log.error("gossip_not_open", error=problem, retry_every=REOPEN_PAUSE)
                told = True
                await trio.sleep(REOPEN_PAUSE)

    async def _be_member(self) -> None:
        self._described_anew = trio.Event()
        async with open_member(self._config, delegate=self._describer) as member:
            self._member = member
            host, port = member.address
            log.info("gossip_open", address=host, port=port, encrypted=bool(self._config.keyring))
            try:
                member.observe(self._on_event)
                self._opened()
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._keep_described, member)
                    nursery.start_soon(self._keep_knocking, member)
                    await self._keep_joined(member)
            finally:
                self._member = None

    async def _keep_joined(self, member: Member) -> None:
        retry = JOIN_RETRY_MIN
        while True:
            self._news = trio.Event()
            strangers = self._strangers(member)
            if strangers and not self._leaving:
                await self._join(member, strangers)
            if not self._reached and self._others(member):
                self._reach("they came to us")
            if self._reached:
                await self._news.wait()
                continue
            with trio.move_on_after(retry):
                await self._news.wait()
                continue
            retry = min(2 * retry, JOIN_RETRY_MAX)

    async def _keep_knocking(self, member: Member) -> None:
        """Once we are among others: find again who was lost, soon after it can be found."""
        async with trio.open_nursery() as nursery:
            while True:
                await trio.sleep(self._rng.uniform(0.8, 1.2) * KNOCK_PAUSE)
                if self._leaving or not self._reached:
                    continue
                for seed in knocked(self._strangers(member), len(member.members()), self._rng):
                    nursery.start_soon(self._knock, member, seed)

    async def _knock(self, member: Member, seed: str) -> None:
        self._knocks(_parse(seed, 0)[0])
        with trio.move_on_after(KNOCK_PATIENCE), contextlib.suppress(JoinError):
            await member.join([seed])
            log.info("found_again", address=seed)

    async def _keep_described(self, member: Member) -> None:
        while True:
            await self._described_anew.wait()
            self._described_anew = trio.Event()
            with contextlib.suppress(Timeout):  # gossip goes on without us waiting for it
                await member.update(UPDATE_TIMEOUT)

    def _others(self, member: Member) -> bool:
        return any(node.reachable and node.name != self._config.name for node in member.members())

    def _reach(self, how: str) -> None:
        self._reached = True
        log.info("joined", address=how)
        self._joined()

    def _on_event(self, event: Event) -> None:
        self._changed(event)
        if not self._reached:
            # Not in this call: whoever dialled us is still telling whom else it knows.
            self._news.set()

    def _strangers(self, member: Member) -> list[str]:
        """Seeds that are no members, and not we."""
        known = {(node.address, node.port) for node in member.members()} | {member.address}
        default = self._config.bind[1]
        return [seed for seed in self._seeds if _parse(seed, default) not in known]

    async def _join(self, member: Member, seeds: list[str]) -> None:
        limit = trio.CapacityLimiter(MAX_JOINS)

        async def join(seed: str) -> None:
            async with limit:
                try:
                    reached = await member.join([seed])
                except JoinError as problem:
                    log.info("not_joined", address=seed, why=str(problem))
                    return
            if reached and not self._reached:
                self._reach(seed)

        async with trio.open_nursery() as nursery:
            for seed in seeds:
                nursery.start_soon(join, seed)


def knocked(strangers: Sequence[str], members: int, rng: random.Random) -> list[str]:
    """Whom one of so many members looks for this time."""
    if rng.random() * members >= KNOCKERS:
        return []
    return rng.sample(strangers, min(KNOCKERS, len(strangers)))


def _parse(seed: str, default_port: int) -> tuple[str, int]:
    """`ip`, `ip:port` or `[ip]:port`."""
    if seed.startswith("["):
        host, _, port = seed[1:].partition("]")
        port = port.removeprefix(":")
    elif seed.count(":") == 1:
        host, _, port = seed.partition(":")
    else:
        host, port = seed, ""
    return host, int(port) if port.isascii() and port.isdigit() else default_port


def is_conflict(event: Event) -> str | None:
    """The name two members claim, if that is what the event says."""
    return event.node.name if isinstance(event, Conflict) else None
