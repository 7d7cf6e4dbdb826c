"""Twenty answers at fifty tokens a second on one page: no long task, no nodes per token, flat memory.

A task is measured by the processor's time and not by the wall's, so that a machine with other work doesn't count.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from playwright.async_api import CDPSession, Page, expect

from tests.gateway_process import GatewayProcess
from tests.page_stage import WatchedPage, browser_context, open_page

pytestmark = [pytest.mark.e2e, pytest.mark.browser, pytest.mark.timeout(120)]

TURNS = 20
RATE = 50
WARM_S = 1.5
MEASURED_S = 6
LONG_TASK_MS = 50

PROSE = (
    "These are plain words that a model might say, one after the other, until the paragraph is long enough. " * 3
    + "\n\n"
)

START = """async ([turns, rate, tokens, text]) => {
  const { connect } = await import("./static/turnwire.js");
  window.other = connect({ storage: null });
  const conversation = (await other.createConversation()).id;
  location.hash = conversation;
  await new Promise((resolve) => setTimeout(resolve, 300));
  for (let number = 0; number < turns; number++) {
    const demo = { rate, tokens, ...(text && { text }) };
    other.start({ conversation, model: "demo", input: `Turn ${number}`, params: { demo } });
  }
}"""


@pytest.fixture
async def watched(gateway: GatewayProcess) -> AsyncIterator[WatchedPage]:
    """The page on a wide screen, open and live; at the end nothing may have gone wrong in it."""
    async with browser_context(1600, 1000) as context:
        watched = await open_page(context, f"{gateway.url}/")
        yield watched
        await watched.page.evaluate("other.request('turn.cancel', { mine: true })")
    assert watched.errors == []


async def main_thread_tasks_ms(page: Page, seconds: float) -> list[float]:
    """The processor time of every task on the page's main thread, over so many seconds; longest first."""
    session = await page.context.new_cdp_session(page)
    events: list[dict[str, Any]] = []
    complete = asyncio.Event()
    session.on("Tracing.dataCollected", lambda data: events.extend(data["value"]))
    session.on("Tracing.tracingComplete", lambda _: complete.set())
    config = {"includedCategories": ["toplevel", "devtools.timeline"], "excludedCategories": ["*"]}
    await session.send("Tracing.start", {"traceConfig": config, "transferMode": "ReportEvents"})
    await asyncio.sleep(seconds)
    await session.send("Tracing.end")
    await asyncio.wait_for(complete.wait(), 30)
    drawing = [(event["pid"], event["tid"]) for event in events if event["name"] == "FireAnimationFrame"]
    thread = max(set(drawing), key=drawing.count)
    tasks = [event for event in events if event["name"].endswith("RunTask") and (event["pid"], event["tid"]) == thread]
    return sorted((task.get("tdur", 0) / 1000 for task in tasks), reverse=True)


async def measured(session: CDPSession) -> dict[str, float]:
    """Chromium's own counts after a collection of garbage."""
    await session.send("HeapProfiler.collectGarbage")
    metrics = (await session.send("Performance.getMetrics"))["metrics"]
    return {metric["name"]: metric["value"] for metric in metrics}


async def test_twenty_answers_at_once_leave_the_page_at_ease(watched: WatchedPage) -> None:
    """No task of the main thread works for more than 50 ms, and every answer goes on being drawn."""
    await watched.page.evaluate(START, [TURNS, RATE, 1000, None])
    turns = watched.page.get_by_test_id("turn")
    await expect(turns).to_have_count(TURNS)
    await asyncio.sleep(WARM_S)
    lengths = "[...document.querySelectorAll('[data-testid=answer]')].map((answer) => answer.textContent.length)"
    before = await watched.page.evaluate(lengths)
    tasks = await main_thread_tasks_ms(watched.page, MEASURED_S)
    after = await watched.page.evaluate(lengths)

    assert len(tasks) > 100
    assert tasks[0] < LONG_TASK_MS, tasks[:10]
    assert all(longer - length > 100 for length, longer in zip(before, after, strict=True))


async def test_memory_follows_the_text_and_nothing_else(watched: WatchedPage) -> None:
    """Over some thousand tokens nodes grow with the blocks, not the tokens, and the heap by little more than the text."""
    session = await watched.page.context.new_cdp_session(watched.page)
    await session.send("Performance.enable")
    await watched.page.evaluate(START, [10, 200, 8000, PROSE])
    await expect(watched.page.get_by_test_id("turn")).to_have_count(10)
    chars = "document.querySelector('.thread').textContent.length"
    await asyncio.sleep(2)
    before, said_before = await measured(session), await watched.page.evaluate(chars)
    await asyncio.sleep(8)
    after, said_after = await measured(session), await watched.page.evaluate(chars)

    tokens = (said_after - said_before) / 6
    assert tokens > 2000
    assert (after["Nodes"] - before["Nodes"]) / tokens < 0.1
    assert after["JSEventListeners"] - before["JSEventListeners"] < 50
    assert after["JSHeapUsedSize"] - before["JSHeapUsedSize"] < 2e6 + 10 * (said_after - said_before)


async def test_a_long_answer_is_drawn_in_pieces(watched: WatchedPage) -> None:
    """Two thousand lines at full speed, list, code and prose, make no task over 50 ms beyond what arrives at once."""
    blocks = [
        "\n".join(f"{number}. Item **{number}** `code`" for number in range(1, 501)),
        "```python\n" + "\n".join(f"v_{number} = {number} * 2" for number in range(1, 501)) + "\n```",
        "\n\n".join(f"Paragraph {number} has *some* words." for number in range(1, 501)),
        "| a | b |\n|---|---|\n" + "\n".join(f"| {number} | cell |" for number in range(1, 501)),
    ]
    async with asyncio.TaskGroup() as together:
        tracing = together.create_task(main_thread_tasks_ms(watched.page, 12))
        turn = await watched.say("\n\n".join(blocks), rate=1500)
    tasks = tracing.result()
    await expect(turn).to_have_attribute("data-state", "completed", timeout=60_000)
    assert await turn.locator("li").count() == 500
    assert await turn.locator("td").count() == 1000
    assert len([task for task in tasks if task > LONG_TASK_MS]) <= 3, tasks[:10]
