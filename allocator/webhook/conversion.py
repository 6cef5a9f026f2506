"""BGPPeer between its versions; pure.

v1beta2 has everything that v1beta1 has, under the same names.  What only v1beta2 knows is left out of a
v1beta1, as MetalLB does; other than there, timers that v1beta1 leaves out stay out.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

GROUP: Final = "metallb.io"
OLD: Final = f"{GROUP}/v1beta1"
NEW: Final = f"{GROUP}/v1beta2"

_OLD_FIELDS: Final = frozenset(
    {
        *("myASN", "peerASN", "peerAddress", "sourceAddress", "peerPort", "holdTime", "keepaliveTime"),
        *("routerID", "nodeSelectors", "password", "bfdProfile", "ebgpMultiHop"),
    }
)


class NotConvertible(ValueError):
    """Not a BGPPeer, or not to a version it has."""


def convert(thing: Mapping[str, Any], desired: str) -> dict[str, Any]:
    """The object in the apiVersion asked for.  Raises NotConvertible."""
    version, kind = thing.get("apiVersion"), thing.get("kind")
    if kind != "BGPPeer" or version not in (OLD, NEW) or desired not in (OLD, NEW):
        raise NotConvertible(f"{version} {kind} to {desired}: only BGPPeers are converted, {OLD} and {NEW}")
    found = dict(thing)
    if version == desired:
        return found
    found["apiVersion"] = desired
    spec = found.get("spec")
    if spec is None:
        return found
    if not isinstance(spec, dict):
        raise NotConvertible("spec is no object")
    found["spec"] = _to_new(spec) if desired == NEW else _to_old(spec)
    return found


def _to_new(spec: Mapping[str, Any]) -> dict[str, Any]:
    """0 is v1beta1's way not to name a port, and outside of v1beta2's range."""
    return {name: value for name, value in spec.items() if not (name == "peerPort" and value == 0)}


def _to_old(spec: Mapping[str, Any]) -> dict[str, Any]:
    """With what a v1beta1 must have: a peer by interface has no address, a dynamic AS no number."""
    kept = {name: value for name, value in spec.items() if name in _OLD_FIELDS}
    return {"myASN": 0, "peerASN": 0, "peerAddress": "", **kept}
