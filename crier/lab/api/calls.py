"""A request taken apart: what its path, query and headers ask for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from crier.lab.api.body import decode
from crier.lab.api.errors import ApiError, bad_request, method_not_allowed
from crier.lab.api.registry import Write
from crier.lab.api.routes import Target
from crier.lab.api.selectors import field_predicate, label_predicate
from crier.lab.api.shapes import conform
from crier.lab.api.watches import Selection

JSON: Final = "application/json"


@dataclass(frozen=True, slots=True)
class Request:
    method: str
    target: str
    """Path and query as they came."""
    headers: Mapping[str, str]
    """By lower-case name."""
    body: bytes = b""


@dataclass(slots=True)
class Call:
    """A request taken apart."""

    request: Request
    path: str
    query: dict[str, str]
    control: bool = False
    target: Target | None = None
    verb: str = ""
    user: str = "system:anonymous"
    accept: str = field(init=False)
    content_type: str = field(init=False)

    def __post_init__(self) -> None:
        self.accept = self.request.headers.get("accept", "")
        self.content_type = self.request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if not self.verb:
            self.verb = self.request.method.lower()

    @property
    def resource(self) -> str:
        """As fault rules name it."""
        if self.target is None:
            return self.path
        kind, sub = self.target.kind, self.target.subresource
        return f"{kind.resource}/{sub}" if sub else kind.resource

    @property
    def name(self) -> str:
        return self.target.name if self.target else ""


def parse_verb(method: str, target: Target, query: Mapping[str, str]) -> str:
    watch = target.watch or query.get("watch", "").lower() in ("true", "1")
    match method, bool(target.name):
        case "GET", _ if watch and not target.subresource:
            return "watch"
        case "GET" | "HEAD", named:
            return "get" if named else "list"
        case "POST", False:
            return "create"
        case "PUT", True:
            return "update"
        case "PATCH", True:
            return "patch"
        case "DELETE", True if not target.subresource:
            return "delete"
        case "DELETE", False:
            return "deletecollection"
    raise method_not_allowed()


def parse_selection(call: Call, target: Target) -> Selection:
    fields = call.query.get("fieldSelector", "")
    if target.name:  # watching one object is watching a collection of one
        fields = f"{fields},metadata.name={target.name}"
    return Selection(
        namespace=target.namespace,
        labels=label_predicate(call.query.get("labelSelector", "")),
        fields=field_predicate(fields, target.kind.stored_as, target.kind.selectable),
    )


def parse_number(query: Mapping[str, str], name: str) -> int | None:
    text = query.get(name, "")
    if not text:
        return None
    if not text.isascii() or not text.isdigit() or len(text) > 18:
        raise bad_request(f"invalid query parameter {name}: {text!r} is not a number")
    return int(text)


def parse_revision(query: Mapping[str, str]) -> int | None:
    text = query.get("resourceVersion", "")
    if text and (not text.isascii() or not text.isdigit() or len(text) > 18):
        cause = {
            "reason": "FieldValueInvalid",
            "field": "resourceVersion",
            "message": f'Invalid value: "{text}"',
        }
        raise ApiError(
            400, f"resourceVersion: Invalid value: {text!r}: is not a number", details={"causes": [cause]}
        )
    return int(text) if text else None


def parse_write(call: Call, now: float, options: Mapping[str, Any] | None = None) -> Write:
    dry_run = call.query.get("dryRun", "") or ",".join((options or {}).get("dryRun") or ())
    if dry_run not in ("", "All"):
        raise bad_request(f'dryRun: Unsupported value: "{dry_run}": supported values: "All"')
    force = call.query.get("force", "").lower() in ("true", "1")
    return Write(
        now,
        dry_run=bool(dry_run),
        manager=call.query.get("fieldManager", "")[:128],
        force=force,
        strict=call.query.get("fieldValidation") == "Strict",
    )


def parse_delete_options(call: Call) -> Mapping[str, Any]:
    options: Any = decode(call.request.body, call.content_type) if call.request.body else {}
    if not isinstance(options, dict):
        raise bad_request("DeleteOptions is not an object")
    options = conform("v1", "DeleteOptions", options)
    policy = options.get("propagationPolicy") or call.query.get("propagationPolicy") or None
    if policy not in (None, "Orphan", "Background", "Foreground"):
        raise bad_request(f"DeleteOptions: propagationPolicy: Unsupported value: {policy!r}")
    return {**options, "propagationPolicy": policy}


def table_wanted(call: Call) -> str:
    """Which part of the objects a Table is to carry; "" when plain JSON is wanted first."""
    for offered in call.accept.split(","):
        parameters = offered.replace(" ", "").split(";")
        if parameters[0] not in (JSON, "*/*", ""):
            continue
        if "as=Table" in parameters:
            include = call.query.get("includeObject", "Metadata")
            return include if include in ("None", "Object") else "Metadata"
        return ""
    return ""
