"""Tests that run in forked workers are reported as in one process, and a worker that ends early fails its tests."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import xml.etree.ElementTree as ET
from pathlib import Path

ROOT = Path(__file__).parents[2]
FILES = {
    "one": """
import os, pathlib, pytest, time

@pytest.fixture(scope="session", autouse=True)
def noted():
    noted = pathlib.Path(os.environ["NOTED"])
    yield noted
    (noted / f"{os.getpid()}").touch()

def test_passes(noted, tmp_path):
    assert tmp_path.is_dir()
    print("some output")
    while not (noted / "ended").exists():  # both workers run at once
        time.sleep(0.01)

def test_fails():
    print("other output")
    assert 1 == 2

@pytest.mark.skip(reason="why not")
def test_is_skipped(): pass
""",
    "two": """
import os, pathlib, pytest

@pytest.fixture(scope="module")
def of_the_file(): return []

@pytest.mark.flaky(reruns=1)
def test_passes_the_second_time(of_the_file):
    of_the_file.append(1)
    assert len(of_the_file) == 2

def test_ends_the_process():
    pathlib.Path(os.environ["NOTED"], "ended").touch()
    os._exit(3)

def test_after_the_end(): pass
""",
    "three": "def test_in_a_third_file(): pass",
}


def test_each_test_is_reported_once(tmp_path: Path) -> None:
    """Passed, failed, skipped and repeated tests are reported, and those whose worker has ended fail. Another worker runs the
    other files, and then ends the fixtures of its session."""
    for name, text in FILES.items():
        (tmp_path / f"test_{name}.py").write_text(text, encoding="utf-8")
    (tmp_path / "pytest.ini").write_text("[pytest]\nasyncio_default_fixture_loop_scope = function\n", encoding="utf-8")
    noted = tmp_path / "noted"
    noted.mkdir()
    done = subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "-p", "no:xdist", "-p", "tests.forked_workers", "--workers", "2", "-ra"),
            *("-p", "no:schemathesis", "--junit-xml=report.xml", "test_one.py", "test_two.py", "test_three.py"),
        ],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT), "NOTED": str(noted)},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 1, done.stdout + done.stderr
    assert "3 failed, 3 passed, 1 skipped, 1 rerun" in done.stdout
    assert "other output" in done.stdout
    assert "some output" not in done.stdout
    assert "why not" in done.stdout
    cases = [case for case in ET.parse(tmp_path / "report.xml").iter("testcase") if case.get("name")]
    failures = {case.get("name"): fault.get("message") for case in cases for fault in case.iter("failure")}
    assert failures == {
        "test_fails": "assert 1 == 2",
        "test_ends_the_process": "This test did not end: the worker that ran this file ended with 3.",
        "test_after_the_end": "This test did not end: the worker that ran this file ended with 3.",
    }
    assert {case.get("name") for case in cases} > {"test_in_a_third_file", "test_passes_the_second_time"}
    assert len(list(noted.iterdir())) == 2, "the marker of the crash, and that of the worker that ended"


def test_a_failure_after_the_last_test_is_reported(tmp_path: Path) -> None:
    """A fixture of the session that fails at its end fails the run."""
    code = """
import pytest
@pytest.fixture(scope="session")
def bad():
    yield
    raise ValueError
def test_it(bad): pass
"""
    (tmp_path / "test_bad.py").write_text(code, encoding="utf-8")
    workers = ("-p", "no:xdist", "-p", "tests.forked_workers", "--workers", "1")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *workers, "-p", "no:asyncio", "-p", "no:schemathesis", "test_bad.py"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 1
    assert "After this test, the worker that ran this file ended with 1." in done.stdout


def test_a_sigterm_ends_the_workers(tmp_path: Path) -> None:
    """A worker whose run is ended leaves its test at once, and ends its fixtures."""
    code = """
import pathlib, pytest, time
@pytest.fixture(scope="session")
def noted():
    yield pathlib.Path(__file__).parent
    (pathlib.Path(__file__).parent / "ended").touch()
def test_it(noted):
    (noted / "begun").touch()
    time.sleep(60)
"""
    (tmp_path / "test_long.py").write_text(code, encoding="utf-8")
    workers = ("-p", "no:xdist", "-p", "tests.forked_workers", "--workers", "1")
    process = subprocess.Popen(
        [sys.executable, "-m", "pytest", *workers, "-p", "no:asyncio", "-p", "no:schemathesis", "test_long.py"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.DEVNULL,
    )
    while not (tmp_path / "begun").exists():
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    assert process.wait(30) == 2
    assert (tmp_path / "ended").exists()
