#!/usr/bin/env python3
"""Lists what is in an image's file system as CycloneDX 1.5 JSON: `hack/sbom.py ROOT [--out FILE]`.

Python distributions are found by their metadata, Debian packages by their control files in
/var/lib/dpkg/status.d.  The same tree gives the same octets.
"""

from __future__ import annotations

import argparse
import email.parser
import hashlib
import json
import sys
import uuid
from collections.abc import Iterator
from importlib.metadata import Distribution, distributions
from pathlib import Path
from typing import Any, Final

SITE: Final = "usr/lib/python3/dist-packages"
OURS: Final = "crier-lb"
NAMESPACE: Final = uuid.UUID("6ba7b811-9dad-11d1-80b4-00c04fd430c8")  # RFC 4122, URLs

Component = dict[str, Any]


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("root", type=Path)
    parser.add_argument("--out", type=Path, help="else standard output")
    given = parser.parse_args()
    text = json.dumps(document(given.root), indent=1, sort_keys=True) + "\n"
    if given.out is None:
        sys.stdout.write(text)
    else:
        given.out.parent.mkdir(parents=True, exist_ok=True)
        given.out.write_text(text, encoding="utf-8")
    return 0


def document(root: Path) -> dict[str, Any]:
    found = sorted((*python(root), *debian(root)), key=lambda each: str(each["bom-ref"]))
    ours = [each for each in found if each["name"] == OURS]
    if len(ours) != 1:
        sys.exit(f"sbom: {len(ours)} distributions named {OURS} under {root / SITE}, need one")
    (crier,) = ours
    rest = [each for each in found if each is not crier]
    digest = hashlib.sha256("\n".join(str(each["bom-ref"]) for each in found).encode()).hexdigest()
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "serialNumber": f"urn:uuid:{uuid.uuid5(NAMESPACE, digest)}",
        "version": 1,
        "metadata": {"component": {**crier, "type": "container"}},
        "components": rest,
        "dependencies": [{"ref": crier["bom-ref"], "dependsOn": [each["bom-ref"] for each in rest]}],
    }


def python(root: Path) -> Iterator[Component]:
    for found in distributions(path=[str(root / SITE)]):
        name = found.metadata["Name"].lower().replace("_", "-").replace(".", "-")
        url = f"pkg:pypi/{name}@{found.version}"
        yield {
            "type": "library",
            "bom-ref": url,
            "name": found.metadata["Name"],
            "version": found.version,
            "purl": url,
            **licence(found),
        }


def licence(found: Distribution) -> Component:
    meta = found.metadata
    if expression := meta.get("License-Expression"):
        return {"licenses": [{"expression": expression}]}
    classified = [
        each.rpartition(" :: ")[2]
        for each in meta.get_all("Classifier") or ()
        if each.startswith("License ::")
    ]
    named = classified or [text for text in [meta.get("License") or ""] if text and "\n" not in text]
    return {"licenses": [{"license": {"name": each}} for each in named]} if named else {}


def debian(root: Path) -> Iterator[Component]:
    for file in sorted((root / "var/lib/dpkg/status.d").iterdir()):
        control = email.parser.Parser().parsestr(file.read_text(encoding="utf-8"))
        name, version, arch = control["Package"], control["Version"], control["Architecture"]
        url = f"pkg:deb/debian/{name}@{version}?arch={arch}"
        yield {"type": "library", "bom-ref": url, "name": name, "version": version, "purl": url}


if __name__ == "__main__":
    sys.exit(main())
