"""Answers as rendered by the page: markdown that grows, and hostile text."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from playwright.async_api import Browser, expect

from tests.gateway_process import GatewayProcess
from tests.page_stage import SharedPage, WatchedPage, browser_context, ended, open_page

pytestmark = [pytest.mark.e2e, pytest.mark.browser, pytest.mark.asyncio(loop_scope="session")]

WORDS = Path(__file__).parents[1] / "page_words"
# Each line would do harm if the page trusted markup, links or images of an answer.
HOSTILE = (WORDS / "hostile.txt").read_text("utf-8")

ALLOWED = {
    *("a", "blockquote", "br", "button", "code", "del", "div", "em", "h3", "h4", "h5", "h6", "hr", "li", "ol", "p"),
    *("path", "pre", "span", "strong", "svg", "table", "tbody", "td", "th", "thead", "tr", "ul"),
}


@pytest_asyncio.fixture(loop_scope="session")
async def watched(shared_page: SharedPage) -> AsyncIterator[WatchedPage]:
    """The page, open and live. The test fails if the page logged an error or its policy blocked something."""
    async with shared_page.clean() as watched:
        yield watched


@pytest.mark.parametrize("rate", [0, 400])
async def test_a_hostile_answer_stays_text(watched: WatchedPage, rate: int) -> None:
    """At once or word by word, an answer produces no script, handler, style, iframe or image, only https: and mailto:
    links, and no request to another host."""
    requests: list[str] = []
    watched.page.on("request", lambda request: requests.append(request.url))
    turn = await watched.say(HOSTILE, rate=rate)
    await ended(turn, "completed")
    await asyncio.sleep(0.3)  # time in which injected content would have loaded or run
    seen = await watched.page.evaluate("probes.answered()")
    assert seen["harmed"] is None
    assert set(seen["elements"]) <= ALLOWED
    assert seen["handlers"] == 0
    for link in seen["links"]:
        href, rest = link.split(" ", 1)
        assert href.startswith(("https://", "mailto:")), link
        assert rest == "noopener noreferrer nofollow _blank"
    hosts = {url.split("/")[2] for url in requests if url.startswith("http")}
    assert all(host.startswith("127.0.0.1") for host in hosts), hosts
    text = await turn.get_by_test_id("answer").inner_text()
    assert "<script>window.harmed = 1</script>" in text
    assert "https://good.example/auto" in text


async def test_a_hostile_stored_message_stays_text(watched: WatchedPage) -> None:
    """Messages and titles from the history aren't trusted more than streamed text."""
    await ended(await watched.say(HOSTILE), "completed")
    await watched.page.evaluate(
        "other.conversation(location.hash.slice(1)).update({ title: '<img src=x onerror=window.harmed=1>' })"
    )
    await watched.page.reload()
    await ended(watched.page.get_by_test_id("turn"), "completed")
    await expect(watched.page.get_by_test_id("title")).to_have_text("<img src=x onerror=window.harmed=1>")
    seen = await watched.page.evaluate("probes.answered()")
    assert seen["harmed"] is None
    assert set(seen["elements"]) <= ALLOWED


async def test_the_content_security_policy_blocks_injected_code(browser: Browser, page_gateway: GatewayProcess) -> None:
    """If markup were ever injected, the policy would block its scripts and styles, and refuse strings as HTML."""
    async with browser_context(browser) as context:
        watched = await open_page(context, f"{page_gateway.url}/")
        tried = await watched.page.evaluate(
            """async () => {
              await new Promise((resolve) => setTimeout(resolve)); // evaluate() may use eval, later tasks may not
              const thrown = [];
              const attempt = (name, act) => { try { act(); } catch (error) { thrown.push(`${name} ${error.name}`); } };
              attempt("innerHTML", () => (document.body.lastElementChild.innerHTML = "<img src=x onerror='window.harmed=1'>"));
              attempt("eval", () => new Function("window.harmed = 1")());
              attempt("policy", () => trustedTypes.createPolicy("mine", { createHTML: (text) => text }));
              const script = document.createElement("script");
              attempt("script", () => (script.text = "window.harmed = 1"));
              document.body.append(script);
              const button = document.createElement("button");
              button.setAttribute("style", "position: fixed");
              attempt("handler", () => button.setAttribute("onclick", "window.harmed = 1"));
              document.body.append(button);
              button.click();
              await new Promise((resolve) => setTimeout(resolve, 100));
              return { thrown, harmed: window.harmed ?? null, position: getComputedStyle(button).position };
            }"""
        )
    assert tried["harmed"] is None
    assert tried["position"] == "static"
    assert {"innerHTML TypeError", "eval EvalError", "policy TypeError", "script TypeError"} <= set(tried["thrown"])
    assert any("blocked by the policy" in error for error in watched.errors)


DEEP = """async () => {
  const { MarkdownView } = await probes.load("markdown/markdown_view.js");
  const words = { quotes: ">".repeat(20_000), brackets: "[".repeat(20_000),
    stars: "*a ".repeat(5_000), fence: "~~~\\n".repeat(5_000) };
  const shown = {};
  for (const [name, deep] of Object.entries(words)) {
    const root = document.createElement("div");
    const view = new MarkdownView(root);
    const text = `Before\\n\\n${deep} ground`;
    for (const end of [40, text.length / 2, text.length]) while (!view.update(text.slice(0, end), end < text.length));
    shown[name] = root.textContent.includes("Before") && root.textContent.includes("ground");
  }
  return shown;
}"""


async def test_extremely_nested_markdown_is_shown(watched: WatchedPage) -> None:
    """Text whose nesting would exhaust a parser's stack is shown."""
    assert set((await watched.page.evaluate(DEEP)).values()) == {True}


GROWING = (WORDS / "growing.txt").read_text("utf-8")


async def test_incremental_markdown_equals_a_full_render(watched: WatchedPage) -> None:
    """Markdown that is drawn in pieces of one size or several looks after each piece like a full render, and finished
    blocks aren't drawn again."""
    for steps in ([1], [2, 5, 1], [7, 3], [40]):
        seen = await watched.page.evaluate("(given) => probes.grow(given)", [GROWING, steps])
        assert seen["astray"] == [], steps
        assert seen["grown"] == seen["whole"], steps
        assert seen["same"], steps
        assert seen["kept"], steps
        assert seen["blocks"] > 12, steps
        # A reference may be in a list or a quote, far below the words that it turns into a link.
        assert all(seen["grown"].count(f'"https://{name}.example/') > 0 for name in ("kept", "quoted", "deep")), steps


async def test_a_table_follows_the_direction_of_its_text(watched: WatchedPage) -> None:
    """In Arabic the first column is on the right, and a cell with only a number is right-aligned."""
    await watched.say("| اسم | قيمة |\n|---|---|\n| واحد | 1 |\n\n| name | value |\n|---|---|\n| one | 1 |", rate=0)
    tables = watched.page.locator(".prose table")
    await expect(tables).to_have_count(2)
    nearer = """(table) => [...table.rows[1].cells].map((cell) => {
      const words = document.createRange();
      words.selectNodeContents(cell);
      const [text, room] = [words.getBoundingClientRect(), cell.getBoundingClientRect()];
      return text.left - room.left < room.right - text.right ? "left" : "right";
    })"""
    first = "(table) => table.rows[1].cells[0].offsetLeft > table.rows[1].cells[1].offsetLeft"
    assert await tables.nth(0).evaluate(nearer) == ["right", "right"]
    assert await tables.nth(0).evaluate(first)
    assert await tables.nth(1).evaluate(nearer) == ["left", "left"]
    assert not await tables.nth(1).evaluate(first)


async def test_a_very_long_paragraph_ends_as_one_block(watched: WatchedPage) -> None:
    """A very long paragraph is drawn in pieces while it grows, and parsed as a whole at its end, so bold text across
    two pieces is bold."""
    lines = "\n".join(f"line {number} has **words that go on\nover its end** and so on" for number in range(150))
    words = " ".join(f"word {number} is *here*" for number in range(500))
    for text, strong in ((lines, 150), (words, 0)):
        seen = await watched.page.evaluate("(given) => probes.grow(given)", [f"{text}\n\nAfter it.", [700, 330]])
        assert seen["blocks"] == 2
        assert seen["same"]
        assert seen["grown"].count("<strong>") == strong
        assert "**" not in seen["grown"]


async def test_plain_words_create_no_nodes(watched: WatchedPage) -> None:
    """A paragraph that grows by words is one text node from its first word to its last; no node is created per
    token."""
    made = await watched.page.evaluate("probes.growByWords()")
    assert made == {"made": 0, "nodes": 1, "same": True}
