"""What one run of the speaker was told: command line and environment, checked once and frozen.

Flags and variables carry MetalLB's names and defaults, so its manifests start us unchanged; a flag beats the
variable of the same meaning.  Names that begin with CRIER_ are ours.  Both halves parse the same command
line: the reflex hands its own to the planner.
"""

from __future__ import annotations

import argparse
import os
import re
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path
from typing import Final, NoReturn, TypeVar

USAGE_STATUS: Final = 2
"""Exit status after bad settings."""

DEFAULT_GOSSIP_PORT: Final = 7946

_Choice = TypeVar("_Choice", bound=StrEnum)

_NAMESPACE_FILE: Final = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")

# RFC 1123 subdomain: what Kubernetes takes for a Node's name, and MetalLB for a member's.
_NODE_NAME: Final = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
_MAX_NAME: Final = 253


class SettingsError(ValueError):
    """One setting is missing or wrong; the text names it and says why."""


class LogLevel(StrEnum):
    """Least severe level that is logged."""

    ALL = "all"
    DEBUG = "debug"
    INFO = "info"
    WARN = "warn"
    ERROR = "error"
    NONE = "none"


class BgpType(StrEnum):
    NATIVE = "native"
    FRR = "frr"
    FRR_K8S = "frr-k8s"


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    node_name: str
    """Our Node's name, our name in the gossip cluster and in the election."""
    namespace: str
    """Where our own custom resources and pods live."""
    pod_name: str
    """Our Pod, owner of the statuses we create; empty when nobody said."""
    host: str
    """The node's address, or empty; what gossip advertises when the bind address is unspecified."""

    log_level: LogLevel
    port: int
    """HTTPS metrics."""
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

    bgp_type: BgpType
    frrk8s_namespace: str
    bgp_debounce_ms: int
    frr_config_file: Path
    frr_reloader_pid_file: Path
    frr_logging_level: str

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


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise SettingsError(" ".join(message.split()))  # arguments are quoted back; the error stays one line


def parse(argv: Sequence[str], environ: Mapping[str, str]) -> Settings:
    """The settings in a command line (without the program's name) and an environment.

    Raises SettingsError naming the flag or variable.  `--help` prints the usage and raises SystemExit(0).
    """
    given = vars(_parser(environ).parse_args(list(argv)))
    env = _Environment(environ)

    node_name = _text(given, "node_name")
    if not node_name:
        raise SettingsError("--node-name (METALLB_NODE_NAME) is required")
    if len(node_name) > _MAX_NAME or not _NODE_NAME.fullmatch(node_name):
        raise SettingsError(f"--node-name (METALLB_NODE_NAME): {node_name!r} is not a Kubernetes node name")
    namespace = _text(given, "namespace") or _own_namespace()

    tls_min_version = _text(given, "tls_min_version") or "VersionTLS13"
    if tls_min_version not in ("VersionTLS12", "VersionTLS13"):
        raise SettingsError(
            f"--tls-min-version: {tls_min_version!r} is neither VersionTLS12 nor VersionTLS13"
        )
    ciphers = _listed(_text(given, "tls_cipher_suites"))
    if ciphers and tls_min_version == "VersionTLS13":
        raise SettingsError(
            "--tls-cipher-suites: TLS 1.3 has no choice of suites; set --tls-min-version=VersionTLS12"
        )

    host = _text(given, "host")
    bind = _address("--ml-bindaddr (METALLB_ML_BIND_ADDR)", _text(given, "ml_bindaddr"))
    if bind is not None and bind.is_unspecified and not host:
        raise SettingsError(
            f"--ml-bindaddr (METALLB_ML_BIND_ADDR): {bind} needs METALLB_HOST to say where others reach us"
        )
    bind_port = _text(given, "ml_bindport")
    key_path = _text(given, "ml_secret_key_path")

    return Settings(
        node_name=node_name,
        namespace=namespace,
        pod_name=_text(given, "pod_name"),
        host=host,
        log_level=_choice("--log-level", _text(given, "log_level"), LogLevel),
        port=_integer("--port", _text(given, "port"), 1, 65535),
        health_probe_port=_integer("--health-probe-port", _text(given, "health_probe_port"), 1, 65535),
        pprof_bind_address=_text(given, "pprof_bind_address"),
        tls_min_version=tls_min_version,
        tls_cipher_suites=ciphers,
        tls_curve_preferences=tuple(
            _integer("--tls-curve-preferences", text, 1, 65535)
            for text in _listed(_text(given, "tls_curve_preferences"))
        ),
        metrics_cert_dir=_text(given, "metrics_cert_dir"),
        lb_class=_text(given, "lb_class"),
        ignore_exclude_lb=_boolean("--ignore-exclude-lb", _text(given, "ignore_exclude_lb")),
        ml_bind_addr=bind,
        ml_bind_port=(
            _integer("--ml-bindport (METALLB_ML_BIND_PORT)", bind_port, 1, 65535)
            if bind_port
            else DEFAULT_GOSSIP_PORT
        ),
        ml_labels=_text(given, "ml_labels"),
        ml_secret_key_path=Path(key_path) if key_path else None,
        ml_wan_config=_boolean("--ml-wan-config", _text(given, "ml_wan_config")),
        ml_config_file=Path(env.text("CRIER_ML_CONFIG_FILE", "/etc/metallb/memberlist/config.json")),
        ml_watch=env.boolean("CRIER_ML_WATCH", default=True),
        exclude_l2_file=Path(env.text("CRIER_EXCLUDE_L2_FILE", "/etc/metallb/excludel2.yaml")),
        bgp_type=_choice("METALLB_BGP_TYPE", env.text("METALLB_BGP_TYPE", "native"), BgpType),
        frrk8s_namespace=_text(given, "frrk8s_namespace") or namespace,
        bgp_debounce_ms=_integer(
            "--bgp-debounce-timeout (METALLB_BGP_DEBOUNCE_TIMEOUT)",
            _text(given, "bgp_debounce_timeout"),
            1,
            3_600_000,
        ),
        frr_config_file=Path(env.text("FRR_CONFIG_FILE", "/etc/frr_reloader/frr.conf")),
        frr_reloader_pid_file=Path(env.text("FRR_RELOADER_PID_FILE", "/etc/frr_reloader/reloader.pid")),
        frr_logging_level=env.text("FRR_LOGGING_LEVEL", ""),
        realtime=env.boolean("CRIER_REALTIME", default=True),
        reflex_fd=env.integer("CRIER_REFLEX_FD", 0, 1 << 20),
        planner_command=env.command("CRIER_PLANNER_COMMAND"),
    )


def parse_or_exit() -> Settings:
    """The settings of this process.  Bad ones end it: one line on stderr, status `USAGE_STATUS`."""
    try:
        return parse(sys.argv[1:], os.environ)
    except SettingsError as problem:
        sys.stderr.write(f"crier-speaker: {problem}\n")
        sys.exit(USAGE_STATUS)


def _parser(environ: Mapping[str, str]) -> argparse.ArgumentParser:
    parser = _Parser(prog="crier-speaker", description=__doc__, allow_abbrev=False, add_help=False)
    parser.add_argument("-h", "--help", action="help", help="this text")

    def flag(name: str, default: str, text: str, *, variable: str = "", switch: bool = False) -> None:
        if variable:
            text = f"{text} [{variable}]"
            default = environ.get(variable, "") or default
        # Go's flag package takes one dash or two, and a bare boolean for true
        spellings = (f"--{name}", f"-{name}")
        if switch:
            parser.add_argument(
                *spellings, default=default, nargs="?", const="true", help=text, metavar="BOOL"
            )
        else:
            parser.add_argument(*spellings, default=default, help=text, metavar="VALUE")

    flag("node-name", "", "name of the Node we run on, required", variable="METALLB_NODE_NAME")
    flag(
        "namespace",
        "",
        "namespace of our resources; else our service account's",
        variable="METALLB_NAMESPACE",
    )
    flag("pod-name", "", "name of our Pod", variable="METALLB_POD_NAME")
    flag("host", "", "address of the node", variable="METALLB_HOST")
    flag("log-level", "info", "all, debug, info, warn, error or none")
    flag("port", "9120", "HTTPS port of the metrics")
    flag("health-probe-port", "17472", "HTTP port of /healthz, /readyz and /status")
    flag("pprof-bind-address", "", "accepted and ignored")
    flag("tls-min-version", "", "VersionTLS12 or VersionTLS13 (default)")
    flag("tls-cipher-suites", "", "comma separated, TLS 1.2 only")
    flag("tls-curve-preferences", "", "comma separated numbers of the groups")
    flag("metrics-cert-dir", "", "directory of tls.crt and tls.key; else self-signed")
    flag("lb-class", "", "loadBalancerClass we serve")
    flag("ignore-exclude-lb", "false", "announce from nodes labelled as excluded too", switch=True)
    flag("ml-bindaddr", "", "address gossip binds; empty: no gossip", variable="METALLB_ML_BIND_ADDR")
    flag("ml-bindport", "", f"port gossip binds, {DEFAULT_GOSSIP_PORT}", variable="METALLB_ML_BIND_PORT")
    flag("ml-labels", "", "label selector of the speakers; empty: no gossip", variable="METALLB_ML_LABELS")
    flag("ml-secret-key-path", "", "directory of `secretkey`", variable="METALLB_ML_SECRET_KEY_PATH")
    flag("ml-wan-config", "false", "timings for a wide area network", switch=True)
    flag("frrk8s-namespace", "", "namespace of FRR-K8s; else ours", variable="FRRK8S_NAMESPACE")
    flag("bgp-debounce-timeout", "3000", "ms before FRR is reloaded", variable="METALLB_BGP_DEBOUNCE_TIMEOUT")
    return parser


class _Environment:
    """Settings that have a variable only; an empty one counts as absent, like a manifest's empty `value:`."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ

    def text(self, name: str, default: str) -> str:
        return self._environ.get(name, "") or default

    def boolean(self, name: str, *, default: bool) -> bool:
        return _boolean(name, self.text(name, "true" if default else "false"))

    def integer(self, name: str, least: int, most: int) -> int | None:
        text = self.text(name, "")
        return _integer(name, text, least, most) if text else None

    def command(self, name: str) -> tuple[str, ...]:
        try:
            return tuple(shlex.split(self.text(name, "")))
        except ValueError as problem:
            raise SettingsError(f"{name}: {problem}") from None


def _text(given: Mapping[str, object], name: str) -> str:
    value = given[name]
    assert isinstance(value, str)
    return value


def _integer(name: str, text: str, least: int, most: int) -> int:
    # int() also takes "1_0", " 1" and other scripts' digits; a port in a manifest is plain
    if not re.fullmatch(r"[0-9]{1,9}", text) or not least <= int(text) <= most:
        raise SettingsError(f"{name}: {text!r} is not a number from {least} to {most}")
    return int(text)


def _boolean(name: str, text: str) -> bool:
    # the spellings of Go's strconv.ParseBool
    if text in ("1", "t", "T", "true", "TRUE", "True"):
        return True
    if text in ("0", "f", "F", "false", "FALSE", "False"):
        return False
    raise SettingsError(f"{name}: {text!r} is neither true nor false")


def _choice(name: str, text: str, kind: type[_Choice]) -> _Choice:
    try:
        return kind(text)
    except ValueError:
        raise SettingsError(f"{name}: {text!r} is none of {', '.join(kind)}") from None


def _listed(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())


def _address(name: str, text: str) -> IPv4Address | IPv6Address | None:
    if not text:
        return None
    try:
        return ip_address(text)
    except ValueError:
        raise SettingsError(f"{name}: {text!r} is not an IP address") from None


def _own_namespace() -> str:
    try:
        namespace = _NAMESPACE_FILE.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError):
        namespace = ""
    if not namespace:
        raise SettingsError("--namespace (METALLB_NAMESPACE) is required outside a pod")
    return namespace
