"""The stream of OpenAI Chat Completions: our events as chunks. Nothing but the text is encoded for each token."""

from __future__ import annotations

import time
from typing import Any, Final

import msgspec

from gateway.dialects.base import encode_json, encode_sse
from gateway.dialects.chat_completions_object import (
    FINISH_REASONS,
    citation_body,
    created_of,
    image_body,
    reason_of_cancelled,
    usage_body,
)
from gateway.dialects.openai_errors import error_object
from gateway.dialects.stream import StreamTranslator
from gateway.protocol.errors import ErrorBody
from gateway.protocol.events import TurnCancelled, TurnCompleted, TurnFailed, TurnPart, TurnStarted
from gateway.protocol.results import TurnView
from providers.base import Usage

FIELDS: Final = {"text": b'{"content":', "reasoning": b'{"reasoning_content":', "refusal": b'{"refusal":'}
"""The beginning of a delta for each kind of part that is streamed as text."""
DONE: Final = b"data: [DONE]\n\n"

_encode_text = msgspec.json.Encoder().encode


class ChatStream(StreamTranslator):
    """The chunks of one answer. With `with_usage`, the last one has the usage.

    With `one_call`, tool calls after the first are left out.
    """

    def __init__(self, *, with_usage: bool, with_ids: bool = False, one_call: bool = False) -> None:
        super().__init__(with_ids=with_ids)
        self._one_call = one_call
        self._with_usage = with_usage
        self._head: dict[str, Any] = {}
        self._chunk = b""
        """The beginning of every chunk, up to its `delta`."""
        self._end = b',"logprobs":null,"finish_reason":null}]'
        self._prefixes: list[bytes] = []
        """For each part, its chunk up to the text; empty if it isn't sent."""
        self._suffixes: list[bytes] = []
        self._calls = 0
        self._role = b'"role":"assistant",'

    def started(self, event: TurnStarted) -> bytes:
        """See `StreamTranslator`."""
        self._begin(event.turn, event.model, int(time.time()))
        return b""

    def resume(self, view: TurnView, epoch: int) -> None:
        """See `StreamTranslator`."""
        super().resume(view, epoch)
        self._begin(view.turn, view.model, created_of(view))
        self._role = b""

    def _begin(self, turn: str, model: str, created: int) -> None:
        head = {"id": turn, "object": "chat.completion.chunk", "created": created, "model": model}
        self._head = head
        self._chunk = b"data: " + encode_json(head)[:-1] + b',"choices":[{"index":0,"delta":'
        self._end += (b',"usage":null' if self._with_usage else b"") + b"}\n\n"

    def part(self, event: TurnPart) -> bytes:
        """See `StreamTranslator`."""
        if event.kind == "tool_call":
            return self._tool_call(event)
        field = FIELDS.get(event.kind)
        self._prefixes.append(b"" if field is None else self._chunk + field)
        self._suffixes.append(b"}" + self._end)
        if event.kind in {"image", "citation"} and event.url:
            return self._extra(event, event.url)
        if field is None or self._role == b"":
            return b""
        return self._first_chunk(b'{"role":"assistant","content":""}')

    def _extra(self, event: TurnPart, url: str) -> bytes:
        """Return the chunk with an image or a citation."""
        found = (
            {"images": [image_body(url)]}
            if event.kind == "image"
            else {"annotations": [citation_body(url, event.title)]}
        )
        return self._first_chunk(b"{" + self._role + encode_json(found)[1:])

    def _first_chunk(self, delta: bytes) -> bytes:
        """Return the chunk with this delta. No later chunk has the role."""
        self._role = b""
        return self._chunk + delta + self._end

    def _tool_call(self, event: TurnPart) -> bytes:
        index = self._calls
        if self._one_call and index:
            self._prefixes.append(b"")
            self._suffixes.append(b"")
            return b""
        self._calls += 1
        self._prefixes.append(self._chunk + b'{"tool_calls":[{"index":%d,"function":{"arguments":' % index)
        self._suffixes.append(b"}}]}" + self._end)
        call = {
            "index": index,
            "id": event.call,
            "type": "function",
            "function": {"name": event.name, "arguments": ""},
        }
        return self._first_chunk(b'{%b"tool_calls":[%b]}' % (self._role, encode_json(call)))

    def text(self, part: int, text: str) -> bytes:
        """See `StreamTranslator`."""
        prefix = self._prefixes[part]
        return prefix + _encode_text(text) + self._suffixes[part] if prefix else b""

    def completed(self, event: TurnCompleted) -> bytes:
        """See `StreamTranslator`."""
        return self._finish(FINISH_REASONS[event.finish_reason], event.usage)

    def cancelled(self, event: TurnCancelled) -> bytes:
        """See `StreamTranslator`."""
        return self._finish(reason_of_cancelled(event.by), event.usage)

    def _finish(self, reason: str, usage: Usage | None) -> bytes:
        delta = b'{"role":"assistant","content":""}' if self._role else b"{}"
        end = self._end.replace(b'"finish_reason":null', b'"finish_reason":"%b"' % reason.encode())
        frames = self._chunk + delta + end
        if self._with_usage:
            frames += encode_sse({**self._head, "choices": [], "usage": None if usage is None else usage_body(usage)})
        return frames + DONE

    def failed(self, error: ErrorBody, event: TurnFailed | None) -> bytes:
        """See `StreamTranslator`."""
        return encode_sse({"error": error_object(error)}) + DONE
