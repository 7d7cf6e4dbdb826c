"""After an erasure, nothing of the user is in the database file or its journal, whatever was done before."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from store.errors import StoreError
from store.sqlite.store import SqliteStore
from tests.stored import LONG_MS, NOW, conversation, ending, message, new_turn, piece, run, say, stateless_turn
from tests.unit.store.sqlite.test_store import embedded

CANARIES = (
    b"canaryuser",
    b"canaryword",
    b"canarytitle",
    b"canarylog",
    b"canarycomment",
    b"canaryanswer",
    b"canaryticket",
)


def traces(folder: Path) -> set[bytes]:
    """Return the canaries that are in the files of the folder, in any case."""
    contents = b"".join(path.read_bytes().lower() for path in folder.iterdir())
    return {canary for canary in CANARIES if canary in contents}


async def do_everything(store: SqliteStore, user: str = "canaryuser") -> None:
    """Do everything that a user may do: long and short messages, deleted ones, logs, feedback, a ticket."""
    await store.create_conversation(conversation("c1", user, title="Canarytitle", system="canaryword"))
    for n in range(30):
        await say(store, "c1", f"a Canaryword{n} here " + "x" * n * 500, user=user)
    turn = (await store.accept(new_turn("t1", user))).turn
    await store.append([piece(turn, n, n, payload=b"canarylog" * 100) for n in range(1, 9)])
    answer = message(turn.message, body=b"canaryanswer" * 1000, turn="t1", role="assistant")
    await store.end(ending(turn, events=piece(turn, 9, 9, payload=b"canarylog"), ending=b"canaryanswer", answer=answer))
    await store.put_feedback(user, turn.message, "up", "canarycomment", NOW)
    await run(store, stateless_turn("t2", user), answer=message("t2.answer", body=b"canaryanswer"))
    await store.put_ephemeral("ticket:1", b"canaryticket canaryuser", LONG_MS, user)
    await store.create_conversation(conversation("c2", user, title="Canarytitle of a deleted one"))
    await say(store, "c2", "canaryword in a deleted conversation", user=user)


@pytest.mark.parametrize("is_indexed", [False, True])
async def test_nothing_of_an_erased_user_is_in_the_files(tmp_path: Path, is_indexed: bool) -> None:
    """Nothing of the user is left in tables, free pages, the search's index or the journal. Other users' data is intact."""
    async with embedded(tmp_path / "turnwire.db") as store:
        await do_everything(store)
        await store.create_conversation(conversation("c1", "bob"))
        await say(store, "c1", "something of bob", user="bob")
        if is_indexed:
            for user in ("bob", "canaryuser"):
                await store.index_user(user)
        await store.delete_conversation("canaryuser", "c2")
        assert traces(tmp_path) == set(CANARIES)
        await store.erase_user("canaryuser")
        assert traces(tmp_path) == set()
        assert len((await store.search("bob", "something", 9, None))[0]) == 1
        await do_everything(store)
        await store.erase_user("canaryuser")
    assert traces(tmp_path) == set()


async def test_the_index_of_the_search_forgets_words(tmp_path: Path) -> None:
    """SQLite's index keeps a deleted word until it is merged, so an erasure merges all of it. Other users find theirs."""
    async with embedded(tmp_path / "turnwire.db") as store:
        for user, text in (("bob", "common words"), ("canaryuser", "common canaryword")):
            await store.create_conversation(conversation("c1", user))
            await say(store, "c1", text, user=user)
            await store.index_user(user)
        await store.erase_user("canaryuser")
        assert traces(tmp_path) == set()
        assert len((await store.search("bob", "common words", 9, None))[0]) == 1


async def test_an_erasure_that_was_cut_off_is_completed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If the process ends in the middle, erasing again after the restart deletes the rest."""
    path = tmp_path / "turnwire.db"
    monkeypatch.setattr("store.sqlite.erasure.ROWS_AT_ONCE", 1)
    monkeypatch.setattr("store.sqlite.erasure.SLICE_S", 1e-6)
    async with embedded(path) as store:
        for n in range(20):
            await store.create_conversation(conversation(f"c{n}", "canaryuser"))
            await asyncio.gather(*(say(store, f"c{n}", "Canaryword " * 500, user="canaryuser") for _ in range(20)))
        erasure = asyncio.create_task(store.erase_user("canaryuser"))
        while len((await store.conversations("canaryuser", 50, None))[0]) == 20 and not erasure.done():
            await asyncio.sleep(0)
        erasure.cancel()
        await asyncio.wait([erasure])
        assert (await store.conversations("canaryuser", 50, None))[0]
    monkeypatch.undo()
    async with embedded(path) as store:
        await store.erase_user("canaryuser")
        assert traces(tmp_path) == set()


async def test_a_reader_that_holds_the_journal_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While another process reads an older state, the journal can't be emptied. The error says so, and a later call works."""
    monkeypatch.setattr("store.sqlite.erasure.JOURNAL_ATTEMPTS", 2)
    path = tmp_path / "turnwire.db"
    async with embedded(path) as store:
        await do_everything(store)
        with closing(sqlite3.connect(path, isolation_level=None)) as reader:
            reader.execute("BEGIN")
            reader.execute("SELECT count(*) FROM messages").fetchone()
            with pytest.raises(StoreError, match="in use by another process"):
                await store.erase_user("canaryuser")
            reader.execute("ROLLBACK")
        await store.erase_user("canaryuser")
        assert traces(tmp_path) == set()
