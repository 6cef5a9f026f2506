"""The command line of the controller: MetalLB's, and one clear line for what is wrong."""

from __future__ import annotations

import pytest

from allocator.settings import parse
from crier.ops.flags import UsageError

ENVIRON = {"METALLB_NAMESPACE": "metallb-system", "METALLB_POD_NAME": "controller-0"}


def test_the_environment_of_metallbs_manifests() -> None:
    found = parse(
        ["--port=7472", "--log-level=debug", "--tls-min-version=VersionTLS12"],
        ENVIRON
        | {
            "METALLB_ML_SECRET_NAME": "memberlist",
            "METALLB_DEPLOYMENT": "controller",
            "METALLB_BGP_TYPE": "frr-k8s",
        },
    )
    assert (found.namespace, found.pod_name) == ("metallb-system", "controller-0")
    assert (found.ml_secret_name, found.deployment) == ("memberlist", "controller")
    assert (found.metrics_port, found.health_port, found.log_level) == (7472, 17472, "debug")
    assert (found.lb_class, found.health_host, found.tls_cipher_suites) == ("", "", ())


def test_every_flag_of_metallb_is_taken() -> None:
    parse(
        [
            "--port",
            "9120",
            "--kubeconfig",
            "/k",
            "--namespace",
            "x",
            "--log-level",
            "all",
            "--pprof-bind-address",
            ":1",
            "--health-probe-port",
            "1",
            "--lb-class",
            "c",
            "--pod-name",
            "p",
            "--tls-min-version",
            "VersionTLS12",
            "--tls-cipher-suites",
            "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256",
            "--tls-curve-preferences",
            "29",
            "--metrics-cert-dir",
            "/d",
            "--ml-secret-name",
            "s",
            "--deployment",
            "d",
            "--disable-cert-rotation",
            "--cert-dir",
            "/c",
            "--cert-service-name",
            "n",
            "--webhook-mode",
            "disabled",
            "--webhook-secret",
            "w",
            "--webhook-http2=false",
        ],
        {},
    )


def test_the_webhook() -> None:
    found = parse([], ENVIRON)
    assert (found.webhook_mode, found.webhook_port, found.webhook_cert_dir) == ("enabled", 9443, "")
    assert (found.webhook_secret, found.webhook_service) == (
        "metallb-webhook-cert",
        "metallb-webhook-service",
    )
    assert parse(["--cert-dir", "/c"], ENVIRON).webhook_cert_dir == ""
    assert parse(["--cert-dir", "/c", "--disable-cert-rotation"], ENVIRON).webhook_cert_dir == "/c"
    assert parse(["--webhook-mode=onlywebhook"], ENVIRON).webhook_mode == "onlywebhook"


@pytest.mark.parametrize(
    ("argv", "environ", "problem"),
    [
        ([], {"METALLB_NAMESPACE": "n"}, "--pod-name (or METALLB_POD_NAME): required"),
        (["--port", "70000"], ENVIRON, "--port: 70000 is not in 1..65535"),
        (["--log-level", "loud"], ENVIRON, "--log-level: 'loud' is not one of"),
        (["--webhook-mode", "sometimes"], ENVIRON, "--webhook-mode: 'sometimes' is not one of"),
        (["--tls-cipher-suites", "x"], ENVIRON, "--tls-cipher-suites: TLS 1.3 has no choice"),
        (["--tls-curve-preferences", "x"], ENVIRON, "--tls-curve-preferences: 'x' is not the number"),
        (["--nonsense"], ENVIRON, "--nonsense: unknown flag"),
    ],
)
def test_bad_settings(argv: list[str], environ: dict[str, str], problem: str) -> None:
    with pytest.raises(UsageError) as found:
        parse(argv, environ)
    assert str(found.value).startswith(problem)
    assert "\n" not in str(found.value)
