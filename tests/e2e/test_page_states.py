"""The states of the page other than a complete answer: a prompt sent early, a growing table, empty results, a failed or
cut answer, earlier messages, retries, many tool calls, and what a turn waits for."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from playwright.async_api import Browser, Route, WebSocketRoute, expect

from tests.client import client
from tests.client_stage import client_stage
from tests.e2e.upstream_gateway import gateway_with_upstream
from tests.gateway_process import GatewayProcess
from tests.page_stage import SharedPage, WatchedPage, browser_context, ended, open_page
from tests.upstream import Upstream, chat, error_response

pytestmark = [pytest.mark.e2e, pytest.mark.browser, pytest.mark.timeout(300), pytest.mark.asyncio(loop_scope="session")]

GROWN = """async (text) => {
  const { MarkdownView } = await probes.load("markdown/markdown_view.js");
  const root = document.createElement("div");
  const view = new MarkdownView(root);
  const shown = new Set();
  for (let end = 1; end <= text.length; end++) {
    while (!view.update(text.slice(0, end), end < text.length)) await new Promise((resolve) => setTimeout(resolve, 2));
    shown.add(root.textContent);
    if ([...root.querySelectorAll("tr")].some((row) => row.textContent.trim() === "")) shown.add("an empty row |");
  }
  const piped = [...shown].filter((words) => words.includes("|"));
  return { piped, rows: root.querySelectorAll("tr").length, text: root.textContent };
}"""

CUT = """async ({ fail, stop }) => {
  const { connect } = await probes.load("turnwire.js");
  const connection = connect({ storage: null });
  const { id: conversation } = await connection.createConversation();
  const turn = connection.start({
    conversation, input: "Question",
    params: { demo: fail ? { rate: 0, fail } : { rate: 50, tokens: 5000 } },
  });
  if (fail) await turn.catch(() => {});
  else for await (const event of turn) if (event.type === "turn.delta") break;
  if (stop === "admin") {
    const body = JSON.stringify({ reason: "Maintenance." });
    await fetch(`/v1/admin/turns/${turn.id}/cancel`, { method: "POST", headers: { "content-type": "application/json" }, body });
  }
  if (stop === "client") await turn.cancel();
  connection.close();
  return conversation;
}"""


@pytest_asyncio.fixture(loop_scope="session")
async def watched(shared_page: SharedPage) -> AsyncIterator[WatchedPage]:
    """The page, open and live. The test fails if the page logged an error."""
    async with shared_page.clean() as watched:
        yield watched


async def test_a_prompt_sent_before_the_page_is_live_is_kept(browser: Browser, page_gateway: GatewayProcess) -> None:
    """Text typed before the page's script is loaded stays in the prompt box. A prompt sent before the page is connected
    is shown at once, and answered later."""
    async with browser_context(browser) as context:
        watched = WatchedPage(await context.new_page())
        page = watched.page
        scripts, answers = asyncio.Event(), asyncio.Event()

        async def hold(route: Route, released: asyncio.Event) -> None:
            await released.wait()
            await route.continue_()

        async def hold_socket(route: WebSocketRoute) -> None:
            await answers.wait()
            route.connect_to_server()

        await page.route("**/page.js", lambda route: hold(route, scripts))
        await page.route_web_socket(re.compile("/ws"), hold_socket)
        await page.goto(f"{page_gateway.url}/", wait_until="commit")
        box = page.get_by_test_id("prompt-box")
        await box.fill("early")
        scripts.set()
        await expect(page.get_by_test_id("send")).to_be_enabled()
        await expect(box).to_have_value("early")
        turn = await watched.ask("sent early")
        await expect(turn.first).to_be_visible()
        await expect(page.get_by_test_id("connection")).not_to_have_attribute("data-state", "live")
        answers.set()
        await ended(turn, "completed")
        await expect(page.get_by_test_id("turn")).to_have_count(1)
    assert watched.errors == []


async def test_a_growing_table_doesnt_show_its_pipes(watched: WatchedPage) -> None:
    """A line that may begin a table is held back until the next line shows whether it does. Other text is shown as it
    is."""
    table = "Before\n\n| Name | Value |\n| --- | :-: |\n| one | 1 |\n| two | 2 |\n\nAfter"
    seen = await watched.page.evaluate(GROWN, table)
    assert (seen["piped"], seen["rows"]) == ([], 3)
    none = "| x | is what absolute means\nand no table | at all"
    assert (await watched.page.evaluate(GROWN, none))["text"] == none
    assert (await watched.page.evaluate(GROWN, "| x |"))["text"] == "| x |"


async def test_an_empty_search_result_shows_the_query(watched: WatchedPage) -> None:
    """An empty result shows the query and a button that shows all conversations."""
    await ended(await watched.say("Here."), "completed")
    listed = watched.page.get_by_test_id("conversation")
    await expect(listed).to_have_count(1)
    await watched.page.get_by_test_id("search").fill("no such <b>title</b>")
    chats = watched.page.get_by_test_id("conversations")
    await expect(chats).to_contain_text("No conversations match “no such <b>title</b>”.")
    await chats.get_by_role("button", name="Show all").click()
    await expect(listed).to_have_count(1)
    await expect(watched.page.get_by_test_id("search")).to_be_focused()


async def test_an_empty_conversation_keeps_its_title(watched: WatchedPage) -> None:
    """A conversation with a title and without messages isn't shown as a new one, and a title of one long word fits."""
    title = "Pneumonoultramicroscopicsilicovolcanoconiosis" * 6
    await watched.page.evaluate(
        """async (title) => {
          const { connect } = await probes.load("turnwire.js");
          const connection = connect({ storage: null });
          location.hash = (await connection.createConversation({ title })).id;
          connection.close();
        }""",
        title,
    )
    await expect(watched.page.get_by_test_id("title")).to_have_text(title)
    await expect(watched.page.get_by_test_id("title")).to_be_visible()
    assert await watched.page.evaluate("probes.tooWide()") == []


@pytest.mark.parametrize(
    ("how", "shown", "ending"),
    [
        ({"fail": "mid"}, r"failed in the middle.*Try again, or choose another model.*upstream_error", "failed"),
        ({"fail": "auth"}, r"rejected the key.*Check the provider's API key.*upstream_auth", "failed"),
        ({"fail": "length"}, r"reached the length limit\. Ask the model to continue", "reached the length limit"),
        ({"fail": "content_filter"}, r"content filter stopped it\. Rephrase", "stopped by the content filter"),
        ({"fail": "refusal"}, r"refused to answer\. Rephrase", "refused"),
        ({"stop": "admin"}, r"an operator stopped it\. Maintenance\. Regenerate", "stopped by an operator"),
        ({"stop": "client"}, r"^Continue$", "stopped by you"),
    ],
)
async def test_a_failed_or_cut_answer_says_why_after_a_reload(
    watched: WatchedPage, how: dict[str, str], shown: str, ending: str
) -> None:
    """The stored message has the reason, so a page that didn't see the turn shows it too, and what to do about it."""
    page = watched.page
    conversation = await page.evaluate(CUT, {"fail": None, "stop": None, **how})
    await page.evaluate("(id) => { location.hash = id; }", conversation)
    turn = page.get_by_test_id("turn")
    await expect(turn.get_by_test_id("ending")).to_have_text(ending, timeout=20_000)
    await page.reload()
    await expect(turn.get_by_test_id("ending")).to_have_text(ending, timeout=20_000)
    await expect(turn.locator(".error-slot")).to_have_text(re.compile(shown))


@pytest_asyncio.fixture(loop_scope="session")
async def many(page_gateway: GatewayProcess) -> str:
    """A conversation of 260 questions and answers."""
    async with client(page_gateway.ws_url) as c:
        conversation: str = (await c.request("conversation.create"))["id"]
        for number in range(260):
            params = {"demo": {"rate": 0, "text": f"Answer {number}"}}
            given = {"conversation": conversation, "input": f"Question {number}", "params": params}
            await c.request("turn.start", turn=f"t{number}", **given)
            await c.ending(f"t{number}")
        return conversation


async def test_earlier_messages_are_loaded_above(many: str, watched: WatchedPage) -> None:
    """The newest messages are shown at once. Older ones are loaded on request, and the visible message moves by less than
    100 px."""
    page = watched.page
    await page.evaluate("(id) => { location.hash = id; }", many)
    await expect(page.get_by_text("Answer 259", exact=True)).to_be_visible(timeout=20_000)
    top = page.get_by_test_id("exchange").first
    words = await top.get_by_test_id("prompt").text_content()
    assert words == "Question 10"
    await page.evaluate("document.querySelector('.scroller').scrollTo(0, 0)")
    question = page.get_by_test_id("prompt").get_by_text(words, exact=True)
    box = await question.bounding_box()
    await page.get_by_role("button", name="Load earlier messages").click()
    await expect(page.get_by_text("Answer 0", exact=True)).to_be_attached(timeout=20_000)
    moved = await question.bounding_box()
    assert box is not None
    assert moved is not None
    assert abs(moved["y"] - box["y"]) < 100
    await expect(page.get_by_role("button", name="Load earlier messages")).to_have_count(0)


async def test_a_retry_shows_its_countdown(browser: Browser, tmp_path: Path) -> None:
    """A retry shows the number of the attempt and a countdown. An answer after a retry shows the number of attempts."""
    async with (
        Upstream() as upstream,
        gateway_with_upstream(upstream, tmp_path) as (gateway, _),
        browser_context(browser) as context,
    ):
        upstream.play(
            error_response(429, {"error": {"message": "slow down"}}, retry_after="1"),
            chat("Hel", "lo"),
            error_response(429, {"error": {"message": "slow down"}}, retry_after="40"),
        )
        watched = await open_page(context, f"{gateway.url}/")
        page = watched.page
        await page.evaluate(
            """async () => {
              const { connect } = await probes.load("turnwire.js");
              window.other = connect({ storage: null });
              location.hash = (await other.createConversation()).id;
            }"""
        )
        await expect(page.locator("body[data-new=false][data-empty=true]")).to_be_attached()
        asked = """(input) => other.start({ conversation: location.hash.slice(1), model: "openai/some-model", input }).accepted"""
        await page.evaluate(asked, "Hi")
        turns = page.get_by_test_id("turn")
        await ended(turns.nth(0), "completed")
        await expect(turns.nth(0).get_by_test_id("attempts")).to_have_text("2 attempts")
        await page.evaluate(asked, "Again")
        status = turns.nth(1).get_by_test_id("status")
        await expect(status).to_have_text(re.compile(r"^Retrying in \d+ s \(attempt 2\)$"))
        await turns.nth(1).get_by_test_id("stop").click()
        await ended(turns.nth(1), "cancelled")
        assert watched.errors == []


async def test_tool_calls_are_answered_ten_times_in_a_row(browser: Browser, tmp_path: Path) -> None:
    """After ten tool results in a row the page asks whether to continue, and then continues by one."""
    call = {"index": 0, "id": "c", "type": "function", "function": {"name": "clock", "arguments": "{}"}}
    async with (
        Upstream() as upstream,
        gateway_with_upstream(upstream, tmp_path, TURNWIRE_DEFAULT_MODEL="kimi-k3") as (gateway, _),
        browser_context(browser) as context,
    ):
        upstream.play(chat({"tool_calls": [call]}, finish="tool_calls"))
        watched = await open_page(context, f"{gateway.url}/")
        await watched.settings(shown=True)
        await watched.page.get_by_role("checkbox", name="Offer demo tools").check()
        await watched.page.get_by_role("checkbox", name="Ask before tools run").uncheck()
        await watched.settings(shown=False)
        await watched.ask("What time is it?")
        turns = watched.page.get_by_test_id("turn")
        again = watched.page.get_by_test_id("run-tools")
        for answered in (11, 12):
            await expect(again).to_be_visible()
            await expect(turns).to_have_count(answered)
            assert len(upstream.requests) == answered
            await again.click()
        assert watched.errors == []


SCRIPTED_TURN = """async (url) => {
  const { connect } = await import("/static/turnwire.js");
  const { AnswerView } = await import("/static/chat/answer_view.js");
  const { ConnectionStatus } = await import("/static/chat/connection_status.js");
  const { MessageNode } = await import("/static/chat/message_tree.js");
  document.head.append(Object.assign(document.createElement("link"), { rel: "stylesheet", href: "/static/turnwire.css" }));
  const status = document.body.appendChild(document.createElement("div"));
  for (const name of ["connection-text", "roundtrip"]) status.appendChild(document.createElement("span")).className = name;
  status.appendChild(document.createElement("button")).className = "connection-button";
  const connection = connect({ url, storage: null });
  new ConnectionStatus(status, connection);
  const turn = connection.start({ turn: "t", input: "Hi" });
  const message = new MessageNode("assistant", { turn });
  document.body.append(new AnswerView(message, { connectionState: () => connection.state }).node);
  Object.assign(window, { connection, turn });
  (async () => {
    for await (const event of turn) {
      if (event.type === "turn.status") message.applyStatus(event);
      message.onChange(event);
    }
  })();
}"""
NEXT = "connection.request('conversation.get', { conversation: 'c' }).then(() => {})"


async def test_the_status_shows_what_a_turn_waits_for(browser: Browser, tmp_path: Path) -> None:
    """The turn's status shows the position in the queue, the wait for the first token, another model, a stall, and the
    loss of the network. The stripe pulses until the first token. The connection's text shows the loss of the store."""
    fields = {"turn": "t", "conversation": "c", "message": "m", "parent": None}
    steps: list[tuple[dict[str, Any], str]] = [
        ({"type": "turn.started", "epoch": 1, "status": "queued", "model": "a", "input": None}, "Queued"),
        ({"type": "turn.status", "status": "queued", "position": 3}, "Queued, position 3"),
        ({"type": "turn.status", "status": "queued", "position": 1}, "Queued, next in line"),
        ({"type": "turn.status", "status": "running"}, "Waiting for the first token"),
        ({"type": "turn.status", "status": "waiting"}, "Slow to respond"),
        ({"type": "turn.status", "status": "fallback", "model": "b"}, "Using b instead"),
        ({"type": "turn.status", "status": "continued", "model": "b"}, "The answer broke off: b continues it"),
        ({"type": "turn.part", "part": 0, "kind": "text"}, "Streaming"),
        ({"type": "turn.delta", "part": 0, "text": "So"}, "Streaming"),
    ]
    begun = {"turn": "t", "conversation": "c", "status": "running", "epoch": 1}
    script: list[dict[str, Any]] = [{"ready": {}}, {"expect": "turn.start", "answer": begun}]
    for number, (event, _) in enumerate(steps, 1):
        script += [{"send": {**fields, **event, "seq": number}}, {"expect": "conversation.get", "answer": {}}]
    script.append({"send": {"type": "durability", "state": "degraded"}})
    async with client_stage(tmp_path) as stage, browser_context(browser, motion="no-preference") as context:
        page = await context.new_page()
        await page.goto(stage.url)
        await page.evaluate(SCRIPTED_TURN, (await stage.do_scripted([script]))["url"])
        turn, status = page.get_by_test_id("turn"), page.get_by_test_id("status")
        for _, shown in steps:
            await expect(status).to_have_text(shown)
            await expect(page.get_by_test_id("answer-model")).to_have_text(
                "b" if shown.startswith(("Using", "The", "Str")) else "a"
            )
            animation = "none" if shown == "Streaming" else "fade"
            await expect(turn.locator(".stripe")).to_have_css("animation-name", animation)
            await page.evaluate(NEXT)
        await expect(page.locator(".connection-text")).to_have_text("Live, storage delayed")
        await page.evaluate("turn.lastAt -= 7000")
        await expect(status).to_have_text(re.compile(r"^No output for \d+ s$"))
        await expect(turn).to_have_attribute("data-stalled", "")
        await page.evaluate("connection.offline()")
        await expect(status).to_have_text("Offline")
        await page.evaluate(
            "WebSocket = class { constructor() { throw new Error('no network'); } }; connection.online()"
        )
        await expect(status).to_have_text("Reconnecting")
