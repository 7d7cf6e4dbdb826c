"""Something else has written into a user's data in Redis. It is set aside and named, and delays nobody."""

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


class Rig(NamedTuple):
    """A store with an archive, and its Redis. Ann's conversation c1 with the turn t1 is archived."""

    store: ArchivedStore
    archive: SqlArchive
    redis: RedisProcess


@pytest.fixture
async def rig(shared_redis: RedisProcess, tmp_path: Path) -> AsyncIterator[Rig]:
    """A store with an archive."""
    shared_redis.execute("FLUSHALL")
    archive = SqlArchive(await new_archive_file(tmp_path / "archive.db"))
    async with archived_store(shared_redis.url, archive) as store:
        await store.create_conversation(conversation())
        await run(cast("Any", store), new_turn())
        await store._drain.settle("ann")
        yield Rig(store, archive, shared_redis)


async def check_others_are_archived(rig: Rig) -> None:
    """Check that the user's other changes, and those of another user, are archived in time."""
    store = rig.store
    await store.create_conversation(conversation("c2", title="Good"))
    await store.create_conversation(conversation(user="bob", title="Other"))
    async with asyncio.timeout(10):
        await asyncio.gather(store._drain.settle("ann"), store._drain.settle("bob"))
    assert "Good" in [one.title for one in (await rig.archive.conversations("ann", 9, None))[0]]
    assert [one.title for one in (await rig.archive.conversations("bob", 9, None))[0]] == ["Other"]
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
async def test_an_entry_that_is_none(rig: Rig, member: bytes) -> None:
    """Whatever its member is, it is set aside, counted and named, with a short name."""
    rig.redis.execute("ZADD", OUTBOX, LATE, member)
    with capture_logs() as logs:
        await check_others_are_archived(rig)
    assert rig.redis.execute("ZCARD", OUTBOX) == 0
    assert rig.store.archive_state.set_aside == 1
    (name,) = await rig.store._hot.entries_aside("ann")
    assert len(name) < 300
    (line,) = [one for one in logs if one["log_level"] == "error"]
    assert line["user"] == "ann"
    assert len(line["entry"]) < 1000


@pytest.mark.parametrize("number", ["inf", "-inf", "1e30", "1.5"])
async def test_an_entry_without_a_number(rig: Rig, number: str) -> None:
    """A change has a whole number that Redis holds exactly."""
    rig.redis.execute("ZADD", OUTBOX, number, b"d:0000000000000001:c9")
    await check_others_are_archived(rig)
    assert rig.redis.execute("ZCARD", OUTBOX) == 0
    assert list(await rig.store._hot.entries_aside("ann")) == ["deletion of c9"]


@pytest.mark.parametrize("kind", ["conversation", "message"])
async def test_a_key_of_another_type(rig: Rig, kind: str) -> None:
    """The entry of a conversation or message whose key has something else is set aside."""
    (key, *_) = (one for one in sorted(rig.redis.keys()) if f":{kind}:".encode() in one)
    name = b"m:" + key.rpartition(b":")[2]
    if kind == "conversation":
        name = b"c:" + rig.redis.execute("HGET", key, "place")
    rig.redis.execute("DEL", key)
    rig.redis.execute("SET", key, "garbage")
    rig.redis.execute("ZADD", OUTBOX, LATE, name)
    await check_others_are_archived(rig)
    assert len(await rig.store._hot.entries_aside("ann")) == 1


async def test_a_cost_beyond_all_numbers(rig: Rig) -> None:
    """The body is archived, without the column."""
    key = b"turnwire:{@ann}:message:t1.answer"
    rig.redis.execute("HSET", key, "body", b'{"parts":[],"cost":{"amount":"1e999999","currency":"USD"}}')
    rig.redis.execute("ZADD", OUTBOX, LATE, b"m:t1.answer")
    await check_others_are_archived(rig)
    assert rig.store.archive_state.set_aside == 0


async def test_an_outbox_that_is_none(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its user waits, and the log says so once. Other users, the list of all ratings and the sweep don't wait."""
    monkeypatch.setattr(sweep, "INDEX_AGE_MS", 0)
    monkeypatch.setattr(sweep, "SWEEP_INTERVAL_S", 0.05)
    store = rig.store
    await store.put_feedback("ann", "t1.answer", "up", None, 1, None)
    await store._drain.settle("ann")
    rig.redis.execute("SET", OUTBOX, "garbage")
    rig.redis.execute("ZADD", outbox_bucket_of("ann"), 1, "ann")
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
    rig.redis.execute("DEL", OUTBOX)
    await check_others_are_archived(rig)


@pytest.mark.parametrize(("member", "number"), [(b"\xff\xfe", "1"), (b"zed", "-inf"), (b"zed", "1.5")])
async def test_an_index_with_something_else(rig: Rig, member: bytes, number: str) -> None:
    """What is no user's entry is removed."""
    rig.redis.execute("ZADD", outbox_bucket_of("ann"), number, member)
    await rig.store._drain._sweep.sweep()
    await rig.store._drain.settle_all()
    assert rig.redis.execute("ZSCORE", outbox_bucket_of("ann"), member) is None
