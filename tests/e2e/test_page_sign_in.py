"""The page before a gateway that asks who comes: signing in and out, wrong keys, ended ones, and who may see a picture."""

from __future__ import annotations

import re
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from playwright.async_api import Browser, expect

from tests.credentials import SECRET, KeyFile, token
from tests.gateway_process import gateway_process
from tests.page_stage import WatchedPage, browser_context, ended
from tests.prefix_proxy import prefix_proxy

pytestmark = [pytest.mark.e2e, pytest.mark.browser, pytest.mark.timeout(300), pytest.mark.asyncio(loop_scope="session")]

REFUSED = "status of 401"
ARTIFACTS = Path(__file__).parents[1] / "artifacts"


@asynccontextmanager
async def asked(
    browser: Browser, folder: Path, keys: KeyFile, *, prefix: str = "", width: int = 1280
) -> AsyncIterator[WatchedPage]:
    """The page at a gateway that takes keys and tokens, asking for one of them."""
    settings = {
        "TURNWIRE_AUTH": "jwt,keys",
        "TURNWIRE_API_KEYS": str(keys.path),
        "TURNWIRE_JWT_SECRET": SECRET,
        "TURNWIRE_AUTH_GRACE_S": "0",
        "TURNWIRE_JWT_LEEWAY_S": "0",
    }
    async with (
        gateway_process(folder, settings) as gateway,
        prefix_proxy(gateway.url, strip=prefix) as proxied,
        browser_context(browser, width) as context,
    ):
        watched = WatchedPage(await context.new_page())
        await watched.page.goto(f"{proxied}{prefix}/" if prefix else f"{gateway.url}/")
        await expect(watched.page.get_by_test_id("sign-in")).to_be_visible()
        yield watched
    assert [said for said in watched.errors if REFUSED not in said] == []


async def sign_in(watched: WatchedPage, credential: str) -> None:
    """Pastes it and presses Enter."""
    box = watched.page.get_by_label("API key or token")
    await expect(box).to_be_focused()
    await box.fill(credential)
    await box.press("Enter")


@pytest.mark.parametrize("width", [390, 1024])
async def test_a_wrong_key_is_said_so_and_a_right_one_signs_in(browser: Browser, tmp_path: Path, width: int) -> None:
    """The key stays in the tab alone: in no address, not in localStorage; over a reload, until one signs out."""
    keys = KeyFile(tmp_path)
    key = keys.add("ann")
    async with asked(browser, tmp_path, keys, width=width) as watched:
        page, dialog = watched.page, watched.page.get_by_test_id("sign-in")
        addresses: list[str] = []
        page.on("request", lambda request: addresses.append(request.url))
        page.on("websocket", lambda socket: addresses.append(socket.url))
        await page.keyboard.press("Escape")
        await sign_in(watched, "tw_wrong_key")
        await expect(dialog.get_by_role("alert")).to_contain_text("isn't accepted")
        ARTIFACTS.mkdir(exist_ok=True)
        await page.screenshot(path=ARTIFACTS / f"page-sign-in-{width}.png")
        assert await page.evaluate("[probes.tooFaint(), probes.tooWide(), probes.poorControls()].flat()") == []
        await sign_in(watched, "two words")
        await expect(dialog.get_by_role("alert")).to_contain_text("no spaces")
        await sign_in(watched, f"  Bearer {key}\n")
        await watched.is_live()
        await expect(dialog).to_be_hidden()
        await watched.choose(rate=200, tokens=20)
        await ended(await watched.ask("who am I?"), "completed")

        await page.reload()
        await watched.is_live()
        await expect(dialog).to_be_hidden()
        await expect(watched.turn("who am I?")).to_be_visible()
        await expect(page.get_by_test_id("user")).to_have_text("ann")
        kept = await page.evaluate(
            "[JSON.stringify({...localStorage}), JSON.stringify({...sessionStorage}), document.cookie]"
        )
        assert [key in place for place in kept] == [False, True, False]
        assert len([one for one in addresses if "/ws?ticket=tk_" in one]) == 2
        assert not [one for one in addresses if key in one]

        if width < 800:
            await page.get_by_role("button", name="Conversations").click()
        await page.get_by_role("button", name="Sign out").click()
        await expect(dialog).to_be_visible()
        assert key not in await page.evaluate("JSON.stringify({...sessionStorage}) + location.href")
        await expect(page.get_by_test_id("turn")).to_have_count(0)


async def test_a_revoked_key_asks_again_and_the_answer_goes_on(browser: Browser, tmp_path: Path) -> None:
    """A key that is taken away closes the socket: the page asks, keeps what it shows, and goes on where it was."""
    keys = KeyFile(tmp_path)
    key, other = keys.add("ann"), keys.add("ann")
    async with asked(browser, tmp_path, keys) as watched:
        await sign_in(watched, key)
        await watched.is_live()
        await watched.choose(rate=20, tokens=300)
        turn = await watched.ask("keep talking")
        await watched.page.get_by_test_id("prompt-box").fill("not sent yet")
        keys.remove(key)
        dialog = watched.page.get_by_test_id("sign-in")
        await expect(dialog).to_be_visible(timeout=20_000)
        await expect(dialog).to_contain_text("Your sign-in has expired")
        await sign_in(watched, other)
        await watched.is_live()
        await ended(turn, "completed")
        await expect(turn.get_by_test_id("tokens")).to_have_text("300 tokens")
        await expect(watched.page.get_by_test_id("prompt-box")).to_have_value("not sent yet")


async def test_another_user_sees_nothing_of_the_one_before(browser: Browser, tmp_path: Path) -> None:
    """Whoever signs in after a key's end gets a page of their own."""
    keys = KeyFile(tmp_path)
    key = keys.add("ann")
    async with asked(browser, tmp_path, keys) as watched:
        page = watched.page
        await sign_in(watched, key)
        await watched.is_live()
        await watched.choose(rate=200, tokens=5)
        await ended(await watched.ask("only for ann"), "completed")
        await expect(page.get_by_test_id("conversation")).to_have_count(1)
        keys.remove(key)
        await expect(page.get_by_test_id("sign-in")).to_be_visible(timeout=20_000)
        await sign_in(watched, token("bob"))
        await expect(page.get_by_test_id("user")).to_have_text("bob")
        await watched.is_live()
        await expect(page.get_by_text("only for ann")).to_have_count(0)
        await expect(page.get_by_test_id("conversation")).to_have_count(0)


async def test_a_stored_picture_comes_with_the_credential_below_a_prefix_too(browser: Browser, tmp_path: Path) -> None:
    """An image's address takes no key, so its bytes are asked for with the header; the address is below the page's own."""
    keys = KeyFile(tmp_path)
    key = keys.add("ann")
    async with asked(browser, tmp_path, keys, prefix="/tools/chat") as watched:
        await sign_in(watched, key)
        await watched.is_live()
        await watched.page.evaluate("probes.pasteNoise()")
        await expect(watched.page.locator(".thumbnail img")).to_be_visible()
        await ended(await watched.ask("what is in it?"), "completed")
        await watched.page.reload()
        picture = watched.exchange("what is in it?").get_by_role("img", name="noise.png")
        await expect(picture).to_have_attribute("src", re.compile("^blob:"))
        assert await picture.evaluate("(image) => image.decode().then(() => image.naturalWidth > 100)")


async def test_a_token_that_ends_is_renewed_once_and_then_asked_for(browser: Browser, tmp_path: Path) -> None:
    """A pasted token can't be made longer: one try when it expires, no storm of them, then the page asks."""
    async with asked(browser, tmp_path, KeyFile(tmp_path)) as watched:
        tickets: list[str] = []
        watched.page.on("request", lambda request: tickets.append(request.url) if "tickets" in request.url else None)
        await sign_in(watched, token("ann", exp=int(time.time()) + 8))
        await watched.is_live()
        await expect(watched.page.get_by_test_id("sign-in")).to_contain_text("has expired", timeout=30_000)
        assert len(tickets) <= 4
        await sign_in(watched, token("ann"))
        await watched.is_live()
