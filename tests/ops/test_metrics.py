from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crier.ops.metrics import Counter, Gauge, Registry, Reported


def test_exposition() -> None:
    plain = Counter("b_total", "Plain.")
    plain.add()
    plain.add(amount=1.5)
    gauge = Gauge("a", "With \\ and\nnewline.", ("x", "y"))
    gauge.set("1", "2", to=4)
    gauge.set("1", 'q"\\\n', to=float("inf"))
    reported = Reported("c", "Somebody else's.", "counter", lambda: [(("i",), 7.0)], ("ip",))
    text = Registry(plain, gauge, reported).render().decode()
    assert text == (
        "# HELP a With \\\\ and\\nnewline.\n"
        "# TYPE a gauge\n"
        'a{x="1",y="2"} 4\n'
        'a{x="1",y="q\\"\\\\\\n"} +Inf\n'
        "# HELP b_total Plain.\n"
        "# TYPE b_total counter\n"
        "b_total 2.5\n"
        "# HELP c Somebody else's.\n"
        "# TYPE c counter\n"
        'c{ip="i"} 7\n'
    )


def test_an_unlabelled_metric_is_there_from_the_start_and_a_labelled_one_is_not() -> None:
    assert Registry(Counter("a", "h"), Gauge("b", "h", ("l",))).render().decode().splitlines()[2:] == ["a 0"]


def test_a_removed_series_disappears() -> None:
    gauge = Gauge("g", "h", ("l",))
    gauge.set("a", to=1)
    gauge.remove("a")
    gauge.remove("a")
    assert Registry(gauge).render() == b""
    gauge.replace({("b",): 1.0})
    assert list(gauge.samples()) == [(("b",), 1.0)]


def test_misuse_is_refused() -> None:
    counter = Counter("c", "h", ("l",))
    with pytest.raises(ValueError, match="labels"):
        counter.add()
    with pytest.raises(ValueError, match="shrink"):
        counter.add("x", amount=-1)
    with pytest.raises(ValueError, match="two metrics"):
        Registry(counter, Counter("c", "h"))
    with pytest.raises(ValueError, match="metric name"):
        Counter("bad-name", "h")
    with pytest.raises(ValueError, match="label name"):
        Counter("c", "h", ("bad-label",))


LINE = re.compile(r'm\{l="((?:[^"\\\n]|\\\\|\\"|\\n)*)"\} 1')


@given(st.lists(st.text(), unique=True))
def test_any_label_value_is_one_well_formed_line(values: list[str]) -> None:
    gauge = Gauge("m", "h", ("l",))
    for value in values:
        gauge.set(value, to=1)
    rendered = Registry(gauge).render().decode().split("\n")
    samples = [line for line in rendered if line and not line.startswith("#")]
    assert len(samples) == len(values)
    assert all(LINE.fullmatch(line) for line in samples)
