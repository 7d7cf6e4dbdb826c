"""The fields that the answers of plain HTTP share: text, ids, usage, cost and finish reason. No I/O."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from msgspec import UNSET, Struct

from gateway.protocol.events import Cost, Message
from gateway.protocol.results import TurnView
from providers.base import Part, RefusalPart, TextPart


class Done(Struct, frozen=True):
    """The request succeeded."""

    message: str
    status: Literal["success"] = "success"


def content_of(parts: Iterable[Part]) -> str:
    """Return the text of an answer or a message, without its reasoning, tool calls and files."""
    return "".join([part.text for part in parts if isinstance(part, TextPart | RefusalPart)])


def id_of(message: Message) -> str:
    """Return the id of a message as clients of plain HTTP know it: an answer has the id of its turn."""
    return message.turn if message.role == "assistant" and message.turn is not None else message.id


def cost_number(cost: Cost | None) -> float | None:
    """Return a cost in US dollars, or None if it isn't known."""
    return None if cost is None else float(cost.amount)


def finish_reason_of(view: TurnView) -> str:
    """Return the finish reason of a turn that has ended without an error."""
    if view.finish_reason is not UNSET:
        return view.finish_reason
    return "length" if view.message is not UNSET and view.message.by == "limit" else "cancelled"


def without_tool_results(messages: Iterable[Message]) -> list[Message]:
    """Return the messages without those that only have the results of tools."""
    return [message for message in messages if message.role != "tool"]
