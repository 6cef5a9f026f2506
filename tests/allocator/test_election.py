"""The election: whatever the API, the clocks and the processes do, there are never two who may write."""

from __future__ import annotations

import heapq
import itertools
import random
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from allocator.election import (
    LEASE,
    POLL,
    RENEW,
    VALID,
    Effect,
    Elector,
    Lead,
    Lost,
    Read,
    Write,
)
from allocator.fence import Fence, FencedTransport
from crier.kube.client import Api
from crier.kube.errors import NotFound, Unavailable
from crier.kube.model.lease import Lease
from crier.kube.resources import NAMESPACES
from tests.allocator.clusters import open_cluster


def lease(holder: str, version: int = 1, *, duration: int = 6, transitions: int = 0) -> Lease:
    return Lease(
        namespace="n",
        name="l",
        resource_version=str(version),
        holder=holder,
        duration=duration,
        acquired="then",
        transitions=transitions,
    )


def elector(name: str = "me", now: float = 0.0) -> Elector:
    return Elector(name, rng=random.Random(1), now=now)


def leader(now: float = 0.0) -> Elector:
    it = elector(now=now)
    assert it.tick(now) == [Read()]
    (write,) = it.found(None, now)
    assert isinstance(write, Write)
    assert it.wrote(lease("me"), now) == [Lead()]
    return it


def test_the_margins() -> None:
    """A leader's right ends before the others' patience, and it has time for several tries."""
    assert RENEW * 2 < VALID < LEASE * 0.8
    assert POLL < RENEW


def test_the_first_makes_the_lease() -> None:
    it = elector()
    assert it.tick(0) == [Read()]
    assert it.tick(0) == [], "one request at a time"
    assert it.found(None, 0.1) == [Write(resource_version="", holder="me", transitions=0, acquired="")]
    assert not it.is_valid(0.1)
    assert it.wrote(lease("me"), 0.3) == [Lead()]
    assert it.is_valid(0.1 + VALID - 0.01), "from the moment it asked"
    assert not it.is_valid(0.1 + VALID)


def test_who_waits_takes_the_lease_when_it_has_seen_it_unchanged_for_long_enough() -> None:
    it = elector()
    it.tick(0)
    assert it.found(lease("other", 7), 1.0) == []
    write, now = look_until_it_writes(it, lease("other", 7, transitions=3))
    assert write == Write(resource_version="7", holder="me", transitions=4, acquired="")
    assert now == pytest.approx(1.0 + LEASE, abs=0.02)


def test_a_renewal_begins_the_wait_anew() -> None:
    it = elector()
    it.tick(0)
    it.found(lease("other", 7), 0.0)
    it.tick(LEASE)
    assert it.found(lease("other", 8), LEASE) == []
    it.tick(2 * LEASE - 0.1)
    assert it.found(lease("other", 8), 2 * LEASE - 0.1) == []


def test_a_lease_given_back_is_taken_at_once() -> None:
    it = elector()
    it.tick(0)
    it.found(lease("other", 7), 0.0)
    it.tick(POLL * 2)
    (write,) = it.found(lease("", 8), POLL * 2)
    assert isinstance(write, Write)
    assert (write.resource_version, write.holder) == ("8", "me")


def test_a_deleted_lease_is_not_made_before_its_holder_must_know() -> None:
    it = elector()
    it.tick(0)
    it.found(lease("other", 7), 0.0)
    write, now = look_until_it_writes(it, None)
    assert write.resource_version == ""
    assert now == pytest.approx(LEASE, abs=0.02)


def look_until_it_writes(it: Elector, what: Lease | None) -> tuple[Write, float]:
    while True:
        now = it.next_deadline()
        assert it.tick(now) == [Read()]
        for effect in it.found(what, now):
            assert isinstance(effect, Write)
            return effect, now


def test_a_clock_that_jumps_is_not_patience() -> None:
    it = elector()
    it.tick(0)
    it.found(lease("other", 7), 0.0)
    it.tick(3600.0)
    assert it.found(lease("other", 7), 3600.0) == []
    _, now = look_until_it_writes(it, lease("other", 7))
    assert now == pytest.approx(3600 + LEASE - 1, abs=0.02)


@pytest.mark.parametrize("duration", [-5, 0, 1, 10**12])
def test_a_duration_somebody_wrote_is_believed_within_reason(duration: int) -> None:
    it = elector()
    it.tick(0)
    it.found(lease("other", 7, duration=duration), 0.0)
    _, now = look_until_it_writes(it, lease("other", 7, duration=duration))
    assert LEASE - 1e-6 <= now <= 60.1


def test_a_leader_renews_and_stops_when_it_cannot() -> None:
    it = leader()
    assert it.next_deadline() == RENEW
    (write,) = it.tick(RENEW)
    assert write == Write(resource_version="1", holder="me", transitions=0, acquired="then")
    it.wrote(lease("me", 2), RENEW + 0.1)
    assert it.valid_until == RENEW + VALID
    while it.is_valid(now := it.next_deadline()):
        assert len(it.tick(now)) == 1
        it.failed(now + 0.01)
    (lost,) = it.tick(now)
    assert isinstance(lost, Lost)
    assert now == RENEW + VALID
    assert it.tick(now + 100) == []
    assert it.next_deadline() == float("inf")


def test_a_leader_asks_what_happened_when_its_version_is_old() -> None:
    it = leader()
    it.tick(RENEW)
    it.refused(RENEW)
    assert it.tick(it.next_deadline()) == [Read()]
    assert it.found(lease("me", 5), 2.0) == [
        Write(resource_version="5", holder="me", transitions=0, acquired="then")
    ]
    it.refused(2.0)
    it.tick(it.next_deadline())
    (lost,) = it.found(lease("thief", 6), 2.5)
    assert isinstance(lost, Lost)
    assert not it.is_valid(2.5)


def test_an_answer_that_comes_too_late_is_worth_nothing() -> None:
    it = elector()
    it.tick(0)
    it.found(None, 0.0)
    assert it.wrote(lease("me"), VALID) == [Read()]
    assert not it.is_valid(VALID)


def test_giving_back() -> None:
    it = leader()
    assert it.release() == Write(resource_version="1", holder="", transitions=0, acquired="then")
    assert not it.is_valid(0.0)
    assert it.tick(1.0) == []
    assert elector().release() is None


# ---------------------------------------------------------------------------------- simulation


@dataclass
class Node:
    elector: Elector
    offset: float
    rate: float
    """Of its clock."""
    resumes_at: float = 0.0
    """Paused until then; its clock runs on."""
    dead: bool = False
    led_at: list[float] = field(default_factory=list)

    def clock(self, true: float) -> float:
        return self.offset + true * self.rate

    def true(self, clock: float) -> float:
        return (clock - self.offset) / self.rate

    def may_write(self, true: float) -> bool:
        return not self.dead and self.elector.is_valid(self.clock(true))


class World:
    """An API that loses, delays and repeats; nodes that pause, jump ahead and die.  One seed, one history."""

    def __init__(self, seed: int, size: int) -> None:
        self.rng = random.Random(seed)
        self.now = 0.0
        self.stored: Lease | None = None
        self.version = 0
        self.nodes: list[Node] = []
        self.agenda: list[tuple[float, int, Any]] = []
        self.order = itertools.count()
        self.names = itertools.count()
        self.kind = True
        """The API answers at once and nobody has trouble."""
        self.haste = self.rng.choice([3, 10, 30])
        """Of the API while it is not kind: one over its mean latency."""
        self.away = False
        self.leads: list[float] = []
        for _ in range(size):
            self.start()

    def start(self) -> None:
        rate = self.rng.uniform(0.95, 1.05)
        offset = self.rng.uniform(0, 1e6)
        it = Elector(
            f"c{next(self.names)}", rng=random.Random(self.rng.random()), now=offset + self.now * rate
        )
        node = Node(it, offset, rate)
        self.nodes.append(node)
        self.wake(node)

    def at(self, when: float, what: Any) -> None:
        heapq.heappush(self.agenda, (max(when, self.now), next(self.order), what))

    def wake(self, node: Node) -> None:
        deadline = node.elector.next_deadline()
        if deadline != float("inf"):
            self.at(node.true(deadline), lambda: self.tick(node))

    def tick(self, node: Node) -> None:
        if node.dead:
            return
        if node.resumes_at > self.now:
            self.at(node.resumes_at, lambda: self.tick(node))
            return
        if node.elector.next_deadline() <= node.clock(self.now) + 1e-9:
            self.perform(node, node.elector.tick(max(node.clock(self.now), node.elector.next_deadline())))
        else:
            self.wake(node)

    def perform(self, node: Node, effects: list[Effect]) -> None:
        for effect in effects:
            match effect:
                case Lead():
                    self.leads.append(self.now)
                case Lost():
                    node.dead = True  # it begins anew as another
                    self.at(self.now + 1.0, self.start)
                case Read() | Write():
                    self.request(node, effect)
        self.wake(node)

    def request(self, node: Node, effect: Read | Write) -> None:
        rng = self.rng
        there = back = 0.005
        lost_there = lost_back = self.away
        if not self.kind:
            there, back = rng.expovariate(self.haste), rng.expovariate(self.haste)
            lost_there |= rng.random() < 0.6 / self.haste
            lost_back |= rng.random() < 0.6 / self.haste
        asked_at = self.now
        # Its patience of one second ends before an answer that takes longer; the request lives on.
        state = {"over": False}

        def answer(how: Any) -> None:
            if node.dead or state["over"]:
                return
            if node.resumes_at > self.now:
                self.at(node.resumes_at, lambda: answer(how))
                return
            state["over"] = True
            self.perform(node, how())

        def arrive() -> None:
            how = self.carry_out(node, effect)
            if not lost_back:
                self.at(self.now + back, lambda: answer(how))

        if not lost_there:
            self.at(self.now + there, arrive)
        self.at(asked_at + 1.0, lambda: answer(lambda: node.elector.failed(node.clock(self.now))))

    def carry_out(self, node: Node, effect: Read | Write) -> Any:
        it = node.elector
        if isinstance(effect, Read):
            found = self.stored
            return lambda: it.found(found, node.clock(self.now))
        have = self.stored.resource_version if self.stored else ""
        if effect.resource_version != have:
            return lambda: it.refused(node.clock(self.now))
        self.version += 1
        made = lease(effect.holder, self.version, transitions=effect.transitions)
        self.stored = made
        return lambda: it.wrote(made, node.clock(self.now))

    def run(self, until: float) -> None:
        while self.agenda and self.agenda[0][0] <= until:
            self.now, _, what = heapq.heappop(self.agenda)
            what()
            writers = [node.elector.identity for node in self.nodes if node.may_write(self.now)]
            assert len(writers) <= 1, f"at {self.now}: {writers}"
        self.now = until
        self.nodes = [node for node in self.nodes if not node.dead]

    def trouble(self) -> None:
        rng = self.rng
        node = rng.choice([each for each in self.nodes if not each.dead])
        leaders = [each for each in self.nodes if each.may_write(self.now)]
        if leaders and rng.random() < 0.5:
            node = leaders[0]
        match rng.choice(["pause", "jump", "kill", "stop", "away", "edit"]):
            case "pause":
                node.resumes_at = self.now + rng.uniform(0.1, 15)
            case "jump":  # the machine was suspended, or so its clock says
                node.offset += rng.uniform(0.1, 20)
                self.wake(node)
            case "kill":
                node.dead = True
                self.start()
            case "stop":
                write = node.elector.release()
                if write is not None and not self.away:
                    self.carry_out(node, write)
                node.dead = True
                self.start()
            case "away":
                self.away = True
                self.at(self.now + rng.uniform(0.1, 12), self.come_back)
            case "edit" if self.stored is not None:
                self.version += 1
                self.stored = replace(self.stored, resource_version=str(self.version))

    def come_back(self) -> None:
        self.away = False

    def writer(self) -> Node | None:
        found = [node for node in self.nodes if node.may_write(self.now)]
        return found[0] if found else None


@pytest.mark.parametrize("size", [2, 3])
@pytest.mark.parametrize("seed", range(30))
def test_never_two_writers(seed: int, size: int) -> None:
    world = World(seed, size)
    world.kind = False
    while world.now < 300:
        world.run(world.now + world.rng.expovariate(0.2))
        world.trouble()
    # And as soon as the trouble is over there is one, for as long as it lasts.
    world.kind, world.away = True, False
    for node in world.nodes:
        node.resumes_at = world.now
    world.agenda = [each for each in world.agenda if each[2] != world.come_back]
    world.run(world.now + LEASE + VALID + 8)
    first = world.writer()
    assert first is not None
    leads = len(world.leads)
    world.run(world.now + 120)
    assert world.writer() is first
    assert len(world.leads) == leads
    assert leads > 3, "the seed was too kind to prove anything"


def test_the_simulation_would_see_two_writers(monkeypatch: pytest.MonkeyPatch) -> None:
    """The proof of the proof: a leader who believes in itself for longer than the others wait is found."""
    monkeypatch.setattr("allocator.election.VALID", LEASE * 5)
    with pytest.raises(AssertionError, match=r"at .*: \['c"):
        troubled_histories()


def troubled_histories() -> None:
    for seed in range(20):
        world = World(seed, 3)
        world.kind = False
        while world.now < 300:
            world.run(world.now + world.rng.expovariate(0.2))
            world.trouble()


# --------------------------------------------------------------------------------------- fence


def test_nothing_passes_a_closed_fence() -> None:
    now = 0.0
    fence = Fence(lambda: now)
    with pytest.raises(Unavailable, match="does not lead"), fence.enter():
        pass
    fence.open_until(4.0)
    with fence.enter():
        assert fence.passing == 1
    assert fence.passing == 0
    now = 4.0
    with pytest.raises(Unavailable), fence.enter():
        pass
    fence.open_until(8.0)
    fence.close()
    fence.open_until(12.0)  # a renewal that was under way
    with pytest.raises(Unavailable), fence.enter():
        pass


async def test_who_does_not_lead_reads_and_does_not_write() -> None:
    async with open_cluster() as cluster:
        fence = Fence()
        api = Api(FencedTransport(cluster.api.transport, fence))
        body = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "x"}}
        with pytest.raises(Unavailable):
            await api.create(NAMESPACES, body)
        with pytest.raises(NotFound):
            await api.get(NAMESPACES, "x")
        fence.open_until(float("inf"))
        await api.create(NAMESPACES, body)
        assert await api.get(NAMESPACES, "x")


def test_how_long_a_handover_takes() -> None:
    """In virtual time: after a crash the lease has to run out; after a stop it is free."""
    gone: list[float] = []
    for seed in range(20):
        for give_back in (False, True):
            world = World(seed, 2)
            world.run(10)
            node = world.writer()
            assert node is not None
            if give_back:
                write = node.elector.release()
                assert write is not None
                world.carry_out(node, write)
            node.dead = True
            leads = len(world.leads)
            world.run(world.now + 20)
            took = world.leads[leads] - 10
            gone.append(took)
            assert took <= (POLL * 2 if give_back else (LEASE + POLL) / 0.95)
    assert max(gone) > LEASE - RENEW * 1.06
