"""A gateway without an archive loads none of the packages for SQL."""

from __future__ import annotations

import subprocess
import sys


def test_a_gateway_without_an_archive_does_not_load_sql() -> None:
    """Neither SQLAlchemy nor Alembic nor a driver: they cost memory and half a second of every start."""
    code = (
        "import sys, gateway.commands.command_line, gateway.app, gateway.server;"
        "import store.connect, store.redis.store, store.sqlite.store;"
        "from gateway.settings import Settings; from gateway.app import Gateway;"
        "Gateway(Settings(store='sqlite:///:memory:'), {});"
        "print(sorted({'sqlalchemy', 'alembic', 'asyncpg', 'aiosqlite'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_an_archive_does_not_load_alembic() -> None:
    """Only an upgrade needs it."""
    code = "import sys, store.archive.sql_archive; print('alembic' in sys.modules, 'sqlalchemy' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False True\n"
