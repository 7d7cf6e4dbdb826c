"""Check docs/schema.md: it matches the tables in the code, and its example queries work."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from sqlalchemy import text
from sqlalchemy.dialects import postgresql
from sqlalchemy.ext.asyncio import AsyncConnection

from store.archive.schema import metadata
from store.archive.sql_archive import SqlArchive
from store.records import Counters
from tests.archive_conformance import conversation, message, put, turn
from tests.postgres_process import PostgresProcess, shared_postgres
from tests.schema_table import DOCUMENT, document

__all__ = ["shared_postgres"]

EXAMPLES = re.findall(r"```sql\n(.*?);\n```", DOCUMENT.read_text(encoding="utf-8"), re.S)


def test_the_document_matches_the_code() -> None:
    """If it doesn't, run `python -m tests.schema_table`."""
    assert DOCUMENT.read_text(encoding="utf-8") == document()


def test_every_table_and_column_is_explained() -> None:
    """Every table has a comment, and the comment of every column is a sentence. In SQL, no name needs quotes."""
    quoter = postgresql.dialect().identifier_preparer  # type: ignore[no-untyped-call]
    for table in metadata.tables.values():
        assert table.comment is not None
        for column in table.c:
            assert column.comment, column
            assert column.comment.endswith("."), column
        for name in (table.name, *table.c.keys()):
            assert re.fullmatch(r"[a-z][a-z_]*", name)
            assert quoter.quote(name) == name


@pytest.mark.parametrize("database", ["postgres", "sqlite"])
async def test_the_example_queries(request: pytest.FixtureRequest, tmp_path: Path, database: str) -> None:
    """Each returns the expected rows in both databases."""
    url = f"sqlite:///{tmp_path}/archive.db"
    if database == "postgres":
        server: PostgresProcess = request.getfixturevalue("shared_postgres")
        url = server.url(server.create_database())
    archive = SqlArchive(url, migrate=True)
    await archive.open()
    answer = message("m2", "Forty-two", parent="m1", role="assistant", rating="down", comment="No!", rated_model="demo")
    await put(
        archive,
        conversation(size=7),
        message("m1", "What is it?"),
        answer,
        turn(usage=Counters(1, 2, cost_nano=5 * 10**8)),
    )

    async def work(connection: AsyncConnection) -> list[list[tuple[object, ...]]]:
        return [[tuple(row) for row in await connection.execute(text(example))] for example in EXAMPLES]

    costs, rated, users = await archive._database.read(work)
    await archive.close()
    assert [(month, model, int(str(turns)), float(str(usd))) for month, model, turns, usd in costs] == [
        ("2026-11", "demo", 1, 0.5)
    ]
    assert [(row[0], *row[2:]) for row in rated] == [("ann", "No!", None, " what is it ")]
    assert users == [("ann", 1, 7)]
