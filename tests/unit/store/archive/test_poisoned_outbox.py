"""Entries of an outbox that can't be archived are set aside and named in the log. They delay no other change."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, NamedTuple, cast

import msgspec
import pytest
from structlog.testing import capture_logs

from store.archive import sweep
from store.archive.archived_store import ArchivedStore
from store.archive.sql_archive import SqlArchive
from store.errors import Damaged, StoreError
from store.records import FeedbackFilter
from store.redis.keys import outbox_bucket_of
from tests.archived_stores import archived_store, new_archive_file
from tests.redis_process import RedisProcess, shared_redis
from tests.stored import conversation, new_turn, run

__all__ = ["shared_redis"]

OUTBOX = b"turnwire:{@ann}:outbox"
LATE = 2 * 10**15
"""The number of a change long after the real ones."""
MIB = 2**20


class ArchivedRedis(NamedTuple):
    """A store with an archive, and its Redis. Ann's conversation c1 with the turn t1 is archived."""

    store: ArchivedStore
    archive: SqlArchive
    redis: RedisProcess


@pytest.fixture
async def setup(shared_redis: RedisProcess, tmp_path: Path) -> AsyncIterator[ArchivedRedis]:
    """A store with an archive."""
    shared_redis.execute("FLUSHALL")
    archive = SqlArchive(await new_archive_file(tmp_path / "archive.db"))
    async with archived_store(shared_redis.url, archive) as store:
        await store.create_conversation(conversation())
        await run(cast("Any", store), new_turn())
        await store._drain.settle("ann")
        yield ArchivedRedis(store, archive, shared_redis)


async def check_others_are_archived(setup: ArchivedRedis) -> None:
    """Check that the user's other changes, and those of another user, are archived in time."""
    store = setup.store
    await store.create_conversation(conversation("c2", title="Good"))
    await store.create_conversation(conversation(user="bob", title="Other"))
    async with asyncio.timeout(10):
        await asyncio.gather(store._drain.settle("ann"), store._drain.settle("bob"))
    assert "Good" in [one.title for one in (await setup.archive.conversations("ann", 9, None))[0]]
    assert [one.title for one in (await setup.archive.conversations("bob", 9, None))[0]] == ["Other"]
    assert not store.archive_state.is_degraded


def turn(*fields: object, counts: object = (1, 2, 3, 4, 5, 6)) -> bytes:
    """Return the member of a turn's entry."""
    return b"t:" + msgspec.msgpack.encode((fields, counts))


@pytest.mark.parametrize(
    "member",
    [
        b"garbage",
        b"",
        b"x:abc",
        b"t:",
        b"t:garbage",
        b't:{"turn": "t1"}',
        b"t:" + msgspec.msgpack.encode(5),
        b"t:" + msgspec.msgpack.encode({"turn": "t1"}),
        turn("t1", counts=[1]),
        turn(1, 2, 3, 4, 5, "x", counts=["a", "b"]),
        turn(["t1"], {}, None, [], 5, 1e300),
        turn("t1", None, None, "m", "completed", math.nan),
        b"d:\xff:\xff",
        b"t:" + b"x" * 16 * MIB,
        b"x:" + b"x" * 16 * MIB,
    ],
    ids=lambda member: repr(member[:24]),
)
async def test_an_entry_that_cannot_be_read(setup: ArchivedRedis, member: bytes) -> None:
    """Whatever its member is, it is set aside and counted, and the log has a short name for it."""
    setup.redis.execute("ZADD", OUTBOX, LATE, member)
    with capture_logs() as logs:
        await check_others_are_archived(setup)
    assert setup.redis.execute("ZCARD", OUTBOX) == 0
    assert setup.store.archive_state.set_aside == 1
    (name,) = await setup.store._hot.entries_aside("ann")
    assert len(name) < 300
    (line,) = [one for one in logs if one["log_level"] == "error"]
    assert line["user"] == "ann"
    assert len(line["entry"]) < 1000


@pytest.mark.parametrize("number", ["inf", "-inf", "1e30", "1.5"])
async def test_an_entry_with_an_invalid_number(setup: ArchivedRedis, number: str) -> None:
    """It is set aside, because the number of a change is a whole number that Redis holds exactly."""
    setup.redis.execute("ZADD", OUTBOX, number, b"d:0000000000000001:c9")
    await check_others_are_archived(setup)
    assert setup.redis.execute("ZCARD", OUTBOX) == 0
    assert list(await setup.store._hot.entries_aside("ann")) == ["deletion of c9"]


@pytest.mark.parametrize("kind", ["conversation", "message"])
async def test_a_key_of_another_type(setup: ArchivedRedis, kind: str) -> None:
    """The entry of a conversation or message whose key has something else is set aside."""
    (key, *_) = (one for one in sorted(setup.redis.keys()) if f":{kind}:".encode() in one)
    name = b"m:" + key.rpartition(b":")[2]
    if kind == "conversation":
        name = b"c:" + setup.redis.execute("HGET", key, "place")
    setup.redis.execute("DEL", key)
    setup.redis.execute("SET", key, "garbage")
    setup.redis.execute("ZADD", OUTBOX, LATE, name)
    await check_others_are_archived(setup)
    assert len(await setup.store._hot.entries_aside("ann")) == 1


async def test_a_cost_that_is_too_large_for_a_number(setup: ArchivedRedis) -> None:
    """The message is archived without a value in the column of its cost."""
    key = b"turnwire:{@ann}:message:t1.answer"
    setup.redis.execute("HSET", key, "body", b'{"parts":[],"cost":{"amount":"1e999999","currency":"USD"}}')
    setup.redis.execute("ZADD", OUTBOX, LATE, b"m:t1.answer")
    await check_others_are_archived(setup)
    assert setup.store.archive_state.set_aside == 0


async def test_an_outbox_of_another_type(setup: ArchivedRedis, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its user's changes wait, and the log reports this once. Other users, the list of all ratings and the sweep don't wait."""
    monkeypatch.setattr(sweep, "INDEX_AGE_MS", 0)
    monkeypatch.setattr(sweep, "SWEEP_INTERVAL_S", 0.05)
    store = setup.store
    await store.put_feedback("ann", "t1.answer", "up", None, 1, None)
    await store._drain.settle("ann")
    setup.redis.execute("SET", OUTBOX, "garbage")
    setup.redis.execute("ZADD", outbox_bucket_of("ann"), 1, "ann")
    with capture_logs() as logs:
        for _ in range(3):
            with pytest.raises(Damaged):
                await store._drain.settle("ann")
        await store.create_conversation(conversation(user="bob", title="Other"))
        await store._drain.settle("bob")
        assert [one.user for one in (await store.list_feedback(FeedbackFilter(), 9, None))[0]] == ["ann"]
        with pytest.raises(StoreError):
            await store.conversations("ann", 9, None)
    assert len([one for one in logs if one["log_level"] == "error"]) == 1
    setup.redis.execute("DEL", OUTBOX)
    await check_others_are_archived(setup)


@pytest.mark.parametrize(("member", "number"), [(b"\xff\xfe", "1"), (b"zed", "-inf"), (b"zed", "1.5")])
async def test_an_invalid_entry_of_the_index(setup: ArchivedRedis, member: bytes, number: str) -> None:
    """It is removed."""
    setup.redis.execute("ZADD", outbox_bucket_of("ann"), number, member)
    await setup.store._drain._sweep.sweep()
    await setup.store._drain.settle_all()
    assert setup.redis.execute("ZSCORE", outbox_bucket_of("ann"), member) is None
