"""The stream of OpenAI Responses: our events as its events. Nothing but the text is encoded for each token."""

from __future__ import annotations

from typing import Any, Final

from msgspec import Raw, Struct

from gateway.dialects.responses_frames import ResponsesFrames, encode_text
from gateway.dialects.responses_object import (
    ITEM_TYPES,
    Object,
    annotation_object,
    call_item,
    image_item,
    item_id,
    message_item,
    outcome,
    reasoning_item,
    refusal_content,
    response_object,
    text_content,
)
from gateway.dialects.stream import StreamTranslator
from gateway.protocol.errors import ErrorBody
from gateway.protocol.events import TurnCancelled, TurnCompleted, TurnFailed, TurnPart, TurnStarted, TurnStatus
from providers.base import FinishReason, PartKind, Usage

DELTAS: Final[dict[PartKind, str]] = {
    "text": "response.output_text.delta",
    "refusal": "response.refusal.delta",
    "reasoning": "response.reasoning_summary_text.delta",
    "tool_call": "response.function_call_arguments.delta",
}


class _Item(Struct, gc=False):
    """An output item. `parts` are the numbers of its parts, without citations.

    `pieces` is the number of pieces that its text and its signature had when it was closed.
    """

    kind: str
    index: int
    id: str
    parts: list[int]
    is_open: bool = True
    pieces: int = 0
    shown: Any = None


class ResponsesStream(StreamTranslator):
    """The events of one response.

    `settings`: see `response_object`. Events up to the number `after` are left out. If `is_eager`, the first event isn't
    held back until there is more to say. On a socket, each event is a line of JSON, with the `lane` if there is one.
    """

    sends_signatures = True

    def __init__(
        self,
        settings: Object,
        *,
        after: int = -1,
        is_eager: bool = False,
        on_socket: bool = False,
        lane: str | None = None,
    ) -> None:
        super().__init__()
        self._settings = settings
        self._one_call = settings.get("parallel_tool_calls") is False
        self._frames = ResponsesFrames(after=after, on_socket=on_socket, lane=lane)
        self._is_eager = is_eager
        self._on_socket = on_socket
        self._started: TurnStarted | None = None
        self._created_ms = 0
        self._held = b""
        self._is_running = False
        self._items: list[_Item] = []
        self._item_of: list[_Item | None] = []
        """The item of each part; None if the part isn't shown, or is a citation."""
        self._parts: list[TurnPart] = []
        self._annotations: dict[int, list[Object]] = {}
        self._chars: list[int] = []
        self._encodings: dict[int, tuple[int, Raw]] = {}
        """For parts that have ended, the number of pieces of their text, and the text as JSON."""
        self._deltas: list[tuple[bytes, bytes] | None] = []
        """The beginning of the deltas of each part; None if it isn't shown."""

    def _response(
        self,
        status: str,
        *,
        output: list[Any] | None = None,
        error: ErrorBody | None = None,
        incomplete: str | None = None,
        usage: Usage | None = None,
        total_ms: int | None = None,
    ) -> Object:
        started = self._started
        assert started is not None, "the first event of a turn comes first"
        found = response_object(
            started.turn,
            started.model,
            self._created_ms // 1000,
            {"store": started.conversation is not None, **self._settings},
            status=status,
            output=output or [],
            completed=None if total_ms is None else (self._created_ms + total_ms) // 1000,
            error=error,
            incomplete=incomplete,
            usage=usage,
        )
        return {"response": found}

    # The beginning.

    def started(self, event: TurnStarted) -> bytes:
        """See `StreamTranslator`. After a reset, the event may come again."""
        if self._started is not None:
            return b""
        self._started = event
        self._created_ms = event.epoch
        if event.status == "queued":
            response = self._response("queued")
            frames = self._frames.frame("response.created", response) + self._frames.frame("response.queued", response)
        else:
            self._is_running = True
            response = self._response("in_progress")
            frames = self._frames.frame("response.created", response) + self._frames.frame(
                "response.in_progress", response
            )
        if self._is_eager:
            return frames
        self._held = frames
        return b""

    def status(self, event: TurnStatus) -> bytes:
        """See `StreamTranslator`."""
        if event.status in {"queued", "waiting"}:
            return self._begin() if event.status == "waiting" else self._release()
        return self._begin() if event.status == "running" and not self._is_running else b""

    def _release(self) -> bytes:
        held, self._held = self._held, b""
        return held

    def _begin(self) -> bytes:
        """Return the frames that come before any content."""
        held = self._release()
        if self._is_running:
            return held
        self._is_running = True
        return held + self._frames.frame("response.in_progress", self._response("in_progress"))

    # The output.

    def part(self, event: TurnPart) -> bytes:
        """See `StreamTranslator`."""
        number, kind = len(self._parts), ITEM_TYPES.get(event.kind)
        self._parts.append(event)
        self._item_of.append(None)
        self._deltas.append(None)
        self._chars.append(0)
        if self._one_call and kind == "function_call" and any(item.kind == kind for item in self._items):
            kind = None  # the client asked for one call at a time
        if kind is None:
            return self._begin()
        if event.kind == "citation":
            return self._begin() + self._cite(event)
        frames = [self._begin()]
        last = self._items[-1] if self._items else None
        if last is not None and last.is_open and last.kind == kind == "message":
            item = last
            frames.append(self._content_done(item))
        else:
            if last is not None and not (last.kind == kind == "function_call"):
                frames.append(self._close_all("completed"))
            index = len(self._items)
            item = _Item(kind, index, item_id(event.turn or self._turn, kind, index), [])
            self._items.append(item)
            added = self._shown(item, "in_progress")
            frames.append(self._frames.frame("response.output_item.added", {"output_index": index, "item": added}))
        item.parts.append(number)
        self._item_of[number] = item
        if kind == "image_generation_call":
            return b"".join([*frames, self._close_all("completed")])
        frames.append(self._content_added(item))
        self._deltas[number] = self._delta_head(item, event.kind)
        return b"".join(frames)

    @property
    def _turn(self) -> str:
        return "" if self._started is None else self._started.turn

    def _place(self, item: _Item) -> Object:
        """Return the fields that say where the newest part of an item is."""
        place: Object = {"item_id": item.id, "output_index": item.index}
        if item.kind == "message":
            place["content_index"] = len(item.parts) - 1
        elif item.kind == "reasoning":
            place["summary_index"] = 0
        return place

    def _delta_head(self, item: _Item, kind: PartKind) -> tuple[bytes, bytes]:
        more: Object = {"logprobs": []} if kind == "text" else {}
        return self._frames.delta_head(DELTAS[kind], {**self._place(item), **more})

    def _content_added(self, item: _Item) -> bytes:
        if item.kind == "function_call":
            return b""
        kind = "content_part" if item.kind == "message" else "reasoning_summary_part"
        return self._frames.frame(
            f"response.{kind}.added", {**self._place(item), "part": self._content(item.parts[-1], b'""')}
        )

    def text(self, part: int, text: str) -> bytes:
        """See `StreamTranslator`."""
        head = self._deltas[part]
        if head is None:
            return b""
        self._chars[part] += len(text)
        return self._frames.delta(head, text)

    def _cite(self, event: TurnPart) -> bytes:
        item = self._items[-1] if self._items else None
        if item is None or not item.is_open or item.kind != "message" or event.url is None:
            return b""
        part = item.parts[-1]
        if self._parts[part].kind != "text":
            return b""
        annotation = annotation_object(event.url, event.title, self._chars[part])
        found = self._annotations.setdefault(part, [])
        found.append(annotation)
        fields = {**self._place(item), "annotation_index": len(found) - 1, "annotation": annotation}
        return self._frames.frame("response.output_text.annotation.added", fields)

    # The ends of items.

    def _encoded(self, part: int) -> Raw:
        """Return the text of a part as JSON. It is encoded again only if it has grown."""
        pieces = len(self._sent.texts[part])
        known = self._encodings.get(part)
        if known is None or known[0] != pieces:
            known = self._encodings[part] = (pieces, Raw(encode_text("".join(self._sent.texts[part]))))
        return known[1]

    def _content(self, part: int, text: Any) -> Object:
        """Return a part of a message or of reasoning. `text` is JSON."""
        found: Any = text if isinstance(text, Raw) else Raw(text)
        kind = self._parts[part].kind
        if kind == "text":
            return text_content(found, self._annotations.get(part, []))
        return refusal_content(found) if kind == "refusal" else {"type": "summary_text", "text": found}

    def _content_done(self, item: _Item) -> bytes:
        """Return the frames that end the newest part of an item."""
        if item.kind == "image_generation_call":
            return b""
        part, place = item.parts[-1], self._place(item)
        text, kind = self._encoded(part), self._parts[part].kind
        if kind == "tool_call":
            return self._frames.frame("response.function_call_arguments.done", {**place, "arguments": text})
        if kind == "reasoning":
            done = self._frames.frame("response.reasoning_summary_text.done", {**place, "text": text})
            ended = "response.reasoning_summary_part.done"
        else:
            is_text = kind == "text"
            fields = {**place, "text": text, "logprobs": []} if is_text else {**place, "refusal": text}
            done = self._frames.frame(f"response.{'output_text' if is_text else 'refusal'}.done", fields)
            ended = "response.content_part.done"
        return done + self._frames.frame(ended, {**place, "part": self._content(part, text)})

    def _shown(self, item: _Item, status: str) -> Object:
        """Return an item as it is now."""
        if item.kind == "image_generation_call":
            begun = self._parts[-1 if not item.parts else item.parts[0]]
            return image_item(item.id, begun.media_type, None, begun.url)
        if item.kind == "message":
            content = [self._content(part, self._encoded(part)) for part in item.parts]
            return message_item(item.id, content, status)
        part = item.parts[0] if item.parts else len(self._parts) - 1
        text: Any = self._encoded(part) if part < len(self._sent.texts) else ""
        if item.kind == "function_call":
            begun = self._parts[part]
            return call_item(item.id, begun.call or "", begun.name or "", text, status)
        signature = "".join(self._sent.signatures[part]) if part < len(self._sent.signatures) else ""
        shown = text if item.parts and self._sent.texts[part] else ""
        return reasoning_item(item.id, shown, signature or None)

    def _close_all(self, status: str) -> bytes:
        """Return the frames that end all items that are open."""
        frames = []
        for item in self._items:
            if item.is_open:
                item.is_open = False
                frames.append(self._content_done(item))
                item.shown, item.pieces = self._shown(item, status), self._pieces(item)
                done = {"output_index": item.index, "item": item.shown}
                frames.append(self._frames.frame("response.output_item.done", done))
        return b"".join(frames)

    def _pieces(self, item: _Item) -> int:
        return sum(len(self._sent.texts[part]) + len(self._sent.signatures[part]) for part in item.parts)

    def _output(self, status: str) -> list[Any]:
        """Return all items, each as it was when it ended, unless text was added to it later."""
        return [
            item.shown if item.pieces == self._pieces(item) else self._shown(item, item.shown.get("status", status))
            for item in self._items
        ]

    @property
    def ending_bytes(self) -> int:
        """See `StreamTranslator`. The last frames repeat the text: at the end of its part, of its item, and in the response."""
        return 4 * sum(self._chars)

    # The end.

    def completed(self, event: TurnCompleted) -> bytes:
        """See `StreamTranslator`."""
        return self._end(event, reason=event.finish_reason)

    def cancelled(self, event: TurnCancelled) -> bytes:
        """See `StreamTranslator`. OpenAI has no event for it, so it is `response.incomplete` with the status "cancelled"."""
        return self._end(event)

    def failed(self, error: ErrorBody, event: TurnFailed | None) -> bytes:
        """See `StreamTranslator`."""
        if event is not None:
            return self._end(event, error=error)
        return self._frames.error(error)

    def _end(
        self,
        event: TurnCompleted | TurnCancelled | TurnFailed,
        *,
        reason: FinishReason | None = None,
        error: ErrorBody | None = None,
    ) -> bytes:
        by = event.by if isinstance(event, TurnCancelled) else None
        status, incomplete = outcome(reason, by, failed=error is not None)
        item_status = "completed" if status == "completed" else "incomplete"
        frames = self._begin() + self._close_all(item_status)
        response = self._response(
            status,
            output=self._output(item_status),
            error=error,
            incomplete=incomplete,
            usage=event.usage,
            total_ms=event.timing.total_ms if status == "completed" else None,
        )
        name = "incomplete" if status == "cancelled" else status
        frames += self._frames.frame(f"response.{name}", response)
        return frames + self._frames.last

    def heartbeat(self) -> bytes:
        """See `StreamTranslator`."""
        return b"" if self._on_socket else self._release() + b": heartbeat\n\n"
