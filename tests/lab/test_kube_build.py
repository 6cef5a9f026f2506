"""Where a real API server's programs come from.  The compiler here is a script: what is proved is ours."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from crier.lab.errors import LabError, NotPossible
from crier.lab.kube import build
from crier.lab.kube.build import BUILT, Programs, cache_directory, linker_flags, programs, render_go_mod

COMPILER = """#!/bin/sh
# `go build ... -o DIRECTORY/ PACKAGE...`, with go.mod in the working directory
[ "$1" = mod ] && {{ {fetch}; exit; }}
echo "$@" >>"$CALLS"
cp go.mod "$CALLS.mod"
{fail}
while [ "$1" != -o ]; do shift; done
out=$2; shift 2; mkdir -p "$out"
for package; do echo "$package" >"$out/${{package##*/}}"; chmod +x "$out/${{package##*/}}"; done
"""


def executable(path: Path, text: str = "#!/bin/sh\n") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)
    return path


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty machine: nothing on PATH but what a test puts into `bin`, and a cache of its own."""
    found = build._find

    def find(name: str) -> Path | None:
        program = found(name)
        return program if program is not None and program.is_relative_to(tmp_path) else None

    for tool in ("sh", "cp", "mkdir", "chmod", "nice", "env"):
        real = next(Path(p, tool) for p in ("/usr/bin", "/bin") if Path(p, tool).exists())
        (tmp_path / "bin").mkdir(exist_ok=True)
        (tmp_path / "bin" / tool).symlink_to(real)
    monkeypatch.setattr(build, "_find", find)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("CALLS", str(tmp_path / "calls"))
    monkeypatch.delenv("KUBEBUILDER_ASSETS", raising=False)
    monkeypatch.setattr(build, "GO_PLACES", ())
    return tmp_path


@pytest.fixture
def go(machine: Path) -> Callable[..., Path]:
    def put(fail: str = "", fetch: str = "true") -> Path:
        return executable(machine / "bin" / "go", COMPILER.format(fail=fail, fetch=fetch))

    return put


def test_a_staging_module_is_replaced_by_its_published_twin() -> None:
    text = render_go_mod("1.34.4")
    assert "require k8s.io/kubernetes v1.34.4\n" in text
    assert "\tk8s.io/apiserver => k8s.io/apiserver v0.34.4\n" in text
    assert text.count(" => ") == len(build.STAGING) == len(set(build.STAGING)) == 31
    assert "gitVersion=v1.34.4" in linker_flags("1.34.4")


def test_without_etcd_it_says_how_to_get_it(machine: Path) -> None:
    with pytest.raises(NotPossible, match="Debian package etcd-server"):
        programs(print)


def test_without_server_and_compiler_it_says_how_to_get_them(machine: Path) -> None:
    executable(machine / "bin" / "etcd")
    with pytest.raises(
        NotPossible, match=r"no kube-apiserver in KUBEBUILDER_ASSETS or on PATH.*https://go\.dev/dl"
    ):
        programs(print)


def test_what_the_test_tools_have_is_taken(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assets = machine / "assets"
    for name in ("etcd", "kube-apiserver", "kubectl"):
        executable(assets / name)
    executable(machine / "bin" / "etcd")
    monkeypatch.setenv("KUBEBUILDER_ASSETS", str(assets))
    assert programs(print) == Programs(assets / "etcd", assets / "kube-apiserver", assets / "kubectl", None)


def test_a_server_on_path_brings_its_neighbours(machine: Path) -> None:
    for name in ("etcd", *BUILT):
        executable(machine / "bin" / name)
    assert programs(print).proxy == machine / "bin" / "kube-proxy"


def test_a_server_without_kubectl_is_not_enough(machine: Path) -> None:
    executable(machine / "bin" / "etcd")
    executable(machine / "bin" / "kube-apiserver")
    with pytest.raises(NotPossible, match="no kubectl"):
        programs(print)


def test_it_is_built_once(machine: Path, go: Callable[..., Path]) -> None:
    executable(machine / "bin" / "etcd")
    go()
    said: list[str] = []
    first = programs(said.append)
    assert first.apiserver.parent == cache_directory()
    assert first.apiserver.read_text() == "k8s.io/kubernetes/cmd/kube-apiserver\n"
    assert len(said) == 2
    assert "once" in said[0]
    assert (machine / "calls.mod").read_text() == render_go_mod()
    assert programs(said.append) == first
    assert len(said) == 2
    assert len((machine / "calls").read_text().splitlines()) == 1
    assert {path.name for path in cache_directory().parent.iterdir()} == {
        cache_directory().name, cache_directory().with_suffix(".lock").name
    }  # fmt: skip


def test_a_build_that_fails_leaves_nothing_and_is_tried_again(machine: Path, go: Callable[..., Path]) -> None:
    executable(machine / "bin" / "etcd")
    go("echo no such module >&2; exit 1")
    with pytest.raises(LabError, match="no such module"):
        programs(print)
    assert not cache_directory().exists()
    go()
    assert programs(print).kubectl.exists()


def test_without_a_way_to_the_source_it_is_not_possible(machine: Path, go: Callable[..., Path]) -> None:
    executable(machine / "bin" / "etcd")
    go(fetch="echo dial tcp: no route to host >&2; false")
    with pytest.raises(NotPossible, match=r"cannot be fetched .*no route to host"):
        programs(print)


@pytest.mark.e2e
def test_what_was_built_is_the_version_it_says(kube_programs: Programs) -> None:
    done = subprocess.run([kube_programs.apiserver, "--version"], capture_output=True, text=True, timeout=60)
    assert done.stdout.startswith("Kubernetes v1.")
