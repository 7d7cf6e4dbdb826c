"""Subscriptions to conversations: turns and changes arrive, whichever instance they come from."""

from __future__ import annotations

from tests.in_process import SLOW, Instance, SessionClient, eventually, open_client

Pair = tuple[Instance, Instance]


async def subscribed_conversation(client: SessionClient) -> str:
    """Create a conversation, attach the client to it, and return its id."""
    conversation = str((await client.request("conversation.create"))["id"])
    await client.request("conversation.attach", conversation=conversation)
    return conversation


async def test_turns_of_other_instances_arrive(pair: Pair) -> None:
    """Law 7: a turn of one instance arrives completely at another instance's subscriber, but not after its detach.

    A user who isn't subscribed receives nothing.
    """
    one, two = pair
    async with (
        open_client(one.services) as here,
        open_client(two.services) as there,
        open_client(two.services, "bob") as bob,
    ):
        conversation = await subscribed_conversation(there)
        await here.start("t", conversation=conversation)
        assert (await there.ending("t"))["type"] == "turn.completed"
        await here.ending("t")
        assert there.turns["t"].text() == here.turns["t"].text()
        await there.request("conversation.detach", conversation=conversation)
        await here.start("u", conversation=conversation)
        await here.ending("u")
        await there.request("ping")
        assert "u" not in there.turns
        assert bob.frames == []


async def test_changes_reach_every_subscriber_once(pair: Pair) -> None:
    """`conversation.updated` and `conversation.deleted` reach the subscribers of every instance once."""
    one, two = pair
    async with open_client(one.services) as here, open_client(two.services) as there:
        conversation = await subscribed_conversation(there)
        await here.request("conversation.attach", conversation=conversation)
        await here.request("conversation.update", conversation=conversation, title="New")
        await there.request("conversation.delete", conversation=conversation)
        for client in (here, there):
            while not any(frame["type"] == "conversation.deleted" for frame in client.frames):
                seen = len(client.frames)
                await client.until(lambda: len(client.frames) > seen)  # noqa: B023
            types = [f["type"] for f in client.frames if f["type"].startswith("conversation.")]
            assert types == ["conversation.updated", "conversation.deleted"]


async def test_a_turn_started_while_disconnected_is_joined_later(pair: Pair) -> None:
    """A turn that started elsewhere while pub/sub was disconnected is attached after the reconnect."""
    one, two = pair
    async with open_client(one.services) as here, open_client(two.services) as there:
        conversation = await subscribed_conversation(there)
        with two.shared.disconnected():
            await here.start("t", conversation=conversation, demo=SLOW)
            await there.request("ping")
            assert "t" not in there.turns
        await there.until(lambda: "t" in there.turns and there.turns["t"].seq > 3)


async def test_a_failed_check_after_a_reconnect_is_harmless(pair: Pair) -> None:
    """If the store fails during the check after a reconnect, the subscriber still receives the next turn."""
    one, two = pair
    async with open_client(one.services) as here, open_client(two.services) as there:
        conversation = await subscribed_conversation(there)
        calls_before = two.store.calls.count("active")
        with two.store.failing("active", 1), two.shared.disconnected():
            pass
        await eventually(lambda: two.store.calls.count("active") > calls_before)
        await here.start("t", conversation=conversation)
        await there.ending("t")


async def test_a_failed_subscription_leaves_nothing(pair: Pair) -> None:
    """If the store fails, an attach is refused and leaves no subscription. The next attach subscribes again."""
    one, two = pair
    async with open_client(one.services) as here, open_client(two.services) as there:
        conversation = (await there.request("conversation.create"))["id"]
        before = two.shared.subscribed
        for failing in ("subscribe", "active"):
            with two.store.failing(failing, 1):
                assert (await there.refused("conversation.attach", conversation=conversation))[
                    "code"
                ] == "store_unavailable"
            await eventually(lambda: two.shared.subscribed == before)
        await there.request("conversation.attach", conversation=conversation)
        await here.start("t", conversation=conversation)
        await there.ending("t")
        await there.request("conversation.detach", conversation=conversation)
        await eventually(lambda: two.shared.subscribed == before)
        assert two.services.subscriptions._subscribed == {}


async def test_a_start_that_lost_a_race_still_delivers_the_turn(pair: Pair) -> None:
    """Laws 6 and 7: if two instances start the same id, the subscribers of the second one receive the turn too."""
    one, two = pair
    async with (
        open_client(one.services) as here,
        open_client(two.services) as there,
        open_client(two.services) as subscriber,
    ):
        conversation = await subscribed_conversation(subscriber)
        with two.store.blocked("accept") as accepting:
            fields = {"input": "Hello", "conversation": conversation, "params": {"demo": {"rate": 0, "tokens": 5}}}
            second = there.send("turn.start", turn="t", **fields)
            await accepting.wait()
            await here.request("turn.start", turn="t", **fields)
        assert (await there.answer(second))["status"] == "attached"
        for client in (here, there, subscriber):
            assert (await client.ending("t"))["type"] == "turn.completed"
