"""The history in Redis: a conversation expires as a whole, feedback is stored with its message, lists are complete, sums
are exact, and data of earlier versions is read."""

from __future__ import annotations

import asyncio

import msgspec
import pytest

from store.errors import Limited
from store.records import DAY_MS, Change, Counters, FeedbackFilter, TurnLimits
from store.redis.keys import FEEDBACK_KEY, user_prefix
from tests.redis_process import RedisProcess, redis_server, redis_store
from tests.stored import NOW, conversation, ending, eventually, missing, new_turn, run, running, say

__all__ = ["redis_server"]


def shortest_ttl_ms(server: RedisProcess, *kinds: str) -> int:
    """Return the shortest remaining time to live of the keys of these kinds."""
    wanted = [key for key in server.keys() if key.split(b":", 3)[2].decode() in kinds]
    return min(int(server.execute("PTTL", key)) for key in wanted)


async def test_each_change_prolongs_the_whole_conversation(redis_server: RedisProcess) -> None:
    """A change restarts the time to live of a conversation. Its messages live longer, so theirs is restarted less often."""
    async with redis_store(redis_server.url, history_ttl_s=100) as store:
        await store.create_conversation(conversation())
        await run(store, new_turn("old"))
        await running(store, new_turn("open"))
        for key in redis_server.keys():
            if not key.startswith(b"turnwire:leases:"):
                redis_server.execute("PEXPIRE", key, 60_000)
        (key,) = [key for key in redis_server.keys() if key.endswith(b":conversation:c1")]
        swept = int(redis_server.execute("HGET", key, "swept"))
        redis_server.execute("HSET", key, "swept", swept - 60_000)
        await store.update_conversation("ann", "c1", Change(title="x"), NOW)
        assert shortest_ttl_ms(redis_server, "conversation", "conversations", "messages", "active") > 99_000
        assert shortest_ttl_ms(redis_server, "message") > 199_000
        redis_server.execute("PEXPIRE", key.replace(b"conversation:c1", b"message:old.answer"), 180_000)
        await store.update_conversation("ann", "c1", Change(title="y"), NOW)
        assert shortest_ttl_ms(redis_server, "message") <= 180_000, "messages are prolonged on every change"


async def test_a_history_can_be_kept_until_it_is_deleted(redis_server: RedisProcess) -> None:
    """With a time to live of 0, no key of a history expires within 90 years."""
    async with redis_store(redis_server.url, history_ttl_s=0) as store:
        await store.create_conversation(conversation())
        await run(store, new_turn())
        await store.update_conversation("ann", "c1", Change(title="x"), NOW)
        years = shortest_ttl_ms(redis_server, "conversation", "conversations", "messages", "message", "usage") / 3.2e10
        assert years > 90
        assert len((await store.messages("ann", "c1", 10, None))[0]) == 2
        await store.delete_conversation("ann", "c1")
        assert await missing(store.conversation("ann", "c1")) == "conversation"


async def test_an_expired_conversation_is_not_found_anywhere(redis_server: RedisProcess) -> None:
    """An expired conversation isn't listed, its messages aren't found, its turn has no conversation, and its usage stays."""
    async with redis_store(redis_server.url, history_ttl_s=100) as store:
        await store.create_conversation(conversation("kept"))
        await store.create_conversation(conversation())
        await run(store, new_turn())
        (key,) = [key for key in redis_server.keys() if key.endswith(b":conversation:c1")]
        redis_server.execute("PEXPIRE", key, 1)

        async def gone() -> bool:
            return not redis_server.execute("EXISTS", key)

        await eventually(gone)
        assert [one.id for one in (await store.conversations("ann", 1, None))[0]] == ["kept"]
        assert await missing(store.message("ann", "t1.answer")) == "message"
        assert await missing(store.put_feedback("ann", "t1.answer", "up", None, NOW)) == "message"
        assert await missing(store.branch("ann", "c1", "t1.answer")) == "parent"
        assert (await store.turn("ann", "t1")).conversation is None
        assert (await store.usage("ann", None, None)).input_tokens == 1
        assert redis_server.execute("ZCARD", key.replace(b"conversation:c1", b"conversations")) == 1


async def test_messages_of_an_expired_conversation_are_not_in_the_next_one(redis_server: RedisProcess) -> None:
    """Messages outlive their conversation. A conversation that is created later with its id doesn't have them."""
    async with redis_store(redis_server.url, history_ttl_s=100) as store:
        await store.create_conversation(conversation())
        await run(store, new_turn())
        late = await running(store, new_turn("late"))
        for key in redis_server.keys():
            if key.endswith((b":conversation:c1", b":messages:c1", b":active:c1")):
                redis_server.execute("DEL", key)
        await store.create_conversation(conversation())
        assert await missing(store.message("ann", "t1.answer")) == "message"
        assert await missing(store.put_feedback("ann", "t1.answer", "up", None, NOW)) == "message"
        assert await missing(store.branch("ann", "c1", "t1.answer")) == "parent"
        assert await missing(running(store, new_turn("t2", parent="t1.answer"))) == "parent"
        assert await store.end(ending(late)) is None
        assert (await store.conversation("ann", "c1")).messages == 0


async def test_data_of_earlier_versions_stays_in_order(redis_server: RedisProcess) -> None:
    """Earlier versions ordered conversations by the gateway's clock, and their turns and usage name the conversation by its
    id, without its `place`. All of it is still found, and a change still moves its conversation to the front."""
    async with redis_store(redis_server.url) as store:
        for name in ("c1", "c2", "c3"):
            await store.create_conversation(conversation(name))
        await run(store, new_turn("t1", conversation="c1"))
        turn = await running(store, new_turn("t2", conversation="c1"))
        keys = {key.split(b":", 2)[2]: key for key in redis_server.keys() if not key.startswith(b"turnwire:leases:")}
        ahead = int(redis_server.execute("TIME")[0]) * 1000 + 10**9
        for n, member in enumerate(redis_server.execute("ZRANGE", keys[b"conversations"], 0, -1)):
            redis_server.execute("ZADD", keys[b"conversations"], ahead - n, member)
        (used,) = redis_server.execute("ZRANGE", keys[b"usage"], 0, -1)
        redis_server.execute("DEL", keys[b"usage"])
        unnamed = msgspec.msgpack.encode([*msgspec.msgpack.decode(used)[:2], "c1", *msgspec.msgpack.decode(used)[3:]])
        redis_server.execute("ZADD", keys[b"usage"], NOW, unnamed)
        redis_server.execute("HDEL", keys[b"turn:t2"], "place")
        listed = [one.id for one in (await store.conversations("ann", 9, None))[0]]
        assert listed == ["c2", "c3", "c1"]
        await store.create_conversation(conversation("c4"))
        assert [one.id for one in (await store.conversations("ann", 9, None))[0]] == ["c4", *listed]
        assert (await store.turn("ann", "t2")).conversation == "c1"
        assert (await store.usage("ann", "c1", 0)).input_tokens == 1
        assert (await store.end(ending(turn))) is not None
        assert [one.id for one in (await store.conversations("ann", 9, None))[0]] == ["c1", "c4", "c2", "c3"]
        assert (await store.usage("ann", "c1", 0)).input_tokens == 2


async def test_a_deleted_conversation_leaves_only_turns_and_usage(redis_server: RedisProcess) -> None:
    """Of a deleted conversation, only its turns and their usage remain. They expire by themselves."""
    async with redis_store(redis_server.url) as store:
        await store.create_conversation(conversation())
        await run(store, new_turn())
        await store.put_feedback("ann", "t1.answer", "up", "Good.", NOW)
        await store.delete_conversation("ann", "c1")
        kinds = {key.split(b":", 3)[2] for key in redis_server.keys() if not key.startswith(b"turnwire:leases:")}
        assert kinds == {b"turn", b"usage", b"totals", b"day"}
        assert shortest_ttl_ms(redis_server, "turn", "usage", "totals", "day") > 0


async def test_feedback_is_stored_with_its_message(redis_server: RedisProcess) -> None:
    """Only the newest rating is stored, with its own comment or none."""
    async with redis_store(redis_server.url) as store:
        await store.create_conversation(conversation())
        await run(store, new_turn())
        (key,) = [key for key in redis_server.keys() if key.endswith(b":message:t1.answer")]
        await store.put_feedback("ann", "t1.answer", "2", "Too long.", NOW)
        assert redis_server.execute("HMGET", key, "rating", "comment") == [b"2", b"Too long."]
        await store.put_feedback("ann", "t1.answer", "up", None, NOW + 1)
        assert redis_server.execute("HMGET", key, "rating", "comment") == [b"up", None]


async def test_the_index_of_feedback_forgets_what_is_gone(redis_server: RedisProcess) -> None:
    """Feedback expires with its conversation. A list, and each new rating, removes entries of expired feedback from the
    index."""
    async with redis_store(redis_server.url) as store:
        await store.create_conversation(conversation("kept"))
        await run(store, new_turn("kept", conversation="kept"))
        await store.put_feedback("ann", "kept.answer", "up", None, NOW)

        async def rate_and_expire(name: str) -> None:
            await store.create_conversation(conversation(name))
            await run(store, new_turn(name, conversation=name))
            await store.put_feedback("ann", f"{name}.answer", "up", None, NOW)
            redis_server.execute(
                "DEL", *[key for key in redis_server.keys() if key.endswith(b":conversation:" + name.encode())]
            )

        for n in range(30):
            await rate_and_expire(f"c{n}")
        assert redis_server.execute("ZCARD", FEEDBACK_KEY) < 25
        assert await missing(store.put_feedback("ann", "unknown", "up", None, NOW)) == "message"
        found, _ = await store.list_feedback(FeedbackFilter(), 10, None)
        assert [one.message for one in found] == ["kept.answer"]
        assert redis_server.execute("ZRANGE", FEEDBACK_KEY, 0, -1) == [b"kept.answer:ann"]


async def test_a_rating_of_an_earlier_version_is_read(redis_server: RedisProcess) -> None:
    """An earlier version stored a rating with its message, without a model and without an index."""
    async with redis_store(redis_server.url) as store:
        await store.create_conversation(conversation())
        await run(store, new_turn())
        (key,) = [key for key in redis_server.keys() if key.endswith(b":message:t1.answer")]
        redis_server.execute("HSET", key, "rating", "2", "comment", "Too long.", "rated_ms", NOW)
        rated = await store.message("ann", "t1.answer")
        assert (rated.rating, rated.comment) == ("2", "Too long.")


async def test_more_feedback_of_one_moment_than_is_read_at_once(
    redis_server: RedisProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The list reads the index in slices. It misses and repeats nothing, wherever a slice ends."""
    monkeypatch.setattr("store.redis.feedback.FEEDBACK_PER_SLICE", 2)
    async with redis_store(redis_server.url) as store:
        await store.create_conversation(conversation())
        for n in range(8):
            await run(store, new_turn(f"t{n}"))
            await store.put_feedback("ann", f"t{n}.answer", "up", None, NOW + n // 5)
        found, more = await store.list_feedback(FeedbackFilter(), 7, None)
        assert (len({one.message for one in found}), more) == (7, True)
        last, more = await store.list_feedback(FeedbackFilter(), 7, (found[-1].rated_ms, found[-1].message))
        assert ([one.message for one in last], more) == (["t0.answer"], False)


async def test_sums_are_exact(redis_server: RedisProcess) -> None:
    """Costs in units of 1e-9 US dollars are large numbers; neither sums over turns nor running totals lose a unit."""
    async with redis_store(redis_server.url) as store:
        await store.create_conversation(conversation())
        large = 2**52 - 1
        await run(store, new_turn("a"), usage=Counters(1, cost_nano=large))
        await run(store, new_turn("b"), usage=Counters(1, cost_nano=1))
        for since in (None, 0):
            for where in (None, "c1"):
                assert await store.usage("ann", where, since) == Counters(2, cost_nano=large + 1)


async def test_many_conversations_are_paged(redis_server: RedisProcess) -> None:
    """Lists that a script needs several steps to read are complete and in order."""
    async with redis_store(redis_server.url) as store:
        for n in range(250):
            await store.create_conversation(conversation(f"c{n}", at=NOW + n, title="rare" if n % 50 == 0 else "often"))
        listed, more = await store.conversations("ann", 240, None)
        assert ([one.id for one in listed], more) == ([f"c{n}" for n in range(249, 9, -1)], True)
        rest, more = await store.conversations("ann", 240, listed[-1].id)
        assert ([one.id for one in rest], more) == ([f"c{n}" for n in range(9, -1, -1)], False)
        found, more = await store.search("ann", "often", 240, None)
        assert ([one.record for one in found], more) == (
            [one for one in [*listed, *rest] if one.title == "often"][:240],
            True,
        )


async def test_a_search_reads_only_what_it_compares(redis_server: RedisProcess) -> None:
    """Of a thousand conversations of 16 KiB, nothing but the titles is read, and of a long one only the newest messages."""
    async with redis_store(redis_server.url) as store:
        for n in range(1000):
            await store.create_conversation(conversation(f"c{n}", at=NOW + n, metadata=b"x" * 16_384))
        before = sent_bytes(redis_server)
        assert await store.search("ann", "needle", 9, None) == ([], False)
        assert sent_bytes(redis_server) - before < 200_000
        for n in range(30):
            await say(store, "c0", f"{'needle' if n in {3, 29} else 'hay'} " + "x" * 100_000)
        before = sent_bytes(redis_server)
        (found,) = (await store.search("ann", "needle", 9, None))[0]
        assert found.snippet is not None
        assert sent_bytes(redis_server) - before < 1_500_000
        assert (await store.search("ann", "hay -needle", 9, None))[0][0].record.id == "c0"


async def test_a_search_continues_after_expired_conversations(redis_server: RedisProcess) -> None:
    """The search continues even if more conversations in a row have expired than one step reads."""
    async with redis_store(redis_server.url) as store:
        await store.create_conversation(conversation("old", at=NOW, title="a needle"))
        for n in range(305):
            await store.create_conversation(conversation(f"c{n}", at=NOW + 1 + n, title="hay"))
        for key in redis_server.keys():
            if b":conversation:c" in key:
                redis_server.execute("DEL", key)
        assert [one.record.id for one in (await store.search("ann", "needle", 9, None))[0]] == ["old"]


async def test_a_conversation_expires_by_its_retention(redis_server: RedisProcess) -> None:
    """The keys live for the shorter of the history's time to live and the retention: the conversation's own, or the
    setting's. Messages live at most a day longer than their conversation. 0 is no bound."""
    day_s = DAY_MS // 1000

    def lives(name: str) -> int:
        return int(redis_server.execute("TTL", b"turnwire:{@ann}:" + name.encode()))

    async with redis_store(redis_server.url, history_ttl_s=0, retention_days=30) as store:
        for name, days, expected in (("own", 5, 5), ("default", None, 30), ("forever", 0, None)):
            await store.create_conversation(conversation(name, retention_days=days))
            turn = (
                await store.accept(new_turn(f"t-{name}", conversation=name, limits=TurnLimits(), retention_days=days))
            ).turn
            for key in (f"conversation:{name}", f"messages:{name}", f"active:{name}"):
                ttl_s = lives(key)
                assert ttl_s > 3e9 if expected is None else expected * day_s - 60 < ttl_s <= expected * day_s, key
            await store.end(ending(turn))
            for message in (turn.message, turn.input):
                ttl_s = lives(f"message:{message}")
                assert ttl_s > 3e9 if expected is None else expected * day_s < ttl_s <= (expected + 1) * day_s
        await store.accept(new_turn("later", conversation="own", limits=TurnLimits(), retention_days=3))
        assert lives("conversation:own") <= 3 * day_s
        assert lives("message:t-own.answer") <= 4 * day_s
    async with redis_store(redis_server.url, history_ttl_s=100, retention_days=30) as store:
        await store.create_conversation(conversation("short", retention_days=5))
        assert lives("conversation:short") <= 100


async def test_conversations_with_a_short_retention_do_not_count(redis_server: RedisProcess) -> None:
    """A conversation that has expired by a retention of its own no longer counts towards the limits."""
    limits = TurnLimits(conversations=2)
    async with redis_store(redis_server.url, history_ttl_s=0) as store:
        await store.create_conversation(conversation("kept"), limits)
        await store.create_conversation(conversation("gone", retention_days=1), limits)
        redis_server.execute("DEL", "turnwire:{@ann}:conversation:gone")
        await store.create_conversation(conversation("new"), limits)
        with pytest.raises(Limited):
            await store.create_conversation(conversation("newer"), limits)


def sent_bytes(server: RedisProcess) -> int:
    """Return the number of bytes that Redis has sent."""
    (line,) = [
        line for line in server.execute("INFO", "stats").splitlines() if line.startswith(b"total_net_output_bytes:")
    ]
    return int(line.split(b":")[1])


async def test_expired_conversations_are_not_counted(redis_server: RedisProcess) -> None:
    """An expired conversation and its bytes no longer count towards the limits."""
    limits = TurnLimits(conversations=1, stored_bytes=10_000)
    async with redis_store(redis_server.url, history_ttl_s=1) as store:
        await store.create_conversation(conversation(metadata=b"x" * 9000), limits)
        with pytest.raises(Limited):
            await store.create_conversation(conversation("c2", metadata=b"x" * 9000), limits)
        await asyncio.sleep(1.1)
        await store.create_conversation(conversation("c2", metadata=b"x" * 9000), limits)
        (sizes,) = [key for key in redis_server.keys() if key.endswith(b":sizes")]
        assert redis_server.execute("HLEN", sizes) == 1


async def test_a_raised_time_to_live_holds_for_the_messages_too(redis_server: RedisProcess) -> None:
    """After the setting was raised, or set to 0, a conversation's next change prolongs all its messages, so none expires
    before the conversation. The same holds for data of an earlier version, which has no `swept_ttl`."""
    for history_ttl_s, name in ((1000, "c1"), (0, "c2"), (1000, "c3")):
        async with redis_store(redis_server.url, history_ttl_s=60) as store:
            await store.create_conversation(conversation(name))
            await run(store, new_turn(f"{name}.old", conversation=name))
        earlier_ms = shortest_ttl_ms(redis_server, "message")
        if name == "c3":
            redis_server.execute("HDEL", ann_key("conversation:c3"), "swept_ttl")
        async with redis_store(redis_server.url, history_ttl_s=history_ttl_s) as store:
            await run(store, new_turn(f"{name}.new", conversation=name))
            ids = [f"{name}.{one}" for one in ("old.question", "old.answer", "new.question", "new.answer")]
            assert [one.id for one in (await store.messages("ann", name, 10, None))[0]] == ids
            assert [one.id for one in (await store.branch("ann", name, ids[-1]))[0]] == ids
            conversation_ms = int(redis_server.execute("PTTL", ann_key(f"conversation:{name}")))
            assert shortest_ttl_ms(redis_server, "message") > max(conversation_ms, earlier_ms)
            await store.delete_conversation("ann", name)


async def test_each_change_can_bring_the_raised_time_to_live(redis_server: RedisProcess) -> None:
    """A change of the title and a clearing prolong the messages as a turn does."""
    async with redis_store(redis_server.url, history_ttl_s=100) as store:
        for name in ("c1", "c2"):
            await store.create_conversation(conversation(name))
            await run(store, new_turn(name, conversation=name))
    async with redis_store(redis_server.url, history_ttl_s=1000) as store:
        await store.update_conversation("ann", "c1", Change(title="x"), NOW)
        await store.clear_conversation("ann", "c2", NOW)
        assert shortest_ttl_ms(redis_server, "message") > 1_999_000


async def test_a_lowered_time_to_live_holds_for_the_messages_too(redis_server: RedisProcess) -> None:
    """After the setting was lowered, a conversation's next change shortens its messages' time to live with its own, so they
    don't stay in Redis for a hundred years. Conversations that didn't change keep theirs, and stay in the list."""
    async with redis_store(redis_server.url, history_ttl_s=0) as store:
        for name in ("kept", "c1"):
            await store.create_conversation(conversation(name))
            await run(store, new_turn(name, conversation=name))
    async with redis_store(redis_server.url, history_ttl_s=0.3) as store:
        await store.update_conversation("ann", "c1", Change(title="x"), NOW)
        assert int(redis_server.execute("PTTL", ann_key("message:c1.answer"))) <= 600
        await asyncio.sleep(0.7)
        assert [one.id for one in (await store.conversations("ann", 9, None))[0]] == ["kept"]
        assert len((await store.messages("ann", "kept", 10, None))[0]) == 2
        assert redis_server.execute("HKEYS", ann_key("sizes")) == [b"kept"]
        assert not [key for key in redis_server.keys() if b":message:c1" in key]


async def test_messages_are_prolonged_once_after_a_changed_time_to_live(redis_server: RedisProcess) -> None:
    """Only the first change after a change of the setting reads the list of messages; later ones cost what they did before."""
    async with redis_store(redis_server.url, history_ttl_s=100) as store:
        await store.create_conversation(conversation())
        for n in range(10):
            await run(store, new_turn(f"t{n}"))
    async with redis_store(redis_server.url, history_ttl_s=1000) as store:
        before = calls(redis_server, "pexpire")
        await store.update_conversation("ann", "c1", Change(title="x"), NOW)
        first = calls(redis_server, "pexpire")
        await store.update_conversation("ann", "c1", Change(title="y"), NOW)
        assert first - before > 20
        assert calls(redis_server, "pexpire") - first < 10


async def test_a_lost_message_is_left_out_of_lists(redis_server: RedisProcess) -> None:
    """If keys of messages are lost, each page is still filled with the other messages, and the next page follows it."""
    async with redis_store(redis_server.url) as store:
        await store.create_conversation(conversation())
        for n in range(6):
            await run(store, new_turn(f"t{n}"))
        for name in ("t0.question", "t1.answer", "t2.question", "t2.answer", "t3.question", "t5.answer"):
            redis_server.execute("DEL", ann_key(f"message:{name}"))
        rest = ["t0.answer", "t1.question", "t3.answer", "t4.question", "t4.answer", "t5.question"]
        found, more = await store.messages("ann", "c1", 3, None)
        assert ([one.id for one in found], more) == (rest[3:], True)
        found, more = await store.messages("ann", "c1", 3, found[0].id)
        assert ([one.id for one in found], more) == (rest[:3], False)
        found, more = await store.messages("ann", "c1", 10, "t5.answer", bytes_max=1)
        assert ([one.id for one in found], more) == (rest[5:], True)
        found, more = await store.messages("ann", "c1", 10, "t0.answer")
        assert (found, more) == ([], False)
        assert await missing(store.message("ann", "t5.answer")) == "message"
        assert await store.branch("ann", "c1", "t5.answer") == ([], 0)
        await run(store, new_turn("t6"))
        assert [one.id for one in (await store.messages("ann", "c1", 2, None))[0]] == ["t6.question", "t6.answer"]
        await store.delete_conversation("ann", "c1")
        assert not [key for key in redis_server.keys() if b":message:" in key]


def calls(server: RedisProcess, command: str) -> int:
    """Return how often Redis has run a command."""
    (line,) = [
        line
        for line in server.execute("INFO", "commandstats").splitlines()
        if line.startswith(f"cmdstat_{command}:".encode())
    ]
    return int(line.split(b"calls=")[1].split(b",")[0])


def ann_key(name: str) -> bytes:
    """Return the key of the user `ann` with this name."""
    return user_prefix("ann") + name.encode()
