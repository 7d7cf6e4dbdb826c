"""The stream of the AI SDK: our events as chunks of a UI message, as server-sent events or as frames of a socket."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import msgspec

from gateway.dialects.ai_sdk_parts import error_text, source_url, tool_input
from gateway.dialects.base import encode_json
from gateway.dialects.resets import SentAnswer
from gateway.dialects.stream import StreamTranslator
from gateway.protocol.errors import ApiError, ErrorBody
from gateway.protocol.events import (
    ServerEvent,
    TurnCancelled,
    TurnCompleted,
    TurnFailed,
    TurnPart,
    TurnReset,
    TurnStarted,
)
from providers.base import FinishReason, Usage

FINISH_REASONS: Final[dict[FinishReason, str]] = {
    "stop": "stop",
    "length": "length",
    "tool_calls": "tool-calls",
    "content_filter": "content-filter",
    "refusal": "content-filter",
}
TEXT_CHUNKS: Final = {"text": "text", "refusal": "text", "reasoning": "reasoning"}
"""The chunks of each kind of part that is streamed as text."""
BAD_INPUT: Final = "The model's arguments aren't JSON."

_encode_text = msgspec.json.Encoder().encode


class UiStream(StreamTranslator):
    """The chunks of one answer. `message_id` is the id of the UI message; by default, that of the turn.

    `earlier` are the chunks of the steps before this answer, for a client that gets the whole message again.
    """

    def __init__(self, message_id: str | None = None, earlier: Sequence[dict[str, Any]] = ()) -> None:
        super().__init__()
        self.message_id = message_id
        self.earlier = earlier
        self._model = ""
        self._has_begun = False
        self._heads: list[bytes] = []
        """For each part, its chunk up to the text; empty if it isn't sent."""
        self._ids: list[str] = []
        """The id of each part that is open; empty if it is closed, or isn't one that has to be closed."""
        self._reopened = 0
        self._kinds: list[str] = []
        self._calls: dict[int, TurnPart] = {}

    def chunk(self, encoded: bytes) -> bytes:
        """Return the frame of an encoded chunk."""
        return b"data: %b\n\n" % encoded

    def last_frame(self) -> bytes:
        """Return the frame after the last chunk."""
        return b"data: [DONE]\n\n"

    def _chunks(self, *chunks: dict[str, Any]) -> bytes:
        return b"".join([self.chunk(encode_json(chunk)) for chunk in chunks])

    def started(self, event: TurnStarted) -> bytes:
        """See `StreamTranslator`. The stream begins with the first part, so that an early failure has a status."""
        self.message_id = self.message_id or event.turn
        self._model = event.model
        return b""

    def _begin(self) -> bytes:
        if self._has_begun:
            return b""
        self._has_begun = True
        return self._chunks({"type": "start", "messageId": self.message_id}, *self.earlier, {"type": "start-step"})

    def part(self, event: TurnPart) -> bytes:
        """See `StreamTranslator`."""
        number, kind = len(self._heads), event.kind
        frames = self._begin()
        if kind != "tool_call":
            frames += self._close_all()
        self._kinds.append(kind)
        self._ids.append("")
        if kind in TEXT_CHUNKS and not event.redacted:
            self._heads.append(b"")
            return frames + self._open(number, str(number))
        if kind == "tool_call":
            self._calls[number] = event
            self._heads.append(
                b'{"type":"tool-input-delta","toolCallId":%b,"inputTextDelta":' % encode_json(event.call or "")
            )
            begun = {"type": "tool-input-start", "toolCallId": event.call or "", "toolName": event.name or ""}
            return frames + self._close_all() + self._chunks(begun)
        self._heads.append(b"")
        if kind == "citation" and event.url is not None:
            frames += self._chunks(source_url(f"{event.turn}-{number}", event.url, event.title))
        elif kind in {"image", "file"} and event.url is not None:
            frames += self._chunks({"type": "file", "mediaType": event.media_type or "", "url": event.url})
        return frames

    def _open(self, number: int, part_id: str) -> bytes:
        kind = TEXT_CHUNKS[self._kinds[number]]
        self._ids[number] = part_id
        self._heads[number] = b'{"type":"%b-delta","id":"%b","delta":' % (kind.encode(), part_id.encode())
        return self._chunks({"type": f"{kind}-start", "id": part_id})

    def _close_all(self) -> bytes:
        frames = b""
        for number, part_id in enumerate(self._ids):
            if part_id:
                self._ids[number] = ""
                frames += self._chunks({"type": f"{TEXT_CHUNKS[self._kinds[number]]}-end", "id": part_id})
        return frames

    def text(self, part: int, text: str) -> bytes:
        """See `StreamTranslator`."""
        head = self._heads[part]
        if not head:
            return b""
        if not self._ids[part] and part not in self._calls:
            # More text of a part that was closed: a UI message continues it as another part.
            self._reopened += 1
            opened = self._open(part, f"{part}.{self._reopened}")
            return opened + self.chunk(self._heads[part] + _encode_text(text) + b"}")
        return self.chunk(head + _encode_text(text) + b"}")

    def _inputs(self) -> bytes:
        """Return the chunks with the whole input of each tool call."""
        frames = b""
        for number, event in self._calls.items():
            arguments = "".join(self._sent.texts[number])
            call = {"toolCallId": event.call or "", "toolName": event.name or ""}
            given = tool_input(arguments)
            if given is None:
                frames += self._chunks({"type": "tool-input-error", **call, "input": arguments, "errorText": BAD_INPUT})
            else:
                frames += self._chunks({"type": "tool-input-available", **call, "input": given})
        return frames

    def completed(self, event: TurnCompleted) -> bytes:
        """See `StreamTranslator`."""
        frames = self._begin() + self._close_all() + self._inputs()
        return frames + self._finish(
            event.usage, {"type": "finish", "finishReason": FINISH_REASONS[event.finish_reason]}
        )

    def cancelled(self, event: TurnCancelled) -> bytes:
        """See `StreamTranslator`. The arguments of a tool call may be incomplete, so no tool is called."""
        frames = self._begin() + self._close_all()
        if event.by == "limit":
            return frames + self._finish(event.usage, {"type": "finish", "finishReason": "length"})
        reason = {"reason": event.reason} if isinstance(event.reason, str) else {}
        return frames + self._finish(event.usage, {"type": "abort", **reason})

    def _finish(self, usage: Usage | None, ending: dict[str, Any]) -> bytes:
        frames = self._chunks({"type": "finish-step"}) + self._usage(usage)
        return frames + self._chunks(ending) + self.last_frame()

    def _usage(self, usage: Usage | None) -> bytes:
        """Return the usage as a transient part, which the client's `onData` gets."""
        if usage is None:
            return b""
        data = {
            "model": self._model,
            "inputTokens": usage.input_tokens,
            "outputTokens": usage.output_tokens,
            "totalTokens": usage.input_tokens + usage.output_tokens,
        }
        if usage.reasoning_tokens is not None:
            data["reasoningTokens"] = usage.reasoning_tokens
        if usage.cache_read_tokens is not None:
            data["cachedInputTokens"] = usage.cache_read_tokens
        return self._chunks({"type": "data-usage", "data": data, "transient": True})

    def stop(self, error: ApiError) -> bytes:
        """See `StreamTranslator`. A client resumes by itself only after a broken connection, so a drain breaks it."""
        if error.code == "shutting_down":
            self.ended = self.is_cut = True
            return b""
        return super().stop(error)

    def failed(self, error: ErrorBody, event: TurnFailed | None) -> bytes:
        """See `StreamTranslator`."""
        return self._close_all() + self._chunks({"type": "error", "errorText": error_text(error)}) + self.last_frame()


class SocketUiStream(UiStream):
    """The frames of one answer on a socket, one in each line. Its clients can take back a step after a reset."""

    def __init__(self, request_id: str, message_id: str | None = None, earlier: Sequence[dict[str, Any]] = ()) -> None:
        super().__init__(message_id, earlier)
        self._head = b'{"type":"chunk","requestId":%b,"sequence":' % encode_json(request_id)
        self._end = encode_json({"type": "end", "requestId": request_id}) + b"\n"
        self._error = {"type": "error", "requestId": request_id}
        self._sequence = 0

    def chunk(self, encoded: bytes) -> bytes:
        """See `UiStream`."""
        number = self._sequence
        self._sequence += 1
        return b'%b%d,"chunk":%b}\n' % (self._head, number, encoded)

    def last_frame(self) -> bytes:
        """See `UiStream`."""
        return self._end

    def encode(self, event: ServerEvent) -> bytes:
        """See `StreamTranslator`."""
        if type(event) is TurnReset:
            self._sent = SentAnswer()
            self._heads, self._ids, self._kinds, self._calls = [], [], [], {}
            return self._chunks({"type": "reset-step"}) if self._has_begun else b""
        return super().encode(event)

    def failed(self, error: ErrorBody, event: TurnFailed | None) -> bytes:
        """See `StreamTranslator`."""
        if self._has_begun:
            return super().failed(error, event)
        return encode_json({**self._error, "errorText": error_text(error)}) + b"\n"

    def heartbeat(self) -> bytes:
        """Return nothing: the protocol has no frames for it. The transport pings the client."""
        return b""
