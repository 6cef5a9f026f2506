"""Inputs the fuzzer kept, one for each way a decoder was ever seen to end, and some of today."""

from __future__ import annotations

import pytest

from bgp_lite.messages import Open
from tests.bgp_lite import fuzz


@pytest.mark.parametrize("name", fuzz.FUZZER.targets)
def test_each_ends_as_it_did(name: str) -> None:
    corpus = fuzz.FUZZER.load(name)
    assert len(corpus) >= 2, "a corpus that is not found would prove nothing"
    for expected, data in corpus:
        kind, _ = fuzz.FUZZER.outcome(name, data)
        assert kind == expected, data.hex()


@pytest.mark.parametrize("name", fuzz.FUZZER.targets)
def test_some_hundred_new_ones(name: str) -> None:
    fuzz.FUZZER.some(name, 300)


def test_the_opens_of_real_routers_are_understood() -> None:
    frr, bird, gobgp = (fuzz._read([octets])[0][0] for octets in fuzz.ROUTERS)
    for message, hold in ((frr, 9), (bird, 240), (gobgp, 9)):
        assert isinstance(message, Open)
        assert (message.real_asn, message.hold_time) == (65000, hold)
        assert len(message.capabilities.families) == 2
        assert message.capabilities.route_refresh
        assert message.capabilities.graceful_restart is not None
    assert isinstance(frr, Open)
    assert isinstance(bird, Open)
    assert isinstance(gobgp, Open)
    assert frr.capabilities.graceful_restart.notification  # type: ignore[union-attr]
    assert frr.capabilities.extended_message
    assert bird.capabilities.enhanced_refresh
    assert gobgp.capabilities.extended_next_hop
    assert (frr.capabilities.hostname, bird.capabilities.hostname) == ("vm", "")
