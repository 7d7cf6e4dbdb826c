"""Turns in Redis survive cut replies and lost keys, and expire in time."""

from __future__ import annotations

import pytest

from store.errors import Conflict, LogGap, NotFound, StoreError
from store.records import Append
from store.redis import client as client_module
from store.redis.commands import Argument
from store.redis.store import RedisStore
from tests.redis_process import RedisProcess, cuttable_proxy, redis_server, redis_store
from tests.stored import conversation, ending, entry, new_turn, piece, run, running, stateless_turn

__all__ = ["redis_server"]

HOUR_MS = 3_600_000


def ttl_ms(server: RedisProcess, suffix: str) -> int:
    """Return the time to live of the key with this suffix."""
    (key,) = [key for key in server.keys() if key.endswith(suffix.encode())]
    left: int = server.execute("PTTL", key)
    return left


async def test_an_accept_whose_reply_was_cut_is_new(redis_server: RedisProcess) -> None:
    """Law 6: a retry returns the same result as the first call while the turn has no event; later it counts as a repeat."""
    async with cuttable_proxy(redis_server) as proxy, redis_store(proxy.url) as store:
        await store.create_conversation(conversation())
        await store.accept(new_turn("ahead"))
        new = new_turn(on_busy="queue")
        proxy.cut()
        accepted = await store.accept(new)
        assert (accepted.is_new, accepted.ahead) == (True, ("ahead",))
        assert accepted.input is not None
        assert accepted.input.parent == "ahead.answer"
        assert accepted.conversation == await store.conversation("ann", "c1")
        assert accepted.conversation is not None
        assert (accepted.conversation.messages, accepted.conversation.revision) == (2, 2)
        assert await store.accept(new) == accepted
        proxy.cut()
        stateless = stateless_turn("t2")
        assert (await store.accept(stateless)).is_new
        await store.append([piece(accepted.turn, 1, 1)])
        assert not (await store.accept(new)).is_new
        with pytest.raises(Conflict):
            await store.accept(new_turn(digest=b"other"))


async def test_an_append_whose_reply_was_cut_is_stored_once(redis_server: RedisProcess) -> None:
    """Law 1: a retried call stores no event twice."""
    async with cuttable_proxy(redis_server) as proxy, redis_store(proxy.url) as store:
        turns = [await running(store, stateless_turn(f"t{n}")) for n in range(10)]
        for round_number in range(1, 6):
            proxy.cut(round_number % 3, pass_bytes=round_number)
            pieces = [piece(turn, round_number, round_number) for turn in turns]
            assert [one.outcome for one in await store.append(pieces)] == ["stored"] * 10
        for turn in turns:
            assert await store.log("ann", turn.turn, 0) == [entry(piece(turn, n, n)) for n in range(1, 6)]


async def test_an_ending_whose_reply_was_cut_counts_once(redis_server: RedisProcess) -> None:
    """Law 3: after a retry, usage, messages and revision are those of one ending."""
    async with cuttable_proxy(redis_server) as proxy, redis_store(proxy.url) as store:
        await store.create_conversation(conversation())
        turn = await running(store, new_turn())
        proxy.cut(2)
        stored = await store.end(ending(turn))
        assert stored == await store.conversation("ann", "c1")
        assert stored is not None
        assert (stored.revision, stored.messages, stored.usage.input_tokens) == (2, 2, 1)
        assert len(await store.log("ann", "t1", 0)) == 1


async def test_an_ended_turn_and_its_log_expire(redis_server: RedisProcess) -> None:
    """A running turn's keys live for more than a day; after the ending the log expires soon, the turn after a day."""
    async with redis_store(redis_server.url, history_ttl_s=100, log_ttl_s=10) as store:
        await store.create_conversation(conversation())
        turn = await running(store, new_turn())
        await store.append([piece(turn, 1, 1)])
        assert ttl_ms(redis_server, ":log:t1") > 24 * HOUR_MS
        assert ttl_ms(redis_server, ":turn:t1") > 24 * HOUR_MS
        await store.end(ending(await store.turn("ann", "t1")))
        assert 9_000 < ttl_ms(redis_server, ":log:t1") <= 10_000
        assert 23 * HOUR_MS < ttl_ms(redis_server, ":turn:t1") <= 24 * HOUR_MS
        without_end = [key for key in redis_server.keys() if redis_server.execute("PTTL", key) == -1]
        assert without_end == [key for key in redis_server.keys() if key.startswith(b"turnwire:leases:")]


async def test_an_ended_turn_outlives_its_log(redis_server: RedisProcess) -> None:
    """Law 7: after the log has expired, reading returns no entries, and the turn still names its message."""
    async with redis_store(redis_server.url) as store:
        await store.create_conversation(conversation())
        await run(store, new_turn())
        (log,) = [key for key in redis_server.keys() if key.endswith(b":log:t1")]
        redis_server.execute("DEL", log)
        assert await store.log("ann", "t1", 0) == []
        assert (await store.turn("ann", "t1")).message == "t1.answer"


async def test_entry_ids_are_epoch_and_seq(redis_server: RedisProcess) -> None:
    """Law 9: an entry's id in the stream is its epoch and last seq, because Redis accepts only increasing ids."""
    async with redis_store(redis_server.url) as store:
        turn = await running(store)
        await store.append([Append("ann", "t1", turn.epoch, 1, 4, b"x")])
        (log,) = [key for key in redis_server.keys() if key.endswith(b":log:t1")]
        ((entry_id, _),) = redis_server.execute("XRANGE", log, "-", "+")
        assert entry_id == f"{turn.epoch}-4".encode()


def key_of(server: RedisProcess, suffix: str) -> bytes:
    """Return the full name of the key with this suffix."""
    (key,) = [key for key in server.keys() if key.endswith(suffix.encode())]
    return key


@pytest.fixture
def short_timeout(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shorten the deadline of calls, so that tests are faster."""
    monkeypatch.setattr(client_module, "CALL_TIMEOUT_S", 0.6)


def freeze_after_the_clock(store: RedisStore, server: RedisProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    """Freeze Redis after it has returned its time, so that the next call waits unread in Redis' socket."""
    command = store._client.command

    async def command_then_freeze(*words: Argument, repeatable: bool = True) -> object:
        answer = await command(*words, repeatable=repeatable)
        server.freeze()
        return answer

    monkeypatch.setattr(store._client, "command", command_then_freeze)


@pytest.mark.parametrize("when", ["before", "in between"])
async def test_a_start_that_failed_is_not_accepted_when_redis_thaws(
    redis_server: RedisProcess, monkeypatch: pytest.MonkeyPatch, short_timeout: None, when: str
) -> None:
    """Law 6: a start that failed with `store_unavailable` has no effect; the same start again is accepted."""
    async with redis_store(redis_server.url) as store, redis_store(redis_server.url) as other:
        await other.create_conversation(conversation())
        if when == "before":
            redis_server.freeze()
        else:
            freeze_after_the_clock(store, redis_server, monkeypatch)
        with pytest.raises(StoreError, match="in time"):
            await store.accept(new_turn())
        monkeypatch.undo()
        redis_server.thaw()
        for _ in range(3):
            await other.ping()
        with pytest.raises(NotFound):
            await other.turn("ann", "t1")
        assert await other.active("ann", "c1") == []
        assert (await store.accept(new_turn())).is_new


async def test_a_failed_cancel_request_is_not_stored_when_redis_thaws(
    redis_server: RedisProcess, monkeypatch: pytest.MonkeyPatch, short_timeout: None
) -> None:
    """Law 5: a cancel that failed with `store_unavailable` has no effect; the same request again is stored."""
    async with redis_store(redis_server.url) as store, redis_store(redis_server.url) as other:
        await running(other)
        freeze_after_the_clock(store, redis_server, monkeypatch)
        with pytest.raises(StoreError, match="in time"):
            await store.request_cancel("ann", "t1", b"stop")
        monkeypatch.undo()
        redis_server.thaw()
        for _ in range(3):
            await other.ping()
        assert (await other.turn("ann", "t1")).cancel is None
        assert await store.request_cancel("ann", "t1", b"stop")
        assert (await other.turn("ann", "t1")).cancel == b"stop"


def lose_log(server: RedisProcess, key: bytes, how: str) -> None:
    """Delete a log's key, or replace it by a key of another type or by a stream with another end."""
    server.execute("DEL", key)
    if how == "another type":
        server.execute("SET", key, "not a stream")
    elif how == "another end":
        server.execute("XADD", key, "9999999999999-9", "first", 9, "entry", "x")


@pytest.mark.parametrize("how", ["gone", "another type", "another end"])
async def test_a_lost_log_can_be_written_again(redis_server: RedisProcess, how: str) -> None:
    """The owner gets a gap from seq 0 and writes the log again; other logs are unaffected."""
    async with redis_store(redis_server.url) as store:
        await store.create_conversation(conversation())
        turn, other = await running(store, new_turn()), await running(store, stateless_turn("t2"))
        await store.append([piece(turn, 1, 3), piece(other, 1, 1)])
        lose_log(redis_server, key_of(redis_server, ":log:t1"), how)
        assert [(one.outcome, one.end) for one in await store.append([piece(turn, 4, 4), piece(other, 2, 2)])] == [
            ("gap", 0),
            ("stored", 2),
        ]
        assert await store.log("ann", "t1", 0) == []
        assert [one.end for one in await store.append([piece(turn, 1, 4)])] == [4]
        assert await store.log("ann", "t1", 0) == [entry(piece(turn, 1, 4))]
        lose_log(redis_server, key_of(redis_server, ":log:t1"), how)
        ended = ending(await store.turn("ann", "t1"))
        with pytest.raises(LogGap) as gap:
            await store.end(ended)
        assert gap.value.end == 0
        assert (await store.turn("ann", "t1", with_request=True)).request == b"{}"
        stored = await store.end(ending(turn, events=piece(turn, 1, 9)))
        assert stored is not None
        assert stored.head == "t1.answer"


@pytest.mark.parametrize("how", ["gone", "another type", "another end"])
async def test_a_claimed_turn_with_a_lost_log_has_seq_0(redis_server: RedisProcess, how: str) -> None:
    """Law 9: a claimed turn whose log is lost has seq 0; a complete log is unchanged."""
    async with redis_store(redis_server.url) as store:
        turn, whole = await running(store), await running(store, stateless_turn("t2"))
        await store.append([piece(turn, 1, 3), piece(whole, 1, 3)])
        lose_log(redis_server, key_of(redis_server, ":log:t1"), how)
        claimed = await store.claim("ann", "t1", "two", 0, 1000, force=True)
        assert claimed is not None
        assert claimed.seq == 0
        assert [one.end for one in await store.append([piece(claimed, 1, 2)])] == [2]
        assert await store.log("ann", "t1", 0) == [entry(piece(claimed, 1, 2))]
        as_it_was = await store.claim("ann", "t2", "two", 0, 1000, force=True)
        assert as_it_was is not None
        assert as_it_was.seq == 3
        assert len(await store.log("ann", "t2", 0)) == 1


async def test_an_overwritten_key_affects_only_its_turn(redis_server: RedisProcess) -> None:
    """An overwritten key is treated as lost: its owner can restore it, and other turns are unaffected."""
    async with redis_store(redis_server.url) as store:
        turns = [await running(store, stateless_turn(f"t{n}", lease_ms=1)) for n in range(3)]
        held = [("ann", turn.turn, turn.epoch) for turn in turns]
        key = key_of(redis_server, ":turn:t1")

        def overwrite() -> None:
            redis_server.execute("DEL", key)
            redis_server.execute("SET", key, "not a hash")

        overwrite()
        assert [one.outcome for one in await store.append([piece(turn, 1, 1) for turn in turns])] == [
            "stored",
            "missing",
            "stored",
        ]
        overwrite()
        assert sorted(await store.expired_leases()) == [("ann", "t0"), ("ann", "t2")]
        overwrite()
        assert [one.missing for one in await store.renew("one", held, 1000)] == [False, True, False]
        overwrite()
        assert await store.active("ann", None) == ["t0", "t2"]
        overwrite()
        assert (await store.accept(stateless_turn("t1"))).is_new


async def test_reading_a_turn_transfers_few_bytes(redis_server: RedisProcess) -> None:
    """Reading a turn or requesting its cancel doesn't transfer the turn's request, which can have 20 MiB."""
    async with redis_store(redis_server.url) as store:
        await store.accept(stateless_turn("t1", request=b"x" * 2**20))

        async def sent_bytes() -> int:
            stats: bytes = await store._client.command("INFO", "stats")
            return int(stats.split(b"total_net_output_bytes:")[1].split()[0])

        before = await sent_bytes()
        assert (await store.turn("ann", "t1")).request is None
        assert await store.request_cancel("ann", "t1", b"{}")
        assert await sent_bytes() - before < 16_384  # two answers of INFO among them
        assert (await store.turn("ann", "t1", with_request=True)).request == b"x" * 2**20
