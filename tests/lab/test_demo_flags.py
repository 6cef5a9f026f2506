"""Bad input gets one clear message and status 2; nothing is started for it."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from crier.cli import demo, main
from crier.lab import lan, router
from crier.lab.errors import NotPossible


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--nodes", "1"], "argument --nodes: 1 is not between 2 and 10"),
        (["--nodes", "eleven"], "argument --nodes: 'eleven' is not a whole number"),
        (["--gossip-port", "70000"], "argument --gossip-port: 70000 is not between 1 and 65535"),
        (["--scenario", "nap"], "argument --scenario: 'nap' is none of all, stop, kill"),
        (["--services", "web,web"], "argument --services: 'web' is named twice"),
        (["--runs", "0"], "argument --runs: 0 is not between 1 and 100"),
        (["--seed", "-1"], "argument --seed: -1 is not between 0 and"),
        (["--api", "real"], "argument --api: invalid choice: 'real'"),
        (["--data-path", "kube-proxy"], "--data-path: kube-proxy needs --api kube"),
        (["--bgp", "quagga"], "argument --bgp: invalid choice: 'quagga'"),
        (["--node", "3"], "unrecognized arguments: --node 3"),
        (["please"], "unrecognized arguments: please"),
    ],
)
def test_a_flag_that_makes_no_sense(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        demo.main(arguments)
    assert ended.value.code == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith(f"crier demo: {message}")
    assert captured.err.count("\n") == 1


def test_a_report_directory_that_cannot_be(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("in the way", encoding="utf-8")
    assert demo.main(["--report-dir", str(tmp_path / "file")]) == 2
    assert capsys.readouterr().err.startswith(f"crier demo: --report-dir: {tmp_path / 'file'}: ")


def test_a_run_that_is_not_there(capsys: pytest.CaptureFixture[str]) -> None:
    assert demo.main(["--remove", "abcdef"]) == 2
    assert "there is no run abcdef" in capsys.readouterr().err


def test_not_root(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    assert demo.main([]) == 2
    assert capsys.readouterr().err == "crier demo: network namespaces need root: run this as root\n"


def test_a_missing_tool_is_named_with_its_package(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert demo.main([]) == 2
    assert capsys.readouterr().err == "crier demo: ip is not installed (Debian package iproute2)\n"


def test_a_missing_router_is_named_with_its_packages(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    lacks = replace(router.KINDS["frr"], programs=("no-such-daemon",))
    monkeypatch.setitem(router.KINDS, "frr", lacks)
    assert demo.main(["--bgp"]) == 2
    told = "crier demo: no-such-daemon is not installed (Debian packages frr and bird2)\n"
    assert capsys.readouterr().err == told


def test_no_namespaces_to_be_had(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for tool in ("ip", "nft", "nsenter", "setpriv"):
        (tmp_path / tool).symlink_to("/bin/true")
    refuses = tmp_path / "unshare"
    refuses.write_text(
        "#!/bin/sh\necho 'unshare failed: Operation not permitted' >&2\nexit 1\n", encoding="utf-8"
    )
    refuses.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(NotPossible, match=r"no network namespaces: .*Operation not permitted"):
        lan.check_machine()


def test_the_command_line_knows_its_verbs(capsys: pytest.CaptureFixture[str]) -> None:
    assert "demo" in main.verbs()
    assert main.main(["frobnicate"]) == 2
    assert "no such verb: frobnicate" in capsys.readouterr().err
    assert main.main([]) == 2
    assert main.main(["--help"]) == 0
    assert "failover demo" in capsys.readouterr().out


def test_the_installed_program_starts() -> None:
    program = Path(sys.executable).parent / "crier"
    done = subprocess.run([program, "--version"], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip()[0].isdigit()
