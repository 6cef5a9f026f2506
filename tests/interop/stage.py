"""Plays whole-cluster scenarios side by side.

A scenario mostly waits: for a probe, a timeout, a gossip round.  So all that a test session wants are played
together, a few at a time, in one event loop in a thread of its own, and each test only collects its outcome.
"""

from __future__ import annotations

import threading
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, TypeAlias

import pytest
import trio

from tests.interop.gobuild import CannotBuildError

Play: TypeAlias = Callable[..., Awaitable[None]]

AT_ONCE: Final = 4
SCENE_SECONDS: Final = 400.0


class Programs:
    """Commands that run a member, by its kind."""

    def __init__(self, commands: Mapping[str, Sequence[str]]) -> None:
        self._commands = dict(commands)
        self._missing: dict[str, str] = {}

    def find(self, kind: str, finder: Callable[[], Path]) -> None:
        """Add the program the finder names, or remember why it found none."""
        try:
            self._commands[kind] = [str(finder())]
        except CannotBuildError as error:
            self._missing[kind] = str(error)

    def __getitem__(self, kind: str) -> Sequence[str]:
        """Raises CannotBuildError where there is no such program on this machine."""
        if kind in self._missing:
            raise CannotBuildError(self._missing[kind])
        return self._commands[kind]


@dataclass(frozen=True, slots=True)
class Scene:
    """One scenario with its arguments."""

    play: Play
    arguments: tuple[tuple[str, Any], ...] = ()

    @property
    def name(self) -> str:
        return "-".join(getattr(value, "name", str(value)) for _, value in self.arguments) or "once"


def scenes(play: Play, **axes: Iterable[Any]) -> pytest.MarkDecorator:
    """Parametrize a test with the scenes of a play: one for each combination of the axes."""
    combinations: list[tuple[tuple[str, Any], ...]] = [()]
    for axis, values in axes.items():
        combinations = [(*chosen, (axis, value)) for value in values for chosen in combinations]
    found = [Scene(play, chosen) for chosen in combinations]
    return pytest.mark.parametrize("scene", [pytest.param(scene, id=scene.name) for scene in found])


@dataclass
class Stage:
    """Runs scenes in its thread from the first outcome asked for until it is closed."""

    programs: Programs
    wanted: Sequence[Scene]
    _outcomes: dict[Scene, Future[None]] = field(default_factory=dict)
    _thread: threading.Thread | None = None
    _token: trio.lowlevel.TrioToken | None = None
    _scope: trio.CancelScope = field(default_factory=trio.CancelScope)

    def outcome(self, scene: Scene) -> None:
        """Wait for a scene to end; raises what it raised.  Skips the test when a program cannot be had."""
        if self._thread is None:
            self._outcomes = {wanted: Future() for wanted in self.wanted}
            self._thread = threading.Thread(target=trio.run, args=(self._play_all,), name="stage")
            self._thread.start()
        # A scene that waits for its turn waits for those before it, each of which is bounded.
        try:
            self._outcomes[scene].result(timeout=SCENE_SECONDS * len(self.wanted))
        except CannotBuildError as error:
            pytest.skip(str(error))

    def close(self) -> None:
        """Stop what still plays and wait until its processes are gone."""
        if self._thread is None:
            return
        if self._token is not None:
            with suppress(trio.RunFinishedError):
                self._token.run_sync_soon(self._scope.cancel)
        self._thread.join()

    async def _play_all(self) -> None:
        self._token = trio.lowlevel.current_trio_token()
        turns = trio.CapacityLimiter(AT_ONCE)
        try:
            with self._scope:
                async with trio.open_nursery() as nursery:
                    for scene in self.wanted:
                        await turns.acquire_on_behalf_of(scene)
                        nursery.start_soon(self._play, scene, turns)
        finally:
            for outcome in self._outcomes.values():
                outcome.cancel()

    async def _play(self, scene: Scene, turns: trio.CapacityLimiter) -> None:
        outcome = self._outcomes[scene]
        try:
            with trio.fail_after(SCENE_SECONDS):
                await scene.play(self.programs, **dict(scene.arguments))
        except Exception as error:  # noqa: BLE001 (the test that asks for the outcome raises it)
            outcome.set_exception(_cause(error))
        else:
            outcome.set_result(None)
        finally:
            turns.release_on_behalf_of(scene)


def _cause(error: Exception) -> Exception:
    """What went wrong, without the groups nurseries put around it."""
    while isinstance(error, ExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return error
