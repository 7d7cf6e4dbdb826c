"""The index of the search: it has the messages of those users who search, and what is said after that is found at once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from store.sqlite.store import SqliteStore
from tests.in_process import eventually
from tests.stored import conversation, say
from tests.unit.store.sqlite.index import indexed


@asynccontextmanager
async def listening(path: Path) -> AsyncIterator[SqliteStore]:
    """Open a store whose background task runs."""
    store = SqliteStore(str(path))
    await store.open()
    task = asyncio.ensure_future(store.run_pubsub(lambda _channel, _payload: None, lambda: None))
    yield store
    task.cancel()
    await asyncio.wait([task])
    await store.close()


async def found(store: SqliteStore, user: str, query: str) -> list[str | None]:
    return [hit.message for hit in (await store.search(user, query, 9, None))[0]]


async def test_only_users_who_search_are_indexed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A user's messages aren't indexed before the user's first search. Then they are, in the background and in any number of
    slices. Messages that aren't indexed yet are found all the same."""
    monkeypatch.setattr("store.sqlite.search.INDEX_DELAY_S", 0)
    monkeypatch.setattr("store.sqlite.search.SLICE_S", 0)
    monkeypatch.setattr("store.sqlite.search.NUMBERS_AT_ONCE", 2)
    path = tmp_path / "turnwire.db"
    async with listening(path) as store:
        for user in ("ann", "bob"):
            await store.create_conversation(conversation("c1", user))
            first = await say(store, "c1", "a needle", user=user)
            for _ in range(3):
                await say(store, "c1", "some hay", user=user)
        assert await found(store, "bob", "needle") == [first]
        await eventually(lambda: indexed(path, "bob", "hay") == 3)
        assert (indexed(path, "bob", "needle"), indexed(path, "ann", "hay")) == (1, 0)
        assert await found(store, "bob", "needle") == [first]
        newest = await say(store, "c1", "another needle", user="bob")
        assert await found(store, "bob", "needle") == [newest]
        await eventually(lambda: indexed(path, "bob", "needle") == 2)
        await store.delete_conversation("bob", "c1")
        await eventually(lambda: indexed(path, "bob", "needle") == 0)
        assert await found(store, "bob", "needle") == []


async def test_an_erasure_while_a_user_is_indexed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An indexing that is under way when its user is erased leaves nothing of the user."""
    monkeypatch.setattr("store.sqlite.search.SLICE_S", 0)
    path = tmp_path / "turnwire.db"
    async with listening(path) as store:
        await store.create_conversation(conversation())
        for _ in range(9):
            await say(store, "c1", "a needle")
        indexing = asyncio.ensure_future(store.index_user("ann"))
        await eventually(lambda: indexed(path, "ann", "needle") > 0)
        await asyncio.gather(indexing, store.erase_user("ann"))
        await store.index_user("ann")
    assert b"ann" not in path.read_bytes()
