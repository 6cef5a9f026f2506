"""Who tells routers of an address, as a drain sees it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import trio
import trio.testing

from crier.cli import _routers as routers
from crier.cli._common import Session
from crier.cli._handover import LOOK, Group
from crier.inspect.gather import Speaker
from crier.inspect.reach import Unreachable
from crier.inspect.words import (
    RoutedWords,
    RoutesWords,
    RouteWords,
    ServiceWords,
    SessionWords,
    SpeakerWords,
    WhyWords,
)
from speaker.planner.routes import Objection

WEB, WEB6 = "198.51.100.1", "2001:db8::1"
GROUP = Group((WEB,), ("default/web",))
NODES = ("a", "b")

Word = RoutesWords | str
"""What a speaker answers; a text is why it does not."""


def says(node: str, *routes: RouteWords) -> RoutesWords:
    return RoutesWords(node, True, routes)


def session(answers: dict[str, list[Word]]) -> tuple[Session, tuple[Speaker, ...]]:
    """Each speaker says its words one after the other, and the last one for ever."""

    async def ask(pod: str, path: str, form: type, patience: float) -> RoutesWords:
        assert (path, form) == ("/routes", RoutesWords)
        await trio.lowlevel.checkpoint()
        word = answers[pod].pop(0) if len(answers[pod]) > 1 else answers[pod][0]
        if isinstance(word, str):
            raise Unreachable(word)
        return word

    found: Any = SimpleNamespace(reach=SimpleNamespace(ask=ask))
    speakers: Any = tuple(SimpleNamespace(node=node, pod=node, silence="") for node in answers)
    return found, speakers


@pytest.mark.parametrize("prefix", [f"{WEB}/32", "198.51.100.0/24", "0.0.0.0/0"])
async def test_a_route_may_be_an_aggregate(prefix: str) -> None:
    here, speakers = session({"a": [says("a", RouteWords(prefix, ("x", "y"), ("y",)))], "b": [says("b")]})
    found = await routers.see(here, speakers, (WEB, WEB6))
    assert found.at(WEB, "a").told == frozenset({"x", "y"})
    assert found.at(WEB, "a").staying == frozenset({"x"})
    assert found.others(GROUP, "b") == ("a",)
    assert not found.at(WEB6, "a").told
    assert found.others(GROUP, "a") == ()


async def test_what_cannot_be_seen_is_named() -> None:
    here, speakers = session({"a": [RoutesWords("a", False)], "b": ["no answer"]})
    found = await routers.see(here, speakers, (WEB,))
    assert found.unseen == {"a": routers.UNSEEN, "b": "no answer"}


async def test_it_waits_until_every_session_has_the_mark_and_others_carry_it(
    autojump_clock: trio.testing.MockClock,
) -> None:
    web = f"{WEB}/32"
    here, speakers = session(
        {
            "a": [
                says("a", RouteWords(web, ("x", "y"))),
                says("a", RouteWords(web, ("x", "y"), ("x",))),
                says("a", RouteWords(web, ("x", "y"), ("x", "y"))),
            ],
            "b": [says("b"), says("b"), says("b"), says("b", RouteWords(web, ("x",)))],
        }
    )
    found, seconds, why = await routers.wait_until_last(here, speakers, GROUP, "a", patience=10)
    assert (why, found.others(GROUP, "a")) == ("", ("b",))
    assert seconds == pytest.approx(3 * LOOK)


@pytest.mark.parametrize(
    ("mine", "theirs", "why"),
    [
        (says("a", RouteWords(f"{WEB}/32", ("x",))), says("b"), "x was not yet asked to prefer other nodes"),
        (says("a"), says("b", RouteWords(f"{WEB}/32", ("x",), ("x",))), "no other node's sessions carry"),
        (says("a"), "gone", "no other node's sessions carry 198.51.100.1; not asked: b"),
        ("gone", says("b", RouteWords(f"{WEB}/32", ("x",))), "a: gone"),
    ],
)
async def test_it_says_why_it_did_not_come_to_that(
    mine: Word, theirs: Word, why: str, autojump_clock: trio.testing.MockClock
) -> None:
    here, speakers = session({"a": [mine], "b": [theirs]})
    _, seconds, said = await routers.wait_until_last(here, speakers, GROUP, "a", patience=3)
    assert why in said
    assert seconds == pytest.approx(3, abs=LOOK)


async def test_what_nobody_sees_is_not_waited_for(autojump_clock: trio.testing.MockClock) -> None:
    began = trio.current_time()
    here, speakers = session({"a": [RoutesWords("a", False)], "b": [RoutesWords("b", False)]})
    found, seconds, why = await routers.wait_until_last(here, speakers, GROUP, "a", patience=30)
    assert found.unseen["a"] == routers.UNSEEN
    assert seconds < 1
    assert why
    assert await routers.wait_until_gone(here, speakers, [GROUP], "a", patience=30) == routers.UNSEEN
    assert trio.current_time() - began < 1


async def test_withdrawn_is_when_no_session_carries_it(autojump_clock: trio.testing.MockClock) -> None:
    route = RouteWords(f"{WEB}/32", ("x",), ("x",))
    here, speakers = session({"a": [says("a", route), says("a")], "b": [says("b", route)]})
    assert await routers.wait_until_gone(here, speakers, [GROUP], "a", patience=3) == ""
    here, speakers = session({"a": [says("a", route)]})
    said = await routers.wait_until_gone(here, speakers, [GROUP], "a", patience=1)
    assert said == f"a still announces {WEB} to x"


# ------------------------------------------------------------------------------------------ coming back

SAID = RoutedWords(("x", "y"))
UP = SpeakerWords("a", bgp=(SessionWords("x", state="Established"), SessionWords("y", state="Active")))
DOWN = SpeakerWords("a", bgp=(SessionWords("x", state="Idle"),))


def node_a(
    *turns: tuple[RoutedWords, SpeakerWords, RoutesWords] | str,
) -> tuple[Session, tuple[Speaker, ...]]:
    """What speaker `a` says to all three questions, turn by turn, and the last for ever."""
    asked = 0

    async def ask(pod: str, path: str, form: type, patience: float) -> object:
        nonlocal asked
        await trio.lowlevel.checkpoint()
        turn = turns[min(asked // 3, len(turns) - 1)]
        asked += 1
        if isinstance(turn, str):
            raise Unreachable(turn)
        said, status, routes = turn
        why = WhyWords("a", services={"default/web": ServiceWords(bgp=said)})
        return {"/why": why, "/status": status, "/routes": routes}[path]

    found: Any = SimpleNamespace(reach=SimpleNamespace(ask=ask))
    speakers: Any = (SimpleNamespace(node="a", pod="a", silence=""),)
    return found, speakers


async def test_it_is_back_when_every_session_carries_it_and_no_router_is_asked_to_prefer_others(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """The session that is not up is waited for by nobody."""
    web = f"{WEB}/32"
    here, speakers = node_a(
        (RoutedWords(objection=Objection.EXCLUDED.text), UP, says("a")),
        (SAID, UP, says("a")),
        (SAID, UP, says("a", RouteWords(web, ("x",), ("x",)))),
        (SAID, UP, says("a", RouteWords(web, ("x",)))),
    )
    found = await routers.wait_until_back(here, speakers, GROUP, "a", (), patience=10)
    assert (found.why, found.peers) == ("", ("x", "y"))
    assert found.seconds == pytest.approx(3 * LOOK)


async def test_of_an_aggregate_the_last_address_that_comes_back_counts() -> None:
    leaving = says("a", RouteWords("198.51.100.0/24", ("x",), ("x",)))
    here, speakers = node_a((SAID, UP, leaving))
    found = await routers.wait_until_back(here, speakers, GROUP, "a", ("198.51.100.7",), patience=10)
    assert found.why == ""
    found = await routers.wait_until_back(here, speakers, GROUP, "a", ("198.51.101.7",), patience=0)
    assert found.why == f"x is still asked to prefer other nodes for {WEB}"


@pytest.mark.parametrize("objection", [None, Objection.NO_LOCAL_ENDPOINT.text])
async def test_what_a_node_has_no_routes_for_is_back_at_once(objection: str | None) -> None:
    here, speakers = node_a((RoutedWords(objection=objection), UP, says("a")))
    found = await routers.wait_until_back(here, speakers, GROUP, "a", (), patience=10)
    assert (found.why, found.peers) == ("", ())


@pytest.mark.parametrize(
    ("turn", "why", "waited"),
    [
        ((SAID, UP, says("a")), f"x was not yet told of {WEB}", True),
        ((SAID, DOWN, says("a")), "a has no session with x, y", True),
        ((RoutedWords(objection=Objection.EXCLUDED.text), UP, says("a")), "has not yet heard", True),
        ((SAID, UP, RoutesWords("a", False)), routers.UNSEEN, False),
        ("refused", "the speaker on a does not answer: refused", False),
    ],
)
async def test_it_says_why_it_is_not_back(
    turn: tuple[RoutedWords, SpeakerWords, RoutesWords] | str,
    why: str,
    waited: bool,
    autojump_clock: trio.testing.MockClock,
) -> None:
    here, speakers = node_a(turn)
    found = await routers.wait_until_back(here, speakers, GROUP, "a", (), patience=30)
    assert why in found.why
    assert (found.seconds >= 30) == waited
