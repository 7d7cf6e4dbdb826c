"""`/docs` in a real Chromium: both documents are shown, and the page does nothing that its content security policy
forbids."""

from __future__ import annotations

from typing import get_args

import pytest
from playwright.async_api import Browser, expect

from gateway.http.operations import OPERATIONS
from gateway.protocol import requests as p
from gateway.protocol.events import ServerEvent
from tests.gateway_process import GatewayProcess
from tests.page_stage import WatchedPage, browser_context

pytestmark = [pytest.mark.e2e, pytest.mark.browser, pytest.mark.asyncio(loop_scope="session")]


async def test_every_operation_and_message_is_shown(browser: Browser, page_gateway: GatewayProcess) -> None:
    """The page shows every HTTP operation, every request and event of the socket, and a schema, which a link unfolds.

    A malformed hash changes nothing.
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
        await page.goto(f"{page_gateway.url}/docs#%")
        await page.reload()
        await expect(page.locator("#postTurns")).to_have_count(1)
    assert watched.errors == []
