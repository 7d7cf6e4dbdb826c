"""The search in titles and messages."""

from __future__ import annotations

import asyncio
from typing import Any

from sqlalchemy import ColumnElement, Select, case, func, literal, or_, select, text
from sqlalchemy.ext.asyncio import AsyncConnection

from store.archive.database import ArchiveDatabase
from store.archive.facts import cut_term, term_prefix
from store.archive.read_statements import after_conversation, in_order
from store.archive.reader import Reader
from store.archive.rows import conversation_from, search_title
from store.archive.schema import conversations, messages
from store.records import Found
from store.search_text import SearchQuery, message_text, parse_query, snippet

SNIPPET_BODY_MAX = 2 * 2**20
"""The snippet of a message with more bytes is cut from `search_words`, so that its body isn't read."""
BODIES_AT_ONCE = 8


class Search:
    """Searches the archive."""

    def __init__(self, database: ArchiveDatabase, reader: Reader) -> None:
        self._database = database
        self._reader = reader

    async def search(self, user: str, query: str, limit: int, before: str | None) -> tuple[list[Found], bool]:
        """See `Archive.search`."""
        parsed = parse_query(query)
        statement = self._statement(user, query, parsed, before).limit(limit + 1)

        async def work(connection: AsyncConnection) -> tuple[list[Any], dict[str, Any]]:
            found = list(await connection.execute(statement))
            named = [row.message_id for row in found[:limit] if row.message_id is not None]
            texts: dict[str, Any] = {}
            for start in range(0, len(named), BODIES_AT_ONCE):
                bodies = await connection.execute(_texts(user, named[start : start + BODIES_AT_ONCE]))
                texts |= await asyncio.to_thread(_snippets, list(bodies), parsed)
            return found, texts

        rows, snippets = await self._database.read(work)
        if not rows and before is not None:
            await self._reader.check_before(user, before)
        found = [
            Found(
                record=conversation_from(row._mapping),
                message=row.message_id,
                snippet=snippets.get(row.message_id),
            )
            for row in rows[:limit]
        ]
        return found, len(rows) > limit

    def _statement(self, user: str, query: str, parsed: SearchQuery, before: str | None) -> Select[Any]:
        title = self._contains(conversations.c.search_title, search_title(query))
        if not parsed.phrases:
            statement = select(conversations, func.nullif("", "").label("message_id")).where(title)
        else:
            matching = (
                select(messages.c.conversation_id, func.max(messages.c.number).label("number"))
                .where(messages.c.user_id == user, *self._matches(user, parsed))
                .group_by(messages.c.conversation_id)
                .cte("matching")
            )
            newest = (
                select(messages.c.id)
                .where(
                    messages.c.user_id == user,
                    messages.c.conversation_id == matching.c.conversation_id,
                    messages.c.number == matching.c.number,
                )
                .limit(1)
                .correlate(matching)
                .scalar_subquery()
            )
            statement = (
                select(conversations, newest.label("message_id"))
                .outerjoin_from(conversations, matching, matching.c.conversation_id == conversations.c.id)
                .where(or_(matching.c.number.is_not(None), title))
            )
        statement = statement.where(conversations.c.user_id == user)
        if before is not None:
            statement = statement.where(after_conversation(user, before))
        return in_order(statement)

    def _matches(self, user: str, parsed: SearchQuery) -> list[ColumnElement[bool]]:
        """Return the conditions that a message has to meet. PostgreSQL's index finds words; `search_words` decides the rest."""
        last = len(parsed.phrases) - 1
        conditions: list[ColumnElement[bool]] = []
        terms: list[str] = []
        for n, phrase in enumerate(parsed.phrases):
            is_prefix = parsed.ends_with_prefix and n == last
            is_cut = any(cut_term(word) != word for word in phrase)
            for m, word in enumerate(phrase):
                starts = (is_prefix and m == len(phrase) - 1) or cut_term(word) != word
                terms.append(f"'{term_prefix(user)}{cut_term(word)}'" + (":*" if starts else ""))
            if len(phrase) > 1 or is_cut or not self._database.is_postgres:
                spaced = f" {' '.join(phrase)}" + ("" if is_prefix else " ")
                conditions.append(self._contains(messages.c.search_words, spaced))
        conditions += [~self._contains(messages.c.search_words, f" {' '.join(phrase)} ") for phrase in parsed.excluded]
        if self._database.is_postgres:
            wanted = text("messages.search_terms @@ CAST(:terms AS tsquery)").bindparams(terms=" & ".join(terms))
            return [wanted, *conditions]  # type: ignore[list-item]
        return conditions

    def _contains(self, column: ColumnElement[Any], part: str) -> ColumnElement[bool]:
        found = func.strpos if self._database.is_postgres else func.instr
        return found(column, literal(part, column.type)) > 0


def _texts(user: str, named: list[str]) -> Select[Any]:
    is_small = messages.c.size <= SNIPPET_BODY_MAX
    return select(
        messages.c.id,
        case((is_small, messages.c.body), else_=None).label("body"),
        case((is_small, None), else_=messages.c.search_words).label("words"),
    ).where(messages.c.user_id == user, messages.c.id.in_(named))


def _snippets(rows: list[Any], parsed: SearchQuery) -> dict[str, str]:
    return {row.id: snippet(row.words or "" if row.body is None else message_text(row.body), parsed) for row in rows}
