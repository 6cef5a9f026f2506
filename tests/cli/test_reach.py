"""How long pods are waited for, and what is said meanwhile."""

from __future__ import annotations

import io
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any, cast

import pytest
import trio
from trio.testing import MockClock

from crier.cli._common import LONG, Session, tell_who_is_awaited
from crier.cli._handover import BRIEF, ask_all
from crier.inspect.gather import Speaker
from crier.inspect.reach import Reach, Unreachable
from crier.inspect.words import SpeakerWords
from crier.kube.client import Api
from tests.cli.pictures import pod

SAID = "waiting for speaker-iris1, 9 s at most\n"


class Slow:
    """An API whose pods take their time."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds

    async def create(self, *_: Any, **__: Any) -> bytes:
        return b'{"status": {"token": "t"}}'

    async def fetch(self, path: str, *, headers: Mapping[str, str], timeout: float) -> bytes:
        await trio.sleep(self._seconds)
        return b'{"node": "iris1"}'


@pytest.mark.parametrize(("seconds", "said"), [(60.0, SAID), (2 * LONG, SAID), (LONG / 2, "")])
async def test_who_takes_long_is_named_once(seconds: float, said: str, autojump_clock: MockClock) -> None:
    reach, heard = Reach(cast("Api", Slow(seconds)), "metallb-system", patience=9.0), io.StringIO()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(tell_who_is_awaited, reach, heard)
        for _ in range(2):
            if seconds > reach.patience:
                with pytest.raises(Unreachable, match="no answer within 9 s"):
                    await reach.ask(pod("iris1"), "/status", SpeakerWords)
            else:
                assert (await reach.ask(pod("iris1"), "/status", SpeakerWords)).node == "iris1"
        nursery.cancel_scope.cancel()
    assert heard.getvalue() == said
    assert reach.awaited(trio.current_time()) == set()


@pytest.mark.parametrize(("was_silent", "took"), [("no answer", BRIEF), ("", 9.0)])
async def test_who_was_silent_is_not_waited_for_at_every_look(
    was_silent: str, took: float, autojump_clock: MockClock
) -> None:
    reach: Any = Reach(cast("Api", Slow(60.0)), "metallb-system", patience=9.0)
    session = cast("Session", SimpleNamespace(reach=reach))
    speaker = Speaker(pod("iris1"), silence=was_silent)
    began = trio.current_time()
    assert await ask_all(session, [speaker], "/status", SpeakerWords) == (
        [],
        {"iris1": f"no answer within {took:g} s"},
    )
    assert trio.current_time() - began == pytest.approx(took)
