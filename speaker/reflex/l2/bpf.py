"""Classic BPF programs for our packet sockets: what is not ours never leaves the kernel (bpf in socket(7)).

Offsets are octets from the start of the Ethernet frame, or the kernel's ancillary data about the packet.
"""

from __future__ import annotations

import ctypes
import socket
import struct
from typing import Final

_LOAD_BYTE, _LOAD_HALF, _LOAD_WORD, _EQUAL, _RETURN = 0x30, 0x28, 0x20, 0x15, 0x06
_INSTRUCTION: Final = struct.Struct("=HBBI")

_ANCILLARY: Final = 0xFFFFF000  # SKF_AD_OFF
_PACKET_TYPE: Final = _ANCILLARY + 4
_INTERFACE: Final = _ANCILLARY + 8

_PACKET_OTHERHOST, _PACKET_OUTGOING = 3, 4
_SO_ATTACH_FILTER: Final = 26
_WHOLE: Final = 0x40000


def arp(interface: int) -> bytes:
    """Requests and replies to us, to all or to a group."""
    return _program(interface, ((_LOAD_HALF, 20, (1, 2)),))


def neighbour_discovery(interface: int) -> bytes:
    """Neighbour solicitations and advertisements right behind the IPv6 header."""
    return _program(interface, ((_LOAD_BYTE, 20, (58,)), (_LOAD_BYTE, 54, (135, 136))))


def _program(interface: int, tests: tuple[tuple[int, int, tuple[int, ...]], ...]) -> bytes:
    """All of these must hold: a loaded value is one of some.

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
    code.append((_RETURN, _WHOLE, None, None))
    labels["drop"] = len(code)
    code.append((_RETURN, 0, None, None))

    def jump(at: int, label: str | None) -> int:
        return 0 if label is None else labels[label] - at - 1

    return b"".join(
        _INSTRUCTION.pack(op, jump(at, yes), jump(at, no), operand)
        for at, (op, operand, yes, no) in enumerate(code)
    )


def attach(sock: socket.socket, program: bytes) -> None:
    """Raises OSError."""
    buffer = ctypes.create_string_buffer(program, len(program))
    # struct sock_fprog: number of instructions, pointer to the first
    sock.setsockopt(
        socket.SOL_SOCKET,
        _SO_ATTACH_FILTER,
        struct.pack("@HP", len(program) // _INSTRUCTION.size, ctypes.addressof(buffer)),
    )
