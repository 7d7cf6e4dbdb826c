"""Players of OpenAI's protocols, with the types and helpers of OpenAI's SDK."""

from __future__ import annotations

import json
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any, ClassVar

import httpx2

from tests.credentials import token
from tests.dialect_players.player import SCHEMA, Ask, HttpPlayer, Player, Refused, Sse, Stage
from tests.dialect_players.talks import TOOL
from tests.late_imports import LateImport

if TYPE_CHECKING:
    import openai
    from openai.lib.streaming import chat as chat_streaming
    from openai.types import chat as chat_types
else:
    openai = LateImport("openai")
    chat_streaming = LateImport("openai.lib.streaming.chat")
    chat_types = LateImport("openai.types.chat")


class ChatCompletions(HttpPlayer):
    """Its stream is read with the SDK's own accumulator, and resumed by the ids of its events."""

    name: ClassVar[str] = "chat-completions"
    tells_cancels: ClassVar[bool] = False
    ends_when_left: ClassVar[bool] = True

    def __init__(self, stage: Stage, ask: Ask) -> None:
        super().__init__(stage, ask)
        self._state = chat_streaming.ChatCompletionStreamState()
        self._position = "0"
        self._finish: str | None = None

    async def start(self, url: str) -> None:
        content: Any = self.ask.prompt
        if self.ask.image is not None:
            image = {"type": "image_url", "image_url": {"url": self.ask.image}}
            content = [{"type": "text", "text": self.ask.prompt}, image]
        self._messages: list[Any] = [{"role": "user", "content": content}]
        await self._send(url)

    async def reply(self, url: str, result: str) -> None:
        message: dict[str, Any] = self._state.current_completion_snapshot.choices[0].message.to_dict()
        (call,) = message["tool_calls"]
        self._messages += [message, {"role": "tool", "tool_call_id": call["id"], "content": result}]
        await self.leave()
        self.forget()
        self._state, self._position, self._finish = chat_streaming.ChatCompletionStreamState(), "0", None
        await self._send(url)

    async def _send(self, url: str) -> None:
        body: dict[str, Any] = {"model": self.ask.model, "messages": self._messages, "stream": True}
        if self.ask.has_tool:
            body["tools"] = [{"type": "function", "function": {"name": TOOL, "parameters": SCHEMA}}]
        response = await self.open("POST", f"{url}/v1/chat/completions", json=body)
        self.turn = response.headers["turnwire-turn"]

    async def resume(self, url: str) -> None:
        response = await self.open("GET", f"{url}/v1/stream/{self.turn}", params={"from": self._position})
        if response.status_code == 204:
            self._end()

    async def cancel(self, url: str) -> str:
        return await self.call("DELETE", f"{url}/v1/stream/{self.turn}")

    def take(self, event: Sse) -> None:
        self._position = event.id or self._position
        if event.data == "[DONE]":
            self._end()
            return
        data = event.json()
        if "error" in data:
            self.ending, self.error = "failed", data["error"]["message"]
            return
        chunk = chat_types.ChatCompletionChunk.model_validate(data)
        assert chunk.id == self.turn
        self._state.handle_chunk(chunk)
        for choice in chunk.choices:
            self._finish = choice.finish_reason or self._finish
        message = self._state.current_completion_snapshot.choices[0].message
        self.text = message.content or ""
        self.thoughts = (message.model_extra or {}).get("reasoning_content") or ""
        calls = message.tool_calls or []
        self.calls = [(call.function.name, call.function.arguments) for call in calls]

    def _end(self) -> None:
        assert self._finish is not None
        self.ending = "completed"


class Responses(Player):
    """Its stream is that of the SDK, which is resumed by the number of the last event."""

    name: ClassVar[str] = "responses-sse"
    ends_when_left: ClassVar[bool] = True

    def __init__(self, stage: Stage, ask: Ask) -> None:
        super().__init__(stage, ask)
        self._stream: Any = None
        self._events: Any = None
        self._seen = 0
        self._call = ""

    def sdk(self, url: str) -> openai.AsyncOpenAI:
        """Return the SDK for an instance."""
        return openai.AsyncOpenAI(
            base_url=f"{url}/v1",
            api_key=token(self.ask.user),
            http_client=self.stage.http,
            max_retries=0,
            default_headers=self.on_disconnect,
        )

    def body(self) -> dict[str, Any]:
        """Return the fields of a request."""
        content: Any = [{"type": "input_text", "text": self.ask.prompt}]
        if self.ask.image is not None:
            content.append({"type": "input_image", "image_url": self.ask.image})
        tools = [{"type": "function", "name": TOOL, "parameters": SCHEMA, "strict": False}]
        return {
            "model": self.ask.model,
            "input": [{"role": "user", "content": content}],
            **({"tools": tools} if self.ask.has_tool else {}),
        }

    async def start(self, url: str) -> None:
        await self.send(url, self.body())

    async def reply(self, url: str, result: str) -> None:
        item = {"type": "function_call_output", "call_id": self._call, "output": result}
        await self.leave()
        self.forget()
        self._seen = 0
        await self.send(url, {**self.body(), "input": [item], "previous_response_id": self.turn})

    async def send(self, url: str, body: dict[str, Any]) -> None:
        """Create a response, and open its stream. Raises `Refused`."""
        await self._open(self.sdk(url).responses.create(**body, stream=True))

    async def resume(self, url: str) -> None:
        await self._open(self.sdk(url).responses.retrieve(self.turn, stream=True, starting_after=self._seen))

    async def cancel(self, url: str) -> str:
        return str((await _refused(self.sdk(url).responses.cancel(self.turn))).status)

    async def leave(self) -> None:
        if self._stream is not None:
            await self._stream.close()
        self._stream = self._events = None

    async def next(self) -> Any:
        try:
            return await anext(self._events, None)
        except openai.APIConnectionError as error:
            raise httpx2.ReadError(str(error)) from error

    def take(self, event: Any) -> None:
        kind = event.type
        if kind == "error":
            self.ending, self.error = "failed", event.message
            return
        assert event.sequence_number > self._seen or kind == "response.created"
        self._seen = event.sequence_number
        if kind == "response.created":
            self.turn = event.response.id
        elif kind == "response.output_text.delta":
            self.text += event.delta
        elif kind == "response.reasoning_summary_text.delta":
            self.thoughts += event.delta
        elif kind == "response.output_item.done" and event.item.type == "function_call":
            self.calls.append((event.item.name, event.item.arguments))
            self._call = event.item.call_id
        elif kind in {"response.completed", "response.incomplete", "response.failed"}:
            self._end(event.response)

    def _end(self, response: Any) -> None:
        assert response.id == self.turn
        assert response.output_text == self.text, "the whole response has another text than the events"
        self.ending = response.status
        self.error = response.error.message if response.error is not None else ""

    async def _open(self, request: Any) -> None:
        self._stream = await _refused(request)
        self._events = aiter(self._stream)


class ResponsesSocket(Responses):
    """Responses on a WebSocket of the SDK. As the protocol has no other way, a lost one is resumed over HTTP."""

    name: ClassVar[str] = "responses-socket"

    def __init__(self, stage: Stage, ask: Ask) -> None:
        super().__init__(stage, ask)
        self._stack = AsyncExitStack()
        self._connection: Any = None

    async def send(self, url: str, body: dict[str, Any]) -> None:
        connecting = self.sdk(url).responses.connect(extra_headers=self.on_disconnect)
        self._connection = await self._stack.enter_async_context(connecting)
        await self._connection.response.create(**body)

    async def leave(self) -> None:
        await self._stack.aclose()
        self._connection = None
        await super().leave()

    async def next(self) -> Any:
        return await (self._connection.recv() if self._connection is not None else super().next())


async def _refused(request: Any) -> Any:
    try:
        return await request
    except openai.APIStatusError as error:
        raise Refused(error.status_code, json.dumps(error.body)) from None
