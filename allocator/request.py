"""What a service asks for, read once from its fields and annotations."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from allocator.ledger import NO_KEY, Key, Port
from crier.kube.model import annotations as notes
from crier.kube.model.addresses import Address, Family, family_of_all, parse_address, quoted
from crier.kube.model.service import Service

_ONE: Final = "must be an IP address"
_ONE_OF_EACH: Final = (
    "metallb.io/loadBalancerIPs must be an IP address, or one of each family with a comma between"
)


class RequestError(ValueError):
    """The service asks for something that cannot be meant."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    service: str
    """`namespace/name`."""
    namespace: str
    labels: Mapping[str, str]
    family: Family
    primary: Family = Family.IPV4
    """The family to have when both were asked for and only one can be had."""
    prefer_dual: bool = False
    """A dual-stack service that is content with one address where there are not both."""
    addresses: tuple[Address, ...] = ()
    """Asked for by name, in that order; empty: any will do."""
    invalid: str = ""
    """Why the addresses it names make no sense; `addresses` is empty then."""
    pool: str = ""
    """Asked for by name; "": any will do."""
    ports: frozenset[Port] = frozenset()
    key: Key = NO_KEY


def service_family(service: Service) -> Family:
    """The family of the service's cluster addresses.  Raises ValueError."""
    return family_of_all([parse_address(text) for text in service.cluster_ips])


def requested_addresses(service: Service) -> tuple[Address, ...]:
    """The addresses the service names itself; none when it names none.

    Raises:
        RequestError: with MetalLB's text.
    """
    annotation = service.annotation(notes.LOAD_BALANCER_IPS)
    if annotation and service.load_balancer_ip:
        raise RequestError("service can not have both metallb.io/loadBalancerIPs and svc.Spec.LoadBalancerIP")
    if service.load_balancer_ip:
        try:
            return (parse_address(service.load_balancer_ip),)
        except ValueError:
            raise RequestError(f'invalid spec.loadBalancerIP "{service.load_balancer_ip}": {_ONE}') from None
    if not annotation:
        return ()
    try:
        found = tuple(parse_address(text.strip()) for text in annotation.split(","))
    except ValueError:
        raise RequestError(f'invalid metallb.io/loadBalancerIPs: "{annotation}": {_ONE_OF_EACH}') from None
    if len(found) > 2:
        raise RequestError(f"more than two addresses {quoted(found)}: {_ONE_OF_EACH}")
    if len(found) == 2 and found[0].version == found[1].version:
        raise RequestError(f'"{found[0]}" "{found[1]}" has the same family: {_ONE_OF_EACH}')
    return found


def sharing_key(service: Service) -> Key:
    """Two services behind one address must reach the same pods where only some nodes may answer."""
    backend = ""
    if service.is_local:
        backend = ",".join(f"{name}={service.selector[name]}" for name in sorted(service.selector))
    return Key(service.annotation(notes.ALLOW_SHARED_IP), backend)


def ports_of(service: Service) -> frozenset[Port]:
    return frozenset(Port(port.protocol, port.port) for port in service.ports)


def request_of(service: Service) -> Request:
    """All of it.  Raises ValueError when the service's cluster addresses make no sense."""
    family = service_family(service)
    addresses: tuple[Address, ...] = ()
    invalid = ""
    try:
        addresses = requested_addresses(service)
    except RequestError as problem:
        invalid = str(problem)
    return Request(
        service=service.key,
        namespace=service.namespace,
        labels=service.labels,
        family=family,
        primary=Family.IPV6 if service.ip_families[:1] == ("IPv6",) else Family.IPV4,
        prefer_dual=family is Family.DUAL and service.ip_family_policy == "PreferDualStack",
        addresses=addresses,
        invalid=invalid,
        pool=service.annotation(notes.ADDRESS_POOL),
        ports=ports_of(service),
        key=sharing_key(service),
    )
