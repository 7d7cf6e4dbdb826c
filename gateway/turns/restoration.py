"""A store that came back without what it held: owners make their turns anew from memory, and write their logs again."""

from __future__ import annotations

import asyncio

import structlog
from msgspec import structs

from gateway.tasks import spawn
from gateway.turns.live_turn import LiveTurn
from gateway.turns.log_writer import LogWriter
from store.api import Store
from store.records import NotFound, StoreError

log = structlog.stdlib.get_logger("turnwire.store")


class Recreation:
    """Accepts turns again that the store no longer knows."""

    def __init__(self, store: Store, writer: LogWriter, tasks: asyncio.TaskGroup) -> None:
        self._store = store
        self._writer = writer
        self._tasks = tasks
        self._under_way: set[LiveTurn] = set()

    def soon(self, stream: LiveTurn) -> None:
        """Make the turn anew; whoever noticed doesn't wait."""
        if stream not in self._under_way and stream.accepted_as is not None:
            self._under_way.add(stream)
            spawn(self._tasks, self._make(stream))

    async def _make(self, stream: LiveTurn) -> None:
        try:
            await self.make(stream)
        except StoreError as error:
            log.warning("can't make a turn anew now, the next flush will try", turn=stream.turn, error=str(error))
        finally:
            self._under_way.discard(stream)
            self._writer.note(stream)

    async def make(self, stream: LiveTurn) -> None:
        """The same turn with the same ids, in its conversation, which is made anew too if need be. Raises `StoreError`."""
        new = stream.accepted_as
        if new is None:
            return
        log.warning("the store has lost a turn, making it anew", turn=stream.turn)
        new = structs.replace(new, epoch=stream.epoch, parent=None, on_busy="parallel", limits=None)
        try:
            await self._store.accept(new)
        except NotFound:
            lost = stream.conversation_record
            if lost is not None:
                lost = structs.replace(lost, head=None, messages=0)
            await self._store.accept(structs.replace(new, conversation=None, new_conversation=lost))
        stream.stored = 0
        if not stream.attached:
            stream.watch_for_abandonment()  # who follows it elsewhere has to say so anew
