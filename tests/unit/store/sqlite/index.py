"""What the search's index in a SQLite file has."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

from store.api import user_hash


def indexed(path: Path, user: str, word: str) -> int:
    """Return the number of the user's messages with this word that are in the index."""
    with closing(sqlite3.connect(path)) as db:
        query = f'owner : "u{user_hash(user)}" AND words : "{word}"'
        ((count,),) = db.execute("SELECT count(*) FROM message_words WHERE message_words MATCH ?", (query,))
    return int(count)
