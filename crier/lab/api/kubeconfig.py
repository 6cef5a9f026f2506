"""A kubeconfig for a plain HTTP server."""

from __future__ import annotations

import json
from pathlib import Path


def render_kubeconfig(url: str, *, token: str = "") -> str:
    """The file's text: JSON, which every reader of kubeconfigs takes for the YAML it is."""
    user = {"token": token} if token else {}
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "lab", "cluster": {"server": url}}],
        "users": [{"name": "lab", "user": user}],
        "contexts": [{"name": "lab", "context": {"cluster": "lab", "user": "lab"}}],
        "current-context": "lab",
    }
    return json.dumps(config, indent=2) + "\n"


def write_kubeconfig(path: Path, url: str, *, token: str = "") -> None:
    """Write it at once and for the owner only: it may carry a token."""
    scratch = path.with_name(f".{path.name}.new")
    scratch.unlink(missing_ok=True)
    scratch.touch(mode=0o600, exist_ok=False)
    scratch.write_text(render_kubeconfig(url, token=token))
    scratch.replace(path)
