"""Subscriptions to the list of a user's conversations, on any instance.

A user's channel carries only the ids of conversations that have changed. Their newest state is read when it is sent: at once,
then at most once per interval for each user, and only as fast as the client reads.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from functools import partial
from itertools import islice

import structlog

from gateway.protocol.events import ConversationsChanged
from gateway.protocol.ids import rfc3339
from gateway.streams.outbox import Outbox
from gateway.tasks import spawn
from gateway.turns.instance import Instance
from store.api import list_channel
from store.errors import NotFound, StoreError

log = structlog.stdlib.get_logger("turnwire.session")

INTERVAL_S = 0.25
CONVERSATIONS_AT_ONCE = 50
"""How many changed conversations are sent to a client before the next ones are looked at."""
FIRST_PAGE = 50
RETRY_S = 1.0

_ALL_DELETED = ConversationsChanged(conversation=None, change="deleted")


class _Watched:
    """A user's list that clients of this process watch: for each, the ids of the conversations to send, oldest first."""

    def __init__(self) -> None:
        self.pending: dict[Outbox, dict[str, None]] = {}
        self.waiting: set[Outbox] = set()
        """The clients that have to read before more is sent to them."""
        self.is_sending = False


class ListSubscriptions:
    """The lists that connections of this process are subscribed to. Nothing is read for a user without one."""

    def __init__(self, instance: Instance) -> None:
        self._store = instance.store
        self._tasks = instance.tasks
        self._watched: dict[str, _Watched] = {}
        self._channels: dict[str, str] = {}

    async def subscribe(self, user: str, outbox: Outbox) -> None:
        """Send each change of the user's list to `outbox` from now on. Raises `StoreError`."""
        channel = list_channel(user)
        watched = self._watched.setdefault(user, _Watched())
        watched.pending[outbox] = {}
        self._channels[channel] = user
        try:
            await self._store.subscribe(channel)
        except BaseException:
            self._remove(user, outbox)
            raise

    def unsubscribe(self, user: str, outbox: Outbox) -> None:
        """End the subscription of `outbox`."""
        self._remove(user, outbox)
        spawn(self._tasks, self._unsubscribe(list_channel(user)))

    def _remove(self, user: str, outbox: Outbox) -> None:
        watched = self._watched.get(user)
        if watched is None:
            return
        watched.pending.pop(outbox, None)
        watched.waiting.discard(outbox)
        if not watched.pending:
            del self._watched[user]
            self._channels.pop(list_channel(user), None)

    async def _unsubscribe(self, channel: str) -> None:
        with suppress(StoreError):
            await self._store.unsubscribe(channel)

    def deliver(self, channel: str, payload: bytes) -> None:
        """Handle the id of a changed conversation that was published on the channel of a list. Never awaits."""
        user = self._channels.get(channel)
        if user is not None:
            self._note(user, [payload.decode()])

    def _note(self, user: str, conversations: list[str]) -> None:
        watched = self._watched.get(user)
        if watched is None:
            return
        for pending in watched.pending.values():
            pending.update(dict.fromkeys(conversations))
        self._wake(user)

    def _wake(self, user: str) -> None:
        watched = self._watched.get(user)
        if watched is not None and not watched.is_sending:
            watched.is_sending = True
            spawn(self._tasks, self._send(user, watched))

    async def _send(self, user: str, watched: _Watched) -> None:
        """Send what has changed, until nothing is left or all clients that lack something have to read first."""
        try:
            while taken := self._take(user, watched):
                try:
                    frames = await self._read(user, {name for names in taken.values() for name in names})
                except StoreError as error:
                    log.info("changes of a list wait for the store", error=str(error))
                    for outbox, names in taken.items():
                        watched.pending.get(outbox, {}).update(dict.fromkeys(names))
                    await asyncio.sleep(RETRY_S)
                    continue
                for outbox, names in taken.items():
                    for name in names if outbox in watched.pending else ():
                        if name in frames:
                            outbox.put(frames[name], large=True)
                await asyncio.sleep(INTERVAL_S)
        finally:
            watched.is_sending = False

    def _take(self, user: str, watched: _Watched) -> dict[Outbox, list[str]]:
        """Take the next changes for each client that can read them now. Return the ids of the conversations."""
        taken: dict[Outbox, list[str]] = {}
        for outbox, pending in watched.pending.items():
            if not pending or outbox in watched.waiting:
                continue
            if outbox.has_large_answer:
                watched.waiting.add(outbox)
                outbox.when_large_sent(partial(self._on_read, user, watched, outbox))
                continue
            taken[outbox] = list(islice(pending, CONVERSATIONS_AT_ONCE))
            for name in taken[outbox]:
                del pending[name]
        return taken

    def _on_read(self, user: str, watched: _Watched, outbox: Outbox) -> None:
        watched.waiting.discard(outbox)
        # Later, so that a large answer that waits for the client too comes first.
        asyncio.get_running_loop().call_later(INTERVAL_S, self._wake, user)

    async def _read(self, user: str, names: set[str]) -> dict[str, ConversationsChanged]:
        """Return the frame with the state of each conversation that can be read. Raises `StoreError`."""
        frames = {}
        for name in names:
            try:
                frames[name] = await self._frame(user, name)
            except StoreError:
                raise
            except Exception:  # damaged data must not end the task group, and with it the gateway
                log.exception("a changed conversation can't be read", conversation=name)
        return frames

    async def _frame(self, user: str, conversation: str) -> ConversationsChanged:
        try:
            record = await self._store.conversation(user, conversation)
        except NotFound:
            return ConversationsChanged(conversation=conversation, change="deleted")
        return ConversationsChanged(
            conversation=record.id,
            change="changed",
            title=record.title,
            updated_at=rfc3339(record.updated_ms),
            head=record.head,
            revision=record.revision,
            pinned=record.pinned,
        )

    def erased(self, user: str) -> None:
        """Tell the subscribers here that all conversations of the user were deleted."""
        watched = self._watched.get(user)
        for outbox in () if watched is None else tuple(watched.pending):
            outbox.put(_ALL_DELETED)

    def resync(self) -> None:
        """Send the first page of each list again, because changes may have been missed while the channels were lost."""
        for user in tuple(self._watched):
            spawn(self._tasks, self._resync(user))

    async def _resync(self, user: str) -> None:
        try:
            records, _ = await self._store.conversations(user, FIRST_PAGE, None)
        except StoreError as error:
            log.info("a list can't be read again", error=str(error))
            return
        except Exception:  # see `_read`
            log.exception("a list can't be read again")
            return
        self._note(user, [record.id for record in reversed(records)])
