"""How much the page loads until it is live, and how long that takes on a slow line."""

from __future__ import annotations

import re
from typing import Any

import pytest
from playwright.async_api import Browser, BrowserContext, expect

from tests.gateway_process import GatewayProcess
from tests.in_time import check_in_time, checks_time_limit
from tests.page_stage import WatchedPage, browser_context
from tests.slow_line import SlowLine, slow_line

pytestmark = [pytest.mark.e2e, pytest.mark.browser, pytest.mark.timed, pytest.mark.asyncio(loop_scope="session")]

ROUND_TRIP_S = 0.15
BYTES_PER_S = 1.6e6 / 8
BYTES_MAX = 90_000
COLD_S, WARM_S = 1.5, 0.6

LIVE = """
new MutationObserver(() => {
  if (document.body?.dataset.connection === "live") window.liveAt ??= performance.now();
}).observe(document, { subtree: true, childList: true, attributeFilter: ["data-connection"] });
"""
LOADED = """() => {
  const before = [...performance.getEntriesByType("navigation"), ...performance.getEntriesByType("resource")]
    .filter(({ responseEnd }) => responseEnd > 0 && responseEnd <= liveAt);
  return { live_s: liveAt / 1000, loaded: before.map(({ name, transferSize }) => [new URL(name).pathname, transferSize]) };
}"""

CONTROLLED = """() => new Promise((resolve) => {
  navigator.serviceWorker.addEventListener("controllerchange", resolve);
  if (navigator.serviceWorker.controller) resolve();
})"""
KEPT = """async () => {
  const caches_ = await Promise.all((await caches.keys()).map((name) => caches.open(name)));
  const kept = await Promise.all(caches_.map((cache) => cache.keys()));
  return kept.flat().map(({ url }) => new URL(url).pathname);
}"""


async def load(context: BrowserContext, line: SlowLine) -> tuple[WatchedPage, float, dict[str, int]]:
    """Open the page over new connections. Return it, the time until it is live, in s, and the bytes of each file that it
    has loaded by then."""
    line.close_connections()
    watched = WatchedPage(await context.new_page())
    await watched.page.goto(f"http://page.localhost:{line.port}/")
    await watched.until_live()
    found: dict[str, Any] = await watched.page.evaluate(LOADED)
    return watched, found["live_s"], dict(found["loaded"])


@checks_time_limit
async def test_the_page_is_live_soon_on_a_slow_line(browser: Browser, page_gateway: GatewayProcess) -> None:
    """At 150 ms and 1.6 Mbit/s the page is live in 1.5 s, and in 0.6 s the next time. It loads less than 90 KB by then:
    the page, its style and one script, and asks the API nothing. Afterwards it opens without a network, with its draft."""
    port = int(page_gateway.url.rpartition(":")[2])
    async with (
        slow_line(port, ROUND_TRIP_S, BYTES_PER_S) as line,
        browser_context(browser, service_workers="allow") as context,
    ):
        await context.add_init_script(LIVE)
        watched, cold_s, loaded = await load(context, line)
        names = sorted(name.rpartition("/")[2] for name in loaded)
        assert [name for name in names if name != "favicon.svg"] == ["", "page.js", "turnwire.css"]
        assert sum(loaded.values()) < BYTES_MAX, loaded
        await watched.page.evaluate(CONTROLLED)
        await watched.page.close()

        watched, warm_s, again = await load(context, line)
        assert sum(again.values()) < 1_000, again
        kept = await watched.page.evaluate(KEPT)
        assert len(kept) >= 7
        assert [url for url in kept if not re.fullmatch(r"/|/static/[0-9a-f]{12}-page/.+", url)] == []

        await watched.page.get_by_test_id("prompt-box").fill("for later")
        await context.set_offline(True)
        line.close_connections(refuse=True)
        await watched.page.reload()
        await expect(watched.page.get_by_test_id("prompt-box")).to_have_value("for later")
        connection = watched.page.get_by_test_id("connection")
        await expect(connection).to_have_attribute("data-state", "waiting")
        await expect(connection).to_contain_text(re.compile("Offline|Reconnecting"))
    check_in_time(cold_s, COLD_S)
    check_in_time(warm_s, WARM_S)
