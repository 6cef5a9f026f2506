"""Whatever happens, in whatever order, with writes late or lost and controllers restarted at any moment."""

from __future__ import annotations

import itertools
import random
from dataclasses import replace

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from allocator.choose import exclusion
from allocator.reconcile import Write, addresses_in
from allocator.request import ports_of, request_of, sharing_key
from crier.kube.model.addresses import parse_address
from crier.kube.model.errors import ConfigError
from crier.kube.model.pool import PoolIndex, parse_pools
from crier.kube.model.service import Service, ServicePort
from tests.allocator.worlds import World, pool, service

# Few of everything: it is where they meet that things go wrong.
NAMES = st.sampled_from(["a", "b", "c", "d", "e", "f"])
POOLS = [
    pool("one", "192.0.2.0/31", "2001:db8::/127"),
    pool("two", "192.0.2.2-192.0.2.3"),
    pool("three", "2001:db8::2/127", autoAssign=False),
    pool("four", "192.0.2.4/31", "2001:db8::4/127", serviceAllocation={"priority": 5, "namespaces": ["x"]}),
    pool("one", "192.0.2.0/32", "2001:db8::/128"),
    pool("renamed", "192.0.2.0/31", "2001:db8::/127"),
    pool("two", "192.0.2.0/29", avoidBuggyIPs=True),
    pool(
        "four",
        "192.0.2.4/31",
        serviceAllocation={"serviceSelectors": [{"matchLabels": {"app": "web"}}], "priority": 1},
    ),
]
ADDRESSES = ["192.0.2.0", "192.0.2.1", "192.0.2.3", "192.0.2.4", "2001:db8::", "2001:db8::1", "198.51.100.1"]
FAMILIES = st.sampled_from(["v4", "v4", "v6", "dual"])
POLICIES = st.sampled_from(["SingleStack", "PreferDualStack", "RequireDualStack"])


def may_share(one: Service, other: Service) -> bool:
    """The rule, straight from what the services say now."""
    mine, theirs = sharing_key(one), sharing_key(other)
    return bool(mine.sharing) and mine == theirs and not ports_of(one) & ports_of(other)


def reason_to_move(world: World, each: Service) -> bool:
    """Whether any rule takes from the service what its status says; the rules told in another way."""
    held = addresses_in(each)
    index = world.allocator.ledger.pools
    if not each.is_load_balancer or not index.pools:
        return True
    families = sorted(address.version for address in held)
    wanted = sorted(parse_address(text).version for text in each.cluster_ips)
    prefer = each.ip_family_policy == "PreferDualStack" and wanted == [4, 6]
    if families != wanted and not (prefer and len(held) == 1):
        return True
    if each.ip_family_policy == "RequireDualStack" and len(wanted) < 2:
        return True
    found = index.locate_all(held)
    if found is None or exclusion(found, each.namespace, each.labels, world.namespaces):
        return True
    asked = each.annotation("address-pool")
    named = {text for text in each.annotation("loadBalancerIPs").split(",") if text}
    if (asked and asked != found.name) or (named and named != {str(address) for address in held}):
        return True
    return any(
        other.key != each.key and set(addresses_in(other)) & set(held) and not may_share(each, other)
        for other in world.services.values()
    )


def nothing_is_lost_for_nothing(world: World, write: Write) -> None:
    each = world.services[write.service]
    if set(addresses_in(each)) - {parse_address(text) for text in write.addresses}:
        assert reason_to_move(world, each), f"{each.key} lost {each.ingress_ips} for nothing"


class Cluster(RuleBasedStateMachine):
    @initialize(seed=st.integers(0, 2**32))
    def begin(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.world = World(audit=nothing_is_lost_for_nothing)
        self.world.set_namespaces({"default": {"tier": "gold"}, "x": {}})
        self.before: dict[str, tuple[tuple[str, ...], Service]] = {}

    @rule(chosen=st.sets(st.sampled_from(range(len(POOLS)))))
    def set_pools(self, chosen: set[int]) -> None:
        try:
            self.world.set_pools(*(POOLS[index] for index in sorted(chosen)))
        except ConfigError:
            return  # the last good ones stay

    @rule(
        name=NAMES,
        namespace=st.sampled_from(["default", "x"]),
        family=FAMILIES,
        policy=POLICIES,
        share=st.sampled_from(["", "", "k", "l"]),
        port=st.sampled_from([80, 443]),
        local=st.booleans(),
        requested=st.sampled_from(["", "", "", *ADDRESSES, "192.0.2.1,2001:db8::1", "nonsense"]),
        wanted_pool=st.sampled_from(["", "", "", "one", "two", "three", "four", "gone"]),
        labels=st.sampled_from([{}, {"app": "web"}]),
        ingress=st.sampled_from([(), (), (), ("192.0.2.1",), ("192.0.2.1", "2001:db8::1"), ("bogus", "")]),
    )
    def put_service(
        self,
        name: str,
        namespace: str,
        family: str,
        policy: str,
        share: str,
        port: int,
        local: bool,
        requested: str,
        wanted_pool: str,
        labels: dict[str, str],
        ingress: tuple[str, ...],
    ) -> None:
        """Somebody creates or edits a service; the status of an existing one is the controller's."""
        full = f"{namespace}/{name}"
        annotations = {
            "metallb.io/allow-shared-ip": share,
            "metallb.io/loadBalancerIPs": requested,
            "metallb.io/address-pool": wanted_pool,
        }
        kept = self.world.services.get(full)
        made = service(full, family)
        self.world.put(
            replace(
                made,
                ip_family_policy=policy,
                ports=(ServicePort("TCP", port),),
                external_traffic_policy="Local" if local else "Cluster",
                selector={"app": name} if local else {},
                labels=labels,
                annotations={
                    **{name: value for name, value in annotations.items() if value},
                    **({n: v for n, v in kept.annotations.items() if "allocated" in n} if kept else {}),
                },
                # A service from before our time may come with any status, once nobody can be hurt by it.
                ingress_ips=kept.ingress_ips if kept else (ingress if not self.world.statuses() else ()),
            )
        )

    @precondition(lambda self: self.world.services)
    @rule(data=st.data())
    def retype(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(sorted(self.world.services)))
        kind = "ClusterIP" if self.world.services[name].is_load_balancer else "LoadBalancer"
        self.world.change(name, type=kind)

    @precondition(lambda self: self.world.services)
    @rule(data=st.data())
    def delete(self, data: st.DataObject) -> None:
        self.world.delete(data.draw(st.sampled_from(sorted(self.world.services))))

    @rule(labels=st.sampled_from([{}, {"tier": "gold"}]))
    def relabel_namespace(self, labels: dict[str, str]) -> None:
        self.world.set_namespaces({"default": labels, "x": {}})

    @rule()
    def turn(self) -> None:
        self.world.turn()

    @precondition(lambda self: self.world.under_way)
    @rule(data=st.data(), lost=st.booleans())
    def one_write(self, data: st.DataObject, lost: bool) -> None:
        self.world.carry_out(data.draw(st.sampled_from(sorted(self.world.under_way))), lost=lost)

    @rule()
    def restart(self) -> None:
        self.world.restart()

    @rule()
    def come_to_rest(self) -> None:
        self.world.settle(self.rng)
        self.check_rest()
        # A restart changes nothing at all, and neither does doing it all over again.
        before = {name: each.ingress_ips for name, each in self.world.services.items()}
        written = len(self.world.writes)
        self.world.restart()
        self.world.settle(self.rng)
        assert {name: each.ingress_ips for name, each in self.world.services.items()} == before
        assert len(self.world.writes) == written

    def check_rest(self) -> None:
        world = self.world
        if not world.allocator.configured:
            return
        ledger = world.allocator.ledger
        index = PoolIndex(parse_pools(world.objects.values()))
        statuses = {
            name: found for name, found in world.statuses().items() if world.services[name].is_load_balancer
        }
        assert {name: claim.addresses for name, claim in ledger.claims.items()} == statuses
        for name, addresses in statuses.items():
            found = index.locate_all(addresses)
            assert found is not None, f"{name} holds {addresses}, of no pool"
            assert ledger.claims[name].pool == found.name
            assert world.services[name].annotations["metallb.io/ip-allocated-from-pool"] == found.name
        for found in index.pools.values():
            used = {
                address
                for addresses in statuses.values()
                for address in addresses
                if index.locate(address) is found
            }
            usage = ledger.usage(found.name)
            assert (usage.ipv4, usage.ipv6) == (
                sum(address.version == 4 for address in used),
                sum(address.version == 6 for address in used),
            )
        self.check_nobody_waits_in_vain()

    def check_nobody_waits_in_vain(self) -> None:
        """Who asks for nothing special and has nothing finds every pool it might use full, for itself."""
        ledger = self.world.allocator.ledger
        for name, each in self.world.services.items():
            if not each.is_load_balancer or each.ingress_ips or each.annotations or not each.cluster_ips:
                continue
            if each.ip_family_policy == "RequireDualStack" and len(each.cluster_ips) < 2:
                continue
            request = request_of(each)
            for found in ledger.pools.pools.values():
                if found.allocation is None and found.auto_assign:
                    lowest = [
                        ledger.lowest(found.name, version, name, request.ports, request.key)
                        for version in (
                            (4, 6)
                            if len(each.cluster_ips) == 2
                            else (parse_address(each.cluster_ips[0]).version,)
                        )
                    ]
                    assert None in lowest, f"{name} could have had {lowest}"

    @invariant()
    def nobody_holds_what_another_has(self) -> None:
        """At every moment, not only at rest, in the statuses and in the ledger."""
        if not hasattr(self, "world"):
            return
        for (one, mine), (other, theirs) in itertools.combinations(
            self.world.allocator.ledger.claims.items(), 2
        ):
            if set(mine.addresses) & set(theirs.addresses):
                assert mine.key.sharing, f"{one} and {other}"
                assert mine.key == theirs.key, f"{one} and {other}"
                assert not mine.ports & theirs.ports, f"{one} and {other}"

    @invariant()
    def nothing_is_granted_twice(self) -> None:
        """No write puts an address into a status while it stands in another that may not share it."""
        if not hasattr(self, "world"):
            return
        fresh = self.world.writes[getattr(self, "checked", 0) :]
        self.checked = len(self.world.writes)
        for write in fresh:
            mine = self.world.services.get(write.service)
            if mine is None or mine.ingress_ips != write.addresses:
                continue
            for other, addresses in self.world.statuses().items():
                if other == write.service or not {parse_address(t) for t in write.addresses} & set(addresses):
                    continue
                theirs = self.world.services[other]
                # The other may have been edited since, and not been looked at yet.
                assert may_share(mine, theirs) or other in self.world._dirty | self.world.under_way.keys()


Cluster.TestCase.settings = settings(max_examples=200, stateful_step_count=40, deadline=None)
test_any_history = Cluster.TestCase
