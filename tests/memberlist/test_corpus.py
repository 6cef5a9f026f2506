"""Inputs the fuzzer kept, one for each way a decoder was ever seen to end, and some of today."""

from __future__ import annotations

import random

import pytest

from tests.memberlist import fuzz


@pytest.mark.parametrize("name", fuzz.TARGETS)
def test_each_ends_as_it_did(name: str) -> None:
    corpus = fuzz.load(name)
    assert len(corpus) >= 3, "a corpus that is not found would prove nothing"
    for expected, data in corpus:
        kind, _ = fuzz.outcome(fuzz.TARGETS[name], data)
        assert kind == expected, data.hex()


@pytest.mark.parametrize("name", fuzz.TARGETS)
def test_some_hundred_new_ones(name: str) -> None:
    rng = random.Random(name)  # the same ones each time; the fuzzer proper takes other seeds
    seeds = [data for _, data in fuzz.load(name)]
    for _ in range(300):
        fuzz.outcome(fuzz.TARGETS[name], fuzz.mutate(rng.choice(seeds), rng, seeds))
