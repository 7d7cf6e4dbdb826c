"""A long history from before an archive was set up is archived in slices: no script call is linear in its size."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast

import pytest
import redis
from sqlalchemy.ext.asyncio import AsyncConnection

from store.archive import access
from store.archive.api import Archive
from store.archive.archived_store import ArchivedStore
from store.archive.records import ArchivedMessage
from store.archive.sql_archive import SqlArchive
from store.errors import NotFound
from store.records import Change
from store.redis import history, outbox
from store.redis.keys import user_prefix
from store.redis.store import RedisStore
from tests.archived_stores import archived_store, forget_history, new_archive_file
from tests.redis_process import RedisProcess, redis_store, shared_redis
from tests.stored import NOW, body, conversation, new_turn, run

__all__ = ["shared_redis"]

PREFIX = user_prefix("ann").decode()
OUTBOX, UNMARKED = PREFIX + "outbox", PREFIX + "unmarked"
LENGTH = 95
SLICE = 20


@pytest.fixture
def client(shared_redis: RedisProcess, monkeypatch: pytest.MonkeyPatch) -> Iterator[redis.Redis]:
    """A client of an empty Redis. The scripts take small slices, and a slow machine may take its time for the archive."""
    monkeypatch.setattr(access, "SETTLE_S", 110)
    monkeypatch.setattr(outbox, "MARKED_MAX", SLICE)
    monkeypatch.setattr(outbox, "BACKFILLED_MAX", SLICE)
    shared_redis.execute("FLUSHALL")
    with redis.Redis.from_url(shared_redis.url, protocol=2, decode_responses=True) as opened:
        yield opened


async def store_earlier(client: redis.Redis, url: str, *names: str, length: int = LENGTH) -> None:
    """Store conversations of `length` messages each, as a store without an archive does."""
    async with redis_store(url) as before:
        for name in names:
            await before.create_conversation(conversation(name, title=name))
    with client.pipeline(transaction=False) as pipeline:
        for name in names:
            for number in range(1, length + 1):
                fields: dict[Any, Any] = {
                    "id": f"{name}.m{number}",
                    "conversation": name,
                    "role": "user",
                    "created_ms": NOW,
                    "body": body(f"text {number}"),
                }
                if number > 1:
                    fields["parent"] = f"{name}.m{number - 1}"
                pipeline.hset(f"{PREFIX}message:{name}.m{number}", mapping=fields)
                pipeline.pexpire(f"{PREFIX}message:{name}.m{number}", 3_600_000)
                pipeline.zadd(f"{PREFIX}messages:{name}", {f"{name}.m{number}": number})
            pipeline.hset(
                f"{PREFIX}conversation:{name}", mapping={"n": length, "messages": length, "head": f"{name}.m{length}"}
            )
        pipeline.execute()


@asynccontextmanager
async def opened(url: str, path: Path) -> AsyncIterator[tuple[ArchivedStore, SqlArchive]]:
    """Open a store with an empty archive."""
    archive = SqlArchive(await new_archive_file(path / "archive.db"))
    async with archived_store(url, cast("Archive", archive)) as store:
        yield store, archive


async def check_archived(archive: SqlArchive, name: str, *added: str) -> None:
    """Check that the archive has all messages in order, each with the number of those before it."""
    expected = [f"{name}.m{number}" for number in range(1, LENGTH + 1)] + list(added)
    page, more = await archive.messages("ann", name, 1000, None, None)
    assert ([one.record.id for one in page], more) == (expected, False)
    assert (await archive.branch("ann", name, expected[-1], None, 1))[1] == len(expected) - 1

    async def work(connection: AsyncConnection) -> Any:
        return (await connection.exec_driver_sql("SELECT count(*) FROM messages WHERE depth IS NULL")).scalar()

    assert await archive._database.read(work) == 0


async def _change(store: Any) -> None:
    await store.update_conversation("ann", "c1", Change(title="changed"), NOW)


async def _rate(store: Any) -> None:
    await store.put_feedback("ann", "c1.m7", "up", None, NOW)


async def _backfill(store: Any) -> None:
    await store.backfill_outbox("ann")


@pytest.mark.parametrize("begin", [_change, _rate, _backfill])
async def test_no_call_marks_more_than_a_slice(begin: Any, shared_redis: RedisProcess, client: redis.Redis) -> None:
    """The conversation counts as archived, and what is in it expires, only when its last message is marked."""
    await store_earlier(client, shared_redis.url, "c1")
    async with redis_store(shared_redis.url, archived=True) as store:
        await begin(store)
        marked = client.zcard(OUTBOX)
        assert marked <= 2
        more = ["ann"]
        while more:
            assert client.hget(PREFIX + "conversation:c1", "archived") is None
            (read,) = await store.read_outboxes(["ann"])
            assert (read.unmarked, read.more) == (True, True)
            (state,) = await store.outbox_states(["ann"])
            assert state.entries > LENGTH
            more = await store.mark_earlier(more)
            assert marked < client.zcard(OUTBOX) <= marked + SLICE
            marked = client.zcard(OUTBOX)
        assert client.hget(PREFIX + "conversation:c1", "archived") == "1"
        assert marked == LENGTH + 1
        assert client.ttl(PREFIX + "message:c1.m1") == -1
        assert [member for member in client.zrange(OUTBOX, 0, -1) if member[0] == "m"] == [
            f"m:c1.m{number}" for number in range(1, LENGTH + 1)
        ]
        await begin(store)
        assert client.exists(UNMARKED) == 0


async def test_many_conversations_are_looked_through_in_slices(
    shared_redis: RedisProcess, client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also if many have the same place in the list, each is marked once."""
    names = [f"c{n:03}" for n in range(LENGTH)]
    await store_earlier(client, shared_redis.url, *names, length=1)
    ranked: Any = client.zrange(PREFIX + "conversations", 0, -1, withscores=True)
    scores: dict[str, float] = dict(ranked)
    client.zadd(PREFIX + "conversations", {member: min(scores.values()) for member in list(scores)[30:80]})
    async with redis_store(shared_redis.url, archived=True) as store:
        calls: list[int] = []
        run_scripts = store._client.scripts

        async def counted(*args: Any, **options: Any) -> Any:
            before = client.zcard(OUTBOX)
            replies = await run_scripts(*args, **options)
            calls.append(client.zcard(OUTBOX) - before)
            return replies

        monkeypatch.setattr(store._client, "scripts", counted)
        await store.backfill_outbox("ann")
        assert max(calls) <= 4 * SLICE
        assert sum(calls) == client.zcard(UNMARKED) == LENGTH
        await store.backfill_outbox("ann")
        assert client.zcard(OUTBOX) == LENGTH


async def test_what_a_dead_instance_has_half_marked_is_archived(
    shared_redis: RedisProcess, client: redis.Redis, tmp_path: Path
) -> None:
    """Another instance goes on where the dead one stopped. The messages and ratings that were added meanwhile are archived
    too, and the first list waits for everything."""
    await store_earlier(client, shared_redis.url, "c1", "c2")
    async with redis_store(shared_redis.url, archived=True) as dead:
        await dead.update_conversation("ann", "c1", Change(title="changed"), NOW)
        assert await dead.mark_earlier(["ann"]) == ["ann"]
        await run(dead, new_turn())
        await dead.put_feedback("ann", "c1.m1", "up", "marked", NOW)
        await dead.put_feedback("ann", "c1.m90", "down", "unmarked", NOW)
    async with opened(shared_redis.url, tmp_path) as (store, archive):
        assert {one.title for one in (await store.conversations("ann", 10, None))[0]} == {"changed", "c2"}
        await check_archived(archive, "c1", "t1.question", "t1.answer")
        await check_archived(archive, "c2")
        forget_history(shared_redis)
        assert (await store.message("ann", "c1.m1")).rating == "up"
        assert (await store.message("ann", "c1.m90")).rating == "down"


async def test_a_list_does_not_wait_for_a_long_history(
    shared_redis: RedisProcess, client: redis.Redis, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Until the archive has it, Redis answers, also for what isn't marked yet."""
    monkeypatch.setattr(access, "BACKLOG_MAX", LENGTH)
    await store_earlier(client, shared_redis.url, "c1")
    async with opened(shared_redis.url, tmp_path) as (store, archive):
        settled = store._drain.settle
        monkeypatch.setattr(store._drain, "settle", None)
        assert [one.title for one in (await store.conversations("ann", 10, None))[0]] == ["c1"]
        monkeypatch.setattr(store._drain, "settle", settled)
        async with asyncio.timeout(60):
            while (await store._hot.outbox_states(["ann"]))[0].entries:
                await asyncio.sleep(0.02)
        assert [one.title for one in (await store.conversations("ann", 10, None))[0]] == ["c1"]
        await check_archived(archive, "c1")


async def test_a_half_marked_conversation_is_deleted(
    shared_redis: RedisProcess, client: redis.Redis, tmp_path: Path
) -> None:
    """Neither the archive nor what is to be marked has it afterwards; the id may be used again."""
    await store_earlier(client, shared_redis.url, "c1")
    async with opened(shared_redis.url, tmp_path) as (store, archive):
        await store._hot.update_conversation("ann", "c1", Change(title="changed"), NOW)
        await store._hot.mark_earlier(["ann"])
        await store.delete_conversation("ann", "c1")
        assert client.exists(UNMARKED) == 0
        await store.create_conversation(conversation("c1", title="new"))
        await store._drain.settle("ann")
        assert (await archive.messages("ann", "c1", 10, None, None))[0] == []
        assert [one.title for one in (await store.conversations("ann", 10, None))[0]] == ["new"]


@pytest.mark.parametrize("archived", [False, True])
async def test_a_long_conversation_is_deleted_in_slices(
    archived: bool, shared_redis: RedisProcess, client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After the first slice nobody finds its messages, and after the last one nothing of it is left. `archived`: with an
    archive."""
    monkeypatch.setattr(history, "TRASH_PER_CALL", SLICE)
    await store_earlier(client, shared_redis.url, "c1", "c2")
    before = set(client.keys())
    async with (
        redis_store(shared_redis.url, archived=archived) as store,
        redis_store(shared_redis.url, archived=archived) as other,
    ):
        await store.put_feedback("ann", "c1.m95", "up", None, NOW, "demo")
        while archived and await store.mark_earlier(["ann"]):
            pass
        deleted: list[int] = []
        run_scripts = store._client.scripts

        async def counted(*args: Any, **options: Any) -> Any:
            count = len(client.keys(PREFIX + "message:*"))
            replies = await run_scripts(*args, **options)
            deleted.append(count - len(client.keys(PREFIX + "message:*")))
            await check_gone(other)
            return replies

        monkeypatch.setattr(store._client, "scripts", counted)
        await store.delete_conversation("ann", "c1")
        assert deleted == [SLICE] * (LENGTH // SLICE) + [LENGTH % SLICE]
        gone = {key for key in before if ":c1" in key}
        assert len(gone) > LENGTH
        assert not gone & set(client.keys())
        assert client.exists(PREFIX + "trash") == 0
        assert client.zcard("turnwire:feedback") == 0
        assert (await other.message("ann", "c2.m1")).id == "c2.m1"


async def check_gone(store: RedisStore) -> None:
    """Check that neither a reader nor the archive gets a message of the deleted conversation."""
    for call in (
        store.message("ann", "c1.m95"),
        store.messages("ann", "c1", 1, None),
        store.branch("ann", "c1", "c1.m95"),
    ):
        with pytest.raises(NotFound):
            await call
    (read,) = await store.read_outboxes(["ann"])
    assert not [entry for entry in read.batch.entries if isinstance(entry.item, ArchivedMessage)]


async def test_the_next_deletion_completes_one_that_was_interrupted(
    shared_redis: RedisProcess, client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also if the conversation that it names doesn't exist, as when the client repeats the deletion."""
    monkeypatch.setattr(history, "TRASH_PER_CALL", SLICE)
    await store_earlier(client, shared_redis.url, "c1")
    async with redis_store(shared_redis.url, archived=True) as store:
        assert (await store._script("delete_conversation", "ann", "c1"))[0] == b"ok"
        assert len(client.keys(PREFIX + "message:*")) == LENGTH
        with pytest.raises(NotFound):
            await store.delete_conversation("ann", "c1")
        assert client.keys(PREFIX + "message*") == []


async def test_a_change_restarts_the_time_to_live_of_the_newest_messages(
    shared_redis: RedisProcess, client: redis.Redis, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The archive has the others, so a change of a very long conversation doesn't touch all of them."""
    monkeypatch.setattr(outbox, "MARKED_MAX", 2000)
    await store_earlier(client, shared_redis.url, "c1", length=1100)
    async with opened(shared_redis.url, tmp_path) as (store, _):
        await store.conversations("ann", 10, None)
        for number in (1, 1100):
            client.pexpire(f"{PREFIX}message:c1.m{number}", 60_000)
        client.hset(PREFIX + "conversation:c1", "swept", 0)
        await store.update_conversation("ann", "c1", Change(title="changed"), NOW)
        assert client.ttl(PREFIX + "message:c1.m1") <= 60
        assert client.ttl(PREFIX + "message:c1.m1100") > 60
        client.delete(PREFIX + "message:c1.m1")
        page, more = await store.messages("ann", "c1", 5, "c1.m3")
        assert ([one.id for one in page], more) == (["c1.m1", "c1.m2"], False)
