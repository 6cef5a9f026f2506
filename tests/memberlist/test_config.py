import dataclasses
import ipaddress
from typing import Any

import pytest

from memberlist import Config, ConfigError

WRONG: list[tuple[str, Any]] = [
    ("name", ""),
    ("name", "x" * 256),
    ("bind", ("nowhere", 1)),
    ("bind", ("10.0.0.1", 65536)),
    ("bind", "10.0.0.1:7946"),
    ("advertise", ("10.0.0.300", 1)),
    ("label", "x" * 256),
    ("label", b"blue"),
    ("compress", 1),
    ("verify_incoming", None),
    ("verify_outgoing", "yes"),
    ("skip_inbound_label_check", 0),
    ("protocol_version", 0),
    ("protocol_version", 6),
    ("delegate_version", (0, 0)),
    ("delegate_version", (2, 5, 1)),
    ("delegate_version", (0, 256, 0)),
    ("udp_buffer_size", 100),
    ("probe_interval", -1.0),
    ("probe_interval", float("nan")),
    ("probe_timeout", 0.0),
    ("probe_timeout", 1.5),
    ("indirect_checks", -1),
    ("tcp_pings", 1),
    ("suspicion_mult", 0),
    ("suspicion_max_timeout_mult", 0),
    ("awareness_max", 0),
    ("gossip_interval", float("inf")),
    ("gossip_nodes", -1),
    ("gossip_to_the_dead_time", -1),
    ("retransmit_mult", 0),
    ("push_pull_interval", "30s"),
    ("tcp_timeout", 0),
    ("dead_node_reclaim_time", -0.1),
    ("require_node_names", 1),
    ("cidrs_allowed", ("10.0.0.0/8",)),
    ("watch", 1),
    ("observe", 0),
    ("watchers", 0),
    ("watch_interval", 0.001),
]


@pytest.mark.parametrize(("field", "value"), WRONG, ids=lambda value: str(value)[:20])
def test_a_wrong_setting_is_named(field: str, value: object) -> None:
    with pytest.raises(ConfigError, match=f"^{field}: "):
        Config.lan(**{field: value})


def test_every_setting_is_checked() -> None:
    fields = {field.name for field in dataclasses.fields(Config)}
    assert fields - {field for field, _ in WRONG} == {"keyring"}  # a Keyring checks itself


def test_an_unknown_setting_is_named() -> None:
    with pytest.raises(ConfigError, match=r"^probe_intervall: there is no such setting$"):
        Config.lan(probe_intervall=1)


def test_the_profiles_are_upstreams() -> None:
    names = [
        "tcp_timeout",
        "indirect_checks",
        "retransmit_mult",
        "suspicion_mult",
        "suspicion_max_timeout_mult",
        "push_pull_interval",
        "probe_interval",
        "probe_timeout",
        "awareness_max",
        "gossip_nodes",
        "gossip_interval",
        "gossip_to_the_dead_time",
    ]

    def values(config: Config) -> list[object]:
        return [getattr(config, name) for name in names]

    assert values(Config.lan()) == [10, 3, 4, 4, 6, 30, 1, 0.5, 8, 3, 0.2, 30]
    assert values(Config.wan()) == [30, 3, 4, 6, 6, 60, 5, 3, 8, 4, 0.5, 60]
    assert values(Config.local()) == [1, 1, 2, 3, 6, 15, 1, 0.2, 8, 3, 0.1, 15]
    lan = Config.lan()
    assert (lan.protocol_version, lan.udp_buffer_size, lan.bind) == (2, 1400, ("0.0.0.0", 7946))
    assert lan.vsn == bytes((1, 5, 2, 0, 0, 0))


def test_good_settings_stand() -> None:
    config = Config.wan(
        name="a",
        cidrs_allowed=(ipaddress.ip_network("10.0.0.0/8"),),
        delegate_version=(2, 5, 4),
        bind=("::", 0),
    )
    assert config.vsn == bytes((1, 5, 2, 2, 5, 4))
    assert Config.lan(probe_interval=0).probe_timeout == 0.5
