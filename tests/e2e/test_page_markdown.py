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
GROWING_FORMULAS = (WORDS / "growing_formulas.txt").read_text("utf-8")


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


async def test_incremental_formulas_equal_a_full_render(watched: WatchedPage) -> None:
    """A text with formulas, footnotes and diagrams looks the same, whether it is rendered at once or as it grows. A
    formula is rendered when it is finished, and prices are text."""
    for steps in ([1], [7, 3]):
        seen = await watched.page.evaluate("(given) => probes.grow(given)", [GROWING_FORMULAS, steps])
        assert seen["astray"] == [], steps
        assert seen["grown"] == seen["whole"], steps
        assert seen["same"], steps
        assert seen["grown"].count("<math ") == 9, steps
        assert seen["grown"].count("note-link") == 2, steps
        for text in ("$5 or $10-$12", "$3, unclosed \\(y and \\[z.", "[^none]", "$$ not closed"):
            assert text in seen["grown"], (steps, text)


RICH = r"""Mass \(E = mc^2\) costs $5 and $10[^1]; \boxed is $\boxed{1}$, invalid is $\frobnicate{x}$.

```mermaid
%%{init: {"securityLevel": "loose", "htmlLabels": true, "themeCSS": "* { background: url(https://evil.example/a) }"}}%%
flowchart LR
  A["<img src=x onerror=parent.harmed=1><b>x</b>"] -->|frame| B
  click A "https://evil.example/" _top
  click B call harm()
```

```rust
fn main() { let x: u32 = 5; }
```

[^1]: A note."""

ENDLESS = """globalThis.mermaid = {
  mermaidAPI: { defaultConfig: {} }, initialize() {}, render: () => new Promise(() => {}),
};"""


async def test_formulas_diagrams_and_code_of_an_answer(watched: WatchedPage) -> None:
    """Formulas are rendered for readers and screen readers. A diagram is drawn in a frame that can do nothing to the page,
    whatever its source says, and is ended if it takes too long. Code is highlighted in a worker."""
    page = watched.page
    requests: list[str] = []
    page.on("request", lambda request: requests.append(request.url))
    turn = await watched.say(RICH, rate=400)
    await ended(turn, "completed")
    await expect(turn.locator("math")).to_have_count(2)
    await expect(turn.locator("code[data-math]")).to_have_text(r"$\frobnicate{x}$")
    await expect(turn.get_by_test_id("answer")).to_contain_text("costs $5 and $10")
    await turn.get_by_role("button", name="Footnote 1").click()
    await expect(turn.locator("[data-footnote]")).to_be_focused()
    frame = turn.locator("iframe")
    await expect(frame).to_have_attribute("data-shown", "")
    assert await frame.get_attribute("sandbox") == "allow-scripts"
    inside = frame.content_frame
    await expect(inside.locator("svg")).to_be_visible()
    assert await inside.locator("body").evaluate(
        """(body) => [self.origin, body.querySelectorAll("foreignObject, img, a[href], a[*|href], [onclick]").length]"""
    ) == ["null", 0]
    # Mermaid parses the label to clean it. The frame's policy blocks what the markup would run or load meanwhile.
    assert all("policy" in error.lower() for error in watched.errors)
    watched.errors.clear()
    await turn.get_by_role("button", name="Code", exact=True).click()
    await expect(turn.locator("pre").first).to_be_visible()
    assert await frame.evaluate("(frame) => frame.offsetHeight") == 0
    await page.set_viewport_size({"width": 700, "height": 800})
    await page.wait_for_timeout(300)  # the diagram has told its new height
    await page.set_viewport_size({"width": 1280, "height": 800})
    await expect(turn.locator("pre").first).to_be_visible()
    await expect(turn.locator("[class^=hljs]").first).to_be_attached()
    assert await page.evaluate("window.harmed ?? null") is None
    assert any("/highlight_worker.js" in worker.url for worker in page.workers)
    assert all(url.split("/")[2].startswith("127.0.0.1") for url in requests if url.startswith("http"))

    await turn.get_by_role("button", name="Wrap").last.click()
    assert await turn.locator("pre").last.evaluate("(pre) => getComputedStyle(pre).whiteSpace") == "pre-wrap"
    await page.route(
        "**/vendor/mermaid.js",
        lambda route: route.fulfill(
            body=ENDLESS, content_type="text/javascript", headers={"cross-origin-resource-policy": "cross-origin"}
        ),
    )
    endless = await watched.say("```mermaid\nflowchart LR\n  A --> B\n```", rate=0)
    await expect(endless.get_by_role("button", name="Draw again")).to_be_visible()
    await expect(endless.locator("iframe")).to_have_count(0)
    await expect(endless.locator("pre")).to_contain_text("A --> B")


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
