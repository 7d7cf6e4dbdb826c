"""A thread of AG-UI, with the messages of its client and those that the gateway has stored."""

from __future__ import annotations

import json
from typing import Any

import pytest

from gateway.dialects.ag_ui import Run, run_of
from gateway.dialects.ag_ui_history import ThreadHistory, origin_metadata
from gateway.protocol.errors import ApiError
from gateway.protocol.events import Message
from providers.base import Part, ReasoningPart, Role, TextPart, ToolCallPart, ToolResultPart

NEW = ThreadHistory(exists=False)
CALL = ToolCallPart("c1", "add", "{}")


def user(text: Any, message_id: str = "u1") -> dict[str, Any]:
    return {"id": message_id, "role": "user", "content": text}


def assistant(message_id: str, text: str = "") -> dict[str, Any]:
    return {"id": message_id, "role": "assistant", "content": text}


def tool(call: str, text: Any, message_id: str = "x1", **fields: Any) -> dict[str, Any]:
    return {"id": message_id, "role": "tool", "toolCallId": call, "content": text, **fields}


def run(*messages: dict[str, Any], headers: dict[str, str] | None = None, **fields: Any) -> Run:
    whole = {"threadId": "thread", "runId": "run", "messages": list(messages), **fields}
    return run_of(json.dumps(whole).encode(), headers or {})


def stored(message_id: str, role: Role, parent: str | None, turn: str, *parts: Part, ids: Any = ()) -> Message:
    """Return a stored message. `ids`: of the user's messages that it was made from, one for each part."""
    spoken = [part for part in parts if not isinstance(part, ToolResultPart)]
    metadata = origin_metadata([(one, [part]) for one, part in zip(ids, spoken, strict=True)], parts) if ids else None
    return Message(
        id=message_id, role=role, parts=list(parts), parent=parent, created_at="", turn=turn, metadata=metadata
    )


HISTORY = ThreadHistory(
    [
        stored("m1", "user", None, "t1", TextPart("One"), ids=["u1"]),
        stored("m2", "assistant", "m1", "t1", ReasoningPart("Hm"), TextPart("First."), CALL),
        stored("m3", "tool", "m2", "t2", ToolResultPart("c1", "3")),
        stored("m4", "assistant", "m3", "t2", TextPart("Three.")),
        stored("m5", "user", "m4", "t3", TextPart("Two"), TextPart("and"), ids=["u2", "u3"]),
        stored("m6", "assistant", "m5", "t3", TextPart("Second.")),
    ]
)
TALK = [user("One"), assistant("m2", "First."), tool("c1", "3"), assistant("m4"), user("Two", "u2"), user("and", "u3")]


def refused(*messages: dict[str, Any], history: ThreadHistory = NEW, **fields: Any) -> ApiError:
    with pytest.raises(ApiError) as error:
        run(*messages, **fields).start(history)
    return error.value
