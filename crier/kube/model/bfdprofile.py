"""BFDProfile: how fast the path to a BGP peer is watched."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import msgspec

from crier.kube.model.errors import ConfigError
from crier.kube.model.wire import SpecObject


class _SpecWire(msgspec.Struct, frozen=True, rename="camel"):
    receive_interval: int | None = None
    transmit_interval: int | None = None
    detect_multiplier: int | None = None
    echo_interval: int | None = None
    echo_mode: bool | None = None
    passive_mode: bool | None = None
    minimum_ttl: int | None = None


class BfdProfileObject(SpecObject[_SpecWire], spec=_SpecWire):
    """A BFDProfile as it stands in the API: of the right shape, but not checked yet."""

    __slots__ = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class BfdProfile:
    """A checked BFDProfile.  What it leaves out is what FRR takes, as MetalLB's users are used to."""

    name: str
    receive_interval: int = 300
    """Milliseconds, 10..60000."""
    transmit_interval: int = 300
    """Milliseconds, 10..60000."""
    detect_multiplier: int = 3
    """2..255."""
    echo_interval: int = 50
    """Milliseconds, 10..60000."""
    echo_mode: bool = False
    passive_mode: bool = False
    minimum_ttl: int = 254
    """1..254, of multihop sessions."""


def parse_bfd_profiles(objects: Iterable[BfdProfileObject]) -> Mapping[str, BfdProfile]:
    """Check all BFDProfiles; the result is by name.

    Raises:
        ConfigError: with every fault of every one.
    """
    profiles: dict[str, BfdProfile] = {}
    problems: list[str] = []
    for thing in sorted(objects, key=lambda each: each.name):
        if thing.name in profiles:
            problems.append(
                f"{thing.name}: metadata.name: duplicate definition of bfd profile {thing.name!r}"
            )
            continue
        profiles[thing.name] = _parse(thing, problems)
    if problems:
        raise ConfigError(problems)
    return profiles


def _parse(thing: BfdProfileObject, problems: list[str]) -> BfdProfile:
    spec = thing.spec

    def within(field: str, value: int | None, low: int, high: int, default: int) -> int:
        if value is None:
            return default
        if not low <= value <= high:
            problems.append(f"{thing.name}: spec.{field}: {value} is not in {low}..{high}")
        return value

    return BfdProfile(
        name=thing.name,
        receive_interval=within("receiveInterval", spec.receive_interval, 10, 60000, 300),
        transmit_interval=within("transmitInterval", spec.transmit_interval, 10, 60000, 300),
        detect_multiplier=within("detectMultiplier", spec.detect_multiplier, 2, 255, 3),
        echo_interval=within("echoInterval", spec.echo_interval, 10, 60000, 50),
        echo_mode=spec.echo_mode is True,
        passive_mode=spec.passive_mode is True,
        minimum_ttl=within("minimumTtl", spec.minimum_ttl, 1, 254, 254),
    )
