"""What speakers say of themselves over HTTP, decoded: `/status`, `/why`, `/routes`, `/host`
(docs/architecture.md).

Fields that are new are ignored and fields that are missing have defaults, so that a newer or older speaker is
understood as far as possible.
"""

from __future__ import annotations

from typing import Any, Final, TypeVar

import msgspec

MAX_DOCUMENT: Final = 16 * 1024 * 1024


class BadAnswer(ValueError):
    """It is not the document that was asked for.  The only thing `decode` raises."""


class MemberWords(msgspec.Struct, frozen=True):
    name: str
    address: str = ""
    port: int = 0
    state: str = ""
    reachable: bool = False


class VipWords(msgspec.Struct, frozen=True):
    address: str
    services: tuple[str, ...] = ()
    candidates: tuple[str, ...] = ()
    owner: str | None = None
    answering: bool = False
    interfaces: tuple[str, ...] | None = None
    missing_interfaces: bool = False
    requests_received: int = 0
    responses_sent: int = 0
    gratuitous_sent: int = 0
    claimed_by: str = ""
    answered_by: tuple[str, ...] = ()
    """Who answered on the wire when this node asked last: names of speakers, hardware addresses of others."""
    amiss: str = ""


class SessionWords(msgspec.Struct, frozen=True):
    """A BGP session."""

    peer: str
    address: str = ""
    state: str = ""
    last_error: str = ""
    wanted: int = 0
    sent: int = 0
    bfd: str = ""


class ReflexWords(msgspec.Struct, frozen=True):
    pid: int = 0
    uptime: float = 0.0
    loop_late_max: float = 0.0
    loop_late_p99: float = 0.0
    health: int = 0
    planner_starts: int = 0


class PlannerWords(msgspec.Struct, frozen=True):
    pid: int = 0
    uptime: float = 0.0
    synced: bool = False


class SpeakerWords(msgspec.Struct, frozen=True):
    """`/status` of a speaker."""

    node: str
    version: str = ""
    joined: bool = False
    members: tuple[MemberWords, ...] = ()
    vips: tuple[VipWords, ...] = ()
    reflex: ReflexWords = ReflexWords()
    planner: PlannerWords = PlannerWords()
    bgp: tuple[SessionWords, ...] = ()


class RoutedWords(msgspec.Struct, frozen=True):
    """What a node tells BGP peers of a service."""

    peers: tuple[str, ...] = ()
    objection: str | None = None


class RouteWords(msgspec.Struct, frozen=True):
    """A prefix that established sessions of a node carry, by the names of the peers."""

    prefix: str
    told: tuple[str, ...] = ()
    leaving: tuple[str, ...] = ()
    """Those of `told` that were asked to prefer anybody else."""


class RoutesWords(msgspec.Struct, frozen=True):
    """`/routes` of a speaker."""

    node: str
    visible: bool = False
    """False where FRR has the sessions: what they carry is not known then."""
    routes: tuple[RouteWords, ...] = ()


class ServiceWords(msgspec.Struct, frozen=True):
    """One service in `/why`."""

    addresses: tuple[str, ...] = ()
    candidates: tuple[str, ...] = ()
    objection: str | None = None
    nodes: dict[str, str] = {}
    here: str | None = None
    bgp: RoutedWords = RoutedWords()


class WhyWords(msgspec.Struct, frozen=True):
    node: str
    configuration: str = ""
    services: dict[str, ServiceWords] = {}


class InterfaceWords(msgspec.Struct, frozen=True):
    name: str
    up: bool = False
    mac: str = ""


class HailWords(msgspec.Struct, frozen=True):
    """What came of trying another speaker's gossip port; "" is an answer, else why there was none."""

    name: str
    address: str = ""
    port: int = 0
    tcp: str = ""
    udp: str = ""


class HostWords(msgspec.Struct, frozen=True):
    """`/host` of a speaker."""

    node: str
    interfaces: tuple[InterfaceWords, ...] = ()
    sysctls: dict[str, dict[str, int]] = {}
    exclude_l2: tuple[str, ...] = ()
    kube_proxy: str = ""
    gossip: tuple[HailWords, ...] = ()
    time: float = 0.0


class ControllerWords(msgspec.Struct, frozen=True):
    """`/status` of a controller."""

    version: str = ""
    synced: bool = False
    leading: bool = False
    leader: str = ""
    pending: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()


T = TypeVar("T")


def decode(data: bytes, form: type[T]) -> T:
    """Raises BadAnswer."""
    if len(data) > MAX_DOCUMENT:
        raise BadAnswer(f"a document of {len(data)} octets; at most {MAX_DOCUMENT} are read")
    try:
        return msgspec.json.decode(data, type=form)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as problem:
        raise BadAnswer(f"not the document that was asked for: {problem}") from None


def builtins(value: Any) -> Any:
    """A record as JSON can say it."""
    return msgspec.to_builtins(value)
