"""The JSON documents for people and tools: `/status` (docs/architecture.md), `/why` and `/routes`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import fields
from typing import Any

from bgp_lite.attributes import GRACEFUL_SHUTDOWN, Path
from bgp_lite.prefix import Prefix
from speaker.orders import VipState
from speaker.planner.plan import Plan, why_not
from speaker.planner.reflex import Reflex
from speaker.planner.routers import SessionView
from speaker.planner.routes import Routes


def status(
    reflex: Reflex,
    plan: Plan,
    *,
    generation: int,
    version: str,
    synced: bool,
    pids: tuple[int, int],
    uptime: float,
    sessions: Iterable[SessionView] = (),
) -> dict[str, Any]:
    """`pids` are the reflex's and the planner's, `uptime` the planner's in seconds."""
    states = {state.address: state for state in (reflex.vips.vips if reflex.vips else ())}
    members = reflex.members.members if reflex.members else ()
    pulse = reflex.pulse
    return {
        "node": reflex.hello.node,
        "version": version,
        "joined": reflex.joined,
        "orders": {"generation": generation},
        "members": [
            {
                "name": member.name,
                "address": member.address,
                "port": member.port,
                "state": member.state,
                "reachable": member.reachable,
            }
            for member in members
        ],
        "vips": [
            {
                "address": vip.address,
                "services": vip.services,
                "candidates": vip.candidates,
                **_state(states, vip.address),
            }
            for vip in plan.vips
        ],
        "reflex": {
            "pid": pids[0],
            "uptime": pulse.uptime if pulse else 0.0,
            "loop_late_max": pulse.loop_late_max if pulse else 0.0,
            "loop_late_p99": pulse.loop_late_p99 if pulse else 0.0,
            "health": pulse.health if pulse else 0,
            "planner_starts": reflex.hello.planner_starts,
        },
        "planner": {"pid": pids[1], "uptime": round(uptime, 3), "synced": synced},
        "bgp": [_session(view) for view in sessions],
    }


def _session(view: SessionView) -> dict[str, Any]:
    return {each.name: getattr(view, each.name) for each in fields(view)} | {"counters": dict(view.counters)}


def _state(states: Mapping[str, VipState], address: str) -> dict[str, Any]:
    state = states.get(address) or VipState(address, None, False, (), False, 0, 0, 0)
    return {
        "owner": state.owner,
        "answering": state.answering,
        "interfaces": state.interfaces,
        "missing_interfaces": state.missing_interfaces,
        "requests_received": state.requests_received,
        "responses_sent": state.responses_sent,
        "gratuitous_sent": state.gratuitous_sent,
        "claimed_by": state.claimed_by,
        "answered_by": state.answered_by,
        "amiss": state.amiss,
    }


def routes(node: str, told: Mapping[str, Mapping[Prefix, Path]] | None) -> dict[str, Any]:
    """What established sessions carry: see `Routers.told`."""
    found: dict[Prefix, tuple[list[str], list[str]]] = {}
    for peer, table in sorted((told or {}).items()):
        for prefix, path in table.items():
            everybody, leaving = found.setdefault(prefix, ([], []))
            everybody.append(peer)
            if GRACEFUL_SHUTDOWN in path.communities:
                leaving.append(peer)
    return {
        "node": node,
        "visible": told is not None,
        "routes": [
            {"prefix": str(prefix), "told": everybody, "leaving": leaving}
            for prefix, (everybody, leaving) in found.items()
        ],
    }


def why(reflex: Reflex, plan: Plan, configuration: str, routes: Routes) -> dict[str, Any]:
    """Why every service is where it is and not elsewhere; `configuration`: what is wrong with it, or ""."""
    node = reflex.hello.node
    return {
        "node": node,
        "configuration": configuration or "in force",
        "services": {
            key: {
                "addresses": verdict.addresses,
                "candidates": verdict.candidates,
                "objection": verdict.objection.text if verdict.objection else None,
                "nodes": {name: objection.text for name, objection in sorted(verdict.nodes.items())},
                "here": objection.text if (objection := why_not(verdict, node)) else None,
                "bgp": _routed(routes, key),
            }
            for key, verdict in sorted(plan.verdicts.items())
        },
    }


def _routed(routes: Routes, key: str) -> dict[str, Any]:
    """Which peers this node tells of a service, or why none."""
    verdict = routes.verdicts.get(key)
    objection = verdict.objection if verdict is not None else None
    return {
        "peers": verdict.peers if verdict is not None else (),
        "objection": objection.text if objection is not None else None,
    }
