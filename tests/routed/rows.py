"""MetalLB's own end-to-end tests of BGP (e2etest/bgptests), and which of our tests shows the same.

A value is test ids, separated by blanks, or, after `-`, why the row has none here.
"""

from __future__ import annotations

from typing import Final

ANNOUNCE: Final = "tests/routed/test_announce.py::"
SESSIONS: Final = "tests/routed/test_sessions.py::"
SURVIVAL: Final = "tests/routed/test_survival.py::"
PLAN: Final = "tests/speaker/planner/test_routes.py::"

ROWS: Final[dict[str, str]] = {
    "BGP: A service of protocol load balancer should work with ETP=cluster": (
        f"{ANNOUNCE}test_every_node_is_a_next_hop_and_serves"
    ),
    "GracefulRestart: dataplane should keep working": (
        f"{SURVIVAL}test_a_speaker_that_is_restarted_keeps_its_routes_with_graceful_restart"
    ),
    "GracefulRestart: should have a downtime": (
        f"{SURVIVAL}test_without_graceful_restart_its_routes_go_and_come_back"
    ),
    "Service with ETP=cluster: not announced from a node with NetworkUnavailable": (
        f"{ANNOUNCE}test_network_unavailable_and_the_exclude_label_take_a_node_away"
    ),
    "A service of protocol load balancer should work with ETP=local": (
        f"{ANNOUNCE}test_local_policy_is_announced_where_its_endpoints_are"
    ),
    "FRR must be deployed when enabled": "- a check of MetalLB's own deployment",
    "A load balancer service should work with overlapping IPs": (
        f"{ANNOUNCE}test_two_services_share_an_address "
        f"{PLAN}test_every_address_is_covered_and_the_order_of_the_view_is_nothing"
    ),
    "set different AddressPools ranges modes": "tests/kube/test_config.py::test_addresses",
    "configure peers with routerid": f"{SESSIONS}test_timers_router_id_and_source_reach_the_router",
    "configure peers with GracefulRestart": (
        f"{SURVIVAL}test_a_speaker_that_is_restarted_keeps_its_routes_with_graceful_restart"
    ),
    "configure peers with localASN": f"{SESSIONS}test_a_local_as_for_one_session",
    "configure peers with Secret Ref": f"{SESSIONS}test_the_password_of_a_secret_and_its_change",
    "ServiceBGPStatus": f"{ANNOUNCE}test_the_status_of_a_service_follows_its_peers",
    "BFD: should work with the given bfd profile": (
        f"{SURVIVAL}test_the_profile_reaches_the_router_and_echo_is_warned_of"
    ),
    "validate configuration changes: subsequent configuration updates; configure peers one by one": (
        f"{ANNOUNCE}test_a_change_of_one_object_leaves_the_sessions_alone"
    ),
    "configure bgp advertisement and verify it gets propagated": (
        f"{ANNOUNCE}test_attributes_reach_the_right_prefixes_and_change_while_they_run"
    ),
    "overlapping bgp advertisements union communities for the same prefix": (
        f"{ANNOUNCE}test_overlapping_advertisements_unite_their_communities"
    ),
    "BGP advertisement updates of communities and localpref and aggregation length": (
        f"{ANNOUNCE}test_attributes_reach_the_right_prefixes_and_change_while_they_run"
    ),
    "MetalLB FRR rejects any routes advertised by any neighbor": (
        f"{SESSIONS}test_routes_of_a_router_never_reach_a_nodes_kernel"
    ),
    "MetalLB allows adding extra FRR configuration": (
        "tests/frr/test_extras.py::test_incoming_routes_are_taken_when_it_says_so "
        "tests/frr/test_program.py::test_a_service_reaches_the_router_by_frr"
    ),
    "FRR validate reload feedback": "tests/frr/test_reload.py::test_the_reloader",
    "FRR running configuration: Full BFD profile": (
        f"{SURVIVAL}test_the_profile_reaches_the_router_and_echo_is_warned_of"
    ),
    "FRR running configuration: BGP Peer parameters, BGP Timer Update; connect time": (
        f"{SESSIONS}test_timers_router_id_and_source_reach_the_router"
    ),
    "should work with two protocols": f"{ANNOUNCE}test_layer_2_and_bgp_together_and_each_alone",
    "dynamic ASN (right / wrong mode)": f"{SESSIONS}test_a_dynamic_as",
    "BGP Multiprotocol": (
        f"{ANNOUNCE}test_both_families_over_one_session "
        f"{ANNOUNCE}test_a_session_over_ipv6_with_one_family_and_with_both"
    ),
    "BGP Node Selector: Two services two advertisements": f"{ANNOUNCE}test_peer_node_and_service_selectors",
    "BGP Node Selector: Single service two advertisements": (
        f"{ANNOUNCE}test_peer_node_and_service_selectors"
    ),
    "BGP Node Selector: One service + labeling node": f"{ANNOUNCE}test_peer_node_and_service_selectors",
    "BGP Node Selector: updating one nodeSelector": f"{ANNOUNCE}test_peer_node_and_service_selectors",
    "BGP Node Selector: Peer selector": f"{ANNOUNCE}test_a_peers_node_selector_and_another_as_per_node",
    "BGP Node Selector: Different ASN per node": (
        f"{ANNOUNCE}test_a_peers_node_selector_and_another_as_per_node"
    ),
    "BGP Peer Selector: advertised only to listed peers; union over advertisements": (
        f"{ANNOUNCE}test_peer_node_and_service_selectors"
    ),
    "BGP Service Selector": (
        f"{ANNOUNCE}test_peer_node_and_service_selectors {PLAN}test_advertisements_that_do_or_do_not_select"
    ),
    "BGP metrics: should collect BGP metrics": f"{ANNOUNCE}test_every_node_is_a_next_hop_and_serves",
    "BGP metrics: exposed by the controller": "- of the controller: tests/allocator",
    "BFD metrics from FRR": f"{SURVIVAL}test_a_path_that_is_silent_ends_the_session_and_heals",
    "config-related metrics": (
        f"{SESSIONS}test_each_bad_field_is_named_and_nothing_else_changes "
        "tests/speaker/planner/test_routed.py::test_a_bad_peer_is_told_in_state_event_and_metrics_and_cleared"
    ),
    "FRR Unnumbered BGP": f"{SESSIONS}test_an_unnumbered_peer_with_bfd",
}
