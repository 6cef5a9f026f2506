"""The reflex: orders, members and frames in; answers and announcements out.  It joins the parts and
decides nothing.

Everything that has to happen at once happens in the call that brought the news: from a member's end to
the first announcement there is no queue and no other task.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import random
import time
from collections import deque
from collections.abc import Sequence
from typing import Final

import trio

from crier.ops import logs
from memberlist import (
    Config,
    Died,
    Event,
    Joined,
    Left,
    Node,
    Reachable,
    Statistics,
    Unreachable,
    UserMessage,
)  # fmt: skip
from memberlist import State as NodeState
from speaker.orders import (
    MAX_WATCHED,
    PROTOCOL,
    Gossip,
    Hello,
    Members,
    MemberView,
    Pulse,
    Sealed,
    SealedOrders,
    SealedVips,
    Seeds,
    Vip,
)
from speaker.orders import Happened as HappenedMessage
from speaker.reflex import bfd, card, fair, realtime
from speaker.reflex.announce import Announcer
from speaker.reflex.card import Card
from speaker.reflex.effects import Announce, Answer, Ask, Effect, Happened, Interfaces, Probe, Silence, Yield
from speaker.reflex.intake import Intake, Reading
from speaker.reflex.l2.core import pack
from speaker.reflex.l2.driver import Driver
from speaker.reflex.l2.ethernet import render_mac
from speaker.reflex.l2.links import Excluded, Link
from speaker.reflex.l2.respond import Kind
from speaker.reflex.l2.wire import Heed
from speaker.reflex.member import Membership, is_conflict
from speaker.reflex.outbox import Outbox
from speaker.reflex.ownership import union
from speaker.reflex.peers import Peer, Peers
from speaker.reflex.pulse import Lateness
from speaker.reflex.selfcheck import Finding, SelfCheck, Subject, Witness
from speaker.reflex.snapshots import VipReport
from speaker.reflex.vip import Rival
from speaker.settings import ConflictPolicy

log = logs.get(__name__)

PULSE_INTERVAL: Final = 1.0
COUNTED_EVERY: Final = 5
"""Pulses between two reports of counters."""
ANYWAY_EVERY: Final = 60
"""Pulses after which they are reported though nothing changed: what is told of strangers expires."""
_CHUNK: Final = 32
"""Addresses looked at in one go."""
_MANY: Final = 1000
"""Addresses that changed at once."""
_FLUSH_FIRST: Final = 16
"""Effects applied until the first frames go out."""
_TELL_CHUNK: Final = 16
_MAX_UNTOLD: Final = 65536

_MEMBER_EVENTS: Final = {
    Joined: "member_joined",
    Left: "member_left",
    Died: "member_died",
    Unreachable: "member_unreachable",
    Reachable: "member_reachable",
}


class Reflex:
    def __init__(
        self,
        node: str,
        config: Config | None,
        excluded: Excluded,
        policy: ConflictPolicy,
        *,
        probe_time: float = 0.0,
        self_check_interval: float = 0.0,
    ) -> None:
        """`config` None: there is no gossip.  `probe_time` and `self_check_interval` in seconds; 0: not at
        all.
        """
        self._node = node
        self._started_at = trio.current_time()
        self._announcer = Announcer(node, membership=config is not None, policy=policy, probe_time=probe_time)
        self._check: SelfCheck | None = None
        if self_check_interval:
            self._check = SelfCheck(node, self_check_interval, random.Random())
        self.l2 = Driver(excluded, heard=self._on_heard, on_link=self._on_link, on_links=self._on_links)
        self.membership: Membership | None = None
        if config is not None:
            self.membership = Membership(
                config,
                opened=self._on_opened,
                joined=self._on_joined,
                changed=self._on_members,
                knocks=self._on_knock,
            )
        self.lateness = Lateness()
        self.bfd = bfd.Sessions(changed=self._on_bfd, happened=self._happened, rng=random.SystemRandom())
        self.outbox = Outbox(
            {
                "bfd": self.bfd.snapshot,
                "members": self._members,
                "vips": self._vips,
                "pulse": self._pulse,
            }
        )
        self._peers = Peers()
        self._report = VipReport(self._announcer, self.l2.core, self._answered_by, self._peers.is_speaker)
        self._told_counted = (0, 0)
        self._told_decided = 0
        self._intake = Intake(node)
        self._generation = self._taken = 0
        """Of the orders in force, and of those that are becoming so."""
        self._restrictions: dict[int, Interfaces] = {}
        """The interfaces here for each restriction in the orders for which we are a candidate."""
        self._card = Card()
        self._texts: dict[bytes, str] = {}
        self._blocks: dict[int, set[int]] = {}
        self._wake = trio.Event()
        self._untold: deque[HappenedMessage] = deque(maxlen=_MAX_UNTOLD)
        self._wake_teller = trio.Event()

    # --------------------------------------------------------------------------------- what comes in

    async def take(self, message: Sealed) -> None:
        """A message of the planner.  Raises BadOrder."""
        match message:
            case SealedOrders():
                await self._take_orders(message)
            case Seeds(addresses):
                if self.membership is not None:
                    self.membership.seeds(addresses)

    async def _take_orders(self, orders: SealedOrders) -> None:
        bfd.check(orders.bfd)
        reading = Reading()
        for _ in self._intake.read(orders, reading):  # all of them are checked before any is believed
            await trio.lowlevel.checkpoint()
        self.bfd.order(orders.bfd)
        self._texts = reading.texts
        if reading.blocks != self._blocks:
            self._blocks = reading.blocks
            self.l2.heed(Heed.of(reading.blocks))
        self.l2.watch(self._texts)
        self._restrictions = reading.restrictions
        self._describe()
        gone = [address for address in self._announcer.addresses() if address not in reading.entries]
        changes: dict[str, tuple[Vip, ...]] = {}
        changed = 0
        for number, address in enumerate((*gone, *reading.entries), 1):
            entries = reading.entries.get(address, ())
            if self._announcer.entries(address) != entries:
                changes[address] = entries
                changed += 1
            if number % _CHUNK == 0:
                self._perform(self._announcer.change(changes, trio.current_time(), more=True))
                changes = {}
                await trio.lowlevel.checkpoint()
        self._taken = orders.generation
        self._perform(self._announcer.change(changes, trio.current_time()))
        while self._announcer.changing:
            await trio.lowlevel.checkpoint()
            self._perform(self._announcer.tick(trio.current_time()))
        if changed >= _MANY:
            realtime.keep_for_good()
        if self.membership is not None:
            self.membership.open()

    def _on_bfd(self) -> None:
        self.outbox.mark("bfd")

    def _on_opened(self) -> None:
        self._announcer.open(trio.current_time())
        self._on_view()

    def _on_joined(self) -> None:
        self._perform(self._announcer.joined(trio.current_time()))
        self.outbox.mark("members")

    def _on_members(self, event: Event) -> None:
        if isinstance(event, UserMessage):
            return
        # the news before what follows from it: from the one to the other is what a take-over takes
        what = _MEMBER_EVENTS.get(type(event))
        if (name := is_conflict(event)) is not None:
            self._happened("name_conflict", name, "another member uses this name")
        elif what is not None and hasattr(event, "node"):
            self._happened(what, event.node.name, f"{event.node.address}:{event.node.port}")
        self._on_view()

    def _on_knock(self, address: str) -> None:
        with contextlib.suppress(ValueError):
            self.l2.greet(pack(address), self._peers.macs(address))

    def _on_view(self) -> None:
        assert self.membership is not None
        nodes = self.membership.nodes()
        reachable = {node.name for node in nodes if node.reachable}
        unable = {node.name: frozenset(_card(node.meta).unable) for node in nodes}
        self._peers.update(
            # also who is gone: one that comes back, maybe as another kind of speaker, announces before we
            # hear that it lives, and the last frames of one that left may come after that news
            Peer(node.name, node.address, _card(node.meta).macs, gone=node.state is NodeState.LEFT)
            for node in nodes
            if node.name != self._node
        )
        unable[self._node] = frozenset(self._card.unable)  # known here first
        self._perform(self._announcer.members(reachable, trio.current_time(), unable))
        self.outbox.mark("members")

    def _on_heard(self, address: bytes, mac: bytes, kind: Kind) -> None:
        text = self._texts.get(address)
        if text is None:
            return
        now = trio.current_time()
        rival = Rival(render_mac(mac), self._peers.who(mac, now), asks=kind is Kind.PROBED)
        log.debug("heard", address=text, mac=rival.mac, speaker=rival.speaker, what=kind.name)
        if kind is Kind.ANSWERED and self._check is not None:
            asked = self._check.heard(text, Witness(rival.mac, rival.speaker))
            if asked and not rival.stranger:
                return  # we wanted to know; it announced nothing
        self._perform(self._announcer.heard(text, now, rival))

    def _on_links(self) -> None:
        if self._describe():
            self._on_view()

    def _describe(self) -> bool:
        """Put on our card what is true now; whether that is news."""
        if self.membership is None:
            return False
        now = trio.current_time()
        lost = sorted(key for key, names in self._restrictions.items() if self.l2.carrier.lost(names, now))
        macs = dict.fromkeys(link.mac for link in self.l2.core.links)
        made = Card(tuple(macs)[: card.MAX_MACS], tuple(lost)[: card.MAX_UNABLE])
        self._wake.set()  # what has just come back is believed a little later
        if made == self._card:
            return False
        self._card = made
        self.membership.describe(card.encode(made))
        return True

    def _on_link(self, what: str, link: Link) -> None:
        self._happened(what, link.name, f"hardware address {render_mac(link.mac)}")
        self.outbox.mark("vips")

    # -------------------------------------------------------------------------------------- what to do

    def _perform(self, effects: Sequence[Effect]) -> None:
        self._wake.set()  # without effects, too: something may be due sooner now
        if not self._announcer.changing and self._generation != self._taken:
            self._generation = self._taken
            self.outbox.mark("vips")
        if self._announcer.decided != self._told_decided:
            self._told_decided = self._announcer.decided
            self.outbox.mark("vips")
        if not effects:
            return
        for number, effect in enumerate(effects, 1):
            match effect:
                case Answer(address, interfaces):
                    self.l2.answer(pack(address), interfaces)
                case Yield(address):
                    self.l2.hush(pack(address))
                case Silence(address):
                    self.l2.silence(pack(address))
                case Probe(address, interfaces):
                    self.l2.probe(pack(address), interfaces)
                case Ask(address, interfaces):
                    self.l2.question(pack(address), interfaces)
                case Announce(address, rounds):
                    self.l2.announce(pack(address), rounds)
                case Happened(what, subject, why, mac):
                    self._happened(what, subject, why, mac)
            if (
                number == _FLUSH_FIRST
            ):  # the first few do not wait for the thousandth; the rest gets its share
                self.l2.flush()
        self.l2.flush()
        self.outbox.mark("vips")

    def _happened(self, what: str, subject: str, why: str, mac: str = "") -> None:
        """Telling can wait: thousands may happen in one moment, and a log line costs what ten frames do."""
        if len(self._untold) == _MAX_UNTOLD:
            self.outbox.lost += 1
        self._untold.append(HappenedMessage(time.time(), what, subject, why, mac))
        self._wake_teller.set()

    # ------------------------------------------------------------------------------------------- tasks

    async def keep_time(self) -> None:
        """For ever: whatever the announcer has to do at a set time."""
        while True:
            self._wake = trio.Event()
            links_at = self.l2.carrier.next_deadline(trio.current_time())
            with trio.move_on_at(min(self._announcer.next_deadline(), links_at)):
                await self._wake.wait()
                continue
            if trio.current_time() >= links_at:
                self._on_links()
            self._perform(self._announcer.tick(trio.current_time()))

    async def tell(self) -> None:
        """For ever: what happened, into the log and up to the planner."""
        while True:
            self._wake_teller = trio.Event()
            if not self._untold:
                await self._wake_teller.wait()
            began = trio.current_time()
            self.tell_some(_TELL_CHUNK)
            await fair.rest(began)

    def tell_some(self, limit: int) -> None:
        for _ in range(min(limit, len(self._untold))):
            event = self._untold.popleft()
            log.info(event.what, subject=event.subject, why=event.why)
            self.outbox.happened(event)

    async def beat(self) -> None:
        """For ever: how we are, once a second; counters and the wire's answers, if they changed, less often,
        for all VIPs are looked at for that."""
        for number in itertools.count(1):
            await trio.sleep(PULSE_INTERVAL)
            self.outbox.mark("pulse")
            if self.bfd:
                self.outbox.mark("bfd")
            if number % COUNTED_EVERY:
                continue
            news = (self.l2.counted, self._check.changes if self._check is not None else 0)
            if news != self._told_counted or number % ANYWAY_EVERY == 0:
                self._told_counted = news
                self.outbox.mark("vips")

    async def refresh(self, interval: float, rng: random.Random) -> None:
        """For ever: announce what is ours again, every `interval` seconds or up to a tenth more or less."""
        while True:
            await trio.sleep(interval * rng.uniform(0.9, 1.1))
            for number, address in enumerate(tuple(self._announcer.addresses()), 1):
                if self._announcer.owns(address):
                    self.l2.announce(pack(address), 1)
                if number % _CHUNK == 0:
                    await trio.lowlevel.checkpoint()

    async def check(self) -> None:
        """For ever: ask the wire who answers for the VIPs, and tell what is amiss."""
        assert self._check is not None
        while True:
            await trio.sleep(self._check.pause())
            now = trio.current_time()
            for finding in self._check.conclude(now, self._owner):
                if isinstance(finding, Finding):
                    self._happened(finding.verdict.value, finding.address, finding.why, finding.mac)
                    self.outbox.mark("vips")
                else:
                    rival = Rival(finding.witness.mac, finding.witness.speaker)
                    self._perform(self._announcer.heard(finding.address, now, rival))
            if not self._announcer.may_answer:
                continue
            for address in self._check.choose(self._announcer.addresses(), now):
                self._ask(address, self._check, now)

    def _ask(self, address: str, check: SelfCheck, now: float) -> None:
        owner = self._owner(address)
        if owner is None:
            return
        entries = self._announcer.entries(address)
        candidates = next((entry.candidates for entry in entries if owner in entry.candidates), ())
        here = [entry.interfaces for entry in entries if self._node in entry.candidates]
        if self.l2.question(pack(address), union(here) if here else None):
            check.asked(Subject(address, owner, candidates), now)

    def _owner(self, address: str) -> str | None:
        """Who should answer for it now; None while that is about to change."""
        view = self._announcer.view(address)
        if view is None or (view.owner == self._node) is not self._announcer.owns(address):
            return None
        return view.owner

    def _answered_by(self, address: str) -> tuple[tuple[str, ...], str]:
        return self._check.state(address) if self._check is not None else ((), "")

    async def leave(self) -> None:
        """Hand everything over.  Returns when each successor was heard or its time is up."""
        self._perform(self._announcer.leave(trio.current_time()))
        async with trio.open_nursery() as nursery:
            if self.membership is not None:
                nursery.start_soon(self.membership.leave)
            while self._announcer.answering:
                await self._wake.wait()

    # --------------------------------------------------------------------------------------- snapshots

    def hello(self, starts: int) -> Hello:
        return Hello(
            protocol=PROTOCOL,
            node=self._node,
            generation=self._generation,
            membership=self.membership is not None,
            planner_starts=starts,
        )

    async def _members(self) -> Members:
        nodes = self.membership.nodes() if self.membership is not None else ()
        members = tuple(
            _member(node, self._card if node.name == self._node else _card(node.meta))
            for node in sorted(nodes, key=lambda node: node.name)
        )
        return Members(members=members, joined=self._announcer.may_answer)

    async def _vips(self) -> SealedVips:
        return await self._report.make(self._generation)

    async def _pulse(self) -> Pulse:
        return Pulse(
            uptime=trio.current_time() - self._started_at,
            loop_late_max=self.lateness.take_worst(),
            loop_late_p99=self.lateness.p99(),
            health=self.membership.health if self.membership is not None else 0,
            happenings_lost=self.outbox.lost,
            gossip=_gossip(self.membership.statistics()) if self.membership is not None else None,
        )


def _gossip(found: Statistics | None) -> Gossip | None:
    if found is None:
        return None
    watched = itertools.islice(sorted(found.watched.items()), MAX_WATCHED)
    return Gossip(
        watched={_text(name): accused for name, accused in watched},
        alone=found.alone,
        queued=found.queued,
        probes=found.probes,
        probes_failed=found.probes_failed,
        late=found.late_count,
        packets={
            "received": found.packets_received,
            "dropped": found.packets_dropped,
            "sent": found.packets_sent,
            "unsent": found.packets_unsent,
        },
    )


def _text(name: str) -> str:
    """A member's name may be any octets; what goes up must be text."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


@functools.lru_cache(maxsize=1024)
def _card(meta: bytes | None) -> Card:
    """A member's card; what is none says nothing."""
    try:
        return card.decode(meta)
    except card.BadCard as problem:
        log.debug("card_unreadable", why=str(problem))
        return Card()


def _member(node: Node, about: Card) -> MemberView:
    return MemberView(
        name=_text(node.name),
        address=node.address,
        port=node.port,
        state=node.state.name.lower(),
        reachable=node.reachable,
        unable=about.unable,
    )
