from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import pytest

from memberlist import Keyring
from speaker.reflex import memberconfig
from speaker.reflex.program import excluded
from speaker.settings import Settings, SettingsError, parse

DURATIONS = {
    "TCPTimeout": "10s",
    "PushPullInterval": "1m0s",
    "ProbeTimeout": "500ms",
    "ProbeInterval": "1.5s",
    "GossipInterval": "200ms",
    "GossipToTheDeadTime": "30s",
    "QueueCheckInterval": "30s",
}
NUMBERS = {
    "IndirectChecks": 2,
    "RetransmitMult": 5,
    "SuspicionMult": 6,
    "SuspicionMaxTimeoutMult": 7,
    "AwarenessMaxMultiplier": 9,
    "GossipNodes": 4,
    "UDPBufferSize": 1300,
    "HandoffQueueDepth": 1024,
    "DisableTcpPings": True,
    "GossipVerifyIncoming": True,
    "GossipVerifyOutgoing": True,
}


def told(directory: Path, *argv: str, **environ: str) -> Settings:
    return parse(
        argv,
        {
            "METALLB_NODE_NAME": "a",
            "METALLB_POD_NAME": "speaker-a",
            "METALLB_NAMESPACE": "metallb-system",
            "METALLB_ML_BIND_ADDR": "10.0.0.1",
            "METALLB_ML_LABELS": "app=metallb",
            "CRIER_ML_CONFIG_FILE": str(directory / "config.json"),
            **environ,
        },
    )


def test_without_ado_it_is_metallbs_lan_with_watchers(tmp_path: Path) -> None:
    config = memberconfig.make(told(tmp_path))
    assert (config.name, config.bind, config.watch) == ("a", ("10.0.0.1", 7946), True)
    assert (config.probe_interval, config.suspicion_mult, config.keyring) == (1.0, 4, None)
    assert memberconfig.make(told(tmp_path, "--ml-wan-config")).probe_interval == 5.0
    assert memberconfig.make(told(tmp_path, CRIER_ML_WATCH="false")).watch is False


def test_an_unspecified_bind_address_is_advertised_as_the_nodes(tmp_path: Path) -> None:
    environ = {"METALLB_ML_BIND_ADDR": "0.0.0.0", "METALLB_HOST": "10.0.0.7", "METALLB_ML_BIND_PORT": "7000"}
    config = memberconfig.make(told(tmp_path, **environ))
    assert (config.bind, config.advertise) == (("0.0.0.0", 7000), ("10.0.0.7", 7000))


def test_metallbs_key(tmp_path: Path) -> None:
    (tmp_path / "secretkey").write_bytes(b"K6Yl0q5mWb2s1l9RkQ3u7A")
    config = memberconfig.make(told(tmp_path, METALLB_ML_SECRET_KEY_PATH=str(tmp_path)))
    assert isinstance(config.keyring, Keyring)
    wanted = "4b36596c3071356d57623273316c39526b5133753741e3b0c44298fc1c149afb"
    assert config.keyring.keys == (bytes.fromhex(wanted),)


def test_a_key_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"--ml-secret-key-path: .*/secretkey: No such file"):
        memberconfig.make(told(tmp_path, METALLB_ML_SECRET_KEY_PATH=str(tmp_path)))


def test_metallbs_file_of_timings(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({**DURATIONS, **NUMBERS}))
    config = memberconfig.make(told(tmp_path, "--ml-wan-config"))
    assert (config.tcp_timeout, config.push_pull_interval, config.probe_interval) == (10.0, 60.0, 1.5)
    assert (config.probe_timeout, config.gossip_interval, config.gossip_to_the_dead_time) == (0.5, 0.2, 30.0)
    assert (config.indirect_checks, config.retransmit_mult, config.suspicion_mult) == (2, 5, 6)
    assert (config.suspicion_max_timeout_mult, config.awareness_max, config.gossip_nodes) == (7, 9, 4)
    assert (config.tcp_pings, config.verify_incoming, config.verify_outgoing) == (False, True, True)
    assert config.compress is False, "left out is false, as in MetalLB"
    assert (config.udp_buffer_size, config.name, config.watch) == (1300, "a", True)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"ProbeInterval": None}, 'ProbeInterval: a duration such as "200ms" is required'),
        ({"ProbeInterval": 5}, "ProbeInterval: a duration"),
        ({"ProbeInterval": "5"}, "ProbeInterval: '5' is not a duration"),
        ({"ProbeInterval": "5s later"}, "ProbeInterval: '5s later' is not a duration"),
        ({"GossipNodes": "3"}, "GossipNodes: '3' is not a whole number"),
        ({"GossipNodes": True}, "GossipNodes: True is not a whole number"),
        ({"DisableTcpPings": 1}, "DisableTcpPings: 1 is neither true nor false"),
        ({"GossipNodez": 3}, "GossipNodez: there is no such setting"),
        ({"SuspicionMult": 0}, "suspicion_mult"),
        ({"ProbeTimeout": "10s"}, "probe_timeout"),
    ],
)
def test_a_bad_file_is_one_error_that_names_it(
    tmp_path: Path, change: Mapping[str, object], why: str
) -> None:
    text = {key: value for key, value in {**DURATIONS, **NUMBERS, **change}.items() if value is not None}
    (tmp_path / "config.json").write_text(json.dumps(text))
    with pytest.raises(SettingsError) as caught:
        memberconfig.make(told(tmp_path))
    assert str(caught.value).startswith(f"{tmp_path}/config.json: ")
    assert why in str(caught.value)


@pytest.mark.parametrize("text", ["", "[]", "{", '{"ProbeInterval": null}', "\xff"])
def test_what_is_no_such_file_is_an_error(tmp_path: Path, text: str) -> None:
    (tmp_path / "config.json").write_text(text, encoding="latin-1")
    with pytest.raises(SettingsError, match=r"config\.json: "):
        memberconfig.make(told(tmp_path))


@pytest.mark.parametrize(
    ("text", "seconds"), [("0", 0.0), ("1h2m3.5s", 3723.5), ("300ms", 0.3), ("1.5µs", 1.5e-6), (".5s", 0.5)]
)
def test_gos_durations(text: str, seconds: float) -> None:
    assert memberconfig._seconds("", text) == pytest.approx(seconds)


# ------------------------------------------------------------------------------------ excluded interfaces


def test_metallbs_list_of_excluded_interfaces(tmp_path: Path) -> None:
    file = tmp_path / "excludel2.yaml"
    assert "veth0" not in excluded(file), "no file excludes nothing"
    file.write_text("announcedInterfacesToExclude:\n- ^docker.*\n- ^veth.*\n- ^lo$\n")
    found = excluded(file)
    assert "veth0" in found
    assert "eth0" not in found


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("announcedInterfacesToExclude: ^lo$", "a list of regular expressions is required"),
        ("announcedInterfacesToExclude: [1]", "a list of regular expressions is required"),
        ("other: []", "a list of regular expressions is required"),
        ("[", "excludel2.yaml: "),
        ('announcedInterfacesToExclude: ["("]', r"'(' is not a regular expression"),
    ],
)
def test_a_bad_list_is_one_line(tmp_path: Path, text: str, why: str) -> None:
    file = tmp_path / "excludel2.yaml"
    file.write_text(text)
    with pytest.raises(SettingsError) as caught:
        excluded(file)
    assert str(file) in str(caught.value)
    assert why in str(caught.value)
    assert "\n" not in str(caught.value)
