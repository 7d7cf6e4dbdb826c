"""The bench in a tiny size: every kind of scenario runs, measures something, and is written into a table."""

from __future__ import annotations

from typing import Any

import pytest

from bench import capacity, peer_scenarios, scenarios
from bench.__main__ import measure, median_of
from bench.plot import bars
from bench.report import plots, table
from bench.scenarios import SMOKE
from bench.soak import Sample, judge

pytestmark = pytest.mark.e2e


def test_the_bench_measures_and_reports() -> None:
    """Tokens arrive and cost something, at ours and at a peer; under overload none is lost; all of it is in the table."""
    measured: dict[str, Any] = {
        "latency": measure(scenarios.latency, SMOKE, 1),
        "fastapi": measure(peer_scenarios.fastapi, SMOKE, 1),
        "overload": measure(capacity.overload, SMOKE, 1),
    }
    assert measured["latency"]["tokens_per_s"] > 0
    (pair,) = measured["fastapi"].values()
    assert pair["fastapi"]["tokens_per_s"] > 0
    assert pair["turnwire"]["tokens_per_s"] > 0
    assert measured["overload"]["whole answers"] == "20 of 20"
    machine = {"cpu": "a core", "python": "3"}
    text = table({"machine": machine, "runs": dict.fromkeys(measured, 1), "scenarios": measured})
    assert "FastAPI + openai SDK" in text
    assert "added latency at 5,000 tokens/s" in text
    assert set(plots(measured)) == {"tokens_per_cpu_second", "added_latency"}


def test_medians_are_taken_figure_by_figure() -> None:
    """However deep they lie; what is no number is the last run's."""
    runs = [{"a": {"b": 3, "said": "x"}}, {"a": {"b": 1, "said": "y"}}, {"a": {"b": 2, "said": "z"}}]
    assert median_of(runs) == {"a": {"b": 2, "said": "z"}}


def test_a_plot_scales_to_its_largest_value() -> None:
    """Half the value, half the bar."""
    svg = bars("Speed", [("ours", 100, True), ("theirs", 50, False)], "t/s")
    assert 'width="380.0"' in svg
    assert 'width="190.0"' in svg


@pytest.mark.parametrize(("last", "code"), [(100.0, 0), (104.0, 1)])
def test_a_soak_fails_where_something_grows(last: float, code: int) -> None:
    """Against the middle third: the first one is the way up."""
    levels = [50.0] * 3 + [100.0] * 3 + [last] * 3
    assert judge([Sample(level, 20, 4, 3) for level in levels], 9) == code
