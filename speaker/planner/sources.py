"""What the planner watches, and the view made of it."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from dataclasses import replace
from ipaddress import ip_address
from typing import Any, Final

import trio

from crier.kube import resources
from crier.kube.client import Api
from crier.kube.model.advertisement import L2AdvertisementObject
from crier.kube.model.bfdprofile import BfdProfileObject
from crier.kube.model.bgpadvertisement import BgpAdvertisementObject
from crier.kube.model.bgppeer import BASIC_AUTH, BgpPeerObject
from crier.kube.model.community import CommunityObject
from crier.kube.model.configmap import ConfigMap
from crier.kube.model.endpoints import EndpointSlice
from crier.kube.model.node import Node
from crier.kube.model.pod import Pod
from crier.kube.model.pool import PoolObject
from crier.kube.model.secret import Secret
from crier.kube.model.service import Service
from crier.kube.model.states import NODE_LABEL, ConfigurationState, ServiceBgpStatus, ServiceL2Status
from crier.kube.resources import Resource
from crier.kube.watch import Mirror, watch
from speaker.planner import configstate
from speaker.planner.bgpconfiguration import BgpObjects, Fault
from speaker.planner.view import Configuration, Since, SliceIndex, View
from speaker.settings import BgpType, Settings

SECRETS_PATIENCE: Final = 5.0
"""Seconds the first routes wait for the passwords; who may not read Secrets still has other peers."""
EXTRAS: Final = "bgpextras"
"""Name of a ConfigMap in our namespace, and the key in it, as MetalLB has them."""
EXTRAS_KEY: Final = "extras"
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
        bgp_statuses_changed: Callable[[], None],
        state_changed: Callable[[], None],
    ) -> None:
        self.services = Mirror(Service.decode, keep_changes=True)
        self.slices = Mirror(EndpointSlice.decode, keep_changes=True)
        self.nodes = Mirror(Node.decode)
        self.pools = Mirror(PoolObject.decode)
        self.advertisements = Mirror(L2AdvertisementObject.decode)
        self.pods = Mirror(Pod.decode)
        self.statuses = Mirror(ServiceL2Status.decode, keep_changes=True)
        self.states = Mirror(ConfigurationState.decode)
        self.bgp_peers = Mirror(BgpPeerObject.decode)
        self.bgp_advertisements = Mirror(BgpAdvertisementObject.decode)
        self.bfd_profiles = Mirror(BfdProfileObject.decode)
        self.communities = Mirror(CommunityObject.decode)
        self.secrets = Mirror(password_of)
        """Of the namespace; watched once a BGPPeer asks for one."""
        self.bgp_statuses = Mirror(ServiceBgpStatus.decode, keep_changes=True)
        """This node's own."""
        self.extras = Mirror(ConfigMap.decode)
        """`bgpextras`; watched where FRR's daemons are ours to configure."""
        self._settings = settings
        self._changed = changed
        self._pods_changed = pods_changed
        self._statuses_changed = statuses_changed
        self._bgp_statuses_changed = bgp_statuses_changed
        self._state_changed = state_changed
        self._grouped = SliceIndex()
        self._views = 0
        self._secrets_wanted = trio.Event()
        self._secrets_late = False
        """They were waited for long enough; the peers that need none shall not wait for ever."""

    @property
    def synced(self) -> bool:
        """Everything a plan is made of has arrived at least once."""
        return all(mirror.synced for mirror in self._essential())

    @property
    def bgp_synced(self) -> bool:
        """Everything the routes are made of has arrived at least once: who told routers of half of it would
        take the other half away from them."""
        known = (self.bgp_peers, self.bgp_advertisements, self.bfd_profiles, self.communities)
        late = self._secrets_wanted.is_set() and not self.secrets.synced and not self._secrets_late
        return all(mirror.synced for mirror in known) and not late

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

        essential = [
            functools.partial(watch, api, resources.SERVICES, self.services, self._changed),
            functools.partial(watch, api, resources.ENDPOINT_SLICES, self.slices, self._changed),
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
        if self._settings.bgp_type is BgpType.FRR:
            others.append(
                functools.partial(
                    watch,
                    api,
                    resources.CONFIG_MAPS,
                    self.extras,
                    self._changed,
                    namespace=space,
                    field_selector=f"metadata.name={EXTRAS}",
                )
            )
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
        routed = [
            functools.partial(watch, api, resources.BGP_PEERS, self.bgp_peers, self._peers_changed),
            functools.partial(
                watch, api, resources.BGP_ADVERTISEMENTS, self.bgp_advertisements, self._changed
            ),
            functools.partial(watch, api, resources.BFD_PROFILES, self.bfd_profiles, self._changed),
            functools.partial(watch, api, resources.COMMUNITIES, self.communities, self._changed),
        ]
        others.append(
            functools.partial(
                watch,
                api,
                resources.SERVICE_BGP_STATUSES,
                self.bgp_statuses,
                self._bgp_statuses_changed,
                namespace=space,
                label_selector=f"{NODE_LABEL}={node}",
            )
        )

        async def keep_routed(each: functools.partial[Any]) -> None:
            """The routes wait for these, the standing orders do not."""
            await nursery.start(functools.partial(each, namespace=space))
            self._peers_changed()

        async def keep_secrets() -> None:
            await self._secrets_wanted.wait()
            kind = resources.SECRETS
            await nursery.start(
                functools.partial(watch, api, kind, self.secrets, self._changed, namespace=space)
            )
            self._changed()

        async def wait_for_secrets() -> None:
            await self._secrets_wanted.wait()
            await trio.sleep(SECRETS_PATIENCE)
            self._secrets_late = True
            self._changed()

        async with trio.open_nursery() as nursery:
            for each in others:
                nursery.start_soon(each)
            for each in routed:
                nursery.start_soon(keep_routed, each)
            nursery.start_soon(keep_secrets)
            nursery.start_soon(wait_for_secrets)
            async with trio.open_nursery() as first_lists:
                for each in essential:
                    first_lists.start_soon(nursery.start, each)
            task_status.started()

    def view(self, configuration: Configuration | None) -> View:
        touched = self.services.take_changes()
        if changed := self.slices.take_changes():
            touched |= self._grouped.update(changed, self.slices.objects)
        self._views += 1
        return View(
            dict(self.services.objects),
            self._grouped.groups,
            dict(self.nodes.objects),
            configuration,
            Since(self._views, touched),
        )

    def _peers_changed(self) -> None:
        if any(peer.spec.password_secret is not None for peer in self.bgp_peers.objects.values()):
            self._secrets_wanted.set()
        self._changed()

    def bgp_objects(self) -> BgpObjects:
        peers = tuple(self.bgp_peers.objects.values())
        named = {
            f"{peer.namespace}/{peer.spec.password_secret.name}"
            for peer in peers
            if peer.spec.password_secret
        }
        return BgpObjects(
            peers,
            tuple(self.bgp_advertisements.objects.values()),
            tuple(self.bfd_profiles.objects.values()),
            tuple(self.communities.objects.values()),
            {key: secret for key, secret in self.secrets.objects.items() if key in named},
        )

    @property
    def extra_lines(self) -> str:
        """Of frr.conf, beside what follows from the objects."""
        return "\n".join(each.data.get(EXTRAS_KEY, "") for each in self.extras.objects.values())

    def bgp_errors(self) -> tuple[Fault, ...]:
        """Objects that could not be decoded."""
        mirrors: tuple[tuple[Resource, Mirror[Any]], ...] = (
            (resources.BGP_PEERS, self.bgp_peers),
            (resources.BGP_ADVERTISEMENTS, self.bgp_advertisements),
            (resources.BFD_PROFILES, self.bfd_profiles),
            (resources.COMMUNITIES, self.communities),
        )
        return tuple(
            Fault(kind.kind, key.rpartition("/")[2], f"{kind.kind} {key}: {text}")
            for kind, mirror in mirrors
            for key, text in sorted(mirror.errors.items())
        )

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


def password_of(data: bytes) -> Secret:
    """A Secret without anything but a password: what is none of our business is not kept in memory.

    Raises DecodeError.
    """
    found = Secret.decode(data)
    kept = (
        {"password": found.data["password"]} if found.type == BASIC_AUTH and "password" in found.data else {}
    )
    return replace(found, data=kept)
