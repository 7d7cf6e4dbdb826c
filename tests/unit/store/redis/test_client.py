"""Calls to Redis share few connections, have one deadline and fail with Turnwire's own messages."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio.connection import AbstractConnection
from redis.exceptions import ResponseError

from store.errors import StoreError
from store.redis.client import CONNECTIONS_MAX, RedisClient, error_text
from store.redis.commands import SLICE_BYTES
from tests.in_time import checks_time_limit, within
from tests.redis_process import RedisProcess, cuttable_proxy, redis_process, redis_server, redis_store
from tests.stored import conversation, ending, eventually, new_turn, piece, running, stateless_turn

__all__ = ["redis_server"]


def connections(server: RedisProcess) -> int:
    """Return the number of connections, without the one of this call."""
    listed: bytes = server.execute("CLIENT", "LIST")
    return len(listed.splitlines()) - 1


async def test_many_calls_share_few_connections(redis_server: RedisProcess) -> None:
    """In a burst, calls wait for a connection; they neither fail nor open more connections than the maximum."""
    async with redis_store(redis_server.url) as store:
        turns = await asyncio.gather(*(running(store, stateless_turn(f"t{n}")) for n in range(200)))
        answers = await asyncio.gather(*(store.append([piece(turn, 1, 1)]) for turn in turns))
        assert all(answer[0].outcome == "stored" for answer in answers)
        assert 1 < connections(redis_server) <= CONNECTIONS_MAX
    async with asyncio.timeout(5):
        await eventually(lambda: asyncio.sleep(0, connections(redis_server) == 0))


@checks_time_limit
async def test_calls_to_a_frozen_redis_fail_in_time(redis_server: RedisProcess) -> None:
    """If Redis doesn't respond, calls fail within 2.7 s, including those that wait for a connection."""
    async with redis_store(redis_server.url) as store:
        await running(store)
        redis_server.freeze()
        calls = [store.turn("ann", "t1") for _ in range(50)]
        calls += [store.turn("ann", f"u{n}") for n in range(50)]
        with within(2.7):
            failures = await asyncio.gather(*calls, return_exceptions=True)
        assert {str(failure) for failure in failures} == {"The store didn't respond in time."}
        assert all(isinstance(failure, StoreError) for failure in failures)
        redis_server.thaw()
        assert (await store.turn("ann", "t1")).turn == "t1"
        assert connections(redis_server) <= CONNECTIONS_MAX


@checks_time_limit
async def test_calls_to_a_stopped_redis_fail_at_once(redis_server: RedisProcess) -> None:
    """If connections are refused, calls fail at once; after a restart of Redis the next call works."""
    async with redis_store(redis_server.url) as store:
        redis_server.stop()
        with within(1):
            for call in (store.ping(), store.publish("a", b"b")):
                with pytest.raises(StoreError, match="can't be reached"):
                    await call
        redis_server.start()
        await store.ping()


async def test_dead_idle_connections_are_not_used(redis_server: RedisProcess) -> None:
    """After a restart of Redis, neither repeatable nor unrepeatable calls use a dead connection."""
    async with redis_store(redis_server.url) as store:
        await store.create_conversation(conversation())
        redis_server.restart(with_data=False)
        await store.create_conversation(conversation())
        redis_server.execute("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
        await asyncio.sleep(0.05)
        cleared = await store.clear_conversation("ann", "c1", 0)
        assert cleared.revision == 1


async def test_flushed_scripts_are_loaded_again(redis_server: RedisProcess) -> None:
    """After SCRIPT FLUSH, a batch of calls works, and its results are in order."""
    async with redis_store(redis_server.url) as store:
        turn = await running(store)
        redis_server.execute("SCRIPT", "FLUSH")
        assert [one.end for one in await store.append([piece(turn, n, n) for n in range(1, 51)])] == list(range(1, 51))
        assert len(await store.log("ann", "t1", 0)) == 50


async def test_a_cancelled_calls_reply_is_discarded(redis_server: RedisProcess) -> None:
    """The reply to a cancelled call never reaches another call, and its connection isn't leaked."""
    async with redis_store(redis_server.url) as store:
        for n in range(20):
            await running(store, stateless_turn(f"t{n}"))
        loop = asyncio.get_running_loop()
        for round_number in range(30):
            tasks = [loop.create_task(store.turn("ann", f"t{n}")) for n in range(20)]
            await asyncio.sleep(0.0005 * (round_number % 5))
            for task in tasks[::2]:
                task.cancel()
            for n, answer in enumerate(await asyncio.gather(*tasks, return_exceptions=True)):
                if isinstance(answer, BaseException):
                    assert isinstance(answer, asyncio.CancelledError)
                else:
                    assert answer.turn == f"t{n}"
        await asyncio.gather(*(store.turn("ann", f"t{n}") for n in range(20)))
        assert connections(redis_server) <= CONNECTIONS_MAX


@pytest.mark.parametrize("pass_bytes", [0, 3])
async def test_a_call_whose_reply_is_cut_is_retried(redis_server: RedisProcess, pass_bytes: int) -> None:
    """A repeatable call whose reply is cut is retried twice."""
    async with cuttable_proxy(redis_server) as proxy, redis_store(proxy.url) as store:
        await running(store)
        proxy.cut(2, pass_bytes=pass_bytes)
        assert (await store.turn("ann", "t1")).turn == "t1"
        proxy.cut(3, pass_bytes=pass_bytes)
        with pytest.raises(StoreError, match="can't be reached"):
            await store.turn("ann", "t1")
        assert (await store.turn("ann", "t1")).turn == "t1"


async def test_an_unrepeatable_call_is_not_retried(redis_server: RedisProcess) -> None:
    """An unrepeatable call whose reply is cut raises an error, and is carried out once."""
    async with cuttable_proxy(redis_server) as proxy, redis_store(proxy.url) as store:
        await store.create_conversation(conversation())
        proxy.cut()
        with pytest.raises(StoreError, match="can't be reached"):
            await store.clear_conversation("ann", "c1", 0)
        assert (await store.conversation("ann", "c1")).revision == 1


async def test_a_full_redis_refuses_only_new_turns(tmp_path: Path) -> None:
    """If Redis is full, new turns and conversations are refused; running turns can still be appended to, cancelled,
    renewed, claimed and ended."""
    with redis_process(tmp_path / "redis", maxmemory="64mb") as server:
        async with redis_store(server.url) as store:
            await store.create_conversation(conversation())
            turn = await running(store, new_turn())
            other = await running(store, stateless_turn("t2"))
            server.execute("CONFIG", "SET", "maxmemory", "100kb")  # less than it has
            with pytest.raises(StoreError, match="full"):
                await running(store, new_turn("t3"))
            with pytest.raises(StoreError, match="full"):
                await store.create_conversation(conversation("c2"))
            assert [one.outcome for one in await store.append([piece(turn, 1, 3), piece(other, 1, 1)])] == [
                "stored"
            ] * 2
            assert await store.request_cancel("ann", "t1", b"stop")
            leases = await store.renew("one", [("ann", "t1", turn.epoch), ("ann", "t2", other.epoch)], 1000)
            assert all(lease.held for lease in leases)
            await store.renew_presence("one", [("ann", "t1")], 1000)
            await store.release("ann", "t2", other.epoch)
            assert await store.claim("ann", "t2", "two", 1, 1000) is not None
            stored = await store.end(ending(await store.turn("ann", "t1")))
            assert stored is not None
            assert stored.head == "t1.answer"


async def test_a_write_to_a_replica_fails(redis_server: RedisProcess) -> None:
    """While Redis is a replica, a write fails. When it is a primary again, the next write works."""
    async with redis_store(redis_server.url) as store:
        redis_server.execute("REPLICAOF", "127.0.0.1", 1)
        with pytest.raises(StoreError, match="read-only"):
            await running(store)
        redis_server.execute("REPLICAOF", "NO", "ONE")
        await running(store)


async def test_a_failed_call_does_not_affect_its_batch(redis_server: RedisProcess) -> None:
    """The other calls of the batch are carried out, and the failed call's error is raised."""
    async with redis_store(redis_server.url) as store:
        await store.create_conversation(conversation())
        redis_server.execute("SET", "spoiled", "not a set")
        with pytest.raises(StoreError, match="refuses the call"):
            await store._client.scripts(
                [("acquire_permit", name, (1, 1000, "one")) for name in (b"a", b"spoiled", b"b")]
            )
        assert sorted(key for key in redis_server.keys() if len(key) == 1) == [b"a", b"b"]


async def test_a_long_argument_lets_other_tasks_run(
    redis_server: RedisProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Other tasks run between two slices, even if Redis receives as fast as they are sent."""
    turns = 0
    sent_in_turn: list[int] = []
    send = AbstractConnection.send_packed_command

    async def recorded(self: AbstractConnection, *arguments: Any, **options: Any) -> None:
        sent_in_turn.append(turns)
        await send(self, *arguments, **options)

    monkeypatch.setattr(AbstractConnection, "send_packed_command", recorded)
    client = RedisClient(redis_server.url, history_ttl_s=60, log_ttl_s=60)
    sending = asyncio.create_task(client.command("SET", "k", bytes(40 * SLICE_BYTES)))
    while not sending.done():
        turns += 1
        await asyncio.sleep(0)
    assert await sending == b"OK"
    assert len(set(sent_in_turn[-40:])) == 40
    await client.close()


def test_an_error_has_no_text_of_redis() -> None:
    """Law 13: the error has Turnwire's own text and nothing of the text of Redis."""
    assert (
        error_text(ResponseError("MOVED 12 secret-host:6379"))
        == "The store refuses the call now. Try again in a moment."
    )


async def test_appends_are_sent_in_calls_of_bounded_size(
    redis_server: RedisProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The backlog after an outage is split into calls of bounded size, and all of it is stored in order."""
    sizes: list[int] = []
    scripts = RedisClient.scripts_apart

    async def counted(self: RedisClient, calls: list[object]) -> list[object]:
        sizes.append(len(calls))
        return await scripts(self, calls)  # type: ignore[arg-type]

    async with redis_store(redis_server.url) as store:
        turn = await running(store)
        monkeypatch.setattr(RedisClient, "scripts_apart", counted)
        answers = await store.append([piece(turn, n, n) for n in range(1, 2501)])
        assert [one.end for one in answers] == list(range(1, 2501))
        assert sizes == [1000, 1000, 500]
        large = [piece(turn, n, n, payload=b"x" * 2**20) for n in range(2501, 2511)]
        assert [one.outcome for one in await store.append(large)] == ["stored"] * 10
        assert sizes[3:] == [5, 5]
