"""What is beside the prompt box: the system prompt, Esc, double clicks, prompts during an answer, a lost network. All tests
share one page."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from playwright.async_api import Browser, Locator, Page, expect

from tests.gateway_process import GatewayProcess
from tests.page_stage import WatchedPage, ended, open_page, wait_for_words, watched_page

pytestmark = [pytest.mark.e2e, pytest.mark.browser, pytest.mark.asyncio(loop_scope="session")]

SENT = """(type) => (window.sent ?? []).filter((frame) => frame.type === type)"""

# Records the frames that the page sends.
RECORD = """() => {
  window.sent = [];
  const { send } = WebSocket.prototype;
  WebSocket.prototype.send = function (data) {
    window.sent.push(JSON.parse(data));
    return send.call(this, data);
  };
}"""

# Takes the network away from the page: its socket closes, none opens, and the browser says so.
CUT = """() => {
  window.WebSocket = class { constructor() { throw new Error("no network"); } };
  Object.defineProperty(Navigator.prototype, "onLine", { configurable: true, get: () => false });
  sockets.at(-1).close();
  dispatchEvent(new Event("offline"));
}"""

# Dispatches drag events with files, given by name, text and type.
DROP = """(steps) => {
  for (const [type, files] of steps) {
    const dataTransfer = new DataTransfer();
    const all = files.length > 0 ? files : [["some", "", ""]];
    for (const [name, text, media] of all) dataTransfer.items.add(new File([text], name, { type: media }));
    document.querySelector(".scroller").dispatchEvent(new DragEvent(type, { dataTransfer, bubbles: true, cancelable: true }));
  }
}"""

# Returns what becomes of a PDF for a model that takes files, and why other files are refused.
FACTS = """async () => {
  const { toAttachment } = await import("./static/chat/attachments.js");
  const context = { supports: () => true, modelsWith: () => ["Big"], added: [] };
  const pdf = new File(["%PDF\\0"], "data.pdf", { type: "application/pdf" });
  const why = (file, more) => toAttachment(file, { ...context, ...more }).then(() => "added", ({ message }) => message);
  const fails = () => Promise.reject(new DOMException("", "NotFoundError"));
  return {
    file: (await toAttachment(pdf, context)).part,
    folder: await why({ name: "folder", size: 4096, type: "", arrayBuffer: fails, slice: () => ({ arrayBuffer: fails }) }),
    large: await why({ name: "large", size: 20_000_000, type: "" }),
    refused: await why(pdf, { supports: () => false }),
  };
}"""


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def watched(browser: Browser, page_gateway: GatewayProcess) -> AsyncIterator[WatchedPage]:
    """The page, open and live. The tests fail if the page logged an error."""
    async with watched_page(browser, page_gateway, asks=True) as watched:
        await watched.page.evaluate(RECORD)
        yield watched


async def new_conversation(page: Page) -> None:
    """Open a new conversation."""
    await page.get_by_test_id("new-conversation").click()
    await expect(page.locator("body[data-new=true]")).to_be_attached()


async def sent(page: Page, kind: str) -> list[dict[str, Any]]:
    """Return the frames of this type that the page has sent."""
    frames: list[dict[str, Any]] = await page.evaluate(SENT, kind)
    return frames


async def slow(watched: WatchedPage, prompt: str) -> Locator:
    """Ask for an answer that streams for a long time and return it."""
    await watched.choose(rate=15, tokens=500)
    turn = await watched.ask(prompt)
    await wait_for_words(turn)
    return turn


async def test_the_system_prompt_belongs_to_its_conversation(watched: WatchedPage) -> None:
    """The first start carries it and no later one. It is shown again after a reload, is changed and cleared there
    or on another device, and isn't that of another conversation."""
    page = watched.page
    await watched.choose(rate=200, tokens=50)
    await watched.settings(shown=True)
    box = page.get_by_test_id("system")
    line = page.get_by_test_id("system-line")
    await box.fill("Answer in rhymes.")
    await expect(line).to_have_text("System promptAnswer in rhymes.")
    await watched.settings(shown=False)
    await ended(await watched.ask("the first"), "completed")
    await ended(await watched.ask("the second"), "completed")
    first, second = (await sent(page, "turn.start"))[-2:]
    assert first["system"] == "Answer in rhymes."
    assert "system" not in second
    address = page.url

    await new_conversation(page)
    await expect(line).to_be_hidden()
    await expect(box).to_have_value("")
    await ended(await watched.ask("elsewhere"), "completed")
    assert "system" not in (await sent(page, "turn.start"))[-1]

    await page.goto(address)
    await page.reload()
    await page.evaluate(RECORD)
    await expect(line).to_contain_text("Answer in rhymes.")
    await line.click()
    await expect(box).to_be_focused()
    await box.fill("Answer in prose.")
    await box.blur()
    conversation = page.url.partition("#")[2]
    read = """async (conversation) => {
      const { connect } = await import("./static/turnwire.js");
      window.reader ??= connect({ storage: null });
      return (await reader.conversation(conversation).get()).system ?? "";
    }"""
    await page.wait_for_function("() => sent.some((frame) => frame.type === 'conversation.update')")
    assert await page.evaluate(read, conversation) == "Answer in prose."
    await box.fill("")
    await page.wait_for_function("() => sent.filter((frame) => frame.type === 'conversation.update').length === 2")
    assert await page.evaluate(read, conversation) == ""
    await expect(line).to_be_hidden()
    for text in ("From another device.", ""):
        await page.evaluate("([id, system]) => reader.conversation(id).update({ system })", [conversation, text])
        await expect(box).to_have_value(text)
    await expect(line).to_be_hidden()
    await page.keyboard.press("Escape")
    await expect(page.get_by_test_id("drawer")).to_be_hidden()


async def test_escape_closes_what_is_on_top_and_then_stops_the_answer(watched: WatchedPage) -> None:
    """Esc answers "Delete?" with no, also where the list covers the page, closes an edited prompt wherever the focus is,
    closes the list of shortcuts, and then stops the answer. The focus goes back to the button. Another key opens a new
    conversation."""
    page = watched.page
    await new_conversation(page)
    turn = await slow(watched, "keep on talking")
    row = page.get_by_test_id("conversation").filter(has=page.locator("a[aria-current]"))
    await row.get_by_test_id("trash").click()
    await expect(page.get_by_test_id("confirm-delete")).to_be_visible()
    await page.keyboard.press("Escape")
    await expect(page.get_by_test_id("confirm-delete")).to_have_count(0)
    await expect(row.get_by_test_id("trash")).to_be_focused()
    await page.set_viewport_size({"width": 390, "height": 800})
    await page.get_by_role("button", name="Conversations").click()
    await row.get_by_test_id("trash").press("Enter")
    await expect(page.get_by_test_id("confirm-delete")).to_be_visible()
    await page.keyboard.press("Escape")
    await expect(page.get_by_test_id("confirm-delete")).to_have_count(0)
    await expect(page.locator("body")).to_have_attribute("data-sidebar", "open")
    await page.keyboard.press("Escape")
    await expect(page.locator("body")).to_have_attribute("data-sidebar", "closed")
    await page.set_viewport_size({"width": 1280, "height": 800})
    await watched.exchange("keep on talking").hover()
    await watched.exchange("keep on talking").get_by_test_id("edit").click()
    await page.get_by_test_id("prompt-box").focus()
    await page.keyboard.press("Escape")
    await expect(page.get_by_test_id("edit-box")).to_have_count(0)
    await expect(turn).to_have_attribute("data-state", "streaming")
    await page.get_by_test_id("new-conversation").focus()
    await page.keyboard.press("?")
    await expect(page.get_by_test_id("shortcut-sheet")).to_be_visible()
    await page.keyboard.press("Escape")
    await expect(page.get_by_test_id("shortcut-sheet")).to_be_hidden()
    await expect(turn).to_have_attribute("data-state", "streaming")
    await page.keyboard.press("Escape")
    await ended(turn, "cancelled")
    await page.keyboard.press("Control+Shift+O")
    await expect(page.locator("body[data-new=true]")).to_be_attached()
    await expect(page.get_by_test_id("prompt-box")).to_be_focused()


async def test_a_double_click_on_stop_presses_nothing_else(watched: WatchedPage) -> None:
    """A second click where Stop was rates no answer and starts none."""
    page = watched.page
    await new_conversation(page)
    await page.get_by_test_id("demo-five").click()
    turns = page.get_by_test_id("columns").get_by_test_id("turn")
    await expect(turns).to_have_count(5)
    await wait_for_words(turns.nth(1))
    starts = len(await sent(page, "turn.start"))
    box = await turns.nth(1).get_by_test_id("stop").bounding_box()
    assert box is not None
    place = (box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    for number in range(3):
        await page.mouse.click(*place)
        if number == 0:
            await ended(turns.nth(1), "cancelled")
    assert await page.evaluate("([x, y]) => document.elementFromPoint(x, y).closest('button')", place) is None
    # Something else that appears where the pointer pressed is guarded too, but not from the keyboard.
    await page.evaluate("""() => {
      window.pressed = 0;
      const button = Object.assign(document.createElement("button"), { textContent: "First", id: "first-probe" });
      button.style.cssText = "position: fixed; inset: 40% auto auto 40%; z-index: 9";
      button.onclick = () => {
        const next = button.cloneNode();
        next.onclick = () => window.pressed++;
        next.id = "next-probe";
        button.replaceWith(next);
      };
      document.body.append(button);
    }""")
    await page.locator("#first-probe").dblclick()
    assert await page.evaluate("pressed") == 0
    await page.locator("#next-probe").press("Enter")
    assert await page.evaluate("pressed") == 1
    await page.evaluate("document.querySelector('#next-probe').remove()")
    await watched.settings(shown=True)
    tools = page.get_by_role("checkbox", name="Offer demo tools")
    for checked in (True, False):  # a label's click is followed by one on its field
        await page.get_by_text("Offer demo tools").click()
        await expect(tools).to_be_checked(checked=checked)
    await watched.settings(shown=False)
    assert await sent(page, "feedback.put") == []
    assert len(await sent(page, "turn.start")) == starts
    await page.get_by_test_id("stop-all").click()
    await ended(turns.nth(4), "cancelled")


async def test_a_prompt_during_an_answer_follows_it(watched: WatchedPage) -> None:
    """The first prompt during an answer asks what it is to do. By default it waits for the answer, and another one waits
    for it; both are below, also in a second tab and after a reload. "Stop and ask" stops the answer first. If the answer
    ends while the question is open, the prompt is sent. If another conversation is opened then, nothing is sent."""
    page = watched.page
    box = page.get_by_test_id("prompt-box")
    await new_conversation(page)
    await slow(watched, "one that ends")
    await box.fill("just in time")
    await box.press("Enter")
    await expect(page.get_by_test_id("busy-queue")).to_be_focused()
    await page.get_by_test_id("stop-all").evaluate("button => button.click()")
    await expect(watched.turn("just in time")).to_be_visible()
    await expect(page.get_by_test_id("busy-queue")).to_be_hidden()
    await expect(box).to_be_focused()

    await new_conversation(page)
    await slow(watched, "a long one")
    await new_conversation(page)
    await box.fill("not to be sent")
    await page.go_back()
    await expect(watched.turn("a long one")).to_be_visible()
    await box.fill("the next")
    await box.press("Enter")
    await expect(page.get_by_test_id("busy-queue")).to_be_focused()
    await page.keyboard.press("Control+Shift+O")
    await expect(page.get_by_test_id("busy-queue")).to_be_hidden()
    await expect(box).to_have_value("not to be sent")
    await expect(page.get_by_test_id("prompt")).to_have_count(0)
    await box.fill("")
    await page.go_back()
    await expect(box).to_have_value("the next")
    await box.fill("the next")
    await box.press("Enter")
    await expect(page.get_by_test_id("busy-queue")).to_be_focused()
    await page.keyboard.press("Escape")
    await expect(box).to_be_focused()
    await expect(box).to_have_value("the next")
    await box.press("Enter")
    await expect(page.get_by_test_id("busy-queue")).to_be_focused()
    await page.keyboard.press("Enter")
    await expect(watched.turn("the next")).to_have_attribute("data-state", "queued")
    await expect(page.get_by_test_id("busy-chip")).to_contain_text("After it")
    await watched.ask("the one after")
    last = (await sent(page, "turn.start"))[-1]
    assert last["on_busy"] == "queue"
    assert "parent" not in last
    prompts = ["a long one", "the next", "the one after"]
    await expect(page.get_by_test_id("prompt")).to_have_text(prompts)
    await expect(page.get_by_test_id("columns")).to_have_count(0)

    other = await open_page(page.context, page.url)
    await expect(other.page.get_by_test_id("prompt")).to_have_text(prompts)
    await expect(other.turn("the one after")).to_have_attribute("data-state", "queued")
    await other.page.close()
    assert other.errors == []
    await page.reload()
    await expect(page.get_by_test_id("prompt")).to_have_text(prompts)

    await page.get_by_test_id("busy-chip").click()
    await expect(page.get_by_test_id("busy-queue")).to_be_focused()
    await page.keyboard.press("3")
    await expect(page.get_by_test_id("busy-chip")).to_contain_text("Stop and ask")
    await watched.ask("stop it")
    await ended(watched.turn("a long one"), "cancelled")
    await ended(watched.turn("the next"), "cancelled")
    await wait_for_words(watched.turn("stop it"))
    await expect(page.get_by_test_id("prompt")).to_have_text([*prompts, "stop it"])
    await page.keyboard.press("Escape")
    await ended(watched.turn("stop it"), "cancelled")


async def test_a_prompt_without_a_network_waits_and_outlives_a_reload(watched: WatchedPage) -> None:
    """Without a network the header says so at once, also on a phone, and the prompt says that it waits. After a reload it
    is still there, and it is answered once, with the system prompt of its conversation."""
    page = watched.page
    await new_conversation(page)
    await watched.choose(rate=200, tokens=50)
    await watched.settings(shown=True)
    await page.get_by_test_id("system").fill("Be patient.")
    await watched.settings(shown=False)
    await page.set_viewport_size({"width": 390, "height": 800})
    state = page.get_by_test_id("header-state")
    await expect(state).to_be_hidden()
    await page.evaluate(CUT)
    await expect(state).to_be_in_viewport(timeout=1500)
    await expect(state).to_have_text("Offline")
    turn = await watched.ask("sent without a network")
    await expect(turn.get_by_test_id("status")).to_have_text("Waiting for the connection")
    await page.reload()
    await ended(watched.turn("sent without a network"), "completed")
    await expect(state).to_be_hidden()
    await expect(page.get_by_test_id("prompt")).to_have_text(["sent without a network"])
    await page.reload()
    await expect(page.get_by_test_id("system-line")).to_contain_text("Be patient.")
    assert await page.evaluate("Object.keys(sessionStorage).filter((key) => key.startsWith('turnwire.outbox'))") == []
    await page.set_viewport_size({"width": 1280, "height": 800})


async def test_files_are_added_to_a_prompt(watched: WatchedPage) -> None:
    """A text file is sent as text, and can be larger than a frame. A file that the model can't take, a folder and files
    beyond the limits are refused with what to do. Files can be dropped anywhere on the page."""
    page = watched.page
    await new_conversation(page)
    await watched.choose(rate=200, tokens=50)
    await expect(page.get_by_test_id("model")).to_contain_text("Demo")
    note = page.locator(".composer-note")
    chips = page.locator(".attachments").get_by_test_id("file-chip")
    await page.evaluate(DROP, [["dragenter", []], ["dragover", []]])
    await expect(page.get_by_test_id("drop-overlay")).to_be_visible()
    await page.evaluate(
        DROP,
        [
            [
                "drop",
                [
                    ["sum.py", "print(1)\n" * 9_000, ""],
                    ["a.bin", "\0\1", ""],
                    ["data.pdf", "%PDF\0", "application/pdf"],
                ],
            ]
        ],
    )
    await expect(page.get_by_test_id("drop-overlay")).to_have_count(0)
    await expect(chips).to_have_text(["sum.py81.0 KB"])
    await expect(note).to_contain_text("a.bin: this model takes only text files.")
    await page.evaluate(DROP, [["drop", [["huge.log", "x" * 300_000, ""]]]])
    await expect(note).to_contain_text("huge.log: it is too long")
    await page.evaluate(DROP, [["drop", [[f"{number}.txt", "few words", ""] for number in range(200)]]])
    await expect(note).to_have_text("A prompt can have 10 files. The others were not added.")
    await expect(chips).to_have_count(10)
    for _ in range(9):
        await page.locator(".attachments").get_by_role("button").last.click()
    await ended(await watched.ask("What does it do?"), "completed")
    await page.reload()
    file = watched.exchange("What does it do?").get_by_test_id("file-chip")
    await expect(file).to_have_text(re.compile(r"^sum\.py"))
    await expect(file.locator("pre")).to_have_text("print(1)\n" * 9_000, use_inner_text=False)
    await expect(page.get_by_test_id("title")).to_have_text("What does it do?")
    await page.evaluate(DROP, [["drop", [["alone.log", "a line\n" * 12_000, ""]]]])
    await expect(chips).to_have_count(1)
    await page.get_by_test_id("send").click()
    await expect(page.get_by_test_id("turn")).to_have_count(2)
    await ended(page.get_by_test_id("turn").last, "completed")
    facts = await page.evaluate(FACTS)
    assert facts["file"] == {"kind": "file", "media_type": "application/pdf", "data": "JVBERgA=", "name": "data.pdf"}
    assert "can't be read" in facts["folder"]
    assert "14.0 MB" in facts["large"]
    assert "such as Big" in facts["refused"]


async def test_tokens_and_costs_are_shown(watched: WatchedPage) -> None:
    """The header has the tokens of the conversation. Below the prompt box is what the answer would take: one request when
    the typing pauses, and none without text."""
    page = watched.page
    await new_conversation(page)
    await watched.choose(rate=200, tokens=50)
    await expect(page.get_by_test_id("usage")).to_be_hidden()
    await page.evaluate(RECORD)
    await page.get_by_test_id("prompt-box").press_sequentially("How much is it?", delay=1)
    await expect(page.get_by_test_id("estimate")).to_have_text(re.compile(r"^≈ \d+ tokens$"))
    assert len(await sent(page, "turn.estimate")) == 1
    await page.get_by_test_id("prompt-box").press("Enter")
    await expect(page.get_by_test_id("estimate")).to_be_hidden()
    await ended(watched.turn("How much is it?"), "completed")
    await expect(page.get_by_test_id("usage")).to_have_text(re.compile(r"^[\d,]+ tokens$"))
    priced = """async () => {
      const { estimateText } = await import("./static/chat/cost_line.js");
      const usd = (amount) => ({ amount, currency: "USD" });
      return [
        estimateText({ input_tokens: 1240, cost: usd("0.0018600"), cost_max: usd("0.0318600"), trimmed: 0 }),
        estimateText({ input_tokens: 1, cost: usd("0.00000012"), cost_max: null, trimmed: 1 }),
      ];
    }"""
    assert await page.evaluate(priced) == [
        "≈ 1,240 tokens, $0.0019\u20130.032",
        "≈ 1 token, $0.00000012, 1 message left out",
    ]
