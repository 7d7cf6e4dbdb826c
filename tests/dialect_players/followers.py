"""The base of players whose protocol can't resume a stream, and the player of Anthropic Messages.

Their client follows the turn with the answer's id in our own API.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any, ClassVar

import httpx2

from tests.client import Frame, TurnView
from tests.credentials import token
from tests.dialect_players.own import ENDINGS
from tests.dialect_players.player import SCHEMA, Ask, HttpPlayer, Refused, Stage
from tests.dialect_players.talks import TOOL
from tests.http_events import EventReader
from tests.late_imports import LateImport

if TYPE_CHECKING:
    import anthropic
else:
    anthropic = LateImport("anthropic")


class Follower(HttpPlayer):
    """A client that shows a turn of our own API once it has lost its own stream."""

    _view: TurnView | None = None

    async def resume(self, url: str) -> None:
        self._view = TurnView()
        self.text, self.thoughts, self.calls = "", "", []
        await self.open("GET", f"{url}/v1/turns/{self.turn}/events", headers={"accept": "text/event-stream"})

    async def cancel(self, url: str) -> str:
        return await self.call("POST", f"{url}/v1/turns/{self.turn}/cancel")

    def parse(self, response: httpx2.Response) -> AsyncIterator[Any]:
        return self.parse_own(response) if self._view is None else _frames(EventReader(response, self._view))

    def take(self, event: Any) -> None:
        view = self._view
        if view is None:
            self.take_own(event)
            return
        self.text = view.text()
        self.thoughts = view.text("reasoning") if "thoughts" in self.shows else ""
        if view.ended is not None:
            self.ending = ENDINGS[view.ended["type"]]  # type: ignore[assignment]

    def parse_own(self, response: httpx2.Response) -> AsyncIterator[Any]:
        """Return the events of a response in the protocol of this client."""
        return super().parse(response)

    def take_own(self, event: Any) -> None:
        """Add an event of the protocol of this client to what is shown."""
        raise NotImplementedError


async def _frames(reader: EventReader) -> AsyncIterator[Frame]:
    while (frame := await reader.next()) is not None:
        yield frame


class Messages(Follower):
    """Anthropic Messages, with the stream of Anthropic's SDK, which accumulates the message."""

    name: ClassVar[str] = "messages"
    tells_cancels: ClassVar[bool] = False
    ends_when_left: ClassVar[bool] = True

    def __init__(self, stage: Stage, ask: Ask) -> None:
        super().__init__(stage, ask)
        self._messages: list[Any] = []
        self._manager: Any = None
        self._stream: Any = None

    async def start(self, url: str) -> None:
        content: list[Any] = [{"type": "text", "text": self.ask.prompt}]
        if self.ask.image is not None:
            media_type, _, data = self.ask.image.removeprefix("data:").partition(";base64,")
            content.append({"type": "image", "source": {"type": "base64", "media_type": media_type, "data": data}})
        self._messages = [{"role": "user", "content": content}]
        await self._send(url)

    async def reply(self, url: str, result: str) -> None:
        content = [block.to_dict() for block in self._stream.current_message_snapshot.content]
        (call,) = (block["id"] for block in content if block["type"] == "tool_use")
        answer = {"type": "tool_result", "tool_use_id": call, "content": result}
        self._messages += [{"role": "assistant", "content": content}, {"role": "user", "content": [answer]}]
        await self.leave()
        self.forget()
        await self._send(url)

    async def _send(self, url: str) -> None:
        sdk = anthropic.AsyncAnthropic(
            base_url=url,
            auth_token=token(self.ask.user),
            http_client=self.stage.http,
            max_retries=0,
            default_headers=self.on_disconnect,
        )
        tools: Any = {"tools": [{"name": TOOL, "input_schema": SCHEMA}]} if self.ask.has_tool else {}
        self._manager = sdk.messages.stream(model=self.ask.model, max_tokens=1000, messages=self._messages, **tools)
        try:
            self._stream = await self._manager.__aenter__()
        except anthropic.APIStatusError as error:
            raise Refused(error.status_code, json.dumps(error.body)) from None
        self.turn = self._stream.response.headers["turnwire-turn"]

    async def next(self) -> Any:
        if self._stream is None:
            return await super().next()
        try:
            return await anext(self._stream, None)
        except anthropic.APIConnectionError as error:
            raise httpx2.ReadError(str(error)) from error
        except anthropic.APIStatusError as error:
            self.ending, self.error = "failed", str(error)
            return None

    def take_own(self, event: Any) -> None:
        message = self._stream.current_message_snapshot
        assert message.id == self.turn
        self.text = "".join(block.text for block in message.content if block.type == "text")
        self.thoughts = "".join(block.thinking for block in message.content if block.type == "thinking")
        if event.type == "content_block_start" and event.content_block.type == "tool_use":
            self.calls.append((event.content_block.name, ""))
        elif event.type == "input_json":
            name, arguments = self.calls.pop()
            self.calls.append((name, arguments + event.partial_json))
        elif event.type == "message_stop":
            self.ending = "completed"

    async def leave(self) -> None:
        if self._manager is not None:
            await self._manager.__aexit__(None, None, None)
        self._manager = self._stream = None
        await super().leave()
