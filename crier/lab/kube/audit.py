"""Who asked the API for what, from its audit log: what roles are held against."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

FORBIDDEN: Final = 403
_ACCOUNT: Final = "system:serviceaccount:"


@dataclass(frozen=True, slots=True)
class Request:
    account: str
    """`namespace:name` of a service account; "" for anybody else."""
    verb: str
    """As RBAC has it: `get`, `list`, `watch`, `create`, `update`, `patch`, `delete`."""
    resource: str
    """As RBAC has it, with the group behind a dot and the subresource behind a slash."""
    name: str
    code: int
    """HTTP status."""


def requests(log: Path) -> Iterator[Request]:
    """Every request for a resource that was answered so far."""
    for line in log.read_text(encoding="utf-8").splitlines():
        try:
            event = json.loads(line)
        except ValueError:  # the last line, half written
            return
        about = event.get("objectRef")
        if about is None or "responseStatus" not in event:
            continue
        username = event["user"]["username"]
        yield Request(
            account=username.removeprefix(_ACCOUNT) if username.startswith(_ACCOUNT) else "",
            verb=event["verb"],
            resource=full_name(about.get("apiGroup", ""), about["resource"], about.get("subresource", "")),
            name=about.get("name", ""),
            code=event["responseStatus"]["code"],
        )


def full_name(group: str, plural: str, subresource: str = "") -> str:
    name = f"{plural}.{group}" if group else plural
    return f"{name}/{subresource}" if subresource else name
