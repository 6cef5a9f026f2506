"""The speakers' own plan, made here of what the API says: who may announce what, in which order, and why not.

It is the very function the speakers run (`speaker.planner.plan`), so what it says of a cluster that is to be
is what the speakers will do then.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

from crier.inspect.gather import Picture
from crier.kube.model.endpoints import EndpointSlice
from crier.kube.model.errors import ConfigError
from crier.kube.model.node import EXCLUDE_LABEL, Node
from speaker.planner.plan import Plan, Rules, Verdict, plan
from speaker.planner.view import Configuration, View, by_service

ANY: Final = ""
"""The node a plan is made for decides only about interfaces, which nobody asks for here."""


@dataclass(frozen=True, slots=True)
class Election:
    """What the API's objects lead to."""

    view: View
    rules: Rules
    plan: Plan
    alive: frozenset[str]
    """Nodes whose speaker can take over: by gossip, or, when no speaker spoke, by their pod's readiness."""
    faults: tuple[str, ...]
    """What is wrong with pools and advertisements; with a fault the plan has no configuration."""

    def owner(self, verdict: Verdict) -> str:
        """The first candidate that lives; "" for nobody."""
        return next((name for name in verdict.candidates if name in self.alive), "")


def elect(picture: Picture) -> Election:
    configuration, faults = _configuration(picture)
    view = View(picture.services, by_service(picture.slices), picture.nodes, configuration)
    rules = rules_of(picture)
    return Election(view, rules, plan(view, ANY, rules), alive(picture), faults)


def without(found: Election, node: str) -> Election:
    """As it will be when the node has failed: its speaker is gone, and so are the endpoints on it."""
    slices = {key: tuple(_deprived(each, node) for each in some) for key, some in found.view.slices.items()}
    view = replace(found.view, slices=slices)
    return replace(found, view=view, plan=plan(view, ANY, found.rules), alive=found.alive - {node})


def drained(found: Election, node: str) -> Election:
    """As it will be when the node is drained: it is no candidate, but its pods go on."""
    nodes: Mapping[str, Node] = {
        **found.view.nodes,
        node: replace(
            found.view.nodes[node],
            drained=frozenset({"*"}),
            labels={**found.view.nodes[node].labels, EXCLUDE_LABEL: ""},
        ),
    }
    view = replace(found.view, nodes=nodes)
    return replace(found, view=view, plan=plan(view, ANY, found.rules))


def alive(picture: Picture) -> frozenset[str]:
    views: dict[str, list[bool]] = {}
    for speaker in picture.speakers:
        for member in speaker.says.members if speaker.says else ():
            views.setdefault(member.name, []).append(member.reachable)
    if views:
        return frozenset(name for name, seen in views.items() if 2 * sum(seen) > len(seen))
    return frozenset(each.node for each in picture.speakers if each.pod.ready)


def rules_of(picture: Picture) -> Rules:
    """From the command line of the speakers' pods; they all have the same."""
    for speaker in picture.speakers:
        pod = speaker.pod
        return Rules(pod.flag("lb-class"), pod.flag("ignore-exclude-lb") == "true")
    return Rules()


def _configuration(picture: Picture) -> tuple[Configuration | None, tuple[str, ...]]:
    try:
        return Configuration.parse(picture.pools.values(), picture.l2_advertisements), ()
    except ConfigError as problem:
        return None, problem.problems


def _deprived(found: EndpointSlice, node: str) -> EndpointSlice:
    return replace(found, endpoints=tuple(each for each in found.endpoints if each.node_name != node))
