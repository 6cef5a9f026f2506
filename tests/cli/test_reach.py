"""How long pods are waited for, and what is said meanwhile."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any, cast

import pytest
import trio
from trio.testing import MockClock

from crier.cli._common import LONG, tell_who_is_awaited
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

    async def fetch(self, path: str, *, headers: Mapping[str, str]) -> bytes:
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
