"""What one run of the speaker was told: command line and environment, checked once and frozen.

Flags and variables carry MetalLB's names and defaults, so its manifests start us unchanged; a flag beats the
variable of the same meaning.  Names that begin with CRIER_ are ours.  Both halves parse the same command
line: the reflex hands its own to the planner.
"""

from __future__ import annotations

import os
import re
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path
from typing import Any, Final

from crier.ops import flags
from crier.ops.flags import Flags

PROGRAM: Final = "crier-speaker"

USAGE_STATUS: Final = 2
"""Exit status after bad settings."""

DEFAULT_GOSSIP_PORT: Final = 7946

# RFC 1123 subdomain: what Kubernetes takes for a Node's name, and MetalLB for a member's.
_NODE_NAME: Final = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
_MAX_NAME: Final = 253


class SettingsError(flags.UsageError):
    """One setting is missing or wrong; the text, one line, names it and says why."""


class LogLevel(StrEnum):
    """Least severe level that is logged."""

    ALL = "all"
    DEBUG = "debug"
    INFO = "info"
    WARN = "warn"
    ERROR = "error"
    NONE = "none"


FRR_LOG_LEVELS: Final = (
    "emergencies",
    "alerts",
    "critical",
    "errors",
    "warnings",
    "notifications",
    "informational",
    "debugging",
)


class BgpType(StrEnum):
    NATIVE = "native"
    FRR = "frr"
    FRR_K8S = "frr-k8s"


class ConflictPolicy(StrEnum):
    """What to do about a host that is no speaker and uses an address of ours (RFC 5227 section 2.4)."""

    DEFEND = "defend"
    """Announce again, ever more rarely, and report."""
    YIELD = "yield"
    """Leave it the address, report, and look again after a minute without it."""
    REPORT = "report"
    """Go on answering, do not fight, report."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    node_name: str
    """Our Node's name, our name in the gossip cluster and in the election."""
    namespace: str
    """Where our own custom resources and pods live."""
    kubeconfig: str
    """File that says where the API is; empty: KUBECONFIG, else the pod's service account."""
    pod_name: str
    """Our Pod, owner of the statuses we create."""
    host: str
    """The node's address, or empty; what gossip advertises when the bind address is unspecified."""

    log_level: LogLevel
    port: int
    """HTTPS metrics."""
    plain_metrics_port: int
    """Metrics over plain HTTP, for anybody; 0: not served."""
    health_probe_port: int
    """Plain HTTP: /healthz, /readyz, /status."""
    pprof_bind_address: str
    """Accepted for MetalLB's manifests; a Python program has no pprof."""
    tls_min_version: str
    """`VersionTLS12` or `VersionTLS13`."""
    tls_cipher_suites: tuple[str, ...]
    tls_curve_preferences: tuple[int, ...]
    metrics_cert_dir: str
    """Directory of tls.crt and tls.key; empty: self-signed."""

    lb_class: str
    """Only services of this loadBalancerClass are ours; empty: only those without one."""
    ignore_exclude_lb: bool
    """Announce also from nodes labelled node.kubernetes.io/exclude-from-external-load-balancers."""

    ml_bind_addr: IPv4Address | IPv6Address | None
    ml_bind_port: int
    ml_labels: str
    """Label selector of the speakers' pods."""
    ml_secret_key_path: Path | None
    """Directory with the file `secretkey`."""
    ml_wan_config: bool
    ml_config_file: Path
    """MetalLB's optional JSON file of memberlist timings; need not exist."""
    ml_watch: bool
    """Watchers beside SWIM: detection in a fraction of a second."""

    exclude_l2_file: Path
    """YAML list of the interfaces that never announce; need not exist."""

    conflict_policy: ConflictPolicy
    probe_time: int
    """Milliseconds for which is asked whether anybody has an address that is new to the cluster; 0: not at
    all."""
    self_check_interval: int
    """Seconds in which the wire is asked once for each address; 0: never."""
    gratuitous_interval: int
    """Seconds between two announcements of an address that did not move; 0: none."""

    bgp_type: BgpType
    frrk8s_namespace: str
    bgp_debounce_ms: int
    frr_config_file: Path
    frr_reloader_pid_file: Path
    frr_run_dir: Path
    """With the vty sockets of FRR's daemons."""
    frr_logging_level: str
    """One of FRR's levels; empty: what is nearest to ours."""

    realtime: bool
    """Try SCHED_FIFO for the reflex."""
    reflex_fd: int | None
    """Planner only: the socket to the reflex it inherited."""
    planner_command: tuple[str, ...]
    """What the reflex starts instead of `python -m speaker.planner`; empty in production, used by tests."""

    @property
    def membership(self) -> bool:
        """Whether gossip runs at all: MetalLB's rule, both a bind address and labels are needed."""
        return self.ml_bind_addr is not None and self.ml_labels != ""


def parse(argv: Sequence[str], environ: Mapping[str, str]) -> Settings:
    """The settings in a command line (without the program's name) and an environment.

    Raises SettingsError naming the flag or variable.  `--help` prints the usage and raises SystemExit(0).
    """
    try:
        return _settings(_flags(environ).parse(argv))
    except flags.UsageError as problem:
        # what was typed is quoted back, line breaks and all
        raise SettingsError(" ".join(str(problem).split())) from None


def parse_or_exit() -> Settings:
    """The settings of this process.  Bad ones end it: one line on stderr, status `USAGE_STATUS`."""
    try:
        return parse(sys.argv[1:], os.environ)
    except SettingsError as problem:
        flags.bad_usage(PROGRAM, problem)


def _flags(environ: Mapping[str, str]) -> Flags:
    found = Flags(PROGRAM, environ=environ, description=__doc__ or "")
    flags.add_common(found)
    found.custom(
        "--node-name", _node_name, env="METALLB_NODE_NAME", required=True, help="name of the Node we run on"
    )
    found.text("--host", env="METALLB_HOST", help="address of the node")
    found.switch("--ignore-exclude-lb", help="announce from nodes labelled as excluded, too")

    found.address("--ml-bindaddr", env="METALLB_ML_BIND_ADDR", help="address gossip binds; empty: no gossip")
    found.port(
        "--ml-bindport", env="METALLB_ML_BIND_PORT", default=DEFAULT_GOSSIP_PORT, help="port gossip binds"
    )
    found.text("--ml-labels", env="METALLB_ML_LABELS", help="selector of our pods; empty: no gossip")
    found.text("--ml-secret-key-path", env="METALLB_ML_SECRET_KEY_PATH", help="directory of `secretkey`")
    found.switch("--ml-wan-config", help="timings for a wide area network")
    found.text(
        "--ml-config-file",
        env="CRIER_ML_CONFIG_FILE",
        default="/etc/metallb/memberlist/config.json",
        help="timings, in MetalLB's form; need not exist",
    )
    found.switch("--ml-watch", env="CRIER_ML_WATCH", default=True, help="watchers beside SWIM")
    found.text(
        "--exclude-l2-file",
        env="CRIER_EXCLUDE_L2_FILE",
        default="/etc/metallb/excludel2.yaml",
        help="interfaces that never announce; need not exist",
    )

    found.choice(
        "--conflict-policy",
        [each.value for each in ConflictPolicy],
        env="CRIER_CONFLICT_POLICY",
        default="defend",
        help="what to do about another host that uses an address of ours",
    )
    found.integer(
        "--probe-time",
        env="CRIER_PROBE_TIME",
        default=600,
        minimum=0,
        maximum=10_000,
        help="milliseconds for which is asked who has an address that is new to the cluster; 0: no asking",
    )
    found.integer(
        "--self-check-interval",
        env="CRIER_SELF_CHECK_INTERVAL",
        default=60,
        minimum=0,
        maximum=86400,
        help="seconds in which the wire is asked once who answers for each address; 0: never",
    )
    found.integer(
        "--gratuitous-interval",
        env="CRIER_GRATUITOUS_INTERVAL",
        default=0,
        minimum=0,
        maximum=86400,
        help="seconds between announcements of what did not move; 0: none",
    )

    found.choice(
        "--bgp-type",
        [each.value for each in BgpType],
        env="METALLB_BGP_TYPE",
        default="native",
        help="who speaks",
    )
    found.text("--frrk8s-namespace", env="FRRK8S_NAMESPACE", help="namespace of FRR-K8s; else ours")
    found.integer(
        "--bgp-debounce-timeout",
        env="METALLB_BGP_DEBOUNCE_TIMEOUT",
        default=3000,
        minimum=1,
        maximum=3_600_000,
        help="milliseconds before FRR is reloaded",
    )
    found.text(
        "--frr-config-file",
        env="FRR_CONFIG_FILE",
        default="/etc/frr_reloader/frr.conf",
        help="what FRR reads",
    )
    found.text(
        "--frr-reloader-pid-file",
        env="FRR_RELOADER_PID_FILE",
        default="/etc/frr_reloader/reloader.pid",
        help="whom to tell",
    )
    found.text(
        "--frr-run-dir",
        env="CRIER_FRR_RUN_DIR",
        default="/var/run/frr",
        help="with the vty sockets of FRR's daemons",
    )
    found.choice(
        "--frr-logging-level",
        ["", *FRR_LOG_LEVELS],
        env="FRR_LOGGING_LEVEL",
        default="",
        help="of FRR's daemons; else ours",
    )

    found.switch("--realtime", env="CRIER_REALTIME", default=True, help="try SCHED_FIFO for the reflex")
    found.integer("--reflex-fd", env="CRIER_REFLEX_FD", minimum=0, maximum=1 << 20, help="set by the reflex")
    found.custom(
        "--planner-command",
        _command,
        env="CRIER_PLANNER_COMMAND",
        default=(),
        help="for tests: another planner",
    )
    return found


def _settings(given: Mapping[str, Any]) -> Settings:
    tls_min_version, ciphers, curves = flags.tls(given)
    namespace = flags.namespace(given["namespace"])
    bind = ip_address(given["ml_bindaddr"]) if given["ml_bindaddr"] else None
    if bind is not None and bind.is_unspecified:
        _reachable(given["host"], bind)
    key_path = given["ml_secret_key_path"]
    return Settings(
        node_name=given["node_name"],
        namespace=namespace,
        kubeconfig=given["kubeconfig"],
        pod_name=given["pod_name"],
        host=given["host"],
        log_level=LogLevel(given["log_level"]),
        port=given["port"],
        plain_metrics_port=given["plain_metrics_port"],
        health_probe_port=given["health_probe_port"],
        pprof_bind_address=given["pprof_bind_address"],
        tls_min_version=tls_min_version,
        tls_cipher_suites=ciphers,
        tls_curve_preferences=curves,
        metrics_cert_dir=given["metrics_cert_dir"],
        lb_class=given["lb_class"],
        ignore_exclude_lb=given["ignore_exclude_lb"],
        ml_bind_addr=bind,
        ml_bind_port=given["ml_bindport"],
        ml_labels=given["ml_labels"],
        ml_secret_key_path=Path(key_path) if key_path else None,
        ml_wan_config=given["ml_wan_config"],
        ml_config_file=Path(given["ml_config_file"]),
        ml_watch=given["ml_watch"],
        exclude_l2_file=Path(given["exclude_l2_file"]),
        conflict_policy=ConflictPolicy(given["conflict_policy"]),
        probe_time=given["probe_time"],
        self_check_interval=given["self_check_interval"],
        gratuitous_interval=given["gratuitous_interval"],
        bgp_type=BgpType(given["bgp_type"]),
        frrk8s_namespace=given["frrk8s_namespace"] or namespace,
        bgp_debounce_ms=given["bgp_debounce_timeout"],
        frr_config_file=Path(given["frr_config_file"]),
        frr_reloader_pid_file=Path(given["frr_reloader_pid_file"]),
        frr_run_dir=Path(given["frr_run_dir"]),
        frr_logging_level=given["frr_logging_level"],
        realtime=given["realtime"],
        reflex_fd=given["reflex_fd"],
        planner_command=given["planner_command"],
    )


def _node_name(text: str) -> str:
    if len(text) > _MAX_NAME or not _NODE_NAME.fullmatch(text):
        raise ValueError(f"{text[:_MAX_NAME]!r} is not a Kubernetes node name")
    return text


def _command(text: str) -> tuple[str, ...]:
    return tuple(shlex.split(text))


def _reachable(host: str, bind: IPv4Address | IPv6Address) -> None:
    """Raises SettingsError unless there is an address to advertise instead of the unspecified one."""
    try:
        ip_address(host)
    except ValueError:
        raise SettingsError(
            f"--ml-bindaddr (METALLB_ML_BIND_ADDR): {bind} needs METALLB_HOST to say where others reach us"
        ) from None
