"""What is in force in FRR already, of what is ours: read back from its running configuration.  Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Final

_ROUTER: Final = re.compile(r"router bgp (\d{1,10})(?: vrf (\S+))?")
_NEIGHBOR: Final = re.compile(r"neighbor (\S+) (?:interface )?remote-as ")
_DESCRIPTION: Final = re.compile(r"neighbor (\S+) description (.+)")
_NETWORK: Final = re.compile(r"network (\S+) route-map crier-class-(\d{1,10})")
_OUT: Final = re.compile(r"route-map (crier-out-\S+) permit (\d{1,5})")
_ANY_OUT: Final = re.compile(r"route-map (crier-out-\S+) ")
_CLASS: Final = re.compile(r"route-map crier-class-(\d{1,10}) permit")
_TAG: Final = re.compile(r"match tag (\d{1,10})")
_SET_TAG: Final = re.compile(r"set tag \d{1,10}")
_PROFILE: Final = re.compile(r"profile (crier-bfd-\S+)")


@dataclass(slots=True)
class HeldRouter:
    asn: int
    lines: set[str] = field(default_factory=set)
    neighbors: dict[str, str] = field(default_factory=dict)
    """Description of every neighbour, ours or not, by FRR's name for it."""
    networks: dict[str, int] = field(default_factory=dict)
    """Prefix to the number of its class; ours alone."""


@dataclass(slots=True)
class Held:
    """As far as it concerns us."""

    lines: set[str] = field(default_factory=set)
    """What stands outside of everything."""
    routers: dict[str, HeldRouter] = field(default_factory=dict)
    """By VRF."""
    classes: set[int] = field(default_factory=set)
    outs: dict[str, dict[int, int]] = field(default_factory=dict)
    """Route-map towards a peer: sequence number to tag."""
    profiles: set[str] = field(default_factory=set)
    """BFD profiles of ours."""


def parse_bgpd(text: str) -> Held:
    """bgpd's `show running-config`.  Lines that are not understood are somebody else's."""
    held = Held()
    router: HeldRouter | None = None
    out: tuple[str, int] | None = None
    number = 0
    for raw in text.splitlines():
        line = raw.strip()
        if raw == line:  # not indented: a section begins, or ends
            router, out, number = None, None, 0
            if found := _ROUTER.fullmatch(line):
                router = held.routers.setdefault(found[2] or "", HeldRouter(int(found[1])))
            elif found := _OUT.fullmatch(line):
                out = (found[1], int(found[2]))
                # 0 unless the next line says otherwise: half an entry, which matches everything, must go
                held.outs.setdefault(found[1], {})[int(found[2])] = 0
            elif found := _ANY_OUT.match(line):
                held.outs.setdefault(found[1], {})
            elif found := _CLASS.match(line):
                number = int(found[1])
            else:
                held.lines.add(line)
        elif router is not None:
            _router_line(router, line)
        elif out is not None and (found := _TAG.fullmatch(line)):
            held.outs[out[0]][out[1]] = int(found[1])
        elif number and _SET_TAG.fullmatch(line):
            held.classes.add(number)
    return held


def _router_line(router: HeldRouter, line: str) -> None:
    if found := _NETWORK.fullmatch(line):
        router.networks[found[1]] = int(found[2])
    elif found := _NEIGHBOR.match(line):
        router.neighbors.setdefault(found[1], "")
    elif found := _DESCRIPTION.fullmatch(line):
        router.neighbors[found[1]] = found[2]
    else:
        router.lines.add(line)


def parse_bfdd(text: str) -> set[str]:
    """bfdd's `show running-config`: the profiles that are ours."""
    return {found[1] for line in text.splitlines() if (found := _PROFILE.fullmatch(line.strip()))}
