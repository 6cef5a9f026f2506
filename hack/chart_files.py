#!/usr/bin/env python3
"""Copies into the Helm chart what it shares with the kustomize manifests, and derives its schema.

    hack/chart_files.py            writes
    hack/chart_files.py --check    exits with 1 when something is out of date

The chart has no second version of a CRD, a role's rules or an alert: they are files of manifests/ that
templates fill in.  values.schema.json is values.yaml with types, and refuses every other name.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import yaml

MANIFESTS: Final = Path(__file__).resolve().parents[1] / "manifests"
CHART: Final = MANIFESTS / "chart"

FREE: Final = {
    "resources", "nodeSelector", "affinity", "podAnnotations", "labels", "annotations", "additionalLabels",
    "securityContext", "strategy", "tlsConfig", "updateStrategy",
}  # fmt: skip
"""Whatever Kubernetes takes there."""
CHOICES: Final = {
    "logLevel": ["all", "debug", "info", "warn", "error", "none"],
    "conflictPolicy": ["defend", "yield", "report"],
    "minVersion": ["", "VersionTLS12", "VersionTLS13"],
    "webhookMode": ["disabled", "enabled", "onlywebhook"],
    "pullPolicy": [None, "Always", "IfNotPresent", "Never"],
}
NULLABLE: Final = {
    "interval": {"type": "string"},
    "apiPort": {"type": "integer", "minimum": 1, "maximum": 65535},
}
PORTS: Final = {"metricsPort", "port", "mlBindPort"}
OPTIONAL_PORTS: Final = {"plainMetricsPort"}
"""0: none."""
THRESHOLD: Final = {
    "type": "object",
    "additionalProperties": False,
    "required": ["percent"],
    "properties": {
        "percent": {"type": "integer", "minimum": 0, "maximum": 100},
        "labels": {"type": "object"},
    },
}
IGNORED: Final = {"global": {"type": "object"}}
"""What Helm itself puts among the values of a chart that others include."""


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--check", action="store_true", help="change nothing")
    check = parser.parse_args().check
    stale = []
    for path, text in files():
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            stale.append(path)
            if not check:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(text, encoding="utf-8")
    for path in stale:
        print(f"{path.relative_to(MANIFESTS.parent)}: {'out of date' if check else 'written'}")
    return int(check and bool(stale))


def files() -> Iterator[tuple[Path, str]]:
    for crd in sorted((MANIFESTS / "crds").glob("metallb.io_*.yaml")):
        yield CHART / "files" / "crds" / crd.name, crd.read_text(encoding="utf-8")
    yield CHART / "files" / "rules.yaml", dump(rules())
    for name, source in {
        "access.yaml": "base/access.yaml",
        "excludel2.yaml": "base/excludel2.yaml",
        "alerts.yaml": "overlays/prometheus/rules.yaml",
        "dashboard.json": "overlays/prometheus/dashboard.json",
    }.items():
        yield CHART / "files" / name, (MANIFESTS / source).read_text(encoding="utf-8")
    values = yaml.safe_load((CHART / "values.yaml").read_text(encoding="utf-8"))
    described = {"$schema": "http://json-schema.org/draft-07/schema#", **schema(values)}
    described["properties"] = {**described["properties"], **IGNORED}
    yield CHART / "values.schema.json", json.dumps(described, indent=2) + "\n"


def rules() -> dict[str, Any]:
    """The rules of each account's roles, in the cluster and in the namespace, and what FRR-K8s wants."""
    found: dict[str, Any] = {}
    for account, file in {
        "controller": "base/controller-rbac.yaml",
        "speaker": "base/speaker-rbac.yaml",
        "frr-k8s": "overlays/frr-k8s/rbac.yaml",
    }.items():
        text = (MANIFESTS / file).read_text(encoding="utf-8")
        for each in yaml.safe_load_all(text):
            if each["kind"] in ("ClusterRole", "Role"):
                found.setdefault(account, {})[each["kind"]] = each["rules"]
    return found


def dump(thing: Any) -> str:
    return "# Made by hack/chart_files.py from manifests/.\n" + yaml.safe_dump(thing, sort_keys=False)


def schema(value: Any, name: str = "", path: str = "") -> dict[str, Any]:
    if name == "thresholds":
        return {"type": "array", "items": THRESHOLD}
    if name in CHOICES:
        return {"enum": CHOICES[name]}
    if name in NULLABLE:
        return {**NULLABLE[name], "type": [NULLABLE[name]["type"], "null"]}
    if name in PORTS:
        return {"type": "integer", "minimum": 1, "maximum": 65535}
    if name in OPTIONAL_PORTS:
        return {"type": "integer", "minimum": 0, "maximum": 65535}
    match value:
        case bool():
            return {"type": "boolean"}
        case int():
            return {"type": "integer", "minimum": 0}
        case str():
            return {"type": "string"}
        case list():
            return {"type": "array"}
        case dict() if name in FREE:
            return {"type": "object"}
        case dict():
            return {
                "type": "object",
                "additionalProperties": False,
                "properties": {
                    key: schema(each, key, f"{path}.{key}" if path else key) for key, each in value.items()
                },
            }
        case _:
            sys.exit(f"chart: {path}: a value of no known type")


if __name__ == "__main__":
    sys.exit(main())
