"""Community: names for BGP communities, and what may be written where one is wanted."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Final, TypeAlias

import msgspec

from crier.kube.model.errors import ConfigError
from crier.kube.model.wire import SpecObject

LargeCommunity: TypeAlias = tuple[int, int, int]
CommunityValue: TypeAlias = int | LargeCommunity
"""A standard community (RFC 1997) as its 32-bit value, or a large one (RFC 8092)."""

_STANDARD: Final = re.compile(r"([0-9]{1,5}):([0-9]{1,5})")
_LARGE: Final = re.compile(r"large:([0-9]{1,10}):([0-9]{1,10}):([0-9]{1,10})")


class _EntryWire(msgspec.Struct, frozen=True):
    name: str = ""
    value: str = ""


class _SpecWire(msgspec.Struct, frozen=True):
    communities: tuple[_EntryWire, ...] | None = None


class CommunityObject(SpecObject[_SpecWire], spec=_SpecWire):
    """A Community as it stands in the API: of the right shape, but not checked yet."""

    __slots__ = ()


def parse_value(text: str) -> CommunityValue:
    """`A:B` of 16 bits each, or `large:A:B:C` of 32 bits each.

    Raises:
        ValueError: with MetalLB's words, for anything else.
    """
    if match := _STANDARD.fullmatch(text):
        high, low = map(int, match.groups())
        if max(high, low) > 0xFFFF:
            raise ValueError(f"invalid community value {text!r}: each part is 0..65535")
        return high << 16 | low
    if match := _LARGE.fullmatch(text):
        one, two, three = map(int, match.groups())
        if max(one, two, three) > 0xFFFFFFFF:
            raise ValueError(f"invalid community value {text!r}: each part is 0..4294967295")
        return one, two, three
    raise ValueError(f"invalid community format {text!r}: must be A:B or large:A:B:C")


def parse_communities(objects: Iterable[CommunityObject]) -> Mapping[str, CommunityValue]:
    """The aliases of all Community objects together.

    Raises:
        ConfigError: with every fault of every one.
    """
    aliases: dict[str, CommunityValue] = {}
    problems: list[str] = []
    for thing in sorted(objects, key=lambda each: each.name):
        for index, entry in enumerate(thing.spec.communities or ()):
            path = f"{thing.name}: spec.communities[{index}]"
            if not entry.name:
                problems.append(f"{path}.name: missing community name")
                continue
            if entry.name in aliases:
                problems.append(f"{path}.name: duplicate definition of community {entry.name!r}")
                continue
            try:
                aliases[entry.name] = parse_value(entry.value)
            except ValueError as problem:
                problems.append(f"{path}.value: {problem}")
    if problems:
        raise ConfigError(problems)
    return aliases
