"""The reflex, first process of the pod.  Its nursery is its architecture."""

from __future__ import annotations

import os
import random
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import trio

from crier.ops import logs
from crier.ops.lifecycle import stop_on_signal
from speaker.reflex import keyrotation, memberconfig, realtime
from speaker.reflex.birth import Newborn
from speaker.reflex.l2.links import Excluded
from speaker.reflex.planner import Planner
from speaker.reflex.reflex import Reflex
from speaker.settings import PROGRAM, USAGE_STATUS, Settings, SettingsError

log = logs.get(__name__)

_MAX_EXCLUDE_FILE: Final = 1 << 20
_LAST_WORDS: Final = 1000
"""Events still logged when we stop: what waits longer would keep others waiting."""


async def serve(settings: Settings, command: Sequence[str], first: Newborn | None) -> None:
    """Run until asked to stop.  Raises SettingsError, and OSError when there is no layer 2 to work on.

    `command` starts a planner, `first` is one that has been started already.
    """
    config = memberconfig.make(settings) if settings.membership else None
    if config is None:
        log.warning(
            "gossip_disabled", why="--ml-bindaddr or --ml-labels is empty: every candidate counts as alive"
        )
    elif not config.keyring:
        log.warning("gossip_not_encrypted", why="no --ml-secret-key-path, or an empty key")
    reflex = Reflex(
        settings.node_name,
        config,
        excluded(settings.exclude_l2_file),
        settings.conflict_policy,
        probe_time=settings.probe_time / 1000,
        self_check_interval=settings.self_check_interval,
    )
    planner = Planner(command, os.environ, reflex.outbox, hello=reflex.hello, take=reflex.take, first=first)
    asked_to_stop = trio.Event()

    async with trio.open_nursery() as program:

        def stop(_: object) -> None:
            if asked_to_stop.is_set():  # asked twice: no more courtesies
                program.cancel_scope.cancel()
            asked_to_stop.set()

        await program.start(stop_on_signal, stop)
        await program.start(reflex.l2.run)
        if reflex.membership is not None:
            program.start_soon(reflex.membership.run)
        if config is not None and config.keyring and (file := memberconfig.key_file(settings)) is not None:
            program.start_soon(keyrotation.follow, config.keyring, file)
        program.start_soon(planner.run)
        program.start_soon(reflex.keep_time)
        program.start_soon(reflex.tell)
        program.start_soon(reflex.beat)
        program.start_soon(reflex.bfd.run)
        if settings.self_check_interval:
            program.start_soon(reflex.check)
        if settings.gratuitous_interval:
            program.start_soon(reflex.refresh, settings.gratuitous_interval, random.Random())
        program.start_soon(reflex.lateness.measure)
        program.start_soon(realtime.keep_heap)
        log.info("started", node=settings.node_name, pid=os.getpid())
        await asked_to_stop.wait()
        async with trio.open_nursery() as leaving:
            leaving.start_soon(reflex.leave)
            leaving.start_soon(planner.stop)
        reflex.bfd.leave()  # after the routers have heard from the planner why
        reflex.tell_some(_LAST_WORDS)
        log.info("stopped")
        program.cancel_scope.cancel()


def excluded(file: Path) -> Excluded:
    """MetalLB's list of interfaces that never announce; a file that is not there excludes nothing.

    Raises SettingsError.
    """
    try:
        with file.open("rb") as opened:
            text = opened.read(_MAX_EXCLUDE_FILE)
    except FileNotFoundError:
        return Excluded([])
    except OSError as problem:
        raise SettingsError(f"{file}: {problem.strerror}") from None
    import yaml  # 2 MiB that are needed only where the file is there

    key = "announcedInterfacesToExclude"
    try:
        document = yaml.safe_load(text)
    except yaml.YAMLError as problem:
        raise SettingsError(f"{file}: {' '.join(str(problem).split())}") from None
    patterns = document.get(key) if isinstance(document, dict) else None
    if not isinstance(patterns, list) or not all(isinstance(pattern, str) for pattern in patterns):
        raise SettingsError(f"{file}: {key}: a list of regular expressions is required")
    try:
        return Excluded(patterns)
    except ValueError as problem:
        raise SettingsError(f"{file}: {key}: {problem}") from None


def run(settings: Settings, command: Sequence[str], first: Newborn | None) -> None:
    """`serve` in an event loop of its own; what it raises ends the process."""
    try:
        logs.configure(settings.log_level, blocking=False)
        if settings.realtime:
            realtime.be_first()
        trio.run(serve, settings, command, first)
    except SettingsError as problem:
        sys.stderr.write(f"{PROGRAM}: {problem}\n")
        raise SystemExit(USAGE_STATUS) from None
    except Exception as problem:
        log.error("ended", error=problem)
        raise SystemExit(1) from problem
