"""Inputs the fuzzer kept, one for each way a decoder was ever seen to end, and some of today."""

from __future__ import annotations

import pytest

from tests.memberlist import fuzz


@pytest.mark.parametrize("name", fuzz.FUZZER.targets)
def test_each_ends_as_it_did(name: str) -> None:
    corpus = fuzz.FUZZER.load(name)
    assert len(corpus) >= 3, "a corpus that is not found would prove nothing"
    for expected, data in corpus:
        kind, _ = fuzz.FUZZER.outcome(name, data)
        assert kind == expected, data.hex()


@pytest.mark.parametrize("name", fuzz.FUZZER.targets)
def test_some_hundred_new_ones(name: str) -> None:
    fuzz.FUZZER.some(name, 300)
