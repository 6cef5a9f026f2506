"""Adj-RIB-Out of one peer: what is wanted, what was sent, and the fewest UPDATEs between the two.

Nothing is queued.  Changes only mark prefixes; messages are made when the socket can take them, from what is
wanted at that moment.  A peer that reads slowly therefore costs no memory and gets the newest state, not the
history.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import repeat
from typing import Final

from bgp_lite.attributes import GRACEFUL_SHUTDOWN, Dialect, Path, encode_next_hop, encode_path, encode_raw
from bgp_lite.messages import Capabilities, RouteRefresh, Update
from bgp_lite.prefix import UNICAST, Family, Prefix
from bgp_lite.wire import HEADER, MAX_MESSAGE, encode, frame_update, reach, unreach

REFRESH_BEGINS, REFRESH_ENDS = 1, 2
"""Subtypes of ROUTE-REFRESH around what is sent again (RFC 7313)."""

_AGAIN: Final = Path(next_hop=b"again")
"""Stands in `sent` for what is to be sent again; equals no path that can be wanted."""
# marker..type, withdrawn routes length, path attributes length
_EMPTY_UPDATE = HEADER + 4
# MP_UNREACH: flags, type, 2-octet length, AFI, SAFI; MP_REACH: the next hop's length and a reserved octet too
_UNREACH_HEAD, _REACH_HEAD = 7, 9


@dataclass(slots=True)
class Outlet:
    """How messages must look for the session at hand."""

    dialect: Dialect
    next_hops: Mapping[Family, bytes]
    """The session's own next hop per family; families without one are not announced."""
    families: frozenset[Family]
    """Negotiated."""
    max_message: int = MAX_MESSAGE


def session_next_hops(
    local: Mapping[Family, bytes], configured: Mapping[Family, bytes], theirs: Capabilities, *, six: bool
) -> dict[Family, bytes]:
    """Next hop per family of a session over IPv4 or IPv6 (`six`): what was configured, else our own address.

    IPv4 routes get the session's IPv6 address where the peer can have that (RFC 8950): the session shows that
    it is reached, which nothing shows of an IPv4 address on the same interface.  That one is for the others.
    """
    hops = dict(local)
    own = hops.get(Family.IPV6, b"")
    if own[:1] == b"\xfe" and len(own) == 16 and own[1] & 0xC0 == 0x80 and not theirs.link_local_next_hop:
        # A link-local address alone is only for peers that say so; all others take it in both places.
        hops[Family.IPV6] = own + own
    if six and theirs.extended_next_hop and Family.IPV6 in hops:
        hops[Family.IPV4] = hops[Family.IPV6]
    usable = {
        family: hop
        for family, hop in configured.items()
        if family is Family.IPV6 or len(hop) == 4 or theirs.extended_next_hop
    }
    return {**hops, **usable}


@dataclass(slots=True)
class AdjRibOut:
    wanted: dict[Prefix, Path] = field(default_factory=dict)
    sent: dict[Prefix, Path] = field(default_factory=dict)
    _changed: dict[Prefix, None] = field(default_factory=dict)
    _changes: int = 0
    """Counts them: who was interrupted knows whether anything happened meanwhile."""
    _end_of_rib_due: set[Family] = field(default_factory=set)
    _end_of_refresh_due: set[Family] = field(default_factory=set)

    def announce(self, prefix: Prefix, path: Path) -> None:
        self.wanted[prefix] = path
        self._mark(prefix)

    def withdraw(self, prefix: Prefix) -> None:
        if self.wanted.pop(prefix, None) is not None:
            self._mark(prefix)

    def replace(self, wanted: Mapping[Prefix, Path]) -> None:
        """Make this the whole wanted set."""
        old, sent, changed = self.wanted, self.sent, self._changed
        self._changes += 1
        if not old and not sent:
            self.wanted = dict(wanted)
            self._changed = dict.fromkeys(wanted)
            return
        if not wanted:
            old.clear()
            self._changed = dict.fromkeys(sent)
            return
        for prefix in [prefix for prefix in old if prefix not in wanted]:
            self.withdraw(prefix)
        for prefix, path in wanted.items():
            known = old.get(prefix)
            if known is path or known == path:
                continue
            # `announce`, spelled out: tables are large.
            old[prefix] = path
            told = sent.get(prefix)
            if told is path or told == path:
                changed.pop(prefix, None)
            else:
                changed[prefix] = None

    def session_up(self, families: Iterable[Family]) -> None:
        """A session begins: the peer knows nothing, waits for an end-of-RIB per family (RFC 4724 §4.1)."""
        self.sent.clear()
        self._changed = dict.fromkeys(self.wanted)
        self._end_of_rib_due = set(families)
        self._end_of_refresh_due.clear()

    def drain(self) -> None:
        """Ask the peer to prefer every other path to what we announce (RFC 8326), before it is withdrawn."""
        told: dict[Path, Path] = {}
        for prefix, path in list(self.wanted.items()):
            drained = told.get(path)
            if drained is None:
                drained = told[path] = replace(path.with_communities(GRACEFUL_SHUTDOWN), local_pref=0)
            self.announce(prefix, drained)

    def refresh(self, family: Family, *, enhanced: bool = False) -> None:
        """The peer asked for everything again (RFC 2918); `enhanced`: and to mark the end (RFC 7313)."""
        if enhanced:
            self._end_of_refresh_due.add(family)
        # The peer still has what it was told, so what is withdrawn from now on must be withdrawn from it.
        self.sent.update((prefix, _AGAIN) for prefix in self.sent if prefix.family is family)
        self._changed.update((prefix, None) for prefix in self.wanted if prefix.family is family)

    @property
    def pending(self) -> bool:
        return bool(self._changed or self._end_of_rib_due or self._end_of_refresh_due)

    def messages(self, outlet: Outlet) -> Iterator[bytes]:
        """UPDATEs that bring the peer up to date, withdrawals first, then end-of-RIB where it is due.

        Lazy: what is not taken is not marked as sent.  Changes made meanwhile are left for the next call.
        """
        changed, self._changed = self._changed, {}
        done: list[list[Prefix]] = []
        finished = False
        try:
            yield from self._withdrawals(changed, outlet, done)
            yield from self._announcements(changed, outlet, done)
            finished = True
        finally:
            if not finished:
                # Whatever was not taken stays due, in front of what changed since.
                for batch in done:
                    for prefix in batch:
                        changed.pop(prefix, None)
                self._changed = {**changed, **self._changed}
        for family in sorted(self._end_of_rib_due):
            self._end_of_rib_due.discard(family)
            if family in outlet.families:
                yield encode(Update(end_of_rib=family))
        for family in sorted(self._end_of_refresh_due):
            self._end_of_refresh_due.discard(family)
            yield encode(RouteRefresh(family, UNICAST, REFRESH_ENDS))

    def _mark(self, prefix: Prefix) -> None:
        self._changes += 1
        sent, wanted = self.sent.get(prefix), self.wanted.get(prefix)
        if sent is wanted or sent == wanted:
            self._changed.pop(prefix, None)  # there and back again before anybody was told
        else:
            self._changed[prefix] = None

    def _withdrawals(
        self, changed: dict[Prefix, None], outlet: Outlet, done: list[list[Prefix]]
    ) -> Iterator[bytes]:
        changes = self._changes
        all_gone = [prefix for prefix in changed if prefix not in self.wanted and prefix in self.sent]
        for family in sorted(outlet.families) if all_gone else ():
            gone = [prefix for prefix in all_gone if prefix.family is family]
            overhead = _EMPTY_UPDATE + (_UNREACH_HEAD if family is Family.IPV6 else 0)
            for batch in _packed(gone, outlet.max_message - overhead):
                due = batch
                if (
                    self._changes != changes
                ):  # what is wanted again since the start is marked nowhere any more
                    due = [prefix for prefix in batch if prefix not in self.wanted]
                done.append(batch)
                for prefix in due:
                    del self.sent[prefix]
                nlri = b"".join([nlri for _, nlri in due])
                if not nlri:
                    continue
                if family is Family.IPV4:
                    yield frame_update(struct.pack("!H", len(nlri)) + nlri + b"\0\0")
                else:
                    attributes = encode_raw(unreach(family, nlri))
                    yield frame_update(b"\0\0" + struct.pack("!H", len(attributes)) + attributes)

    def _announcements(
        self, changed: dict[Prefix, None], outlet: Outlet, done: list[list[Prefix]]
    ) -> Iterator[bytes]:
        changes = self._changes
        for (family, path), prefixes in self._grouped(changed).items():
            if family not in outlet.families or not (path.next_hop or family in outlet.next_hops):
                done.append(prefixes)  # never sent in this session, nothing to take back
                continue
            before, after = encode_path(path, outlet.dialect)
            next_hop = path.next_hop or outlet.next_hops[family]
            classic = family is Family.IPV4 and len(next_hop) == 4
            if classic:
                fixed = before + encode_next_hop(next_hop) + after
                room = outlet.max_message - _EMPTY_UPDATE - len(fixed)
            else:
                fixed = before + after
                room = outlet.max_message - _EMPTY_UPDATE - len(fixed) - _REACH_HEAD - len(next_hop)
            for batch in _packed(prefixes, room):
                due = batch
                if self._changes != changes:  # what was withdrawn since the start is marked nowhere any more
                    due = [each for each in batch if (now := self.wanted.get(each)) is path or now == path]
                done.append(batch)
                self.sent.update(zip(due, repeat(path), strict=False))
                nlri = b"".join([nlri for _, nlri in due])
                if not nlri:
                    continue
                if classic:
                    yield frame_update(b"\0\0" + struct.pack("!H", len(fixed)) + fixed + nlri)
                else:
                    # RFC 7606 §5.1: MP_REACH comes first, so that a receiver finds it whatever follows.
                    attributes = encode_raw(reach(family, next_hop, nlri)) + fixed
                    yield frame_update(b"\0\0" + struct.pack("!H", len(attributes)) + attributes)

    def _grouped(self, changed: dict[Prefix, None]) -> dict[tuple[Family, Path], list[Prefix]]:
        """What is to be announced, by what makes its messages differ."""
        # Most prefixes share one Path object, and neighbours most of all: its hash is asked for once.
        by_object: dict[tuple[Family, int], tuple[Path, list[Prefix]]] = {}
        last_family, last_path, last = None, None, list[Prefix]()
        wanted = self.wanted.get
        for prefix in changed:
            path = wanted(prefix)
            if path is None:
                continue  # never sent in this session, or it would have been withdrawn by now
            if path is not last_path or prefix[0] is not last_family:
                last_family, last_path = prefix[0], path
                last = by_object.setdefault((last_family, id(path)), (path, []))[1]
            last.append(prefix)
        groups: dict[tuple[Family, Path], list[Prefix]] = {}
        for (family, _), (path, prefixes) in by_object.items():
            if known := groups.get((family, path)):
                known.extend(prefixes)
            else:
                groups[family, path] = prefixes
        return groups


def _packed(prefixes: list[Prefix], room: int) -> Iterator[list[Prefix]]:
    """Batches of prefixes whose NLRI fit into `room` octets."""
    start = used = 0
    for index, (_, nlri) in enumerate(prefixes):
        used += len(nlri)
        if used > room:
            yield prefixes[start:index]
            start, used = index, len(nlri)
    if start < len(prefixes):
        yield prefixes[start:]
