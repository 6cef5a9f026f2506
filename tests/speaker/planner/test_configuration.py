from __future__ import annotations

from crier.kube.model.states import CONFIGURATION_ERROR, RECONCILED, UNKNOWN_ERROR
from speaker.planner.configuration import Keeper
from tests.speaker.planner.builders import ad_object, pool_object, service

GOOD = [pool_object("p", "10.20.30.0/24")]
OTHER = [pool_object("p", "10.20.31.0/24")]
BAD = [pool_object("p", "10.20.30.0/24"), pool_object("q", "10.20.30.128/25")]


def test_the_first_good_configuration_is_in_force() -> None:
    keeper = Keeper()
    keeper.consider(GOOD, [ad_object()], {}, [])
    assert keeper.in_force is not None
    assert list(keeper.in_force.pools.pools) == ["p"]
    assert keeper.condition is not None
    assert (keeper.condition.status, keeper.condition.reason) == ("True", RECONCILED)


def test_a_bad_one_is_refused_whole_and_the_last_good_one_stays() -> None:
    keeper = Keeper()
    keeper.consider(GOOD, [ad_object()], {}, [])
    before = keeper.in_force
    keeper.consider(BAD, [ad_object(), ad_object("second")], {}, [])
    assert keeper.in_force is before
    assert keeper.stale
    assert keeper.condition is not None
    assert (keeper.condition.status, keeper.condition.reason) == ("False", CONFIGURATION_ERROR)
    assert keeper.condition.message.startswith("configuration error: ")
    assert "overlaps with already defined CIDR" in keeper.condition.message
    keeper.consider(OTHER, [ad_object()], {}, [])
    assert keeper.in_force is not before
    assert not keeper.stale


def test_every_problem_is_told() -> None:
    keeper = Keeper()
    ads = [ad_object("x", ipAddressPools=["p", "p"])]
    keeper.consider(BAD, ads, {"IPAddressPool metallb-system/r": "spec: Expected object"}, [])
    assert keeper.in_force is None
    assert keeper.condition is not None
    for expected in (
        "overlaps",
        "duplicate definition of ipAddressPools",
        "metallb-system/r: spec: Expected",
    ):
        assert expected in keeper.condition.message


def test_the_same_objects_again_are_the_same_configuration() -> None:
    """Status counters of a pool change with every allocation; the configuration does not."""
    keeper = Keeper()
    keeper.consider(GOOD, [ad_object()], {}, [])
    before = keeper.in_force
    keeper.consider([pool_object("p", "10.20.30.0/24")], [ad_object()], {}, [])
    assert keeper.in_force is before


def test_an_announced_service_is_not_stranded() -> None:
    keeper = Keeper()
    web = service("web", "10.20.30.1")
    keeper.consider(GOOD, [ad_object()], {}, [web])
    before = keeper.in_force
    keeper.consider(OTHER, [ad_object()], {}, [web])
    assert keeper.in_force is before
    assert keeper.stale
    assert keeper.condition is not None
    assert keeper.condition.reason == UNKNOWN_ERROR
    assert "'default/web' has not moved yet: 10.20.30.1 is in no pool" in keeper.condition.message
    # the controller moves it, and nothing else has to change
    keeper.consider(OTHER, [ad_object()], {}, [service("web", "10.20.31.1")])
    assert keeper.in_force is not before
    assert not keeper.stale


def test_a_configuration_that_waits_is_forgotten_when_it_is_taken_back() -> None:
    keeper = Keeper()
    web = service("web", "10.20.30.1")
    keeper.consider(GOOD, [], {}, [web])
    keeper.consider(OTHER, [], {}, [web])
    keeper.consider(GOOD, [], {}, [web])
    assert not keeper.stale


def test_the_first_configuration_strands_nobody() -> None:
    """What a planner finds when it starts is what is wanted; there is no earlier one it could keep."""
    keeper = Keeper()
    keeper.consider(OTHER, [], {}, [service("web", "10.20.30.1")])
    assert keeper.in_force is not None


def test_before_anything_was_considered_there_is_nothing_to_say() -> None:
    keeper = Keeper()
    assert keeper.in_force is None
    assert not keeper.stale
