"""What is told, to whom, in what packets."""

from itertools import pairwise
from typing import Any

import pytest

from memberlist.delegate import Delegate
from memberlist.effects import Notify, SendPacket
from memberlist.errors import MemberlistError
from memberlist.events import UserMessage
from memberlist.flood import Flood
from memberlist.keyring import Keyring
from memberlist.messages import (
    VSN,
    Ack,
    Alive,
    Dead,
    PacketMessage,
    Ping,
    Suspect,
    User,
)
from tests.memberlist.one_core import SOMEBODY, make, meet, only, parts, run


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


class Silent(Delegate):
    def node_meta(self, limit: int) -> bytes:
        return b"meta"


class Payloads(Delegate):
    def broadcasts(self, overhead: int, limit: int) -> list[bytes]:
        return [b"x"]


def test_gossip_rests_unless_the_delegate_may_have_something_to_say() -> None:
    settings: dict[str, Any] = {"probe_interval": 0, "push_pull_interval": 0}
    late = Silent()
    late.broadcasts = lambda overhead, limit: [b"x"]  # type: ignore[method-assign]
    for delegate, rests in ((None, True), (Silent(), True), (Payloads(), False), (late, False)):
        core = meet(make(delegate, **settings), "x")
        assert (core.next_deadline() > 1e9) == rests
        assert bool(only(User, run(core, 0.0, 1.0))) != rests
