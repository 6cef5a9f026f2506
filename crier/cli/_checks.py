"""What `crier doctor` makes of the cluster's objects and of what its programs say.  Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

from crier.inspect.gather import Picture
from crier.inspect.overview import ESTABLISHED, node_lines, pool_lines, vip_lines
from crier.kube.model.addresses import parse_address
from crier.kube.model.advertisement import parse_l2_advertisements
from crier.kube.model.errors import ConfigError
from crier.kube.model.pool import PoolIndex, parse_pools

State: TypeAlias = Literal["ok", "warn", "fail", "skipped"]
LATE_MS: Final = 500.0
SHARING: Final = "allow-shared-ip"
_VIRTUAL: Final = re.compile(
    r"^(docker|cbr|dummy|virbr|lxcbr|veth|cali|tunl|flannel|kube-ipvs|cni|nodelocaldns|lxc)"
)
"""What container networks call their interfaces; an address has no business there."""


@dataclass(frozen=True, slots=True)
class Check:
    name: str
    """Stable: for scripts."""
    state: State
    text: str
    advice: str = ""
    """What to do; "" when there is nothing to do."""


def of_cluster(picture: Picture) -> Iterator[Check]:
    yield from _kinds(picture)
    yield from _configuration(picture)
    yield from _programs(picture)
    yield from _services(picture)
    yield from _duplicates(picture)


def _kinds(picture: Picture) -> Iterator[Check]:
    missing = [plural for plural, why in picture.gaps.items() if "CRDs" in why]
    if missing:
        yield Check(
            "crds", "fail", f"the API does not know {', '.join(missing)}", "kubectl apply -k manifests/crds"
        )
    else:
        yield Check("crds", "ok", "every kind is served")
    for about, why in picture.faults.items():
        yield Check("objects", "fail", f"{about}: {why}", "kubectl edit it")


def _configuration(picture: Picture) -> Iterator[Check]:
    bad = [state for state in picture.states if state.error_summary]
    for state in bad:
        yield Check(
            "configuration", "fail", f"{state.name}: {state.error_summary}",
            "mend the object it names; until then the configuration before it is in force",
        )  # fmt: skip
    if {"ipaddresspools", "l2advertisements"} & picture.gaps.keys():
        yield Check("configuration", "skipped", "pools or advertisements could not be read")
        return
    if not picture.pools:
        yield Check("pools", "warn", "there is no IPAddressPool, so no Service gets an address", "create one")
        return
    try:
        index = PoolIndex(parse_pools(picture.pools.values()))
        advertisements = parse_l2_advertisements(picture.l2_advertisements)
    except ConfigError as problem:
        yield Check("configuration", "fail", str(problem), "mend the object it names")
        return
    if not bad:
        yield Check(
            "configuration",
            "ok",
            f"{len(index.pools)} pool{'s' * (len(index.pools) != 1)}, in force everywhere",
        )
    for name, pool in sorted(index.pools.items()):
        if not any(ad.selects_pool(pool) for ad in advertisements) and not picture.bgp_advertisements:
            yield Check(
                "advertisements", "warn", f"no advertisement selects pool {name}: its addresses go nowhere",
                "create an L2Advertisement (an empty spec selects every pool)",
            )  # fmt: skip
    for line in pool_lines(picture):
        if line.assigned and not line.available:
            yield Check("pools", "warn", f"pool {line.name} is full", "add addresses to it")


def _programs(picture: Picture) -> Iterator[Check]:
    if "pods" in picture.gaps:
        yield Check("programs", "skipped", f"pods could not be read: {picture.gaps['pods']}")
        return
    yield _controllers(picture)
    if not picture.speakers:
        yield Check(
            "speakers", "fail", f"no speaker's pod in namespace {picture.namespace}", "see docs, or -n"
        )
        return
    unready = [each.pod.name for each in picture.speakers if not each.pod.ready]
    if unready:
        yield Check(
            "speakers", "fail", f"not ready: {', '.join(unready)}", "kubectl logs, kubectl describe pod"
        )
    silent = [each for each in picture.speakers if each.silence]
    for each in silent:
        yield Check(
            "speakers",
            "warn",
            f"{each.node}: {each.silence}",
            "is the node up? is the speaker MetalLB's, or stuck? is port 9120 closed?",
        )
    for line in node_lines(picture, ()):
        for session in line.bgp:
            if session.state != ESTABLISHED:
                yield Check(
                    "bgp", "fail",
                    f"{line.name}: session with {session.peer} is {session.state} {session.note}".strip(),
                    "compare the BGPPeer with the router's configuration",
                )  # fmt: skip
    if not unready and not silent:
        yield Check("speakers", "ok", f"{len(picture.speakers)} are ready and answer")
    versions = {each.says.version for each in picture.speakers if each.says}
    if len(versions) > 1:
        yield Check("versions", "warn", f"speakers of different versions: {', '.join(sorted(versions))}")
    for each in picture.speakers:
        if each.says and each.says.reflex.loop_late_max * 1000 > LATE_MS:
            late = each.says.reflex.loop_late_max * 1000
            yield Check(
                "lateness", "warn", f"{each.node}: the event loop was {late:.0f} ms late once",
                "the node has too much to do: give the speaker a CPU request, and CAP_SYS_NICE",
            )  # fmt: skip


def _controllers(picture: Picture) -> Check:
    if not picture.controllers:
        return Check(
            "controller", "fail", "there is no pod of the controller", "kubectl get deployment controller"
        )
    leaders = [each.pod.name for each in picture.controllers if each.says and each.says.leading]
    if leaders:
        return Check("controller", "ok", f"{leaders[0]} leads")
    if all(each.silence for each in picture.controllers):
        return Check("controller", "warn", f"could not be asked: {picture.controllers[0].silence}")
    return Check("controller", "fail", "none leads", "kubectl -n NAMESPACE get lease crier-controller")


def _services(picture: Picture) -> Iterator[Check]:
    if "services" in picture.gaps:
        yield Check("services", "skipped", f"services could not be read: {picture.gaps['services']}")
        return
    waiting = sorted(
        key
        for key, each in picture.services.items()
        if each.is_load_balancer and not each.load_balancer_class and not any(each.ingress_ips)
    )
    vips = vip_lines(picture)
    sick = [vip for vip in vips if vip.health in ("nobody", "several", "amiss")]
    for key in waiting:
        yield Check("services", "fail", f"{key} has no address", f"crier why {key}")
    for vip in sick:
        yield Check(
            "answers",
            "fail",
            f"{vip.address}: {vip.note or 'nobody answers'}",
            f"crier why {vip.services[0]}",
        )
    if not waiting:
        yield Check("services", "ok", "every Service of type LoadBalancer has its address")
    if vips and not sick:
        yield Check("answers", "ok", f"{len(vips)} VIPs, each answered for by the node whose turn it is")


def _duplicates(picture: Picture) -> Iterator[Check]:
    found = [*_claimed(picture), *_node_addresses(picture), *_unshared(picture)]
    yield from found
    if not found:
        yield Check("duplicates", "ok", "no address is used twice, as far as speakers hear")


def _claimed(picture: Picture) -> Iterator[Check]:
    for vip in vip_lines(picture):
        if vip.health == "conflict":
            yield Check(
                "duplicates", "fail", f"{vip.address}: {vip.note}",
                "find the host by its hardware address and give it another, or take this one out of the pool",
            )  # fmt: skip


def _node_addresses(picture: Picture) -> Iterator[Check]:
    try:
        index = PoolIndex(parse_pools(picture.pools.values()))
    except ConfigError:
        return
    for name, node in sorted(picture.nodes.items()):
        for text in node.internal_ips:
            try:
                pool = index.locate(parse_address(text))
            except ValueError:
                continue
            if pool is not None:
                yield Check(
                    "duplicates", "fail", f"pool {pool.name} has {text}, which is node {name}'s own address",
                    "take it out of the pool before a Service gets it",
                )  # fmt: skip


def _unshared(picture: Picture) -> Iterator[Check]:
    for address, keys in sorted(picture.vips.items()):
        if len(keys) > 1 and len({_sharing(picture, key) for key in keys} | {""}) != 2:
            yield Check(
                "duplicates", "fail", f"{address} is the address of {', '.join(keys)}, which do not share it",
                f"give them the same annotation metallb.io/{SHARING}, or one of them another address",
            )  # fmt: skip


def _sharing(picture: Picture, key: str) -> str:
    return picture.services[key].annotation(SHARING)


# ------------------------------------------------------------------------------------------ the nodes


def of_nodes(picture: Picture, kube_proxy: str) -> Iterator[Check]:
    """`kube_proxy`: its configuration file from its ConfigMap, or ""."""
    hosts = [each for each in picture.speakers if each.host]
    for each in picture.speakers:
        if each.host_silence:
            yield Check(
                "nodes",
                "warn",
                f"{each.node} says nothing of its node: {each.host_silence}",
                "a longer --timeout; its speaker waits for ports of others that do not answer",
            )
    if not hosts:
        yield Check("nodes", "skipped", "no speaker could be asked about its node")
        return
    yield from _gossip(picture)
    yield from _strict_arp(picture, kube_proxy)
    yield from _rp_filter(picture)
    yield from _clocks(picture)
    yield from _interfaces(picture)


def _gossip(picture: Picture) -> Iterator[Check]:
    """Port 7946, every speaker to every other, so each pair both ways."""
    dead = {line.name for line in node_lines(picture, ()) if line.state in ("dead", "left")}
    for how in ("tcp", "udp"):
        failed: list[str] = []
        tried = 0
        for each in picture.speakers:
            for hail in each.host.gossip if each.host else ():
                if hail.name in dead:
                    continue
                tried += 1
                why = hail.tcp if how == "tcp" else hail.udp
                if why:
                    failed.append(f"{each.node} -> {hail.name} {hail.address}:{hail.port}: {why}")
        for text in failed:
            yield Check(
                f"gossip-{how}", "fail", text, f"open the port for {how.upper()} between all nodes, both ways"
            )
        if tried and not failed:
            yield Check(f"gossip-{how}", "ok", f"{tried} ways between speakers, all open")
        if not tried:
            yield Check(f"gossip-{how}", "skipped", "there are no two speakers that live")
    for name in sorted(dead):
        yield Check(
            "gossip", "warn", f"{name} is dead or has left, so its port was not tried", f"look at {name}"
        )


def _strict_arp(picture: Picture, kube_proxy: str) -> Iterator[Check]:
    configured = re.search(r"^\s*mode:\s*\"?([a-z]+)", kube_proxy, re.MULTILINE)
    strict = re.search(r"^\s*strictARP:\s*true", kube_proxy, re.MULTILINE) is not None
    modes = {each.node: each.host.kube_proxy for each in picture.speakers if each.host}
    if not any(modes.values()):
        if configured is None:
            yield Check(
                "kube-proxy", "skipped", "nobody says in which mode kube-proxy runs, or there is none"
            )
            return
        modes = dict.fromkeys(modes, configured[1])
    ipvs = sorted(node for node, mode in modes.items() if mode == "ipvs")
    if not ipvs:
        yield Check("kube-proxy", "ok", f"mode {', '.join(sorted({m for m in modes.values() if m}))}")
        return
    loose = []
    for each in picture.speakers:
        every = each.host.sysctls.get("all", {}) if each.host else {}
        if each.node in ipvs and (every.get("arp_ignore", 0) < 1 or every.get("arp_announce", 0) < 2):
            loose.append(each.node)
    if loose and not strict:
        yield Check(
            "kube-proxy", "fail",
            f"mode ipvs without strictARP: every node answers for every VIP ({', '.join(loose)})",
            "set ipvs.strictARP: true in kube-proxy's ConfigMap and restart it",
        )  # fmt: skip
    elif loose:
        yield Check(
            "kube-proxy",
            "warn",
            f"strictARP is set but not in force on {', '.join(loose)}",
            "restart kube-proxy",
        )
    else:
        yield Check("kube-proxy", "ok", "mode ipvs with strictARP")


def _rp_filter(picture: Picture) -> Iterator[Check]:
    strict: list[str] = []
    for each in picture.speakers:
        if each.host is None:
            continue
        names = [
            i.name for i in each.host.interfaces if i.up and i.name != "lo" and not _VIRTUAL.match(i.name)
        ]
        floor = each.host.sysctls.get("all", {}).get("rp_filter", 0)
        hit = [n for n in names if max(floor, each.host.sysctls.get(n, {}).get("rp_filter", 0)) == 1]
        if len(names) > 1 and hit:
            strict.append(f"{each.node} ({', '.join(hit)})")
    if strict:
        yield Check(
            "rp_filter", "warn",
            "strict on nodes with several networks: what comes in by one and leaves by another is dropped: "
            f"{', '.join(strict)}",
            "sysctl net.ipv4.conf.all.rp_filter=2",
        )  # fmt: skip
    else:
        yield Check("rp_filter", "ok", "no node drops what comes by another way than it leaves")


def _clocks(picture: Picture) -> Iterator[Check]:
    off = [
        (each.node, each.skew) for each in picture.speakers if each.skew is not None and abs(each.skew) > 1.0
    ]
    for node, skew in off:
        state: State = "fail" if abs(skew) > 30 else "warn"
        yield Check(
            "clock", state, f"{node} is {skew:+.1f} s off this machine", "run chrony or systemd-timesyncd"
        )
    if not off:
        yield Check("clock", "ok", "no node's clock is more than 1 s off this machine's")


def _interfaces(picture: Picture) -> Iterator[Check]:
    fine = True
    for each in picture.speakers:
        if each.host is None:
            continue
        patterns = list(_compiled(each.host.exclude_l2))
        names = [i.name for i in each.host.interfaces if i.name != "lo"]
        left = [name for name in names if not any(pattern.search(name) for pattern in patterns)]
        inside = [name for name in left if _VIRTUAL.match(name)]
        if names and not left:
            fine = False
            yield Check(
                "interfaces", "fail", f"{each.node}: every interface is excluded ({', '.join(names)})",
                "mend the ConfigMap metallb-excludel2",
            )  # fmt: skip
        elif inside:
            fine = False
            shown = ", ".join(inside[:5]) + (" ..." if len(inside) > 5 else "")
            yield Check(
                "interfaces", "warn", f"{each.node}: announces to the container network, too ({shown})",
                "exclude them in the ConfigMap metallb-excludel2",
            )  # fmt: skip
    missing = sorted(
        {
            f"{each.node} for {vip.address}"
            for each in picture.speakers
            for vip in (each.says.vips if each.says else ())
            if vip.missing_interfaces
        }
    )
    if missing:
        fine = False
        yield Check(
            "interfaces", "fail", f"no interface an L2Advertisement names exists on {', '.join(missing)}",
            "mend its spec.interfaces, or its nodeSelectors",
        )  # fmt: skip
    if fine:
        yield Check("interfaces", "ok", "each node announces on its own networks, and on those alone")


def _compiled(patterns: Iterable[str]) -> Iterator[re.Pattern[str]]:
    for text in patterns:
        try:
            yield re.compile(text)
        except re.error:
            continue  # Go's regular expressions; the speaker says so itself when it cannot use one
