from __future__ import annotations

from tests.lab.conftest import accounts, kube, kube_programs, progress

__all__ = ["accounts", "kube", "kube_programs", "progress"]
