#!/usr/bin/env python3
"""Writes the reference in docs/configuration.md from the CRDs in manifests/crds.

    hack/reference.py            writes
    hack/reference.py --check    exits with 1 when it is out of date

What stands above the mark in that file is written by hand and left alone.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import yaml

CHECKOUT: Final = Path(__file__).resolve().parents[1]
DOCUMENT: Final = CHECKOUT / "docs" / "configuration.md"
MARK: Final = "<!-- From here on: made by hack/reference.py from manifests/crds. -->\n"
ORDER: Final = (
    "IPAddressPool", "L2Advertisement", "BGPPeer", "BGPAdvertisement", "BFDProfile", "Community",
    "ServiceL2Status", "ServiceBGPStatus", "ConfigurationState",
)  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--check", action="store_true", help="change nothing")
    check = parser.parse_args().check
    old = DOCUMENT.read_text(encoding="utf-8")
    if old.count(MARK) != 1:
        sys.exit(f"{DOCUMENT}: needs this line once: {MARK}")
    new = old.partition(MARK)[0] + MARK + "".join(reference())
    if new == old:
        return 0
    if check:
        print("docs/configuration.md is out of date: run hack/reference.py")
        return 1
    DOCUMENT.write_text(new, encoding="utf-8")
    return 0


def reference() -> Iterator[str]:
    files = (CHECKOUT / "manifests" / "crds").glob("metallb.io_*.yaml")
    crds = {
        each["spec"]["names"]["kind"]: each for each in (yaml.safe_load(file.read_text()) for file in files)
    }
    if set(crds) != set(ORDER):
        sys.exit(f"reference: the kinds are {', '.join(sorted(crds))}; ORDER names others")
    for kind in ORDER:
        yield from chapter(kind, crds[kind]["spec"])


def chapter(kind: str, spec: dict[str, Any]) -> Iterator[str]:
    versions = spec["versions"]
    stored = next(each for each in versions if each["storage"])
    schema = stored["schema"]["openAPIV3Schema"]
    yield f"\n### {kind}\n\n`metallb.io/{stored['name']}`"
    if others := [each["name"] for each in versions if each is not stored]:
        yield f", also served as {', '.join(others)}"
    yield f". {text(schema.get('description', ''))}\n"
    for part in ("spec", "status"):
        if fields := list(rows(schema["properties"].get(part, {}), part)):
            yield "\n| field | type | meaning |\n|---|---|---|\n"
            yield from fields
    if told := list(rules(schema)):
        yield "\nThe API server also refuses:\n\n"
        yield from (f"* {each}\n" for each in told)


def rows(schema: dict[str, Any], path: str) -> Iterator[str]:
    required = set(schema.get("required", ()))
    for name, field in sorted(schema.get("properties", {}).items(), key=lambda each: each[0]):
        inner = field.get("items", field) if field.get("type") == "array" else field
        place = f"{path}.{name}" + ("[]" if field.get("type") == "array" else "")
        notes = [text(field.get("description", ""))]
        if name in required:
            notes.append("Required.")
        notes += limits(field)
        yield f"| `{place}` | {kind_of(field)} | {' '.join(each for each in notes if each)} |\n"
        if "properties" in inner and "matchLabels" not in inner["properties"]:
            yield from rows(inner, place)


def kind_of(field: dict[str, Any]) -> str:
    if field.get("type") == "array":
        return f"list of {kind_of(field.get('items', {}))}"
    properties = field.get("properties", {})
    if "matchLabels" in properties:
        return "label selector"
    if {"lastTransitionTime", "reason"} <= properties.keys():
        return "condition"
    if field.get("x-kubernetes-int-or-string"):
        return "integer or string"
    return str(field.get("type", "any"))


def limits(field: dict[str, Any]) -> Iterator[str]:
    if "default" in field:
        yield f"Default `{json.dumps(field['default'])}`."
    if "enum" in field:
        yield f"One of {', '.join(f'`{each}`' for each in field['enum'])}."
    match field.get("minimum"), field.get("maximum"):
        case None, None:
            pass
        case low, None:
            yield f"At least {low}."
        case None, high:
            yield f"At most {high}."
        case low, high:
            yield f"{low} to {high}."
    if "maxItems" in field:
        yield f"At most {field['maxItems']}."


def rules(schema: dict[str, Any]) -> Iterator[str]:
    """Messages of CEL rules, wherever they stand."""
    found = [text(rule.get("message", rule["rule"])) for rule in schema.get("x-kubernetes-validations", ())]
    for inner in (*schema.get("properties", {}).values(), *([schema["items"]] if "items" in schema else [])):
        found += list(rules(inner))
    yield from dict.fromkeys(found)


def text(description: str) -> str:
    return re.sub(r"\s+", " ", description).strip().replace("|", "\\|")


if __name__ == "__main__":
    sys.exit(main())
