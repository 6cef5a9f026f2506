"""What is told about a service, in MetalLB's words: people and scripts look for them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from crier.kube.model.addresses import Address, quoted


@dataclass(frozen=True, slots=True)
class Notice:
    """An event to be."""

    service: str
    """`namespace/name`."""
    type: Literal["Normal", "Warning"]
    reason: str
    message: str


def assigned(service: str, addresses: Sequence[Address]) -> Notice:
    return Notice(service, "Normal", "IPAllocated", f"Assigned IP {quoted(addresses)}")


def assigned_additional(service: str, address: Address) -> Notice:
    return Notice(service, "Normal", "IPAllocated", f'Assigned additional IP "{address}"')


def additional_failed(service: str, why: str) -> Notice:
    return Notice(
        service, "Normal", "AdditionalAssignFailed", f"cannot assign additional IP in PreferDualStack: {why}"
    )


def cleared(service: str, why: str) -> Notice:
    return Notice(
        service,
        "Normal",
        "ClearAssignment",
        f'current IP for "{service}" not allowed by config, will attempt for new IP assignment: {why}',
    )


def allocation_failed(service: str, why: str) -> Notice:
    return Notice(service, "Warning", "AllocationFailed", f'Failed to allocate IP for "{service}": {why}')


def invalid_request(service: str, why: str) -> Notice:
    return Notice(service, "Warning", "LoadBalancerFailed", f"invalid requested loadbalancer IPs: {why}")


def not_enough_cluster_ips(service: str, cluster_ips: Sequence[str]) -> Notice:
    return Notice(
        service,
        "Warning",
        "not enough clusterips",
        f"Service requires dual stack but not enough clusterips [{' '.join(cluster_ips)}]",
    )


def no_ingress_family(service: str, ingress: Sequence[str], why: str) -> Notice:
    return Notice(
        service,
        "Warning",
        "nolbIPsIPFamily",
        f"Failed to retrieve LBIPs IPFamily for {quoted(ingress)}: {why}",
    )


def no_service_family(service: str, cluster_ips: Sequence[str], why: str) -> Notice:
    first = cluster_ips[0] if cluster_ips else ""
    return Notice(
        service,
        "Warning",
        "noclusterIPsIPFamily",
        f"Failed to retrieve ClusterIPs IPFamily for {quoted(cluster_ips)} {first}: {why}",
    )


def deprecated_annotation(service: str, key: str) -> Notice:
    return Notice(service, "Warning", "deprecatedAnnotation", f"Service uses deprecated annotation {key}")
