"""Writes `protobuf.json`, the table `protobuf` decodes by, from Kubernetes' own definitions.

    python -m crier.lab.api.protobuf_fields <k8s.io/apimachinery> <k8s.io/api> > protobuf.json

The two arguments are directories of those Go modules.  Numbers and types come from their `generated.proto`;
what JSON does with a field (its name, whether it is inlined, whether a zero is left out) from the struct tags
in `types.go`.  Needed again only when a kind is added to `builtin` or a newer field matters.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from crier.lab.api.builtin import BUILTIN
from crier.lab.api.discovery import REVIEWS

_META: Final = "k8s.io.apimachinery.pkg.apis.meta.v1"
_PACKAGES: Final = {
    "": "k8s.io.api.core.v1",
    "admissionregistration.k8s.io": "k8s.io.api.admissionregistration.v1",
    "apps": "k8s.io.api.apps.v1",
    "authentication.k8s.io": "k8s.io.api.authentication.v1",
    "authorization.k8s.io": "k8s.io.api.authorization.v1",
    "batch": "k8s.io.api.batch.v1",
    "coordination.k8s.io": "k8s.io.api.coordination.v1",
    "discovery.k8s.io": "k8s.io.api.discovery.v1",
    "events.k8s.io": "k8s.io.api.events.v1",
    "networking.k8s.io": "k8s.io.api.networking.v1",
    "policy": "k8s.io.api.policy.v1",
    "rbac.authorization.k8s.io": "k8s.io.api.rbac.v1",
    "scheduling.k8s.io": "k8s.io.api.scheduling.v1",
}

_MESSAGE = re.compile(r"^message (\w+) \{\n(.*?)^\}", re.MULTILINE | re.DOTALL)
_FIELD = re.compile(r"^  (optional|repeated|map<string, ([\w.]+)>) ?([\w.]*) (\w+) = (\d+)", re.MULTILINE)
_STRUCT = re.compile(r"^type (\w+) struct \{\n(.*?)^\}", re.MULTILINE | re.DOTALL)
_MEMBER = re.compile(r'^\t(?:\w+ +)?(\*?)[\w.\[\]*]+ +`json:"([^"]*)"[^`]*?protobuf:"\w+,(\d+)', re.MULTILINE)

Messages = dict[str, dict[str, list[Any]]]


def main(arguments: list[str]) -> int:
    if len(arguments) != 2:
        print(__doc__, file=sys.stderr)
        return 2
    messages: Messages = {}
    for root in map(Path, arguments):
        for proto in sorted(root.rglob("generated.proto")):
            messages.update(_read(proto))
    kinds = dict(_kinds())
    wanted = _reachable(messages, set(kinds.values()))
    table = {"kinds": kinds, "messages": {name: messages[name] for name in sorted(wanted)}}
    json.dump(table, sys.stdout, separators=(",", ":"), indent=None)
    print()
    return 0


def _kinds() -> Iterator[tuple[str, str]]:
    for kind in BUILTIN:
        if kind.group in _PACKAGES:
            yield f"{kind.api_version()} {kind.kind}", f"{_PACKAGES[kind.group]}.{kind.kind}"
    for group, version, name, _, _ in REVIEWS:
        yield f"{group}/{version} {name}", f"{_PACKAGES[group]}.{name}"
    yield "autoscaling/v1 Scale", "k8s.io.api.autoscaling.v1.Scale"
    for version in ("v1", "meta.k8s.io/v1"):
        yield f"{version} DeleteOptions", f"{_META}.DeleteOptions"


def _read(proto: Path) -> Iterator[tuple[str, dict[str, list[Any]]]]:
    text = re.sub(r"^\s*//.*\n", "", proto.read_text(), flags=re.MULTILINE)
    found = re.search(r"^package ([\w.]+);", text, re.MULTILINE)
    assert found is not None, f"{proto} names no package"
    package = found[1]
    tags = _tags(proto.parent)
    for name, body in _MESSAGE.findall(text):
        fields = {}
        for label, map_type, type_name, field, number in _FIELD.findall(body):
            pointer, tag = tags.get((name, number), ("", field))
            json_name, *options = tag.split(",")
            form = "map" if label.startswith("map") else label
            resolved = _resolve(map_type or type_name, package)
            keeps_zero = bool(pointer) or "omitempty" not in options
            fields[number] = [json_name, form, resolved, int(keeps_zero), int("inline" in options)]
        yield f"{package}.{name}", fields


def _tags(directory: Path) -> dict[tuple[str, str], tuple[str, str]]:
    tags = {}
    for source in sorted(directory.glob("*.go")):
        if source.name.endswith(("_test.go", ".pb.go")):
            continue
        for struct, body in _STRUCT.findall(source.read_text()):
            for pointer, tag, number in _MEMBER.findall(body):
                tags[struct, number] = pointer, tag
    return tags


def _resolve(name: str, package: str) -> str:
    if name.startswith("."):
        return name[1:]
    return name if name[0].islower() else f"{package}.{name}"


def _reachable(messages: Messages, roots: set[str]) -> set[str]:
    seen: set[str] = set()
    following = set(roots)
    while following:
        name = following.pop()
        if name in seen or name not in messages:
            continue
        seen.add(name)
        following.update(field[2] for field in messages[name].values())
    missing = roots - seen
    assert not missing, f"not found: {sorted(missing)}"
    return seen


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
