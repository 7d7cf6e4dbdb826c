"""The SQLite store passes the conformance tests, in a file and in memory. It survives a kill, refuses a second process,
and reports a full disk."""

from __future__ import annotations

import asyncio
import resource
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from pathlib import Path

import pytest

from store.errors import LogGap, StoreError
from store.records import Append, Found
from store.sqlite.store import SqliteStore
from store.sqlite.turns import TURN_ID_TTL_MS
from tests.conformance.search import Searches
from tests.gateway_process import clean_environment
from tests.store_conformance import StoreConformance
from tests.stored import NOW, OpenStore, conversation, ending, new_turn, piece, run, running

WRITER = """
import asyncio, sys
from store.records import Append
from store.sqlite.store import SqliteStore
from tests.stored import NOW, conversation, new_turn, run

async def main():
    store = SqliteStore(sys.argv[1])
    await store.open()
    await store.create_conversation(conversation())
    streaming = [(await store.accept(new_turn(f"open{n}"))).turn for n in range(5)]
    n = 0
    while True:
        n += 1
        await run(store, new_turn(f"t{n}"))
        wrote = await store.append(
            [Append("ann", turn.turn, turn.epoch, n, n, f"{turn.turn} {n}".encode()) for turn in streaming]
        )
        assert [one.outcome for one in wrote] == ["stored"] * 5
        print(n, flush=True)

asyncio.run(main())
"""


@asynccontextmanager
async def embedded(path: Path | str) -> AsyncIterator[SqliteStore]:
    """Open the store of this file for the block."""
    store = SqliteStore(str(path))
    await store.open()
    try:
        yield store
    finally:
        await store.close()


@asynccontextmanager
async def opener(path: Path | str) -> AsyncIterator[OpenStore]:
    """Yield the function that opens the store for the conformance tests."""
    async with AsyncExitStack() as stack:
        yield lambda: stack.enter_async_context(embedded(path))


@asynccontextmanager
async def writing_process(path: Path) -> AsyncIterator[asyncio.subprocess.Process]:
    """Start another process, which ends turns and appends to others, and prints the number of each stored round."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        WRITER,
        str(path),
        cwd=Path(__file__).parents[4],
        env=clean_environment({}),
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def rounds_acknowledged(process: asyncio.subprocess.Process, at_least: int) -> int:
    """Wait until the process has printed round `at_least` or a later one, and return its number."""
    assert process.stdout is not None
    rounds = 0
    async with asyncio.timeout(20):
        while rounds < at_least:
            rounds = int(await process.stdout.readline())
    return rounds


class TestEmbeddedFile(StoreConformance):
    """With a file."""

    @pytest.fixture
    async def open_store(self, tmp_path: Path) -> AsyncIterator[OpenStore]:
        """Stores of one empty file."""
        async with opener(tmp_path / "turnwire.db") as opened:
            yield opened


class _IndexedStore(SqliteStore):
    """A store that has every message in its index before each search."""

    async def search(self, user: str, query: str, limit: int, before: str | None) -> tuple[list[Found], bool]:
        await self.index_user(user)
        return await super().search(user, query, limit, before)


class TestIndexedSearch(Searches):
    """The search with all messages in the index; in the other classes, it reads them one by one."""

    @pytest.fixture
    async def open_store(self, tmp_path: Path) -> AsyncIterator[OpenStore]:
        """Stores of one empty file."""
        store = _IndexedStore(str(tmp_path / "turnwire.db"))
        await store.open()

        async def opened() -> SqliteStore:
            return store

        yield opened
        await store.close()


class TestEmbeddedMemory(StoreConformance):
    """Without a file."""

    many = 1000

    @pytest.fixture
    async def open_store(self) -> AsyncIterator[OpenStore]:
        """Stores in memory."""
        async with opener(":memory:") as opened:
            yield opened


async def test_stored_data_survives_a_restart(tmp_path: Path) -> None:
    """Law 3: conversations, messages, turns and logs are found after a restart."""
    path = tmp_path / "turnwire.db"
    async with embedded(path) as store:
        await store.create_conversation(conversation())
        ended = await run(store, new_turn())
        stored = await store.conversation("ann", "c1")
        turn, log = await store.turn("ann", "t1"), await store.log("ann", "t1", 0)
    async with embedded(path) as again:
        assert await again.conversation("ann", "c1") == stored
        assert [one.id for one in (await again.messages("ann", "c1", 9, None))[0]] == [
            "t1.question",
            "t1.answer",
        ]
        assert await again.turn("ann", "t1") == turn
        assert await again.log("ann", "t1", 0) == log
        assert log[-1].last == ended.events.last
        assert await again.expired_leases() == []


async def test_a_kill_loses_no_acknowledged_data(tmp_path: Path) -> None:
    """Laws 3 and 9: after a kill -9, all acknowledged data is found, and the running turns can be claimed at once."""
    path = tmp_path / "turnwire.db"
    async with writing_process(path) as process:
        rounds = await rounds_acknowledged(process, 25)
        process.kill()
        assert process.stdout is not None
        rounds = max([rounds, *(int(line) for line in (await process.stdout.read()).splitlines())])
        await process.wait()
    async with embedded(path) as store:
        for n in range(1, rounds + 1):
            assert (await store.turn("ann", f"t{n}")).status == "completed"
            assert (await store.message("ann", f"t{n}.answer")).parent == f"t{n}.question"
        streaming = [f"open{n}" for n in range(5)]
        expired_leases = await store.expired_leases()
        assert set(expired_leases) >= {("ann", turn) for turn in streaming}
        for turn in streaming:
            before = await store.turn("ann", turn)
            claimed = await store.claim("ann", turn, "in_next", NOW, 60_000)
            assert claimed is not None
            assert claimed.epoch > before.epoch
            assert claimed.seq >= rounds
            log = await store.log("ann", turn, 0)
            assert [one.last for one in log] == list(range(1, claimed.seq + 1))
            assert [one.payload for one in log] == [f"{turn} {n}".encode() for n in range(1, claimed.seq + 1)]
            late = Append("ann", turn, before.epoch, claimed.seq + 1, claimed.seq + 1, b"late")
            following = Append("ann", turn, claimed.epoch, claimed.seq + 1, claimed.seq + 1, b"on")
            assert [one.outcome for one in await store.append([late, following])] == ["fenced", "stored"]
        stored = await store.conversation("ann", "c1")
        assert len((await store.messages("ann", "c1", 10_000, None))[0]) == stored.messages


async def test_a_second_process_is_refused(tmp_path: Path) -> None:
    """A second process can't open a file in use; after the first one was killed, it can at once."""
    path = tmp_path / "turnwire.db"
    async with writing_process(path) as process:
        await rounds_acknowledged(process, 1)
        with pytest.raises(StoreError, match="in use by another process"):
            async with embedded(path):
                pass
        process.kill()
        await process.wait()
    async with embedded(path) as store:
        await store.ping()


async def test_the_request_of_an_ended_turn_is_deleted() -> None:
    """The whole request is stored until the turn's ending."""
    async with embedded(":memory:") as store:
        await store.create_conversation(conversation())
        await store.accept(new_turn("running", request=b"request"))
        await run(store, new_turn("ended", request=b"deleted"))
        assert (await store.turn("ann", "running", with_request=True)).request == b"request"
        assert (await store.turn("ann", "ended", with_request=True)).request is None


async def test_an_ending_must_be_the_last_event() -> None:
    """Law 2: an ending whose events are already in the log is stored only if no event follows them."""
    async with embedded(":memory:") as store:
        turn = await running(store)
        await store.append([piece(turn, 1, 3), piece(turn, 4, 6)])
        with pytest.raises(LogGap) as gap:
            await store.end(ending(turn, events=piece(turn, 1, 3)))
        assert gap.value.end == 6
        await store.end(ending(turn, events=piece(turn, 4, 6)))
        assert (await store.turn("ann", "t1")).seq == 6


async def test_a_turn_id_can_be_used_again_after_a_day() -> None:
    """Law 6: 24 h after its ending, a turn's id can be used again.

    The old turn's usage stays. The new turn has no events, and its epoch is higher.
    """
    async with embedded(":memory:") as store:
        await store.create_conversation(conversation())
        ended = await run(store, new_turn(epoch=NOW + 5))

        async def shift(ms: int) -> None:
            await store._db.run(lambda db: db.execute("UPDATE turns SET stored_ms = stored_ms - ?", (ms,)))

        other = new_turn(message="new.answer", input=None, parent="t1.question", digest=b"other", epoch=NOW)
        await shift(TURN_ID_TTL_MS - 60_000)
        assert (await store.turn("ann", "t1")).status == "completed"
        await shift(60_000)
        late = Append("ann", "t1", ended.epoch, 1, 1, b"late")
        assert [one.outcome for one in await store.append([late])] == ["missing"]
        accepted = await store.accept(other)
        assert accepted.is_new
        assert (accepted.turn.epoch, accepted.turn.seq) == (NOW + 6, 0)
        assert await store.log("ann", "t1", 0) == []
        assert (await store.usage("ann", None, None)).output_tokens == ended.usage.output_tokens


@contextmanager
def file_size_limit(size: int) -> Iterator[None]:
    """Limit the size of this process's files, as a full disk does."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


async def test_ping_fails_if_the_disk_is_full(tmp_path: Path) -> None:
    """If the disk is full, `ping` fails although reads work, because no turn could be started."""
    path = tmp_path / "turnwire.db"
    async with embedded(path) as store:
        await store.ping()
        with file_size_limit(path.with_name("turnwire.db-wal").stat().st_size):
            for refused in (store.ping(), store.create_conversation(conversation())):
                with pytest.raises(StoreError, match="disk"):
                    await refused
            assert await store.conversations("ann", 9, None) == ([], False)
        await store.ping()
        await store.create_conversation(conversation())
