"""The report of the results: plots next to `results.json`, and the table between the markers in the README."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from bench.capacity_search import LIMITS_MS
from bench.plot import bars, shown

FOLDER = Path(__file__).parent
RESULTS = FOLDER / "results.json"
README = FOLDER.parent / "README.md"
BEGIN, END = "<!-- bench: written by make bench -->", "<!-- /bench -->"
STORES = {"sqlite": "SQLite", "redis": "Redis"}
PEERS = {"fastapi": "FastAPI + openai SDK", "litellm": "LiteLLM proxy"}
WAYS = {
    "litellm": "LiteLLM proxy{version}, Chat Completions over SSE",
    "turnwire_chat": "**Turnwire**, Chat Completions over SSE",
    "fastapi": "FastAPI + openai SDK, WebSocket",
    "turnwire": "**Turnwire**, WebSocket",
}
"""The rows of the table of the turns that a core carries."""

TYPICAL_LOAD = "200 turns x 50/s, 1 per socket, json"
BUSY_LOAD = "under 1000 live turns x 5/s"
"""The loads in the README's rows on throughput and on the first token. `results.json` has all loads."""

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
    added: list[tuple[str, float, bool]] = []
    for peer, title in PEERS.items():
        for load, pair in _pairs(scenarios, peer):
            added += [
                (f"{title}, {load}", pair[peer]["late_p99_ms"], False),
                (f"Turnwire, {load}", pair["turnwire"]["late_p99_ms"], True),
            ]
    if added:
        made["added_latency"] = bars("Added latency of a token, 99th percentile", added, "ms")
    return made


def _pairs(scenarios: Results, peer: str) -> list[tuple[str, Results]]:
    return [(load, pair) for load, pair in scenarios.get(peer, {}).items() if isinstance(pair, dict)]


def table(results: Results) -> str:
    """Return the README's table: first the peers at the same load, then the gateway's own figures."""
    scenarios: Results = results["scenarios"]
    machine, runs = results["machine"], results["runs"]
    fewest, most = min(runs.values()), max(runs.values())
    repeated = f"{most} runs" if fewest == most else f"{fewest} to {most} runs"
    lines = [
        f"The machine: {machine['cpu']} with {machine['cores']} cores, Python {machine['python']}. Turnwire had all features on. "
        f"The figures are medians of {repeated}; `bench/results.json` has the number of runs of each, and all figures.",
        "",
        *_capacity_lines(scenarios.get("turns_per_core", {})),
        "| at the same load | tokens per CPU second | added latency p50 / p99 | first token p50 / p99 |",
        "|---|---|---|---|",
    ]
    for peer, title in PEERS.items():
        for load, pair in _pairs(scenarios, peer):
            theirs, ours = pair[peer], pair["turnwire"]
            ratio = ours["tokens_per_cpu_s"] / max(theirs["tokens_per_cpu_s"], 1)
            lines += [
                _peer_row(f"{title}, {load}", theirs),
                _peer_row(f"**Turnwire**: {ratio:.1f} times as many tokens per CPU second", ours),
            ]
    lines += ["", "| | |", "|---|---|"]
    lines += [f"| {label} | {figure} |" for label, figure in _own_rows(scenarios)]
    return "\n".join(lines)


def _capacity_lines(carried: Results) -> list[str]:
    """Return the table of the turns that a core carries, or nothing if they weren't measured."""
    if not carried:
        return []
    limits = [f"p99 <= {limit} ms" for limit in LIMITS_MS]
    lines = [
        f"| one core, turns x 50/s | {' | '.join(f'turns with {limit}' for limit in limits)} | tokens per CPU second there |",
        "|---|---|---|---|",
    ]
    for way, title in WAYS.items():
        figures = carried[way]
        if limits[0] not in figures:
            lines.append(f"| {title.format(version='')} | not installed | | |")
            continue
        version = f" {figures['version']}" if "version" in figures else ""
        turns = " | ".join(shown(figures[limit]["turns"]) for limit in limits)
        spent = " / ".join(shown(figures[limit]["tokens_per_cpu_s"]) for limit in limits)
        lines.append(f"| {title.format(version=version)} | {turns} | {spent} |")
    return [*lines, ""]


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
        if (figures := s.get(scenario, {}).get(TYPICAL_LOAD)) is not None:
            rows.append((f"{TYPICAL_LOAD}, {store}", f"{shown(figures['tokens_per_cpu_s'])} tokens per CPU second"))
    rows += _relay_rows(s)
    if "latency" in s:
        late = s["latency"]
        rows.append(("added latency at 5,000 tokens/s, p50 / p99", f"{late['late_p50_ms']} / {late['late_p99_ms']} ms"))
    if (figures := s.get("first_token", {}).get(BUSY_LOAD)) is not None:
        rows.append((f"first token, {BUSY_LOAD}, p50 / p99", _both(figures)))
    for where, figures in s.get("cancel", {}).items():
        rows.append((f"cancel {where}, answer p50 / p99", _both(figures["answer"])))
    if "idle_sockets" in s:
        rows.append(("memory per idle socket", f"{s['idle_sockets']['kib_per_socket']} KiB"))
    if "memory" in s:
        memory = s["memory"]
        rows.append(("memory per live turn", f"{memory['kib_per_turn']} KiB"))
    if "archive" in s:
        rows += _archive_rows(s["archive"])
    if "overload" in s:
        over = s["overload"]
        rows.append(
            (
                f"at {shown(over['during']['tokens_per_s'])} tokens/s, overloaded: deltas are merged into fewer frames",
                f"{_late(over['during'])}, {over['whole answers']} answers whole",
            )
        )
    return rows


def _relay_rows(s: Results) -> list[tuple[str, str]]:
    """Return the rows of the relay."""
    return [
        (
            f"{load}, {STORES[store]}, beside a relay without protocol and store",
            f"{figures['ratio']:.2f} of its tokens per CPU second",
        )
        for store, pairs in s.get("relay", {}).items()
        for load, figures in pairs.items()
    ]


def _archive_rows(figures: Results) -> list[tuple[str, str]]:
    """Return the rows of the scenario `archive`: what long turns cost, what short turns cost, and the delay of endings."""
    long_turns, short_turns, endings = figures.values()
    long_name, short_name, _ = figures
    spent = {name: one["cpu_ms_per_turn"] for name, one in short_turns.items()}
    share = 100 * long_turns["tokens_per_cpu_s_ratio"]
    return [
        (f"{long_name}, with an archive", f"{share:.0f}% of the tokens per CPU second without it"),
        *((f"a turn of {short_name}, {name}", f"{shown(cpu_ms)} ms of CPU") for name, cpu_ms in spent.items()),
        *((f"last chunk to ending, {name}, p50 / p99", _both(times)) for name, times in endings.items()),
    ]
