"""The events of a turn whose log is gone, made from what is stored of it, so that it can be streamed again."""

from __future__ import annotations

from collections.abc import Iterator

from msgspec import UNSET

from gateway.dialects.responses_object import created_ms_of
from gateway.dialects.stream import StreamTranslator, part_begun
from gateway.protocol.events import (
    ServerEvent,
    Timing,
    TurnCancelled,
    TurnCompleted,
    TurnDelta,
    TurnFailed,
    TurnPart,
    TurnStarted,
)
from gateway.protocol.results import TurnView
from providers.base import ToolCallPart


def replay(view: TurnView, translator: StreamTranslator) -> bytes:
    """Return the whole stream of an ended turn."""
    return b"".join([translator.encode(event) for event in _events(view)])


def _events(view: TurnView) -> Iterator[ServerEvent]:
    turn, message = view.turn, None if view.message is UNSET else view.message
    yield TurnStarted(
        turn=turn,
        seq=1,
        epoch=created_ms_of(view),
        status="running",
        conversation=view.conversation,
        model=view.model,
        input=None,
        message="" if message is None else message.id,
        parent=None if message is None else message.parent,
    )
    for n, part in enumerate([] if message is None else message.parts):
        started: TurnPart = part_begun(part, n)
        yield started
        text = part.arguments if isinstance(part, ToolCallPart) else getattr(part, "text", None)
        if text and started.kind != "citation":
            yield TurnDelta(turn, 0, n, text=text)
        if part.signature:
            yield TurnDelta(turn, 0, n, signature=part.signature)
    yield _ending(view)


def _ending(view: TurnView) -> TurnCompleted | TurnCancelled | TurnFailed:
    message = None if view.message is UNSET else view.message
    usage = None if view.usage is UNSET else view.usage
    timing = Timing(0, 0, 0) if view.timing is UNSET else view.timing
    name = "" if message is None else message.id
    if view.error is not UNSET:
        return TurnFailed(turn=view.turn, seq=0, error=view.error, usage=usage, cost=None, timing=timing, message=name)
    if view.status == "cancelled":
        by = (message and message.by) or "client"
        return TurnCancelled(turn=view.turn, seq=0, by=by, usage=usage, cost=None, timing=timing, message=name)
    reason = "stop" if view.finish_reason is UNSET else view.finish_reason
    return TurnCompleted(
        turn=view.turn, seq=0, finish_reason=reason, usage=usage, cost=None, timing=timing, message=name
    )
