"""Moving addresses from node to node one after the other, each move seen through before the next begins.

What a node hands over stands in its annotation `crier.dev/drain`; so whatever ends this program, the cluster
is in a state that holds, and the next run goes on from there.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeVar

import msgspec
import trio

from crier.cli import _common as common
from crier.cli import _wire as wire
from crier.cli._common import Exit, Session
from crier.inspect.gather import Picture, Speaker
from crier.inspect.reach import Unreachable
from crier.inspect.words import SpeakerWords
from crier.kube.errors import Conflict, NotFound
from crier.kube.model.node import ALL_ADDRESSES, DRAIN_ANNOTATION, EXCLUDE_LABEL, MAX_DRAINED, parse_drain
from crier.kube.resources import NODES

OURS: Final = "crier-drain"
"""Value of the label when `crier drain` set it; any other is somebody else's."""
LOOK: Final = 0.2
"""Seconds between two looks at the speakers."""
BRIEF: Final = 1.0
"""Seconds that a speaker has for its answer which gave none when the verb began."""
ATTEMPTS: Final = 8
"""At a write to a Node that others write to."""
SILENT_LOOKS: Final = 2
"""After so many looks without an answer a speaker without whom nothing can arrive is given up."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Group:
    """Addresses that move together: those of a service, and of services that share one with it."""

    addresses: tuple[str, ...]
    services: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Moved:
    addresses: tuple[str, ...]
    services: tuple[str, ...]
    before: str
    after: str
    """The node that answers now; of a service that is only routed, the nodes whose sessions carry it."""
    seconds: float
    unverified: str = ""
    """Why nobody saw it arrive; it was told to."""


@dataclass(frozen=True, slots=True)
class Stuck:
    addresses: tuple[str, ...]
    services: tuple[str, ...]
    why: str


def groups(picture: Picture) -> tuple[Group, ...]:
    """Every address of a Service is in exactly one."""
    parent: dict[str, str] = {}

    def root(key: str) -> str:
        while parent[key] != key:
            key = parent[key]
        return key

    vips = picture.vips
    for services in vips.values():
        for key in services:
            parent.setdefault(key, key)
            parent[root(key)] = root(services[0])
    members: dict[str, set[str]] = {}
    addresses: dict[str, list[str]] = {}
    for address, services in vips.items():
        of = root(services[0])
        members.setdefault(of, set()).update(services)
        addresses.setdefault(of, []).append(address)
    return tuple(Group(tuple(sorted(addresses[of])), tuple(sorted(members[of]))) for of in sorted(members))


# ------------------------------------------------------------------------------------------- the Node


@dataclass(frozen=True, slots=True)
class Mark:
    """What a Node says about its addresses."""

    drained: frozenset[str]
    label: str | None
    """The label's value; None without it."""


def read_mark(meta: Mapping[str, Any]) -> Mark:
    drained, _ = parse_drain((meta.get("annotations") or {}).get(DRAIN_ANNOTATION, ""))
    return Mark(drained, (meta.get("labels") or {}).get(EXCLUDE_LABEL))


async def mark_of(session: Session, node: str) -> Mark:
    return read_mark(await _metadata(session, node))


async def set_mark(session: Session, node: str, change: Callable[[Mark], Mark]) -> Mark:
    """Read, change, write, again if somebody else wrote in between.  Raises ApiError, Complaint."""
    for _ in range(ATTEMPTS):
        meta = await _metadata(session, node)
        was = read_mark(meta)
        now = change(was)
        if now == was:
            return now
        if len(now.drained) > MAX_DRAINED:
            raise common.Complaint(Exit.WRONG, f"more than {MAX_DRAINED} addresses to name on one node")
        patch = {
            "metadata": {
                "resourceVersion": meta.get("resourceVersion"),
                "annotations": {DRAIN_ANNOTATION: ",".join(sorted(now.drained)) or None},
                "labels": {EXCLUDE_LABEL: now.label},
            }
        }
        try:
            await session.api.patch(NODES, node, patch)
        except Conflict:
            continue
        return now
    raise common.Complaint(Exit.WRONG, f"node {node} is written to by somebody else all the time")


async def _metadata(session: Session, node: str) -> dict[str, Any]:
    try:
        found = msgspec.json.decode(await session.api.get(NODES, node), type=dict[str, Any])
    except NotFound:
        raise common.Complaint(Exit.NOT_FOUND, f"there is no node {node}") from None
    meta = found.get("metadata")
    return meta if isinstance(meta, dict) else {}


# -------------------------------------------------------------------------------------- the speakers


@dataclass(frozen=True, slots=True)
class Sight:
    """Who answers for some addresses, at one moment."""

    answering: Mapping[str, tuple[str, ...]]
    owners: Mapping[str, frozenset[str]]
    """Whose turn it is, in the opinion of those that could be asked."""
    silent: Mapping[str, str]
    """Nodes whose speaker did not answer us, and why."""

    def settled(self, group: Group, right: Callable[[str], bool]) -> str:
        """The one node that answers for all of the group, when it is a right one; else ""."""
        first = self.answering.get(group.addresses[0], ())
        if len(first) != 1 or not right(first[0]):
            return ""
        for address in group.addresses:
            if self.answering.get(address, ()) != first or self.owners.get(address, frozenset()) != {
                first[0]
            }:
                return ""
        return first[0]


async def ask_all(
    session: Session, speakers: Iterable[Speaker], path: str, form: type[T]
) -> tuple[list[T], dict[str, str]]:
    """What speakers say now, all asked at once; and of each that says nothing, by its node, why."""
    answers: list[T] = []
    silent: dict[str, str] = {}

    async def ask(speaker: Speaker) -> None:
        # there are many looks, and each would wait in full for a node that is down
        patience = BRIEF if speaker.silence else math.inf
        try:
            answers.append(await session.reach.ask(speaker.pod, path, form, patience))
        except Unreachable as problem:
            silent[speaker.node] = str(problem)

    async with trio.open_nursery() as nursery:
        for speaker in speakers:
            nursery.start_soon(ask, speaker)
    return answers, silent


async def see(session: Session, speakers: Iterable[Speaker], addresses: Iterable[str]) -> Sight:
    wanted = set(addresses)
    answering: dict[str, list[str]] = {address: [] for address in wanted}
    owners: dict[str, set[str]] = {address: set() for address in wanted}
    answers, silent = await ask_all(session, speakers, "/status", SpeakerWords)
    for says in answers:
        for vip in says.vips:
            if vip.address in wanted:
                owners[vip.address].update([vip.owner] if vip.owner else [])
                if vip.answering:
                    answering[vip.address].append(says.node)
    return Sight(
        {address: tuple(sorted(nodes)) for address, nodes in answering.items()},
        {address: frozenset(nodes) for address, nodes in owners.items()},
        silent,
    )


async def wait_for(
    session: Session,
    speakers: tuple[Speaker, ...],
    group: Group,
    right: Callable[[str], bool],
    *,
    patience: float,
    needs: str = "",
) -> tuple[str, float, str]:
    """Until exactly one right node answers for the group, on the wire too where that can be asked.

    `needs`: a node without whose speaker it cannot come to that; when it says nothing the wait ends early.
    Returns the node, the seconds it took, and "" or why it did not come to that.
    """
    began = trio.current_time()
    why, silent = "", 0
    while trio.current_time() - began < patience:
        sight = await see(session, speakers, group.addresses)
        silent = silent + 1 if needs in sight.silent else 0
        if silent >= SILENT_LOOKS:
            return "", trio.current_time() - began, does_not_answer(needs, sight.silent[needs])
        node = sight.settled(group, right)
        if node:
            why = await _confirm(session, group)
            if not why:
                return node, trio.current_time() - began, ""
        else:
            why = describe(sight, group)
        await trio.sleep(LOOK)
    return "", trio.current_time() - began, why or "no speaker could be asked"


def does_not_answer(node: str, why: str) -> str:
    return f"the speaker on {node} does not answer: {why}"


def describe(sight: Sight, group: Group) -> str:
    """Who answers now, when it is not as it should be."""
    parts = []
    for address in group.addresses:
        nodes = sight.answering.get(address, ())
        parts.append(f"{', '.join(nodes) or 'nobody'} answers for {address}")
    if sight.silent:
        parts.append(f"not asked: {', '.join(sorted(sight.silent))}")
    return "; ".join(parts)


async def _confirm(session: Session, group: Group) -> str:
    """ "" when on the wire exactly one host answers for each, or nobody can ask there."""
    interface: str | None = session.options.wire
    if not interface:
        return ""
    for heard in await wire.ask_all(interface, group.addresses):
        if not heard.problem and len(heard.macs) != 1:
            return f"on the wire {', '.join(heard.macs) or 'nobody'} answers for {heard.address}"
    return ""


def add_flags(flags: common.Parser) -> None:
    flags.add_argument("node", metavar="NODE")
    flags.add_argument(
        "--move-timeout", type=common.seconds, default=30.0, metavar="SECONDS",
        help="for one address to be answered for elsewhere (30)",
    )  # fmt: skip
    flags.add_argument(
        "--wire", metavar="INTERFACE", help="also ask on the wire who answers (root, on the VIPs' LAN)"
    )


def everything(mark: Mark) -> bool:
    return ALL_ADDRESSES in mark.drained
