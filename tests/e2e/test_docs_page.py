"""`/docs` in a real Chromium: both documents are shown, and the page does nothing that its content security policy
forbids."""

from __future__ import annotations

import json
from typing import get_args

import pytest
from playwright.async_api import Browser, Page, expect

from gateway.http.operations import OPERATIONS
from gateway.protocol import requests as p
from gateway.protocol.events import ServerEvent
from tests.gateway_process import GatewayProcess
from tests.page_stage import WatchedPage, browser_context

pytestmark = [pytest.mark.e2e, pytest.mark.browser, pytest.mark.asyncio(loop_scope="session")]


async def check_cells(page: Page) -> None:
    """Check that hardly any cell is empty, and that no backtick is left."""
    cells, empty = await page.evaluate(
        "(({ length }, empty) => [length, empty.length])(document.querySelectorAll('td'), "
        "[...document.querySelectorAll('td')].filter((cell) => cell.textContent.trim() === ''))"
    )
    assert cells > 1_500
    assert empty / cells < 0.05
    assert "`" not in await page.locator("#content").inner_text()
    await expect(page.locator("#schema-TurnStart td code").get_by_text("TURNWIRE_SYSTEM_PROMPT")).to_have_count(1)


async def check_search(page: Page) -> None:
    """Check that a search for words of a field hides all other entries, in the index too."""
    search = page.get_by_role("searchbox")
    await search.fill("CONNECTING again reconnect_after_ms")
    await expect(page.locator("#getHealth")).to_be_hidden()
    await expect(page.locator("#message-going_away")).to_be_visible()
    await expect(page.locator("#index li:visible")).to_have_text(["going_away", "GoingAway"])
    await search.fill("no such word")
    await expect(page.locator("#index").get_by_text("Nothing matches.")).to_be_visible()
    await search.fill("")
    await page.locator("#index").get_by_role("link", name="GET /v1/models", exact=True).click()
    await expect(page.locator("#getModels")).to_have_attribute("open", "")
    await expect(page.locator("#getModels")).to_be_in_viewport()


async def check_try_it(page: Page) -> None:
    """Check that the form of an operation shows a stream while it arrives, stops it, and shows JSON with indentation."""
    entry = page.locator("#postTurns")
    curl = entry.locator("[data-language=curl] pre")
    await expect(curl).to_contain_text(f"curl -X POST '{page.url.partition('/docs')[0]}/v1/turns'")
    form = entry.locator("form.try-it")
    await form.get_by_role("combobox", name="Accept").select_option("text/event-stream")
    body = {"model": "demo", "input": "Hi", "params": {"demo": {"rate": 20, "tokens": 1000}}}
    await form.get_by_role("textbox", name="Body").fill(json.dumps(body))
    await form.get_by_role("button", name="Send").click()
    await expect(form.get_by_role("status")).to_have_text("200 OK · text/event-stream")
    await expect(form.locator("pre")).to_contain_text("event: turn.delta")
    assert "turn.completed" not in await form.locator("pre").inner_text()
    await form.get_by_role("button", name="Stop").click()
    await expect(form.get_by_role("status")).to_have_text("Stopped.")
    models = page.locator("#getModelsOne form.try-it")
    await page.locator("#getModelsOne > summary").click()
    await models.get_by_role("button", name="Send").click()
    await expect(models.locator("pre")).to_contain_text('{\n  "id": "demo"')


async def test_every_operation_and_message_is_shown(browser: Browser, page_gateway: GatewayProcess) -> None:
    """The page shows every HTTP operation, every request and event of the socket, and a schema, which a link unfolds. It
    describes them, finds them, and sends requests. A malformed hash changes nothing.
    """
    async with browser_context(browser) as context:
        watched = WatchedPage(await context.new_page())
        page = watched.page
        await page.goto(f"{page_gateway.url}/docs")
        for operation in OPERATIONS:
            title = page.locator("summary .path").get_by_text(f"{operation.method}{operation.path}", exact=True)
            await expect(title).to_have_count(1)
        for kind in (*get_args(p.AnyRequest), *get_args(ServerEvent)):
            await expect(page.locator(f'[id="message-{kind.__struct_config__.tag}"]')).to_have_count(1)
        await page.locator("#postTurns > summary").click()
        await page.locator("#postTurns").get_by_role("link", name="ImagePart").first.click()
        await expect(page.locator("#schema-ImagePart")).to_have_attribute("open", "")
        await expect(page.locator("#schema-ImagePart")).to_contain_text("media_type")
        await check_cells(page)
        await check_search(page)
        await check_try_it(page)
        await page.goto(f"{page_gateway.url}/docs#%")
        await page.reload()
        await expect(page.locator("#postTurns")).to_have_count(1)
    assert watched.errors == []
