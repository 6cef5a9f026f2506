"""Which BFD sessions the reflex is to keep for the BGP peers, and what its news mean for them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import ip_network
from typing import TypeAlias

from bgp_lite.addresses import addresses
from crier.kube.model.addresses import Address
from crier.kube.model.bgppeer import BgpPeer
from speaker.orders import REMOTE_ADMIN_DOWN, Bfd, BfdPeer, BfdState

Key: TypeAlias = tuple[str, str, bool]
"""Address, device, multihop: what BFD tells sessions apart by."""


@dataclass(frozen=True, slots=True)
class News:
    peer: str
    """Name of the BGPPeer."""
    state: str
    failed: bool
    """The path was lost since the last news."""
    counters: Mapping[str, int]
    """By the last part of MetalLB's metric's name."""


class BfdWatch:
    """`neighbor`: where an unnumbered peer is, `address%interface`; "" while that is not known."""

    def __init__(self, neighbor: Callable[[str], str]) -> None:
        self._neighbor = neighbor
        self._far: dict[BgpPeer, bool] = {}
        self._downs: dict[Key, int] = {}

    def wanted(self, peers: Iterable[BgpPeer]) -> tuple[BfdPeer, ...]:
        """One session for each address, with the profile of the first peer (by name) that is there."""
        peers = tuple(peers)
        self._far = {peer: far for peer, far in self._far.items() if peer in peers}
        found: dict[Key, BfdPeer] = {}
        for peer in sorted(peers, key=lambda each: each.name):
            key = self._key(peer)
            if peer.bfd is None or key is None or key in found:
                continue
            found[key] = BfdPeer(
                address=key[0],
                local=str(peer.source) if peer.source is not None else "",
                device=key[1],
                multihop=key[2],
                receive=peer.bfd.receive_interval,
                transmit=peer.bfd.transmit_interval,
                multiplier=peer.bfd.detect_multiplier,
                passive=peer.bfd.passive_mode,
                minimum_ttl=peer.bfd.minimum_ttl,
            )
        return tuple(found[key] for key in sorted(found))

    def news(self, peers: Sequence[BgpPeer], snapshot: Bfd) -> list[News]:
        """What the newest snapshot says of each peer.  A state met for the first time is no failure: a new
        planner learns how things are, not what happened."""
        states = {(state.address, state.device, state.multihop): state for state in snapshot.peers}
        failed = {key for key, state in states.items() if self._failed(key, state)}
        self._downs = {key: state.downs for key, state in states.items()}
        found: list[News] = []
        for peer in peers:
            key = self._key(peer)
            if peer.bfd is not None and key is not None and (state := states.get(key)) is not None:
                found.append(News(peer.name, state.state, key in failed, _counters(state)))
        return found

    def _failed(self, key: Key, state: BfdState) -> bool:
        # a router that ends BFD on purpose says so; the path is as good as before (RFC 5882 §4.2)
        return state.downs > self._downs.get(key, state.downs) and state.diagnostic != REMOTE_ADMIN_DOWN

    def _is_far(self, peer: BgpPeer) -> bool:
        """Whether an internal peer, of which nothing says how far it is, is on none of our networks.  Asked
        once for each: a link that goes down must not make it look farther away."""
        if peer.peer_asn not in (peer.asn, "internal") or peer.address is None:
            return False
        if peer not in self._far:
            try:
                self._far[peer] = not _on_link(peer.address)
            except OSError:
                return False
        return self._far[peer]

    def _key(self, peer: BgpPeer) -> Key | None:
        if peer.address is not None:
            return str(peer.address), peer.vrf, peer.multihop or self._is_far(peer)
        address, _, interface = self._neighbor(peer.name).partition("%")
        return (address, interface or peer.interface, False) if address else None


def _on_link(address: Address) -> bool:
    return any(
        address in ip_network((each.ip, each.prefix_length), strict=False)
        for each in addresses()
        if each.ip.version == address.version
    )


def _counters(state: BfdState) -> dict[str, int]:
    return {
        "control_packet_input": state.received,
        "control_packet_output": state.sent,
        "echo_packet_input": 0,
        "echo_packet_output": 0,
        "session_up_events": state.ups,
        "session_down_events": state.downs,
        "zebra_notifications": 0,
    }
