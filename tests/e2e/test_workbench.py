"""The page's wire view and break-it panel in a real Chromium: what they show is correct, and failures are shown."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from playwright.async_api import Browser, Locator, expect

from tests.client_stage import client_stage
from tests.page_stage import FORGET_ALL, ReloadedPage, WatchedPage, browser_context, ended, wait_for_words

pytestmark = [pytest.mark.e2e, pytest.mark.browser, pytest.mark.timeout(300), pytest.mark.asyncio(loop_scope="session")]

SCENARIO_MS = 60_000
WHOLE = re.compile(r"^(\d+) turns?, ([\d,]+) characters, 0 lost, 0 duplicated$")

WAIT_FOR_MORE_TEXT = """async (characters) => {
  while (other.running[0].text.length < characters + 20) await new Promise((resolve) => setTimeout(resolve, 20));
}"""


@pytest_asyncio.fixture(loop_scope="session")
async def watched(reloaded_page: ReloadedPage) -> AsyncIterator[WatchedPage]:
    """The page, just loaded and live. The test fails if the page logged an error."""
    async with reloaded_page.loaded() as watched:
        await watched.until_live()
        await watched.page.context.grant_permissions(["clipboard-read", "clipboard-write"])
        yield watched
        await watched.page.evaluate(FORGET_ALL)
        assert watched.errors == []


async def tab(watched: WatchedPage, name: str) -> Locator:
    """Open the drawer at a tab and return its panel."""
    drawer = watched.page.get_by_test_id("drawer")
    if not await drawer.is_visible():
        await watched.page.get_by_test_id("drawer-toggle").click()
    await drawer.get_by_test_id(f"tab-{name}").click()
    panel = watched.page.get_by_test_id(name)
    await expect(panel.locator("*").first).to_be_visible()
    return panel


async def run(watched: WatchedPage, name: str) -> None:
    """Press the button of a scenario."""
    panel = await tab(watched, "break")
    await panel.get_by_test_id(f"run-{name}").click()


async def wait_until_passed(watched: WatchedPage, name: str, turns: int) -> str:
    """Wait until a scenario has passed, with at least `turns` turns checked, and return its status text."""
    page = watched.page
    scenario = page.get_by_test_id(f"scenario-{name}")
    await expect(scenario).to_have_attribute("data-state", re.compile("passed|failed"), timeout=SCENARIO_MS)
    status = await page.get_by_test_id(f"status-{name}").inner_text()
    assert await scenario.get_attribute("data-state") == "passed", status
    await expect(page.get_by_test_id("integrity")).to_have_attribute("data-state", "passed")
    counted = WHOLE.match(await page.get_by_test_id("integrity-count").inner_text())
    assert counted is not None
    assert int(counted[1]) >= turns
    return status


async def test_laws_1_6_7_a_dropped_socket_and_a_repeated_start(watched: WatchedPage) -> None:
    """Laws 1, 6 and 7 in the panel: a dropped socket is replaced, two starts have one answer, and every character
    arrives once."""
    await run(watched, "drop")
    assert "over socket 2" in await wait_until_passed(watched, "drop", 3)
    await run(watched, "twice")
    assert "attached" in await wait_until_passed(watched, "twice", 4)
    await expect(watched.page.get_by_test_id("conversations").get_by_text("Break-it tests")).to_have_count(1)


async def test_offline_lasts_until_online_is_pressed(watched: WatchedPage) -> None:
    """The connection status shows that the page is offline, and "Go online" can be pressed there or in the panel.
    Afterwards the answers are complete."""
    await run(watched, "offline")
    button = watched.page.get_by_test_id("run-offline")
    await expect(button).to_have_text("Go online")
    await expect(watched.page.get_by_test_id("connection")).to_contain_text("Offline")
    await button.click()
    await wait_until_passed(watched, "offline", 3)
    await expect(button).to_have_text("Go offline")

    await button.click()
    await expect(button).to_have_text("Go online")
    await watched.page.get_by_test_id("connection").get_by_role("button", name="Go online").click()
    await wait_until_passed(watched, "offline", 6)


async def test_a_stop_while_offline_takes_effect_when_online(watched: WatchedPage) -> None:
    """Text from before the stop that arrives after the cancel request, over the next socket, isn't a violation of a
    law."""
    page = watched.page
    turn = await watched.say(" ".join(map(str, range(5000))), rate=30)
    await wait_for_words(turn)
    await run(watched, "offline")
    await expect(page.get_by_test_id("run-offline")).to_have_text("Go online")
    before = await turn.get_by_test_id("answer").inner_text()
    await page.get_by_test_id("run-stop").click()
    await page.evaluate(WAIT_FOR_MORE_TEXT, len(before))
    await page.get_by_test_id("run-offline").click()
    assert await wait_until_passed(watched, "stop", 1) == "1 stopped. The text from before the stop has arrived."
    assert len(await turn.get_by_test_id("answer").inner_text()) > len(before)


async def test_law_5_twenty_turns_are_stopped(watched: WatchedPage) -> None:
    """Law 5: twenty answers over one socket don't mix. If they are stopped in the middle, no character follows."""
    await run(watched, "twenty")
    await wait_until_passed(watched, "twenty", 20)
    await run(watched, "twenty")
    await wait_for_words(watched.page.get_by_test_id("turn").nth(39))
    await run(watched, "stop")
    assert re.match(r"[1-9]\d* stopped", await wait_until_passed(watched, "stop", 40))


async def test_failed_answers_keep_their_text(watched: WatchedPage) -> None:
    """Four answers fail in four ways, and their shown texts equal the stored ones."""
    await run(watched, "cut")
    assert re.match(r"4 failed as expected. [1-9]\d* characters", await wait_until_passed(watched, "cut", 4))


async def test_law_11_pausing_the_reading_loses_nothing(watched: WatchedPage) -> None:
    """Law 11: no text is lost after the page has read nothing from its socket for ten seconds."""
    await run(watched, "pause")
    await expect(watched.page.get_by_test_id("status-pause")).to_contain_text("Reading paused", timeout=20_000)
    assert re.match(r"[\d,]{5,} characters", await wait_until_passed(watched, "pause", 4))


async def test_a_second_device_shows_the_same_turns(watched: WatchedPage) -> None:
    """Another tab opens the conversation and reports the turns that it has."""
    async with watched.page.context.expect_page() as opened:
        await run(watched, "device")
    other = await opened.value
    assert "3 answers" in await wait_until_passed(watched, "device", 3)
    await expect(other.get_by_test_id("turn")).to_have_count(3)


@pytest.mark.parametrize(
    ("stored", "counts"),
    [
        ("Hello", "0 lost, 0 duplicated"),
        ("Hello, you", "5 lost, 0 duplicated"),
        ("Helo", "0 lost, 1 duplicated"),
        ("Hallo", "1 lost, 1 duplicated"),
    ],
)
async def test_the_integrity_check_fails_if_the_stored_text_differs(
    browser: Browser, tmp_path: Path, stored: str, counts: str
) -> None:
    """The check fails if the gateway stores another text than it sends, and passes otherwise."""
    message = {"id": "m", "role": "assistant", "parts": [{"kind": "text", "text": stored}], "parent": None}
    begun = {"turn": "t", "conversation": "c", "status": "running", "epoch": 1}
    events = [
        {"type": "turn.started", "seq": 1, "epoch": 1, "status": "running", "model": "demo", "input": None},
        {"type": "turn.part", "seq": 2, "part": 0, "kind": "text"},
        {"type": "turn.delta", "seq": 3, "part": 0, "text": "Hel"},
        {"type": "turn.delta", "seq": 4, "part": 0, "text": "lo"},
        {"type": "turn.completed", "seq": 5, "finish_reason": "stop", "message": "m"},
    ]
    ids = {"turn": "t", "conversation": "c", "message": "m", "parent": None}
    script: list[dict[str, Any]] = [{"ready": {}}, {"expect": "turn.start", "answer": begun}]
    script += [{"send": {**ids, **one}} for one in events]
    answer = {"turn": "t", "status": "completed", "seq": 5, "message": message}
    async with client_stage(tmp_path) as stage, browser_context(browser) as context:
        gateway = await stage.do_scripted([[*script, {"expect": "turn.get", "answer": answer}]])
        page = await context.new_page()
        await page.goto(stage.url)
        summary = await page.evaluate(
            """async (url) => {
              const { connect } = await import("/static/turnwire.js");
              const { IntegrityCheck } = await import("/static/devtools/integrity_check.js");
              const connection = connect({ url, storage: null });
              const integrity = new IntegrityCheck(connection);
              const turn = connection.start({ turn: "t", input: "Hi" });
              integrity.track(turn);
              await integrity.results(["t"]);
              return integrity.summary;
            }""",
            gateway["url"],
        )
    assert f"{summary['lost']} lost, {summary['duplicated']} duplicated" == counts
    assert summary["state"] == ("passed" if stored == "Hello" else "failed")


async def test_the_panel_shows_a_failed_integrity_check(watched: WatchedPage) -> None:
    """One character added to the received text makes the panel and the scenario fail, and the panel shows the
    position."""
    await watched.page.evaluate(
        """async () => {
          const { Turn } = await probes.load("turnwire.js");
          const { receive } = Turn.prototype;
          let slipped = false;
          Turn.prototype.receive = function (event, at) {
            const slip = !slipped && event.type === "turn.delta" && this.text.length > 10;
            slipped ||= slip;
            return receive.call(this, slip ? { ...event, text: `x${event.text}` } : event, at);
          };
        }"""
    )
    await run(watched, "cut")
    page = watched.page
    await expect(page.get_by_test_id("scenario-cut")).to_have_attribute("data-state", "failed", timeout=SCENARIO_MS)
    await expect(page.get_by_test_id("integrity")).to_have_attribute("data-state", "failed")
    await expect(page.get_by_test_id("integrity-count")).to_contain_text("0 lost, 1 duplicated")
    await expect(page.get_by_test_id("integrity-failures")).to_contain_text(re.compile(r"at character \d+"))


async def test_the_wire_view_filters_pauses_copies_and_opens_frames(watched: WatchedPage) -> None:
    """Frames can be filtered, paused, copied unchanged, and opened."""
    await watched.choose(rate=60, tokens=100)
    panel = await tab(watched, "wire")
    await ended(await watched.ask("show me the wire"), "completed")
    page, rows = watched.page, panel.get_by_test_id("wire-list").get_by_role("option").filter(visible=True)

    await panel.get_by_test_id("wire-type").select_option("turn.start")
    await expect(panel.get_by_test_id("wire-count")).to_contain_text(re.compile(r"^1 of \d+ frames"))
    await rows.first.click()
    await expect(panel.get_by_test_id("wire-detail")).to_contain_text("show me the wire")
    await panel.get_by_test_id("wire-copy-one").click()
    one = json.loads(await page.evaluate("navigator.clipboard.readText()"))
    assert (one["direction"], one["frame"]["type"], one["frame"]["input"]) == ("out", "turn.start", "show me the wire")

    await panel.get_by_test_id("wire-type").select_option("")
    await panel.get_by_test_id("wire-direction").select_option("in")
    await panel.get_by_test_id("wire-text").fill("SHOW ME THE WIRE")
    await expect(panel.get_by_test_id("wire-count")).to_contain_text(re.compile(r"^[1-9] of \d+ frames"))
    await panel.get_by_test_id("wire-copy-all").click()
    lines = (await page.evaluate("navigator.clipboard.readText()")).splitlines()
    assert "turn.started" in {json.loads(line)["frame"]["type"] for line in lines}
    assert {json.loads(line)["direction"] for line in lines} == {"in"}

    await panel.get_by_test_id("wire-text").fill("")
    await panel.get_by_test_id("wire-direction").select_option("")
    await panel.get_by_test_id("wire-turn").select_option(index=1)
    await expect(panel.get_by_test_id("wire-count")).to_contain_text(re.compile(r"^\d{2,} of \d+ frames"))
    await expect(rows.last).to_contain_text("turn.")
    await panel.get_by_test_id("wire-pause").click()
    before = await rows.all_inner_texts()
    await ended(await watched.ask("while it is paused"), "completed")
    assert await rows.all_inner_texts() == before
    await expect(panel.get_by_test_id("wire-count")).to_contain_text(
        re.compile(r"Paused at \d+ of \d+ frames; [1-9]\d+ new")
    )
    await panel.get_by_test_id("wire-pause").click()
    await expect(panel.get_by_test_id("wire-count")).not_to_contain_text("Paused")


async def test_the_wire_view_can_be_used_by_keyboard(watched: WatchedPage) -> None:
    """Arrow keys select frames. A filter without matches shows a message."""
    panel = await tab(watched, "wire")
    await ended(await watched.ask("keys"), "completed")
    await panel.get_by_test_id("wire-list").focus()
    await watched.page.keyboard.press("End")
    await expect(panel.get_by_test_id("wire-detail")).to_be_visible()
    last = await panel.get_by_test_id("wire-list").get_by_role("option", selected=True).inner_text()
    await watched.page.keyboard.press("ArrowUp")
    await expect(panel.get_by_test_id("wire-list").get_by_role("option", selected=True)).not_to_have_text(last)
    await panel.get_by_test_id("wire-text").fill("no such thing on the wire")
    await expect(panel).to_contain_text("No frames match the filter")


async def test_the_codec_can_be_switched_in_the_wire_view(watched: WatchedPage) -> None:
    """The switch opens another socket with MessagePack, the sizes of both codecs are shown side by side, and the live
    turn completes."""
    await watched.choose(rate=40, tokens=150)
    panel = await tab(watched, "wire")
    turn = await watched.ask("change the codec")
    await wait_for_words(turn)
    await panel.get_by_test_id("codec-msgpack").check()
    await ended(turn, "completed")
    await expect(turn.get_by_test_id("tokens")).to_have_text("150 tokens")
    assert await watched.page.evaluate("sockets.map(({ protocol }) => protocol)") == [
        "turnwire.v1.json",
        "turnwire.v1.msgpack",
    ]
    await expect(panel.get_by_test_id("size-msgpack")).to_have_text(re.compile(r"^\d.*B \(\u2212\d+%\)$"))
    await expect(panel.get_by_test_id("wire-turns").locator("tbody tr")).to_have_count(1)
    await expect(panel.get_by_test_id("wire-turns").locator("tbody")).to_contain_text(re.compile(r"\d m?s\s*\d"))


async def test_the_wire_view_renders_a_limited_number_of_rows(watched: WatchedPage) -> None:
    """The list renders only the visible rows. A closed view records no frames, and shows afterwards how many were
    missed."""
    panel = await tab(watched, "wire")
    page, count = watched.page, panel.get_by_test_id("wire-count")
    nodes = "document.querySelector('[data-testid=wire]').querySelectorAll('*').length"
    rows = panel.get_by_test_id("wire-turns").locator("tbody tr")
    await ended(await watched.say("Many words. " * 150, rate=500), "completed")
    await expect(count).to_contain_text(re.compile(r"^\d{3,} frames"))
    await expect(rows).to_have_count(1)
    before = await page.evaluate(nodes)
    await ended(await watched.say("Many words. " * 1500, rate=1000), "completed")
    await expect(count).to_contain_text(re.compile(r"^\d{4,} frames"))
    await expect(rows).to_have_count(2)
    one_turn = await rows.first.evaluate("(row) => row.querySelectorAll('*').length + 1")
    options_max = 8  # the filters get new options: a turn, a type or two
    assert await page.evaluate(nodes) <= before + one_turn + options_max
    assert await panel.get_by_test_id("wire-list").get_by_role("option").count() < 60

    await page.get_by_test_id("drawer").get_by_role("button", name="Close").click()
    assert await page.evaluate("document.querySelector('[data-testid=drawer]').hidden")
    await ended(await watched.say("Unseen words. " * 50, rate=0), "completed")
    panel = await tab(watched, "wire")
    await panel.get_by_test_id("wire-text").fill("Unseen words")
    await expect(count).to_contain_text(re.compile("^0 of "))
    await panel.get_by_test_id("wire-text").fill("")
    await expect(panel.get_by_test_id("wire-list")).to_contain_text("frames not recorded while this view was closed")
