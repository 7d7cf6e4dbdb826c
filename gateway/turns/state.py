"""The life of a turn as one table, and the fold of its events into a message. Pure."""

#         started.running ┌─────────┐ first part  ┌───────────┐
#   accepting ───────────►│ running ├────────────►│ streaming │◄─┐ part, delta
#       │                 └──┬───▲──┘             └──┬────┬───┘──┘
#       │ started.queued     │   │ status.running    │    │ reset: back to running
#       │                 ┌──▼───┴──┐                │    ▼
#       └────────────────►│ queued  ├───────────► completed · cancelled · failed
#                         └─────────┘
#
# Every event moves the state by `TRANSITIONS`, or is refused. After an ending nothing is allowed (law 2). What
# makes a retry or a fallback legal is that no part was opened yet: `streaming` has no such row.

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal

from gateway.protocol.events import TurnDelta, TurnEvent, TurnPart, TurnReset, TurnStarted, TurnStatus
from gateway.protocol.results import TurnState
from providers.base import (
    CitationPart,
    FilePart,
    ImagePart,
    Part,
    ReasoningPart,
    RefusalPart,
    TextPart,
    ToolCallPart,
    ToolResultPart,
)

State = Literal["accepting", "queued", "running", "streaming", "completed", "cancelled", "failed"]
STATES: tuple[State, ...] = ("accepting", "queued", "running", "streaming", "completed", "cancelled", "failed")
ENDED: frozenset[State] = frozenset({"completed", "cancelled", "failed"})

_ANY_ENDING: dict[str, State] = {"cancelled": "cancelled", "failed": "failed"}

TRANSITIONS: dict[State, dict[str, State]] = {
    "accepting": {"started.running": "running", "started.queued": "queued"},
    "queued": {
        "status.queued": "queued",
        "status.running": "running",
        "reset": "queued",
        **_ANY_ENDING,
    },
    "running": {
        "status.running": "running",
        "status.retrying": "running",
        "status.fallback": "running",
        "status.waiting": "running",
        "status.trimmed": "running",
        "status.resumed": "running",
        "reset": "running",
        "part": "streaming",
        "completed": "completed",
        **_ANY_ENDING,
    },
    "streaming": {
        "status.trimmed": "streaming",
        "status.resumed": "streaming",
        "reset": "running",
        "part": "streaming",
        "delta": "streaming",
        "completed": "completed",
        **_ANY_ENDING,
    },
    "completed": {},
    "cancelled": {},
    "failed": {},
}


class IllegalTransition(Exception):
    """An event that may not happen in this state: a defect of the gateway, never of a client."""


def event_name(event: TurnEvent) -> str:
    """The row of `TRANSITIONS` that `event` belongs to."""
    if isinstance(event, TurnDelta):
        return "delta"
    if isinstance(event, TurnPart):
        return "part"
    if isinstance(event, TurnStarted):
        return f"started.{event.status}"
    if isinstance(event, TurnStatus):
        return f"status.{event.status}"
    if isinstance(event, TurnReset):
        return "reset"
    return type(event).__name__.removeprefix("Turn").lower()


def step(state: State, event: TurnEvent) -> State:
    """The state after `event`. Raises `IllegalTransition`."""
    name = event_name(event)
    after = TRANSITIONS[state].get(name)
    if after is None:
        raise IllegalTransition(f"{name} in state {state}")
    return after


def shown_status(state: State) -> TurnState:
    """The state in the words of the wire."""
    return "running" if state == "accepting" or state == "streaming" else state


def model_of(events: Sequence[TurnEvent], accepted: str) -> str:
    """The model that answers: the one that the turn was accepted for, unless it fell back."""
    for event in reversed(events):
        if isinstance(event, TurnReset):
            break
        if isinstance(event, TurnStatus) and event.model is not None:
            return event.model
    return accepted


def fold(events: Iterable[TurnEvent]) -> list[Part]:
    """The parts of the message that `events` add up to. A reset drops what came before it."""
    opened: list[TurnPart] = []
    texts: list[list[str]] = []
    signatures: list[list[str]] = []
    for event in events:
        if isinstance(event, TurnDelta):
            if event.text is not None:
                texts[event.part].append(event.text)
            if event.signature is not None:
                signatures[event.part].append(event.signature)
        elif isinstance(event, TurnPart):
            opened.append(event)
            texts.append([])
            signatures.append([])
        elif isinstance(event, TurnReset):
            opened, texts, signatures = [], [], []
    return [
        _part(start, "".join(text), "".join(signature) or None)
        for start, text, signature in zip(opened, texts, signatures, strict=True)
    ]


def _part(start: TurnPart, text: str, signature: str | None) -> Part:
    match start.kind:
        case "text":
            return TextPart(text, signature)
        case "reasoning":
            return ReasoningPart(text, start.redacted, signature)
        case "refusal":
            return RefusalPart(text, signature)
        case "tool_call":
            return ToolCallPart(start.call or "", start.name or "", text, signature)
        case "tool_result":
            return ToolResultPart(start.call or "", text, signature=signature)
        case "citation":
            return CitationPart(start.url, start.title, start.text or text or None, signature)
        case "image":
            media = start.media_type or "image/png"
            return ImagePart(media, url=start.url, name=start.name, signature=signature)
        case "file":
            media = start.media_type or "application/octet-stream"
            return FilePart(media, url=start.url, name=start.name, signature=signature)
