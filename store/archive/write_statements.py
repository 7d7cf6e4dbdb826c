"""The SQL statements that write the archive, each built once and executed for many rows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

from sqlalchemy import (
    ARRAY,
    ClauseElement,
    ColumnElement,
    Dialect,
    Insert,
    Select,
    Table,
    Text,
    and_,
    any_,
    bindparam,
    case,
    delete,
    func,
    or_,
    select,
    tuple_,
    update,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.sql.compiler import SQLCompiler

from store.archive.rows import COUNTERS
from store.archive.schema import conversations, feedback, messages, turns, usage_days, users
from store.archive.types import INTEGER_MAX, LosslessText, escape


class Many:
    """A statement for many rows, compiled once: SQLAlchemy's own way looks at each value of each row again.

    `names`: the names of the values of a row.
    """

    def __init__(self, statement: ClauseElement, dialect: Dialect, names: list[str]) -> None:
        compiled = cast(SQLCompiler, statement.compile(dialect=dialect, column_keys=names))
        self.sql = str(compiled)
        constants = compiled.construct_params({}, _check=False)
        self._columns: list[tuple[str, Callable[[Any], Any] | None]] = []
        self._constants: dict[str, Any] = {}
        for name in compiled.positiontup or ():
            process = compiled.binds[name].type.dialect_impl(dialect).bind_processor(dialect)
            if name not in names:
                self._constants[name] = constants[name]
            self._columns.append((name, process))

    def parameters(self, rows: list[dict[str, Any]]) -> list[tuple[Any, ...]]:
        """Return the parameters for `rows`."""
        columns, constants = self._columns, self._constants
        whole = [constants | row for row in rows] if constants else rows
        return [
            tuple([row[name] if process is None else process(row[name]) for name, process in columns]) for row in whole
        ]


PLACED = frozenset({"conversation_id", "number", "depth", "parent_id", "turn_id"})
"""The columns that say where a message is; the others are its content."""


class WriteStatements:
    """The statements for one kind of database, PostgreSQL or SQLite."""

    def __init__(self, *, is_postgres: bool) -> None:
        self._is_postgres = is_postgres
        self._many: dict[ClauseElement, Many] = {}
        self._insert: Any = postgresql.insert if is_postgres else sqlite.insert
        self.add_user = self._new(users).on_conflict_do_nothing()
        self.lock_users = self._lock_users()
        self.update_user = (
            update(users)
            .where(users.c.user_id == bindparam("key_user"))
            .values({name: bindparam(f"new_{name}") for name in ("applied", "conversation_count", "stored_bytes")})
        )
        self.find_conversations = self._found(conversations, "incarnation", "revision", "size")
        self.find_turns = self._found(turns, "ended_at")
        self.delete_conversation = delete(conversations).where(
            conversations.c.user_id == bindparam("key_user"), conversations.c.id == bindparam("key_id")
        )
        self.put_conversation = self._put(conversations)
        self.add_placeholder = self._new(conversations).on_conflict_do_nothing()
        self.put_message = self._put_message()
        self.put_feedback = self._put(feedback)
        self.add_turn = self._new(turns).on_conflict_do_nothing()
        self.count_day = self._count_day()

    async def execute(self, connection: AsyncConnection, statement: ClauseElement, rows: list[dict[str, Any]]) -> None:
        """Execute a statement that writes, for each of `rows`, which have the same names."""
        many = self._many.get(statement)
        if many is None:
            many = self._many[statement] = Many(statement, connection.dialect, list(rows[0]))
        await connection.exec_driver_sql(many.sql, many.parameters(rows))

    def keys(self, pairs: list[tuple[str, str]]) -> dict[str, Any]:
        """Return the parameters for `find_conversations` and `find_turns`: `pairs` has the (user, id) to find."""
        if self._is_postgres:
            return {"users": [user for user, _ in pairs], "ids": [key for _, key in pairs]}
        return {"pairs": [(escape(user), escape(key)) for user, key in pairs]}

    def texts(self, values: list[str]) -> list[str]:
        """Return the parameter for an array of texts."""
        return values if self._is_postgres else [escape(value) for value in values]

    def _new(self, table: Table) -> Any:
        return self._insert(table)

    def _put(self, table: Table) -> Insert:
        new = self._new(table)
        keys = table.primary_key.columns.keys()
        changed = {name: new.excluded[name] for name in table.c.keys() if name not in keys}
        put: Insert = new.on_conflict_do_update(index_elements=keys, set_=changed)
        return put

    def _put_message(self) -> Insert:
        """Return the statement that writes a message. A stored message that is the same isn't written again, nor its index.

        An answer keeps the content that it had when its turn first ended, because clients have received that. A Redis
        that was rolled back may have lost the ending, and an instance that then takes the turn over may store another.

        The depth of a message is one more than that of its parent, so the parent has to be written first.
        """
        above = bindparam("above", type_=LosslessText)
        parent = _by_key(messages, bindparam("owner", type_=LosslessText), above, messages.c.depth).subquery("parent")
        parent_depth = select(parent.c.depth + 1).where(parent.c.id == above)
        depth = case((above.is_(None), 0), else_=parent_depth.scalar_subquery())
        new = self._new(messages).values(depth=depth)
        if self._is_postgres:
            terms = func.string_to_array(bindparam("terms", type_=Text), " ")
            new = new.values(search_terms=func.array_to_tsvector(terms))
        keys = messages.primary_key.columns.keys()
        is_other_ending = and_(messages.c.ended.is_not(None), messages.c.ended.is_distinct_from(new.excluded.ended))
        changed = {
            name: new.excluded[name]
            if name in PLACED
            else case((is_other_ending, messages.c[name]), else_=new.excluded[name])
            for name in messages.c.keys()
            if name not in keys
        }
        compared = ("conversation_id", "number", "parent_id", "turn_id", "size", "body")
        put: Insert = new.on_conflict_do_update(
            index_elements=keys,
            set_=changed,
            where=or_(
                *(messages.c[name].is_distinct_from(new.excluded[name]) for name in compared),
                messages.c.depth.is_(None) & new.excluded.depth.is_not(None),
            ),
        )
        return put

    def _count_day(self) -> Insert:
        """Return the statement that adds the usage of turns to that of their day. A sum stays within 64 bits."""
        new = self._new(usage_days)
        sums = {}
        for name in ("turn_count", *COUNTERS):
            old, more = usage_days.c[name], new.excluded[name]
            total = case((old > INTEGER_MAX - more, INTEGER_MAX), else_=old + more)
            sums[name] = func.coalesce(total, old, more) if name == "cost_nano" else total
        put: Insert = new.on_conflict_do_update(index_elements=usage_days.primary_key.columns.keys(), set_=sums)
        return put

    def _lock_users(self) -> Select[Any]:
        """Return the statement that reads the rows of users. PostgreSQL locks them in order, so there is no deadlock."""
        if self._is_postgres:
            named: ColumnElement[bool] = users.c.user_id == any_(bindparam("users", type_=ARRAY(LosslessText)))
        else:
            each = func.json_each(bindparam("users", type_=sqlite.JSON)).table_valued("value")
            named = users.c.user_id.in_(select(each.c.value))
        return select(users).where(named).order_by(users.c.user_id).with_for_update()

    def _found(self, table: Table, *columns: str) -> Select[Any]:
        """Return the statement that reads the rows of a table with given keys; `keys` returns its parameters."""
        if self._is_postgres:
            keys = self._key_rows().subquery("keys")
            row = _by_key(table, keys.c.user_id, keys.c.id, *(table.c[name] for name in columns)).lateral("row")
            return select(row).select_from(keys.join(row, row.c.id == keys.c.id))
        # With a join instead of IN, SQLite would compare each of the user's rows with each key.
        wanted = tuple_(table.c.user_id, table.c.id).in_(self._key_rows())
        return select(table.c.user_id, table.c.id, *(table.c[name] for name in columns)).where(wanted)

    def _key_rows(self) -> Select[Any]:
        """Return the selection of the (user, id) pairs that were passed to `keys`."""
        if self._is_postgres:
            arrays = [bindparam(name, type_=ARRAY(LosslessText)) for name in ("users", "ids")]
            both = func.unnest(*arrays).table_valued("user_id", "id").render_derived()
            return select(both.c.user_id, both.c.id)
        pair = func.json_each(bindparam("pairs", type_=sqlite.JSON)).table_valued("value").c.value
        return select(func.json_extract(pair, "$[0]"), func.json_extract(pair, "$[1]"))


def _by_key(
    table: Table, user: ColumnElement[Any], key: ColumnElement[Any], *columns: ColumnElement[Any]
) -> Select[Any]:
    """Return the selection of the row with this key, or if there is none, the user's next one: the caller compares the id.

    Only the index of the primary key has this order, so PostgreSQL uses it. For an equality, it may use another index that
    begins with the user while a table has no statistics, and keep that plan when the table grows.
    """
    return (
        select(table.c.user_id, table.c.id, *columns)
        .where(table.c.user_id == user, table.c.id >= key)
        .order_by(table.c.id)
        .limit(1)
    )
