"""Watched conversations: turns and changes arrive, wherever they are made."""

from __future__ import annotations

from tests.in_process import SLOW, Instance, Seat, eventually, seat

Pair = tuple[Instance, Instance]


async def watching(client: Seat) -> str:
    """A conversation that the client watches."""
    where = str((await client.request("conversation.create"))["id"])
    await client.request("conversation.attach", conversation=where)
    return where


async def test_turns_of_other_instances_arrive(pair: Pair) -> None:
    """Law 7: a turn started through one instance is whole at a watcher of another, and only while it watches."""
    one, two = pair
    async with seat(one.services) as here, seat(two.services) as there, seat(two.services, "bob") as bob:
        where = await watching(there)
        await here.start("t", conversation=where)
        assert (await there.ending("t"))["type"] == "turn.completed"
        await here.ending("t")
        assert there.turns["t"].text() == here.turns["t"].text()
        await there.request("conversation.detach", conversation=where)
        await here.start("u", conversation=where)
        await here.ending("u")
        await there.request("ping")
        assert "u" not in there.turns
        assert bob.frames == []


async def test_changes_are_told_once_everywhere(pair: Pair) -> None:
    """`conversation.updated` and `.deleted` reach the watchers of every instance, each once."""
    one, two = pair
    async with seat(one.services) as here, seat(two.services) as there:
        where = await watching(there)
        await here.request("conversation.attach", conversation=where)
        await here.request("conversation.update", conversation=where, title="New")
        await there.request("conversation.delete", conversation=where)
        for client in (here, there):
            while not any(frame["type"] == "conversation.deleted" for frame in client.frames):
                seen = len(client.frames)
                await client.until(lambda: len(client.frames) > seen)  # noqa: B023
            told = [f["type"] for f in client.frames if f["type"].startswith("conversation.")]
            assert told == ["conversation.updated", "conversation.deleted"]


async def test_a_lost_subscription_is_looked_at_again(pair: Pair) -> None:
    """A turn that began elsewhere while nothing could be heard is joined afterwards."""
    one, two = pair
    async with seat(one.services) as here, seat(two.services) as there:
        where = await watching(there)
        with two.shared.disconnected():
            await here.start("t", conversation=where, demo=SLOW)
            await there.request("ping")
            assert "t" not in there.turns
        await there.until(lambda: "t" in there.turns and there.turns["t"].seq > 3)


async def test_a_store_that_is_away_while_looking_again(pair: Pair) -> None:
    """It fails without harm: the watcher hears of the next turn."""
    one, two = pair
    async with seat(one.services) as here, seat(two.services) as there:
        where = await watching(there)
        asked = two.store.calls.count("active")
        with two.store.failing("active", 1), two.shared.disconnected():
            pass
        await eventually(lambda: two.store.calls.count("active") > asked)
        await here.start("t", conversation=where)
        await there.ending("t")


async def test_a_refused_watch_leaves_nothing(pair: Pair) -> None:
    """A store that can't follow refuses the attach; the next try follows, and the end of it unfollows."""
    one, two = pair
    async with seat(one.services) as here, seat(two.services) as there:
        where = (await there.request("conversation.create"))["id"]
        before = two.shared.subscribed
        for failing in ("subscribe", "active"):
            with two.store.failing(failing, 1):
                assert (await there.refused("conversation.attach", conversation=where))["code"] == "store_unavailable"
            await eventually(lambda: two.shared.subscribed == before)
        await there.request("conversation.attach", conversation=where)
        await here.start("t", conversation=where)
        await there.ending("t")
        await there.request("conversation.detach", conversation=where)
        await eventually(lambda: two.shared.subscribed == before)
        assert two.services.subscriptions._subscribed == {}


async def test_a_start_that_lost_a_race_still_brings_the_turn(pair: Pair) -> None:
    """Laws 6 and 7: watchers of an instance whose own start of the same id came second get the turn."""
    one, two = pair
    async with seat(one.services) as here, seat(two.services) as there, seat(two.services) as watcher:
        where = await watching(watcher)
        with two.store.blocked("accept") as accepting:
            fields = {"input": "Hello", "conversation": where, "params": {"demo": {"rate": 0, "tokens": 5}}}
            second = there.send("turn.start", turn="t", **fields)
            await accepting.wait()
            await here.request("turn.start", turn="t", **fields)
        assert (await there.answer(second))["status"] == "attached"
        for client in (here, there, watcher):
            assert (await client.ending("t"))["type"] == "turn.completed"
