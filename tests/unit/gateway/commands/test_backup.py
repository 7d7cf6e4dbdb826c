"""Tests of `turnwire backup`, which copies the SQLite store, even while a gateway writes to it."""

from __future__ import annotations

import asyncio
import sqlite3
import sys
from contextlib import closing
from pathlib import Path

import pytest

from gateway.__main__ import main
from store.sqlite.store import SqliteStore
from tests.gateway_process import clean_environment
from tests.stored import conversation, new_turn, run

ROOT = Path(__file__).parents[4]


async def back_up(path: Path, copy: Path) -> tuple[int | None, str]:
    """Run the command in a process of its own. Return its exit code and what it printed."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "gateway", "backup", str(copy), "--store", f"sqlite:///{path}"),
        cwd=ROOT,
        env=clean_environment({}),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    printed, _ = await process.communicate()
    return process.returncode, printed.decode()


async def test_the_copy_of_a_store_in_use_is_complete(tmp_path: Path) -> None:
    """The command ends while turns are stored without a pause. The copy has everything that was stored before it began.

    Only the OS user who ran the command can read the copy. The copy has no journal, and a store can open it.
    """
    path, copy = tmp_path / "turnwire.db", tmp_path / "copy.db"
    store = SqliteStore(str(path))
    await store.open()
    await store.create_conversation(conversation())
    await run(store, new_turn("before"))

    async def write() -> int:
        for number in range(10**9):
            await run(store, new_turn(f"t{number}"))
            if copied.done():
                return number
        raise AssertionError

    async with asyncio.timeout(60), asyncio.TaskGroup() as tasks:
        copied = tasks.create_task(back_up(path, copy))
        written = tasks.create_task(write())
    await store.close()
    code, printed = copied.result()
    assert (code, written.result() > 0) == (0, True), printed
    assert str(copy) in printed
    assert copy.stat().st_mode & 0o777 == 0o600
    assert sorted(file.name for file in tmp_path.iterdir() if file.name.startswith("copy")) == ["copy.db"]
    with closing(sqlite3.connect(copy)) as database:
        assert database.execute("PRAGMA integrity_check").fetchone()[0] == "ok"
    restored = SqliteStore(str(copy))
    await restored.open()
    assert (await restored.turn("ann", "before")).ending is not None
    assert len((await restored.messages("ann", "c1", 10, None))[0]) >= 2
    await restored.close()


async def test_nothing_is_overwritten_or_left_behind(tmp_path: Path) -> None:
    """The command fails with a message if the store is missing or isn't a database, if the copy already exists, or if its
    folder doesn't exist."""
    path, copy = tmp_path / "turnwire.db", tmp_path / "copy.db"
    code, printed = await back_up(path, copy)
    assert (code, "doesn't exist" in printed, copy.exists()) == (1, True, False)
    path.write_text("this is no database" * 100)
    code, printed = await back_up(path, copy)
    assert (code, "not a database" in printed, copy.exists()) == (1, True, False)
    copy.write_text("mine")
    code, printed = await back_up(path, copy)
    assert (code, "exists already" in printed, copy.read_text()) == (1, True, "mine")
    code, printed = await back_up(path, tmp_path / "no" / "copy.db")
    assert (code, "Choose another folder" in printed, "Traceback" in printed) == (1, True, False)


@pytest.mark.parametrize("url", ["redis://127.0.0.1:1", "sqlite:///:memory:"])
def test_a_store_without_a_file_is_refused(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    """For Redis and for SQLite in memory, the message is the same: it says how to back up Redis."""
    with pytest.raises(SystemExit) as ended:
        main(["backup", "copy.db", "--store", url])
    assert ended.value.code == 2
    assert "snapshots" in capsys.readouterr().err
