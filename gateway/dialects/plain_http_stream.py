"""The streams of plain HTTP: `{"content", "finished"}` as server-sent events, or as lines of JSON. No I/O."""

from __future__ import annotations

from typing import Any, ClassVar, Final, NamedTuple

from gateway.dialects.base import encode_json
from gateway.dialects.plain_http_fields import cost_number
from gateway.dialects.stream import StreamTranslator
from gateway.protocol.errors import ApiError, ErrorBody
from gateway.protocol.events import Ending, ServerEvent, TurnCancelled, TurnCompleted, TurnFailed, TurnPart, TurnStarted
from gateway.protocol.results import TurnView
from providers.base import Usage

NDJSON: Final = "application/x-ndjson"
SHOWN: Final = frozenset({"text", "refusal"})
"""The kinds of parts whose text is the content of an answer."""


class Names(NamedTuple):
    """The names of the fields in the last frame. `tokens` are those of the usage; without `cost`, the frame has no cost."""

    session: str
    message: str
    reason: str
    tokens: tuple[str, str, str]
    cost: str | None = None


CAMEL: Final = Names("sessionId", "messageId", "finishReason", ("promptTokens", "completionTokens", "totalTokens"))
SNAKE: Final = Names(
    "conversation_id",
    "message_id",
    "finish_reason",
    ("prompt_tokens", "completion_tokens", "total_tokens"),
    "cost_usd",
)


class ContentStream(StreamTranslator):
    """The server-sent events of one answer. The last one has `finished`, and the ids and the usage of the answer."""

    head: ClassVar[bytes] = b'data: {"content":'
    end: ClassVar[bytes] = b"}\n\n"

    def __init__(self, names: Names = SNAKE, *, with_ids: bool = False) -> None:
        super().__init__(with_ids=with_ids)
        self._names = names
        self._shown: list[bool] = []
        self._model = ""
        self._conversation: str | None = None

    def started(self, event: TurnStarted) -> bytes:
        """See `StreamTranslator`."""
        self._model, self._conversation = event.model, event.conversation
        return b""

    def resume(self, view: TurnView, epoch: int) -> None:
        """See `StreamTranslator`."""
        super().resume(view, epoch)
        self._model, self._conversation = view.model, view.conversation

    def part(self, event: TurnPart) -> bytes:
        """See `StreamTranslator`."""
        self._shown.append(event.kind in SHOWN)
        return b""

    def text(self, part: int, text: str) -> bytes:
        """See `StreamTranslator`."""
        return b'%b%b,"finished":false%b' % (self.head, encode_json(text), self.end) if self._shown[part] else b""

    def completed(self, event: TurnCompleted) -> bytes:
        """See `StreamTranslator`."""
        return self._finish(event, event.finish_reason)

    def cancelled(self, event: TurnCancelled) -> bytes:
        """See `StreamTranslator`."""
        return self._finish(event, "length" if event.by == "limit" else "cancelled")

    def failed(self, error: ErrorBody, event: TurnFailed | None) -> bytes:
        """See `StreamTranslator`."""
        return self._last({"error": error})

    def _finish(self, event: Ending, reason: str) -> bytes:
        names = self._names
        fields: dict[str, Any] = {} if self._conversation is None else {names.session: self._conversation}
        fields |= {names.message: event.turn, "model": self._model, "usage": _usage_numbers(event.usage, names.tokens)}
        if names.cost is not None:
            fields[names.cost] = cost_number(event.cost)
        return self._last({**fields, names.reason: reason})

    def _last(self, fields: dict[str, Any]) -> bytes:
        return b'%b"","finished":true,%b%b' % (self.head, encode_json(fields)[1:-1], self.end)


class FollowedStream(ContentStream):
    """The stream for an EventSource. The id of each event is the turn and the position after the event.

    If the stream stops before the turn's ending, nothing is sent, because an EventSource connects again.
    """

    def _with_id(self, event: ServerEvent, frames: bytes) -> bytes:
        seq = getattr(event, "seq", None)
        if seq is None:
            return frames
        return b"id: %b/%d-%d\n%b" % (event.turn.encode(), self._epoch, seq, frames)  # type: ignore[union-attr]

    def stop(self, error: ApiError) -> bytes:
        """See `StreamTranslator`."""
        return b""


class ContentLines(ContentStream):
    """The lines of JSON of one answer."""

    media_type = NDJSON
    head = b'{"content":'
    end = b"}\n"

    def heartbeat(self) -> bytes:
        """See `StreamTranslator`."""
        return b'{"content":"","finished":false}\n'


def error_line(error: ErrorBody) -> bytes:
    """Return the last line of an answer that has failed."""
    return encode_json({"content": "", "finished": True, "error": error}) + b"\n"


def _usage_numbers(usage: Usage | None, names: tuple[str, str, str]) -> dict[str, int] | None:
    """Return token counts, or None if they aren't known. `names` are those of the input, the output and the total."""
    if usage is None:
        return None
    counts = (usage.input_tokens, usage.output_tokens, usage.input_tokens + usage.output_tokens)
    return dict(zip(names, counts, strict=True))
