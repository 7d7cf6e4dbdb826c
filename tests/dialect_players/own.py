"""Players of our own protocol: server-sent events, and the socket."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AsyncExitStack
from typing import Any, ClassVar, Self

import httpx2

from tests.client import Client, RequestFailed, TurnView, client
from tests.dialect_players.player import SCHEMA, TIMEOUT_S, Ask, HttpPlayer, Player, Refused, Stage
from tests.dialect_players.talks import TOOL
from tests.http_events import EventReader

ENDINGS = {"turn.completed": "completed", "turn.cancelled": "cancelled", "turn.failed": "failed"}


class Own(Player):
    """What both have in common: what is shown is that of a `TurnView`, which checks laws 1 and 2."""

    def __init__(self, stage: Stage, ask: Ask) -> None:
        super().__init__(stage, ask)
        self.view = TurnView()
        self.turn = f"own-{id(self)}"

    def request(self) -> dict[str, Any]:
        """Return the fields of `turn.start`."""
        content: Any = self.ask.prompt
        if self.ask.image is not None:
            media_type, _, data = self.ask.image.removeprefix("data:").partition(";base64,")
            content = [
                {"kind": "text", "text": self.ask.prompt},
                {"kind": "image", "media_type": media_type, "data": data},
            ]
        tools = {"tools": [{"name": TOOL, "description": "Add", "parameters": SCHEMA}]} if self.ask.has_tool else {}
        return {"turn": self.turn, "input": content, "model": self.ask.model, **tools}

    async def send(self, url: str, request: dict[str, Any]) -> None:
        """Start a turn, and open its stream. Raises `Refused`."""
        raise NotImplementedError

    async def start(self, url: str) -> None:
        await self.send(url, self.request())

    async def reply(self, url: str, result: str) -> None:
        frames = self.view.frames
        call = next(frame["call"] for frame in frames if frame.get("kind") == "tool_call")
        conversation = next(frame["conversation"] for frame in frames if frame["type"] == "turn.started")
        await self.leave()
        self.forget()
        self.view, self.turn = TurnView(), f"{self.turn}-2"
        answer = [{"kind": "tool_result", "call": call, "output": result}]
        await self.send(url, {**self.request(), "input": answer, "conversation": conversation})

    def show(self) -> None:
        """Show what the view has."""
        view = self.view
        self.text, self.thoughts = view.text(), view.text("reasoning")
        names = [frame["name"] for frame in view.frames if frame.get("kind") == "tool_call" and "name" in frame]
        self.calls = [(name, view.text("tool_call")) for name in names]
        if view.ended is not None:
            self.ending = ENDINGS[view.ended["type"]]  # type: ignore[assignment]
            self.error = view.ended.get("error", {}).get("message", "")


class OwnSse(Own, HttpPlayer):
    name: ClassVar[str] = "own-sse"

    async def send(self, url: str, request: dict[str, Any]) -> None:
        await self.open("POST", f"{url}/v1/turns", json=request, headers={"accept": "text/event-stream"})

    async def resume(self, url: str) -> None:
        position = {"last-event-id": f"{self.view.epoch}-{self.view.seq}"} if self.view.epoch is not None else {}
        await self.open("GET", f"{url}/v1/turns/{self.turn}/events", headers=position)

    async def cancel(self, url: str) -> str:
        return await self.call("POST", f"{url}/v1/turns/{self.turn}/cancel")

    def parse(self, response: httpx2.Response) -> Any:
        reader = EventReader(response, self.view)

        async def frames() -> Any:
            while (frame := await reader.next()) is not None:
                yield frame

        return frames()

    def take(self, event: Any) -> None:
        self.show()


class OwnSocket(Own):
    name: ClassVar[str] = "own-socket"

    def __init__(self, stage: Stage, ask: Ask) -> None:
        super().__init__(stage, ask)
        self._stack = AsyncExitStack()
        self._client: Client | None = None

    async def send(self, url: str, request: dict[str, Any]) -> None:
        opened = await self._open(url)
        await _asked(opened.request("turn.start", **request))

    async def resume(self, url: str) -> None:
        opened = await self._open(url)
        opened.resume(self.turn, self.view)
        position = self.view.position if self.view.epoch is not None else {"epoch": 0, "seq": 0}
        answer = await _asked(opened.request("turn.attach", positions={self.turn: position}))
        if error := answer["turns"][self.turn].get("error"):
            raise Refused(error["code"], error["message"])

    async def cancel(self, url: str) -> str:
        async with client(_socket_url(url), additional_headers=self.headers) as other:
            return str(await _asked(other.request("turn.cancel", turn=self.turn)))

    async def leave(self) -> None:
        await self._stack.aclose()
        self._client = None

    async def read(self, until: Callable[[Self], bool] = lambda _: False) -> None:
        opened = self._client
        assert opened is not None

        def holds() -> bool:
            self.view = opened.turns.get(self.turn, self.view)
            self.events = len(self.view.frames)
            self.show()
            return until(self) or self.ending is not None or opened.closed is not None

        await opened.until(holds, TIMEOUT_S)

    async def next(self) -> Any:
        raise NotImplementedError

    def take(self, event: Any) -> None:
        raise NotImplementedError

    async def _open(self, url: str) -> Client:
        await self.leave()
        self._client = await self._stack.enter_async_context(client(_socket_url(url), additional_headers=self.headers))
        return self._client


def _socket_url(url: str) -> str:
    return url.replace("http", "ws", 1) + "/ws"


async def _asked(request: Any) -> Any:
    try:
        async with asyncio.timeout(TIMEOUT_S):
            return await request
    except RequestFailed as failed:
        raise Refused(failed.code, str(failed)) from None
