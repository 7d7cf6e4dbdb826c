"""The browser client against real gateways: the same cases in Node and in Chromium, and its TypeScript types."""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
from pathlib import Path

import pytest

from tests.client_stage import client_stage
from tests.page_stage import browser_context, running_browser
from tests.programs import installed, program

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]

CASES = Path(__file__).parents[1] / "client_library"
STATIC = Path(__file__).parents[2] / "static"
NAMES = sorted(
    name for file in CASES.glob("*_cases.js") for name in re.findall(r'^test\("(.+?)", async', file.read_text(), re.M)
)
RUN_TIMEOUT_S = 400

RUN_IN_BROWSER = """async () => {
  const { outcomes } = await import("/tests/client_library/all.js");
  return outcomes(location.origin);
}"""

Outcomes = dict[str, str | None]
Run = Outcomes | BaseException


def node_flags(node: Path) -> list[str]:
    """Return the flags that Node 20 needs to have a WebSocket."""
    result = subprocess.run([node, "-p", "typeof WebSocket"], capture_output=True, text=True, check=True)
    return [] if result.stdout.strip() == "function" else ["--experimental-websocket"]


async def run_in_node(folder: Path) -> Outcomes:
    """Run every case in Node."""
    node = program("node")
    async with client_stage(folder) as stage:
        process = await asyncio.create_subprocess_exec(
            node,
            *node_flags(node),
            str(CASES / "in_node.js"),
            stage.url,
            stdout=asyncio.subprocess.PIPE,
        )
        try:
            async with asyncio.timeout(RUN_TIMEOUT_S):
                stdout, _ = await process.communicate()
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
    outcomes: Outcomes = json.loads(stdout)
    return outcomes


async def run_in_chromium(folder: Path) -> Outcomes:
    """Run every case in Chromium."""
    async with client_stage(folder) as stage, running_browser() as browser, browser_context(browser) as context:
        page = await context.new_page()
        await page.goto(stage.url)
        async with asyncio.timeout(RUN_TIMEOUT_S):
            outcomes: Outcomes = await page.evaluate(RUN_IN_BROWSER)
    return outcomes


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Run, Run]:
    """The outcomes of the cases in Node and in Chromium, or the exception that prevented a run. Both run concurrently,
    as they mostly wait."""

    async def both() -> tuple[Run, Run]:
        node, chromium = (tmp_path_factory.mktemp(name) for name in ("node", "chromium"))
        return await asyncio.gather(run_in_node(node), run_in_chromium(chromium), return_exceptions=True)

    return asyncio.run(both())


@pytest.fixture(scope="module")
def in_node(runs: tuple[Run, Run]) -> Outcomes:
    """The outcomes of the cases in Node."""
    return outcomes_of(runs[0])


@pytest.fixture(scope="module")
def in_chromium(runs: tuple[Run, Run]) -> Outcomes:
    """The outcomes of the cases in Chromium."""
    return outcomes_of(runs[1])


def outcomes_of(run: Run) -> Outcomes:
    """Return the outcomes of a run. If an exception prevented the run, raise it."""
    if isinstance(run, BaseException):
        raise run
    return run


@pytest.mark.parametrize("name", NAMES)
def test_in_node(in_node: Outcomes, name: str) -> None:
    """The case passes in Node."""
    assert in_node[name] is None, in_node[name]


@pytest.mark.browser
@pytest.mark.parametrize("name", NAMES)
def test_in_chromium(in_chromium: Outcomes, name: str) -> None:
    """The case passes in Chromium."""
    assert in_chromium[name] is None, in_chromium[name]


@pytest.mark.browser
def test_every_case_ran_and_passed_in_both(in_node: Outcomes, in_chromium: Outcomes) -> None:
    """Node and Chromium run the same cases, which include every case in `NAMES`, and all of them pass."""
    assert set(NAMES) <= set(in_node) == set(in_chromium)
    assert {name: outcome for name, outcome in in_node.items() if outcome is not None} == {}
    assert {name: outcome for name, outcome in in_chromium.items() if outcome is not None} == {}


def test_the_types_declare_exactly_what_the_library_exports() -> None:
    """turnwire.d.ts declares the functions, classes and constants that turnwire.js exports, and no others."""
    library, types = ((STATIC / f"turnwire.{suffix}").read_text() for suffix in ("js", "d.ts"))
    listed = re.search(r"^export \{ (.+) \};$", library, re.M)
    assert listed is not None
    exported = set(listed.group(1).split(", ")) | set(re.findall(r"^export function (\w+)", library, re.M))
    typed = set(re.findall(r"^export (?:class|function|const) (\w+)", types, re.M))
    assert exported == typed


def test_typescript_accepts_the_program_that_uses_every_type() -> None:
    """TypeScript accepts tests/client_library/usage.ts, and reports every error that the file marks as expected."""
    compiler = installed(CASES / "node_modules" / ".bin" / "tsc", "TypeScript")
    result = subprocess.run([compiler, "--project", CASES], capture_output=True, text=True, timeout=120, check=False)
    assert result.returncode == 0, result.stdout
