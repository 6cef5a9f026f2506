"""`crier support-bundle`: one file with all that somebody needs to help, and no secret in it."""

from __future__ import annotations

import io
import json
import re
import tarfile
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import msgspec
import trio

from crier.cli import _common as common
from crier.cli._common import Exit, Session
from crier.cli.doctor import examine
from crier.inspect.gather import OUR_PODS, Gatherer, Picture, Wish
from crier.inspect.overview import overview, stamp
from crier.inspect.records import ProgramPod
from crier.kube import resources
from crier.kube.errors import ApiError
from crier.kube.resources import Resource

SUMMARY = "one file with all that somebody needs to help, secrets removed"
MAX_LOG: Final = 4 * 1024 * 1024
LOG_LINES: Final = 5000
REMOVED: Final = "(removed)"
_SECRET_KEY: Final = re.compile(
    r"password|passwd|secret|token|credential|private|auth|apikey|api_key", re.IGNORECASE
)
_SECRET_TEXT: Final = (
    re.compile(r"(?i)(bearer\s+)[A-Za-z0-9._~+/=-]{8,}"),
    re.compile(r"(?i)((?:password|passwd|secret|token|authorization)[\"']?\s*[=:]\s*[\"']?)[^\s\"',}]{4,}"),
    re.compile(r"(://[^/\s:@]*:)[^/\s@]+(?=@)"),  # as in HTTPS_PROXY
    re.compile(r"()eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]*"),
    re.compile(r"()-----BEGIN [A-Z ]*PRIVATE KEY-----.*?-----END [A-Z ]*PRIVATE KEY-----", re.DOTALL),
)
_LAST_APPLIED: Final = "kubectl.kubernetes.io/last-applied-configuration"
KINDS: Final[tuple[tuple[Resource, bool], ...]] = (
    (resources.NODES, False),
    (resources.SERVICES, False),
    (resources.ENDPOINT_SLICES, False),
    (resources.IP_ADDRESS_POOLS, True),
    (resources.L2_ADVERTISEMENTS, True),
    (resources.BGP_ADVERTISEMENTS, True),
    (resources.BGP_PEERS, True),
    (resources.BFD_PROFILES, True),
    (resources.COMMUNITIES, True),
    (resources.SERVICE_L2_STATUSES, True),
    (resources.SERVICE_BGP_STATUSES, True),
    (resources.CONFIGURATION_STATES, True),
    (resources.PODS, True),
    (resources.DAEMON_SETS, True),
    (resources.DEPLOYMENTS, True),
)
"""And whether only those of our namespace; Secrets and ConfigMaps are not among them."""


def main(argv: list[str]) -> int:
    flags = common.parser("support-bundle", SUMMARY)
    flags.add_argument(
        "--output", type=Path, metavar="FILE", help="crier-support-TIME.tar.gz in this directory otherwise"
    )
    options = flags.parse_args(argv)
    return common.run(options, flags.prog, show)


async def show(session: Session) -> Exit:
    made_at = time.time()
    name = time.strftime("crier-support-%Y%m%d-%H%M%S", time.gmtime(made_at))
    target: Path = session.options.output or Path(f"{name}.tar.gz")
    files, gaps = await collect(session)
    files["README.txt"] = _readme(made_at, gaps).encode()
    try:
        await trio.to_thread.run_sync(write, target, name, files, made_at)
    except OSError as problem:
        raise common.Complaint(Exit.USAGE, f"--output: {target}: {problem.strerror}") from None
    if session.options.json:
        session.show("SupportBundle", {"file": str(target), "files": sorted(files), "gaps": gaps})
    else:
        session.say(f"{target}: {len(files)} files.  Look through it before you give it away.")
        for what, why in gaps.items():
            session.say(f"left out: {what}: {why}")
    return Exit.PARTIAL if gaps else Exit.OK


async def collect(session: Session) -> tuple[dict[str, bytes], dict[str, str]]:
    """The files by name, and what could not be had and why."""
    files: dict[str, bytes] = {}
    gaps: dict[str, str] = {}
    picture = await Gatherer(session.api, session.namespace, session.reach).gather(Wish(why=True, host=True))
    gaps.update(
        {f"asked {each.node or each.pod.name}": each.silence for each in picture.speakers if each.silence}
    )
    files["status.json"] = _json(overview(picture))
    files["doctor.json"] = _json(await examine(session, picture))
    files["events.json"] = _json(picture.events)
    for each in picture.speakers:
        if each.says is not None:
            files[f"speakers/{each.node}.json"] = _json(
                {"status": each.says, "why": each.why, "host": each.host, "skew": each.skew}
            )
    async with trio.open_nursery() as nursery:
        for kind, ours in KINDS:
            nursery.start_soon(_objects, session, kind, ours, files, gaps)
        for pod in _pods(picture):
            for log in logs_of(pod):
                nursery.start_soon(_log, session, log, files, gaps)
    return files, dict(sorted(gaps.items()))


def _pods(picture: Picture) -> Iterable[ProgramPod]:
    return [*(each.pod for each in picture.speakers), *(each.pod for each in picture.controllers)]


@dataclass(frozen=True, slots=True)
class Log:
    """What one container has written, or wrote before it was last restarted."""

    file: str
    pod: str
    query: str
    certain: bool
    """Whether there must be one: of a pod's containers any may be the one that was restarted."""


def logs_of(pod: ProgramPod) -> list[Log]:
    """The API wants the container named where there are several."""
    found = []
    for container in pod.containers or ("",):
        file = f"logs/{pod.name}" + (f".{container}" if len(pod.containers) > 1 else "")
        query = f"tailLines={LOG_LINES}&limitBytes={MAX_LOG}" + (
            f"&container={container}" if container else ""
        )
        found.append(Log(f"{file}.log", pod.name, query, True))
        if pod.restarts:
            found.append(Log(f"{file}.previous.log", pod.name, f"{query}&previous=true", False))
    return found


async def _objects(
    session: Session, kind: Resource, ours: bool, files: dict[str, bytes], gaps: dict[str, str]
) -> None:
    found: list[Any] = []
    try:
        for selector in OUR_PODS if kind is resources.PODS else ("",):
            pages = session.api.list_pages(
                kind, namespace=session.namespace if ours else None, label_selector=selector
            )
            async for page in pages:
                found += [msgspec.json.decode(item) for item in page.items]
    except ApiError as problem:
        if not problem.status:
            raise
        gaps[kind.plural] = problem.message
        return
    files[f"objects/{kind.plural}.json"] = _json([cleaned(each) for each in found])


async def _log(session: Session, log: Log, files: dict[str, bytes], gaps: dict[str, str]) -> None:
    path = resources.PODS.path(session.namespace, log.pod, f"log?{log.query}")
    try:
        data = await session.api.fetch(path, headers={"Accept": "*/*"})
    except ApiError as problem:
        if log.certain:
            gaps[log.file] = problem.message
        return
    files[log.file] = scrubbed(data.decode("utf-8", "replace")).encode()


def cleaned(thing: Any) -> Any:
    """Without anything that looks like a secret.  What is kept are names of objects, never their content."""
    if isinstance(thing, dict):
        kept = {}
        for key, value in thing.items():
            if key in ("managedFields", _LAST_APPLIED):
                continue  # the latter is the whole object once more, secrets and all, as one text
            if _SECRET_KEY.search(str(key)) and not isinstance(value, (dict, list, bool)):
                kept[key] = value if _is_reference(str(key), value) else REMOVED
            else:
                kept[key] = cleaned(value)
        if _SECRET_KEY.search(str(thing.get("name", ""))) and "value" in thing:
            kept["value"] = REMOVED  # an environment variable
        return kept
    if isinstance(thing, list):
        return [cleaned(each) for each in thing]
    return scrubbed(thing) if isinstance(thing, str) else thing


def _is_reference(key: str, value: Any) -> bool:
    return isinstance(value, str) and key in ("secretName", "serviceAccountName")


def scrubbed(text: str) -> str:
    for pattern in _SECRET_TEXT:
        text = pattern.sub(rf"\g<1>{REMOVED}", text)
    return text


def write(target: Path, name: str, files: dict[str, bytes], at: float) -> None:
    """Only its owner may read it.  Raises OSError."""
    target.touch(mode=0o600)
    if target.is_file():  # one that was there may be readable by others
        target.chmod(0o600)
    with tarfile.open(target, "w:gz") as bundle:
        for path, data in sorted(files.items()):
            info = tarfile.TarInfo(f"{name}/{path}")
            info.size, info.mtime, info.mode = len(data), int(at), 0o600
            bundle.addfile(info, io.BytesIO(data))


def _json(thing: Any) -> bytes:
    return json.dumps(cleaned(msgspec.to_builtins(thing)), indent=1).encode() + b"\n"


def _readme(at: float, gaps: dict[str, str]) -> str:
    missing = "".join(f"  {what}: {why}\n" for what, why in gaps.items()) or "  nothing\n"
    return (
        f"Made by `crier support-bundle` at {stamp(at)}.\n\n"
        "Secrets and ConfigMaps were not read; what looks like a password, a token or a key was removed.\n"
        "Names and addresses of nodes, Services and pods are in it.\n\n"
        f"Could not be had:\n{missing}"
    )
