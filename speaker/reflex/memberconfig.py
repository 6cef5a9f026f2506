"""How gossip is set up: profile, MetalLB's optional file of timings, key."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import msgspec

from memberlist import Config, ConfigError, Keyring
from speaker.settings import Settings, SettingsError

MAX_FILE: Final = 65536
"""Octets of the key or of the timings."""

KEY_FILE: Final = "secretkey"

_DURATIONS: Final[Mapping[str, str | None]] = {
    "TCPTimeout": "tcp_timeout",
    "PushPullInterval": "push_pull_interval",
    "ProbeTimeout": "probe_timeout",
    "ProbeInterval": "probe_interval",
    "GossipInterval": "gossip_interval",
    "GossipToTheDeadTime": "gossip_to_the_dead_time",
    "QueueCheckInterval": None,
}
"""MetalLB's name to ours; None has no meaning here."""

_NUMBERS: Final[Mapping[str, str | None]] = {
    "IndirectChecks": "indirect_checks",
    "RetransmitMult": "retransmit_mult",
    "SuspicionMult": "suspicion_mult",
    "SuspicionMaxTimeoutMult": "suspicion_max_timeout_mult",
    "AwarenessMaxMultiplier": "awareness_max",
    "GossipNodes": "gossip_nodes",
    "UDPBufferSize": "udp_buffer_size",
    "HandoffQueueDepth": None,
}
_SWITCHES: Final[Mapping[str, str]] = {
    "DisableTcpPings": "tcp_pings",
    "GossipVerifyIncoming": "verify_incoming",
    "GossipVerifyOutgoing": "verify_outgoing",
    "EnableCompression": "compress",
}

_UNITS: Final = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "μs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_DURATION_PART: Final = re.compile(r"([0-9]{1,15}(?:\.[0-9]{0,15})?|\.[0-9]{1,15})(ns|us|µs|μs|ms|s|m|h)")


def make(settings: Settings) -> Config:
    """The configuration of our member.  Raises SettingsError naming the setting or the file.

    Gossip must not be disabled.
    """
    assert settings.ml_bind_addr is not None
    ours: dict[str, Any] = {
        "name": settings.node_name,
        "bind": (str(settings.ml_bind_addr), settings.ml_bind_port),
        "keyring": _keyring(settings),
        "watch": settings.ml_watch,
    }
    if settings.ml_bind_addr.is_unspecified:
        ours["advertise"] = (settings.host, settings.ml_bind_port)
    timings = _timings(settings.ml_config_file)
    # the file wins over the flag, and replaces LAN's timings, not WAN's
    profile = Config.wan if settings.ml_wan_config and timings is None else Config.lan
    try:
        return profile(**{**(timings or {}), **ours})
    except ConfigError as problem:
        where = f"{settings.ml_config_file}: " if timings is not None else ""
        raise SettingsError(f"{where}{problem}") from None


def key_file(settings: Settings) -> Path | None:
    """Where the secret is; None when gossip is not to be encrypted."""
    return None if settings.ml_secret_key_path is None else settings.ml_secret_key_path / KEY_FILE


def _keyring(settings: Settings) -> Keyring | None:
    file = key_file(settings)
    if file is None:
        return None
    try:
        secret = read(file)
    except OSError as problem:
        raise SettingsError(f"--ml-secret-key-path: {file}: {problem.strerror}") from None
    return Keyring.metallb(secret)


def _timings(file: Path) -> dict[str, Any] | None:
    """What MetalLB's file says, in our words; None without a file."""
    try:
        text = read(file)
    except FileNotFoundError:
        return None
    except OSError as problem:
        raise SettingsError(f"{file}: {problem.strerror}") from None
    try:
        given = msgspec.json.decode(text, type=dict[str, str | int | bool])
    except msgspec.MsgspecError as problem:
        raise SettingsError(f"{file}: {problem}") from None
    unknown = sorted(given.keys() - _DURATIONS.keys() - _NUMBERS.keys() - _SWITCHES.keys())
    if unknown:
        raise SettingsError(f"{file}: {unknown[0]}: there is no such setting")
    found: dict[str, Any] = {}
    for key, field in _DURATIONS.items():
        value = given.get(key)
        if not isinstance(value, str):
            raise SettingsError(f'{file}: {key}: a duration such as "200ms" is required')
        seconds = _seconds(f"{file}: {key}", value)
        if field:
            found[field] = seconds
    # what is left out is zero and false, as in MetalLB
    for key, field in _NUMBERS.items():
        value = given.get(key, 0)
        if not isinstance(value, int) or isinstance(value, bool):
            raise SettingsError(f"{file}: {key}: {value!r} is not a whole number")
        if field:
            found[field] = value
    for key, field in _SWITCHES.items():
        value = given.get(key, False)
        if not isinstance(value, bool):
            raise SettingsError(f"{file}: {key}: {value!r} is neither true nor false")
        found[field] = value != key.startswith("Disable")
    return found


def _seconds(where: str, text: str) -> float:
    """A duration as Go writes it: `1.5s`, `1m30s`, `0`."""
    if text == "0":
        return 0.0
    parts = list(_DURATION_PART.finditer(text[:100]))
    if not parts or "".join(part.group() for part in parts) != text:
        raise SettingsError(f"{where}: {text!r} is not a duration")
    return sum(float(part[1]) * _UNITS[part[2]] for part in parts)


def read(file: Path) -> bytes:
    """At most `MAX_FILE` octets of it.  Raises OSError."""
    with file.open("rb") as opened:
        return opened.read(MAX_FILE)
