"""`make test` and `.ci/run` fail if a step fails, and name the step."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.programs import program
from tests.suite import Outcome, Part, print_report, run, run_together, slowest

ROOT = Path(__file__).parents[2]


def part(name: str, *codes: str) -> Part:
    """Return a part of the suite that runs these programs, one process for each."""
    return Part(name, 60, 60, tuple((sys.executable, "-c", code) for code in codes))


def test_a_part_runs_all_commands_and_has_the_first_failure(capfd: pytest.CaptureFixture[str]) -> None:
    """A part runs all of its commands even if one fails. The outcome has the first failure and the CPU time; the
    output is in order."""
    busy = "import time\nwhile time.process_time() < 0.2: pass\nprint('busy')"
    outcome = run(part("some", busy, "exit(3)", "exit(4)", "print('last')"))
    assert outcome.failed is not None
    assert outcome.failed.endswith("-c exit(3)")
    assert 0.2 <= outcome.cpu_s <= outcome.wall_s + 0.5
    output = capfd.readouterr().out
    assert output.index("busy\n") < output.index("exit(4)") < output.index("last\n")


def test_parallel_parts_are_reported_one_by_one(capfd: pytest.CaptureFixture[str]) -> None:
    """The output of parallel parts is printed lane by lane, and the failure of either is reported. A part begins when the
    part before it in its lane has ended, even if that has failed."""
    before = part("before", "import time; time.sleep(0.5); print('zero'); exit(1)")
    lanes = ([before, part("first", "print('one')")], [part("second", "print('two'); exit(1)")])
    failed, first, second = run_together(*lanes)
    assert [one.failed is not None for one in (failed, first, second)] == [True, False, True]
    assert failed.wall_s >= 0.5
    output = capfd.readouterr().out
    assert output.index("zero\n") < output.index("one\n") < output.index("two\n")
    print_report([first, second], 1.0)
    assert "FAILED: second: " in capfd.readouterr().out


def test_a_sigterm_ends_all_lanes() -> None:
    """All running programs get a SIGTERM, and the parts after them don't begin."""
    code = """
import signal, sys
from tests.suite import Part, run_together
def part(code): return Part(code, 1, 1, ((sys.executable, "-c", code),))
signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
ending = part("import os, signal, time; time.sleep(1); os.kill(os.getppid(), signal.SIGTERM); time.sleep(60)")
run_together([ending, part("print('later')")], [part("import time; time.sleep(60)"), part("print('later')")])
"""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=50, check=False
    )
    assert done.returncode == 143
    assert "\nlater\n" not in done.stdout


def test_an_exceeded_budget_is_reported(capsys: pytest.CaptureFixture[str]) -> None:
    """A part that exceeds its budget of wall or CPU time is marked."""
    some = part("some")
    print_report([Outcome(some, None, 61, 1), Outcome(some, None, 1, 61), Outcome(some, None, 1, 1)], 63)
    rows = [line for line in capsys.readouterr().out.splitlines() if line.startswith("some")]
    assert [line.endswith("over") for line in rows] == [True, True, False]


def test_the_slowest_tests_are_listed_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The slowest tests of all reports are listed; missing and broken reports are skipped."""
    monkeypatch.setattr("tests.suite.REPORTS", tmp_path)
    case = '<testsuite><testcase classname="{}" name="test" time="{}"/></testsuite>'
    (tmp_path / "one.xml").write_text(case.format("a", 1), encoding="utf-8")
    (tmp_path / "two.xml").write_text(case.format("b", 2.5), encoding="utf-8")
    (tmp_path / "broken.xml").write_text("<testsuite>", encoding="utf-8")
    assert slowest(["one", "none", "broken", "two"]) == [(2.5, "b::test"), (1.0, "a::test")]


@pytest.mark.parametrize("failing", ["make run", "make test", "make coverage", None])
def test_ci_names_the_step_that_failed(tmp_path: Path, failing: str | None) -> None:
    """`.ci/run` prints the name of the failed step last, on standard error. If no step fails, it prints nothing there."""
    steps = {"make run": tmp_path / ".ci" / "make_run", "make test": "test", "make coverage": "coverage"}
    (tmp_path / ".ci").mkdir()
    (tmp_path / ".ci" / "run").write_text((ROOT / ".ci" / "run").read_text(encoding="utf-8"), encoding="utf-8")
    makefile = ""
    for name, step in steps.items():
        command = "exit 3" if name == failing else "true"
        if isinstance(step, Path):
            step.write_text(f"#!/bin/sh\n{command}\n", encoding="utf-8")
            step.chmod(0o755)
        else:
            makefile += f"{step}:\n\t{command}\n"
    (tmp_path / "Makefile").write_text(makefile, encoding="utf-8")
    done = subprocess.run([program("bash"), tmp_path / ".ci" / "run"], capture_output=True, text=True, check=False)
    assert (done.returncode == 0) == (failing is None)
    assert done.stderr.splitlines()[-1:] == ([] if failing is None else [f"FAILED: {failing}"])
