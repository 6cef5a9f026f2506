from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from ipaddress import ip_address
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crier.ops import flags
from speaker.settings import BgpType, LogLevel, SettingsError, parse

MANIFEST: Mapping[str, str] = {
    "METALLB_NODE_NAME": "iris1",
    "METALLB_POD_NAME": "speaker-x",
    "METALLB_HOST": "10.0.0.1",
    "METALLB_ML_BIND_ADDR": "10.0.0.1",
    "METALLB_ML_LABELS": "app=metallb,component=speaker",
    "METALLB_ML_SECRET_KEY_PATH": "/etc/ml_secret_key",
    "METALLB_NAMESPACE": "metallb-system",
}


def test_metallbs_manifest_starts_us() -> None:
    found = parse(["--port=7472", "--log-level=info"], MANIFEST)
    assert (found.node_name, found.port, found.log_level) == ("iris1", 7472, LogLevel.INFO)
    assert (found.ml_bind_addr, found.ml_bind_port) == (ip_address("10.0.0.1"), 7946)
    assert found.ml_secret_key_path == Path("/etc/ml_secret_key")
    assert found.frrk8s_namespace == "metallb-system"
    assert found.membership
    assert found.bgp_type is BgpType.NATIVE
    assert (found.health_probe_port, found.bgp_debounce_ms) == (17472, 3000)
    assert found.realtime
    assert found.ml_watch
    assert found.planner_command == ()
    assert found.reflex_fd is None


def test_every_flag_of_metallb_is_taken() -> None:
    found = parse(
        [
            "-bgp-debounce-timeout=1", "-frrk8s-namespace=f", "-health-probe-port=1", "-host=h",
            "-ignore-exclude-lb", "-kubeconfig=/k", "-lb-class=c", "-log-level=all", "-metrics-cert-dir=/d",
            "-ml-bindaddr=::1", "-ml-bindport=1", "-ml-labels=a=b", "-ml-secret-key-path=/s",
            "-ml-wan-config",
            "-namespace=n", "-node-name=o", "-pod-name=p", "-port=2", "-pprof-bind-address=:1",
            "-tls-cipher-suites=", "-tls-curve-preferences=29", "-tls-min-version=VersionTLS12",
        ],
        {},
    )  # fmt: skip
    assert (found.kubeconfig, found.namespace, found.ml_wan_config) == ("/k", "n", True)


def test_a_flag_beats_the_variable() -> None:
    environ = {**MANIFEST, "METALLB_ML_BIND_PORT": "1"}
    assert parse(["--ml-bindport=7947", "-node-name", "other"], environ).ml_bind_port == 7947
    assert parse(["--ml-bindport=7947", "-node-name", "other"], environ).node_name == "other"
    assert parse([], environ).ml_bind_port == 1


@pytest.mark.parametrize("missing", ["METALLB_ML_BIND_ADDR", "METALLB_ML_LABELS"])
def test_gossip_needs_an_address_and_labels(missing: str) -> None:
    assert not parse([], {**MANIFEST, missing: ""}).membership


@pytest.mark.parametrize(
    ("argv", "value"),
    [
        (["--ml-wan-config"], True),
        (["-ml-wan-config"], True),
        (["--ml-wan-config=true"], True),
        (["--ml-wan-config=0"], False),
        ([], False),
    ],
)
def test_booleans_as_go_takes_them(argv: list[str], value: bool) -> None:
    assert parse(argv, MANIFEST).ml_wan_config is value


def test_a_command_for_tests_is_split_like_a_shell_does() -> None:
    environ = {**MANIFEST, "CRIER_PLANNER_COMMAND": "python3 -c 'import this'", "CRIER_REFLEX_FD": "7"}
    assert parse([], environ).planner_command == ("python3", "-c", "import this")
    assert parse([], environ).reflex_fd == 7


def test_tls_settings() -> None:
    argv = ["--tls-min-version=VersionTLS12", "--tls-cipher-suites=A, B", "--tls-curve-preferences=29,23"]
    found = parse(argv, MANIFEST)
    assert found.tls_cipher_suites == ("A", "B")
    assert found.tls_curve_preferences == (29, 23)


BAD = [
    ([], {"METALLB_NODE_NAME": ""}, "--node-name"),
    ([], {"METALLB_NODE_NAME": "Iris_1"}, "METALLB_NODE_NAME"),
    ([], {"METALLB_NODE_NAME": "a" * 254}, "METALLB_NODE_NAME"),
    ([], {"METALLB_POD_NAME": ""}, "--pod-name"),
    ([], {"METALLB_ML_BIND_ADDR": "::", "METALLB_HOST": "node"}, "METALLB_HOST"),
    ([], {"METALLB_NAMESPACE": ""}, "--namespace"),
    (["--port=0"], {}, "--port"),
    (["--port=65536"], {}, "--port"),
    (["--port", "1_0"], {}, "--port"),
    (["--port="], {}, "--port"),
    (["--health-probe-port=http"], {}, "--health-probe-port"),
    (["--ml-bindport=70000"], {}, "--ml-bindport"),
    ([], {"METALLB_ML_BIND_PORT": "-1"}, "METALLB_ML_BIND_PORT"),
    ([], {"METALLB_ML_BIND_ADDR": "10.0.0.256"}, "METALLB_ML_BIND_ADDR"),
    ([], {"METALLB_ML_BIND_ADDR": "0.0.0.0", "METALLB_HOST": ""}, "METALLB_HOST"),
    (["--log-level=loud"], {}, "--log-level"),
    (["--ml-wan-config=maybe"], {}, "--ml-wan-config"),
    ([], {"METALLB_BGP_TYPE": "bird"}, "METALLB_BGP_TYPE"),
    (["--tls-min-version=TLS1"], {}, "--tls-min-version"),
    (["--tls-cipher-suites=A"], {}, "--tls-cipher-suites"),
    (["--tls-curve-preferences=x"], {}, "--tls-curve-preferences"),
    ([], {"METALLB_BGP_DEBOUNCE_TIMEOUT": "0"}, "METALLB_BGP_DEBOUNCE_TIMEOUT"),
    ([], {"CRIER_REALTIME": "maybe"}, "CRIER_REALTIME"),
    (["--conflict-policy=fight"], {}, "--conflict-policy"),
    ([], {"CRIER_CONFLICT_POLICY": "fight"}, "CRIER_CONFLICT_POLICY"),
    (["--gratuitous-interval=-1"], {}, "--gratuitous-interval"),
    ([], {"CRIER_REFLEX_FD": "x"}, "CRIER_REFLEX_FD"),
    ([], {"CRIER_PLANNER_COMMAND": "'"}, "CRIER_PLANNER_COMMAND"),
    (["--no-such-flag"], {}, "--no-such-flag"),
    (["--por=1"], {}, "--por"),
    (["stray"], {}, "stray"),
]


@pytest.mark.parametrize(("argv", "environ", "named"), BAD, ids=[str(case[:2]) for case in BAD])
def test_bad_settings_are_one_line_that_names_them(
    argv: list[str], environ: dict[str, str], named: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(flags.namespace, "__defaults__", (tmp_path / "absent",))
    with pytest.raises(SettingsError) as caught:
        parse(argv, {**MANIFEST, **environ})
    text = str(caught.value)
    assert named in text
    assert "\n" not in text


def test_the_namespace_of_the_service_account(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    file = tmp_path / "namespace"
    file.write_text("from-file\n")
    monkeypatch.setattr(flags.namespace, "__defaults__", (file,))
    assert parse([], {**MANIFEST, "METALLB_NAMESPACE": ""}).namespace == "from-file"
    assert parse([], MANIFEST).namespace == "metallb-system"


@given(
    st.lists(st.text(max_size=8).map(lambda text: f"--port={text}"), max_size=2),
    st.dictionaries(st.sampled_from(sorted(MANIFEST)), st.text(max_size=20)),
)
def test_any_text_is_settings_or_one_error(argv: list[str], environ: dict[str, str]) -> None:
    with suppress(SettingsError):
        assert parse(argv, {**MANIFEST, **environ}).node_name


@given(st.text())
def test_the_error_is_one_line_whatever_was_typed(text: str) -> None:
    with pytest.raises(SettingsError) as caught:
        parse([f"stray{text}"], MANIFEST)
    assert len(str(caught.value).splitlines()) == 1


def test_the_program_says_so_and_ends_with_status_2() -> None:
    code = "from speaker.settings import parse_or_exit; parse_or_exit()"
    environ = {
        name: value for name, value in os.environ.items() if not name.startswith(("METALLB_", "CRIER_"))
    }
    ended = subprocess.run(
        [sys.executable, "-c", code, "--port=99999"],
        env={**environ, **MANIFEST},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert ended.returncode == 2
    assert ended.stdout == ""
    assert ended.stderr == "crier-speaker: --port: 99999 is not in 1..65535\n"
