"""AG-UI: what a run starts, given the history that the gateway has. No I/O."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from msgspec import structs

from gateway.dialects.ag_ui_history import ThreadHistory, origin_metadata, origin_of, short_digest, snapshots
from gateway.dialects.ag_ui_messages import SPEAKERS, AgMessage, result_of, text_of, user_parts
from gateway.dialects.ag_ui_request import AgTool, RunInput, input_of, options_of
from gateway.dialects.ag_ui_stored_messages import user_message
from gateway.dialects.application_options import OPTION_NAMES, params_of, tool_choice_of
from gateway.dialects.base import Dialect, Shaped, checked, encode_json
from gateway.dialects.field_paths import with_input
from gateway.dialects.ids import conversation_id, own_id
from gateway.dialects.kept_history import TRANSCRIPT_CHARS_MAX, digest_of, transcript
from gateway.dialects.request_headers import TURN_HEADERS, Headers, on_disconnect, turn_id
from gateway.protocol.errors import ApiError, ErrorBody
from gateway.protocol.events import Message, TurnStarted
from gateway.protocol.requests import TurnStart
from gateway.protocol.views import with_url
from providers.base import Part, Tool, ToolCallPart, ToolResultPart


def run_of(body: bytes, headers: Headers) -> Run:
    """Return the run that a body and its headers ask for. Raises `ApiError`."""
    return Run(input_of(body), headers)


class Run:
    """The run that a client asks for, before the history is known: the conversation, the turn, and their options.

    `spoken` are the messages up to the last one of the user or a tool. `shows_answer`: an answer follows them, so that
    the run must exist already. `is_empty`: no message was sent, so that the client wants those that the gateway has.
    `begins_again`: `start` has found that the first message was edited, so that the context must be empty. Raises
    `ApiError`.
    """

    def __init__(self, request: RunInput, headers: Headers) -> None:
        for name, value in (("threadId", request.thread_id), ("runId", request.run_id)):
            if not value:
                raise ApiError("invalid_request", "The id is empty. Send one.", path=name)
        if request.resume:
            raise ApiError("unsupported", "No run here waits for `resume`. Leave it out.", path="resume")
        self.thread, self.run, self.parent_run = request.thread_id, request.run_id, request.parent_run_id
        self.conversation = conversation_id(request.thread_id)
        is_named = any(headers.get(name) for name in TURN_HEADERS)
        self.turn = turn_id(headers, "agui_") if is_named else own_id("agui_", request.run_id)
        self.sent = request.messages
        numbered = [(n, message) for n, message in enumerate(request.messages) if message.role in SPEAKERS]
        self.is_empty = not numbered
        self.shows_answer = bool(numbered) and numbered[-1][1].role == "assistant"
        while numbered and numbered[-1][1].role == "assistant":
            numbered.pop()
        self._numbers = [n for n, _ in numbered]
        self.spoken = [message for _, message in numbered]
        self.begins_again = False
        self.new_messages: list[AgMessage] = []
        self._input: list[tuple[int, Part]] = []
        """The parts of the input, each with the number of its message."""
        self._parts: dict[int, list[Part]] = {}
        options = options_of(request.forwarded_props)
        self._system = [*([options.system] if options.system else ()), *_system(request)]
        self._options = TurnStart(
            turn=self.turn,
            conversation=self.conversation,
            model=options.model,
            params=params_of(options),
            tools=None if request.tools is None else [_tool(tool) for tool in request.tools] or None,
            tool_choice=tool_choice_of(options, "forwardedProps.toolChoice"),
            on_busy="interrupt",
            on_disconnect=on_disconnect(headers, "continue"),
        )

    def nothing_to_answer(self) -> ApiError:
        """Return the error for messages that ask for nothing."""
        what = "There is no message to answer" if self.is_empty else "The last message is an answer"
        return ApiError(
            "invalid_request", f"{what}. Send a message of the user, or the results of tools.", path="messages"
        )

    def is_settled(self, history: ThreadHistory) -> bool:
        """Return whether older messages than those of `history` can't change the run, or what its client is given."""
        if history.input_of(self.turn) is not None:
            return True
        ids = {message.id for message in self.sent}
        last = next((stored.id for one in reversed(self.spoken) if (stored := _stored(history, one))), None)
        return last is not None and all(
            one.id in ids for one in history.shown(last) if one.role in {"user", "assistant"}
        )

    def start(self, history: ThreadHistory) -> TurnStart:
        """Return the start of the run, given the history. Raises `ApiError`."""
        if not self.spoken:
            raise self.nothing_to_answer()
        self.begins_again = False
        anchor = next((n for n in range(len(self.spoken) - 1, -1, -1) if self._is_stored(n, history)), None)
        first = self._first_without_anchor() if anchor is None else anchor + 1
        new = [n for n in range(first, len(self.spoken)) if self.spoken[n].role != "assistant"]
        self.new_messages = [self.spoken[n] for n in new]
        self._input = self._input_of(new, history)
        before = None if anchor is None else _stored(history, self.spoken[anchor])
        # If that message has no answer yet, an answer that the client shows after it is the one that runs now.
        end = len(self.spoken) if _is_being_answered(before, history) else 0
        given = {*new, *range(first, end)}
        made = structs.replace(self._options, system=self._system_of(given, history))
        if not new:
            assert before is not None
            return self._checked(structs.replace(made, parent=before.id))
        parent = self._parent(before, new, history)
        self._check_results(parent, history)
        parts = [part for _, part in self._input]
        spoken = [(self.spoken[n].id, self._parts_of(n)) for n in new if self.spoken[n].role == "user"]
        is_result = all(isinstance(part, ToolResultPart) for part in parts)
        return self._checked(
            structs.replace(
                made,
                input=parts,
                parent=parent,
                create=not history.exists,
                on_busy="parallel" if is_result else made.on_busy,
                metadata=origin_metadata(spoken, parts),
            )
        )

    def check_repeated(self, stored: Message, history: ThreadHistory) -> None:
        """Check that the run has the content of the run that is stored with its id. Raises `ApiError`."""
        if self.is_empty:
            return
        start = self.start(history.without_turn(self.turn))
        parts, origin = start.input_parts, origin_of(stored)
        is_same = parts == stored.parts if origin is None else origin.digest == digest_of(parts)
        if not is_same:
            raise ApiError(
                "conflict", "A run with this id was started with other messages. Send a new id.", path="runId"
            )
        self.new_messages, self._input = [], []

    def snapshots(self, history: ThreadHistory, started: TurnStarted) -> list[list[AgMessage]]:
        """Return the snapshots that come before the answer of a turn that has started, with what the client lacks."""
        given = started.input
        if given is None or not self.new_messages:
            return snapshots(history.shown(started.parent), self.sent, (), started.message)
        return snapshots(history.shown(given.parent), self.sent, self._new_as_stored(given.id), started.message)

    def all_snapshots(self, history: ThreadHistory, head: str | None, answer: str = "") -> list[list[AgMessage]]:
        """Return the branch that ends at `head`, and what only the client has. `answer`: the one in the branch, if any."""
        return snapshots(history.shown(head), self.sent, (), answer, always=True)

    def _new_as_stored(self, stored_input: str) -> list[AgMessage]:
        """Return the new messages, as they are stored in the message with this id."""
        parts = [with_url(stored_input, n, part) for n, (_, part) in enumerate(self._input)]
        by_message: dict[str, list[Part]] = {}
        for (n, _), part in zip(self._input, parts, strict=True):
            by_message.setdefault(self.spoken[n].id, []).append(part)
        return [
            user_message(one.id, by_message.get(one.id, ())) if one.role == "user" else one for one in self.new_messages
        ]

    def _is_stored(self, n: int, history: ThreadHistory) -> bool:
        message = self.spoken[n]
        stored = _stored(history, message)
        if stored is None or message.role == "assistant":
            return stored is not None
        if message.role == "tool":
            result = history.result(message.tool_call_id or "")
            return result is not None and result[1] == result_of(message)
        place = history.place(message.id)
        assert place is not None
        parts = self._parts_of(n)
        first, origin = place.first, place.origin
        return short_digest(parts) == origin.digest or parts == stored.parts[first : first + origin.parts]

    def _first_without_anchor(self) -> int:
        """Return the first message that is new if none is stored: the one after the last answer."""
        answers = [n for n, one in enumerate(self.spoken) if one.role == "assistant"]
        return answers[-1] + 1 if answers else 0

    def _parts_of(self, n: int) -> list[Part]:
        """Return the parts of a user's message. Raises `ApiError`."""
        if n not in self._parts:
            self._parts[n] = user_parts(self.spoken[n], f"messages[{self._numbers[n]}]")
        return self._parts[n]

    def _input_of(self, new: Sequence[int], history: ThreadHistory) -> list[tuple[int, Part]]:
        """Return the parts of the input: the results of tools come first. Raises `ApiError`."""
        results: list[tuple[int, Part]] = []
        parts: list[tuple[int, Part]] = []
        for n in new:
            message, path = self.spoken[n], f"messages[{self._numbers[n]}]"
            if message.role == "user":
                parts += [(n, part) for part in self._parts_of(n)]
                continue
            result = result_of(message)
            if history.message_with_call(result.call) is None:
                raise ApiError(
                    "invalid_request",
                    f"There is no tool call {result.call[:80]} in this thread. Send the result of a call of its last answer.",
                    path=f"{path}.toolCallId",
                )
            results.append((n, result))
        if new and not results and not parts:
            raise ApiError(
                "invalid_request",
                "The message has nothing that a model can be given. Send a text, an image or a document.",
                path=f"messages[{self._numbers[new[-1]]}].content",
            )
        return [*results, *parts]

    def _check_results(self, parent: str | None, history: ThreadHistory) -> None:
        """Check that the results of tools follow the answer that has the calls. Raises `ApiError`."""
        answer = None if parent is None else history.answer(parent)
        if answer is None:
            return
        calls = {part.call for part in answer.parts if isinstance(part, ToolCallPart)}
        for n, part in self._input:
            if isinstance(part, ToolResultPart) and part.call not in calls:
                raise ApiError(
                    "invalid_request",
                    f"The answer before this result has no tool call {part.call[:80]}. "
                    "Send a result before the next message of the user.",
                    path=f"messages[{self._numbers[n]}].toolCallId",
                )

    def _parent(self, before: Message | None, new: Sequence[int], history: ThreadHistory) -> str | None:
        """Return the message that the input follows; None for the newest one."""
        calls = [part.call for _, part in self._input if isinstance(part, ToolResultPart)]
        if before is None and calls:
            return history.message_with_call(calls[0])
        if before is not None and before.role == "assistant":
            return before.id
        if before is not None:
            if _is_being_answered(before, history):
                return None  # its answer becomes the newest message
            return (history.answer_below(before.id) or before).id
        for n in new:
            # Its id is known, but it has another content: the user has edited it.
            if (place := history.place(self.spoken[n].id)) is not None:
                self.begins_again = place.stored.parent is None
                return place.stored.parent
        return None

    def _system_of(self, given: set[int], history: ThreadHistory) -> str | None:
        """Return the system prompt, with the messages that are neither stored nor in `given`."""
        is_known = [_stored(history, one) is not None for one in self.spoken]
        # Messages before the first known one may be stored, but older than the history that was read.
        first = 0 if history.is_complete else next((n for n, known in enumerate(is_known) if known), len(is_known))
        unknown = [
            one
            for n, one in enumerate(self.spoken)
            if n >= first and not is_known[n] and n not in given and one.role != "tool"
        ]
        spoken = transcript([(one.role, text_of(one)) for one in unknown], TRANSCRIPT_CHARS_MAX)
        system = "\n\n".join([*self._system, *([spoken] if spoken else ())])
        # The context of an earlier run isn't that of this one.
        return system or ("" if history.is_of_ag_ui else None)

    def _checked(self, start: TurnStart) -> TurnStart:
        return checked(start, self.path)

    def path(self, ours: str) -> str:
        """Return the path of a field as the client names it."""
        names = {"conversation": "threadId", "turn": "runId", "system": "messages", "input": "messages"}
        if ours in names:
            return names[ours]
        if ours == "model" or ours.startswith(("params.", "tool_choice")):
            own = OPTION_NAMES.get(ours, ours.removeprefix("params."))
            return f"forwardedProps.{own.replace('tool_choice', 'toolChoice').replace('response_format', 'responseFormat')}"
        return with_input(
            ours, [f"messages[{self._numbers[n]}].content" for n, _ in self._input], "messages[0].content"
        )


def _stored(history: ThreadHistory, message: AgMessage) -> Message | None:
    """Return the stored message with the id of this one, or with the result of the same call."""
    if message.role == "assistant":
        return history.answer(message.id)
    if message.role == "tool":
        result = history.result(message.tool_call_id or "")
        return None if result is None else result[0]
    place = history.place(message.id)
    return None if place is None else place.stored


def _is_being_answered(message: Message | None, history: ThreadHistory) -> bool:
    """Return whether a message is the newest one, and has no answer yet."""
    return message is not None and message.role != "assistant" and history.messages[-1] is message


def _system(request: RunInput) -> list[str]:
    """Return the texts of the system, and what the application tells the model about itself."""
    texts = [text for one in request.messages if one.role in {"system", "developer"} and (text := text_of(one))]
    if request.context:
        items = [f"{item.description}:\n{item.value}" for item in request.context]
        texts.append("\n\n".join(["Context from the application:", *items]))
    if request.state not in (None, {}, [], ""):
        texts.append(f"State of the application, as JSON:\n{encode_json(request.state).decode()}")
    return texts


def _tool(tool: AgTool) -> Tool:
    return Tool(tool.name, tool.description, tool.parameters if isinstance(tool.parameters, dict) else {})


def error_event(error: ErrorBody) -> dict[str, Any]:
    """Return the event for an error."""
    body: dict[str, Any] = {"type": "RUN_ERROR", "message": error.message, "code": error.code}
    if error.path is not None:
        body["message"] += f" ({error.path})"
    if error.retry_after_ms is not None:
        body["metadata"] = {"retryAfterMs": error.retry_after_ms}
    return body


def refuse(error: ErrorBody, status: int) -> Shaped:
    """Return the answer of a refused or failed request."""
    return Shaped(status, encode_json(error_event(error)))


AG_UI: Final = Dialect("ag_ui", refuse)
"""The Agent User Interaction Protocol."""
