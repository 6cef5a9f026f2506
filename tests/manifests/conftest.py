from __future__ import annotations

from tests.lab.conftest import accounts, kube

__all__ = ["accounts", "kube"]
