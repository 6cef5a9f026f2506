"""Forgetting UDP flows whose destination NAT no longer agrees with the plan, as kube-proxy does."""

from __future__ import annotations

import socket
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import TypeAlias

IPAddress: TypeAlias = IPv4Address | IPv6Address
Place: TypeAlias = tuple[IPAddress, int]
"""An address and a UDP port."""


def forget_udp(allowed: Mapping[Place, AbstractSet[Place]]) -> int:
    """Delete this namespace's UDP flows to each VIP port that were sent to a backend not allowed for it.

    Returns how many.  A flow that ends by itself meanwhile is nobody's problem.
    """
    # Heavy to import, and most data paths never forget anything.
    from pyroute2 import NFCTSocket
    from pyroute2.netlink.exceptions import NetlinkError
    from pyroute2.netlink.nfnetlink.nfctsocket import NFCTAttrTuple

    count = 0
    for family in {socket.AF_INET if vip.version == 4 else socket.AF_INET6 for vip, _ in allowed}:
        with NFCTSocket(nfgen_family=family) as conntrack:
            for entry in list(conntrack.dump()):
                original = NFCTAttrTuple.from_netlink(family, entry.get_attr("CTA_TUPLE_ORIG"))
                reply = NFCTAttrTuple.from_netlink(family, entry.get_attr("CTA_TUPLE_REPLY"))
                if original.proto != socket.IPPROTO_UDP:
                    continue
                backends = allowed.get((ip_address(original.daddr), original.dport))
                if backends is None or (ip_address(reply.saddr), reply.sport) in backends:
                    continue
                try:
                    conntrack.entry("del", tuple_orig=original)
                    count += 1
                except NetlinkError:
                    pass
    return count
