"""The `conversation.*` and `feedback.put` requests of one client."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable
from typing import Any, ClassVar, TypeVar

import msgspec
from msgspec import UNSET

from gateway.offload import offload
from gateway.protocol import requests as p
from gateway.protocol import results as r
from gateway.protocol.errors import ApiError
from gateway.protocol.events import Message
from gateway.protocol.ids import now_ms
from gateway.protocol.validation import check_own_id, encode_metadata
from gateway.protocol.views import body_of, conversation_view, found_view, message_view, update_event
from gateway.requests.deletion import delete_conversation
from gateway.requests.services import Services
from gateway.requests.turns import Turns
from gateway.streams.outbox import Outbox
from gateway.turns.acceptance import new_conversation
from store.errors import NotFound
from store.records import Change, ConversationRecord, Found, MessageRecord

T = TypeVar("T")

PAGE_BYTES_MAX = 128 * 1024


class Conversations:
    """The conversation requests of `user`. The events of its subscriptions go to `outbox`.

    `retention_days` returns the retention that the credential gives to the user's conversations now.
    """

    def __init__(
        self,
        services: Services,
        user: str,
        outbox: Outbox,
        turns: Turns,
        retention_days: Callable[[], int | None],
    ) -> None:
        self._services = services
        self._user = user
        self._outbox = outbox
        self._turns = turns
        self._retention_days = retention_days
        self._subscribed: set[str] = set()
        self._watches_list = False
        self._list_lock = asyncio.Lock()
        self._feedback_lock = asyncio.Lock()

    @property
    def is_idle(self) -> bool:
        """Whether there is no subscription to a conversation or to the list."""
        return not self._subscribed and not self._watches_list

    def close(self) -> None:
        """Unsubscribe from all conversations and from the list."""
        for conversation in self._subscribed:
            self._services.subscriptions.unsubscribe(self._user, conversation, self._outbox)
        self._subscribed.clear()
        self._unwatch_list()

    async def _create(self, request: p.ConversationCreate) -> r.Conversation:
        check_own_id(request.conversation, "conversation")
        if request.model is not None:
            self._services.catalog.resolve(request.model)
        metadata = encode_metadata(request.metadata or {}, self._services.settings.metadata_bytes)
        conversation = new_conversation(
            self._user,
            request.system,
            request.model,
            request.title or "",
            metadata,
            request.conversation,
            self._retention_days(),
        )
        limits = self._services.limits.turn_limits
        return conversation_view(await self._services.store.create_conversation(conversation, limits))

    async def _list(self, request: p.ConversationList) -> r.ConversationPage:
        if request.query and request.pinned:
            raise ApiError(
                "invalid_request", "`query` and `pinned` can't be combined. Leave one of them out.", path="pinned"
            )
        if request.query:
            found, more = await self._services.store.search(self._user, request.query, request.limit, request.before)
        else:
            records, more = await self._services.store.conversations(
                self._user, request.limit, request.before, pinned=request.pinned
            )
            found = [Found(record=record) for record in records]
        page = fit_page(map(found_view, found))
        more = more or len(page) < len(found)
        return r.ConversationPage(page, page[-1].id if page and more else UNSET)

    async def _get(self, request: p.ConversationGet) -> r.Conversation:
        return conversation_view(await self._services.store.conversation(self._user, request.conversation))

    async def _update(self, request: p.ConversationUpdate) -> r.Conversation:
        if request.model is not None:
            self._services.catalog.resolve(request.model)
        change = Change(
            title=request.title,
            system=request.system,
            model=request.model,
            metadata=None
            if request.metadata is None
            else encode_metadata(request.metadata, self._services.settings.metadata_bytes),
            head=request.head,
            pinned=request.pinned,
        )
        changed = await self._services.store.update_conversation(
            self._user, request.conversation, change, now_ms(), self._services.limits.turn_limits
        )
        await self._publish(changed)
        return conversation_view(changed)

    async def _clear(self, request: p.ConversationClear) -> r.Nothing:
        await self._publish(await self._services.store.clear_conversation(self._user, request.conversation, now_ms()))
        return r.Nothing()

    async def _publish(self, changed: ConversationRecord) -> None:
        await self._services.subscriptions.send(self._user, changed.id, update_event(changed))

    async def _delete(self, request: p.ConversationDelete) -> r.Nothing:
        await delete_conversation(self._services, self._user, request.conversation)
        return r.Nothing()

    async def _messages(self, request: p.ConversationMessages) -> r.MessagePage:
        services = self._services
        # The limit `context_bytes` is much larger than a page, because stored messages have the data of images and
        # files, and a page has only the URLs of that data.
        records, more = await services.store.messages(
            self._user, request.conversation, request.limit, request.before, services.settings.context_bytes
        )
        size = sum(len(record.body) for record in records)
        newest: list[Message] = await offload(size, fit_page, map(message_view, reversed(records)))
        page = newest[::-1]
        more = more or len(page) < len(records)
        return r.MessagePage(page, page[0].id if page and more else UNSET)

    async def _attach(self, request: p.ConversationAttach) -> r.ConversationAttached:
        services, conversation = self._services, request.conversation
        if conversation not in self._subscribed and not services.registry.live_in(self._user, conversation):
            services.limits.check_unknown_ids(self._user)
        try:
            record = await services.store.conversation(self._user, conversation)
        except NotFound:
            services.limits.charge_unknown_ids(self._user, 1)
            raise
        if conversation in self._subscribed:
            active = await services.store.active(self._user, conversation)
        else:
            # Subscribe before reading the active turns, so that a turn that starts in between isn't missed.
            self._subscribed.add(conversation)
            try:
                active = await services.subscriptions.subscribe(self._user, conversation, self._outbox)
            except BaseException:
                self._subscribed.discard(conversation)
                raise
        positions = request.positions or {}
        to_attach = {turn: (0, 0) for turn in active if turn not in self._outbox.attachments}
        to_attach |= {turn: (position.epoch, position.seq) for turn, position in positions.items()}
        turns: dict[str, r.Attachment] = {}
        gone: dict[str, str | None] = {}
        for turn, answer in (await self._turns.attach_all(to_attach, conversation)).items():
            if (error := answer.error) is UNSET:
                turns[turn] = answer
                continue
            if error.code == "rate_limited":
                raise ApiError("rate_limited", error.message, retry_after_ms=error.retry_after_ms)
            gone[turn] = error.stored_message
        return r.ConversationAttached(record.id, record.revision, turns, gone)

    async def _detach(self, request: p.ConversationDetach) -> r.Nothing:
        if request.conversation not in self._subscribed:
            await self._services.store.conversation(self._user, request.conversation)
            return r.Nothing()
        self._subscribed.discard(request.conversation)
        self._services.subscriptions.unsubscribe(self._user, request.conversation, self._outbox)
        return r.Nothing()

    async def _attach_list(self, request: p.ConversationsAttach) -> r.Nothing:
        async with self._list_lock:
            if not self._watches_list:
                # Set only when it is subscribed: `close` must not undo a subscription that is cut off and undoes itself.
                await self._services.list_subscriptions.subscribe(self._user, self._outbox)
                self._watches_list = True
        return r.Nothing()

    async def _detach_list(self, request: p.ConversationsDetach) -> r.Nothing:
        async with self._list_lock:
            self._unwatch_list()
        return r.Nothing()

    def _unwatch_list(self) -> None:
        if self._watches_list:
            self._watches_list = False
            self._services.list_subscriptions.unsubscribe(self._user, self._outbox)

    async def _feedback(self, request: p.FeedbackPut) -> r.Nothing:
        store, rating = self._services.store, str(request.rating)
        message, model = await self._find_rated(request.message)
        await store.put_feedback(self._user, request.message, rating, request.comment or None, now_ms(), model)
        if message.rating != rating:
            self._services.telemetry.record_rating(model, rating)
        return r.Nothing()

    async def _find_rated(self, message: str) -> tuple[MessageRecord, str | None]:
        """Return the message with this id, without its body, and the model that wrote it. Raises `ApiError` and `StoreError`.

        A message may be large, so it is read and limited like a large answer.
        """
        large = self._services.limits.large_answers
        async with self._feedback_lock:
            large.check(self._user)
            record = await self._services.store.message(self._user, message)
            large.charge(self._user, len(record.body))
            body = await offload(len(record.body), body_of, record)
        return msgspec.structs.replace(record, body=b""), body.model

    HANDLERS: ClassVar[dict[type[p.Request], Callable[[Conversations, Any], Coroutine[Any, Any, Any]]]] = {
        p.ConversationCreate: _create,
        p.ConversationList: _list,
        p.ConversationGet: _get,
        p.ConversationUpdate: _update,
        p.ConversationClear: _clear,
        p.ConversationDelete: _delete,
        p.ConversationMessages: _messages,
        p.ConversationAttach: _attach,
        p.ConversationDetach: _detach,
        p.ConversationsAttach: _attach_list,
        p.ConversationsDetach: _detach_list,
        p.FeedbackPut: _feedback,
    }
    """The handler of each request type."""


def fit_page(items: Iterable[T]) -> list[T]:
    """Return the first `items` that fit in `PAGE_BYTES_MAX` as JSON. The first item is always included."""
    page: list[T] = []
    size = 0
    for item in items:
        size += len(msgspec.json.encode(item)) + 1
        if size > PAGE_BYTES_MAX and page:
            break
        page.append(item)
    return page
