"""The fields of a start, from what a program passes to what a request carries."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import msgspec

from turnwire.client.records import Message, Part
from turnwire.client.tool_schema import Tool, tool

PartLike: TypeAlias = Part | Mapping[str, Any]
Input: TypeAlias = str | Sequence[PartLike]
"""Text, or a list of parts."""
StartMessage: TypeAlias = Message | Mapping[str, Any]
"""A message of a stateless turn. Only `role` and `parts` are used."""
ToolLike: TypeAlias = Tool | Mapping[str, Any] | Callable[..., Any]
"""A function, a `Tool`, or the dict of the protocol."""


def start_fields(
    input: Input | None = None,
    *,
    messages: Sequence[StartMessage] | None = None,
    tools: Sequence[ToolLike] | None = None,
    continue_: bool | None = None,
    **fields: Any,
) -> dict[str, Any]:
    """Return the fields that are given, as the protocol names them."""
    given = {name: value for name, value in fields.items() if value is not None}
    if input is not None:
        given["input"] = input if isinstance(input, str) else [_part(part) for part in input]
    if messages is not None:
        given["messages"] = [_message(message) for message in messages]
    if tools is not None:
        given["tools"] = [_tool(item) for item in tools]
    if continue_ is not None:
        given["continue"] = continue_
    return given


def _part(part: PartLike) -> Any:
    return msgspec.to_builtins(part) if isinstance(part, Part) else part


def _message(message: StartMessage) -> dict[str, Any]:
    if isinstance(message, Message):
        return {"role": message.role, "parts": [_part(part) for part in message.parts]}
    parts = message.get("parts", [])
    return {**message, "parts": [_part(part) for part in parts]}


def _tool(item: ToolLike) -> Any:
    if isinstance(item, Mapping):
        return item
    return (item if isinstance(item, Tool) else tool(item)).to_wire()
