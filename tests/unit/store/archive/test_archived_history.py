"""Whatever happens to Redis and to the instances, the history with an archive is that of the SQLite store."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator
from pathlib import Path
from typing import NamedTuple, cast

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from store.api import Store
from store.archive.api import Archive
from store.archive.archived_store import ArchivedStore
from store.archive.sql_archive import SqlArchive
from store.errors import NotFound
from store.records import Change, ConversationRecord, FeedbackFilter, MessageRecord
from store.sqlite.store import SqliteStore
from tests.archived_stores import archived_store, forget_history, new_archive_file
from tests.examples import examples
from tests.redis_process import RedisProcess, shared_redis
from tests.stored import NOW, conversation, in_many_examples, new_turn, run

__all__ = ["shared_redis"]

_numbers = itertools.count(1)
CONVERSATIONS = ("c1", "c2")
KINDS = ("create", "say", "say", "update", "clear", "delete", "rate", "settle", "forget", "flush", "behind", "list")
STEPS = st.lists(st.tuples(st.sampled_from(KINDS), st.sampled_from(CONVERSATIONS), st.integers(0, 1)), max_size=14)


async def _change(store: Store, user: str, kind: str, name: str, number: int) -> object:
    """Make one change, and return what a client would see of it."""
    try:
        if kind == "create":
            return await store.create_conversation(conversation(name, user, title=f"title {number}"))
        if kind == "say":
            await run(
                store, new_turn(f"{user}.t{number}", user, conversation=name, now_ms=NOW + number), now_ms=NOW + number
            )
        elif kind == "update":
            return await store.update_conversation(user, name, Change(title=f"title {number}"), NOW + number)
        elif kind == "clear":
            return await store.clear_conversation(user, name, NOW + number)
        elif kind == "delete":
            await store.delete_conversation(user, name)
        elif kind == "rate":
            await store.put_feedback(
                user, f"{user}.t{number // 2}.answer", "up", f"comment {number}", NOW + number, "demo"
            )
    except NotFound as error:
        return error.field
    return None


async def _history(store: Store, user: str) -> list[object]:
    """Return all that a client can see of the user's history."""
    listed, _ = await store.conversations(user, 10, None)
    seen: list[object] = [[one.id for one in listed]]
    for name in CONVERSATIONS:
        try:
            record: ConversationRecord = await store.conversation(user, name)
            messages: list[MessageRecord] = (await store.messages(user, name, 100, None))[0]
            branch = await store.branch(user, name, record.head)
            seen.append((record, messages, branch, await store.usage(user, name, None)))
        except NotFound as error:
            seen.append(error.field)
    seen.append(await store.usage(user, None, None))
    seen.append(await store.list_feedback(FeedbackFilter(), 10, None))
    return seen


class Pair(NamedTuple):
    """Two instances on one Redis and one archive, and a SQLite store, whose results theirs must equal."""

    instances: tuple[ArchivedStore, ArchivedStore]
    model: SqliteStore


@pytest.fixture
async def pair(shared_redis: RedisProcess, tmp_path: Path) -> AsyncIterator[Pair]:
    """Empty stores."""
    shared_redis.execute("FLUSHALL")
    url, model = await new_archive_file(tmp_path / "archive.db"), SqliteStore(":memory:")
    await model.open()
    async with (
        archived_store(shared_redis.url, cast("Archive", SqlArchive(url, migrate=True))) as one,
        archived_store(shared_redis.url, cast("Archive", SqlArchive(url, migrate=True))) as two,
    ):
        yield Pair((one, two), model)
    await model.close()


@settings(in_many_examples, max_examples=examples(25))
@given(STEPS)
async def test_the_history_is_that_of_one_store(
    shared_redis: RedisProcess, pair: Pair, steps: list[tuple[str, str, int]]
) -> None:
    """Two instances change it in turn. Redis forgets it, or is lost when all is archived, or its clock goes back."""
    model, user = pair.model, f"user{next(_numbers)}"
    for number, (kind, name, which) in enumerate(steps):
        store = pair.instances[which]
        if kind in {"settle", "flush"}:
            await store._drain.settle_all()
        if kind == "forget":
            # Only what is in the archive expires: a change that isn't there yet has no time to live.
            for key in shared_redis.execute("KEYS", f"turnwire:{{@{user}}}:*"):
                if shared_redis.execute("PTTL", key) != -1 and b":turn:" not in key:
                    shared_redis.execute("DEL", key)
        elif kind == "flush":
            shared_redis.execute("FLUSHALL")
        elif kind == "behind":
            shared_redis.execute("DEL", f"turnwire:{{@{user}}}:change")
        elif kind == "list":
            assert await store.conversations(user, 10, None) == await model.conversations(user, 10, None)
        else:
            changed = await _change(cast("Store", store), user, kind, name, number)
            wanted = await _change(model, user, kind, name, number)
            assert changed == wanted, (msgspec.to_builtins(changed), msgspec.to_builtins(wanted))
    everything = await _history(model, user)
    assert await _history(cast("Store", pair.instances[0]), user) == everything
    await pair.instances[1]._drain.settle_all()
    forget_history(shared_redis)
    assert await _history(cast("Store", pair.instances[1]), user) == everything
