from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crier.ops.flags import Flags, UsageError, add_common, namespace


def flags(**environ: str) -> Flags:
    found = Flags("prog", environ=environ)
    found.text("--name", env="NAME", required=True, help="a name")
    found.port("--port", env="PORT", default=80, help="a port")
    found.integer("--count", default=3, minimum=-5, maximum=10, help="a number")
    found.choice("--mode", ("on", "off"), default="on", help="a mode")
    found.switch("--fast", help="a switch")
    found.address("--bind", env="BIND", help="an address")
    return found


@pytest.mark.parametrize(
    "argv",
    [
        ["--name", "x", "--port", "7", "--fast"],
        ["--name=x", "--port=7", "--fast=true"],
        ["-name=x", "-port", "7", "-fast"],
        ["--fast=T", "--port=7", "--name=x"],
    ],
)
def test_flags_are_written_as_go_takes_them(argv: list[str]) -> None:
    assert flags().parse(argv) == {
        "name": "x",
        "port": 7,
        "count": 3,
        "mode": "on",
        "fast": True,
        "bind": "",
    }


def test_a_flag_wins_over_its_variable_which_wins_over_the_default() -> None:
    assert flags(NAME="v").parse([])["name"] == "v"
    assert flags(NAME="v").parse(["--name=f"])["name"] == "f"
    assert flags(NAME="v", PORT="").parse([])["port"] == 80
    assert flags(NAME="v", PORT="81").parse([])["port"] == 81


@pytest.mark.parametrize(
    ("argv", "environ", "message"),
    [
        ([], {}, "--name (or NAME): required, and not given"),
        (["--name="], {}, "--name (or NAME): required, and not given"),
        (["--name=x", "--port=70000"], {}, "--port: 70000 is not in 1..65535"),
        (["--name=x", "--port=0"], {}, "--port: 0 is not in 1..65535"),
        (["--name=x", "--port=x"], {}, "--port: 'x' is not a whole number"),
        (["--name=x", "--port=1_0"], {}, "--port: '1_0' is not a whole number"),
        (["--name=x", "--count=-6"], {}, "--count: -6 is not in -5..10"),
        (["--name=x"], {"PORT": "ssh"}, "PORT: 'ssh' is not a whole number"),
        (["--name=x", "--mode=fast"], {}, "--mode: 'fast' is not one of 'on', 'off'"),
        (["--name=x", "--fast=maybe"], {}, "--fast: 'maybe' is neither true nor false"),
        (["--name=x", "--bind=here"], {}, "--bind: 'here' is not an IP address"),
        (["--name=x", "--por=1"], {}, "--por: unknown flag"),
        (["--name=x", "--nonsense"], {}, "--nonsense: unknown flag"),
        (["--name=x", "more"], {}, "more: no such argument is taken"),
        (["--name"], {}, "--name: expected one argument"),
        (["--name", "x" * 5000], {}, "--name: longer than 4096 characters, or with a NUL in it"),
    ],
)
def test_bad_input_is_one_line_that_names_the_flag(
    argv: list[str], environ: dict[str, str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(UsageError) as caught:
        flags(**environ).parse(argv)
    assert str(caught.value) == message
    with pytest.raises(SystemExit) as left:
        flags(**environ).parse_or_exit(argv)
    assert left.value.code == 2
    assert capsys.readouterr().err == f"prog: {message}\n"


def test_help_names_flags_variables_and_defaults(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        flags().parse(["--help"])
    assert left.value.code == 0
    shown = capsys.readouterr().out
    for expected in ("--name", "variable NAME", "required", "default 80"):
        assert expected in shown


@given(
    st.lists(st.text(max_size=30), max_size=5), st.dictionaries(st.sampled_from(["PORT", "BIND"]), st.text())
)
def test_no_command_line_does_worse_than_a_usage_error(argv: list[str], environ: dict[str, str]) -> None:
    if any(text in ("-h", "--help") for text in argv):
        return
    with suppress(UsageError):
        assert 1 <= flags(NAME="n", **environ).parse(argv)["port"] <= 65535


def test_the_flags_both_programs_share_have_metallbs_names_and_defaults() -> None:
    found = Flags("prog", environ={"METALLB_POD_NAME": "p"})
    add_common(found)
    assert found.parse([]) == {
        "port": 9120,
        "plain_metrics_port": 0,
        "namespace": "",
        "kubeconfig": "",
        "log_level": "info",
        "health_probe_port": 17472,
        "lb_class": "",
        "pod_name": "p",
        "pprof_bind_address": "",
        "tls_min_version": "",
        "tls_cipher_suites": "",
        "tls_curve_preferences": "",
        "metrics_cert_dir": "",
    }


def test_the_namespace_is_the_one_given_or_the_service_accounts(tmp_path: Path) -> None:
    told = tmp_path / "namespace"
    told.write_text("metallb-system\n")
    assert namespace("given", told) == "given"
    assert namespace("", told) == "metallb-system"
    with pytest.raises(UsageError, match=r"--namespace \(or METALLB_NAMESPACE\)"):
        namespace("", tmp_path / "absent")
