"""The document docs/schema.md, generated from the tables of the archive. Their comments are its text.

`make settings` generates it; tests/test_schema_docs.py checks that it matches the code, and runs its example queries.
"""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import Column, Table
from sqlalchemy.dialects import postgresql

from store.archive.schema import REVISIONS, metadata

DOCUMENT = Path(__file__).parents[1] / "docs" / "schema.md"

HEAD = f"""\
# The archive's tables

With `TURNWIRE_ARCHIVE` the history is kept in a SQL database: PostgreSQL 14 or newer, or a SQLite file. You may query it
with any tool; don't write to it while a gateway runs. This page is generated from the code and describes revision
`{REVISIONS[-1]}` of the schema. `turnwire archive status` shows the revision of a database.

- **Ids** are unique for their user only, because clients may choose them. So every key begins with `user_id`.
- **Times** are `timestamp with time zone` in PostgreSQL. In SQLite they are text in UTC, such as
  `2026-11-21 07:51:04.123Z`, and its functions for dates accept them.
- **Costs** are in billionths of a US dollar: divide `cost_nano` by 1,000,000,000.
- **Bodies** and `metadata` are JSON as text: in PostgreSQL `body::json`, in SQLite `json_extract(body, …)`.
- **Unusual characters**: U+0000 and lone surrogates, which no database can hold, are stored as U+001A and four
  hexadecimal digits, and so is U+001A itself. JSON needs none of this, because it writes such characters as `\\u0000`.
- **Search**: `search_words LIKE '% refund %'` finds a word in all messages. The words are in lower case, without accents.
- **Another schema**: `?search_path=NAME` in the URL puts the tables into that schema of PostgreSQL.

"""

EXAMPLES = """\
## Example queries

What each model has cost, by month:

```sql
SELECT substr(CAST(day AS text), 1, 7) AS month, model, sum(turn_count) AS turns, sum(cost_nano) / 1000000000.0 AS usd
FROM usage_days
GROUP BY 1, 2
ORDER BY 1, 2;
```

The questions whose answers were rated down, with what the user wrote about them:

```sql
SELECT feedback.user_id, feedback.rated_at, feedback.comment, answers.model, questions.search_words AS question
FROM feedback
JOIN messages AS answers ON answers.user_id = feedback.user_id AND answers.id = feedback.message_id
JOIN messages AS questions ON questions.user_id = answers.user_id AND questions.id = answers.parent_id
WHERE feedback.rating = 'down'
ORDER BY feedback.rated_at DESC
LIMIT 100;
```

The users with the most conversations, and how much they store:

```sql
SELECT user_id, conversation_count, stored_bytes
FROM users
ORDER BY conversation_count DESC
LIMIT 20;
```
"""


def document() -> str:
    """Return the whole document."""
    return HEAD + "".join(map(_section, metadata.tables.values())) + EXAMPLES


def _section(table: Table) -> str:
    keys = ", ".join(f"`{name}`" for name in table.primary_key.columns.keys())
    links = "".join(
        f" `{', '.join(link.column_keys)}` refers to `{link.referred_table.name}`, and a row is deleted with the row there."
        for link in sorted(table.foreign_key_constraints, key=lambda link: str(link.name))
    )
    rows = "".join(f"| `{column.name}` | {_type(column)} | {column.comment} |\n" for column in table.c)
    indexes = "".join(
        f"- `{index.name}`: {', '.join(f'`{column.name}`' for column in index.columns)}\n"
        for index in sorted(table.indexes, key=lambda index: str(index.name))
    )
    return (
        f"## {table.name}\n\n{table.comment} Key: {keys}.{links}\n\n| column | type | meaning |\n|---|---|---|\n{rows}\n"
        + (f"Indexes:\n\n{indexes}\n" if indexes else "")
    )


def _type(column: Column[object]) -> str:
    name = column.type.compile(dialect=postgresql.dialect()).removesuffix(' COLLATE "C"').lower()  # type: ignore[no-untyped-call]
    return f"{name}{', null' if column.nullable else ''}"


if __name__ == "__main__":
    DOCUMENT.write_text(document(), encoding="utf-8")
