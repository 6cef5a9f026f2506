"""Annotations of a Service, under the current prefix and the one that came before it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

PREFIX: Final = "metallb.io/"
OLD_PREFIX: Final = "metallb.universe.tf/"

ADDRESS_POOL: Final = "address-pool"
LOAD_BALANCER_IPS: Final = "loadBalancerIPs"
ALLOW_SHARED_IP: Final = "allow-shared-ip"
ALLOCATED_FROM: Final = "metallb.io/ip-allocated-from-pool"
"""Written by the controller: the pool that holds the service's addresses."""

_READ: Final = (ADDRESS_POOL, LOAD_BALANCER_IPS, ALLOW_SHARED_IP)


def read(annotations: Mapping[str, str], name: str) -> str:
    """The value of one of our annotations, "" when absent.

    The current prefix wins as soon as its key is present, even when its value is empty.
    """
    current = annotations.get(PREFIX + name)
    return annotations.get(OLD_PREFIX + name, "") if current is None else current


def deprecated(annotations: Mapping[str, str]) -> tuple[str, ...]:
    """The keys with the old prefix that are set, for a warning."""
    return tuple(OLD_PREFIX + name for name in _READ if OLD_PREFIX + name in annotations)
