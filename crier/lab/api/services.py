"""Services: defaults, cluster IPs, node ports and the rules between the fields.

After `pkg/registry/core/service` of the real server: a dual-stack cluster whose first family is IPv4.
"""

from __future__ import annotations

import copy
import ipaddress
import random
from collections.abc import Iterator
from typing import Any, Final

from crier.lab.api import errors
from crier.lab.api.store import Object

NETWORKS: Final = {
    "IPv4": ipaddress.ip_network("10.96.0.0/16"),
    "IPv6": ipaddress.ip_network("fd00:10:96::/112"),
}
NODE_PORTS: Final = range(30000, 32768)
DYNAMIC_NODE_PORTS: Final = range(30086, 32768)
"""Where ports nobody asked for come from; the lower band is left to those who ask (KEP-3668)."""

_TYPES: Final = ("ClusterIP", "ExternalName", "LoadBalancer", "NodePort")


class Services:
    """Completes Services and keeps count of cluster IPs and node ports."""

    def __init__(self, *, rng: random.Random) -> None:
        self._rng = rng
        self._addresses: set[str] = set()
        self._ports: set[tuple[str, int]] = set()

    def admit(self, new: Object, old: Object | None) -> None:
        """Complete `new` in place, and take the addresses and ports it needs.

        Raises:
            ApiError: 422, naming every field that is wrong.
        """
        spec = new["spec"] = copy.deepcopy(new.get("spec") or {})
        before = (old or {}).get("spec") or {}
        _defaults(spec)
        if before:
            _drop_what_the_type_lost(spec, before)
        causes = [*_problems(spec), *(_changes(spec, before) if before else ())]
        if causes:
            raise errors.invalid("", "Service", new["metadata"].get("name", ""), *causes)
        held_addresses, held_ports = _held(old)
        try:
            self._families(spec, before)
            self._cluster_ips(spec, before, held_addresses)
            self._node_ports(spec, before, held_ports)
        except _Refused as refusal:
            raise errors.invalid("", "Service", new["metadata"].get("name", ""), refusal.cause) from None
        ingress = ((new.get("status") or {}).get("loadBalancer") or {}).get("ingress")
        new["status"] = {"loadBalancer": {}, **(new.get("status") or {})}
        if ingress:
            new["status"]["loadBalancer"] = {"ingress": _ingress(new, spec, before, ingress, old)}

    def changed(self, old: Object | None, new: Object | None) -> None:
        addresses, ports = _held(old)
        self._addresses -= addresses
        self._ports -= ports
        addresses, ports = _held(new)
        self._addresses |= addresses
        self._ports |= ports

    # ----------------------------------------------------------------------------------- families

    def _families(self, spec: Object, before: Object) -> None:
        if spec["type"] == "ExternalName":
            for field in ("clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy"):
                spec.pop(field, None)
            return
        addresses = _cluster_ips_of(spec)
        given = [_family(address) for address in addresses if address not in ("None", "")]
        families = list(spec.get("ipFamilies") or given or before.get("ipFamilies") or ())
        headless = addresses[:1] == ["None"]
        if len(families) > 2 or len(set(families)) != len(families) or set(families) - set(NETWORKS):
            raise _Refused("FieldValueInvalid", "spec.ipFamilies", f"Invalid value: {families}")
        if given and families[: len(given)] != given:
            text = f"Invalid value: {families}: does not match the families of clusterIPs"
            raise _Refused("FieldValueInvalid", "spec.ipFamilies", text)
        policy = spec.get("ipFamilyPolicy") or before.get("ipFamilyPolicy")
        if policy is None:
            both = len(families) == 2 or len(addresses) == 2
            bare = headless and not spec.get("selector") and not families
            policy = "RequireDualStack" if both or bare else "SingleStack"
        if policy == "SingleStack" and (len(families) == 2 or len(addresses) == 2):
            if not before or before.get("ipFamilyPolicy") == "SingleStack":
                text = "Invalid value: may only hold two families when ipFamilyPolicy is not SingleStack"
                raise _Refused("FieldValueInvalid", "spec.ipFamilyPolicy", text)
            families = families[:1]  # a downgrade drops the second family and its address
            spec["clusterIPs"] = addresses[:1]
        families = families or ["IPv4"]
        if policy != "SingleStack" and len(families) == 1:
            families.append("IPv6" if families == ["IPv4"] else "IPv4")
        spec["ipFamilies"], spec["ipFamilyPolicy"] = families, policy

    def _cluster_ips(self, spec: Object, before: Object, held: set[str]) -> None:
        if spec["type"] == "ExternalName":
            return
        addresses = [address for address in _cluster_ips_of(spec) if address]
        if not addresses and before.get("type") != "ExternalName":
            addresses = list(before.get("clusterIPs") or ())
        if addresses[:1] == ["None"]:
            spec["clusterIP"], spec["clusterIPs"] = "None", ["None"]
            return
        if before.get("clusterIP") and addresses[0] != before["clusterIP"]:
            text = f'Invalid value: "{addresses[0]}": field is immutable'
            raise _Refused("FieldValueInvalid", "spec.clusterIPs[0]", text)
        chosen = addresses[: len(spec["ipFamilies"])]
        for index, address in enumerate(chosen):
            if address not in held:
                self._check_free(index, address)
        for family in spec["ipFamilies"][len(chosen) :]:
            chosen.append(self._free_address(family))
        spec["clusterIP"], spec["clusterIPs"] = chosen[0], chosen

    def _check_free(self, index: int, address: str) -> None:
        field = f"spec.clusterIPs[{index}]"
        network = NETWORKS[_family(address)]
        if ipaddress.ip_address(address) not in network:
            text = (
                f'Invalid value: "{address}": failed to allocate IP {address}: the provided IP '
                f"({address}) is not in the valid range. The range of valid IPs is {network}"
            )
            raise _Refused("FieldValueInvalid", field, text)
        if address in self._addresses:
            text = f'Invalid value: "{address}": failed to allocate IP {address}: it is already allocated'
            raise _Refused("FieldValueInvalid", field, text)

    def _free_address(self, family: str) -> str:
        network = NETWORKS[family]
        size = network.num_addresses
        for _ in range(size):
            address = str(network[self._rng.randrange(1, size - 1)])
            if address not in self._addresses:
                return address
        raise _Refused("InternalError", "spec.clusterIPs", "Internal error: range is full")

    def _node_ports(self, spec: Object, before: Object, held: set[tuple[str, int]]) -> None:
        ports = spec.get("ports") or []
        wants = spec["type"] == "NodePort" or (
            spec["type"] == "LoadBalancer" and spec.get("allocateLoadBalancerNodePorts") is not False
        )
        old_ports = {
            (port["protocol"], port["port"]): port.get("nodePort") for port in before.get("ports") or ()
        }
        taken = self._ports - held
        here: set[tuple[str, int]] = set()
        for index, port in enumerate(ports):
            protocol = port["protocol"]
            number = port.get("nodePort")
            if not number and wants:
                number = old_ports.get((protocol, port["port"]))
                if not number or (protocol, number) in here:
                    # one number for both protocols of a port, as for DNS
                    twin = next(
                        (
                            p["nodePort"]
                            for p in ports[:index]
                            if p["port"] == port["port"] and p.get("nodePort")
                        ),
                        None,
                    )
                    free = twin is not None and (protocol, twin) not in taken | here
                    number = twin if free else self._free_port(protocol, taken | here)
                port["nodePort"] = number
            elif number:
                if number not in NODE_PORTS:
                    text = (
                        f"Invalid value: {number}: provided port is not in the valid range. The range of "
                        f"valid ports is {NODE_PORTS[0]}-{NODE_PORTS[-1]}"
                    )
                    raise _Refused("FieldValueInvalid", f"spec.ports[{index}].nodePort", text)
                if (protocol, number) in taken | here:
                    text = f"Invalid value: {number}: provided port is already allocated"
                    raise _Refused("FieldValueInvalid", f"spec.ports[{index}].nodePort", text)
            if number:
                here.add((protocol, number))
        if spec["type"] == "LoadBalancer" and spec.get("externalTrafficPolicy") == "Local":
            spec["healthCheckNodePort"] = (
                spec.get("healthCheckNodePort")
                or before.get("healthCheckNodePort")
                or self._free_port("TCP", taken | here)
            )

    def _free_port(self, protocol: str, taken: set[tuple[str, int]]) -> int:
        """One of the dynamic band, and of the other when that is full."""
        for band in (DYNAMIC_NODE_PORTS, range(NODE_PORTS.start, DYNAMIC_NODE_PORTS.start)):
            offset = self._rng.randrange(len(band))
            for step in range(len(band)):
                number = band[(offset + step) % len(band)]
                if (protocol, number) not in taken:
                    return number
        raise _Refused(
            "InternalError", "spec.ports", "Internal error: failed to allocate a nodePort: range is full"
        )


class _Refused(Exception):
    def __init__(self, reason: str, field: str, text: str) -> None:
        super().__init__(text)
        self.cause = (reason, field, text)


def _defaults(spec: Object) -> None:
    """`SetDefaults_Service`."""
    spec.setdefault("sessionAffinity", "None")
    spec.setdefault("type", "ClusterIP")
    if spec["sessionAffinity"] == "ClientIP":
        spec.setdefault("sessionAffinityConfig", {"clientIP": {"timeoutSeconds": 10800}})
    for port in spec.get("ports") or ():
        port.setdefault("protocol", "TCP")
        if port.get("targetPort") in (None, 0, ""):
            port["targetPort"] = port.get("port", 0)
        if not port.get("nodePort"):
            port.pop("nodePort", None)
        if not port.get("name"):
            port.pop("name", None)
    if spec["type"] in ("NodePort", "LoadBalancer"):
        spec.setdefault("externalTrafficPolicy", "Cluster")
    if spec["type"] != "ExternalName":
        spec.setdefault("internalTrafficPolicy", "Cluster")
    if spec["type"] == "LoadBalancer" and spec.get("allocateLoadBalancerNodePorts") is None:
        spec["allocateLoadBalancerNodePorts"] = True


def _drop_what_the_type_lost(spec: Object, before: Object) -> None:
    """`dropTypeDependentFields`: what only the old type had goes, unless it was changed on purpose."""
    kind, was = spec["type"], before.get("type")
    ports = {(port["protocol"], port["port"]): port.get("nodePort") for port in before.get("ports") or ()}
    with_node_ports = ("NodePort", "LoadBalancer")
    if kind not in with_node_ports and was in with_node_ports:
        for port in spec.get("ports") or ():
            if port.get("nodePort") == ports.get((port["protocol"], port.get("port"))):
                port.pop("nodePort", None)
        if spec.get("externalTrafficPolicy") == before.get("externalTrafficPolicy"):
            spec.pop("externalTrafficPolicy", None)
    had_check = was == "LoadBalancer" and before.get("externalTrafficPolicy") == "Local"
    has_check = kind == "LoadBalancer" and spec.get("externalTrafficPolicy") == "Local"
    if had_check and not has_check and spec.get("healthCheckNodePort") == before.get("healthCheckNodePort"):
        spec.pop("healthCheckNodePort", None)
    if kind != "LoadBalancer" and was == "LoadBalancer":
        for field in ("allocateLoadBalancerNodePorts", "loadBalancerClass"):
            if spec.get(field) == before.get(field):
                spec.pop(field, None)


def _problems(spec: Object) -> Iterator[tuple[str, str, str]]:
    if spec["type"] not in _TYPES:
        supported = ", ".join(f'"{name}"' for name in _TYPES)
        text = f'Unsupported value: "{spec["type"]}": supported values: {supported}'
        yield "FieldValueNotSupported", "spec.type", text
        return
    ports = spec.get("ports") or []
    if not ports and spec["type"] != "ExternalName" and _cluster_ips_of(spec)[:1] != ["None"]:
        yield "FieldValueRequired", "spec.ports", "Required value"
    yield from _port_problems(ports)
    if spec["type"] == "ExternalName" and not spec.get("externalName"):
        yield "FieldValueRequired", "spec.externalName", "Required value"
    if spec["type"] == "LoadBalancer" and _cluster_ips_of(spec)[:1] == ["None"]:
        text = "Invalid value: \"None\": may not be set to 'None' for LoadBalancer services"
        yield "FieldValueInvalid", "spec.clusterIPs[0]", text
    if spec.get("loadBalancerClass") and spec["type"] != "LoadBalancer":
        yield (
            "FieldValueForbidden",
            "spec.loadBalancerClass",
            "Forbidden: may only be used when `type` is 'LoadBalancer'",
        )
    for field, allowed in (
        ("externalTrafficPolicy", ("Cluster", "Local")),
        ("internalTrafficPolicy", ("Cluster", "Local")),
        ("sessionAffinity", ("ClientIP", "None")),
        ("ipFamilyPolicy", ("SingleStack", "PreferDualStack", "RequireDualStack")),
    ):
        if field in spec and spec[field] not in allowed:
            listed = ", ".join(f'"{name}"' for name in allowed)
            text = f'Unsupported value: "{spec[field]}": supported values: {listed}'
            yield "FieldValueNotSupported", f"spec.{field}", text
    for index, address in enumerate(_cluster_ips_of(spec)):
        if address not in ("None", "") and _parsed(address) is None:
            text = (
                f'Invalid value: "{address}": must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)'
            )
            yield "FieldValueInvalid", f"spec.clusterIPs[{index}]", text


def _port_problems(ports: list[Object]) -> Iterator[tuple[str, str, str]]:
    seen: set[tuple[Any, Any]] = set()
    names: set[str] = set()
    for index, port in enumerate(ports):
        at = f"spec.ports[{index}]"
        if not 1 <= port.get("port", 0) <= 65535:
            text = f"Invalid value: {port.get('port', 0)}: must be between 1 and 65535, inclusive"
            yield "FieldValueInvalid", f"{at}.port", text
        if isinstance(port["targetPort"], int) and not 1 <= port["targetPort"] <= 65535:
            text = f"Invalid value: {port['targetPort']}: must be between 1 and 65535, inclusive"
            yield "FieldValueInvalid", f"{at}.targetPort", text
        if port["protocol"] not in ("TCP", "UDP", "SCTP"):
            text = f'Unsupported value: "{port["protocol"]}": supported values: "SCTP", "TCP", "UDP"'
            yield "FieldValueNotSupported", f"{at}.protocol", text
        if len(ports) > 1 and not port.get("name"):
            yield "FieldValueRequired", f"{at}.name", "Required value"
        if port.get("name") and port["name"] in names:
            yield "FieldValueDuplicate", f"{at}.name", f'Duplicate value: "{port["name"]}"'
        names.add(port.get("name", ""))
        if (port["protocol"], port.get("port")) in seen:
            yield "FieldValueDuplicate", at, f"Duplicate value: {port.get('port')}/{port['protocol']}"
        seen.add((port["protocol"], port.get("port")))


def _changes(spec: Object, before: Object) -> Iterator[tuple[str, str, str]]:
    both_balance = spec["type"] == before.get("type") == "LoadBalancer"
    if both_balance and spec.get("loadBalancerClass") != before.get("loadBalancerClass"):
        text = f'Invalid value: "{spec.get("loadBalancerClass")}": may not change once set'
        yield "FieldValueInvalid", "spec.loadBalancerClass", text


def _ingress(
    new: Object, spec: Object, before: Object, ingress: list[Object], old: Object | None
) -> list[Object]:
    was = ((old or {}).get("status") or {}).get("loadBalancer") or {}
    if (
        spec["type"] != "LoadBalancer"
        and ingress != was.get("ingress")
        and before.get("type") == spec["type"]
    ):
        text = "Forbidden: may only be used when `spec.type` is 'LoadBalancer'"
        cause = ("FieldValueForbidden", "status.loadBalancer.ingress", text)
        raise errors.invalid("", "Service", new["metadata"]["name"], cause)
    checked = []
    for index, entry in enumerate(ingress):
        if entry.get("ip") and _parsed(entry["ip"]) is None:
            text = _not_an_address(entry["ip"])
            cause = ("FieldValueInvalid", f"status.loadBalancer.ingress[{index}].ip", text)
            raise errors.invalid("", "Service", new["metadata"]["name"], cause)
        # KEP-1860: an entry with an address delivers to it as a VIP unless it says otherwise
        default = {"ipMode": "VIP"} if entry.get("ip") and spec["type"] == "LoadBalancer" else {}
        checked.append({**entry, **default, **({"ipMode": entry["ipMode"]} if entry.get("ipMode") else {})})
    return checked


def _cluster_ips_of(spec: Object) -> list[str]:
    """`clusterIPs`, or what the older single field says (`NormalizeClusterIPs`)."""
    several = spec.get("clusterIPs") or []
    single = spec.get("clusterIP") or ""
    if single and (not several or several[0] != single):
        return [single]
    return list(several)


def _held(thing: Object | None) -> tuple[set[str], set[tuple[str, int]]]:
    spec = (thing or {}).get("spec") or {}
    addresses = {address for address in spec.get("clusterIPs") or () if address not in ("None", "")}
    ports = {(port["protocol"], port["nodePort"]) for port in spec.get("ports") or () if port.get("nodePort")}
    if spec.get("healthCheckNodePort"):
        ports.add(("TCP", spec["healthCheckNodePort"]))
    return addresses, ports


def _parsed(address: Any) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(address) if isinstance(address, str) else None
    except ValueError:
        return None


def _family(address: str) -> str:
    parsed = _parsed(address)
    return "IPv6" if parsed is not None and parsed.version == 6 else "IPv4"


def _not_an_address(text: Any) -> str:
    return f'Invalid value: "{text}": must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)'
