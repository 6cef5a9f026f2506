"""Gossip membership: SWIM with Lifeguard, on hashicorp/memberlist's wire, with watchers for fast detection.

config = Config.lan(name="a", bind=("10.0.0.1", 7946), watch=True)
async with open_member(config) as member:
    await member.join(["10.0.0.2"])
    async for event in member.events():
        print(event, member.members())
"""

from .config import Address, Config
from .delegate import Delegate
from .driver import Events, Member, open_member
from .errors import ConfigError, DecodeError, JoinError, MemberlistError, Timeout
from .events import (
    Conflict,
    Died,
    Event,
    Joined,
    Lagged,
    Left,
    Node,
    Reachable,
    Refuted,
    Suspected,
    Unreachable,
    Updated,
    UserMessage,
)
from .keyfile import load as load_keys
from .keyring import Keyring, metallb_key
from .messages import State
from .statistics import Statistics

__all__ = [
    "Address",
    "Config",
    "ConfigError",
    "Conflict",
    "DecodeError",
    "Delegate",
    "Died",
    "Event",
    "Events",
    "JoinError",
    "Joined",
    "Keyring",
    "Lagged",
    "Left",
    "Member",
    "MemberlistError",
    "Node",
    "Reachable",
    "Refuted",
    "State",
    "Statistics",
    "Suspected",
    "Timeout",
    "Unreachable",
    "Updated",
    "UserMessage",
    "load_keys",
    "metallb_key",
    "open_member",
]
