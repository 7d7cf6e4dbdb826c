"""The page at other addresses: below a path, behind proxies, at the machine's own address; and pages that reload or
stop reading."""

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
  const { connect } = await probes.load("turnwire.js");
  const connection = connect();
  const turns = connection.recall();
  return Promise.all(turns.map((turn) => turn.done.then(({ text }) => text)));
}"""

START = """async (text) => {
  const { connect } = await probes.load("turnwire.js");
  const turns = [1, 2].map(() => (window.connection ??= connect()).start({ input: "Hi", params: { demo: { text, rate: 100 } } }));
  await Promise.all(turns.map(({ accepted }) => accepted));
}"""

PAUSED = """async ([codec, words]) => {
  const { connect } = await probes.load("turnwire.js");
  const connection = connect({ codec, storage: null });
  const reasons = [];
  connection.addEventListener("state", ({ detail }) => detail.reason && reasons.push(detail.reason));
  const begun = performance.now();
  const paused = connection.pauseReading(3000);
  await new Promise((done) => connection.addEventListener("state", ({ detail }) => detail.state === "live" && done()));
  const turn = connection.start({ input: "Hi", params: { demo: { text: words, tokens: 30_000, rate: 0 } } });
  await paused;
  const text = (await turn.done).text;
  const kept = (await connection.getTurn(turn.id)).message.parts[0].text;
  connection.close();
  return { reasons, text, same: kept === text, paused_ms: performance.now() - begun };
}"""


async def check_chat(watched: WatchedPage) -> None:
    """Run a turn, cut the page's socket in the middle of it, and check the answer that is shown at its end."""
    text = "The page is where it can be reached. " * 20
    turn = await watched.say(text, rate=100)
    await expect(turn.get_by_test_id("answer")).to_contain_text("reached")
    await watched.page.evaluate("sockets[0].close()")
    await ended(turn, "completed")
    await expect(turn.get_by_test_id("answer")).to_have_text(text.strip())
    assert watched.errors == []


@pytest.mark.parametrize("change", ["prefix removed", "prefix added"])
async def test_the_page_works_behind_a_proxy_that_changes_its_path(
    browser: Browser, tmp_path: Path, change: str
) -> None:
    """The proxy removes a prefix that only the browser sees, or adds one that only the gateway sees."""
    settings = {} if change == "prefix removed" else {"TURNWIRE_PATH_PREFIX": "/inner/chat"}
    async with gateway_process(tmp_path, settings) as gateway, browser_context(browser) as context:
        if change == "prefix removed":
            async with prefix_proxy(gateway.url, strip="/tools/chat") as url:
                await check_chat(await open_page(context, f"{url}/tools/chat/"))
        else:
            async with prefix_proxy(gateway.url, prepend="/inner/chat") as url:
                await check_chat(await open_page(context, f"{url}/"))
            await check_chat(await open_page(context, f"{gateway.url}/inner/chat"))


def address() -> str:
    """Return an address of this machine other than loopback. Nothing is sent to find it."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
        except OSError:
            pytest.skip("this machine has no address other than loopback")
        found: str = probe.getsockname()[0]
        return found


async def test_the_page_works_at_the_machines_address_over_http(browser: Browser, tmp_path: Path) -> None:
    """The page is opened by the machine's address over plain HTTP, which isn't a secure context, at a phone's size."""
    host = address()
    async with (
        gateway_process(tmp_path, {"HOST": "0.0.0.0", "TURNWIRE_INSECURE": "1"}) as gateway,
        browser_context(browser, *PHONE) as context,
    ):
        url = f"http://{host}:{gateway.url.rpartition(':')[2]}/"
        watched = await open_page(context, url)
        assert await watched.page.evaluate("isSecureContext") is False
        # Chromium logs that it ignores one header outside secure contexts. There must be no other error.
        assert all("Cross-Origin-Opener-Policy" in error for error in watched.errors)
        watched.errors.clear()
        await check_chat(watched)


async def test_a_tab_recalls_its_live_turns_after_a_reload(browser: Browser, page_gateway: GatewayProcess) -> None:
    """After a reload, the client recalls the tab's two live turns, and their texts are complete."""
    text = "The quick brown fox. " * 30
    async with browser_context(browser) as context:
        watched = await open_page(context, page_gateway.url)
        await watched.page.evaluate(START, text)
        await watched.page.reload()
        assert await watched.page.evaluate(RELOADED) == [text, text]


@pytest.mark.parametrize("codec", ["json", "msgpack"])
async def test_law_11_a_page_that_stops_reading_loses_nothing(
    browser: Browser, page_gateway: GatewayProcess, codec: str
) -> None:
    """Law 11: while the page reads nothing, the buffers fill and the gateway closes the socket because the page is too
    slow. In the end the text is complete."""
    words = "".join(f"{word * 12} " for word in "one two three four five six seven eight nine ten".split())
    async with browser_context(browser) as context:
        watched = await open_page(context, page_gateway.url)
        seen = await watched.page.evaluate(PAUSED, [codec, words])
    assert "This page read too slowly" in seen["reasons"]
    assert seen["paused_ms"] >= 3000
    assert seen["same"]
    assert seen["text"].split() == words.split() * 3_000
    assert watched.errors == []
