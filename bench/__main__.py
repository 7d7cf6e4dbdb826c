"""`python -m bench [--smoke] [--runs N] [SCENARIO …]`: runs the scenarios and writes `bench/results.json`."""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from pathlib import Path
from statistics import median
from typing import Any

import uvloop

from bench.harness import machine
from bench.scenarios import FULL, SCENARIOS, SMOKE

RESULTS = Path(__file__).with_name("results.json")


def median_of(runs: list[Any]) -> Any:
    """The median of each figure over the runs; what is no number is taken from the last."""
    if all(isinstance(run, dict) for run in runs):
        return {key: median_of([run[key] for run in runs]) for key in runs[-1]}
    if all(isinstance(run, int | float) and not isinstance(run, bool) for run in runs):
        return round(median(runs), 3)
    return runs[-1]


def main() -> None:
    """Run, print, write."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("scenarios", nargs="*", metavar="SCENARIO", help=f"one of {', '.join(SCENARIOS)}; all if none")
    parser.add_argument("--smoke", action="store_true", help="tiny sizes, and nothing is written: does it all run?")
    parser.add_argument("--runs", type=int, default=1, help="medians over so many runs")
    options = parser.parse_args()
    unknown = [name for name in options.scenarios if name not in SCENARIOS]
    if unknown:
        parser.error(f"there is no scenario {unknown[0]}")
    chosen = options.scenarios or list(SCENARIOS)
    sizes = SMOKE if options.smoke else FULL
    results: dict[str, Any] = {}
    for name in chosen:
        scenario = SCENARIOS[name]
        print(f"{name}: {scenario.__doc__}", file=sys.stderr, flush=True)
        runs = []
        for _ in range(options.runs):
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                runs.append(runner.run(scenario(sizes)))
        results[name] = median_of(runs)
        print(json.dumps({name: results[name]}, indent=2), flush=True)
    if not options.smoke:
        kept = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
        kept |= {"machine": machine(), "runs": options.runs, "scenarios": kept.get("scenarios", {}) | results}
        RESULTS.write_text(json.dumps(kept, indent=2) + "\n")


if __name__ == "__main__":
    main()
