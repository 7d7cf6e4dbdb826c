"""The embedded store passes the conformance suite, in a file and in memory, and survives a kill."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from store.base import Store
from store.embedded import EmbeddedStore
from tests.gateway_process import clean_environment
from tests.store_conformance import StoreConformance, conversation, new_turn, run

WRITER = """
import asyncio, sys
from store.embedded import EmbeddedStore
from tests.store_conformance import conversation, new_turn, run

async def main():
    store = EmbeddedStore(sys.argv[1])
    await store.open()
    await store.create_conversation(conversation())
    n = 0
    while True:
        await run(store, new_turn(f"t{n}"))
        await store.accept(new_turn(f"open{n}"))
        print(n, flush=True)
        n += 1

asyncio.run(main())
"""


class TestEmbeddedFile(StoreConformance):
    """In a file."""

    @pytest.fixture
    async def store(self, tmp_path: Path) -> AsyncIterator[Store]:
        """An empty file."""
        made = EmbeddedStore(str(tmp_path / "turnwire.db"))
        await made.open()
        yield made
        await made.close()


class TestEmbeddedMemory(StoreConformance):
    """In memory."""

    @pytest.fixture
    async def store(self) -> AsyncIterator[Store]:
        """Nothing on disk."""
        made = EmbeddedStore(":memory:")
        await made.open()
        yield made
        await made.close()


async def test_what_was_stored_is_there_after_a_restart(tmp_path: Path) -> None:
    """Law 3: a file keeps what a process stored in it."""
    path = str(tmp_path / "turnwire.db")
    store = EmbeddedStore(path)
    await store.open()
    await store.create_conversation(conversation())
    await run(store, new_turn())
    kept = await store.conversation("ann", "c1")
    await store.close()
    again = EmbeddedStore(path)
    await again.open()
    assert await again.conversation("ann", "c1") == kept
    assert [one.id for one in (await again.messages("ann", "c1", 9, None))[0]] == ["t1.question", "t1.answer"]
    await again.close()


async def test_a_kill_loses_nothing_that_was_said(tmp_path: Path) -> None:
    """Laws 3 and 9: after a kill -9 in the middle of writing, what was answered is there, and what ran is
    unfinished."""
    path = str(tmp_path / "turnwire.db")
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        WRITER,
        path,
        cwd=Path(__file__).parents[2],
        env=clean_environment({}),
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    said = -1
    async with asyncio.timeout(20):
        while said < 25:
            said = int(await process.stdout.readline())
        process.kill()
        said = max([said, *(int(line) for line in (await process.stdout.read()).splitlines())])
        await process.wait()
    store = EmbeddedStore(path)
    await store.open()
    for n in range(said + 1):
        assert (await store.turn("ann", f"t{n}")).status == "completed"
        assert (await store.message("ann", f"t{n}.answer")).parent == f"t{n}.question"
    assert [one.turn.turn for one in await store.unfinished()][: said + 1] == [f"open{n}" for n in range(said + 1)]
    kept = await store.conversation("ann", "c1")
    messages = await store.messages("ann", "c1", 10_000, None)
    assert len(messages[0]) == kept.messages
    await store.close()
