"""Which test stands for which row of MetalLB's own suites, as far as they concern the speaker in layer 2.

The names of rows are those of `e2etest/l2tests`, of the other end-to-end suites and of the unit tests'
tables, as MetalLB's tree has them.  Rows about assigning addresses are the controller's: `tests/allocator`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import pytest

from tests.rows import missing

PLAN, PROGRAM = "speaker/planner/test_plan.py", "speaker/planner/test_program.py"
ROWS_L2, REFLEX = "speaker/test_l2_rows.py", "speaker/test_reflex.py"
L2STATUS, RESPOND, CORE = (
    "speaker/planner/test_l2status.py",
    "speaker/test_respond.py",
    "speaker/test_core.py",
)
HOLD, WIRE, DEMO = "e2e/test_hold.py", "e2e/test_wire.py", "e2e/test_demo.py"
SIZES, BGP_CONFIGURATION = "speaker/test_cluster_sizes.py", "speaker/planner/test_bgpconfiguration.py"

E2E_L2: Final[Mapping[str, tuple[str, ...]]] = {
    "type=Loadbalancer should work for ExternalTrafficPolicy=Cluster": (
        f"{HOLD}::test_what_must_hold_on_five_nodes",
    ),
    "should process the status as L2ServiceStatus along with service": (
        f"{PROGRAM}::test_the_announcing_node_says_so",
        f"{PROGRAM}::test_two_speakers_leave_one_status_between_them",
        f"{ROWS_L2}::test_a_service_that_ends_takes_its_status_and_series_with_it",
    ),
    "should work for ExternalTrafficPolicy=Local": (
        f"{ROWS_L2}::test_external_traffic_policy_local_follows_the_endpoints",
        f"{HOLD}::test_what_must_hold_on_five_nodes",
    ),
    "IPV4 Should work with mixed protocol services": (f"{HOLD}::test_what_must_hold_on_five_nodes",),
    "should not be announced from a node with a NetworkUnavailable condition": (
        f"{ROWS_L2}::test_the_leader_moves_away_and_returns_to_the_same_node",
    ),
    "It should be work when adding NodeExcludeBalancers label to a node": (
        f"{ROWS_L2}::test_the_leader_moves_away_and_returns_to_the_same_node",
    ),
    "set different AddressPools ranges modes": (f"{ROWS_L2}::test_pools_of_ranges_and_of_prefixes",),
    "different services sharing the same ip should advertise from the same node": (
        f"{ROWS_L2}::test_services_sharing_an_address_are_announced_from_one_node",
        f"{PLAN}::test_an_address_shared_by_services_that_differ_has_an_entry_for_each",
    ),
    "metrics should be exposed by the controller": (
        f"{PROGRAM}::test_the_metrics",
        f"{PROGRAM}::test_the_metrics_are_scraped_over_https",
        f"{ROWS_L2}::test_a_service_that_ends_takes_its_status_and_series_with_it",
    ),
    "should move L2 advertisement when the announcing node stops running a ready speaker": (
        f"{PROGRAM}::test_the_announcing_node_says_so",
        f"{REFLEX}::test_a_crash_is_taken_over_by_the_next_and_a_return_taken_back",
        f"{DEMO}::test_all_scenarios_on_three_nodes",
    ),
    "Node Selector should work selecting one node": (f"{ROWS_L2}::test_should_work_selecting_one_node",),
    "should work with multiple node selectors": (
        f"{ROWS_L2}::test_should_work_with_multiple_node_selectors",
    ),
    "should work when adding nodes": (f"{ROWS_L2}::test_should_work_when_adding_nodes",),
    "Validate L2ServiceStatus interface": (f"{PROGRAM}::test_statuses_name_the_configured_interfaces",),
    "Validate the LB IP's mac": (
        "speaker/test_interfaces.py::test_the_list_of_interfaces_moves_the_answers",
        f"{REFLEX}::test_tools_and_kernels_find_the_vips",
    ),
    "Modify L2 interface": (
        f"{ROWS_L2}::test_modify_l2_interface",
        "speaker/test_interfaces.py::test_the_list_of_interfaces_moves_the_answers",
    ),
    "Specify not existing interfaces": (
        f"{ROWS_L2}::test_specify_not_existing_interfaces",
        "speaker/test_interfaces.py::test_the_list_of_interfaces_moves_the_answers",
    ),
    "Address pool connected with two L2 advertisements": (
        f"{ROWS_L2}::test_address_pool_connected_with_two_l2_advertisements",
        "speaker/test_interfaces.py::test_the_list_of_interfaces_moves_the_answers",
    ),
    "node selector (with interfaces)": (f"{ROWS_L2}::test_interface_and_node_selector_combined",),
    "should only advertise services matching both pool and service selectors": (
        f"{ROWS_L2}::test_only_services_matching_both_pool_and_service_selectors",
    ),
    "should announce from exactly one node when both advertisements match the service": (
        f"{ROWS_L2}::test_exactly_one_node_when_both_advertisements_match",
    ),
    "should not announce when no advertisement matches both service and node": (
        f"{ROWS_L2}::test_nobody_when_no_advertisement_matches_service_and_node",
    ),
    "should use OR logic for multiple selectors": (f"{ROWS_L2}::test_or_logic_for_multiple_selectors",),
    "LoadBalancer class should not get an ip": (
        f"{ROWS_L2}::test_a_service_of_another_class_is_not_ours",
        f"{PLAN}::test_the_load_balancer_class",
    ),
    "removes all pools (what the speaker does meanwhile)": (
        f"{PROGRAM}::test_a_removed_pool_waits_for_the_controller",
    ),
}

E2E_OTHER: Final[Mapping[str, tuple[str, ...]]] = {
    "ConfigurationState: wrong secret type affects only the selected node's speaker": (
        f"{BGP_CONFIGURATION}::test_a_fault_of_another_nodes_peer_is_none_of_ours",
        f"{BGP_CONFIGURATION}::test_the_last_good_one_stays_and_the_fault_names_object_and_field",
    ),
    "ConfigurationState: missing BFD profile": (
        f"{BGP_CONFIGURATION}::test_a_bad_one_before_any_good_one_costs_only_what_is_bad",
    ),
    "ConfigurationState: reference broken at run time": (
        f"{BGP_CONFIGURATION}::test_a_peer_whose_secret_goes_keeps_its_session",
        f"{BGP_CONFIGURATION}::test_an_advertisement_whose_community_goes_stays_as_it_was",
    ),
    "ConfigurationState: node relabel conflict": (f"{BGP_CONFIGURATION}::test_the_nodes_labels_choose_anew",),
    "ConfigurationState: all valid, cycling errors": (
        f"{PROGRAM}::test_a_bad_configuration_changes_nothing_but_its_state",
    ),
    "ConfigurationState: deletion and re-creation preserve result": (
        f"{PROGRAM}::test_a_deleted_configuration_state_comes_back",
    ),
}

UNIT: Final[Mapping[str, tuple[str, ...]]] = {
    "TestUsableNodesEPSlices": (f"{PLAN}::test_usable_nodes_epslices",),
    "TestUsableNodesEPSlicesWithSpeakerlistDisabled": (
        f"{PLAN}::test_usable_nodes_epslices",
        f"{PROGRAM}::test_without_gossip_the_first_candidate_announces",
    ),
    "TestShouldAnnounceEPSlices": (f"{PLAN}::test_should_announce_epslices",),
    "TestShouldAnnounceFromNodes": (f"{PLAN}::test_should_announce_from_nodes",),
    "TestClusterPolicy": (
        f"{PLAN}::test_cluster_policy",
        f"{SIZES}::test_255_vips_on_5_nodes_have_one_owner_each_and_move_only_where_they_must",
    ),
    "TestL2ServiceSelectors": (f"{PLAN}::test_l2_service_selectors",),
    "TestL2AdsForService": (f"{PLAN}::test_l2_ads_for_service",),
    "TestL2ElectionConsistentButAdsPerNode": (f"{PLAN}::test_l2_election_consistent_but_ads_per_node",),
    "TestL2NoMatchingAdForServiceAndNode": (f"{PLAN}::test_l2_no_matching_ad_for_service_and_node",),
    "TestL2ServiceSelectorFiltersCandidateNodes": (
        f"{PLAN}::test_l2_service_selector_filters_candidate_nodes",
    ),
    "TestIPAdvertisementFor": (f"{PLAN}::test_ip_advertisement_for",),
    "internal/layer2 TestARPResponder": (
        f"{RESPOND}::test_arp_is_answered_to_whoever_asked",
        f"{RESPOND}::test_arp_that_gets_no_answer",
    ),
    "internal/layer2 Test_SetBalancer_AddsToAnnouncedServices": (
        "speaker/test_announce.py::test_a_shared_address_is_ours_while_any_service_makes_it_ours",
        f"{CORE}::test_a_group_is_left_with_its_last_user",
    ),
    "internal/k8s/controllers TestServiceController": (
        f"{PROGRAM}::test_a_new_planner_waits_until_it_knows_everything",
        f"{PROGRAM}::test_what_goes_is_withdrawn_by_omission",
    ),
    "internal/k8s/controllers TestLBClass": (f"{PLAN}::test_the_load_balancer_class",),
    "internal/k8s/controllers TestConfigController": (
        f"{PROGRAM}::test_a_bad_configuration_changes_nothing_but_its_state",
    ),
    "internal/k8s/controllers TestNodeController": (
        f"{PROGRAM}::test_a_nodes_label_and_condition_count_at_once",
    ),
    "internal/k8s/controllers TestNodeReconcilerPredicate": (
        f"{PROGRAM}::test_a_burst_of_changes_is_few_plans",
    ),
    "internal/k8s/controllers layer2 status": (
        f"{L2STATUS}::test_the_announcing_node_makes_its_object",
        f"{L2STATUS}::test_it_deletes_what_others_left_and_duplicates",
        f"{L2STATUS}::test_a_node_that_does_not_announce_deletes_only_its_own",
    ),
}

MUST_HOLD: Final[Mapping[str, tuple[str, ...]]] = {
    "255 VIPs on 5 nodes": (
        f"{SIZES}::test_255_vips_on_5_nodes_have_one_owner_each_and_move_only_where_they_must",
    ),
    "each scenario of the demo at 3, 5 and 10 nodes": (
        f"{SIZES}::test_each_scenario_ends_with_one_owner",
        f"{DEMO}::test_all_scenarios_on_three_nodes",
        f"{HOLD}::test_what_must_hold_on_five_nodes",
        f"{DEMO}::test_ten_nodes",
    ),
    "asymmetric partition": (
        f"{SIZES}::test_each_scenario_ends_with_one_owner",
        f"{HOLD}::test_what_must_hold_on_five_nodes",
    ),
    "20 % loss": (
        f"{SIZES}::test_members_that_flap_leave_one_owner",
        f"{HOLD}::test_what_must_hold_on_five_nodes",
    ),
    "frozen speaker": (
        f"{SIZES}::test_each_scenario_ends_with_one_owner",
        f"{HOLD}::test_what_must_hold_on_five_nodes",
    ),
    "slow API, API restart": (
        f"{PROGRAM}::test_an_outage_withdraws_nothing_and_is_survived",
        f"{PROGRAM}::test_a_lost_watch_withdraws_nothing_and_catches_up",
        f"{HOLD}::test_what_must_hold_on_five_nodes",
    ),
    "mass endpoint churn": (f"{ROWS_L2}::test_mass_endpoint_churn_moves_nothing_it_need_not",),
    "interface removed and added, address family by address family": (
        "speaker/test_interfaces.py::test_an_interface_that_is_removed_and_comes_back",
        "speaker/test_carrier_loss.py::test_another_node_takes_over_when_the_interface_has_no_carrier",
    ),
    "no frame can stop a responder": (
        f"{RESPOND}::test_no_octets_do_worse_than_drop",
        f"{RESPOND}::test_no_broken_frame_does_worse_than_drop",
    ),
    "a flood delays nobody": (f"{REFLEX}::test_a_flood_of_requests_makes_nobody_look_dead",),
    "planner killed, stopped, mad": (
        f"{REFLEX}::test_a_planner_killed_or_stopped_changes_nothing",
        f"{REFLEX}::test_a_planner_that_misbehaves_changes_nothing",
        f"{WIRE}::test_without_planners_nothing_moves_and_a_failover_still_happens",
    ),
    "reflex killed": (f"{REFLEX}::test_a_killed_reflex_leaves_nothing_behind",),
    "hand-over on purpose": (f"{REFLEX}::test_leaving_is_make_before_break",),
    "killed without SIGTERM, and started again": (
        f"{WIRE}::test_a_speaker_killed_without_a_word_is_replaced_and_everybody_can_see_by_whom",
        "speaker/test_kills.py::test_killed_and_started_again",
        "speaker/test_kills.py::test_one_that_comes_back_and_is_slow_to_join_leaves_no_gap",
    ),
    "duplicate address detection": (
        "speaker/test_strangers.py::test_what_a_stranger_has_is_found_before_it_is_answered",
        "speaker/test_strangers.py::test_a_stranger_is_told_by_its_hardware_address",
    ),
    "self-check": (
        "speaker/test_strangers.py::test_two_answers_on_the_wire_are_found_by_the_others_and_their_end_is_told",
        "speaker/test_wire_report.py::test_the_event_names_the_address_the_node_and_the_finding",
    ),
}

ALL: Final = [
    (row, test)
    for table in (E2E_L2, E2E_OTHER, UNIT, MUST_HOLD)
    for row, tests in table.items()
    for test in tests
]


@pytest.mark.parametrize(("row", "test"), ALL, ids=[f"{row}: {test.split('::')[1]}" for row, test in ALL])
def test_the_row_has_its_test(row: str, test: str) -> None:
    assert not missing([f"tests/{test}"]), row
