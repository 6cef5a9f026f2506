import pytest
from hypothesis import given
from hypothesis import strategies as st

from memberlist.broadcasts import Broadcasts


def test_fewer_transmits_then_longer_then_newer() -> None:
    queue = Broadcasts()
    queue.queue("sent", b"x" * 50)
    assert queue.take(0, 1000, 9) == [b"x" * 50]
    for name, message in (("old", b"old"), ("new", b"new"), ("long", b"longer")):
        queue.queue(name, message)
    assert queue.take(0, 1000, 9) == [b"longer", b"new", b"old", b"x" * 50]


def test_newer_news_about_a_name_replaces_the_older() -> None:
    queue = Broadcasts()
    queue.queue("a", b"first", token=1)
    queue.queue("b", b"other", token=2)
    queue.queue("a", b"second")
    assert queue.finished() == [1]
    assert sorted(queue.take(0, 1000, 9)) == [b"other", b"second"]
    assert queue.finished() == []


@pytest.mark.parametrize(("overhead", "taken"), [(2, 4), (3, 3)])
def test_the_overhead_counts(overhead: int, taken: int) -> None:
    queue = Broadcasts()
    for number in range(4):
        queue.queue(f"n{number}", bytes(18))
    assert len(queue.take(overhead, 80, 9)) == taken


def test_two_transmissions_each_and_the_queue_is_empty() -> None:
    queue = Broadcasts()
    for number in range(4):
        queue.queue(f"n{number}", bytes(18), token=number)
    assert [len(queue.take(3, 80, 2)) for _ in range(4)] == [3, 3, 2, 0]
    assert len(queue) == 0
    assert sorted(queue.finished()) == [0, 1, 2, 3]


def test_a_message_too_large_for_a_packet_blocks_nobody() -> None:
    queue = Broadcasts()
    queue.queue("big", bytes(200))
    queue.queue("small", bytes(10))
    assert queue.take(2, 100, 9) == [bytes(10)]
    assert len(queue) == 2
    assert queue.take(2, 300, 9) == [bytes(200), bytes(10)]


def test_prune_keeps_what_was_sent_least() -> None:
    queue = Broadcasts()
    for number in range(3):
        queue.queue(f"n{number}", b"%d" % number, token=number)
    queue.prune(1)
    assert queue.finished() == [0, 1]
    assert queue.take(0, 100, 9) == [b"2"]


@given(
    st.lists(st.tuples(st.sampled_from("abcdef"), st.binary(max_size=60)), max_size=20),
    st.integers(0, 5),
    st.integers(0, 200),
    st.integers(1, 4),
)
def test_every_item_goes_out_exactly_so_often_as_it_may(
    items: list[tuple[str, bytes]], overhead: int, limit: int, transmits: int
) -> None:
    queue = Broadcasts()
    newest: dict[str, bytes] = {}
    for name, message in items:
        queue.queue(name, message)
        newest[name] = message
    sent: list[bytes] = []
    while taken := queue.take(overhead, limit, transmits):
        assert sum(len(one) + overhead for one in taken) <= limit
        sent += taken
    # An item fits when any room is left beside its overhead and it fills no more than all of it.
    fits = [m for m in newest.values() if overhead < limit and len(m) + overhead <= limit]
    assert sorted(sent) == sorted(fits * transmits)
    assert len(queue) == len(newest) - len(fits)
