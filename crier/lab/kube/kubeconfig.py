"""A kubeconfig for a server with a certificate of its own authority and a user with a token."""

from __future__ import annotations

import base64
import json
from pathlib import Path


def render_kubeconfig(url: str, authority: bytes, token: str) -> str:
    """The file's text: JSON, which every reader of kubeconfigs takes for the YAML it is.

    Args:
        authority: the certificate authority's PEM.
    """
    cluster = {"server": url, "certificate-authority-data": base64.b64encode(authority).decode()}
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "lab", "cluster": cluster}],
        "users": [{"name": "lab", "user": {"token": token}}],
        "contexts": [{"name": "lab", "context": {"cluster": "lab", "user": "lab"}}],
        "current-context": "lab",
    }
    return json.dumps(config, indent=1) + "\n"


def write_kubeconfig(path: Path, url: str, authority: bytes, token: str) -> Path:
    """Write it for the owner only; returns the path."""
    scratch = path.with_name(f".{path.name}.new")
    scratch.unlink(missing_ok=True)
    scratch.touch(mode=0o600)
    scratch.write_text(render_kubeconfig(url, authority, token), encoding="utf-8")
    return scratch.replace(path)
