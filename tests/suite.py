"""The commands of `make test`, `make coverage` and `make fuzz`.

`python -m tests.suite` runs every part of the suite, even if one fails, and prints the result and the cost of each part
and the slowest tests.
"""

from __future__ import annotations

import os
import platform
import signal
import subprocess
import sys
import tempfile
import threading
import time
import xml.etree.ElementTree as ET
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

ROOT = Path(__file__).parents[1]
BIN = Path(sys.executable).parent
REPORTS = ROOT / "tests" / "artifacts"
UNIT_TESTS = ("tests/unit", *sorted(str(path.relative_to(ROOT)) for path in (ROOT / "tests").glob("test_*.py")))
TIMED_TESTS = tuple(
    sorted(
        str(path.relative_to(ROOT))
        for path in (ROOT / "tests" / "e2e").rglob("test_*.py")
        if b"mark.timed" in path.read_bytes()
    )
)
"""The files with tests that measure time; the other files needn't be collected for them."""
PACKAGES = ("gateway", "providers", "store")
COVERED_PERCENT = 90
SLOWEST = 10
WALL_S, CPU_S = 480, 840
"""The budget of all parts on two idle cores."""


@dataclass(frozen=True)
class Part:
    """Commands that are run one after another, and their budget on two idle cores."""

    name: str
    wall_s: int
    cpu_s: int
    commands: tuple[tuple[str, ...], ...]


def _pytest(name: str, workers: int, *arguments: str) -> tuple[str, ...]:
    forked = ("-p", "no:xdist", "-p", "tests.forked_workers", "--workers", str(workers))
    return (sys.executable, "-m", "pytest", *arguments, *forked, f"--junit-xml={REPORTS / name}.xml")


LINT = Part(
    "lint",
    60,
    32,
    (
        (str(BIN / "ruff"), "check", "."),
        (str(BIN / "ruff"), "format", "--check", "."),
        (str(BIN / "mypy"),),
        (str(BIN / "lint-imports"),),
    ),
)
UNIT = Part("unit", 130, 240, (_pytest("unit", 5, *UNIT_TESTS),))
E2E = Part("e2e", 250, 448, (_pytest("e2e", 7, "tests/e2e", "-m", "not timed"),))
TIMED = Part("timed", 100, 120, (_pytest("timed", 2, *TIMED_TESTS, "-m", "timed"),))

# The lanes of a group run concurrently, on two cores, and the parts of a lane one after another. Most tests wait half of the
# time, so several of them can run at once, but not those that measure times. tests/README.md describes the same.
GROUPS = (((UNIT,), (LINT,)), ((E2E,),), ((TIMED,),))


_running: set[subprocess.Popen[bytes]] = set()
_interrupted = threading.Event()


@dataclass(frozen=True)
class Outcome:
    """The result of a part. `failed` is the first command that did not exit with 0."""

    part: Part
    failed: str | None
    wall_s: float
    cpu_s: float


def run(part: Part, environment: Mapping[str, str] | None = None, output: IO[bytes] | None = None) -> Outcome:
    """Run every command of a part, even if one fails. Its output goes to `output`, by default to this process's own
    output."""
    began, cpu_s = time.monotonic(), 0.0
    failed = None
    for command in () if _interrupted.is_set() else part.commands:
        shown = " ".join([Path(command[0]).name, *command[1:]])
        heading = f"\n== {part.name}: {shown}\n".encode()
        os.write(output.fileno() if output else 1, heading)
        process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=output, stderr=output)
        _running.add(process)
        try:
            _, status, used = os.wait4(process.pid, 0)
        except BaseException:
            process.terminate()
            raise
        finally:
            _running.discard(process)
        cpu_s += used.ru_utime + used.ru_stime
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode != 0 and failed is None:
            failed = shown
    return Outcome(part, failed, time.monotonic() - began, cpu_s)


def run_together(first: Sequence[Part], *beside: Sequence[Part]) -> list[Outcome]:
    """Run lanes concurrently, and the parts of each one after another. The output of all lanes but the first is printed after
    all have ended."""
    with ThreadPoolExecutor() as threads, ExitStack() as files:
        outputs = [files.enter_context(tempfile.TemporaryFile()) for _ in beside]
        others = [threads.submit(run_lane, lane, output) for lane, output in zip(beside, outputs, strict=True)]
        try:
            outcomes = run_lane(first)
        except BaseException:  # such as the `SystemExit` of a SIGTERM, which only this thread gets
            _interrupted.set()
            for process in tuple(_running):
                process.terminate()
            raise
        for other in others:
            outcomes += other.result()
        for output in outputs:
            output.seek(0)
            sys.stdout.buffer.write(output.read())
            sys.stdout.flush()
        return outcomes


def run_lane(parts: Sequence[Part], output: IO[bytes] | None = None) -> list[Outcome]:
    """Run parts one after another, even if one fails."""
    return [run(part, None, output) for part in parts]


def slowest(names: Sequence[str]) -> list[tuple[float, str]]:
    """Return seconds and names of the slowest tests in the reports of these parts, with the time of their fixtures."""
    found = []
    for name in names:
        report = REPORTS / f"{name}.xml"
        with suppress(FileNotFoundError, ET.ParseError):  # the run was interrupted
            for case in ET.parse(report).iter("testcase"):
                found.append((float(case.get("time", "0")), f"{case.get('classname')}::{case.get('name')}"))
    return sorted(found, reverse=True)[:SLOWEST]


def print_report(outcomes: Sequence[Outcome], wall_s: float) -> None:
    """Print the slowest tests, the cost of each part and of all, and the failed commands."""
    print(f"\n== The {SLOWEST} slowest tests, in seconds")
    for seconds, name in slowest([outcome.part.name for outcome in outcomes]):
        print(f"{seconds:7.1f}  {name}")
    print(f"\n== Python {platform.python_version()}: wall and CPU seconds, and their limits on two idle cores")
    rows = [(each.part.name, each.wall_s, each.part.wall_s, each.cpu_s, each.part.cpu_s) for each in outcomes]
    rows.append(("all", wall_s, WALL_S, sum(each.cpu_s for each in outcomes), CPU_S))
    for name, wall, wall_max, cpu, cpu_max in rows:
        over = "  over" if wall > wall_max or cpu > cpu_max else ""
        print(f"{name:6} wall {wall:4.0f} of {wall_max}  CPU {cpu:4.0f} of {cpu_max}{over}")
    for outcome in outcomes:
        if outcome.failed:
            print(f"FAILED: {outcome.part.name}: {outcome.failed}")
    sys.stdout.flush()


def run_all() -> int:
    """Run all parts and return the exit code."""
    REPORTS.mkdir(exist_ok=True)
    for report in REPORTS.glob("*.xml"):
        report.unlink()
    began = time.monotonic()
    outcomes = [outcome for group in GROUPS for outcome in run_together(*group)]
    print_report(outcomes, time.monotonic() - began)
    return int(any(outcome.failed for outcome in outcomes))


def coverage(packages: Sequence[str]) -> int:
    """Run the unit tests with coverage.py, report lines and branches of each package, and return the exit code.

    The exit code is 1 if a test fails or if less than `COVERED_PERCENT` of a package is covered.
    """
    environment = {**os.environ, "TESTS_FORK": "0"}
    measured = [f"--cov={package}" for package in packages]
    pytest = (str(BIN / "pytest"), *UNIT_TESTS, "-n", "3", "--dist", "loadfile", *measured, "--cov-report=")
    reports = [
        (*(str(BIN / "coverage"), "report", f"--include={package}/*"), f"--fail-under={COVERED_PERCENT}")
        for package in packages
    ]
    outcome = run(Part("coverage", 0, 0, (pytest, *reports)), environment)
    if outcome.failed:
        print(f"FAILED: coverage: {outcome.failed}")
    return int(outcome.failed is not None)


def fuzz(examples: int) -> int:
    """Run every property test with this number of examples, and return the exit code."""
    environment = {**os.environ, "FUZZ_EXAMPLES": str(examples)}
    selected = ("tests", "-m", "hypothesis or fuzzed", "-n", "2")
    return int(run(Part("fuzz", 0, 0, ((str(BIN / "pytest"), *selected),)), environment).failed is not None)


def main() -> int:
    """Run the command that the first argument names, or without arguments every part of the suite. Return the exit code."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    # Hundreds of processes import the same modules, so their bytecode is cached.
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    match sys.argv[1:]:
        case []:
            return run_all()
        case ["coverage", *packages] if set(packages) <= set(PACKAGES):
            return coverage(packages or PACKAGES)
        case ["fuzz", number] if number.isdecimal() and int(number) > 0:
            return fuzz(int(number))
        case _:
            print(f"python -m tests.suite [coverage [{' | '.join(PACKAGES)}] | fuzz EXAMPLES]", file=sys.stderr)
            return 2


if __name__ == "__main__":
    sys.exit(main())
