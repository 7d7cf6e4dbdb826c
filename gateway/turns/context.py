"""Build the request to a provider: the system prompts, the history and the input."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import NamedTuple

from msgspec import structs

from gateway.offload import offload, request_size
from gateway.protocol.errors import ApiError
from gateway.protocol.linked_results import misplaced_result, unlinked_result
from gateway.protocol.plain_text import has_visible
from gateway.protocol.requests import TurnStart
from gateway.protocol.views import body_of, parse_part_turn, parse_part_url
from gateway.turns.answer_images import AnswerStore, stateless_body
from gateway.turns.trimming import from_first_exchange
from providers.base import ChatMessage, ChatRequest, FilePart, ImagePart, Part
from providers.fit.calls import drop_unanswered
from store.errors import NotFound
from store.records import ConversationRecord, MessageRecord, TurnRecord

PARTS_PER_SLICE = 1000


def without_history(
    request: TurnStart,
    upstream_model: str,
    operator_prompt: str = "",
    conversation: ConversationRecord | None = None,
) -> ChatRequest:
    """Return the request to the provider, made from `request` alone, without the history before it.

    Its system prompt is the operator's, followed by that of `request` or, if `request` has none, of `conversation`.
    """
    system = request.system
    if system is None and conversation is not None:
        system = conversation.system
    if system is not None and not has_visible(system):
        system = None  # providers refuse a blank one
    if request.messages is not None:
        messages = tuple(ChatMessage(message.role, tuple(message.parts)) for message in request.messages)
    else:
        messages = (ChatMessage("user", tuple(request.input_parts)),)
    return ChatRequest(
        model=upstream_model,
        messages=messages,
        system=f"{operator_prompt}\n\n{system}" if operator_prompt and system else operator_prompt or system,
        params=request.params,
        # Sorted, because providers cache a prompt up to its first difference, and the tools come first in it.
        tools=tuple(sorted(request.tools or (), key=lambda tool: tool.name)),
        tool_choice=request.tool_choice,
    )


class Place(NamedTuple):
    """The place of a turn in its conversation: it answers the message `parent`, with `model`."""

    conversation: str | None
    parent: str | None
    model: str


class History:
    """The stored history of a user, as far as one turn may read it.

    The limits are `bytes_max` bytes of messages, `items_max` messages and parts in total, and another `bytes_max` bytes
    for data that parts refer to by address: each message that is loaded for its data counts once, and each address
    counts the size of its data. `new` is a message that isn't stored, and follows every branch. `first` is a stored message
    without a parent; a branch that ends at it isn't read from the store.
    """

    def __init__(
        self,
        store: AnswerStore,
        user: str,
        bytes_max: int,
        items_max: int,
        new: ChatMessage | None = None,
        first: MessageRecord | None = None,
    ) -> None:
        self._store = store
        self._user = user
        self._bytes_max = bytes_max
        self._items_max = items_max
        self._new = new
        self._first = first
        self._remaining_bytes = bytes_max
        self._parts_of: dict[str, list[Part]] = {}

    async def branch(
        self, conversation: str | None, last: str | None, model: str
    ) -> tuple[tuple[ChatMessage, ...], int]:
        """Return the newest messages of the path from the root to `last`, then `new`, and the number of those left out.

        Without `conversation` or `last`, there is only the new message. Signatures that other models than `model` made
        are removed, and so are tool calls without a result. Raises `ApiError` if the conversation or `last` was
        deleted, or if the last message has a tool result that doesn't directly follow its call.
        """
        records: list[MessageRecord] = []
        older = 0
        try:
            if self._first is not None and last == self._first.id:
                records = [self._first]
            elif conversation is not None and last is not None:
                records, older = await self._store.branch(
                    self._user, conversation, last, self._bytes_max, self._items_max
                )
        except NotFound as missing:
            raise ApiError("not_found", f"The {missing.field} of this turn was deleted. Start a new turn.") from None
        size = sum(len(record.body) for record in records)
        messages, omitted = await offload(
            size, _chat_messages, records, self._new, model, self._items_max, is_cut=older > 0
        )
        return messages, older + omitted

    async def with_data(self, message: ChatMessage) -> ChatMessage:
        """Return `message` with each data address replaced by the stored data. Raises `ApiError`."""
        if not any(_address(part) for part in message.parts):
            return message
        parts: list[Part] = []
        for part in message.parts:
            parts.append(await self._load_data(part))
            if len(parts) % PARTS_PER_SLICE == 0:
                await asyncio.sleep(0)
        return structs.replace(message, parts=tuple(parts))

    async def _load_data(self, part: Part) -> Part:
        address = _address(part)
        if address is None:
            return part
        message, number = address
        if message not in self._parts_of:
            self._parts_of[message] = await self._load_parts(message, parse_part_turn(getattr(part, "url", None) or ""))
        parts = self._parts_of[message]
        data = getattr(parts[number], "data", None) if number < len(parts) else None
        if data is None:
            raise ApiError(
                "not_found", "Data that the messages refer to by address is no longer stored. Send the data again."
            )
        self._charge(len(data))
        return structs.replace(part, data=data, url=None)

    async def _load_parts(self, message: str, turn: str | None) -> list[Part]:
        """Return the parts of a message, or of an answer without a conversation that `turn` wrote. Empty if unknown."""
        try:
            if turn is not None:
                body = await stateless_body(self._store, self._user, turn, message)
                self._charge(sum(len(getattr(part, "data", None) or "") for part in body.parts))
                return body.parts
            record = await self._store.message(self._user, message)
        except NotFound:
            return []
        self._charge(len(record.body))
        return (await offload(len(record.body), body_of, record)).parts

    def _charge(self, size: int) -> None:
        self._remaining_bytes -= size
        if self._remaining_bytes < 0:
            raise ApiError(
                "context_length_exceeded",
                f"Loading the data that the messages refer to takes over {self._bytes_max} bytes. Refer to less data.",
            )


async def build_chat_request(
    history: History,
    turn: TurnRecord | Place,
    conversation: ConversationRecord | None,
    request: TurnStart,
    upstream_model: str,
    operator_prompt: str = "",
) -> ChatRequest:
    """Return the request to the provider, with its history and the data that it refers to.

    The history is the request's `messages`, or else the stored branch that ends at the turn's parent. Raises `ApiError`
    and `StoreError`.
    """
    chat_request = without_history(request, upstream_model, operator_prompt, conversation)
    if request.messages is not None:
        answered = await offload(request_size(chat_request), drop_unanswered, chat_request.messages)
        with_data = [await history.with_data(message) for message in answered]
        return structs.replace(chat_request, messages=tuple(with_data))
    branch, omitted = await history.branch(turn.conversation, turn.parent, turn.model)
    kept = await _newest_with_data(history, branch)
    omitted += len(branch) - len(kept)
    return structs.replace(chat_request, messages=kept, omitted_messages=omitted)


async def _newest_with_data(history: History, messages: Sequence[ChatMessage]) -> tuple[ChatMessage, ...]:
    """Return the messages with the data that they refer to.

    If the data is over its limit, leave out the oldest exchanges. Raise `ApiError` if the data of the last message alone
    is over it, or if data isn't stored any more.
    """
    newest: list[ChatMessage] = []
    for message in reversed(messages):
        try:
            newest.append(await history.with_data(message))
        except ApiError as error:
            if error.code != "context_length_exceeded" or not newest:
                raise
            break
    newest.reverse()
    return tuple(newest if len(newest) == len(messages) else from_first_exchange(newest))


def _chat_messages(
    branch: list[MessageRecord], new: ChatMessage | None, model: str, items_max: int, *, is_cut: bool
) -> tuple[tuple[ChatMessage, ...], int]:
    """Convert the newest stored messages: at most `items_max` messages and parts in total, but at least the last message.

    `new` is a message that follows them. Remove signatures made by other models than `model`, and tool calls without a
    result. If older messages are missing (`is_cut`, or left out here), also drop the messages before the first one that
    starts an exchange. Return the messages, and how many were left out here. Raises `ApiError` if a result in the last
    message has no call.
    """
    found = [] if new is None else [new]
    items = sum(1 + len(message.parts) for message in found)
    count = len(found) + len(branch)
    for record in reversed(branch):
        body = body_of(record)
        items += 1 + len(body.parts)
        if items > items_max and found:
            is_cut = True
            break
        message = ChatMessage(record.role, tuple(body.parts))  # type: ignore[arg-type]
        found.append(message if body.model in (None, model) else message.without_signatures())
    found.reverse()
    messages = from_first_exchange(found) if is_cut else found
    if (call := misplaced_result(messages)) is not None:
        raise unlinked_result(call, "Check the id, or set `parent` to the message that has the call.", "input")
    return drop_unanswered(messages), count - len(messages)


def _address(part: Part) -> tuple[str, int] | None:
    return parse_part_url(part.url) if isinstance(part, ImagePart | FilePart) and part.url is not None else None
