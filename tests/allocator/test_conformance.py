"""MetalLB's own tests of controller, allocator and configuration, each with those of ours that hold the same.

A row that has no test says why; what lacked one until this table was made is tested at its end.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Final

import pytest

from allocator.metrics import registry
from crier.kube.resources import IP_ADDRESS_POOLS, SERVICES
from tests.allocator import test_controller, test_rows
from tests.allocator.clusters import SYSTEM, open_cluster, open_controller
from tests.allocator.worlds import pool, service, world
from tests.rows import missing

SERVICE: Final = "tests/allocator/test_services.py::test_one_service"
SERVICES_TESTS: Final = "tests/allocator/test_services.py::"
POOLS: Final = "tests/allocator/test_pools.py::"
SHARING: Final = "tests/allocator/test_sharing.py::"
LEDGER: Final = "tests/allocator/test_ledger.py::"
CONTROLLER: Final = "tests/allocator/test_controller.py::"
CONFIG: Final = "tests/kube/test_config.py::"
BGP: Final = "tests/kube/test_bgp_models.py::"
REVIEW: Final = "tests/allocator/test_review.py::"
CLUSTER: Final = "tests/allocator/test_rows.py::"
WEBHOOK: Final = "tests/allocator/test_webhook.py::"
WEBHOOK_KUBE: Final = "tests/allocator/test_webhook_kube.py::"
HERE: Final = "tests/allocator/test_conformance.py::"


def cases(*names: str) -> tuple[str, ...]:
    return tuple(f"{SERVICE}[{name}]" for name in names)


ROWS: Final[Mapping[str, tuple[str, ...] | str]] = {
    # ---------------------------------------------------------------- controller, unit tests
    "TestControllerMutation: deleted balancer": (
        f"{POOLS}test_what_becomes_free_goes_to_who_has_waited_longest[delete]",
    ),
    "TestControllerMutation: simple non-LoadBalancer": cases("no load balancer"),
    "TestControllerMutation: simple LoadBalancer": cases("a plain load balancer", "IPv6"),
    "TestControllerMutation: specific IP by field": cases("by field"),
    "TestControllerMutation: specific IP by annotation": cases("by annotation", "by the old annotation"),
    "TestControllerMutation: specific IP by both": cases("by field and annotation"),
    "TestControllerMutation: invalid specific IP": cases(
        "no address, in the field", "no address, in the annotation"
    ),
    "TestControllerMutation: infeasible specific IP": cases("in no pool"),
    "TestControllerMutation: incompatible IP and pool": cases("not in the pool asked for"),
    "TestControllerMutation: two IPs of one family": cases("two of one family"),
    "TestControllerMutation: specific pool": cases("a pool"),
    "TestControllerMutation: switch pool": cases("it asked for another pool"),
    "TestControllerMutation: unknown pool": cases("no such pool"),
    "TestControllerMutation: invalid IP assigned": cases("in no pool any more", "nonsense and a hostname"),
    "TestControllerMutation: invalid ingress state": cases("a hostname beside it", "nonsense and a hostname"),
    "TestControllerMutation: former LB now NodePort": cases("was a load balancer"),
    "TestControllerMutation: no ClusterIP": cases("no cluster address yet"),
    "TestControllerMutation: wrong family requested": cases("of another family"),
    "TestControllerMutation: wrong family assigned": cases(
        "of the other family", "of the other family, the other way"
    ),
    "TestControllerMutation: dual-stack": cases("both", "IPv4 first, whatever is primary"),
    "TestControllerMutation: PreferDualStack, dual pool": cases("both liked, a pool has both"),
    "TestControllerMutation: PreferDualStack, single pools": cases(
        "both liked, none has both", "both liked, IPv6 more", "both liked, only the other there"
    ),
    "TestControllerMutation: PreferDualStack, single clusterIP": cases("both liked, one cluster address"),
    "TestControllerMutation: RequireDualStack, single clusterIP": cases("both needed, one cluster address"),
    "TestControllerMutation: single IP requested for dual": cases("one address for a dual-stack service"),
    "TestControllerMutation: dual request in single stack": cases("two addresses for a single-stack service"),
    "TestControllerMutation: pools pinned by namespace": cases("by namespace"),
    "TestControllerMutation: pools pinned by label": cases("by label"),
    "TestControllerMutation: pools pinned by both": (
        *cases("by namespace and label, one is wrong"),
        f"{HERE}test_a_pool_for_a_namespace_and_a_label",
    ),
    "TestControllerMutation: pools without priority": cases("no priority comes last"),
    "TestControllerMutation: three IPs assigned": cases("three of them"),
    "TestControllerMutation: a pure function, shuffled": (
        f"{SERVICES_TESTS}test_cases_do_not_depend_on_each_other",
    ),
    "TestControllerConfig: no config": (f"{SERVICES_TESTS}test_nothing_is_decided_before_pools_are_known",),
    "TestControllerConfig: empty pools": (f"{POOLS}test_all_pools_gone", *cases("no pools at all")),
    "TestControllerConfig: pool removal": (f"{POOLS}test_a_pool_gone_another_there",),
    "TestDeleteRecyclesIP": (f"{POOLS}test_what_becomes_free_goes_to_who_has_waited_longest[delete]",),
    "TestControllerReassign": (f"{POOLS}test_a_larger_pool_serves_who_waited",),
    "TestControllerDualStackConfig": (f"{POOLS}test_prefer_dual_stack_as_pools_grow_and_shrink",),
    # ----------------------------------------------------------------- allocator, unit tests
    "TestAssignment: uniqueness": (f"{LEDGER}test_a_claim_that_breaks_a_rule_changes_nothing",),
    "TestAssignment: buggy IPs": cases("neither .0 nor .255", "not even asked for", "it has one"),
    "TestAssignment: sharing key, backend, ports": (
        f"{SHARING}test_two",
        f"{SHARING}test_the_texts_of_refusals",
    ),
    "TestAssignment: in-place key change of a sole user": (
        f"{SHARING}test_the_only_holder_may_change_its_key_and_ports",
    ),
    "TestAssignment: dual from two pools": cases("both families, from two pools"),
    "TestAssignment: pinned pools": cases("a pool for others", "an address for others"),
    "TestPoolAllocation": (
        *cases("a pool", "a pool without the family"),
        f"{LEDGER}test_order_of_the_spec_decides",
    ),
    "TestAllocation: exhaustion": (f"{POOLS}test_lowest_first_oldest_first",),
    "TestAllocation: release": (f"{POOLS}test_what_becomes_free_goes_to_who_has_waited_longest",),
    "TestAllocation: sharing": (
        f"{SHARING}test_a_lower_free_address_comes_before_sharing",
        f"{SHARING}test_both_addresses_must_be_shareable",
    ),
    "TestBuggyIPs": cases("neither .0 nor .255"),
    "TestConfigReload": (f"{POOLS}test_a_pool_changes", f"{LEDGER}test_a_claim_moves_with_its_address"),
    "TestAutoAssign": cases("autoAssign false is not drawn from", "from a pool without autoAssign"),
    "TestPoolCount": (f"{LEDGER}test_capacity", f"{LEDGER}test_capacity_is_what_can_be_given_out"),
    "TestPoolMetrics": (f"{HERE}test_metrics_of_pools", f"{LEDGER}test_one_address_counts_once"),
    # -------------------------------------------------------------- configuration, unit tests
    "TestParse: pools": (
        f"{CONFIG}test_bad_pools",
        f"{CONFIG}test_what_are_no_addresses",
        f"{CONFIG}test_a_pool",
    ),
    "TestParse: L2Advertisements": (f"{CONFIG}test_bad_advertisements", f"{CONFIG}test_an_advertisement"),
    "TestParse: BGPAdvertisements": (
        f"{BGP}test_what_an_advertisement_must_not_say",
        f"{BGP}test_local_preferences_that_contradict",
    ),
    "TestParse: communities": (
        f"{BGP}test_aliases_are_one_space",
        f"{BGP}test_communities_by_value_and_by_name",
    ),
    "TestParse: peers": (
        f"{BGP}test_what_a_peer_must_not_say",
        f"{BGP}test_one_timer_decides_the_other",
        f"{BGP}test_what_does_not_exist_yet_makes_one_peer_wait",
    ),
    "TestParse: BFD profiles": (
        f"{BGP}test_the_ranges_of_a_profile",
        f"{BGP}test_a_profile_and_its_defaults",
    ),
    "TestParse: selectors": (f"{CONFIG}test_bad_selectors", f"{CONFIG}test_selectors_match"),
    "TestServiceSelectors": (f"{BGP}test_what_an_advertisement_must_not_say",),
    "TestContainsAdvertisement": "a helper of theirs, to drop equal advertisements",
    "TestValidate": "what their native mode refuses, ours accepts (docs/compatibility.md, routed mode)",
    "TestValidateFRR": "what their FRR modes refuse about peers that share a node, ours accept",
    "TestValidator": (f"{WEBHOOK}test_what_is_refused",),
    "TestResetTransientErrorsFields": (
        f"{WEBHOOK}test_what_is_refused",
        f"{REVIEW}test_what_is_told",
    ),
    # ------------------------------------------------------------------------- end to end, L2
    "L2: set different AddressPools ranges modes": (
        f"{CONFIG}test_addresses",
        f"{CLUSTER}test_requested_addresses_and_pools",
    ),
    "L2: requesting a specific address pool": (
        *cases("a pool", "from a pool without autoAssign"),
        f"{POOLS}test_a_pool_changes",
        f"{CLUSTER}test_requested_addresses_and_pools",
    ),
    "L2: metrics exposed by the controller": (f"{HERE}test_metrics_of_pools",),
    "LoadBalancer class: should not get an ip": (
        *cases("a class of somebody else"),
        f"{CONTROLLER}test_a_class_of_our_own",
    ),
    "IP Assignment: remove the ip when changing type, deleting": (
        f"{POOLS}test_what_becomes_free_goes_to_who_has_waited_longest",
        f"{CONTROLLER}test_release_serves_who_waits_and_says_so",
        f"{CLUSTER}test_what_is_released_goes_to_who_waits",
    ),
    "IP Assignment: preserve the same external ip after controller restart": (
        f"{POOLS}test_a_restart_changes_nothing",
        f"{CONTROLLER}test_a_restart_writes_nothing",
        f"{CLUSTER}test_holders_keep_theirs_through_five_restarts",
    ),
    "IP Assignment: reconsider services when sharing the ip and conditions change": (
        f"{SHARING}test_who_becomes_incompatible_has_to_go_and_may_come_back",
        f"{CLUSTER}test_sharing_is_considered_again_when_conditions_change",
    ),
    "removing pools: removes all pools": (
        f"{POOLS}test_all_pools_gone",
        f"{CLUSTER}test_pools_come_shrink_and_go",
    ),
    "removing pools: reallocates svc after deleting a pool": (
        f"{POOLS}test_a_pool_gone_another_there",
        f"{CLUSTER}test_pools_come_shrink_and_go",
    ),
    "service allocation: with namespace": (
        *cases("by namespace"),
        f"{CLUSTER}test_pools_for_namespaces_and_labels_in_their_order",
    ),
    "service allocation: with only priority": (
        *cases("by priority alone"),
        f"{CLUSTER}test_pools_for_namespaces_and_labels_in_their_order",
    ),
    "service allocation: with namespace and namespace labels": (
        f"{POOLS}test_labels_of_a_namespace_count_for_the_next_service",
        f"{CLUSTER}test_pools_for_namespaces_and_labels_in_their_order",
    ),
    "service allocation: with service label": (
        *cases("by label"),
        f"{CLUSTER}test_pools_for_namespaces_and_labels_in_their_order",
    ),
    "service allocation: with namespace and service label": (
        f"{HERE}test_a_pool_for_a_namespace_and_a_label",
        f"{CLUSTER}test_pools_for_namespaces_and_labels_in_their_order",
    ),
    "service allocation: with namespace with labels": (
        f"{POOLS}test_labels_of_a_namespace_count_for_the_next_service",
        f"{CLUSTER}test_pools_for_namespaces_and_labels_in_their_order",
    ),
    "service allocation: exhaustion falls through": (
        f"{POOLS}test_priorities_fill_up_in_order",
        f"{CLUSTER}test_pools_for_namespaces_and_labels_in_their_order",
    ),
    "PREFER DUALSTACK: dual pool chosen": (
        *cases("both liked, a pool has both"),
        f"{CLUSTER}test_dual_stack_comes_and_goes",
    ),
    "PREFER DUALSTACK: v4 primary": (
        *cases("both liked, none has both"),
        f"{CLUSTER}test_the_primary_family_decides_where_no_pool_has_both",
    ),
    "PREFER DUALSTACK: v6 primary": (
        *cases("both liked, IPv6 more"),
        f"{CLUSTER}test_the_primary_family_decides_where_no_pool_has_both",
    ),
    "PREFER DUALSTACK: additional IP when pool becomes dual": (
        f"{POOLS}test_prefer_dual_stack_as_pools_grow_and_shrink",
        f"{CLUSTER}test_dual_stack_comes_and_goes",
    ),
    "PREFER DUALSTACK: Prefer to Require and back": (
        f"{SERVICES_TESTS}test_prefer_and_require_by_turns",
        f"{CLUSTER}test_dual_stack_comes_and_goes",
    ),
    "PREFER DUALSTACK: no jump to a new dual pool": (
        *cases("both liked, one there, another pool has both"),
        f"{CLUSTER}test_dual_stack_comes_and_goes",
    ),
    "PREFER DUALSTACK: dual pool shrinks": (
        f"{POOLS}test_prefer_dual_stack_as_pools_grow_and_shrink",
        f"{CLUSTER}test_dual_stack_comes_and_goes",
    ),
    "Pool Status: DUALSTACK": (
        f"{CLUSTER}test_the_status_of_a_pool",
        f"{CONTROLLER}test_counters_that_somebody_edits_are_put_right",
    ),
    # ---------------------------------------------------------------------------- other suites
    "Webhooks: overlapping pools": (f"{WEBHOOK_KUBE}test_admission_and_conversion",),
    "Webhooks: invalid aggregation length": (f"{WEBHOOK}test_what_is_refused",),
    "Webhooks: serviceSelectors and aggregationLength": (f"{WEBHOOK}test_what_is_refused",),
    "Webhooks: invalid peer IP": (f"{WEBHOOK_KUBE}test_admission_and_conversion",),
    "Webhooks: duplicate peer address (FRR)": "what their FRR modes refuse about peers that share a node",
    "Webhooks: invalid and duplicate communities": (f"{WEBHOOK}test_what_is_refused",),
    "Webhooks: BFDProfile in use": (
        f"{WEBHOOK}test_a_profile_in_use_stays",
        f"{WEBHOOK_KUBE}test_admission_and_conversion",
    ),
    "Webhooks: different namespace, six kinds": (f"{WEBHOOK}test_only_our_namespace",),
    "Conversion is stable": (f"{WEBHOOK}test_there_and_back_nothing_is_lost",),
    "ConfigurationState: invalid, then recovered": (
        f"{CONTROLLER}test_bad_pools_are_reported_and_the_last_good_ones_stay",
        f"{CLUSTER}test_the_controller_tells_within_a_moment_and_takes_it_back",
        f"{CLUSTER}test_overlapping_pools_one_after_the_other",
    ),
    "ConfigurationState: deletion and re-creation": (
        f"{CONTROLLER}test_the_state_is_made_again_when_somebody_deletes_it",
    ),
    "ConfigurationState: missing BFD profile, missing community": (f"{REVIEW}test_what_is_told",),
    "ConfigurationState: wrong secret type, node-specific results": "the speakers' own states",
}


def test_every_test_named_here_exists() -> None:
    assert missing(test for row in ROWS.values() if isinstance(row, tuple) for test in row) == set()


END_TO_END: Final = (
    "LoadBalancer class:", "IP Assignment:", "removing pools:", "service allocation:", "PREFER DUALSTACK:",
    "Pool Status:", "L2: requesting", "L2: set different", "ConfigurationState: invalid",
    "ConfigurationState: deletion",
)  # fmt: skip
"""Rows that a real API server must have answered."""


@pytest.mark.parametrize("row", [row for row in ROWS if row.startswith(END_TO_END)])
def test_an_end_to_end_row_runs_on_a_real_api_server(row: str) -> None:
    tests = ROWS[row]
    assert isinstance(tests, tuple)
    modules = {CLUSTER: test_rows, CONTROLLER: test_controller}
    takes = [
        inspect.signature(getattr(module, test.removeprefix(file))).parameters
        for file, module in modules.items()
        for test in tests
        if test.startswith(file)
    ]
    assert any("opened" in each for each in takes)


def test_a_test_that_is_gone_would_be_missed() -> None:
    gone = {f"{HERE}test_nothing", "tests/no_such_file.py::test_it", f"{SERVICE}[no such case]"}
    assert missing([*gone, f"{HERE}test_a_test_that_is_gone_would_be_missed"]) == gone


@pytest.mark.parametrize("row", ROWS)
def test_every_row_has_a_test_or_a_reason(row: str) -> None:
    assert ROWS[row]


# ------------------------------------------------------------------------------- what was missing


def test_a_pool_for_a_namespace_and_a_label() -> None:
    only = {"namespaces": ["default"], "serviceSelectors": [{"matchLabels": {"app": "web"}}], "priority": 1}
    found = world(
        [pool("plain", "198.51.100.0/24"), pool("pinned", "192.0.2.0/31", serviceAllocation=only)],
        *(service(f"default/{name}", labels={"app": "web"}) for name in "abc"),
        service("default/unlabelled"),
        service("other/elsewhere", labels={"app": "web"}),
    )
    found.settle()
    assert [found.ips(name) for name in ("a", "b", "c")] == [
        ("192.0.2.0",),
        ("192.0.2.1",),
        ("198.51.100.0",),
    ]
    for name in ("unlabelled", "other/elsewhere"):
        assert found.ips(name)[0].startswith("198.51.100.")


async def test_metrics_of_pools() -> None:
    async with open_cluster() as cluster, open_controller(cluster) as controller:
        metrics = registry(controller, lambda: 0)

        def has(text: str) -> bool:
            return text in metrics.render().decode()

        await cluster.add_pool("one", "192.0.2.0/30", "2001:db8::/127")
        prefix = "metallb_allocator"
        await cluster.until(lambda: has(f'{prefix}_addresses_total{{pool="one"}} 6'))
        assert has(f'{prefix}_ipv4_addresses_total{{pool="one"}} 4')
        assert has(f'{prefix}_ipv6_addresses_total{{pool="one"}} 2')
        assert has(f'{prefix}_addresses_in_use_total{{pool="one"}} 0')
        await cluster.add_service("s", ipFamilyPolicy="RequireDualStack")
        await cluster.until(lambda: cluster.ips("s"))
        assert has(f'{prefix}_addresses_in_use_total{{pool="one"}} 2')
        assert has(f'{prefix}_ipv4_addresses_in_use_total{{pool="one"}} 1')
        await cluster.api.delete(SERVICES, "s", namespace="default")
        await cluster.until(lambda: has(f'{prefix}_addresses_in_use_total{{pool="one"}} 0'))
        await cluster.api.delete(IP_ADDRESS_POOLS, "one", namespace=SYSTEM)
        await cluster.until(lambda: not controller.allocator.ledger.pools.pools)
        assert not has(f'{prefix}_addresses_total{{pool="one"}}')
