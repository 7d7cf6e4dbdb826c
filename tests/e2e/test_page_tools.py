"""What follows an answer: tool calls that wait for the user, an answer that is continued, a conversation that goes on in
another one. All tests share one page."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from playwright.async_api import Browser, expect

from tests.gateway_process import GatewayProcess
from tests.page_stage import WatchedPage, ended, watched_page

pytestmark = [pytest.mark.e2e, pytest.mark.browser, pytest.mark.asyncio(loop_scope="session")]


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def watched(browser: Browser, page_gateway: GatewayProcess) -> AsyncIterator[WatchedPage]:
    """The page, open and live. The tests fail if the page logged an error."""
    async with watched_page(browser, page_gateway) as watched:
        yield watched


async def test_a_tool_call_waits_for_the_user(watched: WatchedPage) -> None:
    """A tool runs only if the user approves, also after a reload. The model is told of a refusal. A tool that is always
    allowed isn't asked about again. All of it works by keyboard."""
    page = watched.page
    turns = page.get_by_test_id("turn")
    await page.get_by_test_id("demo-tool").click()
    await ended(turns.first, "completed")
    await expect(page.get_by_test_id("approve")).to_be_visible()
    await expect(turns).to_have_count(1)
    await page.reload()
    await page.get_by_test_id("refuse").press("Enter")
    await expect(turns).to_have_count(2)
    await expect(page.get_by_test_id("tool-result")).to_have_attribute("data-state", "failed")
    await expect(page.get_by_test_id("tool-result")).to_have_text("The user refused this call.")
    await ended(turns.nth(1), "completed")
    await expect(page.get_by_test_id("tool-approval")).to_have_count(0)
    for always in (True, False):
        await page.get_by_test_id("new-conversation").click()
        await page.get_by_test_id("demo-tool").click()
        if always:
            await page.get_by_test_id("always").press("Enter")
        await ended(turns.nth(1), "completed")
        await expect(page.get_by_test_id("tool-result")).to_have_attribute("data-state", "succeeded")
    # Parallel calls: each is decided, and then one turn follows.
    chosen = await page.evaluate("""async () => {
      const { createToolApproval } = await import("./static/chat/tool_approval.js");
      const calls = Array.from({ length: 300 }, (_, index) => ({ name: `tool ${index}`, arguments: "{".repeat(5000) }));
      let refused = null;
      const node = createToolApproval(calls, (indexes) => (refused = [...indexes]));
      document.body.append(node);
      node.querySelector("[data-testid=refuse]").focus();
      node.querySelector("[data-testid=refuse]").click();
      const focused = document.activeElement.getAttribute("aria-label");
      const early = refused;
      node.querySelector("[data-testid=approve-all]").click();
      node.remove();
      return { refused, early, focused, rows: node.querySelectorAll("li").length };
    }""")
    assert chosen == {"refused": [0], "early": None, "focused": "Approve tool 1", "rows": 30}


async def test_an_answer_that_is_cut_off_goes_on(watched: WatchedPage) -> None:
    """ "Continue" lets the model go on from a stopped answer or one that reached a limit. If the context is too long, the
    conversation goes on in a new one with the last exchanges or a summary, and with its system prompt."""
    page = watched.page
    await page.get_by_test_id("new-conversation").click()
    await watched.settings(shown=True)
    await page.get_by_test_id("system").fill("Be brief.")
    await watched.choose(rate=200, tokens=50, fail="length limit")
    first = await watched.ask("a story please")
    await ended(first, "completed")
    cut = (await first.get_by_test_id("answer").inner_text()).strip()
    await watched.choose(rate=200, tokens=50)
    await first.get_by_test_id("continue").click()
    whole = page.get_by_test_id("turn").last
    await expect(whole.get_by_test_id("ending")).to_have_text("finished")
    await expect(page.get_by_test_id("answer-versions")).to_contain_text("2/2")
    text = await whole.get_by_test_id("answer").inner_text()
    assert text.startswith(cut[:100])
    assert len(text) > len(cut)

    address = page.url
    await watched.choose(rate=200, tokens=50, fail="context too long")
    failed = await watched.ask("the last straw")
    await ended(failed, "failed")
    await watched.choose(rate=200, tokens=50)
    for mode, words in (("recent", "These are its last exchanges:"), ("summary", "This is a summary of it:")):
        await page.get_by_test_id(f"hand-over-{mode}").click()
        await ended(page.get_by_test_id("turn").last, "completed")
        prompt = page.get_by_test_id("prompt")
        await expect(prompt).to_contain_text(words)
        await expect(prompt).to_contain_text("the last straw")
        if mode == "recent":
            await expect(prompt).to_contain_text("> User: a story please")
        await expect(page.get_by_test_id("system-line")).to_contain_text("Be brief.")
        await page.get_by_test_id("origin-line").click()
        await expect(page).to_have_url(address)
