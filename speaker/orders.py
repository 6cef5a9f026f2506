"""What the planner tells the reflex and the reflex tells the planner.

The only module both sides import.  One socketpair carries it: frames of a 4-byte big-endian length and a
msgpack map whose key `type` names the message.  Both sides treat what they read as hostile until decoded:
`decode` is the one door and `BadOrder` its one exception, and no frame may exceed `MAX_FRAME`.

Down go *standing orders*: per VIP the candidates in election order, so that the reflex can answer "mine or
not?" alone, for as long as the planner is away.  They are whole, never a difference, so a lost or repeated
message changes nothing.  Up goes what happened: snapshots, of which only the newest matters, and happenings,
of which each does.
"""

from __future__ import annotations

import struct
from typing import Final, TypeAlias

import msgspec

PROTOCOL: Final = 2
"""Version of the messages below; a planner and a reflex of different images never talk past each other."""

MAX_FRAME: Final = 8 * 1024 * 1024
"""Octets of one encoded message: 10,000 VIPs with 10 candidates each take about 2 MiB."""

MAX_WATCHED: Final = 64
"""Members told of as watched; three in a large cluster."""

MAX_HAPPENINGS: Final = 1024
"""Happenings the reflex keeps for a planner that is away; the oldest are dropped first, and counted."""

_LENGTH: Final = struct.Struct("!I")
HEADER: Final = _LENGTH.size


class BadOrder(Exception):
    """The only thing `decode` and `frame_length` raise."""


class _Message(msgspec.Struct, frozen=True, tag_field="type", tag=str.lower):
    pass


# ------------------------------------------------------------------------------------------ downwards


class Vip(msgspec.Struct, frozen=True, gc=False):
    """One address and who may answer for it."""

    address: str
    """Canonical text (RFC 5952 for IPv6).  An address may stand in several `Vip`s, when services share it
    but differ in candidates; it is announced while any of them is ours."""
    services: tuple[str, ...]
    """`namespace/name` of every service behind it, sorted."""
    candidates: tuple[str, ...]
    """Node names, best first.  The owner is the first that is reachable."""
    interfaces: tuple[str, ...] | None = None
    """Names of the interfaces to answer on; None means all that qualify."""
    restriction: int = 0
    """Stands for the rules `interfaces` comes from, 32 bits.  The names may differ from node to node, this is
    the same at all of them, so that one can tell another that none of its interfaces works.  0: no rules."""


class BfdPeer(msgspec.Struct, frozen=True):
    """One BFD session the reflex is to keep, in asynchronous mode (RFC 5880, 5881, 5883)."""

    address: str
    """The router; a link-local one needs `device`."""
    local: str = ""
    """Our address; empty leaves it to the kernel."""
    device: str = ""
    """Interface or VRF device the session is bound to."""
    multihop: bool = False
    receive: int = 300
    """Milliseconds we ask for between the router's packets, 10..60000."""
    transmit: int = 300
    """Milliseconds between ours, 10..60000."""
    multiplier: int = 3
    """Packets that may be missed, 2..255."""
    passive: bool = False
    """Say nothing until the router does."""
    minimum_ttl: int = 254
    """Of multihop packets, 1..254."""


class Orders(_Message, frozen=True):
    """The standing orders, whole."""

    generation: int
    """Grows by one with each different plan of one planner; starts above the reflex's own on `Hello`."""
    vips: tuple[Vip, ...]
    bfd: tuple[BfdPeer, ...] = ()


class SealedOrders(_Message, frozen=True, tag="orders"):
    """Standing orders whose entries are still to be read, each by `unseal`: ten thousand at once would keep
    the reader from everything else."""

    generation: int
    vips: tuple[msgspec.Raw, ...]
    bfd: tuple[BfdPeer, ...] = ()


class Seeds(_Message, frozen=True):
    """Addresses of the other speakers, as the API knows them; `ip` or `ip:port`."""

    addresses: tuple[str, ...]


# -------------------------------------------------------------------------------------------- upwards


class Hello(_Message, frozen=True):
    """The first message to a new planner: who we are and what is in force."""

    protocol: int
    node: str
    generation: int
    """Generation of the orders in force; 0 when none came yet."""
    membership: bool
    """False when memberlist is disabled: every candidate then counts as reachable."""
    planner_starts: int
    """How many planners this reflex has started, this one included."""


class MemberView(msgspec.Struct, frozen=True):
    name: str
    address: str
    port: int
    state: str
    """alive, suspect, dead or left (SWIM's opinion)."""
    reachable: bool
    """The watchers' opinion; an unreachable member announces nothing."""
    unable: tuple[int, ...] = ()
    """`Vip.restriction`s under which it has no interface that works now; it is passed over for those."""


class Members(_Message, frozen=True):
    """Snapshot: everybody in the gossip cluster, ourselves included, sorted by name."""

    members: tuple[MemberView, ...]
    joined: bool
    """True once another member was reached, or the bounded wait for one has passed."""


class VipState(msgspec.Struct, frozen=True, gc=False):
    address: str
    owner: str | None
    """First reachable candidate as this node sees it."""
    answering: bool
    """We answer ARP/NDP for it now; also while handing over, when `owner` is already another node."""
    interfaces: tuple[str, ...]
    """Where we answer."""
    missing_interfaces: bool
    """Ours, but none of the interfaces asked for exists here."""
    requests_received: int
    responses_sent: int
    gratuitous_sent: int
    claimed_by: str = ""
    """Hardware address of a host that is no speaker and used the address within the last two minutes."""
    answered_by: tuple[str, ...] = ()
    """Who answered for it when this node asked last: names of speakers, hardware addresses of others."""
    amiss: str = ""
    """`unanswered`, `answered_twice` or `answered_by_wrong_host` while this node finds it so on the wire."""


class Vips(_Message, frozen=True):
    """Snapshot: every VIP of the orders in force."""

    generation: int
    vips: tuple[VipState, ...]


class SealedVips(_Message, frozen=True, tag="vips"):
    """`Vips` whose entries are encoded already, each by `seal`."""

    generation: int
    vips: tuple[msgspec.Raw, ...]


REMOTE_ADMIN_DOWN: Final = "Neighbor Administratively Down"
"""Diagnostic of a session that the other end took down on purpose: its path is no worse for that."""


class BfdState(msgspec.Struct, frozen=True):
    address: str
    device: str
    multihop: bool
    state: str
    """AdminDown, Down, Init or Up."""
    diagnostic: str
    """Why it last left Up, in RFC 5880's words."""
    since: float
    """Unix time of the last change of state."""
    ups: int
    downs: int
    """How often it came up and went down: one snapshot may stand for several changes."""
    sent: int
    received: int


class Bfd(_Message, frozen=True):
    """Snapshot: every BFD session of the orders in force."""

    peers: tuple[BfdState, ...]


class Gossip(msgspec.Struct, frozen=True):
    """How gossip goes.  Counts are since it was opened."""

    watched: dict[str, bool]
    """By member this node watches, `MAX_WATCHED` at most: whether it accuses it of being unreachable."""
    alone: bool
    """It hears nobody: for all it knows it is cut off itself."""
    queued: int
    """Pieces of news still being spread."""
    probes: int
    """SWIM's rounds; the watchers' pings are not among them."""
    probes_failed: int
    late: int
    """How often this node was so late that it held itself for slow, not others."""
    packets: dict[str, int]
    """Datagrams by what became of them: received, dropped, sent, unsent."""


class Pulse(_Message, frozen=True):
    """Snapshot: how the reflex is, at most once a second."""

    uptime: float
    loop_late_max: float
    """Worst lateness of the loop since the last pulse, seconds."""
    loop_late_p99: float
    health: int
    """memberlist's local health score; 0 is healthy."""
    happenings_lost: int
    gossip: Gossip | None = None
    """None without gossip, and until it is open."""


class Happened(_Message, frozen=True):
    """One thing that happened, for logs, events and metrics."""

    at: float
    """Unix time."""
    what: str
    """`took_over`, `handed_over`, `withdrew`, `member_joined`, `member_left`, `member_unreachable`,
    `member_reachable`, `interface_added`, `interface_removed`, `conflict` (a host that may be
    no speaker uses the address), `contradicted` (another speaker announced it while it was ours),
    `unanswered`, `answered_twice`, `answered_by_wrong_host`, `answered_well` (what this node found when it
    asked the wire; told when it changes), `name_conflict`, ..."""
    subject: str
    """The address or the member's name it happened to."""
    why: str = ""
    mac: str = ""
    """Hardware address of the other host, of a `conflict` or of one that answered and should not."""


Down: TypeAlias = Orders | Seeds
Sealed: TypeAlias = SealedOrders | Seeds
Up: TypeAlias = Hello | Members | Vips | Bfd | Pulse | Happened
UpSealed: TypeAlias = Up | SealedVips

_encoder = msgspec.msgpack.Encoder()
_decoder: msgspec.msgpack.Decoder[Down | Up] = msgspec.msgpack.Decoder(Down | Up)
_sealed_decoder: msgspec.msgpack.Decoder[Sealed] = msgspec.msgpack.Decoder(SealedOrders | Seeds)
_vip_decoder: msgspec.msgpack.Decoder[Vip] = msgspec.msgpack.Decoder(Vip)
_BAD: Final = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)


def encode(message: Down | UpSealed) -> bytes:
    """A frame, length included.  Raises BadOrder when it would exceed `MAX_FRAME`."""
    body = _encoder.encode(message)
    if len(body) > MAX_FRAME:
        raise BadOrder(f"{len(body)} octets in one message, at most {MAX_FRAME} allowed")
    return _LENGTH.pack(len(body)) + body


def frame_length(header: bytes) -> int:
    """Octets of the body behind a header of `HEADER` octets.  Raises BadOrder."""
    if len(header) != HEADER:
        raise BadOrder(f"header of {len(header)} octets, need {HEADER}")
    (length,) = _LENGTH.unpack(header)
    if not 0 < length <= MAX_FRAME:
        raise BadOrder(f"frame of {length} octets, at most {MAX_FRAME} allowed")
    return int(length)


def decode(body: bytes) -> Down | Up:
    """The message in a frame's body.  Raises BadOrder, and nothing else, whatever the bytes."""
    try:
        return _decoder.decode(body)
    except _BAD as problem:
        raise BadOrder(str(problem)) from None


def decode_down(body: bytes | bytearray | memoryview) -> Sealed:
    """As `decode`, for what may come down, and without looking into the entries.  Raises BadOrder."""
    try:
        return _sealed_decoder.decode(body)
    except _BAD as problem:
        raise BadOrder(str(problem)) from None


def seal(state: VipState) -> msgspec.Raw:
    """One entry of `SealedVips`."""
    return msgspec.Raw(_encoder.encode(state))


def unseal(vip: msgspec.Raw) -> Vip:
    """One entry of `SealedOrders`.  Raises BadOrder."""
    try:
        return _vip_decoder.decode(vip)
    except _BAD as problem:
        raise BadOrder(f"vips: {problem}") from None
