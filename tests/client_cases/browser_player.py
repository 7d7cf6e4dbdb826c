"""The JavaScript client's player in a page of Chromium, which does what `PlayerProcess` does in a process."""

from __future__ import annotations

import asyncio
import json
from contextlib import AsyncExitStack

from playwright.async_api import ConsoleMessage, Page

from tests.client_cases.player import EXIT_TIMEOUT_S, Player, PlayerError
from tests.client_cases.world import World
from tests.page_stage import browser_context, running_browser

# The lines are passed on in batches, as each call from the page takes longer than an event.
START = """async () => {
  const { player } = await import("/tests/client_cases/js_player.js");
  let lines = [];
  const pass = () => {
    fromPlayer(lines);
    lines = [];
  };
  globalThis.take = player((line) => {
    if (lines.push(JSON.stringify(line)) === 1) setTimeout(pass, 10);
  });
}"""
OF_THE_BROWSER = ("WebSocket connection to", "Failed to load resource", "Access to fetch at")
"""How the messages begin by which the browser itself reports what the network or a server refused."""


class BrowserPlayer:
    """A player in a page of its own."""

    _page: Page

    def __init__(self, name: str, stack: AsyncExitStack) -> None:
        self.player = Player(name, self._send)
        self._stack = stack
        self._sending: set[asyncio.Task[None]] = set()

    @classmethod
    async def start(cls, name: str, world: World) -> BrowserPlayer:
        """Open the page."""
        one = cls(name, AsyncExitStack())
        browser = await one._stack.enter_async_context(running_browser())
        context = await one._stack.enter_async_context(browser_context(browser))
        one._page = await context.new_page()
        one._page.on("console", one._on_console)
        one._page.on("pageerror", lambda error: one.player.complain(str(error)))
        await one._page.goto(world.url)
        await one._page.expose_function("fromPlayer", one._take)
        await one._page.evaluate(START)
        return one

    def _on_console(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning") and not message.text.startswith(OF_THE_BROWSER):
            self.player.complain(message.text)

    def _take(self, lines: list[str]) -> None:
        for line in lines:
            self.player.take(line)

    def _send(self, line: str) -> None:
        task = asyncio.ensure_future(self._evaluate(line))
        self._sending.add(task)
        task.add_done_callback(self._sending.discard)

    async def _evaluate(self, line: str) -> None:
        await self._page.evaluate("(command) => void take(command)", json.loads(line))

    async def stop(self) -> list[str]:
        """Let the player close its connections, and close the browser. Return what is wrong."""
        unanswered = self.player.unanswered
        problems = [f"it left {unanswered} commands unanswered"] if unanswered else []
        try:
            await self.player.ask("exit", {}, EXIT_TIMEOUT_S)
        except PlayerError as error:
            problems.append(f"exit: {error}")
        await self._stack.aclose()
        return problems + [f"the console: {line.rstrip()}" for line in self.player.stderr]
