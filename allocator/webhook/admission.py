"""Whether an object may be what somebody wants it to be, beside all others of its kind; pure.

The rules are those that the programs themselves hold configuration against, and the words are theirs.  What
is refused is what a change brings in: a fault that was there before keeps nobody from mending another one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import msgspec

from allocator.review import check_peers
from allocator.webhook.wire import Admission, Verdict
from crier.kube.model.advertisement import L2AdvertisementObject, parse_l2_advertisements
from crier.kube.model.bfdprofile import BfdProfileObject, parse_bfd_profiles
from crier.kube.model.bgpadvertisement import BgpAdvertisementObject, parse_bgp_advertisements
from crier.kube.model.bgppeer import BgpPeerObject
from crier.kube.model.community import CommunityObject, parse_communities
from crier.kube.model.errors import ConfigError, DecodeError
from crier.kube.model.node import Node
from crier.kube.model.pool import Pool, PoolObject, parse_pools
from crier.kube.resources import (
    BFD_PROFILES,
    BGP_ADVERTISEMENTS,
    BGP_PEERS,
    COMMUNITIES,
    IP_ADDRESS_POOLS,
    L2_ADVERTISEMENTS,
    NODES,
    Resource,
)

Existing: TypeAlias = Mapping[Resource, Sequence[Any]]
"""Decoded objects."""

DISABLE_MP: Final = "disable mp is deprecated and has no effect since it's the default behavior now"

DECODERS: Final[Mapping[Resource, Callable[[bytes], Any]]] = {
    IP_ADDRESS_POOLS: PoolObject.decode,
    L2_ADVERTISEMENTS: L2AdvertisementObject.decode,
    BGP_ADVERTISEMENTS: BgpAdvertisementObject.decode,
    BGP_PEERS: BgpPeerObject.decode,
    BFD_PROFILES: BfdProfileObject.decode,
    COMMUNITIES: CommunityObject.decode,
    NODES: Node.decode,
}


@dataclass(frozen=True, slots=True)
class Rule:
    """What one path of the webhook is asked about."""

    resource: Resource
    check: Callable[[Sequence[Any], Existing], object]
    """Raises ConfigError when objects of the kind cannot stand together, beside the others that exist."""
    needs: tuple[Resource, ...]
    """Kinds to read first."""
    operations: tuple[str, ...] = ("CREATE", "UPDATE")


def judge(rule: Rule, question: Admission, existing: Existing, namespace: str) -> Verdict:
    """`existing`: what there is of the kinds that the rule needs.  `namespace`: ours."""
    if question.operation not in rule.operations:
        return Verdict(True)
    if question.operation == "DELETE":
        return _judge_deletion(question, existing)
    if question.operation == "CREATE" and question.namespace != namespace:
        return Verdict(False, f"resource must be created in {namespace} namespace")
    try:
        candidate = DECODERS[rule.resource](question.object)
    except DecodeError as problem:
        return Verdict(False, f"{rule.resource.kind} {question.name}: {problem}")
    others = [each for each in existing[rule.resource] if each.name != candidate.name]
    before = _problems(rule, existing[rule.resource], existing)
    after = _problems(rule, [*others, candidate], existing)
    news = [problem for problem in after if problem not in before]
    return Verdict(not news, "; ".join(news), _warnings(rule, question))


def _judge_deletion(question: Admission, existing: Existing) -> Verdict:
    """Only BFDProfiles are asked about."""
    for peer in existing[BGP_PEERS]:
        if peer.spec.bfd_profile == question.name:
            return Verdict(False, f"failed to delete BFDProfile {question.name}, used by BGPPeer {peer.name}")
    return Verdict(True)


def _problems(rule: Rule, things: Sequence[Any], existing: Existing) -> tuple[str, ...]:
    try:
        rule.check(things, existing)
    except ConfigError as problem:
        return problem.problems
    return ()


class _DisableMpSpecWire(msgspec.Struct, frozen=True):
    disable_mp: Any = msgspec.field(default=None, name="disableMP")


class _DisableMpWire(msgspec.Struct, frozen=True):
    spec: _DisableMpSpecWire | None = None


_DISABLE_MP_DECODER: Final = msgspec.json.Decoder(_DisableMpWire)


def _warnings(rule: Rule, question: Admission) -> tuple[str, ...]:
    if rule.resource is not BGP_PEERS:
        return ()
    spec = _DISABLE_MP_DECODER.decode(question.object).spec
    return (DISABLE_MP,) if spec is not None and spec.disable_mp is True else ()


def _good_pools(objects: Iterable[PoolObject]) -> tuple[Pool, ...]:
    """Those without a fault of their own, which is another one's to tell."""
    good: list[Pool] = []
    for thing in objects:
        try:
            good += parse_pools([thing])
        except ConfigError:
            continue
    return tuple(good)


def _check_bgp_advertisements(things: Sequence[Any], existing: Existing) -> None:
    nodes = {node.name: node.labels for node in existing[NODES]}
    # an alias may be defined later: names that mean nothing yet are no fault
    parse_bgp_advertisements(things, _good_pools(existing[IP_ADDRESS_POOLS]), {}, nodes)


def _path(kind: str, version: str = "v1beta1") -> str:
    return f"/validate-metallb-io-{version}-{kind}"


RULES: Final[Mapping[str, Rule]] = {
    _path("ipaddresspool"): Rule(
        IP_ADDRESS_POOLS, lambda things, _: parse_pools(things), (IP_ADDRESS_POOLS,)
    ),
    _path("l2advertisement"): Rule(
        L2_ADVERTISEMENTS, lambda things, _: parse_l2_advertisements(things), (L2_ADVERTISEMENTS,)
    ),
    _path("bgpadvertisement"): Rule(
        BGP_ADVERTISEMENTS, _check_bgp_advertisements, (BGP_ADVERTISEMENTS, IP_ADDRESS_POOLS, NODES)
    ),
    _path("community"): Rule(COMMUNITIES, lambda things, _: parse_communities(things), (COMMUNITIES,)),
    _path("bgppeer", "v1beta2"): Rule(BGP_PEERS, lambda things, _: check_peers(things), (BGP_PEERS,)),
    _path("bfdprofile"): Rule(
        BFD_PROFILES,
        lambda things, _: parse_bfd_profiles(things),
        (BFD_PROFILES, BGP_PEERS),
        ("CREATE", "UPDATE", "DELETE"),
    ),
}
"""By path; the paths are MetalLB's."""
