"""The API as the official client finds it: certificates, proxies, tokens that rotate, exec plugins.

Of `kubernetes` only the configuration loaders and the connection pool they configure are used.  To import it
takes half a second and 20 MB, so only `crier.kube.transport.load_configuration` does, where there is need.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import urllib3
from kubernetes.client.configuration import Configuration
from kubernetes.client.rest import RESTClientObject
from kubernetes.config.config_exception import ConfigException
from kubernetes.config.incluster_config import load_incluster_config
from kubernetes.config.kube_config import load_kube_config

from crier.kube.access import POOL_SIZE, SOCKET_OPTIONS, NoCluster, NoCredentials


class Official:
    """An `Access` made of the official client's configuration."""

    def __init__(self, configuration: Configuration) -> None:
        configuration.retries = False  # whether to try again is for those who know what they asked
        configuration.connection_pool_maxsize = POOL_SIZE
        configuration.socket_options = list(SOCKET_OPTIONS)
        self.host: str = configuration.host.rstrip("/")
        self._configuration = configuration
        self._refreshing = threading.Lock()

    def open_pool(self) -> urllib3.PoolManager:
        return RESTClientObject(self._configuration).pool_manager

    def credentials(self) -> Mapping[str, str]:
        # The client re-reads the token file (or runs the plugin) when it is due, and not more than once at
        # a time.
        with self._refreshing:
            try:
                auth: Mapping[str, Any] = self._configuration.auth_settings()
            except (ConfigException, OSError) as problem:
                raise NoCredentials(str(problem)) from None
        return {setting["key"]: setting["value"] for setting in auth.values() if setting["value"]}


def from_kubeconfig(path: str | Path | None = None) -> Official:
    """None: the user's own.  Raises NoCluster."""
    # Given by name, because the client looks at KUBECONFIG only once, when it is imported.
    given = {} if path is None else {"config_file": str(path)}
    if path is not None and not any(Path(each).exists() for each in str(path).split(os.pathsep)):
        raise NoCluster("no such file")
    return _load(lambda found: load_kube_config(**given, client_configuration=found))  # type: ignore[no-untyped-call]


def from_service_account() -> Official:
    """Raises NoCluster."""
    return _load(lambda found: load_incluster_config(client_configuration=found))  # type: ignore[no-untyped-call]


def _load(load: Callable[[Configuration], object]) -> Official:
    configuration = Configuration()
    configuration.api_key.clear()
    try:
        load(configuration)
    except (ConfigException, OSError, ValueError, KeyError, TypeError) as problem:
        raise NoCluster(str(problem)) from problem
    return Official(configuration)
