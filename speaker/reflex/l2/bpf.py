"""Classic BPF programs for our packet sockets: what is not ours never leaves the kernel (bpf in socket(7)).

Offsets are octets from the start of the Ethernet frame, or the kernel's ancillary data about the packet.
"""

from __future__ import annotations

import ctypes
import heapq
import itertools
import socket
import struct
from collections.abc import Iterable, Sequence
from typing import Final, TypeAlias

_LOAD_BYTE, _LOAD_HALF, _LOAD_WORD, _RETURN = 0x30, 0x28, 0x20, 0x06
_EQUAL, _GREATER, _NOT_LESS = 0x15, 0x25, 0x35
_INSTRUCTION: Final = struct.Struct("=HBBI")

_ANCILLARY: Final = 0xFFFFF000  # SKF_AD_OFF
_PACKET_TYPE: Final = _ANCILLARY + 4
_INTERFACE: Final = _ANCILLARY + 8

_PACKET_OTHERHOST, _PACKET_OUTGOING = 3, 4
_SO_ATTACH_FILTER: Final = 26
_WHOLE: Final = 0x40000

BLOCK: Final = 8
"""Addresses of a block begin at a multiple of this."""
MAX_RANGES: Final = 32
"""In one program, whose jumps reach 255 instructions."""

Ranges: TypeAlias = tuple[tuple[int, int], ...]
"""First and last, ascending and apart, of the numbers that an address may end in (its last 32 bits)."""


def block(address: bytes) -> int:
    """The number of the block that an address is in, by its last 32 bits."""
    return int.from_bytes(address[-4:], "big") // BLOCK


def ranges(blocks: Iterable[int]) -> Ranges:
    """What covers these blocks: at most `MAX_RANGES`, so the smallest gaps may be closed."""
    ordered = sorted(blocks)
    gaps = ((b - a, a, b) for a, b in itertools.pairwise(ordered) if b - a > 1)
    kept = sorted((a, b) for _, a, b in heapq.nlargest(MAX_RANGES - 1, gaps))
    firsts = [*ordered[:1], *(after for _, after in kept)]
    lasts = [*(before for before, _ in kept), *ordered[-1:]]
    return tuple((a * BLOCK, z * BLOCK + BLOCK - 1) for a, z in zip(firsts, lasts, strict=True))


def arp(interface: int, addresses: Ranges) -> bytes:
    """Requests and replies to us, to all or to a group, that ask for one of these addresses or claim it."""
    return _program(interface, [(_LOAD_HALF, 20, (1, 2))], [38, 28], addresses)


def neighbour_discovery(interface: int, addresses: Ranges) -> bytes:
    """Neighbour solicitations and advertisements for these, right behind the IPv6 header."""
    return _program(interface, [(_LOAD_BYTE, 20, (58,)), (_LOAD_BYTE, 54, (135, 136))], [74], addresses)


def _program(
    interface: int,
    tests: Sequence[tuple[int, int, tuple[int, ...]]],
    words: Sequence[int],
    addresses: Ranges,
) -> bytes:
    """All of the tests must hold, that a loaded value is one of some, and one of the words be in range.

    And two more: the packet came on this very interface, for a VLAN's or macvlan's frames are shown to
    sockets on their parent as well; and it is not for another station, which is also what the kernel calls a
    frame of a VLAN that has no interface here.
    """
    # (code, operand, jump if true, jump if false): a jump is None for the next instruction, else a label
    code: list[tuple[int, int, str | None, str | None]] = [
        (_LOAD_WORD, _INTERFACE, None, None),
        (_EQUAL, interface, None, "drop"),
        (_LOAD_WORD, _PACKET_TYPE, None, None),
        (_EQUAL, _PACKET_OTHERHOST, "drop", None),
        (_EQUAL, _PACKET_OUTGOING, "drop", None),
    ]
    labels: dict[str, int] = {}
    for number, (load, offset, values) in enumerate(tests):
        code.append((load, offset, None, None))
        matched = f"matched {number}"
        code += [(_EQUAL, value, matched, None) for value in values[:-1]]
        code.append((_EQUAL, values[-1], matched, "drop"))
        labels[matched] = len(code)
    for offset in words:
        over = f"word {offset} is in no range"
        code.append((_LOAD_WORD, offset, None, None))
        for first, last in addresses:
            code.append((_NOT_LESS, first, None, over))
            next_range = f"word {offset} is beyond {last}"
            code.append((_GREATER, last, next_range, "take"))
            labels[next_range] = len(code)
        labels[over] = len(code)
    labels["drop"] = len(code)
    code.append((_RETURN, 0, None, None))
    labels["take"] = len(code)
    code.append((_RETURN, _WHOLE, None, None))

    def jump(at: int, label: str | None) -> int:
        return 0 if label is None else labels[label] - at - 1

    return b"".join(
        _INSTRUCTION.pack(op, jump(at, yes), jump(at, no), operand)
        for at, (op, operand, yes, no) in enumerate(code)
    )


def attach(sock: socket.socket, program: bytes) -> None:
    """In the place of the one that was there.  Raises OSError."""
    buffer = ctypes.create_string_buffer(program, len(program))
    # struct sock_fprog: number of instructions, pointer to the first
    sock.setsockopt(
        socket.SOL_SOCKET,
        _SO_ATTACH_FILTER,
        struct.pack("@HP", len(program) // _INSTRUCTION.size, ctypes.addressof(buffer)),
    )
