"""`turnwire/ai-sdk` and `turnwire/react` as they are packed, with the real AI SDK and React in Chromium."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from aiohttp import web
from playwright.async_api import Browser, BrowserContext, Locator, Page, expect

from tests.gateway_process import GatewayProcess, gateway_process
from tests.http_events import http_client
from tests.packed_js import PACKAGES, install, pack, run
from tests.page_stage import WatchedPage, browser_context
from tests.programs import installed, program
from tests.upstream import Upstream, chat, error_response

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.timeout(300),
    pytest.mark.asyncio(loop_scope="session"),
]

CLIENTS = Path(__file__).parents[1] / "dialect_clients"
COMPILER = Path(__file__).parents[1] / "client_library" / "node_modules" / ".bin" / "tsc"
HTML = (
    "<!doctype html><meta charset=utf-8><title>chat</title><link rel=icon href=data:,>"
    "<div id=app></div><script type=module src=/page.js></script>"
)
WORDS = [f"w{n} " for n in range(90)]
TEXT = "".join(WORDS).strip()
LONG = [f"w{n} " for n in range(5000)]
SERVER = """
import { createElement } from "react";
import { renderToString } from "react-dom/server";
import { TurnwireChatTransport } from "turnwire/ai-sdk";
import { TurnwireProvider, useConnection, useConversation, useTurn } from "turnwire/react";

globalThis.WebSocket = class { constructor() { throw new Error("a socket on a server"); } };
new TurnwireChatTransport({ url: "wss://gateway.example/ws" }).close();
function App() {
  const { messages, status } = useConversation("c");
  return createElement("p", null, [status, useConnection().state.state, useTurn().status, messages.length].join(" "));
}
console.log(renderToString(createElement(TurnwireProvider, { url: "wss://gateway.example/ws" }, createElement(App))));
"""
STOPPED = """
import { TurnwireChatTransport } from "turnwire/ai-sdk";

const said = (n) => ({ id: `u${n}`, role: "user", parts: [{ type: "text", text: "Hi" }] });
async function abortedAfter(ms, run) {
  const stopper = new AbortController();
  setTimeout(() => stopper.abort(), ms);
  const late = new Promise((resolve) => setTimeout(resolve, 3000, "waits"));
  return Promise.race([run(stopper.signal).catch(({ name }) => name), late]);
}
const found = {};
const options = { url: "ws://127.0.0.1:9/ws", transport: "http" };
const sent = [["first", [said(1)]], ["later", [said(1), said(2)]], ["kept", [said(1)], { cancelOnAbort: false }]];
for (const [name, messages, more] of sent) {
  const transport = new TurnwireChatTransport({ ...options, ...more });
  const send = (abortSignal) => transport.sendMessages({ trigger: "submit-message", chatId: "c", messages, abortSignal });
  found[name] = await abortedAfter(200, send);
  transport.close();
}
const transport = new TurnwireChatTransport(options);
found.resumed = await abortedAfter(200, (abortSignal) => transport.reconnectToStream({ chatId: "c", abortSignal }));
transport.close();
console.log(JSON.stringify(found));
"""
CALL = {
    "tool_calls": [
        {"index": 0, "id": "c1", "type": "function", "function": {"name": "add", "arguments": '{"a": 1, "b": 2}'}}
    ]
}


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with the packed package, and with the packages that it works with."""
    installed(CLIENTS / "node_modules" / ".package-lock.json", "the packages of tests/dialect_clients")
    tarball = pack(tmp_path_factory.mktemp("pack"))
    folder = tmp_path_factory.mktemp("project")
    names = ("ai", "@ai-sdk/react", "react", "react-dom", "esbuild")
    install(tarball, folder, *(CLIENTS / "node_modules" / name for name in names))
    return folder


def bundled(project: Path) -> str:
    """Return the page's program."""
    shutil.copy(CLIENTS / "turnwire_page.jsx", project)
    options = ("--bundle", "--format=esm", "--jsx=automatic", "--log-level=warning", "--outfile=page.js")
    esbuild = project / "node_modules" / "esbuild" / "bin" / "esbuild"
    define = '--define:process.env.NODE_ENV="development"'
    run(program("node"), esbuild, "turnwire_page.jsx", *options, define, folder=project)
    return (project / "page.js").read_text()


@dataclass
class Site:
    """A page's origin, and the gateway and the provider behind it."""

    origin: str
    gateway: GatewayProcess
    upstream: Upstream

    @asynccontextmanager
    async def opened(self, context: BrowserContext, name: str, anchor: str = "") -> AsyncIterator[Page]:
        """Open the page, and check on exit that nothing has failed in it."""
        watched = WatchedPage(await context.new_page())
        page = watched.page
        await page.goto(f"{self.origin}/?gateway={self.gateway.url}&chat={name}{anchor}")
        await expect(page.locator("main"), "\n".join(watched.errors)).to_be_visible()
        yield page
        # Over HTTP, a chat that doesn't exist yet is a 404, which a browser logs.
        assert [error for error in watched.errors if "404 (Not Found)" not in error] == []
        assert await page.evaluate("faults") == []
        await page.close()

    def context(self) -> list[tuple[str, Any]]:
        """Return the messages that the provider was sent last."""
        return [(one["role"], one.get("content")) for one in self.upstream.requests[-1].body["messages"]]

    async def stopped(self) -> None:
        """Wait until the gateway has closed its last request to the provider."""
        async with asyncio.timeout(20):
            await self.upstream.requests[-1].disconnected.wait()


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def site(project: Path, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Site]:
    script = bundled(project)

    async def serve(request: web.Request) -> web.Response:
        if request.path == "/page.js":
            return web.Response(text=script, content_type="text/javascript")
        return web.Response(text=HTML, content_type="text/html")

    application = web.Application()
    application.router.add_get("/{path:.*}", serve)
    runner = web.AppRunner(application)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    origin = f"http://127.0.0.1:{runner.addresses[0][1]}"
    async with Upstream() as upstream:
        settings = {
            "OPENAI_API_KEY": "k",
            "OPENAI_BASE_URL": upstream.openai_url,
            "TURNWIRE_ALLOWED_ORIGINS": origin,
        }
        async with gateway_process(tmp_path_factory.mktemp("gateway"), settings) as gateway:
            yield Site(origin, gateway, upstream)
    await runner.cleanup()


async def send(page: Page | Locator, text: str, button: str = "Send") -> None:
    await page.locator("input").fill(text)
    await page.get_by_role("button", name=button, exact=True).click()


def last(page: Page) -> Locator:
    """Return the text of the last message."""
    return page.locator("article").last.locator("[data-kind=text]").last


async def texts(page: Page) -> list[str]:
    """Return what the page shows of each message."""
    return [text.strip() for text in await page.locator("article").all_text_contents()]


@pytest.mark.browser
async def test_a_chat_survives_reloads_is_seen_in_two_tabs_and_is_stopped(browser: Browser, site: Site) -> None:
    """The answer goes on after reloads, and the provider is asked once. Another tab shows it from the start, without a
    reload, and stops it in both. A stop before the first token reaches the provider too. Each page has one socket."""
    upstream = site.upstream
    async with browser_context(browser) as context, site.opened(context, "tabs") as page:
        upstream.play(chat(*WORDS, usage={"prompt_tokens": 7, "completion_tokens": 90}).replace(rate=30))
        await send(page, "Count")
        for words in ("w3", "w12"):
            await expect(last(page)).to_contain_text(words)
            await page.reload()
        await expect(last(page)).to_have_text(TEXT)
        await expect(page.locator("output")).to_have_text("ready")
        assert await texts(page) == ["Count", TEXT]
        assert len(upstream.requests) == 1
        metadata = json.loads(await page.locator("article").last.get_attribute("data-metadata") or "")
        assert metadata["usage"] == {"inputTokens": 7, "outputTokens": 90, "totalTokens": 97}
        assert (metadata["finishReason"], metadata["conversation"], metadata["model"]) == ("stop", "tabs", "openai/m")
        await page.reload()
        await expect(last(page)).to_have_text(TEXT)
        assert await texts(page) == ["Count", TEXT]
        async with site.opened(context, "tabs") as other:
            await expect(last(other)).to_have_text(TEXT)
            upstream.play(chat(*LONG).replace(rate=60))
            await send(page, "Count on")
            for tab in (page, other):
                await expect(last(tab)).to_contain_text("w5")
            await other.get_by_role("button", name="Stop").click()
            for tab in (page, other):
                await expect(tab.locator("output")).to_have_text("ready")
            await site.stopped()
            assert (await texts(page))[:3] == (await texts(other))[:3] == ["Count", TEXT, "Count on"]
            assert await other.evaluate("counted") == {"made": 1, "open": 1}
        upstream.play(chat("Never").replace(delay_s=60))
        await send(page, "Wait")
        await expect(page.locator("output")).to_have_text("submitted")
        while len(upstream.requests) < 3:
            await asyncio.sleep(0.02)
        await page.get_by_role("button", name="Stop").click()
        await site.stopped()
        assert await page.evaluate("counted") == {"made": 1, "open": 1}


@pytest.mark.browser
async def test_a_chat_regenerates_edits_calls_a_tool_and_fails(browser: Browser, site: Site) -> None:
    """The provider gets the context that the page shows: after a regeneration and an edit, with the result of a tool, with a
    file, with reasoning, and after a failure, whose code is known."""
    upstream = site.upstream
    async with browser_context(browser) as context, site.opened(context, "edits") as page:

        async def answered(text: str) -> list[tuple[str, Any]]:
            await expect(last(page)).to_have_text(text)
            await expect(page.locator("output")).to_have_text("ready")
            return site.context()

        upstream.play(chat("One."), chat("Two."), chat("Two again."), chat("Edited."))
        await send(page, "First")
        assert await answered("One.") == [("user", "First")]
        await send(page, "Second")
        assert await answered("Two.") == [("user", "First"), ("assistant", "One."), ("user", "Second")]
        await page.reload()  # it has to find the stored messages again
        await expect(last(page)).to_have_text("Two.")
        await page.get_by_role("button", name="Regenerate").click()
        assert await answered("Two again.") == [("user", "First"), ("assistant", "One."), ("user", "Second")]
        await send(page, "First, edited", "Edit")
        assert await answered("Edited.") == [("user", "First, edited")]
        assert await texts(page) == ["First, edited", "Edited."]

        upstream.play(chat(CALL, finish="tool_calls"), chat("It is 3.").replace(rate=2))
        await send(page, "Add 1 and 2")
        await page.get_by_role("button", name="Add").click()
        while upstream.requests[-1].body["messages"][-1]["role"] != "tool":
            await asyncio.sleep(0.02)
        await page.reload()  # it resumes the second step, and shows the first one before it
        assert (await answered("It is 3."))[-2:] == [("assistant", None), ("tool", '{"sum":3}')]
        assert (await texts(page))[2:] == ["Add 1 and 2", '{"a":1,"b":2}{"sum":3}It is 3.']

        upstream.play(error_response(400, {"error": {"message": "Not this."}}), chat("Seen."))
        await send(page, "Look", "Send a file")
        await expect(page.get_by_role("alert")).to_contain_text("invalid_request: ")
        await page.get_by_role("button", name="Regenerate").click()
        *_, (_, seen) = await answered("Seen.")
        assert [part["type"] for part in seen] == ["image_url", "text"]

        await page.evaluate("model = 'demo', params = {demo: {thinking: 3, text: 'Thought.', rate: 0}}")
        await send(page, "Think")
        await answered("Thought.")
        assert await page.locator("article").last.locator("em").inner_text() != ""
        await page.evaluate("model = 'nobody'")
        await send(page, "Hi")
        await expect(page.get_by_role("alert")).to_contain_text("model_not_found")


@pytest.mark.browser
async def test_the_hooks_in_strict_mode(browser: Browser, site: Site) -> None:
    """The double effects of `StrictMode` open one socket and start one turn. Two components share a conversation, two tabs see
    the same. There is at most one render for each frame, and finished messages aren't rendered again. When nothing is mounted, no
    socket is open, and a completion has been stopped."""
    upstream = site.upstream
    before = len(upstream.requests)
    async with browser_context(browser) as context, site.opened(context, "hooks", "#hooks") as page:

        async def show(what: str, tab: Page = page) -> None:
            await tab.get_by_role("button", name=f"Show {what}").click()

        first, second = (page.get_by_role("region", name=name) for name in ("first", "second"))
        await show("conversation")
        await expect(first.locator("output")).to_have_text("ready")
        upstream.play(chat("One."), chat(*WORDS).replace(rate=300), chat("Again."))
        await send(first, "First")
        for shown in (first, second):
            await expect(shown.locator("article")).to_have_text(["First", "One."])
        await page.evaluate("renders = {}, frames_ = 0")
        await send(second, "Count")
        await expect(first.locator("article").last).to_have_text(TEXT)
        await expect(first.locator("output")).to_have_text("ready")
        renders, frames = await page.evaluate("[renders, frames_]")
        # `StrictMode` renders twice, and so do the two components. Typing and the button cause renders of their own.
        assert renders["first"] <= 2 * (frames + 4), (renders, frames)
        assert renders["user"] <= 12, renders
        await second.get_by_role("button", name="Regenerate").click()
        await expect(first.locator("article")).to_have_text(["First", "One.", "Count", "Again."])
        assert await page.evaluate("counted") == {"made": 1, "open": 1}

        async with site.opened(context, "hooks", "#hooks") as other:
            await show("conversation", other)
            there = other.get_by_role("region", name="first")
            await expect(there.locator("article")).to_have_text(["First", "One.", "Count", "Again."])
            upstream.play(chat(*LONG).replace(rate=60))
            await send(first, "Count on")
            for shown in (first, there):
                await expect(shown.locator("article").last).to_contain_text("w5")
            await show("none", other)
            await show("conversation", other)
            await expect(there.locator("article").last).to_contain_text("w9")
            await there.get_by_role("button", name="Stop").click()
            for shown in (first, there):
                await expect(shown.locator("article").last).to_have_attribute("data-status", "cancelled")
                await expect(shown.locator("output")).to_have_text("ready")
            await site.stopped()
        upstream.play(error_response(400, {"error": {"message": "Not this."}}))
        await send(first, "Fail")
        await expect(second.get_by_role("alert")).to_contain_text("invalid_request")

        # The connection is live, so a second start would be a second turn, which makes a conversation of its own.
        upstream.play(chat("Completed."))
        async with http_client(site.gateway.url) as http:
            known = (await http.get("/v1/conversations")).json()["conversations"]
            await show("completion")
            await expect(page.locator("[data-completion=completed]")).to_have_text("done: Completed.")
            assert len((await http.get("/v1/conversations")).json()["conversations"]) == len(known) + 1
        assert await page.evaluate("counted") == {"made": 1, "open": 1}
        await show("none")
        await page.wait_for_function("counted.open === 0")
        upstream.play(chat(*LONG).replace(rate=60))
        await show("completion")
        await expect(page.locator("[data-completion=running]")).to_contain_text("w3")
        await show("none")
        await site.stopped()
        await page.wait_for_function("counted.open === 0")
        assert await page.evaluate("counted.made") == 2
    assert len(upstream.requests) == before + 7


@pytest.mark.browser
async def test_over_http(browser: Browser, site: Site) -> None:
    """Where no WebSocket opens, the chat and the hooks resume a running answer after a reload too, and stop it."""
    site.upstream.play(chat(*LONG).replace(rate=60), chat(*LONG).replace(rate=60))
    async with browser_context(browser) as context:
        async with site.opened(context, "http-chat&transport=http") as page:
            await send(page, "Count")
            await expect(last(page)).to_contain_text("w3")
            await page.reload()
            await expect(last(page)).to_contain_text("w9")
            assert (await texts(page))[:-1] == ["Count"]
            await page.get_by_role("button", name="Stop").click()
            await expect(page.locator("output")).to_have_text("ready")
            await site.stopped()
            assert await page.evaluate("counted.made") == 0
        async with site.opened(context, "http-hooks&transport=http", "#hooks") as page:
            first = page.get_by_role("region", name="first")
            answer = first.locator("article").last
            await page.get_by_role("button", name="Show conversation").click()
            await expect(first.locator("output")).to_have_text("ready")
            await send(first, "Count")
            await expect(answer).to_contain_text("w3")
            await page.reload()
            await page.get_by_role("button", name="Show conversation").click()
            await expect(answer).to_contain_text("w9")
            await first.get_by_role("button", name="Stop").click()
            await expect(first.locator("article")).to_have_count(2)
            await expect(answer).to_have_attribute("data-status", "cancelled")
            await site.stopped()


async def test_a_chat_is_stopped_while_there_is_no_connection(project: Path) -> None:
    """Without a gateway, a message that waits and a chat that is resumed end as soon as they are aborted: the one with the
    signal's reason, the other with no stream. After that, the closed transports keep no program running."""
    (project / "stopped.mjs").write_text(STOPPED, encoding="utf-8")
    found = json.loads(run(program("node"), "stopped.mjs", folder=project))
    assert found == {"first": "AbortError", "later": "AbortError", "kept": "AbortError", "resumed": None}


async def test_every_event_of_a_turn_becomes_a_chunk(project: Path) -> None:
    """The AI SDK makes the same message of a turn, however fast its chunks are read: all kinds of parts, tool calls, a reset, and
    each ending. Its schema accepts every chunk."""
    shutil.copy(PACKAGES / "chunks.mjs", project)
    found = json.loads(run(program("node"), "chunks.mjs", folder=project))
    whole = found["everything"]
    assert whole["text"] == "One two."
    assert [(one["type"], one.get("state")) for one in whole["other"]] == [
        ("step-start", None),
        ("reasoning", "done"),
        ("source-url", None),
        ("file", None),
        ("tool-add", "input-available"),
        ("tool-bad", "output-error"),
    ]
    assert whole["other"][1]["text"] == "Hmm."
    assert whole["other"][3]["url"] == "https://gateway.example/v1/messages/a1/parts/5"
    assert whole["other"][4]["input"] == {"a": 1}
    assert whole["metadata"]["message"] == "a1"
    assert whole["metadata"]["usage"] == {"inputTokens": 3, "outputTokens": 4, "totalTokens": 7, "reasoningTokens": 1}
    texts = {name: one["text"] for name, one in found.items()}
    assert texts == {
        **{"everything": "One two.", "reset": "Right.", "limit": "Cut", "stopped": "No", "failed": "Half"},
        **{"refused": "", "empty": ""},
    }
    endings = {name: one["ending"] for name, one in found.items() if "ending" in one}
    assert endings == {
        "everything": {"type": "finish", "finishReason": "tool-calls"},
        "reset": {"type": "finish", "finishReason": "stop"},
        "limit": {"type": "finish", "finishReason": "length"},
        "stopped": {"type": "abort", "reason": "enough"},
        "empty": {"type": "finish", "finishReason": "stop"},
    }
    assert found["failed"]["metadata"]["error"] == {"code": "upstream_error", "message": "E.", "retryable": False}


async def test_on_a_server_and_with_strict_types(project: Path) -> None:
    """On a server, the hooks render their first state and open nothing. TypeScript accepts a strict program, and reports every
    error that the program marks as expected."""
    (project / "server.mjs").write_text(SERVER, encoding="utf-8")
    assert run(program("node"), "server.mjs", folder=project).strip() == "<p>loading connecting idle 0</p>"
    types = project / "node_modules" / "@types"
    types.symlink_to(installed(PACKAGES / "node_modules" / "@types", "the packages of tests/js_package"))
    shutil.copy(PACKAGES / "hooks.tsx", project)
    options = "--strict --noEmit --exactOptionalPropertyTypes --noUncheckedIndexedAccess --target es2023".split()
    options += "--moduleResolution bundler --module esnext --jsx react-jsx --types".split()
    compiler = installed(COMPILER, "TypeScript")
    result = subprocess.run(
        (compiler, *options, "", "hooks.tsx"), cwd=project, capture_output=True, text=True, timeout=120, check=False
    )
    # The types of the AI SDK have errors of their own with these options.
    errors = re.findall(r"^(?:hooks\.tsx|node_modules/turnwire/)\S*: error .*$", result.stdout, re.MULTILINE)
    assert errors == [], "\n".join(errors)
    assert "ai/dist/" in result.stdout or result.returncode == 0, result.stdout
