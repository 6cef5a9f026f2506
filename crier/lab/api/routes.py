"""URL paths to what they address."""

from __future__ import annotations

from dataclasses import dataclass

from crier.lab.api.errors import no_such_path
from crier.lab.api.kinds import Kind, Kinds


@dataclass(frozen=True, slots=True)
class Target:
    """A resource path: a collection when there is no name."""

    kind: Kind
    version: str
    namespace: str
    name: str
    subresource: str
    watch: bool = False
    """The deprecated `/watch/` prefix was there."""


def parse_target(path: str, kinds: Kinds) -> Target:
    """The target of `/api/v1/...` or `/apis/<group>/<version>/...`.

    Raises:
        ApiError: 404, there is no such path.
    """
    steps = [step for step in path.split("/") if step]
    match steps:
        case ["api", version, *rest]:
            group = ""
        case ["apis", group, version, *rest]:
            pass
        case _:
            raise no_such_path()
    watch = rest[:1] == ["watch"]
    rest = rest[1:] if watch else rest
    namespace = ""
    # /namespaces/<name> and its own subresources are the Namespace itself, not something in it
    if len(rest) >= 3 and rest[0] == "namespaces" and rest[2] not in ("status", "finalize"):
        namespace, rest = rest[1], rest[2:]
    if not 1 <= len(rest) <= 3:
        raise no_such_path()
    plural, name, subresource = [*rest, "", ""][:3]
    kind = kinds.find(group, version, plural)
    if kind is None or (namespace and not kind.namespaced):
        raise no_such_path()
    if name and kind.namespaced and not namespace:
        raise no_such_path()
    if subresource and subresource not in subresources(kind):
        raise no_such_path()
    return Target(kind, version, namespace, name, subresource, watch)


def subresources(kind: Kind) -> list[str]:
    served = []
    if kind.has_status:
        served.append("status")
    if kind.has_scale:
        served.append("scale")
    if kind.resource == "namespaces":
        served.append("finalize")
    return served
