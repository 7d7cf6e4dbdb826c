"""What is in the outboxes reaches the archive once, whatever fails or dies in between."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Protocol, cast

import pytest
from msgspec import structs

from store.api import erased_key
from store.archive import drain, sweep
from store.archive.api import Archive, ArchiveError
from store.archive.archived_store import ArchivedStore
from store.archive.records import Applied, ArchivedMessage, OutboxBatch, OutboxEntry
from store.archive.sql_archive import SqlArchive
from store.errors import Limited, NotFound, StoreError
from store.records import DAY_MS, Change, Counters, FeedbackFilter, TurnLimits
from store.redis.keys import user_prefix
from tests.archived_stores import archived_store, forget_history, new_archive_file
from tests.redis_process import RedisProcess, redis_store, shared_redis
from tests.stored import NOW, conversation, ending, message, new_turn, run, running, stateless_turn

__all__ = ["shared_redis"]


class BreakableArchive(SqlArchive):
    """An archive that can be away or full, or pause before or after the commit."""

    def __init__(self, url: str) -> None:
        super().__init__(url, migrate=True)
        self.is_away = False
        self.is_full = False
        self.before_commit: asyncio.Event | None = None
        self.after_commit: asyncio.Event | None = None
        self.reached = asyncio.Event()
        self.applied: list[list[OutboxBatch]] = []

    def _check(self) -> None:
        if self.is_away:
            raise ArchiveError("The archive can't be reached.")

    async def ping(self) -> None:
        self._check()
        await super().ping()

    async def apply(self, batches: list[OutboxBatch]) -> list[Applied]:
        self._check()
        if self.is_full:
            raise ArchiveError("The disk of the archive is full.")
        if self.before_commit is not None:
            self.reached.set()
            await self.before_commit.wait()
            self._check()
        results = await super().apply(batches)
        self.applied.append(batches)
        if self.after_commit is not None:
            self.reached.set()
            await self.after_commit.wait()
        return results

    async def conversation(self, user: str, conversation: str) -> Any:
        self._check()
        return await super().conversation(user, conversation)

    async def conversations(self, user: str, limit: int, before: str | None, *, pinned: bool = False) -> Any:
        self._check()
        return await super().conversations(user, limit, before, pinned=pinned)


class Instance(Protocol):
    """Opens an instance's store on the same Redis and the same archive."""

    async def __call__(self, **options: Any) -> tuple[ArchivedStore, BreakableArchive]:
        """Return the store and its archive."""


@pytest.fixture
async def instance(shared_redis: RedisProcess, tmp_path: Path) -> AsyncIterator[Instance]:
    """A function that opens one more instance on one empty Redis and one empty archive."""
    shared_redis.execute("FLUSHALL")
    url = await new_archive_file(tmp_path / "archive.db")
    async with AsyncExitStack() as stores:

        async def open_instance(**options: Any) -> tuple[ArchivedStore, BreakableArchive]:
            archive = BreakableArchive(url)
            store = await stores.enter_async_context(
                archived_store(shared_redis.url, cast("Archive", archive), **options)
            )
            return store, archive

        yield open_instance


async def titles(archive: BreakableArchive, user: str = "ann") -> list[str]:
    """Return the titles of the conversations in the archive itself."""
    return [one.title for one in (await SqlArchive.conversations(archive, user, 100, None))[0]]


async def eventually_titled(archive: BreakableArchive, *expected: str) -> None:
    """Wait until the archive has exactly these titles."""
    async with asyncio.timeout(10):
        while await titles(archive) != list(expected):
            await asyncio.sleep(0.02)


def kill(store: ArchivedStore) -> None:
    """Stop the drain of an instance at once, as if the instance was killed."""
    for task in store._drain._tasks:
        task.cancel()


async def test_a_change_is_archived_soon(instance: Instance) -> None:
    """No call has to wait for it."""
    store, archive = await instance()
    await store.create_conversation(conversation(title="One"))
    await eventually_titled(archive, "One")
    await store.update_conversation("ann", "c1", Change(title="Two"), NOW + 1)
    await eventually_titled(archive, "Two")
    await store.delete_conversation("ann", "c1")
    await eventually_titled(archive)


async def test_a_short_turn_is_archived_at_once(instance: Instance) -> None:
    """Its start and its ending are one transaction. A start whose ending doesn't follow is archived soon, or at the exit."""
    store, archive = await instance()
    await store.create_conversation(conversation(title="One"))
    await eventually_titled(archive, "One")
    archive.applied.clear()
    await run(store, new_turn())
    async with asyncio.timeout(10):
        while len((await archive.messages("ann", "c1", 10, None, None))[0]) < 2:
            await asyncio.sleep(0.02)
    assert len(archive.applied) == 1
    await store.accept(new_turn("t2", parent="t1.answer"))
    async with asyncio.timeout(drain.LATER_S + 5):
        while await archive.message("ann", "t2.question") is None:
            await asyncio.sleep(0.02)
    await store.accept(new_turn("t3", parent="t1.answer"))
    await store._drain.close()
    assert await archive.message("ann", "t3.question") is not None


async def test_stale_entries_of_many_users_pause_the_drain_once(
    instance: Instance, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another instance has already archived what this one has read for twenty users. The drain pauses once, not once for
    each user."""
    slow, slow_archive = await instance()
    fast, _ = await instance()
    monkeypatch.setattr(drain, "STALE_DELAY_S", 0.4)
    users = [f"user{n}" for n in range(20)]
    slow_archive.before_commit = asyncio.Event()
    for user in users:
        await slow.create_conversation(conversation(user=user))
    await slow_archive.reached.wait()
    for user in users:
        await fast.update_conversation(user, "c1", Change(title="New"), NOW + 1)
    await asyncio.gather(*map(fast._drain.settle, users))
    slow_archive.before_commit.set()
    slow_archive.before_commit = None
    async with asyncio.timeout(3):
        await asyncio.gather(*map(slow._drain.settle, users))


async def test_a_slow_instance_changes_nothing_late(instance: Instance) -> None:
    """An instance that has read an outbox and commits after another one has archived newer changes is ignored."""
    slow, slow_archive = await instance()
    fast, archive = await instance()
    slow_archive.before_commit = asyncio.Event()
    await slow.create_conversation(conversation(title="Old"))
    await slow_archive.reached.wait()
    await fast.update_conversation("ann", "c1", Change(title="New"), NOW + 1)
    await eventually_titled(archive, "New")
    slow_archive.before_commit.set()
    slow_archive.before_commit = None
    await slow._drain.settle("ann")
    assert await titles(archive) == ["New"]


async def test_a_slow_instance_does_not_bring_back_what_was_deleted(instance: Instance) -> None:
    """Also if the id was used again meanwhile."""
    slow, slow_archive = await instance()
    fast, archive = await instance()
    slow_archive.before_commit = asyncio.Event()
    await slow.create_conversation(conversation(title="Old"))
    await slow_archive.reached.wait()
    await fast.delete_conversation("ann", "c1")
    await eventually_titled(archive)
    await fast.create_conversation(conversation(title="New"))
    await eventually_titled(archive, "New")
    slow_archive.before_commit.set()
    slow_archive.before_commit = None
    await slow._drain.settle("ann")
    assert await titles(archive) == ["New"]


async def test_a_drain_under_way_brings_no_erased_user_back(instance: Instance) -> None:
    """What an instance has read before the erasure and commits after it is erased again."""
    slow, slow_archive = await instance()
    other, archive = await instance()
    slow_archive.before_commit = asyncio.Event()
    await slow.create_conversation(conversation(title="Old"))
    await slow_archive.reached.wait()
    await other.erase_user("ann")
    slow_archive.before_commit.set()
    slow_archive.before_commit = None
    await slow._drain.settle("ann")
    assert slow_archive.applied
    assert await titles(archive) == []


async def test_an_erased_user_who_begins_again_keeps_what_is_new(instance: Instance) -> None:
    """Also if two instances archive the same changes, and the slower one finds that they are gone from the outbox."""
    slow, slow_archive = await instance()
    fast, archive = await instance()
    await fast.create_conversation(conversation(title="Old"))
    await fast.put_ephemeral(erased_key("ann"), b"1", 3_600_000)
    await fast.erase_user("ann")
    await fast._drain.settle("ann")  # otherwise this instance could be the first to find what is new
    slow_archive.before_commit = asyncio.Event()
    await slow.create_conversation(conversation(title="New"))
    await slow_archive.reached.wait()
    fast._drain.note("ann")
    await eventually_titled(archive, "New")
    slow_archive.before_commit.set()
    slow_archive.before_commit = None
    await slow._drain.settle("ann")
    assert await titles(archive) == ["New"]


async def test_a_change_during_the_commit_stays_in_the_outbox(instance: Instance) -> None:
    """The acknowledgement removes only what was read."""
    store, archive = await instance()
    archive.after_commit = asyncio.Event()
    await store.create_conversation(conversation(title="Old"))
    await archive.reached.wait()
    await store.update_conversation("ann", "c1", Change(title="New"), NOW + 1)
    archive.after_commit.set()
    archive.after_commit = None
    await eventually_titled(archive, "New")


async def test_the_set_of_pinned_conversations_expires(instance: Instance, shared_redis: RedisProcess) -> None:
    """Like the user's other keys, once all of it is in the archive. That is also so when a conversation comes back."""
    store, _ = await instance()
    key = user_prefix("ann") + b"pinned"
    await store.create_conversation(conversation())
    await store.update_conversation("ann", "c1", Change(pinned=True), NOW)
    await store._drain.settle("ann")
    assert shared_redis.execute("PTTL", key) > 0
    forget_history(shared_redis)
    shared_redis.execute("DEL", key)
    await store._restorer.restore("ann", "c1")
    assert shared_redis.execute("PTTL", key) > 0
    assert shared_redis.execute("SMEMBERS", key) == [b"c1"]


async def test_retention_finds_the_next_conversations_after_a_deletion(instance: Instance) -> None:
    """Those that were deleted a moment ago, or changed, aren't found again, so a sweep goes on at once. A conversation's own
    retention counts."""
    store, archive = await instance()
    for n in range(4):
        await store.create_conversation(conversation(f"c{n}", at=NOW + n))
    await store.create_conversation(conversation("own", at=NOW - 9 * DAY_MS, retention_days=20))
    await store.create_conversation(conversation("never", at=NOW - 99 * DAY_MS, retention_days=0))
    await store._drain.settle("ann")
    now = NOW + 5 * DAY_MS
    found = await store.expired_conversations(now, 3, 2)
    assert found == [("ann", "c0"), ("ann", "c1")]
    archive.before_commit = asyncio.Event()
    for _, name in found:
        await store.delete_conversation("ann", name)
    await store.update_conversation("ann", "c2", Change(title="New"), now)
    await archive.reached.wait()
    asyncio.get_running_loop().call_later(0.1, archive.before_commit.set)
    archive.before_commit = None
    assert await store.expired_conversations(now, 3, 2) == [("ann", "c3")]
    assert await store.expired_conversations(NOW + 11 * DAY_MS + 1, 0, 9) == [("ann", "own")]


@pytest.mark.parametrize("step", ["before_commit", "after_commit"])
async def test_what_a_dead_instance_leaves_is_archived_once(
    instance: Instance, step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another instance finds the user in the index, whether the dead one has committed or not."""
    monkeypatch.setattr(sweep, "INDEX_AGE_MS", 0)
    dead, dead_archive = await instance()
    setattr(dead_archive, step, asyncio.Event())
    ended = asyncio.create_task(run(cast("Any", dead), new_turn(conversation=None, new_conversation=conversation())))
    await dead_archive.reached.wait()
    await ended
    kill(dead)
    monkeypatch.setattr(sweep, "SWEEP_INTERVAL_S", 0.05)
    other, archive = await instance()
    await eventually_titled(archive, "A title")
    async with asyncio.timeout(10):
        while (await SqlArchive.usage(archive, "ann", None, None)).input_tokens != 1:
            await asyncio.sleep(0.02)
    (state,) = await other._hot.outbox_states(["ann"])
    assert (await SqlArchive.usage(archive, "ann", None, None)).input_tokens == 1
    async with asyncio.timeout(10):
        while state.entries or await other._hot.indexed_outboxes(0):
            (state,) = await other._hot.outbox_states(["ann"])
            await asyncio.sleep(0.02)


async def test_the_index_keeps_a_user_whose_outbox_is_filled_again(instance: Instance) -> None:
    """A user is removed from the index only if its number there is still the one from when the outbox was found empty."""
    store, _ = await instance()
    await store.create_conversation(conversation())
    (seen,) = await store._hot.indexed_outboxes(0)
    await store.create_conversation(conversation("c2"))
    await store._hot.unindex_outboxes([seen])
    (again,) = await store._hot.indexed_outboxes(0)
    assert again[1] > seen[1]


async def test_numbers_that_have_fallen_lose_nothing(instance: Instance, shared_redis: RedisProcess) -> None:
    """If Redis loses its data and its clock is an hour behind the last change, new changes still get numbers that the
    archive accepts."""
    store, archive = await instance()
    ahead_us = 10**6 * (3600 + int(shared_redis.execute("TIME")[0]))
    shared_redis.execute("SET", "turnwire:{@ann}:change", str(ahead_us))
    await store.create_conversation(conversation(title="Ahead"))
    await eventually_titled(archive, "Ahead")
    shared_redis.execute("FLUSHALL")
    await store.create_conversation(conversation("c2", title="Behind"))
    await store.update_conversation("ann", "c1", Change(title="Renamed"), NOW + 2)
    await store._drain.settle("ann")
    assert await titles(archive) == ["Renamed", "Behind"]


async def test_a_refused_entry_is_set_aside(instance: Instance) -> None:
    """The others are archived; the refused entry is named, and can be put back."""
    store, archive = await instance()
    await store.create_conversation(conversation(title="Good"))
    await store.create_conversation(conversation("bad", title="Bad", at=10**15))
    await store._drain.settle("ann")
    assert await titles(archive) == ["Good"]
    assert store.archive_state.set_aside == 1
    assert await store._hot.users_aside() == ["ann"]
    (named,) = await store._hot.entries_aside("ann")
    assert named == "conversation bad"
    assert await store._hot.put_back("ann") == 1
    await store._drain.settle("ann")
    assert store.archive_state.set_aside == 2


async def test_a_page_has_what_is_not_archived_yet(instance: Instance, shared_redis: RedisProcess) -> None:
    """Redis may have forgotten messages that are archived, while later ones of the same conversation still wait."""
    store, archive = await instance()
    await store.create_conversation(conversation())
    await run(cast("Any", store), new_turn())
    await store._drain.settle("ann")
    archive.before_commit = asyncio.Event()
    await run(cast("Any", store), new_turn("t2"))
    async with asyncio.timeout(5):
        await archive.reached.wait()
    shared_redis.execute("DEL", "turnwire:{@ann}:message:t1.question", "turnwire:{@ann}:message:t1.answer")
    reading = asyncio.ensure_future(store.messages("ann", "c1", 10, None))
    await asyncio.sleep(0.2)
    archive.before_commit.set()
    page = [one.id for one in (await reading)[0]]
    assert page == ["t1.question", "t1.answer", "t2.question", "t2.answer"]


async def test_what_can_not_be_read_from_redis_is_set_aside(instance: Instance, shared_redis: RedisProcess) -> None:
    """Damaged data of one user stops neither the user's other changes nor other users."""
    store, archive = await instance()
    await store.create_conversation(conversation("bad"))
    shared_redis.execute("HSET", "turnwire:{@ann}:conversation:bad", "revision", "x")
    await store.create_conversation(conversation(title="Good"))
    await store._drain.settle("ann")
    assert await titles(archive) == ["Good"]
    assert list(await store._hot.entries_aside("ann")) == ["conversation bad"]


async def test_while_the_archive_is_away_nothing_in_use_fails(instance: Instance, shared_redis: RedisProcess) -> None:
    """The outbox keeps everything beyond its time to live, and is archived when the archive is back."""
    store, archive = await instance(history_ttl_s=0.3)
    await store.create_conversation(conversation(title="Kept"))
    await store._drain.settle("ann")
    archive.is_away = True
    await run(cast("Any", store), new_turn())
    async with asyncio.timeout(5):
        while not store.archive_state.is_degraded:
            await asyncio.sleep(0.02)
    await asyncio.sleep(0.8)
    assert (await store.conversation("ann", "c1")).messages == 2
    assert [one.id for one in (await store.conversations("ann", 10, None))[0]] == ["c1"]
    assert (await store.usage("ann", None, None)).input_tokens == 1
    assert len((await store.messages("ann", "c1", 10, None))[0]) == 2
    for call in (store.conversation("ann", "unknown"), store.message("ann", "unknown")):
        with pytest.raises(ArchiveError):
            await call
    with pytest.raises(ArchiveError):
        await store.create_conversation(conversation("own-id"))
    await store.delete_conversation("ann", "c1")
    with pytest.raises(NotFound):
        await store.conversation("ann", "c1")
    await store.accept(
        new_turn("t2", conversation=None, new_conversation=conversation("c_" + "A" * 22), limits=TurnLimits())
    )
    archive.is_away = False
    async with asyncio.timeout(10):
        while store.archive_state.is_degraded or await titles(archive) != ["A title"]:
            await asyncio.sleep(0.02)
    await store._drain.settle("ann")
    await asyncio.sleep(0.8)
    assert not shared_redis.execute("KEYS", "turnwire:{@ann}:conversation:*")
    assert (await store.conversation("ann", "c_" + "A" * 22)).messages == 1


async def test_an_archive_that_is_away_is_noticed_without_a_change(
    instance: Instance, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also an instance that has nothing to write reports that the archive is away, and that it is back."""
    monkeypatch.setattr(sweep, "SWEEP_INTERVAL_S", 0.05)
    store, archive = await instance()
    for is_away in (True, False):
        archive.is_away = is_away
        async with asyncio.timeout(5):
            while store.archive_state.is_degraded is not is_away:
                await asyncio.sleep(0.02)


async def test_an_archive_that_can_only_be_read_stays_degraded(instance: Instance) -> None:
    """A full disk lets the archive answer, but what waits can't be written: the state doesn't change at each attempt."""
    store, archive = await instance()
    archive.is_full = True
    await store.create_conversation(conversation(title="Kept"))
    async with asyncio.timeout(5):
        while not store.archive_state.is_degraded:
            await asyncio.sleep(0.01)
    end = asyncio.get_running_loop().time() + 1
    while asyncio.get_running_loop().time() < end:
        assert store.archive_state.is_degraded
        await asyncio.sleep(0)
    archive.is_full = False
    async with asyncio.timeout(10):
        while store.archive_state.is_degraded:
            await asyncio.sleep(0.02)
    assert await titles(archive) == ["Kept"]


async def test_a_synchronous_ending_waits_for_the_archive(instance: Instance) -> None:
    """`end` and `delete_conversation` return when the archive has them, and raise if it is away; repeating helps."""
    store, archive = await instance(sync=True)
    await store.create_conversation(conversation())
    turn = await running(cast("Any", store), new_turn())
    await store._drain.settle("ann")
    archive.is_away = True
    last = ending(turn)
    with pytest.raises(StoreError):
        await store.end(last)
    archive.is_away = False
    async with asyncio.timeout(10):
        while True:
            try:
                await store.end(last)
                break
            except StoreError:
                await asyncio.sleep(0.02)
    assert (await SqlArchive.usage(archive, "ann", None, None)).input_tokens == 1
    await store.delete_conversation("ann", "c1")
    assert await titles(archive) == []


async def test_a_synchronous_ending_that_redis_loses_is_not_confirmed(
    instance: Instance, shared_redis: RedisProcess
) -> None:
    """Redis loses its data while an ending or a deletion waits for the archive: it isn't confirmed, and repeating it helps."""
    store, archive = await instance(sync=True)
    await store.create_conversation(conversation())
    accepted = new_turn()
    turn = await running(cast("Any", store), accepted)
    await store._drain.settle("ann")

    async def lose_during(call: Any) -> None:
        read = store._drain._outboxes.read_outboxes

        async def lose_and_read(users: list[str]) -> Any:
            shared_redis.execute("FLUSHALL")
            return await read(users)

        store._drain._outboxes.read_outboxes = lose_and_read  # type: ignore[method-assign]
        try:
            with pytest.raises((StoreError, NotFound)):
                await call
        finally:
            store._drain._outboxes.read_outboxes = read  # type: ignore[method-assign]

    await lose_during(store.end(ending(turn)))
    await store.accept(structs.replace(accepted, limits=None))
    await store.end(ending(turn))
    assert (await SqlArchive.usage(archive, "ann", None, None)).input_tokens == 1
    await lose_during(store.delete_conversation("ann", "c1"))
    await store.delete_conversation("ann", "c1")
    assert await titles(archive) == []


async def test_a_conversation_that_is_lost_again_while_it_comes_back(
    instance: Instance, shared_redis: RedisProcess
) -> None:
    """Redis loses a conversation that came back from the archive, before the start that needs it: no new one takes its
    place."""
    store, archive = await instance()
    await store.create_conversation(conversation())
    await run(cast("Any", store), new_turn())
    await store._drain.settle("ann")
    restore = store._hot.restore_conversation

    async def restore_and_lose(*args: Any, **fields: Any) -> None:
        store._hot.restore_conversation = restore  # type: ignore[method-assign]
        await restore(*args, **fields)
        shared_redis.execute("FLUSHALL")

    for start in ("turn", "create"):
        shared_redis.execute("FLUSHALL")
        store._hot.restore_conversation = restore_and_lose  # type: ignore[method-assign]
        if start == "turn":
            again = new_turn(turn="t2", message="a2")
            new = structs.replace(again, conversation=None, new_conversation=conversation(), input=None)
            await store.accept(new)
        else:
            await store.create_conversation(conversation())
        await store._drain.settle("ann")
        assert len((await SqlArchive.messages(archive, "ann", "c1", 10, None, None))[0]) == 2, start


async def test_the_first_ending_of_a_turn_stays(instance: Instance) -> None:
    """A Redis that was rolled back has lost an ending, and stores another one: the archive keeps the first one."""
    store, archive = await instance()
    await store.create_conversation(conversation())
    await run(cast("Any", store), new_turn())
    await store._drain.settle("ann")
    (entry,) = [
        one
        for batches in archive.applied
        for batch in batches
        for one in batch.entries
        if isinstance(one.item, ArchivedMessage) and one.item.record.role == "assistant"
    ]
    assert isinstance(entry.item, ArchivedMessage)
    body = b'{"parts":[{"kind":"text","text":"less"}],"ended":"%s"}'

    async def write(ended: bytes, number: int) -> ArchivedMessage:
        assert isinstance(entry.item, ArchivedMessage)
        record = structs.replace(entry.item.record, id="other", body=body % ended)
        item = structs.replace(entry.item, record=record, number=number)
        change = 2**52 + number
        batch = OutboxBatch(user="ann", entries=(OutboxEntry(member=b"m:other", change=change, item=item),))
        await SqlArchive.apply(archive, [batch])
        found = await archive.message("ann", "other")
        assert found is not None
        return found

    assert (await write(b"completed", 8)).record.body == body % b"completed"
    second = await write(b"failed", 9)
    assert (second.record.body, second.number) == (body % b"completed", 9)


async def test_what_redis_had_before_the_archive_is_archived(instance: Instance, shared_redis: RedisProcess) -> None:
    """A user's first list archives all conversations, with messages, ratings and usage. A change of a conversation archives
    all of its messages too."""
    async with redis_store(shared_redis.url) as before:
        await before.create_conversation(conversation(title="Listed"))
        await run(before, new_turn())
        await before.put_feedback("ann", "t1.answer", "up", "fine", NOW, "demo")
        await run(before, stateless_turn("t2"))
        await before.create_conversation(conversation("c1", "bob", title="Changed"))
        await run(before, new_turn(user="bob"))
    store, archive = await instance()
    assert [one.title for one in (await store.conversations("ann", 10, None))[0]] == ["Listed"]
    assert (await store.usage("ann", None, None)).input_tokens == 2
    await store.update_conversation("bob", "c1", Change(title="Changed again"), NOW)
    await store._drain.settle("bob")
    forget_history(shared_redis)
    for user in ("ann", "bob"):
        assert [one.id for one in (await store.messages(user, "c1", 10, None))[0]] == ["t1.question", "t1.answer"]
    assert (await store.list_feedback(FeedbackFilter(), 10, None))[0][0].comment == "fine"
    assert (await SqlArchive.usage(archive, "ann", None, None)).input_tokens == 2


async def test_a_read_from_before_a_deletion_brings_nothing_back(instance: Instance) -> None:
    """An instance that has read a conversation from the archive can't restore it after it was deleted."""
    store, archive = await instance()
    await run(cast("Any", store), new_turn(conversation=None, new_conversation=conversation()))
    await store._drain.settle("ann")
    found = await SqlArchive.conversation(archive, "ann", "c1")
    assert found is not None
    await store.delete_conversation("ann", "c1")
    with pytest.raises(NotFound):
        await store._hot.restore_conversation("ann", found, [], has_older=False)
    with pytest.raises(NotFound):
        await store.message("ann", "t1.answer")


async def test_a_turn_outlives_redis_and_the_archive(instance: Instance, shared_redis: RedisProcess) -> None:
    """If Redis is lost while the archive is away, a running turn is restored in the conversation that the archive has."""
    store, archive = await instance()
    await store.create_conversation(conversation(title="First"))
    await run(cast("Any", store), new_turn())
    new = new_turn("t2")
    record = (await store.accept(new)).conversation
    assert record is not None
    await store._drain.settle("ann")
    archive.is_away = True
    shared_redis.execute("FLUSHALL")
    lost = structs.replace(new, limits=None)
    with pytest.raises(NotFound):
        await store.accept(lost)
    known = structs.replace(record, head=None, messages=0)
    turn = (await store.accept(structs.replace(lost, conversation=None, new_conversation=known))).turn
    await store.end(ending(turn))
    archive.is_away = False
    async with asyncio.timeout(10):
        while store.archive_state.is_degraded:
            await asyncio.sleep(0.02)
    await store._drain.settle("ann")
    shared_redis.execute("FLUSHALL")
    messages = [one.id for one in (await store.messages("ann", "c1", 10, None))[0]]
    assert messages == ["t1.question", "t1.answer", "t2.question", "t2.answer"]
    assert (await store.conversation("ann", "c1")).title == "First"


async def test_the_archive_counts_for_the_limits(instance: Instance, shared_redis: RedisProcess) -> None:
    """Also what Redis has forgotten counts for the limits of conversations and of bytes."""
    store, _ = await instance()
    for n in range(3):
        await store.create_conversation(conversation(f"c{n}", title="1234567890"))
    await store._drain.settle("ann")
    forget_history(shared_redis)
    for limits in (TurnLimits(conversations=3), TurnLimits(stored_bytes=40)):
        with pytest.raises(Limited):
            await store.create_conversation(conversation("more", title="1234567890"), limits)
    await store.delete_conversation("ann", "c0")
    await store.create_conversation(conversation("more"), TurnLimits(conversations=3, stored_bytes=40))


LONG = 10_000


async def test_a_very_long_conversation_goes_on(instance: Instance, shared_redis: RedisProcess) -> None:
    """Only the newest messages of a conversation with 10,000 come back; the others are read where they are."""
    store, archive = await instance()
    await store.create_conversation(conversation(title="Long"))
    await store._drain.settle("ann")
    found = await SqlArchive.conversation(archive, "ann", "c1")
    assert found is not None
    for start in range(1, LONG + 1, 5000):
        entries = [
            OutboxEntry(
                member=b"m:%d" % number,
                change=found.change + number,
                item=ArchivedMessage(
                    record=message(f"m{number}", parent=f"m{number - 1}" if number > 1 else None),
                    conversation="c1",
                    number=number,
                    incarnation=found.incarnation,
                ),
            )
            for number in range(start, start + 5000)
        ]
        await SqlArchive.apply(archive, [OutboxBatch(user="ann", entries=tuple(entries))])
    head = structs.replace(found.record, head=f"m{LONG}", messages=LONG, revision=found.record.revision + 1)
    last = structs.replace(found, record=head, change=found.change + LONG + 1, next_number=LONG + 1)
    entry = OutboxEntry(member=b"c:", change=last.change, item=last)
    await SqlArchive.apply(archive, [OutboxBatch(user="ann", entries=(entry,))])
    shared_redis.execute("FLUSHALL")
    await run(cast("Any", store), new_turn())
    assert (await store.conversation("ann", "c1")).messages == LONG + 2
    assert len(shared_redis.execute("KEYS", "turnwire:{@ann}:message:*")) <= 502
    page, more = await store.messages("ann", "c1", 600, None)
    assert ([one.id for one in page[:2]], more) == ([f"m{LONG - 597}", f"m{LONG - 596}"], True)
    assert [one.id for one in page[-3:]] == [f"m{LONG}", "t1.question", "t1.answer"]
    page, more = await store.messages("ann", "c1", 10, "m11")
    assert ([one.id for one in page], more) == ([f"m{n}" for n in range(1, 11)], False)
    branch, older = await store.branch("ann", "c1", "t1.answer", 10_000)
    assert branch[-1].id == "t1.answer"
    assert len(branch) > 502
    assert len(branch) + older == LONG + 2
    for limit in (1, 2, 501, 502, 503, 600):
        branch, older = await store.branch("ann", "c1", "t1.answer", None, limit)
        assert (len(branch), branch[-1].id, older) == (limit, "t1.answer", LONG + 2 - limit)
    await run(cast("Any", store), new_turn("t2", parent="m7"))
    branch, _ = await store.branch("ann", "c1", "t2.answer")
    assert [one.id for one in branch] == [*(f"m{n}" for n in range(1, 8)), "t2.question", "t2.answer"]
    await store.put_feedback("ann", "m3", "up", None, NOW)
    assert (await store.message("ann", "m3")).rating == "up"
    await store.update_conversation("ann", "c1", Change(head="m5"), NOW)
    page, more = await store.messages("ann", "c1", 3, "m9")
    assert [one.id for one in page] == ["m6", "m7", "m8"]
    assert len(shared_redis.execute("KEYS", "turnwire:{@ann}:message:*")) <= 510
    assert (await store.usage("ann", None, None)) == Counters(2, 4, 6, 8, 10, 12)
