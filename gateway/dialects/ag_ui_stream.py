"""The stream of AG-UI: our events as those of a run. Nothing but the text is encoded for each token.

One message of the assistant has the whole text of an answer, and its tool calls. Each piece of reasoning is a message of
its own. What is open at a position follows from the parts that have begun before it, so a stream can begin there.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import msgspec
from msgspec import UNSET

from gateway.dialects.ag_ui import error_event
from gateway.dialects.ag_ui_messages import AgMessage
from gateway.dialects.ag_ui_stored_messages import reasoning_id
from gateway.dialects.base import encode_json, encode_sse
from gateway.dialects.stream import StreamTranslator
from gateway.protocol.errors import ApiError, ErrorBody
from gateway.protocol.events import (
    Message,
    TurnCancelled,
    TurnCompleted,
    TurnFailed,
    TurnPart,
    TurnStarted,
    TurnStatus,
)
from gateway.protocol.results import TurnView
from providers.base import ToolCallPart, Usage

PROTOCOL_VERSION: Final = "1.0"
COUNT_MAX: Final = 2**53 - 1

_encode_text = msgspec.json.Encoder().encode


class RunStream(StreamTranslator):
    """The events of one run. `snapshots` come before the answer: they have the messages of the thread that the client lacks."""

    def __init__(self, thread: str, run: str, parent_run: str | None = None) -> None:
        super().__init__(with_ids=True)
        self.thread, self.run, self.parent_run = thread, run, parent_run
        self.snapshots: Sequence[Sequence[AgMessage]] = ()
        self._has_begun = False
        self._message = ""
        self._model = ""
        self._heads: list[bytes] = []
        """For each part, its event up to the text; empty if it isn't sent."""
        self._brackets: list[tuple[bytes, bytes]] = []
        """For each part, the events that open and close it. They are empty if it isn't closed before the end."""
        self._open: tuple[bytes, bytes] = (b"", b"")
        self._calls: dict[int, str] = {}

    # The beginning.

    def started(self, event: TurnStarted) -> bytes:
        """See `StreamTranslator`. The stream begins with the first part, so that an early failure has a status."""
        self._message, self._model = event.message, event.model
        return b""

    def resume(self, view: TurnView, epoch: int) -> None:
        """See `StreamTranslator`."""
        super().resume(view, epoch)
        self._has_begun = True
        self._message = "" if view.message is UNSET else view.message.id
        self._model = view.model

    def status(self, event: TurnStatus) -> bytes:
        """See `StreamTranslator`."""
        self._model = event.model or self._model
        return b""

    def _begin(self) -> bytes:
        if self._has_begun:
            return b""
        self._has_begun = True
        return self.beginning()

    def beginning(self) -> bytes:
        """Return the events before the answer."""
        parent = {} if self.parent_run is None else {"parentRunId": self.parent_run}
        head = {"type": "RUN_STARTED", **self._ids(), "protocolVersion": PROTOCOL_VERSION, **parent}
        told = [{"type": "MESSAGES_SNAPSHOT", "messages": messages} for messages in self.snapshots]
        return b"".join([encode_sse(event) for event in (head, *told)])

    def _ids(self) -> dict[str, str]:
        return {"threadId": self.thread, "runId": self.run}

    # The answer.

    def part(self, event: TurnPart) -> bytes:
        """See `StreamTranslator`."""
        number, kind, frames = len(self._heads), event.kind, self._begin()
        if kind in {"text", "refusal"}:
            message = encode_json(self._message)
            opening = encode_sse({"type": "TEXT_MESSAGE_START", "messageId": self._message, "role": "assistant"})
            self._add(
                b'{"type":"TEXT_MESSAGE_CONTENT","messageId":%b,"delta":' % message,
                opening,
                encode_sse({"type": "TEXT_MESSAGE_END", "messageId": self._message}),
            )
            return frames + self._switch(number)
        if kind == "reasoning" and not event.redacted:
            self._add_reasoning(reasoning_id(self._message, number))
            return frames + self._switch(number)
        if kind == "tool_call":
            call = event.call or ""
            if call in self._calls.values():
                frames += self._end_call(call)  # the call's id isn't new: the same one is opened again
            self._calls[number] = call
            self._add(b'{"type":"TOOL_CALL_ARGS","toolCallId":%b,"delta":' % encode_json(call))
            begun = {"toolCallId": call, "toolCallName": event.name or "", "parentMessageId": self._message}
            return frames + self._close() + encode_sse({"type": "TOOL_CALL_START", **begun})
        self._heads.append(b"")
        self._brackets.append((b"", b""))
        if kind not in {"image", "file", "citation"} or event.url is None:
            return frames
        value: dict[str, Any] = {"messageId": self._message, "url": event.url}
        if kind == "citation":
            value |= {} if event.title is None else {"title": event.title}
        else:
            value["mimeType"] = event.media_type or ""
        return frames + encode_sse({"type": "CUSTOM", "name": kind, "value": value})

    def _add(self, head: bytes, opening: bytes = b"", closing: bytes = b"") -> None:
        self._heads.append(b"data: " + head)
        self._brackets.append((opening, closing))

    def _add_reasoning(self, message: str) -> None:
        def event(kind: str, **fields: str) -> bytes:
            return encode_sse({"type": f"REASONING_{kind}", "messageId": message, **fields})

        self._add(
            b'{"type":"REASONING_MESSAGE_CONTENT","messageId":%b,"delta":' % encode_json(message),
            event("START") + event("MESSAGE_START", role="reasoning"),
            event("MESSAGE_END") + event("END"),
        )

    def _switch(self, number: int) -> bytes:
        """Return the events that close what is open, and open a part."""
        bracket = self._brackets[number]
        if bracket == self._open:
            return b""
        frames = self._close() + bracket[0]
        self._open = bracket
        return frames

    def _close(self) -> bytes:
        frames = self._open[1]
        self._open = (b"", b"")
        return frames

    def text(self, part: int, text: str) -> bytes:
        """See `StreamTranslator`. More text of a message that is closed opens it for this text alone."""
        head = self._heads[part]
        if not head:
            return b""
        frame = head + _encode_text(text) + b"}\n\n"
        bracket = self._brackets[part]
        if bracket == self._open or part in self._calls:
            return frame
        return bracket[0] + frame + bracket[1]

    # The end.

    def _close_all(self) -> bytes:
        if self._known is not None:
            self._catch_up(len(self._known))
        return self._begin() + self._close() + b"".join(map(self._end_call, dict.fromkeys(self._calls.values())))

    def _end_call(self, call: str) -> bytes:
        return encode_sse({"type": "TOOL_CALL_END", "toolCallId": call})

    def completed(self, event: TurnCompleted) -> bytes:
        """See `StreamTranslator`."""
        frames = self._close_all()
        ending = success(list(dict.fromkeys(self._calls.values())))
        return frames + self.finish(ending, event.usage, {"finishReason": event.finish_reason})

    def cancelled(self, event: TurnCancelled) -> bytes:
        """See `StreamTranslator`."""
        reason = {"reason": event.reason} if isinstance(event.reason, str) else {}
        return self._close_all() + self.finish({"type": "cancelled"}, event.usage, {"by": event.by, **reason})

    def finish(self, outcome: dict[str, Any], usage: Usage | None, metadata: dict[str, Any]) -> bytes:
        """Return the last event of a run that has not failed, with this `outcome` and the event's own `metadata`."""
        return encode_sse(
            {
                "type": "RUN_FINISHED",
                **self._ids(),
                "outcome": outcome,
                **({"metadata": metadata} if metadata else {}),
                **self._usage(usage),
            }
        )

    def stored(self, answer: Message | None) -> bytes:
        """Return the whole stream of a run whose events are no longer kept, or for a client that only asks for the thread.

        `answer`: the stored answer of the run, which is in `snapshots`.
        """
        frames = self.beginning()
        if answer is None:
            return frames + self.finish(success(()), None, {})
        self._model = answer.model or ""
        if answer.error is not None:
            return frames + self.failed(answer.error, None)
        if answer.ended == "cancelled":
            return frames + self.finish({"type": "cancelled"}, answer.usage, {"by": answer.by or "client"})
        calls = [part.call for part in answer.parts if isinstance(part, ToolCallPart)]
        return frames + self.finish(success(calls), answer.usage, {"finishReason": answer.finish_reason or "stop"})

    def _usage(self, usage: Usage | None) -> dict[str, Any]:
        return {} if usage is None else {"usage": [usage_body(usage, self._model)]}

    def failed(self, error: ErrorBody, event: TurnFailed | None) -> bytes:
        """See `StreamTranslator`."""
        return encode_sse({**error_event(error), **self._usage(None if event is None else event.usage)})

    def stop(self, error: ApiError) -> bytes:
        """See `StreamTranslator`. At a drain, the run goes on elsewhere, so the stream breaks off without a failure."""
        if error.code == "shutting_down":
            self.ended = self.is_cut = True
            return b""
        return super().stop(error)


def success(calls: Sequence[str]) -> dict[str, Any]:
    """Return the outcome of a completed run that waits for the results of these calls."""
    return {"type": "success", **({"pendingToolCallIds": list(calls)} if calls else {})}


def usage_body(usage: Usage, model: str) -> dict[str, Any]:
    """Return usage in AG-UI's shape."""
    counts = {
        "inputTokens": usage.input_tokens,
        "outputTokens": usage.output_tokens,
        "totalTokens": usage.input_tokens + usage.output_tokens,
        "reasoningTokens": usage.reasoning_tokens,
        "cachedInputTokens": usage.cache_read_tokens,
        "cacheWriteInputTokens": usage.cache_write_tokens,
    }
    known = {name: min(count, COUNT_MAX) for name, count in counts.items() if count is not None}
    return {**({"model": model} if model else {}), **known}
