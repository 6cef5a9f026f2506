"""What is wanted minus what FRR has, as the commands that make up the difference.  Pure.

Prefixes are `network` lines, and each one's route-map puts it in a *class*: all prefixes that are told to the
same peers with the same attributes.  The class gives it a tag, which never leaves bgpd, and each peer's
outgoing route-map has one entry for each tag the peer is told of.  What is said of a prefix is set by the
class where all peers are told the same, else by the entries.  So a prefix is one command whatever its
attributes and however many the peers, and no prefix-list is needed, of which FRR 8.4 takes a thousand lines
in 14 s.

Tags and the names of classes are digests of what they mean.  Equal ones mean the same, also between what we
want now and what a planner before us left in FRR.
"""

from __future__ import annotations

import functools
import hashlib
import ipaddress
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from bgp_lite.attributes import Path
from bgp_lite.prefix import Family, Prefix
from speaker.frr.render import GLOBALS, IN_MAP, NHT, Base, Neighbor, Router
from speaker.frr.running import Held, HeldRouter

BGPD: Final = "bgpd"
BFDD: Final = "bfdd"
ZEBRA: Final = "zebra"

WELL_KNOWN: Final = 0xFFFF0000
"""The first of the communities with a meaning of their own (RFC 1997)."""
LAST_ENTRY: Final = 65535
"""Of a route-map: "nothing else"."""
FAMILY_PATHS: Final = {4: "address-family ipv4 unicast", 6: "address-family ipv6 unicast"}


@dataclass(frozen=True, slots=True)
class Block:
    """Commands for one place of one daemon's configuration."""

    daemon: str
    path: tuple[str, ...]
    """The commands that lead there from the top of the configuration."""
    lines: tuple[str, ...] = field(repr=False)
    peer: str = ""
    """The BGPPeer that all of it is about.  When one line is refused the rest of the peer is left out."""


@dataclass(frozen=True, slots=True)
class Wanted:
    base: Base
    networks: Mapping[str, Mapping[str, int]]
    """By VRF: prefix to the number of its class."""
    classes: Mapping[int, tuple[str, ...]]
    """Number to what is set there, the tag first."""
    entries: Mapping[str, Mapping[int, tuple[str, ...]]]
    """By outgoing route-map: tag to what is set there."""


def want(base: Base, routes: Mapping[str, Mapping[Prefix, Path]]) -> Wanted:
    """Put the prefixes of every peer in classes."""
    networks: dict[str, dict[str, int]] = {}
    classes: dict[int, tuple[str, ...]] = {}
    entries: dict[str, dict[int, tuple[str, ...]]] = {}
    for vrf, router in base.routers.items():
        meanings, told = _meanings(router.neighbors, routes)
        known: dict[tuple[int, ...], int] = {}
        found = networks[vrf] = {}
        entries |= {neighbor.out_map: {} for neighbor in router.neighbors}
        for key, numbers in told.items():
            number = known.get(numbers)
            if number is None:
                meant = [meanings[each] for each in numbers]
                number, lines = _class(vrf, meant, entries)
                known[numbers], classes[number] = number, lines
            found[_text(*key)] = number
    return Wanted(base, networks, classes, entries)


def _class(
    vrf: str, meant: Sequence[_Meaning], entries: Mapping[str, dict[int, tuple[str, ...]]]
) -> tuple[int, tuple[str, ...]]:
    """Its number and its lines; what it needs towards its peers is added to `entries`."""
    shared = meant[0][1]
    if _for_all(shared) and all(path == shared for _, path in meant):
        meant, set_here = [(neighbor, Path()) for neighbor, _ in meant], set_lines(shared)
    else:
        set_here = ()
    tag = _digest(repr((vrf, [(neighbor.out_map, set_lines(path)) for neighbor, path in meant])))
    for neighbor, path in meant:
        entries[neighbor.out_map][tag] = (f"match tag {tag}", *set_lines(path))
    lines = (f"set tag {tag}", *set_here)
    return _digest(repr(lines)), lines


def _for_all(path: Path) -> bool:
    """Whether FRR may see the attributes on its own route: well-known communities it would obey itself."""
    return path.next_hop is None and all(value < WELL_KNOWN for value in path.communities)


_Meaning = tuple[Neighbor, Path]
_Key = tuple[bool, bytes]
"""A prefix: whether it is IPv6, and its NLRI.  Unlike `Prefix` it is hashed without a line of Python."""


def _meanings(
    neighbors: Sequence[Neighbor], routes: Mapping[str, Mapping[Prefix, Path]]
) -> tuple[list[_Meaning], dict[_Key, tuple[int, ...]]]:
    """All that is said to anybody, and for each prefix the numbers of what is said of it.

    There are many prefixes and few paths, so each path is compared once, not once for each prefix.
    """
    meanings: list[_Meaning] = []
    told: dict[_Key, tuple[int, ...]] = {}
    for neighbor in neighbors:
        numbers: dict[Path, int] = {}
        known: dict[int, tuple[int]] = {}
        """By identity; the paths live as long as `routes`."""
        families = [Family.IPV4 if version == 4 else Family.IPV6 for version in neighbor.families]
        for (family, nlri), path in routes.get(neighbor.peer, {}).items():
            if family not in families:
                continue
            number = known.get(id(path))
            if number is None:
                if path not in numbers:
                    numbers[path] = len(meanings)
                    meanings.append((neighbor, path))
                number = known[id(path)] = (numbers[path],)
            key = (family is Family.IPV6, nlri)
            told[key] = told.get(key, ()) + number
    return meanings, told


@functools.lru_cache(maxsize=1 << 17)
def _text(six: bool, nlri: bytes) -> str:
    """The same prefixes are asked for at every change."""
    return str(Prefix(Family.IPV6 if six else Family.IPV4, nlri))


def _digest(said: str) -> int:
    """1..4294967295.  Of two out of a hundred to be taken for one the chance is one in a million."""
    return int.from_bytes(hashlib.sha256(said.encode()).digest()[:4], "big") or 1


def set_lines(path: Path) -> tuple[str, ...]:
    """The attributes, as a route-map sets them."""
    lines = []
    if path.communities:
        values = " ".join(f"{value >> 16}:{value & 0xFFFF}" for value in path.communities)
        lines.append(f"set community {values} additive")
    if path.large_communities:
        values = " ".join(":".join(map(str, value)) for value in path.large_communities)
        lines.append(f"set large-community {values} additive")
    if path.local_pref is not None:
        lines.append(f"set local-preference {path.local_pref}")
    if path.next_hop is not None:
        hop = ipaddress.ip_address(path.next_hop[:16])
        lines.append(f"set ip next-hop {hop}" if hop.version == 4 else f"set ipv6 next-hop global {hop}")
    return tuple(lines)


def changes(held: Held, wanted: Wanted) -> list[Block]:
    """In an order in which no prefix is told to a peer it is not meant for, nor with another's attributes.

    What is new is prepared first, then the prefixes move, then what nobody refers to any more is removed.
    """
    base = wanted.base
    blocks = [Block(BGPD, (), _missing(GLOBALS, held))] if base.routers else []
    if base.routers:
        blocks += _opened((f"route-map {IN_MAP} deny 10",), held)
    for out_map in wanted.entries:
        if out_map not in held.outs:
            blocks.append(Block(BGPD, (f"route-map {out_map} deny {LAST_ENTRY}",), ()))
    blocks += _unwanted_routers(held, wanted)
    blocks += _new_classes(held, wanted)
    for vrf, router in base.routers.items():
        has = held.routers.get(vrf)
        if has is None or has.asn != router.asn:
            has = HeldRouter(router.asn)
        blocks += _router(router, has)
        blocks += _networks(router.command, has.networks, wanted.networks[vrf])
    blocks += _old_classes(held, wanted)
    return [block for block in blocks if block.lines or block.path]


def greet() -> list[Block]:
    """What is said once, whatever the peers."""
    return [Block(ZEBRA, (), NHT)]


def prepare(base: Base, profiles: set[str], known: Mapping[str, tuple[str, ...]]) -> list[Block]:
    """What bfdd is told before bgpd.  `known`: the BFD profiles that were told already."""
    blocks = []
    for name, lines in base.profiles.items():
        if name not in profiles or known.get(name) != lines:
            blocks.append(Block(BFDD, ("bfd", f"profile {name}"), lines))
    return blocks


def clear(base: Base, profiles: set[str]) -> list[Block]:
    """The BFD profiles no session needs any more, after bgpd has let go of them."""
    gone = tuple(f"no profile {name}" for name in sorted(profiles - base.profiles.keys()))
    return [Block(BFDD, ("bfd",), gone)] if gone else []


def remove_neighbor(router: Router, neighbor: Neighbor) -> Block:
    return Block(BGPD, (router.command,), (f"no neighbor {neighbor.id}",))


def _missing(lines: Sequence[str], held: Held) -> tuple[str, ...]:
    return tuple(line for line in lines if line not in held.lines)


def _opened(sections: Sequence[str], held: Held) -> list[Block]:
    return [Block(BGPD, (section,), ()) for section in _missing(sections, held)]


def _unwanted_routers(held: Held, wanted: Wanted) -> list[Block]:
    """Routers we no longer need go when nobody else's neighbours are in them, and those of another AS go."""
    blocks = []
    for vrf, has in held.routers.items():
        router = wanted.base.routers.get(vrf)
        command = f"router bgp {has.asn}" + (f" vrf {vrf}" if vrf else "")
        if router is not None and router.asn == has.asn:
            continue
        ours = [name for name, text in has.neighbors.items() if text.startswith("crier ")]
        # first, because with the whole router FRR 8.4 closes the session without a word, and a router that
        # knows graceful restart would keep the routes
        blocks.append(Block(BGPD, (command,), tuple(f"no neighbor {name}" for name in ours)))
        empty = len(ours) == len(has.neighbors)
        if router is not None or (empty and (ours or has.networks)):
            blocks.append(Block(BGPD, (), (f"no {command}",)))
        else:
            blocks += _networks(command, has.networks, {})
    return [block for block in blocks if block.lines]


def _router(router: Router, has: HeldRouter) -> list[Block]:
    path = (router.command,)
    wanted = {neighbor.id: neighbor for neighbor in router.neighbors}
    blocks = [Block(BGPD, path, tuple(line for line in router.lines if line not in has.lines))]
    gone = [
        name
        for name, text in has.neighbors.items()
        if (name in wanted and wanted[name].description != text)
        or (name not in wanted and text.startswith("crier "))
    ]
    blocks.append(Block(BGPD, path, tuple(f"no neighbor {name}" for name in gone)))
    for name, neighbor in wanted.items():
        if has.neighbors.get(name) != neighbor.description:
            blocks += neighbor_blocks(router, neighbor)
    return [block for block in blocks if block.lines] or ([] if has.lines else [Block(BGPD, path, ())])


def neighbor_blocks(router: Router, neighbor: Neighbor) -> list[Block]:
    """One session, from nothing.  What says that it is complete comes last."""
    path, name = (router.command,), neighbor.id
    blocks = [Block(BGPD, path, neighbor.lines, neighbor.peer)]
    blocks += [
        Block(BGPD, (*path, FAMILY_PATHS[version]), neighbor.family_lines, neighbor.peer)
        for version in neighbor.families
    ]
    said = f"neighbor {name} description {neighbor.description}"
    return [*blocks, Block(BGPD, path, (said,), neighbor.peer)]


def _networks(command: str, has: Mapping[str, int], wanted: Mapping[str, int]) -> list[Block]:
    lines: dict[int, list[str]] = {4: [], 6: []}
    for prefix, tag in has.items():
        if prefix not in wanted:
            lines[_version(prefix)].append(f"no network {prefix} route-map crier-class-{tag}")
    for prefix, tag in wanted.items():
        if has.get(prefix) != tag:
            lines[_version(prefix)].append(f"network {prefix} route-map crier-class-{tag}")
    return [
        Block(BGPD, (command, FAMILY_PATHS[version]), tuple(found))
        for version, found in lines.items()
        if found
    ]


def _version(prefix: str) -> int:
    return 6 if ":" in prefix else 4


def _new_classes(held: Held, wanted: Wanted) -> list[Block]:
    blocks = [
        Block(BGPD, (f"route-map crier-class-{number} permit 10",), wanted.classes[number])
        for number in sorted(wanted.classes.keys() - held.classes)
    ]
    for out_map, entries in wanted.entries.items():
        has = held.outs.get(out_map, {})
        blocks += [
            Block(BGPD, (f"route-map {out_map} permit {number}",), entries[tag])
            for number, tag in entry_numbers(has, entries).items()
            if has.get(number) != tag
        ]
    return blocks


def entry_numbers(has: Mapping[int, int], entries: Mapping[int, object]) -> dict[int, int]:
    """Which number each tag has in a route-map: the one it has, or the lowest that is free now."""
    numbers: dict[int, int] = {}
    placed = set()
    for number, tag in has.items():
        if tag in entries and tag not in placed:
            numbers[number] = tag
            placed.add(tag)
    free = 1
    for tag in sorted(entries.keys() - placed):
        while free in has or free in numbers:
            free += 1
        numbers[free] = tag
    return numbers


def _old_classes(held: Held, wanted: Wanted) -> list[Block]:
    lines = []
    for out_map, has in held.outs.items():
        entries = wanted.entries.get(out_map)
        if entries is None:
            lines.append(f"no route-map {out_map}")
            continue
        kept = entry_numbers(has, entries)
        lines += [f"no route-map {out_map} permit {number}" for number in has if number not in kept]
    gone = sorted(held.classes - wanted.classes.keys())
    lines += [f"no route-map crier-class-{number}" for number in gone]
    if not wanted.base.routers and f"route-map {IN_MAP} deny 10" in held.lines:
        lines.append(f"no route-map {IN_MAP}")
    return [Block(BGPD, (), tuple(lines))] if lines else []


def settled(held: Held, wanted: Wanted) -> Held:
    """What FRR has when all of `changes(held, wanted)` was taken."""
    base = wanted.base
    routers = {
        vrf: HeldRouter(
            router.asn,
            set(router.lines),
            _foreign(held.routers.get(vrf), router)
            | {neighbor.id: neighbor.description for neighbor in router.neighbors},
            dict(wanted.networks[vrf]),
        )
        for vrf, router in base.routers.items()
    }
    outs = {
        out_map: entry_numbers(held.outs.get(out_map, {}), entries)
        for out_map, entries in wanted.entries.items()
    }
    lines = held.lines | ({*GLOBALS, f"route-map {IN_MAP} deny 10"} if base.routers else set())
    if not base.routers:
        lines.discard(f"route-map {IN_MAP} deny 10")
    return Held(lines, routers, set(wanted.classes), outs, held.profiles)


def _foreign(has: HeldRouter | None, router: Router) -> dict[str, str]:
    if has is None or has.asn != router.asn:
        return {}
    return {name: text for name, text in has.neighbors.items() if not text.startswith("crier ")}


def whole(blocks: Sequence[Block]) -> str:
    """Blocks as a configuration file."""
    return "frr defaults traditional\nservice integrated-vtysh-config\n" + part(blocks)


def part(blocks: Sequence[Block]) -> str:
    """Blocks as a piece of one."""
    lines: list[str] = []
    for block in blocks:
        lines += [" " * depth + line for depth, line in enumerate(block.path)]
        lines += [" " * len(block.path) + line for line in block.lines]
        for depth in reversed(range(len(block.path))):
            lines.append(
                " " * depth + ("exit-address-family" if depth == 1 and "address" in block.path[1] else "exit")
            )
    return "".join(f"{line}\n" for line in lines)
