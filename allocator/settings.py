"""The controller's settings: MetalLB's flags and variables, checked once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from crier.ops import flags as flags_module
from crier.ops.flags import Flags

PROG = "crier-controller"
WEBHOOK_MODES = ("enabled", "disabled", "onlywebhook")


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    namespace: str
    """Where our own objects live."""
    kubeconfig: str = ""
    """File that says where the API is; "": KUBECONFIG, else the pod's service account."""
    pod_name: str
    """Owner of our ConfigurationState."""
    log_level: str
    lb_class: str
    """Serve Services of this loadBalancerClass only; "": those without one."""
    metrics_port: int
    plain_metrics_port: int
    """Over plain HTTP, for anybody; 0: not served."""
    health_port: int
    health_host: str
    """"" listens on all addresses, as the kubelet asks from outside."""
    ml_secret_name: str
    """Secret with the gossip key, made if it does not exist; "": not made."""
    deployment: str
    """Owner of that secret; "": it has none."""
    tls_min_version: str
    tls_cipher_suites: tuple[str, ...]
    """Go's names; TLS 1.2 only."""
    metrics_cert_dir: str
    status_page: bool
    """Serve a page for people at `/` of the health port."""
    leader_elect: bool
    """Write only while we hold the Lease; needed as soon as two controllers may run."""
    webhook_mode: str = "disabled"
    """One of `WEBHOOK_MODES`."""
    webhook_port: int = 9443
    webhook_secret: str = ""
    """With the webhook's certificate and authority, which we make and renew."""
    webhook_service: str = ""
    """By whose name the API server calls the webhook."""
    webhook_cert_dir: str = ""
    """With a certificate that others make; "": ours."""


def parse(argv: Sequence[str], environ: Mapping[str, str]) -> Settings:
    """Raises UsageError, one line that names the flag or the variable."""
    flags = Flags(PROG, environ=environ, description="Gives addresses to Services of type LoadBalancer.")
    flags_module.add_common(flags)
    flags.text("--ml-secret-name", env="METALLB_ML_SECRET_NAME", help="Secret with the gossip key, to make")
    flags.text("--deployment", env="METALLB_DEPLOYMENT", help="our Deployment, owner of that Secret")
    flags.switch("--disable-cert-rotation", help="the webhook's certificate is made and rotated by others")
    flags.text(
        "--cert-dir",
        default="/tmp/k8s-webhook-server/serving-certs",  # noqa: S108 - MetalLB's default
        help="with tls.crt and tls.key of the webhook; read with --disable-cert-rotation",
    )
    flags.text("--cert-service-name", default="metallb-webhook-service", help="Service of the webhook")
    flags.choice(
        "--webhook-mode",
        WEBHOOK_MODES,
        default="enabled",
        help="whether to refuse bad configuration at admission; onlywebhook: and do nothing else",
    )
    flags.text(
        "--webhook-secret", default="metallb-webhook-cert", help="Secret with the webhook's certificate"
    )
    flags.switch("--webhook-http2", help="accepted: the webhook speaks HTTP/1.1")
    flags.port("--webhook-port", default=9443, zero=True, help="port of the webhook")
    flags.switch("--leader-elect", help="several controllers may run: only the holder of the Lease writes")
    flags.switch("--status-page", env="CRIER_STATUS_PAGE", default=True, help="a page for people at /")
    flags.text("--health-bind-address", help="address for --health-probe-port; empty: all")
    values = flags.parse(argv)
    tls_min_version, suites, _ = flags_module.tls(values)
    return Settings(
        namespace=flags_module.namespace(values["namespace"]),
        kubeconfig=values["kubeconfig"],
        pod_name=values["pod_name"],
        log_level=values["log_level"],
        lb_class=values["lb_class"],
        metrics_port=values["port"],
        plain_metrics_port=values["plain_metrics_port"],
        health_port=values["health_probe_port"],
        health_host=values["health_bind_address"],
        ml_secret_name=values["ml_secret_name"],
        deployment=values["deployment"],
        tls_min_version=tls_min_version,
        tls_cipher_suites=suites,
        metrics_cert_dir=values["metrics_cert_dir"],
        status_page=values["status_page"],
        leader_elect=values["leader_elect"],
        webhook_mode=values["webhook_mode"],
        webhook_port=values["webhook_port"],
        webhook_secret=values["webhook_secret"],
        webhook_service=values["cert_service_name"],
        webhook_cert_dir=values["cert_dir"] if values["disable_cert_rotation"] else "",
    )
