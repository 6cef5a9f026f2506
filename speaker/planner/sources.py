"""What the planner watches, and the view made of it."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from ipaddress import ip_address
from typing import Any, Final

import trio

from crier.kube import resources
from crier.kube.client import Api
from crier.kube.model.advertisement import L2AdvertisementObject
from crier.kube.model.endpoints import EndpointSlice
from crier.kube.model.node import Node
from crier.kube.model.pod import Pod
from crier.kube.model.pool import PoolObject
from crier.kube.model.service import Service
from crier.kube.model.states import ConfigurationState, ServiceL2Status
from crier.kube.watch import Mirror, watch
from speaker.planner import configstate
from speaker.planner.view import Configuration, View, by_service
from speaker.settings import Settings

_OVER: Final = frozenset({"Succeeded", "Failed"})


class Sources:
    """The mirrors.  `changed` is called when the plan may change, the others when only their reader is
    concerned."""

    def __init__(
        self,
        settings: Settings,
        *,
        changed: Callable[[], None],
        pods_changed: Callable[[], None],
        statuses_changed: Callable[[], None],
        state_changed: Callable[[], None],
    ) -> None:
        self.services = Mirror(Service.decode)
        self.slices = Mirror(EndpointSlice.decode)
        self.nodes = Mirror(Node.decode)
        self.pools = Mirror(PoolObject.decode)
        self.advertisements = Mirror(L2AdvertisementObject.decode)
        self.pods = Mirror(Pod.decode)
        self.statuses = Mirror(ServiceL2Status.decode)
        self.states = Mirror(ConfigurationState.decode)
        self._settings = settings
        self._changed = changed
        self._pods_changed = pods_changed
        self._statuses_changed = statuses_changed
        self._state_changed = state_changed
        self._grouped: dict[str, tuple[EndpointSlice, ...]] | None = None

    @property
    def synced(self) -> bool:
        """Everything a plan is made of has arrived at least once."""
        return all(mirror.synced for mirror in self._essential())

    @property
    def unsynced(self) -> tuple[str, ...]:
        """Names of what has not arrived yet, for whoever asks why we are not ready."""
        named = ("services", "endpointslices", "nodes", "ipaddresspools", "l2advertisements")
        return tuple(name for name, mirror in zip(named, self._essential(), strict=True) if not mirror.synced)

    def _essential(self) -> tuple[Mirror[Any], ...]:
        return (self.services, self.slices, self.nodes, self.pools, self.advertisements)

    async def keep(self, api: Api, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Watches for ever; `started` when everything a plan is made of has arrived."""
        space = self._settings.namespace
        node = self._settings.node_name

        def slices_changed() -> None:
            self._grouped = None
            self._changed()

        essential = [
            functools.partial(watch, api, resources.SERVICES, self.services, self._changed),
            functools.partial(watch, api, resources.ENDPOINT_SLICES, self.slices, slices_changed),
            functools.partial(watch, api, resources.NODES, self.nodes, self._changed),
            functools.partial(
                watch, api, resources.IP_ADDRESS_POOLS, self.pools, self._changed, namespace=space
            ),
            functools.partial(
                watch, api, resources.L2_ADVERTISEMENTS, self.advertisements, self._changed, namespace=space
            ),
        ]
        others = [
            functools.partial(
                watch,
                api,
                resources.SERVICE_L2_STATUSES,
                self.statuses,
                self._statuses_changed,
                namespace=space,
            ),
            functools.partial(
                watch,
                api,
                resources.CONFIGURATION_STATES,
                self.states,
                self._state_changed,
                namespace=space,
                field_selector=f"metadata.name={configstate.object_name(node)}",
            ),
        ]
        if self._settings.membership:
            others.append(
                functools.partial(
                    watch,
                    api,
                    resources.PODS,
                    self.pods,
                    self._pods_changed,
                    namespace=space,
                    label_selector=self._settings.ml_labels,
                )
            )
        async with trio.open_nursery() as nursery:
            for each in others:
                nursery.start_soon(each)
            async with trio.open_nursery() as first_lists:
                for each in essential:
                    first_lists.start_soon(nursery.start, each)
            task_status.started()

    def view(self, configuration: Configuration | None) -> View:
        if self._grouped is None:
            self._grouped = by_service(self.slices.objects.values())
        return View(dict(self.services.objects), self._grouped, dict(self.nodes.objects), configuration)

    def configuration_errors(self) -> dict[str, str]:
        """Configuration objects that could not be decoded, and why."""
        return {
            **{f"IPAddressPool {key}": text for key, text in self.pools.errors.items()},
            **{f"L2Advertisement {key}": text for key, text in self.advertisements.errors.items()},
        }

    def seeds(self) -> tuple[str, ...]:
        """Addresses of the other speakers."""
        own = str(self._settings.ml_bind_addr)
        return tuple(sorted(ip for ip in self._pod_ips() if ip != own))

    def _pod_ips(self) -> Iterator[str]:
        for pod in self.pods.objects.values():
            if pod.ip and pod.name != self._settings.pod_name and pod.phase not in _OVER:
                try:
                    yield str(ip_address(pod.ip))
                except ValueError:
                    continue
