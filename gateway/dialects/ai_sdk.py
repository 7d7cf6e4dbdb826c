"""The AI SDK's chat: what a request starts, given the history that the gateway has. No I/O."""

from __future__ import annotations

import re
from typing import Any, Final

from msgspec import structs

from gateway.dialects.ai_sdk_history import METADATA, ChatHistory, Origin
from gateway.dialects.ai_sdk_messages import (
    UiMessage,
    check_messages,
    last_results,
    spoken_texts,
    system_of,
    user_parts,
    whole_context,
)
from gateway.dialects.ai_sdk_parts import error_text
from gateway.dialects.ai_sdk_request import UiOptions, UiRequest, UiTool
from gateway.dialects.application_options import OPTION_NAMES, params_of, tool_choice_of
from gateway.dialects.base import Dialect, Shaped, checked, unsupported
from gateway.dialects.field_paths import with_messages
from gateway.dialects.ids import conversation_id, own_id
from gateway.dialects.kept_history import TRANSCRIPT_CHARS_MAX, digest_of, transcript
from gateway.dialects.request_headers import TURN_HEADERS, Headers, on_disconnect, turn_id
from gateway.protocol.errors import ApiError, ErrorBody
from gateway.protocol.requests import TurnStart
from providers.base import Part, Tool

ERROR_HEADER: Final = "turnwire-error"
ERROR_TYPE: Final = "text/plain; charset=utf-8"
REGENERATE: Final = "regenerate-message"
_TOOL_PATH = re.compile(r"^(tools\[\d{1,9}\])\.parameters")


class Submission:
    """A request for an answer in a chat, before the history is known: its messages, options and conversation.

    `message_id` is the id of the UI message that the answer belongs to, if it exists already. `begins_again`: `start`
    has found that the client shows nothing before the message that it sends, so that the context must be empty. Raises
    `ApiError`.
    """

    def __init__(self, request: UiRequest, headers: Headers) -> None:
        messages = _messages(request)
        check_messages(messages)
        self.is_whole = request.messages is not None
        self.is_regenerate = request.trigger == REGENERATE
        self.replaced = request.message_id
        if self.is_regenerate and messages and messages[-1].role == "assistant":
            self.replaced = self.replaced or messages[-1].id
            messages = messages[:-1]
        self.headers = headers
        self.chat = request.id
        self.conversation = None if request.id is None else conversation_id(request.id)
        self.spoken = [message for message in messages if message.role != "system"]
        self._numbers = [n for n, message in enumerate(messages) if message.role != "system"]
        self._converted: list[int] = []
        self.begins_again = False
        self.last = self.spoken[-1] if self.spoken else None
        systems = [*([request.system] if request.system else ()), *system_of(messages)]
        self.system = "\n\n".join(systems) or None
        self.is_answer = self.last is not None and self.last.role == "assistant"
        self.message_id = self.last.id or None if self.last is not None and self.is_answer else None
        self.options = TurnStart(
            model=request.model,
            params=params_of(request),
            tools=_tools(request),
            tool_choice=tool_choice_of(request, "toolChoice"),
            on_disconnect=on_disconnect(headers, "continue"),
        )
        if self.last is None and not (self.is_regenerate and self.chat is not None):
            raise ApiError("invalid_request", "There is no message to answer. Send `messages`.", path="messages")

    @property
    def needs_history(self) -> bool:
        """Whether the gateway has the history."""
        return self.conversation is not None

    def stateless(self) -> TurnStart:
        """Return the start of a request without the id of a chat. Raises `ApiError`."""
        messages, self._converted = whole_context(self.spoken)
        turn = turn_id(self.headers, "ui_")
        return self.checked(structs.replace(self.options, turn=turn, messages=messages, system=self.system))

    def start(self, history: ChatHistory) -> TurnStart:
        """Return the start, given the history. Its `parent` is where the client's messages end. Raises `ApiError`."""
        self.begins_again = False
        if self.is_regenerate:
            made = self._regenerate(history)
        elif self.is_answer:
            made = self._tool_results(history)
        else:
            made = self._user_message(history)
        return self.checked(made)

    def _made(self, turn: str, **fields: Any) -> TurnStart:
        sent = any(self.headers.get(name) for name in TURN_HEADERS)
        fields = {"on_busy": "interrupt", "system": self.system, **fields}
        return structs.replace(
            self.options, turn=turn_id(self.headers, "ui_") if sent else turn, conversation=self.conversation, **fields
        )

    def _user_message(self, history: ChatHistory) -> TurnStart:
        last = self.last
        assert last is not None
        parts = self._user_parts(last)
        digest = digest_of(parts)
        before = self.spoken[:-1]
        turn = own_id("ui_", self.chat or "", last.id)
        if not last.id:
            turn = turn_id({}, "ui_")
        elif self.replaced is not None:
            # An edit keeps the id of the message. It joins the same edit only until that one has an answer.
            versions = history.answers_to(last.id)
            turn = own_id("ui_", self.chat or "", last.id, digest, str(versions))
        parent = history.last_answer(self.answer_before()) if self.is_whole else None
        self.begins_again = self.is_whole and parent is None and all(one.role != "user" for one in before)
        if parent is None and self.replaced is not None and (edited := history.user_message(last.id)) is not None:
            parent, self.begins_again = edited.parent, edited.parent is None
        if parent is not None and history.awaits_step(parent):
            parent = None  # the step that runs becomes the newest message
        results = () if parent is None or not before else history.unanswered(parent, last_results(before[-1]))
        origin = {METADATA: structs.asdict(Origin(last.id, digest))}
        made = self._made(turn, input=[*results, *parts], parent=parent, metadata=origin)
        if not history.exists:
            known = transcript(spoken_texts(before), TRANSCRIPT_CHARS_MAX)
            system = "\n\n".join([text for text in (self.system, known) if text]) or None
            return structs.replace(made, create=True, system=system)
        return made

    def is_settled(self, history: ChatHistory) -> bool:
        """Return whether older messages than those of `history` can't change what the request starts."""
        if self.is_regenerate:
            asked = None if self.last is None else self.last.id
            return (history.user_message(asked) if asked else history.question_of(self.replaced)) is not None
        if self.is_answer and self.last is not None:
            results = last_results(self.last)
            return not results or history.message_with_call(results[0].call) is not None
        if self.replaced is not None and self.last is not None:
            return history.user_message(self.last.id) is not None
        return not self.is_whole or history.last_answer(self.answer_before()) is not None

    def answer_before(self) -> str | None:
        """Return the id of the answer before the last message."""
        return next((message.id for message in reversed(self.spoken[:-1]) if message.role == "assistant"), None)

    def _regenerate(self, history: ChatHistory) -> TurnStart:
        asked = None if self.last is None else self.last.id
        found = history.user_message(asked) if asked else history.question_of(self.replaced)
        if found is None:
            if self.last is None:
                raise ApiError("not_found", "The message to regenerate isn't stored. Send its user's message.")
            self.replaced = self.last.id
            return self._user_message(history)
        turn = own_id("ui_", self.chat or "", REGENERATE, found.id, str(history.answers_below(found.id)))
        return self._made(turn, parent=found.id)

    def _tool_results(self, history: ChatHistory) -> TurnStart:
        last = self.last
        assert last is not None
        results = last_results(last)
        if not results:
            raise ApiError(
                "invalid_request",
                "The last message is an answer without results of tools. Send a user's message, or regenerate it.",
                path=f"messages[{self._numbers[-1]}].parts",
            )
        calls = [result.call for result in results]
        parent = history.message_with_call(calls[0])
        if parent is None:
            raise ApiError(
                "invalid_request",
                f"There is no tool call {calls[0][:80]} in this chat. Send the result of a call of its last answer.",
                path=f"messages[{self._numbers[-1]}].parts",
            )
        turn = own_id("ui_", self.chat or "", last.id, *calls)
        origin = {METADATA: structs.asdict(Origin(last.id, digest_of(results)))}
        return self._made(turn, input=list(results), parent=parent, metadata=origin, on_busy="parallel")

    def _user_parts(self, message: UiMessage) -> list[Part]:
        path = f"messages[{self._numbers[-1]}]" if self.is_whole else "message"
        parts = user_parts(message, path)
        if not parts:
            raise ApiError("invalid_request", "The message is empty. Send a text or a file.", path=f"{path}.parts")
        return parts

    def checked(self, start: TurnStart) -> TurnStart:
        """Return the start after the checks that decoding it from a frame would make. Raises `ApiError`."""
        return checked(start, self.path)

    def path(self, ours: str) -> str:
        """Return the path of a field as the client names it."""
        if ours in OPTION_NAMES:
            return OPTION_NAMES[ours]
        last = f"messages[{self._numbers[-1]}]" if self.is_whole and self._numbers else "message"

        ours = with_messages(ours.removeprefix("params."), self._converted)
        if ours.startswith("input"):
            ours = f"{last}.parts{ours.removeprefix('input')}"
        if ours == "turn":
            return f"{last}.id"
        ours = ours.replace("tool_choice", "toolChoice")
        return _TOOL_PATH.sub(r"\1.inputSchema", ours)


def check_repeated(stored: Origin | None, start: TurnStart) -> None:
    """Check that a request has the content of the message that is stored with its id. Raises `ApiError`."""
    sent = (start.metadata or {}).get(METADATA, {}).get("digest")
    if stored is not None and sent is not None and stored.digest != sent:
        raise ApiError(
            "conflict", "A message with this id was sent before, with other content. To edit it, send its `messageId`."
        )


def _messages(request: UiRequest) -> list[UiMessage]:
    if request.messages is not None:
        return request.messages
    return [] if request.message is None else [request.message]


def _tools(request: UiOptions) -> list[Tool] | None:
    tools = request.tools
    if isinstance(tools, dict):
        return [_tool(name, tool) for name, tool in tools.items()]
    return None if tools is None else [_tool(tool.name, tool, n) for n, tool in enumerate(tools)]


def _tool(name: str, tool: UiTool, n: int = 0) -> Tool:
    if tool.type not in {"function", "dynamic"}:
        raise unsupported(f"tools[{n}].type", "Only tools of the type `function` are.")
    nested = tool.function or {}
    schema = tool.input_schema or tool.parameters or nested.get("parameters") or {}
    described = tool.description or nested.get("description") or ""
    if isinstance(schema, dict) and isinstance(wrapped := schema.get("jsonSchema"), dict):
        schema = wrapped  # what the SDK's `jsonSchema` makes
    return Tool(name or str(nested.get("name", "")), str(described), schema if isinstance(schema, dict) else {})


def refuse(error: ErrorBody, status: int) -> Shaped:
    """Return the answer of a refused or failed request: clients show its text to the user."""
    return Shaped(status, error_text(error).encode(), {ERROR_HEADER: error.code}, media_type=ERROR_TYPE)


AI_SDK: Final = Dialect("ai_sdk", refuse, ERROR_TYPE)
"""The AI SDK's UI message protocol."""
