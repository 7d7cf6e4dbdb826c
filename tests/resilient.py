"""A client that reconnects to any running instance and continues its turns, as a good front end does."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

from websockets.exceptions import WebSocketException

from tests.client import Client, RequestFailed, TurnView, client
from tests.conditions import holds
from tests.credentials import bearer, token

RETRY_S = 0.05
DEADLINE_S = 40.0


def headers_of(user: str | None) -> dict[str, str]:
    """Return headers that authenticate the user for a day, or no headers if `user` is None."""
    return {} if user is None else bearer(token(user, exp=int(time.time()) + 86_400))


class TurnLost(Exception):
    """No ending will come, because the gateway no longer has the turn or its events.

    The text is the turn's value in `Resilient.lost`.
    """


class Resilient:
    """A client that keeps the received events of its turns across reconnects. It checks laws 1, 2 and 10 on every frame.

    `lost` maps each turn that can't continue to the error code, or the reason of the detach, that the gateway sent.
    """

    def __init__(self, urls: Callable[[], Sequence[str]], codec: str, pick: random.Random, user: str | None) -> None:
        self.views: dict[str, TurnView] = {}
        self.user = user
        self.connects = 0
        self.frames: list[dict[str, Any]] = []
        self.lost: dict[str, str] = {}
        self._unanswered: set[str] = set()
        self._urls = urls
        self._codec = codec
        self._pick = pick
        self._stack = AsyncExitStack()
        self.now: Client | None = None

    async def connected(self) -> Client:
        """Return the current connection, or open one and attach it to every turn that hasn't ended."""
        async with asyncio.timeout(DEADLINE_S):
            while self.now is None or self.now.closed is not None:
                await self.drop()
                try:
                    self.now = await self._stack.enter_async_context(
                        client(
                            self._pick.choice(list(self._urls())),
                            codec=self._codec,
                            open_timeout=5,
                            additional_headers=headers_of(self.user),
                        )
                    )
                    self.connects += 1
                    await self._attach(self.now)
                except (OSError, RequestFailed, AssertionError, EOFError, IndexError, WebSocketException) as error:
                    if isinstance(error, AssertionError) and "law" in str(error):
                        raise
                    await self.drop()
                    await asyncio.sleep(RETRY_S)
        return self.now

    async def _attach(self, now: Client) -> None:
        settled = self.lost.keys() | self._unanswered
        live = {turn: view for turn, view in self.views.items() if view.ended is None and turn not in settled}
        for turn, view in live.items():
            now.resume(turn, view)
        held = {turn: view.position if view.epoch else {"epoch": 0, "seq": 0} for turn, view in live.items()}
        if held:
            answer = await now.request("turn.attach", positions=held)
            for turn, got in answer["turns"].items():
                if "error" in got:
                    assert got["error"]["code"] in {"not_found", "gone"}, f"{turn}: {got['error']}"
                    self.lost[turn] = got["error"]["code"]

    async def drop(self) -> None:
        """Abort the socket, as if the network failed."""
        now, self.now = self.now, None
        if now is not None:
            self.frames += now.frames
            now.socket.transport.abort()
        await self._stack.aclose()

    async def start(self, turn: str, **fields: Any) -> dict[str, Any]:
        """Start a turn, and return the result. Raises `RequestFailed` for an error that isn't retryable.

        After any other failure, the start is repeated with the same id (law 6).
        """
        self._unanswered.add(turn)
        try:
            return await self._start(turn, fields)
        finally:
            self._unanswered.discard(turn)

    async def _start(self, turn: str, fields: dict[str, Any]) -> dict[str, Any]:
        async with asyncio.timeout(DEADLINE_S):
            while True:
                now = await self.connected()
                now.turns.setdefault(turn, self.views.setdefault(turn, TurnView()))
                try:
                    started: dict[str, Any] = await now.request("turn.start", turn=turn, **fields)
                    self.views[turn] = now.turns[turn]
                    return started
                except RequestFailed as failed:
                    if not failed.error["retryable"]:
                        raise
                except (AssertionError, TimeoutError, WebSocketException) as error:
                    if isinstance(error, AssertionError) and "law" in str(error):
                        raise
                self.views[turn] = now.turns[turn]
                await asyncio.sleep(RETRY_S)

    async def follow(self, turn: str) -> None:
        """Attach to a turn that another client has started, from its first event."""
        self.views.setdefault(turn, TurnView())
        now = await self.connected()
        if turn not in now.turns:
            now.resume(turn, self.views[turn])
            await now.request("turn.attach", turn=turn)

    async def until(self, condition: Callable[[], bool]) -> None:
        """Stay connected until `condition()` holds."""
        async with asyncio.timeout(DEADLINE_S):
            while not holds(condition):
                now = await self.connected()
                try:
                    await now.until(condition, timeout_s=DEADLINE_S)
                except (AssertionError, TimeoutError) as error:
                    if "law" in str(error):
                        raise

    async def ending(self, turn: str) -> dict[str, Any]:
        """Stay connected until the turn's ending, and return its end event. Raises `TurnLost`."""

        def ended() -> bool:
            if self.now is not None:
                self.views[turn] = self.now.turns.get(turn, self.views[turn])
                if turn in self.now.detached:
                    self.lost[turn] = self.now.detached[turn]
            return self.views[turn].ended is not None or turn in self.lost

        await self.until(ended)
        found = self.views[turn].ended
        if found is None:
            raise TurnLost(self.lost[turn])
        return found

    def text(self, turn: str) -> str:
        """Return the text of the turn that the client has received."""
        return self.views[turn].text()


@asynccontextmanager
async def resilient(
    urls: Callable[[], Sequence[str]], codec: str = "json", seed: int = 1, user: str | None = None
) -> AsyncIterator[Resilient]:
    """Open a resilient client that connects to a random one of `urls()`, as `user` if the gateways require a token."""
    made = Resilient(urls, codec, random.Random(seed), user)
    try:
        yield made
    finally:
        await made.drop()
