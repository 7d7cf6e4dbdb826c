"""Tests of the benchmarks: three scenarios at their smallest sizes, the report, and the verdict of the soak test."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from bench import archive, capacity, peer_scenarios, pinned, scenarios
from bench.__main__ import measure, median_of
from bench.client import Tally, open_sockets
from bench.plot import bars
from bench.report import plots, table
from bench.scenarios import SMOKE
from bench.soak import Sample, judge
from tests.in_loop_server import serving

pytestmark = pytest.mark.e2e
MACHINE = {"cpu": "a core", "cores": 2, "python": "3"}


def test_the_bench_measures_and_reports() -> None:
    """The scenarios measure throughput for the gateway and for a peer, no answer is lost under overload, and the table
    and plots show the results."""
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
    text = table({"machine": MACHINE, "runs": dict.fromkeys(measured, 1), "scenarios": measured})
    assert "FastAPI + openai SDK" in text
    assert "added latency at 5,000 tokens/s" in text
    assert set(plots(measured)) == {"tokens_per_cpu_second", "added_latency"}


def test_the_turns_that_a_core_carries_are_in_the_table(monkeypatch: pytest.MonkeyPatch) -> None:
    """Turnwire is measured with both protocols beside its peers. A peer that isn't installed has a row without figures."""
    monkeypatch.setattr(pinned, "installed_version", lambda: None)
    measured = measure(pinned.turns_per_core, SMOKE, 1)
    for name in ("fastapi", "turnwire", "turnwire_chat"):
        assert measured[name]["loads"]["10"]["tokens_per_cpu_s"] > 0
    other = {"turns": 12, "tokens_per_cpu_s": 740}
    scenario = {**measured, "fastapi": {"p99 <= 10 ms": other, "p99 <= 100 ms": {**other, "turns": 20}}}
    results = {"machine": MACHINE, "runs": {"turns_per_core": 1}, "scenarios": {"turns_per_core": scenario}}
    text = table(results)
    assert "The machine: a core with 2 cores, Python 3." in text
    assert "| FastAPI + openai SDK, WebSocket | 12 | 20 | 740 / 740 |" in text
    assert "| LiteLLM proxy, Chat Completions over SSE | not installed | | |" in text
    assert "| **Turnwire**, Chat Completions over SSE | " in text
    measured["litellm"] = {**scenario["fastapi"], "version": "1.108.7"}
    results["scenarios"] = {"turns_per_core": measured}
    assert "| LiteLLM proxy 1.108.7, Chat Completions over SSE | 12 | 20 | 740 / 740 |" in table(results)


def test_the_median_is_taken_of_the_runs_that_have_a_figure() -> None:
    """A figure that not all runs have gets the median of those that have it."""
    assert median_of([{"loads": {"10": 1, "15": 5}}, {"loads": {"10": 3, "12": 7}}]) == {
        "loads": {"10": 2, "15": 5, "12": 7}
    }


def test_the_median_of_each_nested_number_is_taken() -> None:
    """The median is taken of each number at any depth; a value that isn't a number is taken from the last run."""
    runs = [{"a": {"b": 3, "unit": "x"}}, {"a": {"b": 1, "unit": "y"}}, {"a": {"b": 2, "unit": "z"}}]
    assert median_of(runs) == {"a": {"b": 2, "unit": "z"}}


def test_the_costs_of_an_archive_are_in_the_table() -> None:
    """The table has the share of tokens per CPU second, the CPU time of a short turn, and the time until an ending."""
    times = {"p50_ms": 5.0, "p99_ms": 20.5}
    figures = {
        "400 tokens x 50/s": {"tokens_per_cpu_s_ratio": 0.97},
        "20 tokens x 1000/s": {"without an archive": {"cpu_ms_per_turn": 4.2}},
        "from the last chunk to the ending": {"with an archive": times},
    }
    text = table({"machine": MACHINE, "runs": {"archive": 1}, "scenarios": {"archive": figures}})
    assert "| 400 tokens x 50/s, with an archive | 97% of the tokens per CPU second without it |" in text
    assert "| a turn of 20 tokens x 1000/s, without an archive | 4.2 ms of CPU |" in text
    assert "| last chunk to ending, with an archive, p50 / p99 | 5 / 20.5 ms |" in text


def test_a_plot_scales_to_its_largest_value() -> None:
    """The bar of half the value is half as long."""
    svg = bars("Speed", [("ours", 100, True), ("theirs", 50, False)], "t/s")
    assert 'width="380.0"' in svg
    assert 'width="190.0"' in svg


@pytest.mark.parametrize(("last", "code"), [(100.0, 0), (104.0, 1)])
def test_a_soak_fails_if_a_resource_grows(last: float, code: int) -> None:
    """The last third is compared with the middle third, because the first third is warm-up."""
    levels = [50.0] * 3 + [100.0] * 3 + [last] * 3
    assert judge([Sample(level, 20, 4, 3) for level in levels], 9) == code


async def test_what_waits_on_a_closed_socket_fails() -> None:
    """A scenario can't wait forever for a turn of a connection that the gateway has closed. The error has the reason."""
    async with serving() as server:
        (socket,) = await open_sockets(server.url, 1, Tally())
        ended, first = socket.ending("t1"), socket.first_token("t1")
        for client in server.gateway.services.clients.all():
            client.close_permanently("a test")
        for waiting in (ended, first):
            with pytest.raises(ConnectionError, match="4403"):
                await waiting
        with pytest.raises(ConnectionError, match="4403"):
            await socket.ask("ping")


async def test_a_turn_that_never_ends_is_named() -> None:
    """The scenario of the archive fails with the ids of the turns that should have ended."""
    async with serving() as server:
        sockets = await open_sockets(server.url, 1, Tally())
        sockets[0].ending("lost")
        side = archive.Side(0, 0, sockets, sockets[0].tally)
        endless = asyncio.ensure_future(asyncio.Event().wait())
        with pytest.raises(TimeoutError, match="lost"):
            await archive.until_ended([endless], [side], timeout_s=0.01)
        assert endless.cancelled()
