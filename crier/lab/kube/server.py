"""etcd and kube-apiserver as processes: their command lines, their start, and how to speak to them."""

from __future__ import annotations

import datetime
import os
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Final

from crier.lab.errors import LabError
from crier.lab.kube.build import Programs
from crier.lab.kube.kubeconfig import write_kubeconfig
from crier.lab.kube.pki import Keys, make_keys
from crier.lab.rest import Rest, RestError

START_PATIENCE: Final = 60.0
"""Seconds to wait until it is ready; it takes three, on a machine that is not overrun."""
STOP_PATIENCE: Final = 10.0
POLL: Final = 0.05
KUBECTL_PATIENCE: Final = 60.0
TOKEN_SECONDS: Final = 24 * 3600
SERVICE_RANGES: Final = "10.96.0.0/16,fd00:c71e:96::/112"
ATTEMPTS: Final = 3
"""How often a free port is looked for: between finding and taking one, somebody else may take it."""

_ETCD_CLIENTS: Final = "unix://etcd.sock:0"
_ETCD_PEERS: Final = "unix://peer.sock:0"
# The lab forgets everything anyway: etcd's files are in a file system of their own in memory, which goes with
# the process, whatever ends it.
_IN_MEMORY: Final = 'mount -t tmpfs -o size=1g,mode=700 lab "$1" && shift && exec "$@"'

AUDIT_POLICY: Final = """{
  "apiVersion": "audit.k8s.io/v1", "kind": "Policy", "omitStages": ["RequestReceived"],
  "rules": [{"level": "Metadata"}]
}
"""


@dataclass(frozen=True, slots=True)
class Place:
    """Where an API server runs and listens."""

    directory: Path
    """For its keys, sockets and logs; private to us."""
    address: str
    port: int
    also: tuple[str, ...] = ()
    """Further addresses it is reached at, by way of somebody who forwards."""

    @property
    def url(self) -> str:
        return _url(self.address, self.port)


def etcd_command(programs: Programs, directory: Path) -> list[str]:
    """One member that talks to nobody but the API server, through a Unix socket."""
    data = directory / "etcd"
    data.mkdir(mode=0o700, exist_ok=True)
    command = [
        *("env", "-C", str(directory), str(programs.etcd), "--name", "lab", "--data-dir", str(data)),
        *("--listen-client-urls", _ETCD_CLIENTS, "--advertise-client-urls", _ETCD_CLIENTS),
        *("--listen-peer-urls", _ETCD_PEERS, "--initial-advertise-peer-urls", _ETCD_PEERS),
        *("--initial-cluster", f"lab={_ETCD_PEERS}", "--unsafe-no-fsync"),
        *("--logger", "zap", "--log-level", "warn"),
    ]
    if os.geteuid() != 0:
        return command
    mount = ["unshare", "--mount", "--propagation", "private", "sh", "-c", _IN_MEMORY, "sh", str(data)]
    return [*mount, *command]


def apiserver_command(programs: Programs, place: Place, keys: Keys, *, audit: bool = False) -> list[str]:
    """An API server with RBAC, without what needs controllers that the lab does not run.

    `ServiceAccount` admission is one: it would refuse every pod until somebody makes its namespace's default
    account.  `audit` writes a line for each request to `audit.log`.
    """
    flags = {
        "etcd-servers": _ETCD_CLIENTS,
        "bind-address": place.address,
        "advertise-address": place.address,
        "secure-port": str(place.port),
        "tls-cert-file": str(keys.certificate),
        "tls-private-key-file": str(keys.key),
        "client-ca-file": str(keys.authority),
        "token-auth-file": str(keys.tokens),
        "service-account-issuer": "https://kubernetes.default.svc",
        "service-account-signing-key-file": str(keys.account_key),
        "service-account-key-file": str(keys.account_key),
        "service-cluster-ip-range": SERVICE_RANGES,
        "authorization-mode": "RBAC",
        "disable-admission-plugins": "ServiceAccount",
        "endpoint-reconciler-type": "none",
        "allow-privileged": "true",
        "profiling": "false",
    }
    if audit:
        policy = place.directory / "audit-policy.json"
        policy.write_text(AUDIT_POLICY, encoding="utf-8")
        flags |= {"audit-policy-file": str(policy), "audit-log-path": str(place.directory / "audit.log")}
    listed = [f"--{name}={value}" for name, value in flags.items()]
    return ["env", "-C", str(place.directory), str(programs.apiserver), *listed]


@dataclass(frozen=True, slots=True)
class Kube:
    """A running API server, and us as its administrator."""

    url: str
    """Where we reach it."""
    directory: Path
    programs: Programs
    keys: Keys
    kubeconfig: Path = field(init=False)
    """The administrator's."""

    def __post_init__(self) -> None:
        object.__setattr__(
            self, "kubeconfig", self.write_kubeconfig("admin.kubeconfig", self.keys.admin_token)
        )

    @property
    def rest(self) -> Rest:
        return Rest.from_kubeconfig(self.kubeconfig)

    def write_kubeconfig(self, name: str, token: str, *, url: str | None = None) -> Path:
        authority = self.keys.authority.read_bytes()
        return write_kubeconfig(self.directory / name, url or self.url, authority, token)

    def kubectl(self, *arguments: str, stdin: str = "", check: bool = True) -> str:
        """What kubectl says as administrator.  Raises LabError with its complaint unless `check` is off."""
        command = [str(self.programs.kubectl), f"--kubeconfig={self.kubeconfig}", *arguments]
        # a home of its own: kubectl keeps discovery on disk, by host and port, and ports come again
        environment = {"PATH": os.environ.get("PATH", os.defpath), "HOME": str(self.directory)}
        try:
            done = subprocess.run(
                command, input=stdin, capture_output=True, text=True, check=False, env=environment,
                timeout=KUBECTL_PATIENCE,
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            raise LabError(
                f"`kubectl {' '.join(arguments)}` took longer than {KUBECTL_PATIENCE:g} s"
            ) from None
        if check and done.returncode != 0:
            raise LabError(f"`kubectl {' '.join(arguments)}` failed: {done.stderr.strip()}")
        return done.stdout if check else done.stdout + done.stderr

    def token(self, namespace: str, account: str) -> str:
        """A token of a service account (TokenRequest), good for a day."""
        path = f"/api/v1/namespaces/{namespace}/serviceaccounts/{account}/token"
        body = {
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenRequest",
            "metadata": {},
            "spec": {"expirationSeconds": TOKEN_SECONDS},
        }
        return str(self.rest.create(path, body)["status"]["token"])

    def kubeconfig_of(self, namespace: str, account: str, *, url: str | None = None) -> Path:
        """A kubeconfig of a service account, with no more rights than it has.

        Args:
            url: the server as the account's programs see it; None is as we do.
        """
        name = f"{namespace}-{account}.kubeconfig"
        return self.write_kubeconfig(name, self.token(namespace, account), url=url)


def wait_until_ready(rest: Rest, alive: Callable[[], bool], patience: float = START_PATIENCE) -> None:
    """Returns when the API serves everybody.  Raises LabError when it ends, or takes too long."""
    deadline = time.monotonic() + patience
    while True:
        try:
            rest.request("GET", "/readyz")
            rest.request("GET", "/api/v1/namespaces/default")
        except RestError as problem:
            if not alive():
                raise LabError("it ended before it was ready") from None
            if time.monotonic() > deadline:
                raise LabError(f"it was not ready within {patience:g} s: {problem}") from None
            time.sleep(POLL)
        else:
            return


@contextmanager
def start_kube(programs: Programs, *, audit: bool = False) -> Iterator[Kube]:
    """Serve a fresh cluster on loopback within the block.

    Its processes are killed by the kernel when the thread that calls this ends: call it from the main one.

    Raises:
        LabError: it did not come up; the text has the end of its log.
    """
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="crier-kube-")))
        _spawn(stack, "etcd", etcd_command(programs, directory), directory)
        for attempt in range(1, ATTEMPTS + 1):
            place = Place(directory, "127.0.0.1", _free_port())
            keys = make_keys(directory, [place.address], datetime.datetime.now(datetime.UTC))
            server = ExitStack()
            process = _spawn(
                server, "kube-apiserver", apiserver_command(programs, place, keys, audit=audit), directory
            )
            kube = Kube(place.url, directory, programs, keys)
            try:
                wait_until_ready(kube.rest, partial(_alive, process))
            except LabError as problem:
                server.close()
                log = _tail(directory / "kube-apiserver.log")
                if "address already in use" in log and attempt < ATTEMPTS:
                    continue
                said = "\n".join([f"kube-apiserver: {problem}", log, _tail(directory / "etcd.log", 5)])
                raise LabError(said) from None
            stack.enter_context(server)
            break
        yield kube


def _spawn(stack: ExitStack, name: str, command: Sequence[str], directory: Path) -> subprocess.Popen[bytes]:
    with (directory / f"{name}.log").open("wb") as log:
        process = subprocess.Popen(
            ["setpriv", "--pdeathsig", "KILL", "--", *command],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            # no proxy stands between a server and its own loopback, whatever the environment says
            env={"PATH": os.environ.get("PATH", os.defpath), "HOME": str(directory)},
            start_new_session=True,  # a Ctrl-C is for whoever called us, who then ends this in order
        )
    stack.callback(_stop, process)
    return process


def _stop(process: subprocess.Popen[bytes]) -> None:
    # What they hold is forgotten anyway, and the API server would first wait for its watches to end.
    process.send_signal(signal.SIGKILL)
    process.wait(STOP_PATIENCE)


def _alive(process: subprocess.Popen[bytes]) -> bool:
    return process.poll() is None


def _free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
    return port


def _tail(log: Path, lines: int = 15) -> str:
    return "\n".join(log.read_text(encoding="utf-8", errors="replace").splitlines()[-lines:])


def _url(address: str, port: int) -> str:
    return f"https://[{address}]:{port}" if ":" in address else f"https://{address}:{port}"
