"""The addresses for clients of other services, in `/docs` and in the page's list of models, in a real Chromium."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from playwright.async_api import Browser, expect

from tests.gateway_process import GatewayProcess, gateway_process
from tests.page_stage import WatchedPage, browser_context

pytestmark = [pytest.mark.e2e, pytest.mark.browser, pytest.mark.asyncio(loop_scope="session")]

GUIDE = (Path(__file__).parents[2] / "docs" / "clients.md").read_text(encoding="utf-8")
HOST = "127.0.0.1:8000"


def listed(gateway: GatewayProcess, prefix: str = "") -> list[list[str]]:
    """Return the rows of the table in docs/clients.md, as text with the addresses of this gateway."""
    rows = re.findall(r"^\| (.*) \| `(\w+://.*)` \|$", GUIDE, re.MULTILINE)
    host = gateway.url.removeprefix("http://") + prefix
    return [[re.sub(r"[`\[\]]|\([\w.]+md\)", "", clients), url.replace(HOST, host)] for clients, url in rows]


async def test_the_documents_list_the_addresses(browser: Browser, page_gateway: GatewayProcess) -> None:
    async with browser_context(browser) as context:
        watched = WatchedPage(await context.new_page())
        page = watched.page
        await page.goto(f"{page_gateway.url}/docs")
        await page.locator("header").get_by_role("link", name="clients of other services").click()
        rows = page.locator("#clients ~ .scroll").first.locator("tbody tr")
        await expect(rows).to_have_count(len(listed(page_gateway)))
        shown = [await row.locator("td").all_inner_texts() for row in await rows.all()]
        assert shown == listed(page_gateway)
    assert watched.errors == []


async def test_the_models_name_the_addresses(browser: Browser, page_gateway: GatewayProcess) -> None:
    async with browser_context(browser) as context:
        page = await context.new_page()
        await page.goto(page_gateway.url)
        await page.get_by_test_id("model").click()
        menu = page.locator("#model-menu")
        (_, openai), (_, anthropic) = listed(page_gateway)[:2]
        await expect(menu.locator("code")).to_have_text([openai, anthropic])
        await menu.get_by_role("menuitem", name="All addresses").click()
        await expect(page).to_have_url(f"{page_gateway.url}/docs#clients")
        await expect(page.locator("#clients")).to_be_in_viewport()


async def test_the_addresses_have_the_prefix(browser: Browser, tmp_path: Path) -> None:
    async with (
        gateway_process(tmp_path, {"TURNWIRE_PATH_PREFIX": "/ai"}) as gateway,
        browser_context(browser) as context,
    ):
        page = await context.new_page()
        await page.goto(f"{gateway.url}/ai/docs")
        texts = page.locator("#clients ~ .scroll").first.locator("td:last-child")
        await expect(texts).to_have_text([url for _, url in listed(gateway, "/ai")])
