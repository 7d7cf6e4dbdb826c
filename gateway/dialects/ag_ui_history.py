"""The history of a thread of AG-UI: which stored messages are which of the client's, and snapshots of them. No I/O.

An answer has the id of its stored message, and its reasoning an id that begins with it. The messages of the user keep
the client's ids.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Final, NamedTuple

from msgspec import Meta, Struct, ValidationError, convert, structs, to_builtins

from gateway.dialects.ag_ui_messages import AgMessage, data_chars
from gateway.dialects.ag_ui_stored_messages import answer_messages, is_of_answer, tool_message, user_message
from gateway.dialects.ids import own_id
from gateway.dialects.kept_history import KeptHistory, digest_of
from gateway.protocol.events import Message
from providers.base import Part, ToolCallPart, ToolResultPart

METADATA: Final = "ag_ui"
"""The key in the metadata of an input message under which its origin is stored."""
ID_CHARS_MAX: Final = 128
ECHOED_DATA_MAX: Final = 1_000_000
"""How many characters of data in the client's own messages may be sent back to it. Clients don't read long events."""
MESSAGES_MAX: Final = 50
"""How many messages of the client an input message remembers. If it has more, the first ones are remembered as one."""


class UserMessage(Struct, frozen=True, array_like=True):
    """A user's message from which an input was made: its id, the number of its parts, and their digest."""

    id: str
    parts: Annotated[int, Meta(ge=0)]
    digest: str


class Origin(Struct, frozen=True):
    """The client's messages from which an input was made, and the digest of the whole input."""

    messages: list[UserMessage]
    digest: str


class Place(NamedTuple):
    """The place of a user's message: it is `stored[first:first + parts]`."""

    stored: Message
    first: int
    origin: UserMessage


def stored_id(message_id: str) -> str:
    """Return the id under which a message of the client is remembered: a digest if it is long."""
    return message_id if len(message_id) <= ID_CHARS_MAX else own_id("u_", message_id)


def origin_metadata(messages: Sequence[tuple[str, Sequence[Part]]], parts: Sequence[Part]) -> dict[str, Any]:
    """Return the metadata of an input that has these parts. `messages`: the user's messages in it, as ids and parts."""
    cut = max(len(messages) - MESSAGES_MAX + 1, 1)
    joined = [(messages[cut - 1][0], [part for _, some in messages[:cut] for part in some])] if messages else []
    entries = [UserMessage(stored_id(one), len(some), short_digest(some)) for one, some in [*joined, *messages[cut:]]]
    return {METADATA: to_builtins(Origin(entries, digest_of(parts)))}


def short_digest(parts: Sequence[Part]) -> str:
    """Return the digest by which the content of a user's message is recognized."""
    return digest_of(parts)[:16]


def origin_of(message: Message) -> Origin | None:
    """Return the origin of an input message, or None if another client has sent it."""
    try:
        return convert((message.metadata or {}).get(METADATA), Origin)
    except ValidationError:
        return None


class ThreadHistory(KeptHistory):
    """The newest stored messages of a thread."""

    def __init__(self, messages: Sequence[Message] = (), *, exists: bool = True, is_complete: bool = True) -> None:
        super().__init__(messages, exists=exists, is_complete=is_complete)
        self._places: dict[str, Place] = {}
        self._results: dict[str, tuple[Message, ToolResultPart]] = {}
        self._calls: dict[str, str] = {}
        for message in messages:
            first = 0
            for n, part in enumerate(message.parts):
                if isinstance(part, ToolResultPart):
                    self._results[part.call] = message, part
                    first = n + 1
                elif isinstance(part, ToolCallPart):
                    self._calls[part.call] = message.id
            origin = None if message.role == "assistant" else origin_of(message)
            for one in () if origin is None else origin.messages:
                self._places[one.id] = Place(message, first, one)
                first += one.parts

    def without_turn(self, turn: str) -> ThreadHistory:
        """Return the history as it was before a turn."""
        messages = [one for one in self.messages if one.turn != turn]
        return ThreadHistory(messages, exists=self.exists, is_complete=self.is_complete)

    def answer(self, message_id: str) -> Message | None:
        """Return the answer with this id."""
        found = self._by_id.get(message_id)
        return None if found is None or found.role != "assistant" else found

    def answer_of(self, turn: str) -> Message | None:
        """Return the answer of a turn, if it is stored."""
        return next((one for one in self._newest() if one.role == "assistant" and one.turn == turn), None)

    def answer_below(self, message: str) -> Message | None:
        """Return the newest answer to a message."""
        return next((one for one in self._newest() if one.role == "assistant" and one.parent == message), None)

    def place(self, message_id: str) -> Place | None:
        """Return the place of the newest version of the user's message with this id."""
        return self._places.get(stored_id(message_id))

    def result(self, call: str) -> tuple[Message, ToolResultPart] | None:
        """Return the newest result of a tool call, and the input that has it."""
        return self._results.get(call)

    def message_with_call(self, call: str) -> str | None:
        """See `KeptHistory`."""
        return self._calls.get(call)

    @property
    def is_of_ag_ui(self) -> bool:
        """Whether the oldest known input came from a client of AG-UI."""
        oldest = next((one for one in self.messages if one.role != "assistant"), None)
        return oldest is not None and origin_of(oldest) is not None

    def shown(self, head: str | None) -> list[AgMessage]:
        """Return the branch that ends at `head`, as messages of AG-UI."""
        found: list[AgMessage] = []
        for stored in self.path_to(head):
            found += answer_messages(stored) if stored.role == "assistant" else input_messages(stored)
        return found


def input_messages(stored: Message) -> list[AgMessage]:
    """Return a stored input: the messages of the tools, and those of the user."""
    results = [part for part in stored.parts if isinstance(part, ToolResultPart)]
    found = [tool_message(f"{stored.id}.{n}", part) for n, part in enumerate(results)]
    parts = [part for part in stored.parts if not isinstance(part, ToolResultPart)]
    origin = origin_of(stored)
    for one in () if origin is None else origin.messages:
        found.append(user_message(one.id, parts[: one.parts]))
        parts = parts[one.parts :]
    if parts:
        message = user_message(stored.id, parts)
        found.append(structs.replace(message, role="system") if stored.role == "system" else message)
    return found


def snapshots(
    branch: Sequence[AgMessage],
    sent: Sequence[AgMessage],
    new: Sequence[AgMessage],
    answer: str,
    *,
    always: bool = False,
) -> list[list[AgMessage]]:
    """Return the snapshots that a client needs before an answer; none if it shows all messages before it already.

    `branch`: the stored messages before the input. `sent`: the messages that the client has sent. `new`: those of them
    that are the input. With `always`, there are snapshots even if the client shows everything already. There are none
    if the client's own messages are too large to be sent back.

    The client's copy of the answer is left out, so that the answer can be streamed again. Its reasoning is emptied,
    because clients keep reasoning that isn't in a snapshot. Clients keep the order of what they show, and append the
    rest. So they may need two snapshots for the right order.
    """
    shows = [one for one in sent if one.role != "activity"]
    kept = [one for one in shows if not is_of_answer(one.id, answer)]
    emptied = [structs.replace(one, content="") for one in shows if one.id != answer and is_of_answer(one.id, answer)]
    whole = [*_merged(_with_ids_of(branch, kept), kept, new), *emptied]
    known = {one.id for one in (*kept, *emptied)}
    if not always and len(kept) == len(shows) and all(one.id in known or one.role == "reasoning" for one in whole):
        return []
    branch_ids = {one.id for one in (*branch, *new)}
    if sum(map(data_chars, (one for one in kept if one.id not in branch_ids))) > ECHOED_DATA_MAX:
        return []
    # The client appends what it lacks. So the first snapshot ends before a message that it shows and that must follow.
    end = next((n for n, one in enumerate(whole) if one.id not in known), len(whole))
    end = next((n for n in range(end, len(whole)) if whole[n].id in known), len(whole))
    return [whole] if end == len(whole) else [whole[:end], whole]


def _with_ids_of(branch: Sequence[AgMessage], kept: Sequence[AgMessage]) -> list[AgMessage]:
    """Return the branch with the client's ids of the messages of tools, and of the user's with long ids."""
    results = {one.tool_call_id: one.id for one in kept if one.role == "tool"}
    long = {stored_id(one.id): one.id for one in kept if len(one.id) > ID_CHARS_MAX}
    return [
        structs.replace(
            one, id=results.get(one.tool_call_id, one.id) if one.role == "tool" else long.get(one.id, one.id)
        )
        for one in branch
    ]


def _merged(
    branch: Sequence[AgMessage], kept: Sequence[AgMessage], new_messages: Sequence[AgMessage]
) -> list[AgMessage]:
    """Return the branch with what only the client has: each such message follows the same stored one as at the client."""
    stored = {one.id for one in branch}
    new = {one.id for one in new_messages}
    after: dict[str, list[AgMessage]] = {}
    last = ""
    for one in kept:
        if one.id in stored:
            last = one.id
        elif one.id not in new:
            after.setdefault(last, []).append(one)
    whole = list(after.get("", ()))
    for one in branch:
        whole += [one, *after.get(one.id, ())]
    return [*whole, *new_messages]
