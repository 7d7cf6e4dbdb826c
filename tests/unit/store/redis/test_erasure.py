"""After an erasure, nothing of the user is in any key or value of Redis, nor in its dump."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from store.errors import StoreError
from store.redis import erasure
from store.redis.store import RedisStore
from tests.redis_process import RedisProcess, redis_server, redis_store, shared_redis
from tests.stored import LONG_MS, NOW, conversation, ending, message, new_turn, piece, run, say, stateless_turn

__all__ = ["redis_server", "shared_redis"]

CANARY = b"canary"


def traces(server: RedisProcess) -> list[bytes]:
    """Return the keys whose name or content has the canary, except keys of others."""
    server.execute("CONFIG", "SET", "rdbcompression", "no")
    keys = [key for key in server.keys() if not key.startswith(b"other:")]
    return [key for key in keys if CANARY in key or CANARY in (server.execute("DUMP", key) or b"")]


async def do_everything(store: RedisStore, user: str = "canary:user*") -> None:
    """Do everything that a user may do."""
    await store.create_conversation(conversation("c1", user, title="canary title"))
    for n in range(30):
        await say(store, "c1", f"a canaryword{n}", user=user)
    turn = (await store.accept(new_turn("t1", user))).turn
    await store.append([piece(turn, 1, 8, payload=b"canary log")])
    await store.renew_presence("one", [(user, "t1")], LONG_MS)
    await store.end(ending(turn, events=piece(turn, 9, 9), answer=message(turn.message, body=b"canary", turn="t1")))
    await store.put_feedback(user, turn.message, "up", "canary comment", NOW)
    await store.accept(stateless_turn("t2", user))
    await run(store, stateless_turn("t3", user))
    await store.put_ephemeral("ticket:1", b"canary", LONG_MS, user)
    await store.acquire_permits("one", [(f"user:{user}", 1)], LONG_MS)
    await store.count_requests([(user, 3, 0)], 10_000_000)


async def test_nothing_of_an_erased_user_is_in_redis(redis_server: RedisProcess) -> None:
    """No key, value or entry of an index is left, not even of a message whose conversation has expired."""
    async with redis_store(redis_server.url) as store:
        await do_everything(store)
        for key in redis_server.keys():
            if key.endswith((b":conversation:c1", b":messages:c1")):
                redis_server.execute("DEL", key)
        assert len(traces(redis_server)) > 40
        await store.create_conversation(conversation("c1", "bob"))
        await store.erase_user("canary:user*")
        assert traces(redis_server) == []
        redis_server.execute("SAVE")
        assert CANARY not in Path(redis_server.execute("CONFIG", "GET", "dir")[1].decode(), "dump.rdb").read_bytes()
        assert (await store.conversation("bob", "c1")).id == "c1"


async def test_keys_that_come_back_are_reported(redis_server: RedisProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    """If keys are written again and again meanwhile, the erasure isn't reported as complete."""
    monkeypatch.setattr(erasure, "PASSES_MAX", 1)
    async with redis_store(redis_server.url) as store:
        await do_everything(store)
        with pytest.raises(StoreError, match="written again"):
            await store.erase_user("canary:user*")
        await store.erase_user("canary:user*")
        assert traces(redis_server) == []


async def test_the_keys_of_others_are_not_a_burden(redis_server: RedisProcess) -> None:
    """Among many keys of others, each step is short: calls run in between."""
    async with redis_store(redis_server.url) as store:
        await do_everything(store)
        redis_server.execute("EVAL", "for n = 1, 100000 do redis.call('SET', 'other:' .. n, n) end", "0")
        done = asyncio.create_task(store.erase_user("canary:user*"))
        calls = 0
        while not done.done():
            await store.ping()
            calls += 1
        await done
        assert calls > 50
        assert traces(redis_server) == []
