"""What one service has, what it asks for, and what it gets: MetalLB's contract as a table."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from crier.kube.model.annotations import ALLOCATED_FROM
from crier.kube.model.pool import PoolObject
from crier.kube.model.service import Service
from tests.allocator.worlds import pool, service

ONE = pool("one", "192.0.2.0/31")
TWO = pool("two", "198.51.100.16/30", autoAssign=False)
SIX = pool("six", "2001:db8::/127")
DUAL = pool("dual", "203.0.113.0/31", "2001:db8:1::/127", autoAssign=False)
BOTH = pool("both", "203.0.113.0/31", "2001:db8:1::/127")
GOLD = {"serviceAllocation": {"namespaces": ["gold"], "priority": 10}}
POOLS = (ONE, TWO, SIX, DUAL)


def lb(family: str = "v4", *ingress: str, ip: str = "", **annotations: str) -> Service:
    """default/s; annotations by what follows the prefix, `-` as `_`, `ips` for loadBalancerIPs."""
    names = {"ips": "loadBalancerIPs", "pool": "address-pool", "share": "allow-shared-ip"}
    notes = {f"metallb.io/{names[name]}": value for name, value in annotations.items()}
    return service("default/s", family, *ingress, load_balancer_ip=ip, annotations=notes)


def prefer(plain: Service) -> Service:
    return replace(plain, ip_family_policy="PreferDualStack")


def no(text: str) -> dict[str, str]:
    return {"AllocationFailed": text}


@dataclass(frozen=True)
class Case:
    name: str
    service: Service
    ips: tuple[str, ...]
    pool: str = ""
    """Expected annotation; follows from the address when left out."""
    says: dict[str, str] = field(default_factory=dict)
    """Reason of an event: what its message has in it."""
    pools: tuple[PoolObject, ...] = POOLS
    silent: bool = False
    """No event at all."""
    untouched: bool = False
    """Nothing is written."""


CASES = [
    # ---------------------------------------------------------------- who is served
    Case("no load balancer", replace(lb(), type="ClusterIP"), (), silent=True, untouched=True),
    Case("a plain load balancer", lb(), ("192.0.2.0",), says={"IPAllocated": 'Assigned IP ["192.0.2.0"]'}),
    Case("IPv6", lb("v6"), ("2001:db8::",), says={"IPAllocated": 'Assigned IP ["2001:db8::"]'}),
    Case(
        "was a load balancer",
        replace(lb("v4", "192.0.2.0"), type="NodePort", annotations={ALLOCATED_FROM: "one"}),
        (),
        silent=True,
    ),
    Case("no cluster address yet", replace(lb("v4", "192.0.2.0"), cluster_ips=()), (), silent=True),
    Case(
        "a class of somebody else",
        replace(lb(), load_balancer_class="other"),
        (),
        silent=True,
        untouched=True,
    ),
    Case("headless", replace(lb(), cluster_ips=("None",)), (), says={"noclusterIPsIPFamily": "None"}),
    Case("no pools at all", lb("v4", "192.0.2.0"), (), pools=(), says=no("no available IPs")),
    # ------------------------------------------------------------ asking for an address
    Case("by field", lb(ip="192.0.2.1"), ("192.0.2.1",)),
    Case("by annotation", lb(ips="192.0.2.1"), ("192.0.2.1",)),
    Case(
        "by the old annotation",
        replace(lb(), annotations={"metallb.universe.tf/loadBalancerIPs": "192.0.2.1"}),
        ("192.0.2.1",),
        says={"deprecatedAnnotation": "metallb.universe.tf/loadBalancerIPs"},
    ),
    Case(
        "the new key wins, even when it is empty",
        replace(
            lb(),
            annotations={
                "metallb.universe.tf/loadBalancerIPs": "192.0.2.1",
                "metallb.io/loadBalancerIPs": "",
            },
        ),
        ("192.0.2.0",),
    ),
    Case("from a pool without autoAssign", lb(ip="198.51.100.17"), ("198.51.100.17",), pool="two"),
    Case(
        "by field and annotation",
        lb(ip="192.0.2.1", ips="192.0.2.1"),
        (),
        says=no("service can not have both metallb.io/loadBalancerIPs and svc.Spec.LoadBalancerIP"),
    ),
    Case(
        "no address, in the field",
        lb(ip="please"),
        (),
        says=no(
            'Failed to allocate IP for "default/s": '
            'invalid spec.loadBalancerIP "please": must be an IP address'
        ),
    ),
    Case(
        "no address, in the annotation",
        lb(ips="192.0.2.1,x"),
        (),
        says=no(
            'invalid metallb.io/loadBalancerIPs: "192.0.2.1,x": metallb.io/loadBalancerIPs must be an IP'
        ),
    ),
    Case(
        "in no pool",
        lb(ip="1.2.3.4"),
        (),
        says=no(
            '["1.2.3.4"] is not allowed in config (dual: does not have 1.2.3.4; one: does not have 1.2.3.4; '
        ),
    ),
    Case(
        "of another family",
        lb(ip="2001:db8::1"),
        (),
        says=no(
            'requested loadBalancer IP(s) ["2001:db8::1"] '
            "does not match the ipFamily of the service, which is ipv4"
        ),
    ),
    Case(
        "two of one family",
        lb("dual", ips="192.0.2.0,192.0.2.1"),
        (),
        says=no('"192.0.2.0" "192.0.2.1" has the same family'),
    ),
    Case(
        "three",
        lb("dual", ips="192.0.2.0,192.0.2.1,2001:db8::"),
        (),
        says=no('more than two addresses ["192.0.2.0" "192.0.2.1" "2001:db8::"]'),
    ),
    Case(
        "not in the pool asked for",
        lb(ip="192.0.2.1", pool="two"),
        (),
        says=no(
            'requested loadBalancer IP(s) ["192.0.2.1"] is not compatible with requested address pool two '
            "(one: has what is requested)"
        ),
    ),
    Case(
        "spaces and an order of one's own",
        lb("dual", ips=" 2001:db8:1::1 , 203.0.113.1"),
        ("2001:db8:1::1", "203.0.113.1"),
        pool="dual",
    ),
    Case(
        "both families, from two pools",
        lb("dual", ips="192.0.2.0,2001:db8::"),
        (),
        pools=(ONE, SIX),
        says=no(
            '["192.0.2.0" "2001:db8::"] is not allowed in config '
            "(one: does not have 2001:db8::; six: does not have 192.0.2.0)"
        ),
    ),
    Case(
        "one address for a dual-stack service",
        lb("dual", ip="203.0.113.1"),
        (),
        says=no("does not match the ipFamily"),
    ),
    Case(
        "one address, and content with one",
        prefer(lb("dual", ip="203.0.113.1")),
        (),
        says=no("does not match the ipFamily"),
    ),
    Case(
        "two addresses for a single-stack service",
        lb(ips="203.0.113.1,2001:db8:1::1"),
        (),
        says=no("does not match the ipFamily"),
    ),
    # --------------------------------------------------------------- asking for a pool
    Case("a pool", lb(pool="two"), ("198.51.100.16",), pool="two"),
    Case(
        "no such pool",
        lb(pool="gone"),
        (),
        says=no('unknown pool "gone" (dual: not requested; one: not requested; '),
    ),
    Case(
        "a pool without the family",
        lb("v6", pool="two"),
        (),
        says=no("no available IPs in pool two for ipv6 IPFamily (two: has no ipv6 addresses)"),
    ),
    Case(
        "a pool for others",
        lb(pool="mine"),
        (),
        pools=(pool("mine", "192.0.2.0/24", **GOLD),),
        says=no("pool mine not compatible for ip assignment"),
    ),
    Case(
        "an address for others",
        lb(ip="192.0.2.9"),
        (),
        pools=(pool("mine", "192.0.2.0/24", **GOLD),),
        says=no("pool mine not compatible for ip assignment"),
    ),
    # ----------------------------------------------------------- what it has already
    Case(
        "it is right",
        replace(lb("v4", "192.0.2.1"), annotations={ALLOCATED_FROM: "one"}),
        ("192.0.2.1",),
        silent=True,
        untouched=True,
    ),
    Case("it is right, but does not say from where", lb("v4", "192.0.2.1"), ("192.0.2.1",), silent=True),
    Case(
        "it is right, spelled otherwise",
        replace(lb("v6", "2001:DB8:0::1"), annotations={ALLOCATED_FROM: "six"}),
        ("2001:DB8:0::1",),
        silent=True,
        untouched=True,
    ),
    Case("it asked for another", lb("v4", "192.0.2.0", ip="192.0.2.1"), ("192.0.2.1",)),
    Case(
        "it asked for another that is nobody's",
        lb("v4", "192.0.2.0", ip="1.2.3.4"),
        (),
        says=no("is not allowed in config"),
    ),
    Case(
        "it asks for nonsense by now",
        replace(lb("v4", "192.0.2.0", ip="x")),
        ("192.0.2.0",),
        says={"LoadBalancerFailed": 'invalid requested loadbalancer IPs: invalid spec.loadBalancerIP "x"'},
    ),
    Case("it asked for another pool", lb("v4", "192.0.2.0", pool="two"), ("198.51.100.16",), pool="two"),
    Case(
        "in no pool any more",
        lb("v4", "1.2.3.4"),
        ("192.0.2.0",),
        says={
            "ClearAssignment": 'current IP for "default/s" not allowed by config, will attempt for new IP '
            'assignment: ["1.2.3.4"] is not allowed in config'
        },
    ),
    Case(
        "nonsense and a hostname",
        lb("v4", "", "bogus"),
        ("192.0.2.0",),
        says={"nolbIPsIPFamily": '["bogus"]'},
    ),
    Case("a hostname beside it", lb("v4", "", "192.0.2.1"), ("192.0.2.1",), silent=True),
    Case("of the other family", lb("v6", "192.0.2.1"), ("2001:db8::",)),
    Case("of the other family, the other way", lb("v4", "2001:db8::1"), ("192.0.2.0",)),
    Case(
        "three of them",
        lb("v4", "192.0.2.0", "192.0.2.1", "2001:db8::"),
        ("192.0.2.0",),
        says={"nolbIPsIPFamily": '["192.0.2.0" "192.0.2.1" "2001:db8::"]'},
    ),
    Case(
        "an order of one's own is kept",
        replace(lb("dual", "2001:db8:1::1", "203.0.113.1", ips="203.0.113.1,2001:db8:1::1")),
        ("2001:db8:1::1", "203.0.113.1"),
        silent=True,
    ),
    # ------------------------------------------------------------------- dual stack
    Case(
        "both",
        lb("dual"),
        ("203.0.113.0", "2001:db8:1::"),
        pools=(ONE, SIX, BOTH),
        says={"IPAllocated": 'Assigned IP ["203.0.113.0" "2001:db8:1::"]'},
    ),
    Case(
        "IPv4 first, whatever is primary",
        replace(lb("dual"), ip_families=("IPv6", "IPv4")),
        ("203.0.113.0", "2001:db8:1::"),
        pools=(BOTH,),
    ),
    Case(
        "both needed, no pool has both",
        lb("dual"),
        (),
        pools=(ONE, SIX),
        says=no("no available IPs (one: is not dual-stack; six: is not dual-stack)"),
    ),
    Case(
        "both needed, one cluster address",
        replace(lb("v4"), ip_family_policy="RequireDualStack"),
        (),
        says={"not enough clusterips": "Service requires dual stack but not enough clusterips [10.96.0.1]"},
    ),
    Case(
        "both there, one family by now",
        lb("v4", "203.0.113.1", "2001:db8:1::1"),
        ("203.0.113.0",),
        pools=(BOTH,),
        says={"IPAllocated": 'Assigned IP ["203.0.113.0"]'},
    ),
    Case(
        "both there and asked for, one family by now",
        lb("v4", "203.0.113.1", "2001:db8:1::1", ips="203.0.113.1"),
        ("203.0.113.1",),
        pools=(BOTH,),
    ),
    Case("both needed, one there", lb("dual", "203.0.113.1"), ("203.0.113.0", "2001:db8:1::"), pools=(BOTH,)),
    Case(
        "both liked, a pool has both",
        prefer(lb("dual")),
        ("203.0.113.0", "2001:db8:1::"),
        pools=(ONE, SIX, BOTH),
    ),
    Case("both liked, none has both", prefer(lb("dual")), ("192.0.2.0",), pools=(ONE, SIX)),
    Case(
        "both liked, IPv6 more",
        prefer(replace(lb("dual"), ip_families=("IPv6", "IPv4"))),
        ("2001:db8::",),
        pools=(ONE, SIX),
    ),
    Case("both liked, only the other there", prefer(lb("dual")), ("2001:db8::",), pools=(SIX,)),
    Case(
        "both liked, one there, its pool has both",
        prefer(lb("dual", "203.0.113.1")),
        ("203.0.113.1", "2001:db8:1::"),
        pools=(BOTH,),
        says={"IPAllocated": 'Assigned additional IP "2001:db8:1::"'},
    ),
    Case(
        "both liked, IPv6 there",
        prefer(lb("dual", "2001:db8:1::1")),
        ("2001:db8:1::1", "203.0.113.0"),
        pools=(BOTH,),
    ),
    Case(
        "both liked, one there, another pool has both",
        prefer(lb("dual", "192.0.2.1")),
        ("192.0.2.1",),
        pools=(ONE, BOTH),
        says={
            "AdditionalAssignFailed": "cannot assign additional IP in PreferDualStack: "
            "no available IPs in pool one "
            "for ipv6 IPFamily (one: has no ipv6 addresses)"
        },
    ),
    Case("both liked, one cluster address", prefer(lb("v4")), ("203.0.113.0",), pools=(BOTH,)),
    # ------------------------------------------------------------- pools with a purpose
    Case(
        "by namespace",
        lb(),
        ("192.0.2.0",),
        pools=(
            pool("a", "198.51.100.0/24"),
            pool("z", "192.0.2.0/24", serviceAllocation={"namespaces": ["default"]}),
        ),
    ),
    Case(
        "by label",
        replace(lb(), labels={"app": "web"}),
        ("192.0.2.0",),
        pools=(
            pool("a", "198.51.100.0/24"),
            pool(
                "z", "192.0.2.0/24", serviceAllocation={"serviceSelectors": [{"matchLabels": {"app": "web"}}]}
            ),
        ),
    ),
    Case(
        "by namespace and label, one is wrong",
        lb(),
        ("198.51.100.0",),
        pools=(
            pool("a", "198.51.100.0/24"),
            pool(
                "z",
                "192.0.2.0/24",
                serviceAllocation={
                    "namespaces": ["default"],
                    "serviceSelectors": [{"matchLabels": {"app": "web"}}],
                },
            ),
        ),
    ),
    Case(
        "by priority alone",
        lb(),
        ("192.0.2.0",),
        pools=(
            pool("a", "198.51.100.0/24", serviceAllocation={"priority": 20}),
            pool("m", "203.0.113.0/24", serviceAllocation={}),
            pool("z", "192.0.2.0/24", serviceAllocation={"priority": 10}),
        ),
    ),
    Case(
        "no priority comes last",
        lb(),
        ("192.0.2.0",),
        pools=(
            pool("a", "198.51.100.0/24", serviceAllocation={"namespaces": ["default"]}),
            pool("z", "192.0.2.0/24", serviceAllocation={"namespaces": ["default"], "priority": 90}),
        ),
    ),
    Case(
        "autoAssign false is not drawn from",
        lb(),
        ("198.51.100.0",),
        pools=(
            pool("a", "192.0.2.0/24", autoAssign=False, serviceAllocation={"priority": 1}),
            pool("z", "198.51.100.0/24"),
        ),
    ),
    Case(
        "why not, pool by pool",
        lb(),
        (),
        pools=(pool("a", "192.0.2.0/24", autoAssign=False), pool("b", "198.51.100.0/24", **GOLD), SIX),
        says=no(
            'no available IPs (a: autoAssign is false; b: is not for namespace "default"; '
            "six: has no ipv4 addresses)"
        ),
    ),
    # ------------------------------------------------------------------------ buggy IPs
    Case("neither .0 nor .255", lb(), ("192.0.2.1",), pools=(pool("a", "192.0.2.0/24", avoidBuggyIPs=True),)),
    Case(
        "not even asked for",
        lb(ip="192.0.2.0"),
        (),
        pools=(pool("a", "192.0.2.0/24", avoidBuggyIPs=True),),
        says=no("is not allowed in config (a: avoidBuggyIPs keeps it back)"),
    ),
    Case(
        "it has one",
        lb("v4", "192.0.2.255"),
        ("192.0.2.1",),
        says={"ClearAssignment": "is not allowed"},
        pools=(pool("a", "192.0.2.0/24", avoidBuggyIPs=True),),
    ),
]
