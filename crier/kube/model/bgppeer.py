"""BGPPeer: a router we tell our routes to, and how to speak with it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Address
from typing import Final, Literal, TypeAlias

import msgspec

from crier.kube.model.addresses import Address, parse_address
from crier.kube.model.bfdprofile import BfdProfile
from crier.kube.model.duration import parse_duration
from crier.kube.model.errors import ConfigError
from crier.kube.model.secret import Secret
from crier.kube.model.selector import Selector, SelectorWire, any_matches, parse_selectors
from crier.kube.model.wire import SpecObject

PeerAsn: TypeAlias = int | Literal["internal", "external"]

MAX_ASN: Final = 0xFFFFFFFF
DEFAULT_HOLD_TIME: Final = 90
"""Seconds, of MetalLB's native mode."""
MAX_PASSWORD: Final = 80
"""Octets of a TCP MD5 key the kernel takes."""
BASIC_AUTH: Final = "kubernetes.io/basic-auth"


class _SecretRefWire(msgspec.Struct, frozen=True):
    name: str = ""


class _SpecWire(msgspec.Struct, frozen=True, rename="camel"):
    my_asn: int | None = msgspec.field(default=None, name="myASN")
    peer_asn: int | None = msgspec.field(default=None, name="peerASN")
    dynamic_asn: str | None = msgspec.field(default=None, name="dynamicASN")
    local_asn: int | None = msgspec.field(default=None, name="localASN")
    peer_address: str | None = None
    interface: str | None = None
    source_address: str | None = None
    peer_port: int | None = None
    hold_time: str | None = None
    keepalive_time: str | None = None
    connect_time: str | None = None
    router_id: str | None = msgspec.field(default=None, name="routerID")
    node_selectors: tuple[SelectorWire, ...] | None = None
    password: str | None = None
    password_secret: _SecretRefWire | None = None
    bfd_profile: str | None = None
    enable_graceful_restart: bool | None = None
    ebgp_multi_hop: bool | None = None
    vrf: str | None = None
    dual_stack_address_family: bool | None = None

    def __repr__(self) -> str:
        return f"<spec of a BGPPeer at {self.peer_address or self.interface!r}>"  # never the password


class BgpPeerObject(SpecObject[_SpecWire], spec=_SpecWire):
    """A BGPPeer as it stands in the API, v1beta2 or its subset v1beta1: not checked yet."""

    __slots__ = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class BgpPeer:
    """A checked BGPPeer.  Equal ones need no new session."""

    name: str
    my_asn: int
    peer_asn: PeerAsn
    """The number, or only whether it is ours ("internal") or not ("external")."""
    local_asn: int | None = None
    """What this one session uses in place of `my_asn`."""
    address: Address | None = None
    """None exactly when there is an interface."""
    interface: str = ""
    """Unnumbered: the router is whoever is on this link."""
    port: int = 179
    source: Address | None = None
    hold_time: int = DEFAULT_HOLD_TIME
    """Seconds, 0 (no timers) or 3..65535."""
    keepalive_time: int | None = None
    """Seconds, 1..hold time; None: a third of the negotiated hold time."""
    connect_time: int | None = None
    """Seconds between attempts to connect, 1..65535."""
    router_id: IPv4Address | None = None
    node_selectors: tuple[Selector, ...] = ()
    password: bytes | None = field(default=None, repr=False)
    password_secret: str = ""
    """Name of the Secret the password is from, in the peer's namespace; empty when the peer has it itself."""
    bfd: BfdProfile | None = None
    graceful_restart: bool = False
    multihop: bool = False
    vrf: str = ""
    dual_stack: bool = False
    """Routes of both families, not only of the peer address's."""
    waiting: tuple[str, ...] = ()
    """What it refers to that does not exist yet, or is not what it must be.  Only this peer waits for it."""

    @property
    def asn(self) -> int:
        """The AS number we open the session with."""
        return self.local_asn or self.my_asn

    @property
    def versions(self) -> frozenset[int]:
        """IP versions of the routes it is told."""
        if self.dual_stack or self.address is None:
            return frozenset({4, 6})
        return frozenset({self.address.version})

    def selects_node(self, labels: Mapping[str, str]) -> bool:
        return any_matches(self.node_selectors, labels)


def parse_bgp_peers(
    objects: Iterable[BgpPeerObject], profiles: Mapping[str, BfdProfile], secrets: Mapping[str, Secret]
) -> tuple[BgpPeer, ...]:
    """Check all BGPPeers; the result is sorted by name.

    `profiles`: by name.  `secrets`: by `namespace/name`; a password is looked for in the peer's namespace.

    Raises:
        ConfigError: with every fault of every one; never with a password.
    """
    problems: list[str] = []
    ordered = sorted(objects, key=lambda thing: thing.name)
    peers = tuple(_Parser(thing, problems).parse(profiles, secrets) for thing in ordered)
    if problems:
        raise ConfigError(problems)
    return peers


class _Parser:
    """One BGPPeer; what is wrong with it goes to `problems`."""

    def __init__(self, thing: BgpPeerObject, problems: list[str]) -> None:
        self._thing, self._spec, self._problems = thing, thing.spec, problems

    def parse(self, profiles: Mapping[str, BfdProfile], secrets: Mapping[str, Secret]) -> BgpPeer:
        spec = self._spec
        waiting: list[str] = []
        my_asn, peer_asn = self._asns()
        if spec.ebgp_multi_hop and peer_asn in (my_asn, "internal"):
            self._fault("ebgpMultiHop", "invalid ebgp-multihop parameter set for an ibgp peer")
        port = 179 if spec.peer_port is None else spec.peer_port
        if not 1 <= port <= 65535:
            self._fault("peerPort", f"{port} is not in 1..65535")
        hold, keepalive = self._timers()
        bfd = profiles.get(spec.bfd_profile) if spec.bfd_profile else None
        if spec.bfd_profile and bfd is None:
            waiting.append(f"peer {self._thing.name} referencing non existing bfd profile {spec.bfd_profile}")
        return BgpPeer(
            name=self._thing.name,
            my_asn=my_asn,
            peer_asn=peer_asn,
            local_asn=self._local_asn(),
            address=self._peer_address(),
            interface=spec.interface or "",
            port=port,
            source=self._address("sourceAddress", spec.source_address, "invalid source IP"),
            hold_time=hold,
            keepalive_time=keepalive,
            connect_time=self._connect_time(),
            router_id=self._router_id(),
            node_selectors=parse_selectors(spec.node_selectors, self._path("nodeSelectors"), self._problems),
            password=self._password(secrets, waiting),
            password_secret=spec.password_secret.name if spec.password_secret else "",
            bfd=bfd,
            graceful_restart=spec.enable_graceful_restart is True,
            multihop=spec.ebgp_multi_hop is True,
            vrf=spec.vrf or "",
            dual_stack=spec.dual_stack_address_family is True,
            waiting=tuple(waiting),
        )

    def _path(self, name: str) -> str:
        return f"{self._thing.name}: spec.{name}"

    def _text(self, name: str, why: str) -> str:
        return f"{self._path(name)}: {why}"

    def _fault(self, name: str, why: str) -> None:
        self._problems.append(self._text(name, why))

    def _asns(self) -> tuple[int, PeerAsn]:
        spec = self._spec
        mine, theirs = spec.my_asn or 0, spec.peer_asn or 0
        if not mine:
            self._fault("myASN", "missing local ASN")
        elif not 1 <= mine <= MAX_ASN:
            self._fault("myASN", f"{mine} is not in 1..{MAX_ASN}")
        if theirs and spec.dynamic_asn:
            self._fault("peerASN", "both peer ASN and dynamicASN specified")
        elif not theirs and not spec.dynamic_asn:
            self._fault("peerASN", "missing peer ASN and dynamicASN")
        if theirs and not 1 <= theirs <= MAX_ASN:
            self._fault("peerASN", f"{theirs} is not in 1..{MAX_ASN}")
        match spec.dynamic_asn:
            case "internal":
                return mine, "internal"
            case "external":
                return mine, "external"
            case None | "":
                return mine, theirs
            case other:
                self._fault("dynamicASN", f"invalid dynamicASN {other!r}: must be internal or external")
                return mine, theirs

    def _local_asn(self) -> int | None:
        found = self._spec.local_asn
        if found is not None and not 1 <= found <= MAX_ASN:
            self._fault("localASN", f"{found} is not in 1..{MAX_ASN}")
        return found

    def _address(self, name: str, text: str | None, why: str) -> Address | None:
        if not text:
            return None
        try:
            return parse_address(text)
        except ValueError:
            self._fault(name, f"{why} {text!r}: must be an IP address")
            return None

    def _peer_address(self) -> Address | None:
        spec = self._spec
        if spec.peer_address and spec.interface:
            self._fault("peerAddress", "peer has both Address and Interface specified")
        elif not spec.peer_address and not spec.interface:
            self._fault("peerAddress", "peer has no Address or Interface specified")
        return self._address("peerAddress", spec.peer_address, "invalid BGPPeer address")

    def _router_id(self) -> IPv4Address | None:
        text = self._spec.router_id
        found = self._address("routerID", text, "invalid router ID")
        if found is None or (isinstance(found, IPv4Address) and int(found)):
            return found
        self._fault("routerID", f"invalid router ID {text!r}: must be an IPv4 address, not 0.0.0.0")
        return None

    def _seconds(self, name: str, text: str | None) -> int | None:
        """Whole seconds, the rest cut off; None when absent or not to be read."""
        if text is None:
            return None
        try:
            return int(parse_duration(text))
        except ValueError as problem:
            self._fault(name, str(problem))
            return None

    def _timers(self) -> tuple[int, int | None]:
        """One of the two given decides the other."""
        spec = self._spec
        hold, keepalive = (
            self._seconds("holdTime", spec.hold_time),
            self._seconds("keepaliveTime", spec.keepalive_time),
        )
        if hold is not None and not (hold == 0 or 3 <= hold <= 65535):
            self._fault(
                "holdTime", f"invalid hold time {spec.hold_time!r}: must be 0 or >=3s, at most 65535s"
            )
            return DEFAULT_HOLD_TIME, None
        if keepalive is None or keepalive == 0:
            return (DEFAULT_HOLD_TIME if hold is None else hold), None
        if hold is None:
            hold = max(3 * keepalive, 3)
        if keepalive < 0 or keepalive > hold or hold > 65535:
            self._fault(
                "keepaliveTime",
                f"invalid keepaliveTime {spec.keepalive_time!r}, must be lower than holdTime {hold}s",
            )
        return hold, keepalive

    def _connect_time(self) -> int | None:
        text = self._spec.connect_time
        found = self._seconds("connectTime", text)
        if found is not None and text is not None:
            if not 1 <= found <= 65535:
                self._fault("connectTime", f"invalid connectTime {text!r}: must be 1..65535 seconds")
            elif parse_duration(text) != found:
                self._fault("connectTime", f"invalid connectTime {text!r}: must be whole seconds")
        return found

    def _password(self, secrets: Mapping[str, Secret], waiting: list[str]) -> bytes | None:
        spec = self._spec
        reference = spec.password_secret.name if spec.password_secret else ""
        if spec.password and reference:
            self._fault("passwordSecret", "can not have both password and secret ref set")
            return None
        if spec.password:
            return self._checked_password("password", spec.password.encode())
        if not reference:
            return None
        name = "passwordSecret"
        secret = secrets.get(f"{self._thing.namespace}/{reference}")
        if secret is None:
            waiting.append(self._text(name, f"there is no Secret {reference!r}"))
        elif secret.type != BASIC_AUTH:
            # MetalLB's text to the letter, trailing blank and all: its tests compare it
            peer = self._thing.name
            waiting.append(
                f'parsing peer {peer} secret type mismatch on "{secret.namespace}"/"{reference}", '
                f'type "{BASIC_AUTH}" is expected \nfailed to parse peer {peer} password secret'
            )
        elif "password" not in secret.data:
            waiting.append(self._text(name, f"secret {reference!r} has no key 'password'"))
        elif why := _password_fault(secret.data["password"]):
            waiting.append(self._text(name, f"secret {reference!r}: {why}"))
        else:
            return secret.data["password"]
        return None

    def _checked_password(self, name: str, password: bytes) -> bytes:
        if why := _password_fault(password):
            self._fault(name, why)
        return password


def _password_fault(password: bytes) -> str:
    return "" if 1 <= len(password) <= MAX_PASSWORD else f"a password has 1..{MAX_PASSWORD} octets"
