"""Conversations on the page: branches, regenerating, tools, other tabs and devices, the list, drafts, images, settings,
ratings, the keyboard."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator

import httpx2
import pytest
import pytest_asyncio
from playwright.async_api import expect

from tests.gateway_process import GatewayProcess
from tests.page_stage import SharedPage, WatchedPage, ended, wait_for_words

pytestmark = [pytest.mark.e2e, pytest.mark.browser, pytest.mark.asyncio(loop_scope="session")]

# Closes the page's socket. The page can't reconnect until another device has started three turns, of which only the
# last still runs, and has renamed the conversation.
MISSED = """async () => {
  const Open = window.WebSocket;
  window.WebSocket = class { constructor() { throw new Error("no network"); } };
  sockets[0].close();
  while (document.body.dataset.connection === "live") await new Promise((resolve) => setTimeout(resolve, 5));
  const conversation = location.hash.slice(1);
  for (const number of [1, 2])
    await other.start({ conversation, model: "demo", input: "Say it", params: { demo: { rate: 0, text: `Missed ${number}.` } } });
  await other.request("conversation.update", { conversation, title: "Renamed meanwhile" });
  const demo = { rate: 1, text: "Still on it." };
  await other.start({ conversation, model: "demo", input: "Say it", params: { demo } }).accepted;
  window.WebSocket = Open;
}"""


async def prepare_page(watched: WatchedPage) -> None:
    """Make the demo model fast."""
    await watched.choose(rate=200, tokens=50)


@pytest_asyncio.fixture(loop_scope="session")
async def watched(shared_page: SharedPage) -> AsyncIterator[WatchedPage]:
    """The page, open and live, with a fast demo model. The test fails if the page logged an error."""
    async with shared_page.clean() as watched:
        yield watched


async def test_an_edited_prompt_starts_a_branch(watched: WatchedPage) -> None:
    """An edited prompt gets its own answer. The arrows show the earlier version and all that followed it, even after a
    reload."""
    page = watched.page
    await ended(await watched.ask("the first question"), "completed")
    await ended(await watched.ask("a question after it"), "completed")
    await watched.exchange("the first question").hover()
    await watched.exchange("the first question").get_by_test_id("edit").click()
    await page.get_by_test_id("edit-box").fill("another first question")
    await page.get_by_test_id("edit-box").press("Enter")
    await ended(watched.turn("another first question"), "completed")
    await expect(watched.exchange("the first question")).to_have_count(0)
    await expect(watched.exchange("a question after it")).to_have_count(0)

    versions = watched.exchange("another first question").get_by_test_id("prompt-versions")
    await expect(versions).to_have_text("2/2")
    await versions.get_by_role("button", name="Previous prompt").click()
    await expect(watched.exchange("a question after it")).to_be_visible()
    await page.reload()
    await expect(watched.exchange("a question after it")).to_be_visible()
    await expect(watched.exchange("the first question").get_by_test_id("prompt-versions")).to_have_text("1/2")


async def test_a_regenerated_answer_is_another_version(watched: WatchedPage) -> None:
    """Both answers to the prompt are kept as versions, and can be shown side by side."""
    await ended(await watched.ask("say it twice"), "completed")
    await watched.turn("say it twice").get_by_test_id("regenerate").click()
    await expect(watched.turn("say it twice").get_by_test_id("version")).to_have_text("2/2")
    await ended(watched.turn("say it twice"), "completed")
    await watched.turn("say it twice").get_by_test_id("side-by-side").click()
    await expect(watched.page.get_by_test_id("columns").get_by_test_id("turn")).to_have_count(2)
    await watched.page.reload()
    await expect(watched.page.get_by_test_id("columns").get_by_test_id("turn")).to_have_count(2)
    await watched.page.get_by_role("button", name="Continuing from here").click()
    await expect(watched.page.get_by_test_id("columns")).to_have_count(0)


async def test_the_page_answers_a_tool_call(watched: WatchedPage) -> None:
    """The page shows the call, its result and the model's answer in this order, even after a reload."""
    await watched.page.get_by_test_id("demo-tool").click()
    turns = watched.page.get_by_test_id("turn")
    await watched.page.get_by_test_id("approve").click()
    await expect(turns).to_have_count(2)
    await ended(turns.nth(1), "completed")
    await expect(turns.nth(0).get_by_test_id("tool-call")).to_contain_text("roll_dice")
    result = turns.nth(0).get_by_test_id("tool-result")
    await expect(result).to_have_text(re.compile(r"^\d+, \d+, \d+$"))
    rolled = await result.inner_text()
    await expect(turns.nth(1).get_by_test_id("answer")).to_contain_text(rolled.strip())
    await watched.page.reload()
    await expect(turns).to_have_count(2)
    await expect(result).to_have_text(rolled.strip())


async def test_law_5_a_turn_of_another_tab_is_shown_and_can_be_stopped(watched: WatchedPage) -> None:
    """Law 5: a live turn of one tab is shown in another tab of the conversation, and can be stopped there."""
    await ended(await watched.ask("hello from the first tab"), "completed")
    other = WatchedPage(await watched.page.context.new_page())
    await other.page.goto(watched.page.url)
    await other.until_live()
    await other.choose(rate=20, tokens=500)
    there = await other.ask("hello from the second tab")
    here = watched.turn("hello from the second tab")
    await wait_for_words(here)
    await here.get_by_test_id("stop").click()
    await ended(here, "cancelled")
    await ended(there, "cancelled")
    assert await here.get_by_test_id("answer").inner_text() == await there.get_by_test_id("answer").inner_text()
    assert other.errors == []


async def test_conversations_are_found_renamed_and_deleted(watched: WatchedPage) -> None:
    """The list of conversations searches by title, renames in place, and asks before it deletes."""
    page = watched.page
    for prompt in ("about rivers", "about bread"):
        await ended(await watched.ask(prompt), "completed")
        await page.get_by_test_id("new-conversation").click()
    items = page.get_by_test_id("conversation")
    await expect(items).to_have_text(["about bread", "about rivers"])

    await items.nth(1).hover()
    await items.nth(1).get_by_role("button", name="Rename").click()
    await page.get_by_role("textbox", name="Title").fill("about lakes")
    await page.get_by_role("textbox", name="Title").press("Enter")
    await expect(items.filter(has_text="about lakes")).to_have_count(1)

    await page.keyboard.press("Control+k")
    await expect(page.get_by_test_id("search")).to_be_focused()
    await page.get_by_test_id("search").fill("LAKE")
    await expect(items).to_have_text(["about lakes"])
    await items.first.get_by_role("link").click()
    await expect(watched.exchange("about rivers")).to_be_visible()

    await items.first.hover()
    await items.first.get_by_role("button", name="Delete").click()
    await page.get_by_test_id("confirm-delete").press("Enter")  # a second click within 600 ms is ignored
    await expect(items).to_have_count(0)
    await expect(page.get_by_test_id("empty")).to_be_visible()


# Returns whether the word is in the visible box of the element, whose text may be cut off after some lines.
SEES_WORD = """(element, word) => {
  const text = element.firstChild;
  const range = document.createRange();
  const start = text.data.indexOf(word);
  range.setStart(text, start);
  range.setEnd(text, start + word.length);
  const [seen, box] = [range.getBoundingClientRect(), element.getBoundingClientRect()];
  return seen.width > 0 && seen.top >= box.top && seen.bottom <= box.bottom && seen.left >= box.left && seen.right <= box.right;
}"""


async def test_a_search_shows_the_text_around_the_match(watched: WatchedPage) -> None:
    """A word of an answer finds its conversation. The row shows the text around the word as plain text, with the word in the
    visible part of the row. The text is gone with the query."""
    page = watched.page
    answer = "chaff " * 80 + "The hidden <b>needle</b> is in the answer. " + "straw " * 80
    turn = await watched.say(answer, rate=0)
    await ended(turn, "completed")
    await page.get_by_test_id("new-conversation").click()
    await ended(await watched.say("Something else.", rate=0), "completed")
    items, snippet = page.get_by_test_id("conversation"), page.get_by_test_id("snippet").filter(visible=True)
    await expect(items).to_have_count(2)
    await expect(snippet).to_have_count(0)
    await page.get_by_test_id("search").fill("NEEDLE hid")
    await expect(items).to_have_count(1)
    await expect(snippet).to_have_text(re.compile("^….*The hidden <b>needle</b> is in the answer.*…$"))
    assert await snippet.locator("b").count() == 0
    assert await snippet.evaluate(SEES_WORD, "needle")
    await items.get_by_role("link").click()
    await expect(page.get_by_test_id("answer").get_by_text("The hidden")).to_be_visible()
    await page.get_by_test_id("search").press("Escape")
    await expect(items).to_have_count(2)
    await expect(snippet).to_have_count(0)


async def test_a_failed_rename_shows_why(watched: WatchedPage) -> None:
    """A conversation that another device has deleted can't be renamed: the list shows the error and removes the
    conversation."""
    page = watched.page
    await ended(await watched.say("Something.", rate=0), "completed")
    item = page.get_by_test_id("conversation")
    await item.get_by_role("button", name="Rename").press("Enter")
    await page.get_by_role("textbox", name="Title").fill("too late")
    await page.evaluate(
        "other.conversation(location.hash.slice(1)).delete().then(() => document.querySelector('.rename')?.blur())"
    )
    await expect(page.get_by_test_id("conversations-error")).to_contain_text("Couldn't rename: ")
    await expect(item).to_have_count(0)
    await expect(page.get_by_test_id("unavailable")).to_be_in_viewport()


async def test_a_draft_is_kept_per_conversation(watched: WatchedPage) -> None:
    """Each conversation keeps its own draft, also one that isn't created yet. A draft outlives a reload, and is deleted
    after the prompt is sent."""
    page = watched.page
    box = page.get_by_test_id("prompt-box")
    await box.fill("for a new one")
    await page.reload()
    await expect(box).to_have_value("for a new one")
    await expect(page.get_by_test_id("send")).to_be_enabled()
    await box.press("Enter")
    await ended(watched.turn("for a new one"), "completed")
    await box.fill("for this one")
    await page.get_by_test_id("new-conversation").first.click()
    await expect(box).to_have_value("")
    await page.go_back()
    await expect(box).to_have_value("for this one")
    await page.reload()
    await expect(box).to_have_value("for this one")
    await box.press("Enter")
    await ended(watched.turn("for this one"), "completed")
    await page.reload()
    await expect(watched.turn("for this one")).to_be_visible()
    await expect(box).to_have_value("")


async def test_turns_missed_while_offline_are_loaded_after_a_reconnect(watched: WatchedPage) -> None:
    """Turns of another device during the disconnect are shown in their order, and later turns follow them."""
    page = watched.page
    await ended(await watched.say("First.", rate=0), "completed")
    await page.evaluate(MISSED)
    await watched.until_live()
    answers = page.get_by_test_id("answer")
    texts = ["First.", "Missed 1.", "Missed 2.", "Still on it."]
    await expect(answers).to_have_text(texts)
    await expect(page.get_by_test_id("title")).to_have_text("Renamed meanwhile")
    await ended(page.get_by_test_id("turn").last, "completed")
    await watched.say("And after.", rate=0)
    await expect(answers).to_have_text([*texts, "And after."])


async def test_enter_sends_and_shift_enter_inserts_a_line(watched: WatchedPage) -> None:
    """A prompt of two lines is sent as one prompt."""
    box = watched.page.get_by_test_id("prompt-box")
    await expect(watched.page.get_by_test_id("send")).to_be_disabled()
    await box.press_sequentially("one")
    await box.press("Shift+Enter")
    await box.press_sequentially("two")
    await box.press("Enter")
    await expect(watched.page.get_by_test_id("prompt")).to_have_text("one\ntwo")
    await expect(box).to_have_value("")
    await ended(watched.page.get_by_test_id("turn"), "completed")


async def test_the_keys_of_an_input_method_dont_send_the_prompt(watched: WatchedPage) -> None:
    """The Enter key that ends a composition doesn't send the prompt, whether its event has Chromium's form or Safari's.
    A key event without a key is ignored."""
    box = watched.page.get_by_test_id("prompt-box")
    await box.fill("\u306b\u307b\u3093")
    await box.dispatch_event("keydown", {"key": "Enter", "isComposing": True})
    await box.dispatch_event("keydown", {"key": "Enter", "keyCode": 229})
    await watched.page.evaluate(
        "document.querySelector('#prompt').dispatchEvent(new Event('keydown', { bubbles: true }))"
    )
    await expect(box).to_have_value("\u306b\u307b\u3093")
    await box.press("Enter")
    await ended(watched.page.get_by_test_id("turn"), "completed")


async def test_a_rename_or_delete_by_another_device_updates_the_list(watched: WatchedPage) -> None:
    """The list shows the changes that another device makes to the shown conversation."""
    page = watched.page
    await ended(await watched.say("Something.", rate=0), "completed")
    item = page.get_by_test_id("conversation")
    await page.evaluate("other.conversation(location.hash.slice(1)).update({ title: 'Named elsewhere' })")
    await expect(item.get_by_role("link")).to_have_text("Named elsewhere")
    await page.evaluate("other.conversation(location.hash.slice(1)).delete()")
    await expect(item).to_have_count(0)


async def test_a_pasted_image_is_made_smaller_and_stored(watched: WatchedPage) -> None:
    """An image of a megabyte is made small enough for a frame, and is loaded from the gateway after a reload."""
    await expect(watched.page.get_by_role("button", name="Add files")).to_be_visible()
    assert await watched.page.evaluate("probes.pasteNoise()") > 1_000_000
    await expect(watched.page.locator(".thumbnail img")).to_be_visible()
    await ended(await watched.ask("what is in it?"), "completed")
    picture = watched.exchange("what is in it?").get_by_role("img", name="noise.png")
    await expect(picture).to_be_visible()
    wide = "(image) => image.decode().then(() => image.naturalWidth > 100)"
    assert await picture.evaluate(wide)
    await watched.page.reload()
    await expect(picture).to_be_visible()
    assert await picture.evaluate(wide)


async def test_a_prompt_sent_right_after_a_paste_has_its_image(watched: WatchedPage) -> None:
    """Enter directly after a paste waits for the image. If there are too many images, a message says that the others
    weren't added."""
    page = watched.page
    await page.get_by_test_id("prompt-box").fill("and in this?")
    await page.evaluate("probes.pasteNoise().then(() => document.querySelector('.composer').requestSubmit())")
    await expect(watched.exchange("and in this?").get_by_role("img", name="noise.png")).to_be_visible()
    await expect(page.get_by_test_id("prompt-box")).to_have_value("")
    await page.evaluate("probes.pasteNoise(5)")
    await expect(page.locator(".composer-note")).to_have_text("A prompt can have 4 images. The others were not added.")
    await expect(page.locator(".thumbnail")).to_have_count(4)


async def test_an_image_stays_with_its_conversation(watched: WatchedPage) -> None:
    """An image that is still being made smaller when another conversation is opened isn't added to that one."""
    page = watched.page
    await ended(await watched.say("Something.", rate=0), "completed")
    await expect(page.get_by_role("button", name="Add files")).to_be_visible()
    await page.evaluate("probes.pasteNoise().then(() => document.querySelector('.sidebar .new-conversation').click())")
    await expect(page.locator("body[data-new=true]")).to_be_attached()
    await page.get_by_test_id("conversation").get_by_role("link").click()
    await expect(page.locator(".thumbnail")).to_have_count(1)
    await page.get_by_test_id("new-conversation").click()
    await expect(page.locator(".thumbnail")).to_have_count(0)


async def test_the_settings_apply_to_the_turn(watched: WatchedPage) -> None:
    """The turn is started with the parameters of the settings, which outlive a reload."""
    await watched.settings(shown=True)
    form = watched.page.get_by_test_id("settings")
    await form.get_by_role("spinbutton", name="Max tokens").fill("7")
    await watched.settings(shown=False)
    turn = await watched.ask("be brief")
    await ended(turn, "completed")
    await expect(turn.get_by_test_id("tokens")).to_have_text("7 tokens")
    await expect(turn.get_by_test_id("ending")).to_have_text("reached the length limit")
    await watched.page.reload()
    await watched.settings(shown=True)
    await expect(form.get_by_role("spinbutton", name="Max tokens")).to_have_value("7")


async def test_a_rating_is_stored(watched: WatchedPage, page_gateway: GatewayProcess) -> None:
    """The gateway keeps a rating: it is shown as pressed after a reload, even in a browser that doesn't know it."""
    turn = await watched.ask("rate me")
    await ended(turn, "completed")
    await turn.get_by_test_id("up").click()
    await expect(turn.get_by_test_id("up")).to_have_attribute("aria-pressed", "true")
    await turn.get_by_test_id("down").click()
    await expect(turn.get_by_test_id("up")).to_have_attribute("aria-pressed", "false")
    await expect(turn.get_by_test_id("down")).to_have_attribute("aria-pressed", "true")
    async with httpx2.AsyncClient(base_url=page_gateway.url) as http, asyncio.timeout(20):
        while "down" not in (await http.get("/v1/admin/feedback")).text:
            await asyncio.sleep(0.05)
    await watched.page.evaluate("localStorage.clear()")
    await watched.page.reload()
    await expect(watched.turn("rate me").get_by_test_id("down")).to_have_attribute("aria-pressed", "true")


async def test_an_answer_unknown_to_the_gateway_cant_be_rated(watched: WatchedPage) -> None:
    """A prompt that is too long for a frame goes over HTTP. If that fails too, the answer can be regenerated, but not
    rated."""
    page = watched.page
    await page.route("**/v1/turns", lambda route: route.abort())
    box = page.get_by_test_id("prompt-box")
    await box.fill("long " * 20_000)
    await box.press("Enter")
    turn = page.get_by_test_id("turn")
    await ended(turn, "failed")
    await page.unroute("**/v1/turns")
    await turn.hover()
    await expect(turn.get_by_test_id("regenerate")).to_be_visible()
    await expect(turn.get_by_test_id("up")).to_be_hidden()
    await expect(turn.get_by_test_id("down")).to_be_hidden()
    assert all("net::ERR_FAILED" in error for error in watched.errors)
    watched.errors.clear()


async def test_a_screen_reader_announces_only_starts_and_ends(watched: WatchedPage) -> None:
    """The live region announces the start and the end of an answer, and never its text."""
    turn = await watched.ask("tell me more")
    await ended(turn, "completed")
    region = watched.page.get_by_test_id("announcements")
    await expect(region).to_contain_text("Answer finished")
    words = await region.inner_text()
    assert "Answer started" in words
    assert len(words) < 120


async def test_an_action_by_key_keeps_the_focus_on_a_control(watched: WatchedPage) -> None:
    """If an action removes the focused control, its replacement gets the focus. A title that is being edited keeps it
    when the list is updated."""
    page = watched.page
    await ended(await watched.ask("with the keyboard"), "completed")
    exchange = watched.exchange("with the keyboard")
    await exchange.get_by_test_id("edit").press("Enter")
    await expect(page.get_by_test_id("edit-box")).to_be_focused()
    await page.keyboard.press("Escape")
    await expect(exchange.get_by_test_id("edit")).to_be_focused()
    await watched.choose(rate=20, tokens=400)
    await exchange.get_by_test_id("regenerate").press("Enter")
    await expect(exchange.get_by_test_id("stop")).to_be_visible()
    await exchange.get_by_test_id("stop").press("Enter")
    await ended(watched.turn("with the keyboard"), "cancelled")
    await expect(exchange.locator(".turn button:focus")).to_have_count(1)
    await exchange.get_by_role("button", name="Previous answer").press("Enter")
    await expect(watched.turn("with the keyboard").get_by_test_id("version")).to_have_text("1/2")
    await expect(exchange.locator("button:focus")).to_have_count(1)

    item = page.get_by_test_id("conversation").first
    await item.get_by_role("button", name="Rename").press("Enter")
    title = page.get_by_role("textbox", name="Title")
    await title.press_sequentially("half a ti")
    await ended(await watched.say("Something else, elsewhere.", rate=0), "completed")
    await page.evaluate("() => new Promise((resolve) => setTimeout(resolve, 400))")  # in this time the list is reloaded
    await expect(title).to_be_focused()
    await title.press_sequentially("tle")
    await title.press("Enter")
    await expect(item.get_by_role("link")).to_have_text("half a title")
    await expect(page.locator(":is(a, button, textarea):focus")).to_have_count(1)
