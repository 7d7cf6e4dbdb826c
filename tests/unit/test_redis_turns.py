"""Turns in Redis survive cut answers, and leave when their time is over."""

from __future__ import annotations

import pytest

from store.base import Append, Conflict
from tests.redis_process import RedisProcess, cut_way, redis_server, redis_store
from tests.store_conformance import conversation, ending, entry, new_turn, piece, run, running, stateless_turn

__all__ = ["redis_server"]

HOUR_MS = 3_600_000


def ttl_ms(server: RedisProcess, suffix: str) -> int:
    """How long the key that ends so will be there."""
    (key,) = [key for key in server.keys() if key.endswith(suffix.encode())]
    left: int = server.ask("PTTL", key)
    return left


async def test_an_accepted_turn_whose_answer_was_cut_is_fresh(redis_server: RedisProcess) -> None:
    """Law 6: the very same call again has the same answer, once; another's is a repeat."""
    async with cut_way(redis_server) as way, redis_store(way.url) as store:
        await store.create_conversation(conversation())
        await store.accept(new_turn("ahead"))
        new = new_turn(on_busy="queue")
        way.cut()
        accepted = await store.accept(new)
        assert (accepted.fresh, accepted.ahead) == (True, ("ahead",))
        assert accepted.input is not None
        assert accepted.input.parent == "ahead.answer"
        assert accepted.conversation == await store.conversation("ann", "c1")
        assert accepted.conversation is not None
        assert (accepted.conversation.messages, accepted.conversation.revision) == (2, 2)
        assert await store.accept(new) == accepted
        way.cut()
        stateless = stateless_turn("t2")
        assert (await store.accept(stateless)).fresh
        await store.append([piece(accepted.turn, 1, 1)])
        assert not (await store.accept(new)).fresh
        with pytest.raises(Conflict):
            await store.accept(new_turn(digest=b"other"))


async def test_an_append_whose_answer_was_cut_is_stored_once(redis_server: RedisProcess) -> None:
    """Law 1: no event is doubled by a call that is made again."""
    async with cut_way(redis_server) as way, redis_store(way.url) as store:
        turns = [await running(store, stateless_turn(f"t{n}")) for n in range(10)]
        for round_number in range(1, 6):
            way.cut(round_number % 3, kept=round_number)
            pieces = [piece(turn, round_number, round_number) for turn in turns]
            assert [one.outcome for one in await store.append(pieces)] == ["stored"] * 10
        for turn in turns:
            assert await store.log("ann", turn.turn, 0) == [entry(piece(turn, n, n)) for n in range(1, 6)]


async def test_an_ending_whose_answer_was_cut_counts_once(redis_server: RedisProcess) -> None:
    """Law 3: usage, message and revision are those of one ending."""
    async with cut_way(redis_server) as way, redis_store(way.url) as store:
        await store.create_conversation(conversation())
        turn = await running(store, new_turn())
        way.cut(2)
        kept = await store.end(ending(turn))
        assert kept == await store.conversation("ann", "c1")
        assert kept is not None
        assert (kept.revision, kept.messages, kept.usage.input_tokens) == (2, 2, 1)
        assert len(await store.log("ann", "t1", 0)) == 1


async def test_what_runs_is_kept_and_what_ended_leaves(redis_server: RedisProcess) -> None:
    """Nothing of a turn stays for ever: its log leaves soon after the ending, its id counts for a day."""
    async with redis_store(redis_server.url, history_ttl_s=100, log_ttl_s=10) as store:
        await store.create_conversation(conversation())
        turn = await running(store, new_turn())
        await store.append([piece(turn, 1, 1)])
        assert ttl_ms(redis_server, ":log:t1") > 24 * HOUR_MS
        assert ttl_ms(redis_server, ":turn:t1") > 24 * HOUR_MS
        await store.end(ending(await store.turn("ann", "t1")))
        assert 9_000 < ttl_ms(redis_server, ":log:t1") <= 10_000
        assert 23 * HOUR_MS < ttl_ms(redis_server, ":turn:t1") <= 24 * HOUR_MS
        without_end = [key for key in redis_server.keys() if redis_server.ask("PTTL", key) == -1]
        assert without_end == [key for key in redis_server.keys() if key.startswith(b"turnwire:leases:")]


async def test_an_ended_turn_outlives_its_log(redis_server: RedisProcess) -> None:
    """Law 7: where the log is gone there is nothing to read, and the turn still names its message."""
    async with redis_store(redis_server.url) as store:
        await store.create_conversation(conversation())
        await run(store, new_turn())
        (log,) = [key for key in redis_server.keys() if key.endswith(b":log:t1")]
        redis_server.ask("DEL", log)
        assert await store.log("ann", "t1", 0) == []
        assert (await store.turn("ann", "t1")).message == "t1.answer"


async def test_redis_itself_refuses_a_former_owners_entry(redis_server: RedisProcess) -> None:
    """Law 9: an entry's id is its epoch and its last seq, and ids only grow."""
    async with redis_store(redis_server.url) as store:
        turn = await running(store)
        await store.append([Append("ann", "t1", turn.epoch, 1, 4, b"x")])
        (log,) = [key for key in redis_server.keys() if key.endswith(b":log:t1")]
        ((entry_id, _),) = redis_server.ask("XRANGE", log, "-", "+")
        assert entry_id == f"{turn.epoch}-4".encode()
