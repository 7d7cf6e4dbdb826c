"""What `make test`, `make coverage` and `make fuzz` run.

`python -m tests.suite` runs every part of the suite, whichever fails, and says at the end how each one went, what it
cost, and which tests were the slowest.
"""

from __future__ import annotations

import os
import platform
import resource
import subprocess
import sys
import time
import xml.etree.ElementTree as ET
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
BIN = Path(sys.executable).parent
REPORTS = ROOT / "tests" / "artifacts"
UNIT = ("tests/unit", *sorted(str(path.relative_to(ROOT)) for path in (ROOT / "tests").glob("test_*.py")))
PACKAGES = ("gateway", "providers", "store")
COVERED_PERCENT = 90
SLOWEST = 10


@dataclass(frozen=True)
class Part:
    """Commands that are run one after the other, and what they may cost on two cores of their own."""

    name: str
    wall_s: int
    cpu_s: int
    commands: tuple[tuple[str, ...], ...]


def _pytest(name: str, workers: int, *arguments: str) -> tuple[str, ...]:
    report = f"--junit-xml={REPORTS / name}.xml"
    return (str(BIN / "pytest"), *arguments, "-n", str(workers), "--dist", "loadfile", report)


# Most end-to-end tests wait nearly all the time, so two cores have room for more of them than two; not so for those that
# look at how long something takes. tests/README.md says the same in words.
PARTS = (
    Part(
        "lint",
        40,
        40,
        (
            (str(BIN / "ruff"), "check", "."),
            (str(BIN / "ruff"), "format", "--check", "."),
            (str(BIN / "mypy"),),
            (str(BIN / "lint-imports"),),
        ),
    ),
    Part("unit", 90, 130, (_pytest("unit", 3, *UNIT),)),
    Part("e2e", 250, 480, (_pytest("e2e", 5, "tests/e2e", "-m", "not timed"),)),
    Part("timed", 100, 150, (_pytest("timed", 2, "tests/e2e", "-m", "timed"),)),
)


@dataclass(frozen=True)
class Outcome:
    """How a part went; `failed` is the command that did not end with 0."""

    part: Part
    failed: str | None
    wall_s: float
    cpu_s: float


def _children_cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def run(part: Part, environment: Mapping[str, str] | None = None) -> Outcome:
    """Run every command of a part, whichever fails."""
    began, before = time.monotonic(), _children_cpu_s()
    failed = None
    for command in part.commands:
        shown = " ".join([Path(command[0]).name, *command[1:]])
        print(f"\n== {part.name}: {shown}", flush=True)
        if subprocess.run(command, cwd=ROOT, env=environment, check=False).returncode != 0 and failed is None:
            failed = shown
    return Outcome(part, failed, time.monotonic() - began, _children_cpu_s() - before)


def slowest(names: Sequence[str]) -> list[tuple[float, str]]:
    """Seconds and names of the slowest tests in the reports of these parts, with their set-up."""
    found = []
    for name in names:
        report = REPORTS / f"{name}.xml"
        if report.exists():
            for case in ET.parse(report).iter("testcase"):
                found.append((float(case.get("time", "0")), f"{case.get('classname')}::{case.get('name')}"))
    return sorted(found, reverse=True)[:SLOWEST]


def tell(outcomes: Sequence[Outcome]) -> None:
    """Print what each part cost, the slowest tests, and what failed."""
    print(f"\n== The {SLOWEST} slowest tests, in seconds")
    for seconds, name in slowest([outcome.part.name for outcome in outcomes]):
        print(f"{seconds:7.1f}  {name}")
    print(f"\n== Python {platform.python_version()}; seconds of wall and CPU, with what each part may cost")
    for outcome in outcomes:
        part = outcome.part
        over = "  over its budget" if outcome.wall_s > part.wall_s or outcome.cpu_s > part.cpu_s else ""
        wall, cpu = f"{outcome.wall_s:4.0f} of {part.wall_s}", f"{outcome.cpu_s:4.0f} of {part.cpu_s}"
        print(f"{part.name:8} wall {wall:12} CPU {cpu:12}{over}")
    wall_s, cpu_s = sum(outcome.wall_s for outcome in outcomes), sum(outcome.cpu_s for outcome in outcomes)
    print(f"{'all':8} wall {wall_s:4.0f} of {sum(part.wall_s for part in PARTS)}".ljust(27), end="")
    print(f"CPU {cpu_s:4.0f} of {sum(part.cpu_s for part in PARTS)}")
    for outcome in outcomes:
        if outcome.failed:
            print(f"FAILED: {outcome.part.name}: {outcome.failed}")


def everything() -> int:
    """All parts. Returns the exit code."""
    REPORTS.mkdir(exist_ok=True)
    for report in REPORTS.glob("*.xml"):
        report.unlink()
    outcomes = [run(part) for part in PARTS]
    tell(outcomes)
    return int(any(outcome.failed for outcome in outcomes))


def coverage(packages: Sequence[str]) -> int:
    """The unit tests under coverage.py: lines and branches of each package. Returns the exit code."""
    environment = {**os.environ, "TURNWIRE_TESTS_FORK": "0"}
    measured = [f"--cov={package}" for package in packages]
    pytest = (str(BIN / "pytest"), *UNIT, "-n", "2", "--dist", "loadfile", *measured, "--cov-report=")
    reports = [
        (*(str(BIN / "coverage"), "report", f"--include={package}/*"), f"--fail-under={COVERED_PERCENT}")
        for package in packages
    ]
    outcome = run(Part("coverage", 0, 0, (pytest, *reports)), environment)
    if outcome.failed:
        print(f"FAILED: coverage: {outcome.failed}")
    return int(outcome.failed is not None)


def fuzz(examples: int) -> int:
    """Every property test, with so many examples. Returns the exit code."""
    environment = {**os.environ, "TURNWIRE_FUZZ_EXAMPLES": str(examples)}
    selected = ("tests", "-m", "hypothesis or fuzzed", "--timeout=0", "-n", "2")
    return int(run(Part("fuzz", 0, 0, ((str(BIN / "pytest"), *selected),)), environment).failed is not None)


def main() -> int:
    """Which of them is meant: the first argument says so."""
    match sys.argv[1:]:
        case []:
            return everything()
        case ["coverage", *packages] if set(packages) <= set(PACKAGES):
            return coverage(packages or PACKAGES)
        case ["fuzz", number] if number.isdecimal() and int(number) > 0:
            return fuzz(int(number))
        case _:
            print(f"python -m tests.suite [coverage [{' | '.join(PACKAGES)}] | fuzz EXAMPLES]", file=sys.stderr)
            return 2


if __name__ == "__main__":
    sys.exit(main())
