"""The export of everything that is stored of a user, as lines. At most a page is in memory at once."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from functools import partial
from typing import NamedTuple

from msgspec import UNSET, Struct, UnsetType, structs

from gateway.protocol.events import Cost, Message
from gateway.protocol.ids import now_ms, rfc3339
from gateway.protocol.results import Conversation
from gateway.protocol.views import body_of, conversation_view, cost_from_nano, message_view, usage_view
from providers.base import Usage
from store.api import Store
from store.errors import NotFound
from store.records import ConversationRecord, DayUsage, MessageRecord

CONVERSATIONS_PER_PAGE = 50
MESSAGES_PER_PAGE = 100
PAGE_BYTES = 1024 * 1024
PASSES_MAX = 3


class ExportedUser(Struct, frozen=True, tag_field="kind", tag="user"):
    """The first line: whose data this is, and when the export began."""

    user: str
    exported_at: str


class ExportedConversation(Conversation, frozen=True, kw_only=True, tag_field="kind", tag="conversation"):
    """A conversation; the lines of its messages follow."""

    retention_days: int | UnsetType = UNSET


class ExportedMessage(Message, frozen=True, kw_only=True, omit_defaults=True, tag_field="kind", tag="message"):
    """A message, with its rating and with the data of its images and files."""

    conversation: str


class ExportedUsage(Struct, frozen=True, tag_field="kind", tag="usage"):
    """The usage and cost of the turns that ended on a UTC day."""

    day: str
    turns: int
    usage: Usage
    cost: Cost | None


class ExportEnd(Struct, frozen=True, tag_field="kind", tag="end"):
    """The last line. An export without it isn't complete."""

    conversations: int
    messages: int


ExportLine = ExportedUser | ExportedConversation | ExportedMessage | ExportedUsage | ExportEnd


class Line(NamedTuple):
    """A line of the export. `build` returns its content. `size` is its approximate size in bytes, for `offload`."""

    size: int
    build: Callable[[], ExportLine]


async def export_user(store: Store, user: str) -> AsyncIterator[list[Line]]:
    """Yield the lines of the export in lists: the user, the conversations with their messages, the usage, the end.

    Raises `StoreError`: before the first line, if the store can't be reached at the start.
    """
    conversations = messages = 0
    begin = ExportedUser(user, rfc3339(now_ms()))
    found = _conversations(store, user)
    conversation = await anext(found, None)
    yield [_line(begin)]
    while conversation is not None:
        conversations += 1
        yield [Line(conversation.size, partial(_conversation, conversation))]
        async for page in _messages(store, conversation):
            messages += len(page)
            yield [Line(len(record.body), partial(_message, conversation.id, record)) for record in page]
        conversation = await anext(found, None)
    yield [_line(_usage(day)) for day in await store.usage_days(user)]
    yield [_line(ExportEnd(conversations, messages))]


async def _conversations(store: Store, user: str) -> AsyncIterator[ConversationRecord]:
    """Yield the user's conversations. One that changes meanwhile moves to the front, so the list is read again."""
    seen: set[str] = set()
    for _ in range(PASSES_MAX):
        before, more, known = None, True, len(seen)
        while more:
            try:
                page, more = await store.conversations(user, CONVERSATIONS_PER_PAGE, before, whole=True)
            except NotFound:
                break  # `before` was deleted meanwhile: the next pass reads on
            for conversation in page:
                if conversation.id not in seen:
                    seen.add(conversation.id)
                    yield conversation
            before = page[-1].id if page else None
            more = more and before is not None
        else:
            if len(seen) == known:
                return


async def _messages(store: Store, conversation: ConversationRecord) -> AsyncIterator[list[MessageRecord]]:
    """Yield the conversation's messages in pages, the newest first. A conversation that was deleted has no more."""
    before, more = None, True
    while more:
        try:
            page, more = await store.messages(conversation.user, conversation.id, MESSAGES_PER_PAGE, before, PAGE_BYTES)
        except NotFound:
            return
        if not page:
            return
        before = page[0].id
        yield page[::-1]


def _line(content: ExportLine) -> Line:
    return Line(0, lambda: content)


def _conversation(record: ConversationRecord) -> ExportedConversation:
    days = UNSET if record.retention_days is None else record.retention_days
    return ExportedConversation(retention_days=days, **structs.asdict(conversation_view(record)))


def _message(conversation: str, record: MessageRecord) -> ExportedMessage:
    return ExportedMessage(conversation=conversation, **structs.asdict(message_view(record, body_of(record))))


def _usage(day: DayUsage) -> ExportedUsage:
    return ExportedUsage(
        rfc3339(day.day_ms)[:10], day.turns, usage_view(day.usage), cost_from_nano(day.usage.cost_nano)
    )
