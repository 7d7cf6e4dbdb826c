"""Read the tool calls in deltas and messages of a chat stream. This module does no I/O."""

from __future__ import annotations

from collections.abc import Collection

from providers.call_arguments import as_text
from providers.openai.chat_schema import Delta, Function, ToolCall, calls_of, is_hosted_type, signature_of
from providers.openai.tool_calls import LEGACY, ToolCallAssembler


class ChatCalls:
    """The reader of one stream's calls, which adds them to `calls`.

    `tools` are the names of the client's tools, or None if they aren't known.
    """

    def __init__(self, calls: ToolCallAssembler, tools: Collection[str] | None) -> None:
        self._calls = calls
        self._tools = tools

    def add(self, delta: Delta) -> None:
        """Add the pieces of calls in `delta`."""
        for call in calls_of(delta):
            function = call.function or Function()
            self._calls.add(
                call.index,
                call.id or "",
                function.name or "",
                as_text(function.arguments),
                signature_of(call),
                hosted=self._is_hosted(call),
            )
        # Some hosts give a call in both fields.
        if (function_call := delta.function_call) is not None and not delta.tool_calls:
            self._calls.add(LEGACY, "", function_call.name or "", as_text(function_call.arguments), "")

    def complete(self, message: Delta) -> None:
        """Add what the calls of a whole message have, and the pieces before it didn't."""
        for position, call in enumerate(call for call in calls_of(message) if not self._is_hosted(call)):
            function = call.function or Function()
            self._calls.fill(
                position, call.id or "", function.name or "", as_text(function.arguments), signature_of(call)
            )
        if message.function_call is not None and not self._calls:
            self.add(Delta(function_call=message.function_call))

    def _is_hosted(self, call: ToolCall) -> bool:
        """Return whether the provider runs the call itself, as Kimi does with `$web_search`."""
        name = call.function.name if call.function else None
        if self._tools is not None and name in self._tools:
            return False
        return (name or "").startswith("$") or is_hosted_type(call.type)
