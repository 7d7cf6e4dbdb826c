"""The report of the results: plots next to `results.json`, and the table between the markers in the README."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from bench.plot import bars, shown

FOLDER = Path(__file__).parent
RESULTS = FOLDER / "results.json"
README = FOLDER.parent / "README.md"
BEGIN, END = "<!-- bench: written by make bench -->", "<!-- /bench -->"
PEERS = {"fastapi": "FastAPI + openai SDK", "litellm": "LiteLLM proxy"}

Results = dict[str, Any]


def write_report(results: Results) -> None:
    """Write the plots, and the table between the markers in the README."""
    for name, svg in plots(results["scenarios"]).items():
        (FOLDER / f"{name}.svg").write_text(svg, encoding="utf-8")
    text = README.read_text(encoding="utf-8")
    block = f"{BEGIN}\n{table(results)}\n{END}"
    pattern = re.compile(re.escape(BEGIN) + ".*?" + re.escape(END), re.DOTALL)
    README.write_text(pattern.sub(lambda _: block, text), encoding="utf-8")


def plots(scenarios: Results) -> dict[str, str]:
    """Return the plots as SVG, by name."""
    made: dict[str, str] = {}
    speed = [(load, figures["tokens_per_cpu_s"], True) for load, figures in scenarios.get("throughput", {}).items()]
    speed += [
        (f"{load}, Redis", figures["tokens_per_cpu_s"], True)
        for load, figures in scenarios.get("throughput_redis", {}).items()
    ]
    speed += [
        (f"{PEERS[peer]}, {load}", pair[peer]["tokens_per_cpu_s"], False)
        for peer in PEERS
        for load, pair in _pairs(scenarios, peer)
    ]
    if speed:
        made["tokens_per_cpu_second"] = bars("Tokens delivered per CPU second of the gateway", speed, "")
    firsts: list[tuple[str, float, bool]] = []
    for peer, title in PEERS.items():
        for load, pair in _pairs(scenarios, peer):
            firsts += [
                (f"{title}, {load}", pair[peer]["late_p99_ms"], False),
                (f"Turnwire, {load}", pair["turnwire"]["late_p99_ms"], True),
            ]
    if firsts:
        made["added_latency"] = bars("Added latency of a token, 99th percentile", firsts, "ms")
    return made


def _pairs(scenarios: Results, peer: str) -> list[tuple[str, Results]]:
    return [(load, pair) for load, pair in scenarios.get(peer, {}).items() if isinstance(pair, dict)]


def table(results: Results) -> str:
    """Return the README's table: first the peers at the same load, then the gateway's own figures."""
    scenarios: Results = results["scenarios"]
    machine, runs = results["machine"], results["runs"]
    most = max(runs.values())
    repeated = ", ".join(name.replace("_", " ") for name in runs if runs[name] == most)
    lines = [
        f"One core of {machine['cpu']}, Python {machine['python']}, every feature on; medians of {most} runs of "
        f"{repeated}, fewer of the rest. All figures are in `bench/results.json`.",
        "",
        "| at the same load | tokens per CPU second | added latency p50 / p99 | first token p50 / p99 |",
        "|---|---|---|---|",
    ]
    for peer, title in PEERS.items():
        for load, pair in _pairs(scenarios, peer):
            theirs, ours = pair[peer], pair["turnwire"]
            ratio = ours["tokens_per_cpu_s"] / max(theirs["tokens_per_cpu_s"], 1)
            lines += [
                _peer_row(f"{title}, {load}", theirs),
                _peer_row(f"**Turnwire**, {ratio:.1f} times as many", ours),
            ]
    lines += ["", "| | |", "|---|---|"]
    lines += [f"| {what} | {said} |" for what, said in _own_rows(scenarios)]
    return "\n".join(lines)


def _peer_row(name: str, figures: Results) -> str:
    first = figures["first_token"]
    return (
        f"| {name} | {shown(figures['tokens_per_cpu_s'])} | "
        f"{shown(figures['late_p50_ms'])} / {shown(figures['late_p99_ms'])} ms | {_both(first)} |"
    )


def _both(figures: Results) -> str:
    return f"{shown(figures['p50_ms'])} / {shown(figures['p99_ms'])} ms"


def _late(figures: Results) -> str:
    return f"added latency p99 {shown(figures['late_p99_ms'])} ms"


def _own_rows(s: Results) -> list[tuple[str, str]]:
    rows: list[tuple[str, str]] = []
    for scenario, store in (("throughput", "SQLite"), ("throughput_redis", "Redis")):
        for load, figures in s.get(scenario, {}).items():
            rows.append((f"{load}, {store}", f"{shown(figures['tokens_per_cpu_s'])} tokens per CPU second"))
    if "latency" in s:
        late = s["latency"]
        rows.append(("added latency at 5,000 tokens/s, p50 / p99", f"{late['late_p50_ms']} / {late['late_p99_ms']} ms"))
    for load, figures in s.get("first_token", {}).items():
        rows.append((f"first token, {load}, p50 / p99", _both(figures)))
    for where, figures in s.get("cancel", {}).items():
        rows.append((f"cancel {where}, answer p50 / p99", _both(figures["answer"])))
    if "idle_sockets" in s:
        rows.append(("memory per idle socket", f"{s['idle_sockets']['kib_per_socket']} KiB"))
    if "memory" in s:
        memory = s["memory"]
        levels = ", ".join(shown(level) for level in memory["mib_before_and_after_each"])
        rows.append(("memory per live turn", f"{memory['kib_per_turn']} KiB"))
        rows.append((f"memory before and after each of three bursts of {memory['turns']:,} turns", f"{levels} MiB"))
    if "flat" in s:
        flat = s["flat"]
        rows.append((f"a turn after {flat['ended_turns']:,} ended ones", f"{flat['ratio']:.2f} times its cost before"))
        rows.append((f"and beside {flat['idle_sockets']:,} idle sockets", f"{flat['ratio_beside']:.2f} times"))
    if "overload" in s:
        over = s["overload"]
        rows.append(
            (
                f"at {shown(over['during']['tokens_per_s'])} tokens/s, more than twice a core's load",
                f"{_late(over['during'])}, {over['whole answers']} answers whole",
            )
        )
    if "workers" in s:
        rows.append(("two workers", f"{s['workers']['scaling_by_busiest']} times one"))
    if "start" in s:
        rows.append(("start to ready, p50", f"{shown(s['start']['p50_ms'])} ms"))
    return rows
