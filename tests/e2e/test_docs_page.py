"""`/docs` in a real Chromium: both documents are shown, and the page does nothing that its content security policy
forbids."""

from __future__ import annotations

import pytest
from playwright.async_api import Browser, expect

from gateway.http.operations import OPERATIONS
from tests.gateway_process import GatewayProcess
from tests.page_stage import WatchedPage, browser_context

pytestmark = [pytest.mark.e2e, pytest.mark.browser, pytest.mark.asyncio(loop_scope="session")]


async def test_every_operation_and_message_is_shown(browser: Browser, page_gateway: GatewayProcess) -> None:
    """The page shows every HTTP operation, the socket's messages, and their schemas, which a link unfolds."""
    async with browser_context(browser) as context:
        watched = WatchedPage(await context.new_page())
        page = watched.page
        await page.goto(f"{page_gateway.url}/docs")
        for operation in OPERATIONS:
            title = page.locator("summary .path").get_by_text(f"{operation.method}{operation.path}", exact=True)
            await expect(title).to_have_count(1)
        await expect(page.locator("#message-turn\\.start")).to_have_count(1)
        await expect(page.locator("#message-turn\\.completed")).to_have_count(1)
        await page.locator("#postTurns > summary").click()
        await page.locator("#postTurns").get_by_role("link", name="ImagePart").first.click()
        await expect(page.locator("#schema-ImagePart")).to_have_attribute("open", "")
        await expect(page.locator("#schema-ImagePart")).to_contain_text("media_type")
    assert watched.errors == []
