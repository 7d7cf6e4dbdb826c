"""`python -m bench [--smoke] [--runs N] [--report] [SCENARIO …]`: run scenarios, and write results, plots and a table.

The results are in `bench/results.json`.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from collections.abc import Callable, Coroutine
from statistics import median
from typing import Any

import uvloop

from bench import archive, capacity, peer_scenarios, pinned, scenarios
from bench.harness import machine
from bench.report import RESULTS, write_report
from bench.scenarios import FULL, SMOKE, Figures, Sizes

Scenario = Callable[[Sizes], Coroutine[Any, Any, Figures]]
REPEATED: tuple[Scenario, ...] = (
    scenarios.throughput,
    scenarios.throughput_redis,
    scenarios.latency,
    scenarios.first_token,
    scenarios.cancel,
    pinned.turns_per_core,
    capacity.workers,
    capacity.idle_sockets,
    capacity.memory,
    capacity.start,
    peer_scenarios.fastapi,
    peer_scenarios.chat_completions,
    peer_scenarios.litellm,
)
ONCE: tuple[Scenario, ...] = (
    pinned.relay,
    capacity.replay,
    capacity.flat,
    capacity.slow_client,
    capacity.overload,
    capacity.redis_costs,
    archive.archive,
)
SCENARIOS = {scenario.__name__: scenario for scenario in REPEATED + ONCE}


def median_of(runs: list[Any]) -> Any:
    """Return the median of each figure over the runs that have it. A value that isn't a number is that of the last run."""
    if all(isinstance(run, dict) for run in runs):
        keys = dict.fromkeys(key for run in runs for key in run)
        return {key: median_of([run[key] for run in runs if key in run]) for key in keys}
    if all(isinstance(run, list) for run in runs):
        return [median_of(list(each)) for each in zip(*runs, strict=True)]
    if all(isinstance(run, int | float) and not isinstance(run, bool) for run in runs):
        return round(median(runs), 3)
    return runs[-1]


def measure(scenario: Scenario, sizes: Sizes, runs: int) -> Figures:
    """Run the scenario `runs` times. Return the medians."""
    figures: list[Figures] = []
    for _ in range(runs):
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as starter:
            figures.append(starter.run(scenario(sizes)))
    median_figures: Figures = median_of(figures)
    return median_figures


def main() -> None:
    """Run the scenarios, print their figures, and write the results."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument(
        "scenarios", nargs="*", metavar="SCENARIO", help=f"one of {', '.join(SCENARIOS)} (default: all)"
    )
    parser.add_argument(
        "--smoke", action="store_true", help="run with tiny sizes and write nothing, to check that all scenarios work"
    )
    parser.add_argument(
        "--runs",
        type=int,
        default=1,
        help=f"number of runs whose medians are reported; these run once: {', '.join(each.__name__ for each in ONCE)}",
    )
    parser.add_argument(
        "--report", action="store_true", help="run no scenario, and only regenerate the plots and the table"
    )
    options = parser.parse_args()
    unknown = [name for name in options.scenarios if name not in SCENARIOS]
    if unknown:
        parser.error(f"unknown scenario: {unknown[0]}")
    kept = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    for name in () if options.report else options.scenarios or SCENARIOS:
        scenario = SCENARIOS[name]
        print(f"{name}: {scenario.__doc__}", file=sys.stderr, flush=True)
        runs = options.runs if scenario in REPEATED else 1
        figures = measure(scenario, SMOKE if options.smoke else FULL, runs)
        print(json.dumps({name: figures}, indent=2), flush=True)
        if not options.smoke:
            # Write after each scenario, so that a later failure doesn't lose the results.
            kept["machine"] = machine()
            kept.setdefault("runs", {})[name] = runs
            kept.setdefault("scenarios", {})[name] = figures
            RESULTS.write_text(json.dumps(kept, indent=2) + "\n")
    if not options.smoke:
        write_report(kept)


if __name__ == "__main__":
    main()
