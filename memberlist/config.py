"""Every setting of a member, checked when it is made."""

from __future__ import annotations

import ipaddress
import math
import socket
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from .errors import ConfigError

if TYPE_CHECKING:
    from .keyring import Keyring

Address: TypeAlias = tuple[str, int]
"""IP address as text, and a port."""

Network: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network

DEFAULT_PORT: Final = 7946
MAX_META: Final = 512
"""Octets of metadata a member may announce."""
MAX_LABEL: Final = 255
MAX_NAME: Final = 255
"""Octets of a name; a bound of ours, upstream has none."""
MAX_MEMBERS: Final = 16384
"""Members kept at most, so that a peer gone mad cannot fill our memory.  Upstream has no bound."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Durations are seconds.  Start from `lan`, `wan` or `local`; everything is validated at once."""

    name: str = field(default_factory=socket.gethostname)
    """Unique in the cluster, 1 to 255 octets."""
    bind: Address = ("0.0.0.0", DEFAULT_PORT)
    """Where UDP and TCP listen.  Port 0 lets the kernel choose one that is free for both."""
    advertise: Address | None = None
    """What others are told to send to; None takes `bind`, or this host's first private address."""

    # -- what is on the wire
    keyring: Keyring | None = None
    """Keys of the cluster; None or an empty ring sends plain text.  May be changed while running."""
    label: str = ""
    """Separates clusters that share a network, at most 255 octets of UTF-8."""
    skip_inbound_label_check: bool = False
    """A proxy in front of us strips the label."""
    verify_incoming: bool = True
    """Refuse plain text while there are keys.  Off only while a running cluster is moved to encryption."""
    verify_outgoing: bool = True
    """Encrypt while there are keys.  Off only while a running cluster is moved to encryption."""
    compress: bool = True
    """LZW: streams always, packets when it makes them smaller."""
    protocol_version: int = 2
    """1 to 5.  Others judge our abilities by the range we announce, so this changes next to nothing; 1
    selects the older encryption."""
    delegate_version: tuple[int, int, int] = (0, 0, 0)
    """Minimum, maximum and current version of the application's own messages, each 0 to 255."""
    udp_buffer_size: int = 1400
    """Octets aimed at for a UDP packet, 512 to 65507."""

    # -- failure detection
    probe_interval: float = 1.0
    """One member is probed so often; 0 probes nobody."""
    probe_timeout: float = 0.5
    """Wait for a direct answer before others are asked to try; at most `probe_interval`."""
    indirect_checks: int = 3
    """How many others are asked."""
    tcp_pings: bool = True
    """Also try TCP when UDP is not answered: tells a dead member from a blocked port."""
    suspicion_mult: int = 4
    """A suspect has at least `mult * max(1, log10 N) * probe_interval`."""
    suspicion_max_timeout_mult: int = 6
    """And at most so many times that, while few others confirm."""
    awareness_max: int = 8
    """Health score limit: a slow member stretches its own probe interval at most so many times."""

    # -- dissemination
    gossip_interval: float = 0.2
    """0 sends news with probes only."""
    gossip_nodes: int = 3
    """Members that get the news in each interval."""
    gossip_to_the_dead_time: float = 30.0
    """The dead still get news for so long, then are forgotten."""
    retransmit_mult: int = 4
    """Each piece of news is sent `mult * ceil(log10(N + 1))` times."""
    push_pull_interval: float = 30.0
    """Full exchange with one random member over TCP; 0 only on join."""
    tcp_timeout: float = 10.0
    """For each of dialling, writing and reading."""

    # -- who is believed
    dead_node_reclaim_time: float = 0.0
    """A name whose owner is dead for so long may return from another address; 0 never."""
    require_node_names: bool = False
    """Join only by `name/address`."""
    cidrs_allowed: tuple[Network, ...] | None = None
    """Members outside these networks are ignored; None or () allows all."""

    # -- watchers
    watch: bool = False
    """Watch some members closely and believe a majority of watchers (see README, Watchers)."""
    watchers: int = 3
    """How many members watch each member, 1 to 9."""
    watch_interval: float = 0.08
    """Between two pings of a watched member, 0.01 to 10; should exceed the round trip time.  A crash is known
    to all after 2.1 to 3.1 of it."""

    observe: bool = False
    """Have an opinion about nobody: neither probe nor watch, and pass on only what others say.  For tools
    that look at a cluster and must not take part in its judgements."""

    def __post_init__(self) -> None:
        for name, check, wanted in _CHECKS:
            value = getattr(self, name)
            if not check(value):
                raise ConfigError(f"{name}: {_shown(value)} is not {wanted}")
        if self.probe_interval and self.probe_timeout > self.probe_interval:
            raise ConfigError(
                f"probe_timeout: {self.probe_timeout} exceeds probe_interval, {self.probe_interval}"
            )
        low, high, current = self.delegate_version
        if not low <= current <= high:
            raise ConfigError(f"delegate_version: current {current} is outside of {low} to {high}")

    @classmethod
    def lan(cls, **settings: Any) -> Config:
        """One site; the values of hashicorp/memberlist's DefaultLANConfig.  Raises ConfigError."""
        return _make(cls, {}, settings)

    @classmethod
    def wan(cls, **settings: Any) -> Config:
        """Between sites.  Raises ConfigError."""
        return _make(cls, _WAN, settings)

    @classmethod
    def local(cls, **settings: Any) -> Config:
        """One machine, for tests and development.  Raises ConfigError."""
        return _make(cls, _LOCAL, settings)

    @property
    def vsn(self) -> bytes:
        """Protocol min, max, current and delegate min, max, current, as announced."""
        return bytes((1, 5, self.protocol_version, *self.delegate_version))


_WAN: Final[dict[str, Any]] = {
    "tcp_timeout": 30.0,
    "suspicion_mult": 6,
    "push_pull_interval": 60.0,
    "probe_interval": 5.0,
    "probe_timeout": 3.0,
    "gossip_nodes": 4,
    "gossip_interval": 0.5,
    "gossip_to_the_dead_time": 60.0,
    "watch_interval": 0.5,
}
_LOCAL: Final[dict[str, Any]] = {
    "tcp_timeout": 1.0,
    "indirect_checks": 1,
    "retransmit_mult": 2,
    "suspicion_mult": 3,
    "push_pull_interval": 15.0,
    "probe_timeout": 0.2,
    "gossip_interval": 0.1,
    "gossip_to_the_dead_time": 15.0,
}


def _shown(value: object) -> str:
    """Not all of a long text; its size is what is wrong with it."""
    if isinstance(value, str) and len(octets := value.encode("utf-8", "surrogateescape")) > MAX_LABEL:
        return f"{value[:20]!r}..., {len(octets)} octets,"
    return repr(value)


def _make(cls: type[Config], profile: dict[str, Any], settings: dict[str, Any]) -> Config:
    unknown = sorted(set(settings) - set(Config.__dataclass_fields__))
    if unknown:
        raise ConfigError(f"{unknown[0]}: there is no such setting")
    return cls(**{**profile, **settings})


def _whole(low: int, high: int) -> Callable[[object], bool]:
    return lambda value: isinstance(value, int) and not isinstance(value, bool) and low <= value <= high


def _seconds(low: float, high: float = 86400.0) -> Callable[[object], bool]:
    def check(value: object) -> bool:
        return (
            isinstance(value, int | float)
            and not isinstance(value, bool)
            and math.isfinite(value)
            and low <= value <= high
        )

    return check


def _flag(value: object) -> bool:
    return isinstance(value, bool)


def _is_name(value: object) -> bool:
    return isinstance(value, str) and 0 < len(value.encode("utf-8", "surrogateescape")) <= MAX_NAME


def _is_address(value: object, *, lowest_port: int = 0) -> bool:
    if not (isinstance(value, tuple) and len(value) == 2 and isinstance(value[0], str)):
        return False
    try:
        ipaddress.ip_address(value[0])
    except ValueError:
        return False
    return _whole(lowest_port, 65535)(value[1])


def _is_versions(value: object) -> bool:
    return isinstance(value, tuple) and len(value) == 3 and all(_whole(0, 255)(part) for part in value)


def _is_networks(value: object) -> bool:
    kinds = (ipaddress.IPv4Network, ipaddress.IPv6Network)
    return value is None or (isinstance(value, tuple) and all(isinstance(one, kinds) for one in value))


_CHECKS: Final[tuple[tuple[str, Callable[[Any], bool], str], ...]] = (
    ("name", _is_name, f"a text of 1 to {MAX_NAME} octets"),
    ("bind", _is_address, "an (IP address, port) pair with port 0 to 65535"),
    (
        "advertise",
        lambda value: value is None or _is_address(value),
        "None or an (IP address, port) pair; port 0 means the port bound",
    ),
    (
        "label",
        lambda value: isinstance(value, str) and len(value.encode("utf-8", "surrogateescape")) <= MAX_LABEL,
        f"a text of at most {MAX_LABEL} octets",
    ),
    ("skip_inbound_label_check", _flag, "True or False"),
    ("verify_incoming", _flag, "True or False"),
    ("verify_outgoing", _flag, "True or False"),
    ("compress", _flag, "True or False"),
    ("protocol_version", _whole(1, 5), "a whole number from 1 to 5"),
    ("delegate_version", _is_versions, "three whole numbers from 0 to 255"),
    ("udp_buffer_size", _whole(512, 65507), "a whole number from 512 to 65507"),
    ("probe_interval", _seconds(0), "seconds, 0 (never) to 86400"),
    ("probe_timeout", _seconds(0.001), "seconds, 0.001 to 86400"),
    ("indirect_checks", _whole(0, 100), "a whole number from 0 to 100"),
    ("tcp_pings", _flag, "True or False"),
    ("suspicion_mult", _whole(1, 100), "a whole number from 1 to 100"),
    ("suspicion_max_timeout_mult", _whole(1, 100), "a whole number from 1 to 100"),
    ("awareness_max", _whole(1, 100), "a whole number from 1 to 100"),
    ("gossip_interval", _seconds(0), "seconds, 0 (never) to 86400"),
    ("gossip_nodes", _whole(0, 100), "a whole number from 0 to 100"),
    ("gossip_to_the_dead_time", _seconds(0), "seconds, 0 to 86400"),
    ("retransmit_mult", _whole(1, 100), "a whole number from 1 to 100"),
    ("push_pull_interval", _seconds(0), "seconds, 0 (never) to 86400"),
    ("tcp_timeout", _seconds(0.001), "seconds, 0.001 to 86400"),
    ("dead_node_reclaim_time", _seconds(0, math.inf), "seconds, 0 (never) or more"),
    ("require_node_names", _flag, "True or False"),
    ("cidrs_allowed", _is_networks, "None or a tuple of ipaddress networks"),
    ("watch", _flag, "True or False"),
    ("observe", _flag, "True or False"),
    ("watchers", _whole(1, 9), "a whole number from 1 to 9"),
    ("watch_interval", _seconds(0.01, 10), "seconds, 0.01 to 10"),
)
