"""As much of bgpd as our commands need: it takes them, shows its running configuration, and says what each
neighbour would be told."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from speaker.frr.changes import BGPD, Block

Told = dict[tuple[str, str], dict[str, tuple[str, ...]]]
"""By VRF and neighbour: prefix to what is set of it."""


@dataclass
class _Router:
    asn: str
    lines: list[str] = field(default_factory=list)
    neighbors: dict[str, dict[str, str]] = field(default_factory=dict)
    """`description`, and by family the outgoing route-map; "activate FAMILY" when it is active there."""
    networks: dict[str, str] = field(default_factory=dict)
    """Prefix to route-map."""


class FakeBgpd:
    def __init__(self) -> None:
        self.lines: list[str] = []
        self.maps: dict[str, dict[int, tuple[str, list[str]]]] = {}
        self.routers: dict[str, _Router] = {}

    def take(self, block: Block) -> None:
        """Every command must mean something; ValueError, KeyError and AssertionError are faults of ours."""
        assert block.daemon == BGPD
        match [path.split() for path in block.path]:
            case []:
                for line in block.lines:
                    self._top(line)
            case [["route-map", name, action, number]]:
                entry = self.maps.setdefault(name, {}).setdefault(int(number), (action, []))
                assert entry[0] == action, "another action would empty the entry"
                for line in block.lines:
                    kind = " ".join(line.split()[:2])
                    entry[1][:] = [each for each in entry[1] if not each.startswith(kind)] + [line]
            case [["router", "bgp", asn, *vrf], *rest]:
                router = self.routers.setdefault(vrf[1] if vrf else "", _Router(asn))
                assert router.asn == asn, "BGP is already running"
                family = rest[0][1] if rest else ""
                for line in block.lines:
                    self._router(router, family, line)
            case other:
                raise ValueError(other)

    def _top(self, line: str) -> None:
        match line.split():
            case ["no", "route-map", name]:
                del self.maps[name]
            case ["no", "route-map", name, "permit", number]:
                del self.maps[name][int(number)]
            case ["no", "router", "bgp", _, *vrf]:
                del self.routers[vrf[1] if vrf else ""]
            case _:
                self.lines.append(line)

    def _router(self, router: _Router, family: str, line: str) -> None:
        match line.split():
            case ["no", "neighbor", name]:
                del router.neighbors[name]
            case ["neighbor", name, *words] if "remote-as" in words:
                router.neighbors[name] = {}
            case ["neighbor", name, "description", *words]:
                router.neighbors[name]["description"] = " ".join(words)
            case ["neighbor", name, "route-map", out, "out"]:
                assert out in self.maps, "a route-map that comes later counts a second later"
                router.neighbors[name][family] = out
            case ["neighbor", name, "activate"]:
                assert family in router.neighbors[name], "the policy comes before the routes"
                router.neighbors[name][f"activate {family}"] = ""
            case ["neighbor", name, *_]:
                assert name in router.neighbors
            case ["network", prefix, "route-map", name]:
                assert (":" in prefix) == (family == "ipv6")
                assert name in self.maps
                router.networks[prefix] = name
            case ["no", "network", prefix, "route-map", name]:
                assert router.networks.pop(prefix) == name
            case _:
                router.lines.append(line)

    def running(self) -> str:
        text = ["frr version 8.4.4", "!", *self.lines]
        for vrf, router in self.routers.items():
            text.append(f"router bgp {router.asn}{f' vrf {vrf}' if vrf else ''}")
            text += [f" {line}" for line in router.lines]
            for name, said in router.neighbors.items():
                text.append(f" neighbor {name} remote-as 65000")
                if "description" in said:
                    text.append(f" neighbor {name} description {said['description']}")
            text += [" !", " address-family ipv4 unicast"]
            text += [f"  network {prefix} route-map {name}" for prefix, name in router.networks.items()]
            text += [" exit-address-family", "exit", "!"]
        for name, entries in self.maps.items():
            for number, (action, lines) in sorted(entries.items()):
                text += [f"route-map {name} {action} {number}", *(f" {line}" for line in lines), "exit", "!"]
        return "\n".join(text)

    def told(self) -> Told:
        found: Told = {}
        for vrf, router in self.routers.items():
            for name, said in router.neighbors.items():
                routes = found[vrf, name] = {}
                for prefix, origin in router.networks.items():
                    family = "ipv6" if ":" in prefix else "ipv4"
                    if f"activate {family}" in said:
                        tag, here = self._origin(origin)
                        answer = self._through(said[family], tag)
                        if answer is not None:
                            routes[prefix] = tuple(sorted([*here, *answer]))
        return found

    def _origin(self, origin: str) -> tuple[str, list[str]]:
        (_, lines) = self.maps[origin][10]
        tag = next(line.split()[2] for line in lines if line.startswith("set tag"))
        return tag, [line for line in lines if not line.startswith("set tag")]

    def _through(self, name: str, tag: str) -> tuple[str, ...] | None:
        for _, (action, lines) in sorted(self.maps[name].items()):
            wanted = [line.split()[2] for line in lines if re.match("match tag", line)]
            if all(tag == each for each in wanted):
                if action == "deny":
                    return None
                return tuple(line for line in lines if line.startswith("set"))
        return None
