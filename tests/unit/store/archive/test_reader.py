"""Reads of a large archive: they use indexes, and their cost doesn't grow with what they don't return."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
from sqlalchemy import event, text
from sqlalchemy.ext.asyncio import AsyncConnection

from store.archive.sql_archive import SqlArchive
from store.records import DAY_MS, FeedbackFilter
from tests.archive_conformance import NOW, conversation, message, put, turn
from tests.postgres_process import PostgresProcess, shared_postgres

__all__ = ["shared_postgres"]

MESSAGES = 100_000
CONVERSATIONS = 10_000
FILL = (
    f"""INSERT INTO messages (user_id, id, conversation_id, number, parent_id, role, created_at, size, body, search_words,
            search_terms, depth)
        SELECT 'ann', 'm' || n, 'long', n, CASE WHEN n > 1 THEN 'm' || n - 1 END, 'user', now(), 2, '{{}}',
            ' word w' || n || ' ', t.search_terms, n - 1
        FROM generate_series(2, {MESSAGES}) AS n, (SELECT search_terms FROM messages WHERE id = 'm1') AS t""",
    f"""INSERT INTO conversations SELECT (c).* FROM (
            SELECT json_populate_record(c, json_build_object('id', 'c' || n, 'change', n, 'updated_at', now())) AS c
            FROM conversations AS c, generate_series(10, {CONVERSATIONS}) AS n WHERE id = 'long') AS new""",
    f"""INSERT INTO turns SELECT (t).* FROM (
            SELECT json_populate_record(t, json_build_object('id', 't' || n, 'ended_at', t.ended_at + n * interval '1 min')) AS t
            FROM turns AS t, generate_series(2, {CONVERSATIONS}) AS n WHERE id = 't1') AS new""",
    "INSERT INTO feedback SELECT 'ann', id, 'up', NULL, 'demo', now() FROM messages WHERE number % 10 = 0",
    "ANALYZE",
)


@pytest.fixture(scope="module")
def database(shared_postgres: PostgresProcess) -> str:
    """The name of the database of all these tests, which the first one fills."""
    return shared_postgres.create_database()


@pytest.fixture
async def archive(shared_postgres: PostgresProcess, database: str) -> AsyncIterator[SqlArchive]:
    """An archive with a user who has 10,000 conversations, one of them with 100,000 messages."""
    archive = SqlArchive(shared_postgres.url(database), migrate=True)
    await archive.open()
    if await archive.conversation("ann", "long") is None:
        first = message("m1", "word", conversation="long", number=1)
        await put(archive, conversation("long"), first, turn(conversation="long"))
        # The rows are consistent, so their foreign keys needn't be checked one by one.
        shared_postgres.execute("; ".join(("SET session_replication_role = replica", *FILL)), database)
    yield archive
    await archive.close()


async def plan(archive: SqlArchive, statement: str, parameters: Any) -> list[str]:
    """Return the steps of the plan that reads a table, each as PostgreSQL shows it."""

    async def work(connection: AsyncConnection) -> list[str]:
        explained = await connection.exec_driver_sql(f"EXPLAIN (ANALYZE, TIMING OFF) {statement}", tuple(parameters))
        return [row[0] for row in explained]

    return await archive._database.read(work)


async def test_reads_use_indexes(archive: SqlArchive) -> None:
    """No read scans a table, and each takes little time. The branch of 100,000 messages is the longest."""
    engine = archive._database._engine
    assert engine is not None
    executed: list[tuple[str, Any]] = []

    def note(_: Any, __: Any, statement: str, parameters: Any, *___: Any) -> None:
        executed.append((statement, parameters))

    reads = {
        "conversation": lambda: archive.conversation("ann", "long"),
        "conversation_of": lambda: archive.conversation_of("ann", "m500"),
        "message": lambda: archive.message("ann", "m500"),
        "newest": lambda: archive.newest("ann", "long", 50, 2**20),
        "page": lambda: archive.messages("ann", "long", 50, None, None),
        "page before": lambda: archive.messages("ann", "long", 50, "m50000", 2**20),
        "page before a number": lambda: archive.messages("ann", "long", 50, 50_000, 2**20),
        "branch": lambda: archive.branch("ann", "long", "m300", 2**20),
        "list": lambda: archive.conversations("ann", 50, None),
        "list before": lambda: archive.conversations("ann", 50, "c5000"),
        "feedback": lambda: archive.list_feedback(FeedbackFilter(model="demo"), 50, None),
        "feedback before": lambda: archive.list_feedback(FeedbackFilter(), 50, (NOW, "m500")),
        "usage": lambda: archive.usage("ann", None, NOW + 5 * DAY_MS),
        "usage of a conversation": lambda: archive.usage("ann", "long", NOW + 6 * DAY_MS),
        "expired": lambda: archive.expired(NOW, 30, 100),
    }
    for name, read in reads.items():
        await read()  # type: ignore[no-untyped-call]
        event.listen(engine.sync_engine, "before_cursor_execute", note)
        started = time.perf_counter()
        await read()  # type: ignore[no-untyped-call]
        took_s = time.perf_counter() - started
        event.remove(engine.sync_engine, "before_cursor_execute", note)
        statements, executed[:] = executed[:], []
        for statement, parameters in statements:
            steps = "\n".join(await plan(archive, statement, parameters))
            scanned = [line for line in steps.splitlines() if "Seq Scan on" in line and "usage_days" not in line]
            assert not scanned, f"{name}:\n{steps}"
            assert f"actual rows={MESSAGES}" not in steps, f"{name}:\n{steps}"
        assert took_s < 0.5, name


async def test_the_longest_branch_and_the_widest_search_end_in_time(archive: SqlArchive) -> None:
    """The 100,000 messages of a branch are counted in milliseconds, and a word that is in all of them is found."""
    await archive.branch("ann", "long", "m300", 100)
    started = time.perf_counter()
    found, left_out = await archive.branch("ann", "long", f"m{MESSAGES}", 100)
    branch_s = time.perf_counter() - started
    assert (len(found), left_out) == (50, MESSAGES - 50)
    assert branch_s < 0.2
    started = time.perf_counter()
    results, _ = await archive.search("ann", "word", 50, None)
    search_s = time.perf_counter() - started
    assert [(each.record.id, each.message) for each in results] == [("long", f"m{MESSAGES}")]
    started = time.perf_counter()
    nothing, _ = await archive.search("ann", "nothing of the kind", 50, None)
    assert nothing == []
    nothing_s = time.perf_counter() - started
    assert max(branch_s, search_s, nothing_s) < 5


async def test_a_search_reads_only_the_index_of_its_user(archive: SqlArchive) -> None:
    """Another user's search for a word that 100,000 messages have doesn't read them."""
    await put(archive, conversation(user="bob"), message(text="one word"), user="bob")
    started = time.perf_counter()
    found, _ = await archive.search("bob", "word", 50, None)
    assert time.perf_counter() - started < 0.5
    assert [each.record.id for each in found] == ["c1"]


async def test_a_large_user_is_erased_in_steps(archive: SqlArchive) -> None:
    """Each step is short, so the deadline of a call is never reached."""
    await archive.erase("ann")

    async def work(connection: AsyncConnection) -> list[int]:
        tables = "users", "conversations", "messages", "feedback", "turns", "usage_days"
        return [
            (await connection.execute(text(f"SELECT count(*) FROM {table} WHERE user_id = 'ann'"))).scalar_one()
            for table in tables
        ]

    assert await archive._database.read(work) == [0] * 6
