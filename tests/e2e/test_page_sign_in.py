"""The page with a gateway that requires authentication: signing in and out, credentials that are invalid, revoked or
expired, a change of user, stored images, and a proxy that signs in its users."""

from __future__ import annotations

import re
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from playwright.async_api import Browser, expect

from tests.credentials import SECRET, KeyFile, token
from tests.e2e.go_programs import PASSWORDS, go_backend_binary, go_proxy, go_proxy_binary, proxy_settings
from tests.gateway_process import gateway_process
from tests.page_stage import WatchedPage, browser_context, ended
from tests.prefix_proxy import prefix_proxy

pytestmark = [pytest.mark.e2e, pytest.mark.browser, pytest.mark.timeout(300), pytest.mark.asyncio(loop_scope="session")]

__all__ = ["go_backend_binary", "go_proxy_binary"]

REFUSED = "status of 401"
ARTIFACTS = Path(__file__).parents[1] / "artifacts"


@asynccontextmanager
async def sign_in_page(
    browser: Browser, folder: Path, keys: KeyFile, *, prefix: str = "", width: int = 1280
) -> AsyncIterator[WatchedPage]:
    """Open the page of a gateway that accepts keys and tokens, with its sign-in dialog."""
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
    assert [error for error in watched.errors if REFUSED not in error] == []


async def sign_in(watched: WatchedPage, credential: str) -> None:
    """Paste the credential and press Enter."""
    box = watched.page.get_by_label("API key or token")
    await expect(box).to_be_focused()
    await box.fill(credential)
    await box.press("Enter")


async def check_documents(watched: WatchedPage) -> None:
    """Check that a request of /docs is sent with the sign-in of this tab."""
    page = watched.page
    url = page.url
    await page.goto(f"{url.partition('#')[0]}docs#getConversations")
    form = page.locator("#getConversations form.try-it")
    await expect(page.locator(".sign-in-bar")).to_have_text("Signed in in this tab.Sign out")
    await form.get_by_role("button", name="Send").click()
    await expect(form.locator("pre")).to_contain_text("who am I?")
    await expect(page.locator("#getConversations [data-language=curl]")).to_contain_text("Bearer $TURNWIRE_KEY")
    await page.goto(url)
    await watched.until_live()


@pytest.mark.parametrize("width", [390, 1024])
async def test_an_invalid_key_shows_an_error_and_a_valid_one_signs_in(
    browser: Browser, tmp_path: Path, width: int
) -> None:
    """The key is stored in the tab only, not in a URL or localStorage. It outlives a reload, and signing out deletes
    it."""
    keys = KeyFile(tmp_path)
    key = keys.add("ann")
    async with sign_in_page(browser, tmp_path, keys, width=width) as watched:
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
        await watched.until_live()
        await expect(dialog).to_be_hidden()
        await watched.choose(rate=200, tokens=20)
        await ended(await watched.ask("who am I?"), "completed")

        await page.reload()
        await watched.until_live()
        await expect(dialog).to_be_hidden()
        await expect(watched.turn("who am I?")).to_be_visible()
        await expect(page.get_by_test_id("user")).to_have_text("ann")
        kept = await page.evaluate(
            "[JSON.stringify({...localStorage}), JSON.stringify({...sessionStorage}), document.cookie]"
        )
        assert [key in place for place in kept] == [False, True, False]
        assert len([one for one in addresses if "/ws?ticket=tk_" in one]) == 2
        assert not [one for one in addresses if key in one or one.endswith("/v1")]

        if width < 800:
            await page.get_by_role("button", name="Conversations").click()
        else:
            await check_documents(watched)
        await page.get_by_role("button", name="Sign out").click()
        await expect(dialog).to_be_visible()
        assert key not in await page.evaluate("JSON.stringify({...sessionStorage}) + location.href")
        await expect(page.get_by_test_id("turn")).to_have_count(0)


async def test_a_revoked_key_asks_for_another_and_the_answer_continues(browser: Browser, tmp_path: Path) -> None:
    """Removing the key closes the socket. The page asks for a credential, keeps its content, and the answer continues
    after signing in."""
    keys = KeyFile(tmp_path)
    key, other = keys.add("ann"), keys.add("ann")
    async with sign_in_page(browser, tmp_path, keys) as watched:
        await sign_in(watched, key)
        await watched.until_live()
        await watched.choose(rate=20, tokens=300)
        turn = await watched.ask("keep talking")
        await watched.page.get_by_test_id("prompt-box").fill("not sent yet")
        keys.remove(key)
        dialog = watched.page.get_by_test_id("sign-in")
        await expect(dialog).to_be_visible(timeout=20_000)
        await expect(dialog).to_contain_text("Your sign-in has expired")
        await sign_in(watched, other)
        await watched.until_live()
        await ended(turn, "completed")
        await expect(turn.get_by_test_id("tokens")).to_have_text("300 tokens")
        await expect(watched.page.get_by_test_id("prompt-box")).to_have_value("not sent yet")


TYPE = """(box, text) => {
  box.value = text;
  box.dispatchEvent(new Event("input", { bubbles: true }));
}"""


SEND = """(form) => {
  const box = form.querySelector("textarea");
  box.value = "ann's last words";
  box.dispatchEvent(new Event("input", { bubbles: true }));
  form.requestSubmit();
}"""


@pytest.mark.parametrize("reloads", [False, True])
async def test_another_user_sees_nothing_of_the_previous_one(browser: Browser, tmp_path: Path, reloads: bool) -> None:
    """If another user signs in after a key has been revoked, the page is empty, also if it was reloaded before. What the
    previous user had left unsent isn't sent."""
    keys = KeyFile(tmp_path)
    key = keys.add("ann")
    async with sign_in_page(browser, tmp_path, keys) as watched:
        page = watched.page
        await sign_in(watched, key)
        await watched.until_live()
        await watched.choose(rate=200, tokens=5)
        await ended(await watched.ask("only for ann"), "completed")
        await expect(page.get_by_test_id("conversation")).to_have_count(1)
        await page.get_by_test_id("new-conversation").click()
        await page.get_by_test_id("system").evaluate(TYPE, "Ann's own.")
        await expect(page.get_by_test_id("system-line")).to_contain_text("Ann's own.")
        keys.remove(key)
        await expect(page.get_by_test_id("sign-in")).to_be_visible(timeout=20_000)
        await page.get_by_test_id("composer").evaluate(SEND)
        await expect(watched.turn("ann's last words")).to_be_visible()
        if reloads:
            await page.reload()
            await expect(watched.turn("ann's last words")).to_be_visible()
            await expect(page.get_by_test_id("sign-in")).to_be_visible()
        await sign_in(watched, token("bob"))
        await expect(page.get_by_test_id("user")).to_have_text("bob")
        await watched.until_live()
        await expect(page.get_by_text("only for ann")).to_have_count(0)
        await expect(page.get_by_test_id("system-line")).to_be_hidden()
        await expect(page.get_by_test_id("system")).to_have_value("")
        await expect(page.get_by_text("Your conversations appear here.")).to_be_visible()
        await expect(page.get_by_test_id("conversation")).to_have_count(0)
        await expect(page.get_by_test_id("prompt")).to_have_count(0)
        assert "last words" not in await page.evaluate("JSON.stringify({...sessionStorage})")


async def test_a_stored_image_is_loaded_with_the_credential(browser: Browser, tmp_path: Path) -> None:
    """An image URL can't carry a key, so the image is fetched with the header, from a URL below the page's path
    prefix."""
    keys = KeyFile(tmp_path)
    key = keys.add("ann")
    async with sign_in_page(browser, tmp_path, keys, prefix="/tools/chat") as watched:
        await sign_in(watched, key)
        await watched.until_live()
        await watched.page.evaluate("probes.pasteNoise()")
        await expect(watched.page.locator(".thumbnail img")).to_be_visible()
        await ended(await watched.ask("what is in it?"), "completed")
        await watched.page.reload()
        picture = watched.exchange("what is in it?").get_by_role("img", name="noise.png")
        await expect(picture).to_have_attribute("src", re.compile("^blob:"))
        assert await picture.evaluate("(image) => image.decode().then(() => image.naturalWidth > 100)")


async def test_an_expired_token_causes_few_requests_before_asking(browser: Browser, tmp_path: Path) -> None:
    """A pasted token can't be renewed: the page requests at most four tickets with it, and asks for another token after
    its expiry."""
    async with sign_in_page(browser, tmp_path, KeyFile(tmp_path)) as watched:
        tickets: list[str] = []
        watched.page.on("request", lambda request: tickets.append(request.url) if "tickets" in request.url else None)
        await sign_in(watched, token("ann", exp=int(time.time()) + 8))
        await watched.until_live()
        await expect(watched.page.get_by_test_id("sign-in")).to_contain_text("has expired", timeout=30_000)
        assert len(tickets) <= 4
        await sign_in(watched, token("ann"))
        await watched.until_live()


async def test_a_proxy_that_signs_in_its_users_needs_no_second_sign_in(
    browser: Browser, tmp_path: Path, go_proxy_binary: Path
) -> None:
    """Behind the Go proxy of the examples, the page gets an answer and asks for no key."""
    key, settings = proxy_settings(tmp_path)
    async with (
        gateway_process(tmp_path, settings) as gateway,
        go_proxy(go_proxy_binary, gateway.url, key) as proxy,
        browser_context(browser) as context,
    ):
        form: dict[str, str | float | bool] = {"name": "ann", "password": PASSWORDS["ann"]}
        await context.request.post(f"{proxy.url}/login", form=form, headers={"Origin": proxy.url})
        watched = WatchedPage(await context.new_page())
        await watched.page.goto(f"{proxy.url}/")
        turn = await watched.ask("Hello")
        await ended(turn, "completed")
        await expect(watched.page.get_by_test_id("sign-in")).to_be_hidden()
    assert watched.errors == []


async def test_the_page_of_the_go_backend_streams_and_stops(
    browser: Browser, tmp_path: Path, go_backend_binary: Path
) -> None:
    """Its user signs in, reads an answer while it arrives, stops it, and finds it after a reload."""
    key, settings = proxy_settings(tmp_path)
    async with (
        gateway_process(tmp_path, settings) as gateway,
        go_proxy(go_backend_binary, gateway.url, key) as backend,
        browser_context(browser) as context,
    ):
        watched = WatchedPage(await context.new_page())
        page = watched.page
        await page.goto(backend.url)
        await page.get_by_label("Name").fill("ann")
        await page.get_by_label("Password").fill(PASSWORDS["ann"])
        await page.get_by_role("button", name="Sign in").click()
        await page.get_by_label("Message").fill("Tell me a very long story")
        await page.keyboard.press("Enter")
        answer = page.locator("[data-role=assistant]")
        await expect(answer).to_contain_text("You asked")
        await page.get_by_role("button", name="Stop").click()
        await expect(page.locator("[data-status=cancelled]")).to_contain_text("You asked")
        await page.reload()
        await expect(answer).to_contain_text("You asked")
    assert [error for error in watched.errors if REFUSED not in error] == []
