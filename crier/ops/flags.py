"""Command line flags with environment fallback, as MetalLB's programs take them.

Go's flag syntax is accepted: `--port 9120`, `--port=9120`, `-port=9120`; a switch also as `--switch=false`.
A flag wins over its variable, an empty variable counts as unset.  Bad input is one line on stderr that names
the flag (or the variable) and the reason, and exit status 2.

    flags = Flags("crier-speaker", environ=os.environ)
    flags.text("--node-name", env="METALLB_NODE_NAME", required=True, help="name of our Node object")
    flags.integer("--ml-bindport", env="METALLB_ML_BIND_PORT", default=7946, minimum=1, maximum=65535)
    values = flags.parse(argv)          # {"node_name": ..., "ml_bindport": ...}
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Final, NoReturn

from crier.ops import logs

SERVICE_ACCOUNT_NAMESPACE: Final = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
MAX_VALUE: Final = 4096
"""Characters of one value; nothing we take is longer."""


class UsageError(Exception):
    """What is wrong, in one line that begins with the flag or the variable."""


@dataclass(frozen=True, slots=True)
class _Flag:
    name: str
    env: str | None
    required: bool
    default: object
    parse: Callable[[str], object]
    """Raises ValueError with the reason."""

    @property
    def key(self) -> str:
        return self.name.lstrip("-").replace("-", "_")


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        # argparse says "argument --port/-port: expected one argument"
        if message.startswith("argument "):
            names, _, reason = message.removeprefix("argument ").partition(": ")
            message = f"{names.split('/')[0]}: {reason}"
        elif message.startswith("unrecognized arguments: "):
            message = f"{message.removeprefix('unrecognized arguments: ').split()[0]}: unknown flag"
        raise UsageError(message)


class Flags:
    """A program's flags.  Declare each with one call, then `parse` or `parse_or_exit`."""

    def __init__(self, prog: str, *, environ: Mapping[str, str], description: str = "") -> None:
        self.prog = prog
        self._environ = environ
        self._flags: list[_Flag] = []
        self._parser = _Parser(
            prog=prog,
            description=description,
            allow_abbrev=False,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )

    # ------------------------------------------------------------------------------ declaring

    def custom(
        self,
        name: str,
        parse: Callable[[str], object],
        *,
        help: str,  # noqa: A002 - argparse's word
        env: str | None = None,
        default: object = None,
        required: bool = False,
        metavar: str | None = None,
        switch: bool = False,
    ) -> None:
        """A flag whose text `parse` turns into its value, or raises ValueError with the reason."""
        notes = [f"variable {env}"] if env else []
        notes += (
            ["required"] if required else [f"default {default}"] if default not in (None, "", False) else []
        )
        shown = f"{help} ({'; '.join(notes)})" if notes else help
        names = (name, name[1:]) if name.startswith("--") else (name,)
        if switch:
            self._parser.add_argument(*names, dest=name, nargs="?", const="true", metavar="BOOL", help=shown)
        else:
            self._parser.add_argument(*names, dest=name, metavar=metavar or "VALUE", help=shown)
        self._flags.append(_Flag(name, env, required, default, parse))

    def text(
        self,
        name: str,
        *,
        help: str,  # noqa: A002
        env: str | None = None,
        default: str | None = "",
        required: bool = False,
    ) -> None:
        self.custom(name, str, help=help, env=env, default=default, required=required, metavar="TEXT")

    def integer(
        self,
        name: str,
        *,
        help: str,  # noqa: A002
        env: str | None = None,
        default: int | None = None,
        minimum: int,
        maximum: int,
    ) -> None:
        def parse(text: str) -> int:
            if not (text.removeprefix("-").isascii() and text.removeprefix("-").isdigit()):
                raise ValueError(f"{text!r} is not a whole number")
            if not minimum <= (number := int(text[:20])) <= maximum:
                raise ValueError(f"{text} is not in {minimum}..{maximum}")
            return number

        self.custom(name, parse, help=help, env=env, default=default, metavar=f"{minimum}..{maximum}")

    def port(self, name: str, *, help: str, env: str | None = None, default: int, zero: bool = False) -> None:  # noqa: A002
        """A TCP or UDP port; 0 is allowed only where it has a meaning."""
        self.integer(name, help=help, env=env, default=default, minimum=0 if zero else 1, maximum=65535)

    def choice(
        self,
        name: str,
        choices: Sequence[str],
        *,
        help: str,  # noqa: A002
        env: str | None = None,
        default: str,
    ) -> None:
        def parse(text: str) -> str:
            if text not in choices:
                raise ValueError(f"{text!r} is not one of {', '.join(repr(each) for each in choices)}")
            return text

        self.custom(name, parse, help=help, env=env, default=default, metavar="|".join(filter(None, choices)))

    def switch(self, name: str, *, help: str, env: str | None = None, default: bool = False) -> None:  # noqa: A002
        """Off or on; the words are those of Go's strconv.ParseBool."""

        def parse(text: str) -> bool:
            if text in ("1", "t", "T", "true", "TRUE", "True"):
                return True
            if text in ("0", "f", "F", "false", "FALSE", "False"):
                return False
            raise ValueError(f"{text!r} is neither true nor false")

        self.custom(name, parse, help=help, env=env, default=default, switch=True)

    def address(self, name: str, *, help: str, env: str | None = None) -> None:  # noqa: A002
        """An IP address; empty means none."""

        def parse(text: str) -> str:
            try:
                return str(ip_address(text)) if text else ""
            except ValueError:
                raise ValueError(f"{text!r} is not an IP address") from None

        self.custom(name, parse, help=help, env=env, default="", metavar="ADDRESS")

    # -------------------------------------------------------------------------------- reading

    def parse(self, argv: Sequence[str]) -> dict[str, Any]:
        """Every flag's value under its name without dashes, `-` as `_`.  Raises UsageError.

        `argv` without the program's name.  `--help` prints and exits with status 0.
        """
        given, rest = self._parser.parse_known_args(list(argv))
        if rest:
            kind = "unknown flag" if rest[0].startswith("-") else "no such argument is taken"
            raise UsageError(f"{_shown(rest[0])}: {kind}")
        return {flag.key: self._value(flag, getattr(given, flag.name)) for flag in self._flags}

    def _value(self, flag: _Flag, given: str | None) -> object:
        source, text = flag.name, given
        if text is None and flag.env and self._environ.get(flag.env):
            source, text = flag.env, self._environ[flag.env]
        if flag.required and not text:
            raise UsageError(f"{flag.name}{f' (or {flag.env})' if flag.env else ''}: required, and not given")
        if text is None:
            return flag.default
        if len(text) > MAX_VALUE or "\x00" in text:
            raise UsageError(f"{source}: longer than {MAX_VALUE} characters, or with a NUL in it")
        try:
            return flag.parse(text)
        except ValueError as problem:
            raise UsageError(f"{source}: {problem}") from None

    def parse_or_exit(self, argv: Sequence[str]) -> dict[str, Any]:
        """`parse`, and on bad input one line on stderr and exit status 2."""
        try:
            return self.parse(argv)
        except UsageError as problem:
            bad_usage(self.prog, problem)


def bad_usage(prog: str, problem: UsageError) -> NoReturn:
    """One line on stderr, exit status 2."""
    print(f"{prog}: {problem}", file=sys.stderr)
    raise SystemExit(2)


def _shown(text: str) -> str:
    return text.partition("=")[0][:80]


# --------------------------------------------------------------------------- what both programs take

LOG_LEVELS: Final = tuple(logs.LEVELS)


def add_common(flags: Flags) -> None:
    """The flags MetalLB's controller and speaker share, with its names and defaults."""
    flags.port("--port", default=9120, help="port of the metrics")
    flags.port(
        "--plain-metrics-port",
        env="CRIER_PLAIN_METRICS_PORT",
        default=0,
        zero=True,
        help="port of the metrics over plain HTTP, for anybody; 0: none",
    )
    flags.text("--namespace", env="METALLB_NAMESPACE", help="namespace of our own objects; else the pod's")
    flags.text("--kubeconfig", help="of the API; empty: KUBECONFIG, else the service account's way")
    flags.choice("--log-level", LOG_LEVELS, default="info", help="least serious level logged")
    flags.port("--health-probe-port", default=17472, help="port of /healthz, /readyz, /status")
    flags.text(
        "--lb-class", help="serve the Services of this loadBalancerClass only; empty: those without one"
    )
    flags.text("--pod-name", env="METALLB_POD_NAME", required=True, help="name of our Pod")
    flags.text("--pprof-bind-address", help="accepted, not used: there is no pprof here")
    flags.choice("--tls-min-version", ("", "VersionTLS12", "VersionTLS13"), default="", help="of the metrics")
    flags.text("--tls-cipher-suites", help="of the metrics, comma separated")
    flags.text("--tls-curve-preferences", help="accepted; the curves are OpenSSL's own")
    flags.text("--metrics-cert-dir", help="directory with tls.crt and tls.key for the metrics")


def tls(values: Mapping[str, Any]) -> tuple[str, tuple[str, ...], tuple[int, ...]]:
    """Least version, Go's names of cipher suites, numbers of groups.  Raises UsageError."""
    version = values["tls_min_version"] or "VersionTLS13"
    suites = _listed(values["tls_cipher_suites"])
    if suites and version == "VersionTLS13":
        raise UsageError(
            "--tls-cipher-suites: TLS 1.3 has no choice of suites; set --tls-min-version=VersionTLS12"
        )
    curves = _listed(values["tls_curve_preferences"])
    for text in curves:
        if not re.fullmatch(r"[0-9]{1,5}", text):
            raise UsageError(f"--tls-curve-preferences: {text!r} is not the number of a group")
    return version, suites, tuple(int(text) for text in curves)


def _listed(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())


def namespace(given: str, fallback: Path = SERVICE_ACCOUNT_NAMESPACE) -> str:
    """The namespace given, else the one of the pod's service account.  Raises UsageError."""
    if given:
        return given
    try:
        found = fallback.read_text(encoding="utf-8")[:MAX_VALUE].strip()
    except (OSError, UnicodeDecodeError):
        found = ""
    if not found:
        raise UsageError("--namespace (or METALLB_NAMESPACE): not given, and no service account tells it")
    return found
