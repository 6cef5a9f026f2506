"""One core, its effects looked at directly; the names follow upstream's tests where there is one."""

import random
from collections.abc import Iterable
from itertools import pairwise
from typing import Any, TypeVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from memberlist import codec
from memberlist.config import Config
from memberlist.core import Core
from memberlist.delegate import Delegate
from memberlist.effects import BroadcastFinished, Effect, Notify, SendPacket, StartPushPull, StartStreamPing
from memberlist.errors import JoinError, MemberlistError
from memberlist.events import Event, Node, UserMessage
from memberlist.flood import Flood
from memberlist.keyring import Keyring
from memberlist.messages import (
    VSN,
    Ack,
    Alive,
    Dead,
    IndirectPing,
    Nack,
    PacketMessage,
    Ping,
    PushNodeState,
    PushPull,
    State,
    Suspect,
    User,
)
from memberlist.relay import MAX_RELAYS, Relays

SOMEBODY = ("10.9.9.9", 999)
T = TypeVar("T", bound=PacketMessage)


def make(delegate: Delegate | None = None, **settings: Any) -> Core:
    core = Core(
        Config.lan(name="me", **settings),
        address="10.0.0.1",
        port=7946,
        now=0.0,
        rng=random.Random(1),
        delegate=delegate,
    )
    core.start(0.0)
    core.broadcasts.prune(0)
    return core


def meet(core: Core, *names: str, vsn: bytes = VSN, now: float = 0.0) -> Core:
    for number, name in enumerate(names):
        core.handle_packet([Alive(1, name, bytes((10, 0, 0, 2 + number)), 7946, None, vsn)], SOMEBODY, now)
    core.broadcasts.prune(0)
    return core


def parts(effects: Iterable[Effect]) -> list[tuple[str, PacketMessage]]:
    """(to whom, what) of everything sent, compounds taken apart."""
    return [
        (effect.to[0], codec.decode(part) if isinstance(part, bytes) else part)
        for effect in effects
        if isinstance(effect, SendPacket)
        for part in effect.parts
    ]


def only(kind: type[T], effects: Iterable[Effect]) -> list[tuple[str, T]]:
    return [(to, message) for to, message in parts(effects) if isinstance(message, kind)]


def run(core: Core, start: float, until: float) -> list[Effect]:
    """Tick at every deadline from `start` to `until`, as a driver does."""
    effects, now = [], start
    while (now := max(now, core.next_deadline())) <= until:
        effects += core.tick(now)
    return effects


def first_probe(core: Core) -> tuple[float, Ping, list[Effect]]:
    """The time, the ping and all effects of the first probe."""
    while True:
        now = core.next_deadline()
        effects = core.tick(now)
        if pings := only(Ping, effects):
            return now, pings[0][1], effects


# ------------------------------------------------------------------------------------------- pings


def test_a_ping_is_answered_where_the_asker_says() -> None:
    core = make()
    ping = Ping(7, "me", bytes((10, 0, 0, 2)), 7000, "x")
    assert core.handle_packet([ping], SOMEBODY, 1.0) == [SendPacket(("10.0.0.2", 7000), (Ack(7),))]
    assert core.handle_packet([Ping(8, "me")], SOMEBODY, 1.0) == [SendPacket(SOMEBODY, (Ack(8),))]
    assert core.handle_packet([Ping(9, "")], SOMEBODY, 1.0) == [SendPacket(SOMEBODY, (Ack(9),))]


def test_a_ping_for_another_name_is_not() -> None:
    assert make().handle_packet([Ping(7, "other")], SOMEBODY, 1.0) == []


def test_three_pings_in_one_datagram_are_three_answers() -> None:
    effects = make().handle_packet([Ping(seq, "me") for seq in (1, 2, 3)], SOMEBODY, 1.0)
    assert [ack.seq_no for _, ack in only(Ack, effects)] == [1, 2, 3]


def test_news_travel_with_the_answer_but_not_with_every_one() -> None:
    """A watcher's pings come so fast that its answers would use up all transmissions of a piece of news."""
    core = meet(make(), "x")
    core.handle_packet([Alive(1, "y", bytes((10, 0, 0, 3)), 7946)], SOMEBODY, 1.0)
    ping = Ping(1, "me", bytes((10, 0, 0, 2)), 7946, "x")
    assert [type(m) for _, m in parts(core.handle_packet([ping], SOMEBODY, 1.0))] == [Ack, Alive]
    assert [type(m) for _, m in parts(core.handle_packet([ping], SOMEBODY, 1.1))] == [Ack]
    assert [type(m) for _, m in parts(core.handle_packet([ping], SOMEBODY, 1.6))] == [Ack, Alive]


def test_the_delegates_payload_travels_with_the_answer() -> None:
    class Payload(Delegate):
        def ack_payload(self) -> bytes:
            return b"pl"

    effects = make(Payload()).handle_packet([Ping(7, "me")], SOMEBODY, 1.0)
    assert only(Ack, effects) == [("10.9.9.9", Ack(7, b"pl"))]


def test_a_packet_stays_within_the_buffer_size() -> None:
    core = make(udp_buffer_size=1400)
    for number in range(60):
        core.handle_packet([Alive(1, f"node-{number:03}", bytes((10, 0, 1, number)), 7946)], SOMEBODY, 1.0)
    (effect,) = core.handle_packet([Ping(7, "me")], SOMEBODY, 1.0)
    assert isinstance(effect, SendPacket)
    sizes = [len(part) for part in effect.parts if isinstance(part, bytes)]
    assert 1200 < sum(2 + size for size in sizes) <= 1400


# -------------------------------------------------------------------------------------- probe rounds


def test_an_answered_probe_changes_nothing_but_our_health() -> None:
    core = meet(make(), "x")
    core.health.adjust(1)
    now, ping, _ = first_probe(core)
    assert ping == Ping(ping.seq_no, "x", bytes((10, 0, 0, 1)), 7946, "me")
    assert core.handle_packet([Ack(ping.seq_no)], SOMEBODY, now + 0.01) == []
    assert core.health.score == 0
    assert only(Suspect, run(core, now, now + 0.95)) == []


def test_the_delegate_hears_of_answered_probes() -> None:
    told: list[tuple[str, float, bytes | None]] = []

    class Pings(Delegate):
        def ping_complete(self, node: Node, rtt: float, payload: bytes | None) -> None:
            told.append((node.name, rtt, payload))

    core = meet(make(Pings()), "x")
    now, ping, _ = first_probe(core)
    core.handle_packet([Ack(ping.seq_no, b"pl")], SOMEBODY, now + 0.25)
    ((name, rtt, payload),) = told
    assert (name, round(rtt, 6), payload) == ("x", 0.25, b"pl")


def test_silence_is_asked_about_then_suspected() -> None:
    core = meet(make(), "x", "a", "b", "c", "d")
    now, ping, _ = first_probe(core)
    asked = run(core, now, now + 0.5)
    indirect = only(IndirectPing, asked)
    assert len(indirect) == 3
    assert {(m.seq_no, m.node, m.nack) for _, m in indirect} == {(ping.seq_no, ping.node, True)}
    (stream,) = [e for e in asked if isinstance(e, StartStreamPing)]
    assert (stream.ping.seq_no, stream.deadline_at) == (ping.seq_no, now + 1.0)
    effects = run(core, now + 0.5, now + 1.0)
    events = [e.event for e in effects if isinstance(e, Notify)]
    assert [type(event).__name__ for event in events] == ["Suspected"]
    assert core.table.members[ping.node].state is State.SUSPECT
    assert core.health.score == 3, "three nacks were to come and none did"


def test_all_nacks_leave_our_health_alone() -> None:
    core = meet(make(), "x", "a", "b", "c")
    now, ping, _ = first_probe(core)
    run(core, now, now + 0.5)
    for _ in range(3):
        core.handle_packet([Nack(ping.seq_no)], SOMEBODY, now + 0.9)
    run(core, now + 0.9, now + 1.0)
    assert core.health.score == 0
    assert core.table.members[ping.node].state is State.SUSPECT


def test_with_nobody_able_to_nack_a_failure_counts_against_us() -> None:
    core = meet(make(), "x", "a", vsn=bytes((1, 2, 2, 0, 0, 0)))
    now, _, _ = first_probe(core)
    effects = run(core, now, now + 1.0)
    assert [m.nack for _, m in only(IndirectPing, effects)] == [False]
    assert [e for e in effects if isinstance(e, StartStreamPing)] == [], "it does not answer TCP pings"
    assert core.health.score == 1


@pytest.mark.parametrize("when", [0.2, 0.7, 0.99])
def test_any_answer_in_time_ends_the_round(when: float) -> None:
    core = meet(make(), "x", "a")
    now, ping, _ = first_probe(core)
    run(core, now, now + when)
    core.handle_packet([Ack(ping.seq_no)], SOMEBODY, now + when)
    run(core, now + when, now + 1.0)
    assert core.table.members[ping.node].state is State.ALIVE


def test_tcp_contact_is_life() -> None:
    core = meet(make(), "x")
    now, ping, _ = first_probe(core)
    run(core, now, now + 0.5)
    core.stream_acked(ping.seq_no)
    run(core, now + 0.5, now + 1.0)
    assert core.table.members["x"].state is State.ALIVE


def test_without_tcp_pings_it_is_suspected() -> None:
    core = meet(make(tcp_pings=False), "x")
    now, _, _ = first_probe(core)
    effects = run(core, now, now + 1.0)
    assert [e for e in effects if isinstance(e, StartStreamPing)] == []
    assert core.table.members["x"].state is State.SUSPECT


def test_our_health_stretches_the_round_not_the_timeout() -> None:
    core = meet(make(), "x", "a")
    core.health.adjust(1)
    now, ping, _ = first_probe(core)
    assert only(IndirectPing, run(core, now, now + 0.5)) != []
    run(core, now + 0.5, now + 1.9)
    assert core.table.members[ping.node].state is State.ALIVE
    run(core, now + 1.9, now + 2.0)
    assert core.table.members[ping.node].state is State.SUSPECT


def test_a_failed_round_costs_no_tick() -> None:
    """Upstream drops the probe whose tick falls into the end of the round before."""
    core = meet(make(awareness_max=1), "x", "a")
    now, _, _ = first_probe(core)
    assert len(only(Ping, run(core, now, now + 3.0))) == 3


def test_a_suspect_gets_the_accusation_with_the_ping() -> None:
    core = meet(make(), "x")
    core.handle_packet([Suspect(1, "x", "y")], SOMEBODY, 0.0)
    core.broadcasts.prune(0)
    _, ping, effects = first_probe(core)
    assert [m for _, m in parts(effects)] == [ping, Suspect(1, "x", "me")]


def test_the_buddy_answers_with_its_refutation() -> None:
    core = meet(make(), "x")
    effects = core.handle_packet([Ping(7, "me"), Suspect(1, "me", "x")], SOMEBODY, 1.0)
    effects += core.handle_packet([Ping(8, "me")], SOMEBODY, 1.0)
    assert ("10.9.9.9", Alive(2, "me", bytes((10, 0, 0, 1)), 7946)) in parts(effects)
    assert core.health.score == 1


def test_time_we_did_not_run_is_not_the_members_silence() -> None:
    core = meet(make(), "x")
    now, _, _ = first_probe(core)
    core.tick(now + 60.0)
    run(core, now + 60.0, now + 60.3)
    assert core.table.members["x"].state is State.ALIVE
    assert core.late_count == 1


def test_in_a_flood_the_watchers_time_stands_still_and_swim_goes_on() -> None:
    core, now = meet(make(watch=True), "x"), 0.0
    events: list[Event] = []
    while now < 10.0:
        now = max(now + 0.01, core.next_deadline())
        events += [e.event for e in core.tick(now, drained=False) if isinstance(e, Notify)]
    assert [type(event).__name__ for event in events] == ["Suspected", "Died"]


# ------------------------------------------------------------------------------------------ relays


ASK = IndirectPing(77, bytes((10, 0, 0, 5)), 7946, "x", True, bytes((10, 0, 0, 2)), 7946, "asker")


def test_an_indirect_ping_is_carried_there_and_back() -> None:
    core = make()
    ((to, ping),) = only(Ping, core.handle_packet([ASK], SOMEBODY, 1.0))
    assert (to, ping.node, ping.source_node) == ("10.0.0.5", "x", "me")
    effects = core.handle_packet([Ack(ping.seq_no, b"pl")], SOMEBODY, 1.1)
    assert effects == [SendPacket(("10.0.0.2", 7946), (Ack(77),))]
    assert core.handle_packet([Ack(ping.seq_no)], SOMEBODY, 1.1) == [], "once"


def test_a_nack_comes_in_time_to_be_heard_and_a_late_answer_still_counts() -> None:
    core = make()
    ((_, ping),) = only(Ping, core.handle_packet([ASK], SOMEBODY, 1.0))
    assert run(core, 1.0, 1.39) == []
    assert only(Nack, run(core, 1.39, 1.4)) == [("10.0.0.2", Nack(77))]
    assert only(Ack, core.handle_packet([Ack(ping.seq_no)], SOMEBODY, 1.45)) == [("10.0.0.2", Ack(77))]
    ((_, late),) = only(Ping, core.handle_packet([ASK], SOMEBODY, 2.0))
    run(core, 2.0, 2.5)
    assert core.handle_packet([Ack(late.seq_no)], SOMEBODY, 2.6) == []


def test_relays_are_bounded() -> None:
    relays = Relays(0.5)
    carried = [relays.carry(n, n, SOMEBODY, nack=True, now=0.0) for n in range(MAX_RELAYS + 5)]
    assert carried.count(True) == len(relays) == MAX_RELAYS
    relays.tick(1.0)
    assert len(relays) == 0


# ----------------------------------------------------------------------------------- dissemination


def test_news_reach_three_members_a_tick_and_stop() -> None:
    core = meet(make(probe_interval=0), "a", "b", "c", "d", "e")
    core.handle_packet([Alive(2, "a", bytes((10, 0, 0, 2)), 7946)], SOMEBODY, 1.0)
    effects = run(core, 1.0, 10.0)
    assert len(only(Alive, effects)) == 4, "4 * ceil(log10(7)) transmissions"
    assert core.next_deadline() > 10.0, "and nothing to wake up for"


def test_gossip_reaches_the_recently_dead_and_never_those_who_left() -> None:
    def told(now: float, news: PacketMessage) -> set[str]:
        core = meet(make(probe_interval=0, retransmit_mult=20), "dead")
        core.handle_packet([Alive(1, "gone", bytes((10, 0, 0, 8)), 7946)], SOMEBODY, 0.0)
        core.handle_packet([Dead(1, "dead", "y"), Dead(1, "gone", "gone")], SOMEBODY, 0.0)
        core.broadcasts.prune(0)
        core.handle_packet([news], SOMEBODY, now)
        return {to for to, _ in parts(run(core, now, now + 0.5))} - {"10.0.0.7"}

    news = Alive(1, "new", bytes((10, 0, 0, 7)), 7946)
    assert told(20.0, news) == {"10.0.0.2"}
    assert told(40.0, news) == set()


def test_a_checksum_for_those_who_understand_it() -> None:
    for vsn, crc in ((VSN, True), (bytes((1, 4, 2, 0, 0, 0)), False)):
        core = meet(make(probe_interval=0), "x", vsn=vsn)
        (effect,) = core.send_user(core.table.members["x"], b"hello")
        assert effect == SendPacket(("10.0.0.2", 7946), (User(b"hello"),), crc)


def test_delegate_broadcasts_fill_what_room_is_left() -> None:
    class Chatty(Delegate):
        def broadcasts(self, overhead: int, limit: int) -> list[bytes]:
            return [b"u" * (limit - overhead)]

    core = meet(make(Chatty(), probe_interval=0), "x")
    effects = run(core, 1.0, 1.4)
    users = [message.payload for _, message in only(User, effects)]
    assert users
    assert all(len(one) == 1400 - 2 - 3 for one in users)


def test_the_room_shrinks_with_label_and_encryption() -> None:
    core = make(label="blue", keyring=Keyring([bytes(16)]))
    assert core._news.overhead() == 2 + 4 + 29
    core = make(keyring=Keyring([bytes(16)]), protocol_version=1)
    assert core._news.overhead() == 45
    assert make(keyring=Keyring([bytes(16)]), verify_outgoing=False)._news.overhead() == 0


def test_user_messages_reach_delegate_and_observers() -> None:
    got: list[bytes] = []

    class Inbox(Delegate):
        def notify_message(self, payload: bytes) -> None:
            got.append(payload)

    core = make(Inbox())
    effects = core.handle_packet([User(b"one"), User(b"two")], SOMEBODY, 1.0)
    assert effects == [Notify(UserMessage(b"one")), Notify(UserMessage(b"two"))], "in their order"
    assert core.serve(User(b"three"), 1.0) == (None, [Notify(UserMessage(b"three"))])
    assert got == [b"one", b"two", b"three"]


def test_a_delegate_that_raises_is_as_if_it_were_not_there(caplog: pytest.LogCaptureFixture) -> None:
    class Broken(Delegate):
        def __getattribute__(self, name: str) -> Any:
            raise RuntimeError("the application's mistake")

    core = meet(make(Broken()), "x")
    assert only(Ack, core.handle_packet([Ping(1, "me")], SOMEBODY, 1.0)) == [("10.9.9.9", Ack(1))]
    assert core.local_state(join=True).user_state == b""
    assert set(core.table.members) == {"me", "x"}
    assert "delegate_failed" in caplog.messages


def test_metadata_too_large_is_refused() -> None:
    class Large(Delegate):
        def node_meta(self, limit: int) -> bytes:
            return bytes(limit + 1)

    with pytest.raises(MemberlistError, match="metadata of 513 octets, at most 512 fit"):
        make(Large())


def test_old_accusations_are_answered_directly() -> None:
    """Whoever still accuses us of what we have refuted missed the refutation."""
    core = meet(make(), "x")
    core.handle_packet([Suspect(1, "me", "x")], SOMEBODY, 1.0)
    effects = core.handle_packet([Suspect(1, "me", "x")], SOMEBODY, 2.0)
    assert only(Alive, effects) == [("10.0.0.2", Alive(2, "me", bytes((10, 0, 0, 1)), 7946))]
    assert core.handle_packet([Suspect(1, "me", "stranger")], SOMEBODY, 2.0) == []
    assert core.table.me.incarnation == 2


def test_a_flood_is_repeated_and_a_storm_does_not_postpone_it() -> None:
    flood = Flood()
    for _ in range(5):
        flood.tell(b"first", 10.0)
    sent = []
    now = 10.0
    for _ in range(100):
        if (message := flood.tick(now)) is not None:
            sent.append((round(now - 10, 2), message))
        now += 0.01
        flood.tell(b"again", now)
    assert sent[0] == (0.0, b"first")
    begun = [at for at, _ in sent]
    assert begun[1] <= 0.21
    assert len(sent) <= 1 + 5
    assert all(later - earlier >= 0.19 for earlier, later in pairwise(begun))


# --------------------------------------------------------------------------- push/pull and commands


def theirs(*names: str, vsn: bytes = VSN, state: int = State.ALIVE, user: bytes = b"") -> PushPull:
    states = (PushNodeState(n, bytes((10, 0, 1, i)), 7946, 1, state, None, vsn) for i, n in enumerate(names))
    return PushPull(True, tuple(states), user)


def test_the_answer_to_a_push_pull_is_what_we_knew_before_it() -> None:
    core = meet(make(), "x")
    answer, _ = core.serve(theirs("new"), 1.0)
    assert isinstance(answer, PushPull)
    assert {node.name for node in answer.nodes} == {"me", "x"}
    assert set(core.table.members) == {"me", "x", "new"}


def test_user_state_goes_both_ways_and_empty_is_not_delivered() -> None:
    merged: list[tuple[bytes, bool]] = []

    class States(Delegate):
        def local_state(self, join: bool) -> bytes:
            return b"mine"

        def merge_remote_state(self, state: bytes, join: bool) -> None:
            merged.append((state, join))

    core = make(States())
    answer, _ = core.serve(theirs("x", user=b"yours"), 1.0)
    core.merge(theirs("x"), join=False, now=1.0)
    assert isinstance(answer, PushPull)
    assert answer.user_state == b"mine"
    assert merged == [(b"yours", True)]


def test_a_refused_merge_changes_nothing_but_was_answered() -> None:
    class Strict(Delegate):
        def refuse_merge(self, nodes: tuple[Node, ...]) -> str | None:
            return "not these" if any(node.name == "bad" for node in nodes) else None

    core = make(Strict())
    with pytest.raises(JoinError, match="merge refused: not these"):
        core.merge(theirs("x", "bad"), join=True, now=1.0)
    answer, effects = core.serve(theirs("bad"), 1.0)
    assert isinstance(answer, PushPull)
    assert (effects, set(core.table.members)) == ([], {"me"})
    core.merge(theirs("bad"), join=False, now=1.0)
    assert set(core.table.members) == {"me", "bad"}, "only a join is asked about"


@pytest.mark.parametrize(
    ("vsn", "fits"),
    [
        ((1, 5, 2, 0, 0, 0), True),
        ((1, 5, 5, 0, 0, 0), True),
        ((3, 5, 3, 0, 0, 0), False),
        ((1, 1, 1, 0, 0, 0), False),
        ((1, 5, 2, 2, 5, 4), False),
        ((1, 5, 2, 0, 3, 1), False),
        ((1, 5, 6, 0, 0, 0), False),
    ],
    ids=str,
)
def test_versions_that_do_not_fit_are_refused_by_both_sides(vsn: tuple[int, ...], fits: bool) -> None:
    one, other = make(), make(protocol_version=2)
    if fits:
        one.merge(theirs("x", vsn=bytes(vsn)), join=False, now=1.0)
        assert "x" in one.table.members
    else:
        with pytest.raises(JoinError, match="version"):
            one.merge(theirs("x", vsn=bytes(vsn)), join=False, now=1.0)
        assert set(one.table.members) == {"me"}
    assert set(other.table.members) == {"me"}


def test_tcp_pings_are_answered_by_name() -> None:
    core = make()
    assert core.serve(Ping(5, "me"), 1.0) == (Ack(5), [])
    assert core.serve(Ping(5, "other"), 1.0) == (None, [])
    assert core.serve(User(b""), 1.0) == (None, [])


def test_leaving_is_gossiped_and_answered_for() -> None:
    core = meet(make(), "a", "b")
    token, effects = core.leave(1.0)
    assert BroadcastFinished(token) not in effects
    effects = run(core, 1.0, 5.0)
    assert ("10.0.0.2", Dead(1, "me", "me")) in parts(effects)
    assert BroadcastFinished(token) in effects
    assert only(Ack, core.handle_packet([Ping(1, "me")], SOMEBODY, 5.0)) == [("10.9.9.9", Ack(1))]
    token, effects = core.leave(6.0)
    assert BroadcastFinished(token) in effects, "said before"


def test_leaving_alone_is_done_at_once() -> None:
    token, effects = make().leave(1.0)
    assert BroadcastFinished(token) in effects


def test_an_observer_probes_nobody_and_keeps_its_opinion_to_itself() -> None:
    core = meet(make(observe=True, watch=True, push_pull_interval=0), "x", "y")
    assert run(core, 0.0, 60.0) == []
    core.handle_packet([Suspect(1, "x", "y")], SOMEBODY, 60.0)
    effects = run(core, 60.0, 80.0)
    assert {type(m) for _, m in parts(effects)} == {Suspect}, "what another says is passed on"
    assert core.table.members["x"].state is State.DEAD
    assert only(Ping, effects) == []


def test_push_pulls_go_to_one_living_member() -> None:
    core = meet(make(probe_interval=0), "x", "y")
    core.handle_packet([Dead(1, "y", "z")], SOMEBODY, 0.0)
    effects = run(core, 0.0, 200.0)
    started = [e for e in effects if isinstance(e, StartPushPull)]
    assert 5 <= len(started) <= 7
    assert {e.to for e in started} == {("10.0.0.2", 7946)}


def test_nodes_that_start_together_do_not_run_in_step() -> None:
    firsts = set()
    for seed in range(20):
        core = Core(Config.lan(name="me"), address="10.0.0.1", port=1, now=0.0, rng=random.Random(seed))
        firsts.add(round(core._probe_at, 3))
    assert len(firsts) > 15


# --------------------------------------------------------------------------------------- hostility

names = st.sampled_from(["me", "x", "y", "", "stranger"])
u32 = st.sampled_from([0, 1, 2, 7, 2**31, 2**32 - 1])
octets = st.sampled_from(
    [b"", b"\x0a\0\0\x01", b"\x0a\0\0\x02", bytes(16), b"abc", bytes(10) + b"\xff\xff\x01\x02\x03\x04"]
)
anything = st.one_of(
    st.builds(Ping, u32, names, octets, st.integers(0, 65535), names),
    st.builds(
        IndirectPing,
        u32,
        octets,
        st.integers(0, 65535),
        names,
        st.booleans(),
        octets,
        st.integers(0, 65535),
        names,
    ),
    st.builds(Ack, u32, st.sampled_from([None, b"", b"x"])),
    st.builds(Nack, u32),
    st.builds(Suspect, u32, names, names),
    st.builds(Dead, u32, names, names),
    st.builds(
        Alive,
        u32,
        names,
        octets,
        st.integers(0, 65535),
        st.sampled_from([None, b"m", bytes(513)]),
        st.sampled_from([VSN, b"", b"\x01", bytes(6)]),
    ),
    st.builds(User, st.binary(max_size=5)),
)


@settings(max_examples=150)
@given(st.lists(st.tuples(anything, st.floats(0, 0.5)), max_size=60), st.booleans())
def test_nothing_a_peer_can_say_breaks_us(said: list[tuple[PacketMessage, float]], watch: bool) -> None:
    core, now = meet(make(watch=watch), "x", "y"), 0.0
    events: list[Event] = []
    for message, wait in said:
        now += wait
        effects = core.handle_packet([message], SOMEBODY, now)
        while core.next_deadline() <= now:
            effects += core.tick(now)
        events += [e.event for e in effects if isinstance(e, Notify)]
        for effect in effects:
            if isinstance(effect, SendPacket):
                assert len(effect.parts) <= 127
                parts([effect])
    assert core.table.me.state is State.ALIVE
    assert {node.name for node in core.members()} <= {"me", "x", "y", "stranger"}
