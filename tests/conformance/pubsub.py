"""What stores publish to each other."""

from __future__ import annotations

import msgspec

from store.api import Store, conversation_channel, instance_channel, list_channel, turn_channel
from store.records import PINNED_MAX, Change, LogEntry
from tests.conformance.base import Conformance
from tests.stored import (
    LONG_MS,
    NOW,
    SHORT_MS,
    append,
    conversation,
    ending,
    entry,
    eventually,
    is_false,
    limited,
    listening,
    new_turn,
    piece,
    running,
)


class PubSub(Conformance):
    """What stores publish to each other."""

    async def test_each_change_is_published_on_the_channel_of_the_list(self, store: Store) -> None:
        """A create, a start, an ending, an update, a pin, a clear and a delete, for their user only, whatever its name."""
        user = "a%:{nn}@é"
        async with listening(store) as received:
            await store.subscribe(list_channel(user))
            await store.create_conversation(conversation("c0", "bob"))
            await store.create_conversation(conversation("made", user))
            turn = await running(
                store, new_turn("t1", user, conversation=None, new_conversation=conversation("c1", user))
            )
            await store.end(ending(turn))
            await store.update_conversation(user, "c1", Change(title="x"), NOW)
            await store.update_conversation(user, "c1", Change(pinned=True), NOW)
            await store.clear_conversation(user, "c1", NOW)
            await store.delete_conversation(user, "c1")
            await store.create_conversation(conversation("last", user))
            found = [await received.next()]
            while found[-1][1] != b"last":
                found.append(await received.next())
        assert {channel for channel, _ in found} == {list_channel(user)}
        assert [payload for _, payload in found] == [b"made", *[b"c1"] * 6, b"last"]

    async def test_the_number_of_pinned_conversations_is_bounded(self, store: Store) -> None:
        """One more is refused, and changes nothing. A deleted conversation makes room."""
        for n in range(PINNED_MAX + 1):
            await store.create_conversation(conversation(f"c{n}"))
        for n in range(PINNED_MAX):
            await store.update_conversation("ann", f"c{n}", Change(pinned=True), NOW)
        more = store.update_conversation("ann", f"c{PINNED_MAX}", Change(pinned=True, title="x"), NOW)
        assert await limited(more) == ("pinned", None)
        assert (await store.conversation("ann", f"c{PINNED_MAX}")).revision == 0
        await store.update_conversation("ann", "c0", Change(pinned=True), NOW)
        await store.delete_conversation("ann", "c0")
        assert (await store.update_conversation("ann", f"c{PINNED_MAX}", Change(pinned=True), NOW)).pinned
        await store.erase_user("ann")
        await store.create_conversation(conversation("new"))
        assert (await store.conversations("ann", 9, None, pinned=True))[0] == []

    async def test_subscribed_channels_are_delivered(self, store: Store) -> None:
        """What is published on a channel is delivered in order from the return of `subscribe` to the return of the last
        `unsubscribe`."""
        async with listening(store) as received:
            await store.subscribe("a")
            await store.subscribe("a")
            await store.subscribe("b")
            for number in (b"1", b"2"):
                await store.publish("a", number)
            await store.publish("c", b"not subscribed")
            await store.publish("b", b"3")
            deliveries = [await received.next() for _ in range(3)]
            assert [one for one in deliveries if one[0] == "a"] == [("a", b"1"), ("a", b"2")]
            assert ("b", b"3") in deliveries
            await store.unsubscribe("a")
            await store.publish("a", b"one subscription left")
            assert await received.next() == ("a", b"one subscription left")
            await store.unsubscribe("a")
            await store.unsubscribe("a")
            await store.publish("a", b"no subscription left")
            await store.publish("b", b"4")
            assert await received.next() == ("b", b"4")
            assert received.reconnects == 0

    async def test_a_channel_may_have_any_name(self, store: Store) -> None:
        """A channel's name is arbitrary text and never a pattern."""
        names = [turn_channel("a{b}:*?[x]%", "t"), turn_channel("ü\n\0 ", "t"), turn_channel("*", "*")]
        async with listening(store) as received:
            for name in names:
                await store.subscribe(name)
            for name in names:
                await store.publish(name, name.encode())
            deliveries = [await received.next() for _ in names]
            assert sorted(deliveries) == sorted((name, name.encode()) for name in names)

    async def test_new_log_entries_are_published(self, store: Store) -> None:
        """Law 7: each entry, also that of the ending, is published once after it is stored. Repeated and refused
        appends aren't published."""
        turn = await running(store)
        async with listening(store) as received:
            await store.subscribe(turn_channel("ann", "t1"))
            await append(store, piece(turn, 1, 2), piece(turn, 1, 2), piece(turn, 9, 9), piece(turn, 3, 3))
            ended = ending(await store.turn("ann", "t1"))
            await store.end(ended)
            await store.end(ended)
            await store.publish(turn_channel("ann", "t1"), b"the end")
            entries = [await received.next() for _ in range(4)]
            assert [one for one, _ in entries] == [turn_channel("ann", "t1")] * 4
            decoded = [msgspec.msgpack.decode(payload, type=LogEntry) for _, payload in entries[:3]]
            assert decoded == [entry(piece(turn, 1, 2)), entry(piece(turn, 3, 3)), entry(ended.events)]
            assert entries[3][1] == b"the end"

    async def test_new_turns_are_published_to_their_conversation(self, store: Store) -> None:
        """A new turn's id is published on its conversation's channel; a repeated start isn't published."""
        await store.create_conversation(conversation())
        async with listening(store) as received:
            await store.subscribe(conversation_channel("ann", "c1"))
            await store.accept(new_turn())
            await store.accept(new_turn(message="other"))
            await store.accept(new_turn("t2"))
            published = [await received.next(), await received.next()]
            assert published == [(conversation_channel("ann", "c1"), name) for name in (b"t1", b"t2")]

    async def test_instances_receive_what_others_publish(self, store: Store, other: Store) -> None:
        """Law 7: one instance receives and reads what the other writes or publishes."""
        turn = await running(store)
        async with listening(other) as received, listening(store) as own:
            await other.subscribe(turn_channel("ann", "t1"))
            await store.subscribe(instance_channel("one"))
            await store.append([piece(turn, 1, 1)])
            channel, payload = await received.next()
            assert channel == turn_channel("ann", "t1")
            assert await other.log("ann", "t1", 0) == [msgspec.msgpack.decode(payload, type=LogEntry)]
            await other.request_cancel("ann", "t1", b"stop")
            assert (await own.next())[0] == instance_channel("one")

    async def test_other_presence_is_found_until_it_expires(self, store: Store) -> None:
        """Law 8: other instances find an instance's presence until it expires; the instance itself doesn't."""
        await running(store)
        assert not await store.has_other_presence("ann", "t1", "one")
        await store.renew_presence("one", [("ann", "t1"), ("bob", "t1")], LONG_MS)
        assert not await store.has_other_presence("ann", "t1", "one")
        if not store.shared:
            return
        await store.renew_presence("two", [("ann", "t1")], SHORT_MS)
        await store.renew_presence("two", [], LONG_MS)
        assert await store.has_other_presence("ann", "t1", "two")
        await eventually(lambda: is_false(store.has_other_presence("ann", "t1", "one")))
        await store.renew_presence("two", [("ann", "t1")], LONG_MS)
        assert await store.has_other_presence("ann", "t1", "one")
