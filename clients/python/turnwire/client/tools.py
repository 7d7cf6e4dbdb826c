"""The loop that answers the model's tool calls."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from turnwire.client.abort import AbortSignal
from turnwire.client.errors import ToolsFailed, TurnwireError
from turnwire.client.fields import Input, ToolLike
from turnwire.client.records import Message, Part
from turnwire.client.tool_schema import Tool, tool

if TYPE_CHECKING:
    from turnwire.client.gateway import Gateway
    from turnwire.client.turn import Turn

__all__ = ["Tool", "run_tools", "tool"]


async def run_tools(
    gateway: Gateway,
    input: Input | None,
    *,
    tools: Sequence[ToolLike],
    signal: AbortSignal | None,
    max_rounds: int,
    on_turn: Callable[[Turn], None] | None,
    fields: Mapping[str, Any],
) -> Message:
    """See `Gateway.run`."""
    known = {item.name: item for item in map(_as_tool, tools)}
    following: dict[str, Any] = dict(fields)
    for _ in range(max_rounds):
        turn = gateway.start(input, tools=list(known.values()), signal=signal, **following)
        if on_turn is not None:
            on_turn(turn)
        message = await turn
        calls = message.tool_calls
        if message.status != "completed" or not calls:
            return message
        results = await _answers(calls, known)
        for once in ("turn", "create", "continue_", "tool_choice"):
            following.pop(once, None)
        if "messages" in following:
            following["messages"] = [*following["messages"], message, Message(role="tool", parts=results)]
        else:
            # The same conversation, whether the gateway has created it or the start has named it.
            input = results
            following |= {"conversation": message.conversation, "parent": message.id}
    failure = ToolsFailed(
        f"The model called tools in {max_rounds} turns in a row. Pass a larger max_rounds, or tools that answer it better."
    )
    failure.partial = message
    raise failure


def _as_tool(item: ToolLike) -> Tool:
    if isinstance(item, Tool):
        return item
    if isinstance(item, Mapping):
        raise TurnwireError(
            f"The tool {item.get('name')} has no function that run could call. Pass a function or a Tool.",
            code="invalid_tool",
        )
    return tool(item)


async def _answers(calls: Sequence[Part], known: Mapping[str, Tool]) -> list[Part]:
    """Call the functions at the same time, and return their results in the order of the calls."""
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(_answer(call, known.get(call.name or ""))) for call in calls]
    return [task.result() for task in tasks]


async def _answer(call: Part, called: Tool | None) -> Part:
    try:
        return Part(kind="tool_result", call=call.call, output=await _output(call, called))
    except Exception as error:  # whatever fails is an answer: the model may try again
        return Part(kind="tool_result", call=call.call, output=f"{type(error).__name__}: {error}", error=True)


async def _output(call: Part, called: Tool | None) -> str:
    if called is None or called.function is None:
        raise LookupError(f"There is no tool {call.name!r}.")
    text = call.arguments or "{}"
    if called.arguments is None:
        arguments = msgspec.json.decode(text, type=dict[str, Any])
    else:
        checked = msgspec.json.decode(text, type=called.arguments)
        arguments = {name: getattr(checked, name) for name in called.arguments.__struct_fields__}
    output = called.function(**arguments)
    if inspect.isawaitable(output):
        output = await output
    return output if isinstance(output, str) else msgspec.json.encode(output).decode()
