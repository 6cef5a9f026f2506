"""Why something is not done, and what keeps a service from being announced whatever the protocol."""

from __future__ import annotations

from enum import Enum
from typing import Self

from crier.kube.model.addresses import Address
from crier.kube.model.pool import Pool
from crier.kube.model.service import Service
from speaker.planner.view import Configuration, addresses


class Reason(Enum):
    """MetalLB's word for it, and a text for people."""

    text: str

    def __new__(cls, reason: str, text: str) -> Self:
        it = object.__new__(cls)
        # two members may share MetalLB's word, and must not become one
        it._value_ = f"{reason}: {text}"
        it.text = text
        return it

    @property
    def reason(self) -> str:
        """MetalLB's word."""
        return str(self.value).partition(":")[0]


class Unfit(Reason):
    """Why a service is not even considered for announcement."""

    NOT_LOAD_BALANCER = "notLoadBalancer", "its type is not LoadBalancer"
    OTHER_CLASS = "otherClass", "its loadBalancerClass is not the one we serve"
    NO_CONFIGURATION = "noConfiguration", "there has been no usable configuration yet"
    NO_ADDRESS = "noIPAllocated", "no address has been assigned"
    INVALID_ADDRESS = "invalidIP", "its status has something that is not an address"
    NOT_IN_POOL = "ipNotAllowed", "no pool has all of its addresses"


def placed(
    service: Service, configuration: Configuration | None, lb_class: str
) -> tuple[tuple[Address, ...], Pool] | Unfit:
    """Its addresses and the pool they are all in, or the first objection in MetalLB's order."""
    if (service.load_balancer_class or "") != lb_class:
        return Unfit.OTHER_CLASS
    if not service.is_load_balancer:
        return Unfit.NOT_LOAD_BALANCER
    if configuration is None:
        return Unfit.NO_CONFIGURATION
    if not service.ingress_ips:
        return Unfit.NO_ADDRESS
    ips = addresses(service)
    if ips is None:
        return Unfit.INVALID_ADDRESS
    pool = configuration.pools.locate_all(ips)
    return Unfit.NOT_IN_POOL if pool is None else (ips, pool)
