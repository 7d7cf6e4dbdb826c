"""The page where it isn't at home: below a path, behind proxies, from another machine, and after a reload."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest
from playwright.async_api import Browser, expect

from tests.gateway_process import GatewayProcess, gateway_process
from tests.page_stage import WatchedPage, browser_context, ended, open_page
from tests.prefix_proxy import prefix_proxy

pytestmark = [pytest.mark.e2e, pytest.mark.browser, pytest.mark.asyncio(loop_scope="session")]

PHONE = (390, 844)

RELOADED = """async () => {
  const { connect } = await import("./static/turnwire.js");
  const connection = connect();
  const turns = connection.recall();
  return Promise.all(turns.map((turn) => turn.done.then(({ text }) => text)));
}"""

START = """async (text) => {
  const { connect } = await import("./static/turnwire.js");
  const turns = [1, 2].map(() => (window.connection ??= connect()).start({ input: "Hi", params: { demo: { text, rate: 100 } } }));
  await Promise.all(turns.map(({ accepted }) => accepted));
}"""

PAUSED = """async ([codec, words]) => {
  const { connect } = await import("./static/turnwire.js");
  const connection = connect({ codec, storage: null });
  const reasons = [];
  connection.addEventListener("state", ({ detail }) => detail.reason && reasons.push(detail.reason));
  const begun = performance.now();
  const paused = connection.pauseReading(3000);
  await new Promise((done) => connection.addEventListener("state", ({ detail }) => detail.state === "live" && done()));
  const turn = connection.start({ input: "Hi", params: { demo: { text: words, tokens: 300_000, rate: 0 } } });
  await paused;
  const text = (await turn.done).text;
  const kept = (await connection.getTurn(turn.id)).message.parts[0].text;
  connection.close();
  return { reasons, text, same: kept === text, paused_ms: performance.now() - begun };
}"""


async def chat(watched: WatchedPage) -> None:
    """An answer streams to its end, over a cut socket."""
    text = "The page is where it can be reached. " * 20
    turn = await watched.say(text, rate=100)
    await expect(turn.get_by_test_id("answer")).to_contain_text("reached")
    await watched.page.evaluate("sockets[0].close()")
    await ended(turn, "completed")
    await expect(turn.get_by_test_id("answer")).to_have_text(text.strip())
    assert watched.errors == []


@pytest.mark.parametrize("way", ["taken off", "put before"])
async def test_the_page_works_behind_a_proxy_that_changes_its_path(browser: Browser, tmp_path: Path, way: str) -> None:
    """A prefix that the browser sees and the gateway doesn't, and the other way round."""
    settings = {} if way == "taken off" else {"TURNWIRE_PATH_PREFIX": "/inner/chat"}
    async with gateway_process(tmp_path, settings) as gateway, browser_context(browser) as context:
        if way == "taken off":
            async with prefix_proxy(gateway.url, strip="/tools/chat") as url:
                await chat(await open_page(context, f"{url}/tools/chat/"))
        else:
            async with prefix_proxy(gateway.url, prepend="/inner/chat") as url:
                await chat(await open_page(context, f"{url}/"))
            await chat(await open_page(context, f"{gateway.url}/inner/chat"))


def address() -> str:
    """An address of this machine that is not its loopback; nothing is sent to find it."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
        except OSError:
            pytest.skip("this machine has no address beside its loopback")
        found: str = probe.getsockname()[0]
        return found


async def test_the_page_works_from_a_phone_on_the_same_network(browser: Browser, tmp_path: Path) -> None:
    """Opened by the machine's address over plain HTTP, where a browser grants a page less."""
    reached = address()
    async with (
        gateway_process(tmp_path, {"HOST": "0.0.0.0", "TURNWIRE_INSECURE": "1"}) as gateway,
        browser_context(browser, *PHONE) as context,
    ):
        url = f"http://{reached}:{gateway.url.rpartition(':')[2]}/"
        watched = await open_page(context, url)
        assert await watched.page.evaluate("isSecureContext") is False
        # Chromium says of one header that only pages of a secure origin heed it; nothing else is red.
        assert all("Cross-Origin-Opener-Policy" in error for error in watched.errors)
        watched.errors.clear()
        await chat(watched)


async def test_a_tab_finds_its_running_turns_after_a_reload(browser: Browser, page_gateway: GatewayProcess) -> None:
    """Their ids outlive the page in `sessionStorage`, and their texts are whole."""
    text = "The quick brown fox. " * 30
    async with browser_context(browser) as context:
        watched = await open_page(context, page_gateway.url)
        await watched.page.evaluate(START, text)
        await watched.page.reload()
        assert await watched.page.evaluate(RELOADED) == [text, text]


@pytest.mark.parametrize("codec", ["json", "msgpack"])
async def test_a_page_that_stops_reading_is_cut_off_and_loses_nothing(
    browser: Browser, page_gateway: GatewayProcess, codec: str
) -> None:
    """Law 11: while its worker is blocked the buffers fill, 4501 follows, and the text is whole in the end."""
    words = "one two three four five six seven eight nine ten "
    async with browser_context(browser) as context:
        watched = await open_page(context, page_gateway.url)
        seen = await watched.page.evaluate(PAUSED, [codec, words])
    assert "This page read too slowly" in seen["reasons"]
    assert seen["paused_ms"] >= 3000
    assert seen["same"]
    assert seen["text"].split() == words.split() * 30_000
    assert watched.errors == []
