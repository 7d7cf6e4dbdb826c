"""Redis loses again what has just come back from the archive."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast

import pytest
from msgspec import structs

from store.archive import drain
from store.archive.api import Archive, ArchiveError
from store.archive.archived_store import ArchivedStore
from store.archive.restorer import RESTORES_MAX
from store.archive.sql_archive import SqlArchive
from store.errors import NotFound, StoreError
from store.records import Change
from tests.archived_stores import archived_store, forget_history
from tests.redis_process import RedisProcess, shared_redis
from tests.stored import LONG_MS, NOW, conversation, ending, new_turn, run, running

__all__ = ["shared_redis"]

CALLS: dict[str, Callable[[ArchivedStore], Awaitable[object]]] = {
    "active": lambda store: store.active("ann", "c1"),
    "a new title": lambda store: store.update_conversation("ann", "c1", Change(title="New"), NOW),
    "a new head": lambda store: store.update_conversation("ann", "c1", Change(head="t1.question"), NOW),
    "clear": lambda store: store.clear_conversation("ann", "c1", NOW),
    "feedback": lambda store: store.put_feedback("ann", "t1.answer", "up", None, NOW),
    "a start": lambda store: store.accept(new_turn("t2", parent="t1.answer")),
    "delete": lambda store: store.delete_conversation("ann", "c1"),
}


class AwayArchive(SqlArchive):
    """An archive that can be away."""

    is_away = False
    pings = 0

    async def ping(self) -> None:
        self.pings += 1
        self._check()
        await super().ping()

    async def apply(self, batches: Any) -> Any:
        self._check()
        return await super().apply(batches)

    async def conversation(self, user: str, conversation: str) -> Any:
        self._check()
        return await super().conversation(user, conversation)

    def _check(self) -> None:
        if self.is_away:
            raise ArchiveError("The archive can't be reached.")


@asynccontextmanager
async def store_on(server: RedisProcess, folder: Path) -> AsyncIterator[tuple[ArchivedStore, AwayArchive]]:
    """Open one more store on the Redis and the archive."""
    archive = AwayArchive(f"sqlite:///{folder / 'archive.db'}")
    async with archived_store(server.url, cast("Archive", archive)) as store:
        yield store, archive


@pytest.mark.parametrize("name", CALLS)
async def test_what_redis_loses_again_comes_back_again(name: str, shared_redis: RedisProcess, tmp_path: Path) -> None:
    """The call succeeds after some losses. After more, it fails so that it can be repeated, but never says that what the
    archive has doesn't exist."""
    shared_redis.execute("FLUSHALL")
    async with store_on(shared_redis, tmp_path) as (store, _):
        await store.create_conversation(conversation(title="Old"))
        await run(cast("Any", store), new_turn())
        await store._drain.settle("ann")
        hot, losses = store._hot, 0

        def losing(restore: Callable[..., Awaitable[None]]) -> Callable[..., Awaitable[None]]:
            async def restore_and_lose(*args: Any, **fields: Any) -> None:
                nonlocal losses
                await restore(*args, **fields)
                if losses:
                    losses -= 1
                    forget_history(shared_redis)

            return restore_and_lose

        hot.restore_conversation = losing(hot.restore_conversation)  # type: ignore[method-assign, assignment]
        hot.restore_message = losing(hot.restore_message)  # type: ignore[method-assign, assignment]
        forget_history(shared_redis)
        losses = 10 * RESTORES_MAX
        with pytest.raises(StoreError) as lost:
            await CALLS[name](store)
        assert not isinstance(lost.value, NotFound)
        losses = 2
        await CALLS[name](store)
        assert losses == 0


async def test_a_conversation_is_not_replaced_by_one_before_it(shared_redis: RedisProcess, tmp_path: Path) -> None:
    """An instance takes over a turn of a conversation, and remembers another, deleted conversation with the same id. When
    Redis loses its data while the archive is away, the turn is restored in the conversation that it belongs to."""
    shared_redis.execute("FLUSHALL")
    async with (
        store_on(shared_redis, tmp_path) as (one, archive),
        store_on(shared_redis, tmp_path) as (two, other_archive),
    ):
        await one.create_conversation(conversation(title="First"))
        await run(cast("Any", one), new_turn())
        await two.delete_conversation("ann", "c1")
        await two.create_conversation(conversation(title="Second"))
        await run(cast("Any", two), new_turn("t2"))
        turn = await running(cast("Any", two), new_turn("t3"))
        await two._drain.settle("ann")
        claimed = await one.claim("ann", "t3", "one", NOW + 1, LONG_MS, force=True)
        assert claimed is not None
        archive.is_away = other_archive.is_away = True
        shared_redis.execute("FLUSHALL")
        again = new_turn("t3", epoch=claimed.epoch, message=turn.message)
        with pytest.raises(NotFound):
            await one.accept(again)
        await one.accept(structs.replace(again, conversation=None, new_conversation=conversation(title="Second")))
        await one.end(ending(claimed))
        archive.is_away = other_archive.is_away = False
        async with asyncio.timeout(20):
            while one.archive_state.is_degraded:
                await asyncio.sleep(0.02)
        await one._drain.settle("ann")
        found, _ = await archive.messages("ann", "c1", 10, None, None)
        assert [message.record.turn for message in found] == ["t2", "t2", "t3", "t3"]


async def test_an_archive_that_is_just_back_restores_a_conversation(
    shared_redis: RedisProcess, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Redis loses its data before an instance has noticed that the archive is back: a lost turn's conversation comes back from
    the archive, with the right counts, and not as this instance remembers it."""
    monkeypatch.setattr(drain, "RETRY_S_MIN", 600)
    shared_redis.execute("FLUSHALL")
    async with store_on(shared_redis, tmp_path) as (store, archive):
        await store.create_conversation(conversation())
        turn = await running(cast("Any", store), new_turn("t1"))
        await run(cast("Any", store), new_turn("t2"))
        await store._drain.settle("ann")
        archived = await archive.conversation("ann", "c1")
        archive.is_away = True
        before = archive.pings
        await store._drain._sweep.check_archive()
        async with asyncio.timeout(20):
            while archive.pings < before + 2:  # the drain has tried again, and pauses now
                await asyncio.sleep(0.01)
        assert store.archive_state.is_degraded
        archive.is_away = False
        shared_redis.execute("FLUSHALL")
        await store.accept(new_turn("t1", message=turn.message))
        assert not store.archive_state.is_degraded
        restored = await store.conversation("ann", "c1")
        assert (restored.messages, restored.created_ms) == (archived.record.messages, archived.record.created_ms)
        assert restored.revision == archived.record.revision + 1
