"""A call to Redis has one deadline, few connections, and fails in our words; what is cut or cancelled harms no other."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from redis.exceptions import ResponseError

from store.records import StoreError
from store.redis.client import CONNECTIONS_MAX, RedisClient, error_text
from tests.in_time import bounds_a_time, within
from tests.redis_process import RedisProcess, cuttable_proxy, redis_process, redis_server, redis_store
from tests.store_conformance import conversation, ending, eventually, new_turn, piece, running, stateless_turn

__all__ = ["redis_server"]


def connections(server: RedisProcess) -> int:
    """How many connections it has, without the one that asks."""
    listed: bytes = server.execute("CLIENT", "LIST")
    return len(listed.splitlines()) - 1


async def test_many_calls_share_few_connections(redis_server: RedisProcess) -> None:
    """A burst waits for a connection instead of failing or opening more."""
    async with redis_store(redis_server.url) as store:
        turns = await asyncio.gather(*(running(store, stateless_turn(f"t{n}")) for n in range(200)))
        answers = await asyncio.gather(*(store.append([piece(turn, 1, 1)]) for turn in turns))
        assert all(answer[0].outcome == "stored" for answer in answers)
        assert 1 < connections(redis_server) <= CONNECTIONS_MAX
    async with asyncio.timeout(5):
        await eventually(lambda: asyncio.sleep(0, connections(redis_server) == 0))


@bounds_a_time
async def test_a_frozen_redis_fails_in_time_and_works_again(redis_server: RedisProcess) -> None:
    """Calls to a Redis that answers nothing fail within 2.5 s, also those that wait for a connection."""
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


@bounds_a_time
async def test_a_redis_that_is_away_fails_at_once_and_works_again(redis_server: RedisProcess) -> None:
    """No call waits for one that refuses connections; after its restart the next call works."""
    async with redis_store(redis_server.url) as store:
        redis_server.stop()
        with within(1):
            for call in (store.ping(), store.publish("a", b"b")):
                with pytest.raises(StoreError, match="can't be reached"):
                    await call
        redis_server.start()
        await store.ping()


async def test_idle_connections_that_died_are_no_failure(redis_server: RedisProcess) -> None:
    """After a restart neither a call that may be repeated nor one that may not meets an old connection."""
    async with redis_store(redis_server.url) as store:
        await store.create_conversation(conversation())
        redis_server.restart(with_data=False)
        await store.create_conversation(conversation())
        redis_server.execute("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
        await asyncio.sleep(0.05)
        cleared = await store.clear_conversation("ann", "c1", 0)
        assert cleared.revision == 1


async def test_scripts_that_redis_forgot_are_sent_again(redis_server: RedisProcess) -> None:
    """After SCRIPT FLUSH a whole batch works, in its order."""
    async with redis_store(redis_server.url) as store:
        turn = await running(store)
        redis_server.execute("SCRIPT", "FLUSH")
        assert [one.end for one in await store.append([piece(turn, n, n) for n in range(1, 51)])] == list(range(1, 51))
        assert len(await store.log("ann", "t1", 0)) == 50


async def test_a_cancelled_call_leaves_no_reply_for_another(redis_server: RedisProcess) -> None:
    """A cancelled call's answer never reaches another, and its connection isn't lost to the pool."""
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
    """A call is retried twice when its connection breaks, after Redis has run it."""
    async with cuttable_proxy(redis_server) as proxy, redis_store(proxy.url) as store:
        await running(store)
        proxy.cut(2, pass_bytes=pass_bytes)
        assert (await store.turn("ann", "t1")).turn == "t1"
        proxy.cut(3, pass_bytes=pass_bytes)
        with pytest.raises(StoreError, match="can't be reached"):
            await store.turn("ann", "t1")
        assert (await store.turn("ann", "t1")).turn == "t1"


async def test_an_unrepeatable_call_is_not_retried(redis_server: RedisProcess) -> None:
    """A change whose reply was cut is an error, and was made once."""
    async with cuttable_proxy(redis_server) as proxy, redis_store(proxy.url) as store:
        await store.create_conversation(conversation())
        proxy.cut()
        with pytest.raises(StoreError, match="can't be reached"):
            await store.clear_conversation("ann", "c1", 0)
        assert (await store.conversation("ann", "c1")).revision == 1


async def test_a_full_redis_refuses_new_turns_and_lets_the_others_end(tmp_path: Path) -> None:
    """A Redis without room takes no new turn; what runs is logged, stopped, renewed and ended all the same."""
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


async def test_a_replica_says_that_it_can_not_write(redis_server: RedisProcess) -> None:
    """Where a failover left us at a replica the call fails, and its connections are let go of."""
    async with redis_store(redis_server.url) as store:
        redis_server.execute("REPLICAOF", "127.0.0.1", 1)
        with pytest.raises(StoreError, match="read-only"):
            await running(store)
        redis_server.execute("REPLICAOF", "NO", "ONE")
        await running(store)


async def test_one_failing_call_of_many_harms_no_other(redis_server: RedisProcess) -> None:
    """The others have run, and that one's error is raised."""
    async with redis_store(redis_server.url) as store:
        await store.create_conversation(conversation())
        redis_server.execute("SET", "spoiled", "not a set")
        with pytest.raises(StoreError, match="refuses the call"):
            await store._client.scripts(
                [("acquire_permit", name, (1, 1000, "one")) for name in (b"a", b"spoiled", b"b")]
            )
        assert sorted(key for key in redis_server.keys() if len(key) == 1) == [b"a", b"b"]


def test_an_error_says_nothing_of_redis() -> None:
    """Law 13: the text of Redis stays in the log; a person reads ours."""
    assert (
        error_text(ResponseError("MOVED 12 secret-host:6379"))
        == "The store refuses the call now. Try again in a moment."
    )


async def test_many_appends_are_sent_in_bounded_calls(
    redis_server: RedisProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A backlog after an outage is many calls, each with a deadline of its own, and all of it is stored in order."""
    sizes: list[int] = []
    scripts = RedisClient.scripts

    async def counted(self: RedisClient, calls: list[object], **options: bool) -> list[object]:
        sizes.append(len(calls))
        return await scripts(self, calls, **options)  # type: ignore[arg-type]

    async with redis_store(redis_server.url) as store:
        turn = await running(store)
        monkeypatch.setattr(RedisClient, "scripts", counted)
        answers = await store.append([piece(turn, n, n) for n in range(1, 2501)])
        assert [one.end for one in answers] == list(range(1, 2501))
        assert sizes == [1000, 1000, 500]
        large = [piece(turn, n, n, payload=b"x" * 2**20) for n in range(2501, 2511)]
        assert [one.outcome for one in await store.append(large)] == ["stored"] * 10
        assert sizes[3:] == [5, 5]
