"""Whether another speaker's gossip port answers us, over TCP and over UDP.

The UDP question is memberlist's own ping, sent from a port of ours beside the gossip: any member of the
cluster answers it, MetalLB's speakers as well, and it changes nobody's opinion of anybody.
"""

from __future__ import annotations

import os
import random
from ipaddress import ip_address
from typing import Final

import trio

from speaker.orders import MemberView
from speaker.settings import Settings

PATIENCE: Final = 1.2
"""Seconds for one attempt."""
ATTEMPTS: Final = 3
"""Of a datagram; two may be lost.  All of them together have to fit into one HTTP request."""
MAX_SECRET: Final = 65536
MAX_DATAGRAM: Final = 65536


async def hail_tcp(member: MemberView) -> str:
    """ "" when the port accepts a connection, else why not."""
    try:
        with trio.fail_after(PATIENCE):
            await (await trio.open_tcp_stream(member.address, member.port)).aclose()
    except trio.TooSlowError:
        return f"no answer within {PATIENCE:g} s"
    except OSError as problem:
        return _reason(problem)
    return ""


async def hail_udp(member: MemberView, settings: Settings) -> str:
    """ "" when a ping is answered, else why not."""
    # not at the top: a planner that nobody asks should not carry the gossip's code
    from memberlist import codec
    from memberlist.errors import MemberlistError
    from memberlist.keyring import NONCE_SIZE, Keyring
    from memberlist.messages import Ack, Ping
    from memberlist.packet import Wire

    try:
        keyring = Keyring.metallb(_secret(settings)) if settings.ml_secret_key_path else None
        wire = Wire(keyring)
        family = trio.socket.AF_INET6 if ip_address(member.address).version == 6 else trio.socket.AF_INET
    except (OSError, ValueError, MemberlistError) as problem:
        return str(problem)
    number = random.getrandbits(31)
    ping = codec.encode(Ping(number, member.name))
    with trio.socket.socket(family, trio.socket.SOCK_DGRAM) as sock:
        for _ in range(ATTEMPTS):
            try:
                datagram = wire.seal([ping], crc=False, nonce=os.urandom(NONCE_SIZE))
                await sock.sendto(datagram, (member.address, member.port))
                with trio.move_on_after(PATIENCE):
                    while True:
                        answer, _ = await sock.recvfrom(MAX_DATAGRAM)
                        try:
                            messages = wire.open(answer)
                        except MemberlistError:
                            continue  # not from one with our key
                        if any(isinstance(each, Ack) and each.seq_no == number for each in messages):
                            return ""
            except OSError as problem:
                return _reason(problem)
    return f"no answer within {ATTEMPTS * PATIENCE:.1f} s"


def _secret(settings: Settings) -> bytes:
    assert settings.ml_secret_key_path is not None
    with (settings.ml_secret_key_path / "secretkey").open("rb") as file:
        return file.read(MAX_SECRET)


def _reason(problem: OSError) -> str:
    cause = problem.__cause__
    if isinstance(cause, BaseExceptionGroup) and cause.exceptions:
        problem = next((each for each in cause.exceptions if isinstance(each, OSError)), problem)
    elif isinstance(cause, OSError):
        problem = cause
    return problem.strerror or str(problem)
