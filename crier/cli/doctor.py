"""`crier doctor`: everything that commonly goes wrong, looked at, each with what to do."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any, Final

import msgspec
import trio

from crier.cli import _checks as checks
from crier.cli import _common as common
from crier.cli import _tables as tables
from crier.cli._checks import Check, State
from crier.cli._common import Exit, Session
from crier.cli.status import partial
from crier.inspect.gather import Gatherer, Picture, Wish
from crier.inspect.reach import VIEWER
from crier.kube.errors import ApiError, Forbidden, NotFound
from crier.kube.model.wire import decode_meta
from crier.kube.resources import (
    BFD_PROFILES,
    BGP_ADVERTISEMENTS,
    BGP_PEERS,
    COMMUNITIES,
    CONFIG_MAPS,
    IP_ADDRESS_POOLS,
    L2_ADVERTISEMENTS,
    SELF_SUBJECT_ACCESS_REVIEWS,
)

SUMMARY = "look for everything that commonly goes wrong, and say what to do"
EPILOG: Final = """\
Each check is ok, warn, fail or skipped.  The exit status is 1 when one fails.
"""
ORDER: Final[tuple[State, ...]] = ("fail", "warn", "skipped", "ok")
CONFIGURATION: Final = (
    IP_ADDRESS_POOLS, L2_ADVERTISEMENTS, BGP_ADVERTISEMENTS, BGP_PEERS, BFD_PROFILES, COMMUNITIES,
)  # fmt: skip
CRIER_KINDS: Final = (
    "ipaddresspools", "l2advertisements", "bgpadvertisements", "bgppeers", "servicel2statuses",
    "servicebgpstatuses", "configurationstates",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Right:
    """A permission that a verb of ours needs."""

    verb: str
    group: str
    resource: str
    ours: bool
    """In Crier's own namespace; else in the whole cluster."""
    needed_by: str
    name: str = ""

    def __str__(self) -> str:
        return f"{self.verb} {self.resource}"


RIGHTS: Final = (
    *(Right("list", "", kind, False, "every verb") for kind in ("services", "nodes", "events")),
    Right("list", "discovery.k8s.io", "endpointslices", False, "why, simulate, drain"),
    *(Right("list", "metallb.io", kind, True, "every verb") for kind in CRIER_KINDS),
    Right("list", "", "pods", True, "every verb that asks speakers"),
    Right("get", "", "pods/proxy", True, "every verb that asks speakers"),
    Right("create", "", "serviceaccounts/token", True, "every verb that asks speakers", VIEWER),
    Right("get", "", "pods/log", True, "support-bundle"),
    Right("patch", "", "nodes", False, "drain, undrain"),
)


@dataclass(frozen=True, slots=True)
class Report:
    checks: tuple[Check, ...]
    counts: dict[str, int]


def main(argv: list[str]) -> int:
    flags = common.parser("doctor", SUMMARY, epilog=EPILOG)
    options = flags.parse_args(argv)
    return common.run(options, flags.prog, show)


async def show(session: Session) -> Exit:
    picture = await Gatherer(session.api, session.namespace, session.reach).gather(Wish(host=True))
    found = await examine(session, picture)
    if session.options.json:
        session.show("Doctor", found)
    else:
        table = tables.table("", "CHECK", "WHAT", "WHAT TO DO")
        for each in sorted(found.checks, key=lambda check: ORDER.index(check.state)):
            table.add_row(tables.mark(each.state), each.name, each.text, each.advice)
        session.out.print(table)
        counted = ", ".join(f"{count} {state}" for state, count in found.counts.items() if count)
        session.out.print()
        session.say(counted)
    if found.counts["fail"]:
        return Exit.WRONG
    return Exit.PARTIAL if partial(picture) else Exit.OK


async def examine(session: Session, picture: Picture) -> Report:
    """`picture` with what speakers say of their hosts."""
    found: list[Check] = []
    kube_proxy = ""

    async def ask_rights() -> None:
        found.extend(await permissions(session))

    async def ask_kube_proxy() -> None:
        nonlocal kube_proxy
        kube_proxy = await _kube_proxy(session)

    async def ask_elsewhere() -> None:
        found.extend(await elsewhere(session))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(ask_rights)
        nursery.start_soon(ask_kube_proxy)
        nursery.start_soon(ask_elsewhere)
    found += checks.of_cluster(picture)
    found += checks.of_nodes(picture, kube_proxy)
    counted = Counter(each.state for each in found)
    return Report(tuple(found), {state: counted[state] for state in ORDER})


async def permissions(session: Session) -> list[Check]:
    """By SelfSubjectAccessReview."""
    refused: list[Right] = []
    problem = ""

    async def review(right: Right) -> None:
        nonlocal problem
        resource, _, subresource = right.resource.partition("/")
        attributes = {
            "verb": right.verb,
            "group": right.group,
            "resource": resource,
            "subresource": subresource,
            "namespace": session.namespace if right.ours else "",
            "name": right.name,
        }
        kind = SELF_SUBJECT_ACCESS_REVIEWS
        body = {
            "apiVersion": kind.api_version,
            "kind": kind.kind,
            "metadata": {},
            "spec": {"resourceAttributes": attributes},
        }
        try:
            answer = msgspec.json.decode(await session.api.create(kind, body), type=dict[str, Any])
        except ApiError as refusal:
            if not refusal.status:
                raise
            problem = refusal.message
            return
        if not (answer.get("status") or {}).get("allowed"):
            refused.append(right)

    async with trio.open_nursery() as nursery:
        for right in RIGHTS:
            nursery.start_soon(review, right)
    if problem:
        return [Check("permissions", "skipped", f"the API does not say: {problem}")]
    if not refused:
        return [Check("permissions", "ok", "you may do all that crier does")]
    return [
        Check(
            "permissions",
            "warn",
            f"you may not {right}, which is needed by {right.needed_by}",
            "bind the roles crier-viewer or crier-operator (docs/cli.md)",
        )
        for right in sorted(refused, key=str)
    ]


async def elsewhere(session: Session) -> list[Check]:
    """Configuration that no program reads, because it is not in their namespace."""
    found: list[Check] = []
    for resource in CONFIGURATION:
        try:
            async for page in session.api.list_pages(resource):
                metas = [decode_meta(item) for item in page.items]
                found += [
                    Check(
                        "namespace", "warn",
                        f"{resource.kind} {meta.namespace}/{meta.name} is looked at by nobody: Crier is in "
                        f"namespace {session.namespace}",
                        f"create it in {session.namespace} instead, or -n if Crier is in {meta.namespace}",
                    )
                    for meta in metas
                    if meta.namespace != session.namespace
                ]  # fmt: skip
        except Forbidden:
            return [Check("namespace", "skipped", f"you may not list {resource.plural} of all namespaces")]
        except NotFound:
            continue  # a kind that is not served: `crds` tells
    return found or [Check("namespace", "ok", "no configuration is in another namespace than Crier's")]


async def _kube_proxy(session: Session) -> str:
    """kube-proxy's configuration as kubeadm keeps it; "" when it is not there, or not ours to read."""
    try:
        found = msgspec.json.decode(
            await session.api.get(CONFIG_MAPS, "kube-proxy", namespace="kube-system"), type=dict[str, Any]
        )
    except ApiError:
        return ""
    data = found.get("data")
    return str(data.get("config.conf", "")) if isinstance(data, dict) else ""
