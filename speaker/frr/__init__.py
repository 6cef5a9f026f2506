"""Routed mode by FRR: its own daemons beside us (`frr`), or those of FRR-K8s (`frr-k8s`)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from crier.kube.client import Api
from speaker.frr.backend import FrrPaths, FrrRouters
from speaker.frr.k8s import FrrK8sRouters
from speaker.planner.routers import Routers
from speaker.settings import BgpType, LogLevel, Settings

__all__ = ["FrrK8sRouters", "FrrPaths", "FrrRouters", "open_frr"]

_LEVELS: Final = {
    LogLevel.ALL: "debugging",
    LogLevel.DEBUG: "debugging",
    LogLevel.INFO: "informational",
    LogLevel.WARN: "warnings",
    LogLevel.ERROR: "errors",
    LogLevel.NONE: "emergencies",
}
"""FRR's words for ours, as MetalLB has them."""


def open_frr(
    settings: Settings, api: Api, changed: Callable[[], None], extra_lines: Callable[[], str]
) -> Routers:
    """What `METALLB_BGP_TYPE` asks for, `frr` or `frr-k8s`.  `changed`: `sessions` has news.

    `extra_lines`: of frr.conf, for FRR's own daemons; looked at whenever something is applied.
    """
    if settings.bgp_type is BgpType.FRR_K8S:
        return FrrK8sRouters(
            api,
            settings.node_name,
            settings.frrk8s_namespace,
            own_namespace=settings.namespace,
            changed=changed,
        )
    paths = FrrPaths(settings.frr_run_dir, settings.frr_config_file, settings.frr_reloader_pid_file)
    debounce = settings.bgp_debounce_ms / 1000
    level = settings.frr_logging_level or _LEVELS[settings.log_level]
    return FrrRouters(paths, log_level=level, debounce=debounce, changed=changed, extra_lines=extra_lines)
