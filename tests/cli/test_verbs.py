"""The verbs as their users run them, on the embedded API and on a real one; no program of ours runs there."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import tarfile
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from crier.cli._common import Exit
from crier.cli.main import main
from crier.cli.support_bundle import cleaned, logs_of, scrubbed, write
from tests.cli.conftest import NODES, SECRETS, Stage
from tests.cli.pictures import pod

pytestmark = pytest.mark.e2e
CRIER = Path(sys.executable).parent / "crier"
LOOKING = ("status", "pools", "events", "why", "simulate", "drain", "undrain", "doctor", "support-bundle")
TIMEOUT = "30"
"""Seconds for each request: who does not answer on this stage refuses at once."""
ARGUMENTS = {"why": ["web"], "simulate": ["fail", "iris1"], "drain": ["iris1"], "undrain": ["iris1"]}


@dataclass(frozen=True, slots=True)
class Done:
    returncode: int
    stdout: str
    stderr: str


def crier(kubeconfig: Path | str, *arguments: str) -> Done:
    """As the program does it, in this process: starting Python anew for each would take most of the time."""
    out, err = io.StringIO(), io.StringIO()
    before = os.environ.get("KUBECONFIG")
    os.environ["KUBECONFIG"] = str(kubeconfig)
    try:
        with redirect_stdout(out), redirect_stderr(err):
            try:
                status = main(list(arguments))
            except SystemExit as end:
                status = int(end.code or 0)
    finally:
        if before is None:
            del os.environ["KUBECONFIG"]
        else:
            os.environ["KUBECONFIG"] = before
    return Done(status, out.getvalue(), err.getvalue())


def document(stage: Stage, *arguments: str, status: Exit) -> dict[str, Any]:
    done = crier(stage.kubeconfig, *arguments, "--json", "--timeout", TIMEOUT)
    assert done.returncode == status, done.stdout + done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    assert found["apiVersion"] == "crier.dev/v1"
    return found


def test_status_without_a_word_from_speakers(stage: Stage) -> None:
    found = document(stage, "status", status=Exit.WRONG)
    assert [node["name"] for node in found["nodes"]] == list(NODES)
    assert not any(node["heard"] for node in found["nodes"])
    assert [(vip["address"], vip["health"]) for vip in found["vips"]] == [("192.0.2.1", "unknown")]
    wrong = {problem["about"] for problem in found["problems"]}
    assert {"default/waits", *NODES} <= wrong
    assert found["moves"][0]["node"] == "iris1"
    text = crier(stage.kubeconfig, "status", "--timeout", TIMEOUT).stdout
    for word in ("iris1", "192.0.2.1", "default/waits", "has no address", "did not answer"):
        assert word in text


def test_a_namespace_without_us(stage: Stage) -> None:
    done = crier(stage.kubeconfig, "status", "-n", "default")
    assert "There is no sign of Crier in namespace default (-n says another)." in done.stdout
    assert document(stage, "pools", "-n", "default", status=Exit.OK)["pools"] == []


def test_why_names_what_is_missing(stage: Stage) -> None:
    found = document(stage, "why", "waits", status=Exit.WRONG)
    assert {link["step"]: link["state"] for link in found["links"]}["allocation"] == "fail"
    found = document(stage, "why", "default/web", status=Exit.PARTIAL)
    assert {link["step"]: link["state"] for link in found["links"]}["layer 2"] == "ok"
    assert sorted(place["node"] for place in found["nodes"]) == list(NODES)


def test_pools_and_events(stage: Stage) -> None:
    found = document(stage, "pools", "one", status=Exit.OK)
    assert found["addresses"] == [{"address": "192.0.2.1", "pool": "one", "services": ["default/web"]}]
    found = document(stage, "events", "web", status=Exit.OK)
    assert [event["reason"] for event in found["events"]] == ["nodeAssigned"]
    assert document(stage, "events", "--warnings", status=Exit.OK)["events"] == []


def test_simulate_asks_nobody_s_leave(stage: Stage) -> None:
    found = document(stage, "simulate", "drain", "iris1", status=Exit.OK)
    assert found["node"] == "iris1"
    assert [shift["service"] for shift in found["shifts"]] == ["default/web"]


def test_a_drain_that_could_not_be_verified_is_not_begun(stage: Stage) -> None:
    done = crier(stage.kubeconfig, "drain", "iris1", "--timeout", TIMEOUT)
    assert done.returncode == Exit.PARTIAL
    assert "no speaker could be asked" in done.stderr
    node = stage.rest.get("/api/v1/nodes/iris1") or {}
    assert "crier.dev/drain" not in node["metadata"].get("annotations", {})


def test_an_undrain_that_could_not_be_verified_is_not_begun(stage: Stage) -> None:
    crier(stage.kubeconfig, "drain", "iris1", "--force", "--timeout", TIMEOUT, "--move-timeout", "1")
    before = (stage.rest.get("/api/v1/nodes/iris1") or {})["metadata"]
    done = crier(stage.kubeconfig, "undrain", "iris1", "--timeout", TIMEOUT)
    assert done.returncode == Exit.PARTIAL
    assert "nothing was changed: the speaker on iris1 does not answer" in done.stderr
    assert (stage.rest.get("/api/v1/nodes/iris1") or {})["metadata"] == before
    done = crier(stage.kubeconfig, "undrain", "iris1", "--force", "--timeout", TIMEOUT)
    assert done.returncode == Exit.OK, done.stderr
    assert "not verified: the speaker on iris1 does not answer" in done.stdout
    after = (stage.rest.get("/api/v1/nodes/iris1") or {})["metadata"]
    assert "crier.dev/drain" not in after.get("annotations", {})
    assert "node.kubernetes.io/exclude-from-external-load-balancers" not in after.get("labels", {})


@pytest.mark.parametrize("verb", ["drain", "undrain"])
def test_what_cannot_be_asked_on_the_wire_is_known_before_anything_is_changed(
    stage: Stage, verb: str
) -> None:
    before = (stage.rest.get("/api/v1/nodes/iris1") or {})["metadata"]
    done = crier(stage.kubeconfig, verb, "iris1", "--force", "--wire", "nope", "--timeout", TIMEOUT)
    assert done.returncode == Exit.NOT_FOUND
    assert done.stderr == f"crier {verb}: --wire: there is no interface nope here\n"
    assert (stage.rest.get("/api/v1/nodes/iris1") or {})["metadata"] == before


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["why", "nope"], "there is no service nope; of type LoadBalancer are: default/waits, default/web"),
        (["simulate", "fail", "nope"], "there is no node nope; there are: iris1, iris2"),
        (["drain", "nope"], "there is no node nope"),
        (["undrain", "nope"], "there is no node nope"),
        (["pools", "nope"], "there is no IPAddressPool nope; there are: one"),
    ],
)
def test_wrong_names(stage: Stage, arguments: list[str], said: str) -> None:
    done = crier(stage.kubeconfig, *arguments, "--timeout", TIMEOUT)
    assert done.returncode == Exit.NOT_FOUND
    assert done.stdout == ""
    assert said in done.stderr
    assert done.stderr.count("\n") == 1


def test_the_doctor_says_what_is_wrong_and_what_to_do(stage: Stage) -> None:
    found = document(stage, "doctor", status=Exit.WRONG)
    by_name = {check["name"]: check for check in found["checks"]}
    assert by_name["permissions"]["state"] == "ok"
    assert by_name["services"]["state"] == "fail"
    assert by_name["services"]["advice"] == "crier why default/waits"
    assert by_name["nodes"]["state"] == "skipped"
    assert sum(found["counts"].values()) == len(found["checks"])


def test_the_doctor_finds_what_is_in_another_namespace(stage: Stage) -> None:
    assert of_name(stage, "namespace")["state"] == "ok"
    lost = "/apis/metallb.io/v1beta1/namespaces/default/ipaddresspools"
    head = {"apiVersion": "metallb.io/v1beta1", "kind": "IPAddressPool", "metadata": {"name": "lost"}}
    stage.rest.create(lost, {**head, "spec": {"addresses": ["203.0.113.0/24"]}})
    try:
        check = of_name(stage, "namespace")
    finally:
        stage.rest.delete(f"{lost}/lost")
    assert check["state"] == "warn"
    assert (
        check["text"]
        == "IPAddressPool default/lost is looked at by nobody: Crier is in namespace metallb-system"
    )
    assert check["advice"].startswith("create it in metallb-system instead")
    if stage.real:
        half = stage.as_account("half-a-doctor", role="crier-viewer")
        found = json.loads(crier(half, "doctor", "--json", "--timeout", TIMEOUT).stdout)["checks"]
        (check,) = [each for each in found if each["name"] == "namespace"]
        assert check["state"] == "skipped"


def of_name(stage: Stage, name: str) -> dict[str, Any]:
    """The doctor's one check of that name."""
    (check,) = [
        each for each in document(stage, "doctor", status=Exit.WRONG)["checks"] if each["name"] == name
    ]
    return dict(check)


def test_a_bundle_has_everything_but_secrets(stage: Stage, tmp_path: Path) -> None:
    file = tmp_path / "bundle.tar.gz"
    done = crier(stage.kubeconfig, "support-bundle", "--output", str(file), "--timeout", TIMEOUT)
    assert done.returncode == Exit.PARTIAL, done.stderr
    assert file.stat().st_mode & 0o077 == 0
    with tarfile.open(file) as bundle:
        contents = {
            member.name.partition("/")[2]: (bundle.extractfile(member) or io.BytesIO()).read()
            for member in bundle.getmembers()
        }
    assert {
        "status.json",
        "doctor.json",
        "events.json",
        "README.txt",
        "objects/bgppeers.json",
    } <= contents.keys()
    everything = b"\n".join(contents.values())
    for secret in SECRETS:
        assert secret.encode() not in everything, secret
    for part in SECRETS[2].split("."):
        assert part.encode() not in everything
    peer = json.loads(contents["objects/bgppeers.json"])[0]
    assert peer["spec"]["password"] == "(removed)"
    assert peer["spec"]["peerAddress"] == "192.0.2.9"
    assert b"could not be asked" in everything or b"Could not be had" in contents["README.txt"]


def test_roles(stage: Stage) -> None:
    """What manifests/base/access.yaml gives is enough, and no more than is said."""
    if not stage.real:
        assert crier(stage.kubeconfig, "doctor", "--timeout", TIMEOUT).returncode == Exit.WRONG
        return  # the embedded API lets everybody do everything
    viewer = stage.as_account("viewer", cluster_role="crier-viewer", role="crier-viewer")
    operator = stage.as_account("operator", cluster_role="crier-operator", role="crier-viewer")
    stranger = stage.as_account("stranger")
    half = stage.as_account("half", role="crier-viewer")
    for verb in ("status", "why", "simulate", "pools", "events"):
        done = crier(viewer, verb, *ARGUMENTS.get(verb, []), "--timeout", TIMEOUT)
        assert done.returncode in (Exit.OK, Exit.WRONG, Exit.PARTIAL), done.stderr
        assert "forbidden" not in done.stdout + done.stderr
    done = crier(viewer, "drain", "iris1", "--force", "--timeout", TIMEOUT, "--move-timeout", "1")
    assert done.returncode == Exit.FORBIDDEN
    assert 'cannot patch resource "nodes"' in done.stderr
    rights = json.loads(crier(viewer, "doctor", "--json", "--timeout", TIMEOUT).stdout)["checks"]
    refused = [check["text"] for check in rights if check["name"] == "permissions"]
    assert refused == ["you may not patch nodes, which is needed by drain, undrain"]

    done = crier(operator, "drain", "iris1", "--force", "--timeout", TIMEOUT, "--move-timeout", "1")
    assert done.returncode == Exit.OK, done.stderr
    node = (stage.rest.get("/api/v1/nodes/iris1") or {})["metadata"]
    assert node["annotations"]["crier.dev/drain"] == "*"
    assert node["labels"]["node.kubernetes.io/exclude-from-external-load-balancers"] == "crier-drain"
    done = crier(operator, "undrain", "iris1", "--force", "--timeout", TIMEOUT, "--move-timeout", "1")
    assert done.returncode == Exit.OK, done.stderr

    for verb in LOOKING:
        if verb in ("doctor", "support-bundle"):
            continue
        done = crier(stranger, verb, *ARGUMENTS.get(verb, []), "--timeout", TIMEOUT)
        assert done.returncode == Exit.FORBIDDEN, (verb, done.stdout, done.stderr)
        assert "forbidden" in done.stderr
    done = crier(half, "status", "--timeout", TIMEOUT)
    assert done.returncode in (Exit.PARTIAL, Exit.WRONG)
    assert "could not be read" in done.stdout


@pytest.mark.parametrize("verb", LOOKING)
def test_no_cluster(verb: str, tmp_path: Path) -> None:
    nowhere = tmp_path / "kubeconfig"
    cluster = {"server": "http://127.0.0.1:1"}
    nowhere.write_text(
        json.dumps(
            {
                "apiVersion": "v1", "kind": "Config", "current-context": "x",
                "clusters": [{"name": "x", "cluster": cluster}], "users": [{"name": "x", "user": {}}],
                "contexts": [{"name": "x", "context": {"cluster": "x", "user": "x"}}],
            }
        )
    )  # fmt: skip
    done = crier(nowhere, verb, *ARGUMENTS.get(verb, []))
    assert done.returncode == Exit.NO_CLUSTER, done.stderr
    assert "does not answer" in done.stderr
    assert done.stdout == ""


def test_no_configuration(tmp_path: Path) -> None:
    for arguments in (["status"], ["status", "--context", "x"], ["status", "--kubeconfig", "/nonexistent"]):
        done = crier(tmp_path / "nothing", *arguments)
        assert done.returncode == Exit.NO_CLUSTER
        assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    "arguments",
    [
        ["status", "--nope"],
        ["simulate"],
        ["simulate", "explode", "x"],
        ["why"],
        ["drain", "x", "--timeout", "0"],
    ],
)
def test_wrong_usage_is_one_line(arguments: list[str], tmp_path: Path) -> None:
    done = crier(tmp_path, *arguments)
    assert done.returncode == Exit.USAGE
    assert done.stderr.count("\n") == 1


def test_kubectl_finds_it(stage: Stage) -> None:
    environment = {
        "PATH": f"{CRIER.parent}:{os.environ['PATH']}", "HOME": "/nonexistent",
        "KUBECONFIG": str(stage.kubeconfig),
    }  # fmt: skip
    done = subprocess.run(
        ["kubectl", "crier", "pools"],
        capture_output=True,
        text=True,
        timeout=60,
        env=environment,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "192.0.2.0/30" in done.stdout


# ---------------------------------------------------------------------------------------- what is removed


@pytest.mark.parametrize(
    "text",
    [
        "http://somebody:abcdefghijkl@proxy:3128",
        "Authorization: Bearer abcdefghijkl", "token=abcdefghijkl", '"password": "abcdefghijkl"',
        "-----BEGIN EC PRIVATE KEY-----\nabcdefghijkl\n-----END EC PRIVATE KEY-----",
    ],
)  # fmt: skip
def test_what_looks_like_a_secret_in_a_text_goes(text: str) -> None:
    assert "abcdefghijkl" not in scrubbed(f"before {text} after")
    assert "after" in scrubbed(f"before {text} after")


@pytest.mark.parametrize(
    ("containers", "restarts", "files"),
    [
        ((), 0, ["x.log"]),
        (("speaker",), 0, ["x.log"]),
        (("speaker",), 1, ["x.log", "x.previous.log"]),
        (("speaker", "frr"), 0, ["x.speaker.log", "x.frr.log"]),
        (
            ("speaker", "frr"),
            2,
            ["x.speaker.log", "x.speaker.previous.log", "x.frr.log", "x.frr.previous.log"],
        ),
    ],
)
def test_every_container_s_log_is_asked_for_by_name(
    containers: tuple[str, ...], restarts: int, files: list[str]
) -> None:
    found = logs_of(replace(pod("iris1"), name="x", containers=containers, restarts=restarts))
    assert [log.file for log in found] == [f"logs/{name}" for name in files]
    for log in found:
        named = [part.partition("=")[2] for part in log.query.split("&") if part.startswith("container=")]
        assert named == [name for name in containers if log.file.count(f".{name}.") or len(containers) == 1]
        assert log.query.endswith("&previous=true") is ("previous" in log.file)
        assert log.certain is ("previous" not in log.file)


def test_a_bundle_over_a_file_that_others_may_read_is_the_owner_s_alone(tmp_path: Path) -> None:
    target = tmp_path / "bundle"
    target.touch(mode=0o644)
    write(target, "x", {"README.txt": b"hello"}, 0.0)
    assert target.stat().st_mode & 0o777 == 0o600


def test_names_of_secrets_stay_and_their_content_goes() -> None:
    thing = {
        "spec": {
            "passwordSecret": {"name": "router"}, "password": "p",
            "volumes": [{"secret": {"secretName": "memberlist"}}],
            "env": [{"name": "API_TOKEN", "value": "t"}, {"name": "PORT", "value": "1"}],
        },
        "metadata": {
            "annotations": {"kubectl.kubernetes.io/last-applied-configuration": "{p}"}, "managedFields": [1]
        },
    }  # fmt: skip
    assert cleaned(thing) == {
        "spec": {
            "passwordSecret": {"name": "router"}, "password": "(removed)",
            "volumes": [{"secret": {"secretName": "memberlist"}}],
            "env": [{"name": "API_TOKEN", "value": "(removed)"}, {"name": "PORT", "value": "1"}],
        },
        "metadata": {"annotations": {}},
    }  # fmt: skip
