"""The one place that makes a context fit for the dialect in which it is sent. `rules.py` holds the rules as data."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, NamedTuple

from msgspec import structs

from providers.base import (
    ChatMessage,
    ChatRequest,
    CitationPart,
    Part,
    ProviderError,
    ReasoningPart,
    RefusalPart,
    Role,
    TextPart,
    Tool,
    ToolCallPart,
    ToolResultPart,
)
from providers.fit.calls import legal_name, match_results, object_arguments
from providers.fit.ids import CallIdMaker
from providers.fit.rules import Rules, rules_of
from providers.route import Route

NO_ANSWER: Final = "(No answer.)"
"""The answer to a message that has none, where roles have to alternate."""
BEGIN: Final = "(Begin.)"
"""The message of the user before an answer that begins a context, where the user has to begin."""
CONTINUE: Final = "Continue."
"""The message of the user after an answer that ends a context, where the user has to have the last word."""


def fit(request: ChatRequest, route: Route) -> ChatRequest:
    """Return `request` with a context that the dialect of `route` takes.

    Each tool call is directly followed by its result, has an id of the dialect's form that is unique in the context, a
    legal name, and an object as arguments. Empty messages are left out, and successive messages of one role are merged.
    A model without tools gets the calls and results as text. The same context gives the same messages, and a context
    that has grown begins with the same messages as before, so that the provider's prompt cache can be used.

    Raise `ProviderError` if nothing is left to send.
    """
    if route.dialect == "demo":
        return request
    rules = rules_of(route)
    messages = _Pairing(request, route, rules).messages()
    system = request.system
    if rules.strict_roles:
        system, messages = _system_first(system, messages)
    messages = _merged(messages, rules)
    if rules.strict_roles:
        messages = _in_turn(messages, ends_with_user=not request.partial_answer)
    if not messages:
        raise ProviderError(
            "invalid_request", "The conversation has nothing that the model can be sent. Send `input` with some text."
        )
    fitted = structs.replace(request, messages=tuple(messages), system=system)
    return _with_called_tools(fitted) if rules.results_in_user and not request.tools else fitted


class _Segment(NamedTuple):
    """The parts of an answer up to a tool result in it, and the results of the calls among these parts."""

    parts: list[Part]
    results: list[Part]


class _Pairing:
    """The conversion of a context into messages in which each tool call is directly followed by its result."""

    def __init__(self, request: ChatRequest, route: Route, rules: Rules) -> None:
        self._messages = request.messages
        self._has_tools = "tools" in route.features
        self._foreign = rules.foreign_signature
        self._ids = CallIdMaker(rules.call_ids)
        self._result_of = match_results(request.messages)

    def messages(self) -> list[ChatMessage]:
        """Return the messages. Each has content, and results are alone in a message of the role `tool`."""
        found: list[ChatMessage] = []
        for number, message in enumerate(self._messages):
            if message.role != "assistant":
                role: Role = "system" if message.role == "system" else "user"
                found += _message(role, _sent_by_user(message.parts))
                continue
            for parts, results in self._segments(number, message.parts):
                found += _message("assistant", _sent_by_assistant([self._without_foreign(part) for part in parts]))
                found += _message("tool" if self._has_tools else "user", results)
        return found

    def _without_foreign(self, part: Part) -> Part:
        """Return `part` without a signature of another dialect: a client's `messages` don't say which model made it."""
        if isinstance(part, ReasoningPart) and part.signature and any(mark in part.signature for mark in self._foreign):
            return structs.replace(part, signature=None)
        return part

    def _segments(self, number: int, parts: Iterable[Part]) -> list[_Segment]:
        segments = [_Segment([], [])]
        result_seen = False
        for index, part in enumerate(parts):
            if isinstance(part, ToolResultPart):
                # The provider ran this tool itself: what the model said after the result goes into the next message.
                result_seen = bool(segments[-1].results)
                continue
            if result_seen:
                segments.append(_Segment([], []))
                result_seen = False
            if not isinstance(part, ToolCallPart):
                segments[-1].parts.append(part)
            elif (place := self._result_of.get((number, index))) is not None:
                result = self._messages[place[0]].parts[place[1]]
                assert isinstance(result, ToolResultPart)
                self._add_pair(segments[-1], part, result)
        return segments

    def _add_pair(self, segment: _Segment, call: ToolCallPart, result: ToolResultPart) -> None:
        name, arguments = legal_name(call.name), object_arguments(call.arguments)
        if not self._has_tools:
            segment.parts.append(TextPart(f"[Called the tool {name} with {arguments}]\n\n"))
            segment.results.append(TextPart(f"[Result of the tool {name}] {result.output}"))
            return
        call_id = self._ids.next(call.call, name)
        segment.parts.append(structs.replace(call, call=call_id, name=name, arguments=arguments))
        segment.results.append(structs.replace(result, call=call_id))


def _message(role: Role, parts: list[Part]) -> list[ChatMessage]:
    return [ChatMessage(role, tuple(parts))] if parts else []


def _sent_by_user(parts: Iterable[Part]) -> list[Part]:
    """Return the parts that a message of the user, or a system prompt, can have. Citations become text."""
    kept: list[Part] = []
    for part in parts:
        if isinstance(part, CitationPart):
            part = TextPart(part.as_text())
        if not isinstance(part, ReasoningPart | ToolCallPart | ToolResultPart) and not _is_blank(part):
            kept.append(part)
    return kept


def _sent_by_assistant(parts: list[Part]) -> list[Part]:
    """Return the parts of an answer that can be sent, which may be none.

    Reasoning at the end is left out: it was cut off, and dialects refuse it there. So are citations and blank text at
    the end, and all blank text if there is no other text. A refusal becomes text, because few dialects have it.
    """
    parts = [TextPart(part.text) if isinstance(part, RefusalPart) else part for part in parts]
    if all(_is_blank(part) for part in parts if isinstance(part, TextPart)):
        parts = [part for part in parts if not _is_blank(part)]
    end = len(parts)
    while end and (isinstance(parts[end - 1], ReasoningPart | CitationPart) or _is_blank(parts[end - 1])):
        end -= 1
    return parts[:end]


def _is_blank(part: Part) -> bool:
    return isinstance(part, TextPart | RefusalPart) and not part.text.strip()


def _system_first(system: str | None, messages: list[ChatMessage]) -> tuple[str | None, list[ChatMessage]]:
    """Return the system prompt, to which the text of all system messages is added, and the other messages.

    If there are no others, the last system message becomes a message of the user.
    """
    others = [message for message in messages if message.role != "system"]
    prompts = [message for message in messages if message.role == "system"]
    if prompts and not others:
        others = [structs.replace(prompts.pop(), role="user")]
    texts = [part.text for message in prompts for part in message.parts if isinstance(part, TextPart | RefusalPart)]
    return "\n\n".join([system, *texts] if system else texts) or None, others


def _merged(messages: list[ChatMessage], rules: Rules) -> list[ChatMessage]:
    """Merge successive messages of one role, such as two of the user if the turn between them was stopped."""
    merged: list[tuple[Role, list[Part]]] = []
    for message in messages:
        role: Role = "user" if message.role == "tool" and rules.results_in_user else message.role
        if not merged or merged[-1][0] != role or role == "system":
            merged.append((role, list(message.parts)))
            continue
        parts = merged[-1][1]
        if role == "assistant":
            parts.append(TextPart("\n\n"))
        parts += message.parts
    return [ChatMessage(role, tuple(parts)) for role, parts in merged]


def _in_turn(messages: list[ChatMessage], *, ends_with_user: bool) -> list[ChatMessage]:
    """Add what is missing so that the user begins, and answers and messages of the user alternate.

    If `ends_with_user`, the last message isn't an answer either.
    """
    turns: list[ChatMessage] = []
    for message in messages:
        before = turns[-1].role if turns else "system"
        if message.role == "assistant" and before == "system":
            turns.append(ChatMessage("user", (TextPart(BEGIN),)))
        elif message.role == "user" and before == "tool":
            turns.append(ChatMessage("assistant", (TextPart(NO_ANSWER),)))
        turns.append(message)
    if turns and turns[-1].role == "assistant" and ends_with_user:
        turns.append(ChatMessage("user", (TextPart(CONTINUE),)))
    return turns


def _with_called_tools(request: ChatRequest) -> ChatRequest:
    """Define the tools of earlier calls in `request`, which has no tools: Anthropic refuses calls without definitions.

    The model may not call these tools.
    """
    names = {part.name for message in request.messages for part in message.parts if isinstance(part, ToolCallPart)}
    if not names:
        return request
    return structs.replace(request, tools=tuple(Tool(name) for name in sorted(names)), tool_choice="none")
