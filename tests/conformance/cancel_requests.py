"""Cancel requests between instances."""

from __future__ import annotations

import msgspec

from store.api import Store, instance_channel
from store.records import Appended
from tests.conformance.base import Conformance
from tests.stored import LONG_MS, NOW, conversation, ending, listening, new_turn, piece, running


class CancelRequests(Conformance):
    """Cancel requests between instances."""

    async def test_a_cancel_request_is_stored_with_the_turn(self, store: Store) -> None:
        """Law 5: the first request stays; appends, renewals, reads and claims return it."""
        turn = await running(store)
        assert (await store.append([piece(turn, 1, 1)]))[0].cancel is None
        assert await store.request_cancel("ann", "t1", b"stop")
        assert await store.request_cancel("ann", "t1", b"later")
        assert await store.append([piece(turn, 2, 2), piece(turn, 2, 2)]) == [Appended("stored", 2, b"stop")] * 2
        (lease,) = await store.renew("one", [("ann", "t1", turn.epoch)], LONG_MS)
        assert lease.cancel == b"stop"
        assert (await store.turn("ann", "t1")).cancel == b"stop"
        claimed = await store.claim("ann", "t1", "two", NOW, LONG_MS, force=True)
        assert claimed is not None
        assert claimed.cancel == b"stop"
        await store.end(ending(claimed, status="cancelled"))
        assert not await store.request_cancel("ann", "t1", b"too late")

    async def test_the_owner_is_notified_of_a_cancel_request(self, store: Store) -> None:
        """Law 5: the user and the turn are published on the owner's instance channel."""
        await running(store)
        async with listening(store) as received:
            await store.subscribe(instance_channel("one"))
            await store.request_cancel("ann", "t1", b"stop")
            channel, payload = await received.next()
            assert channel == instance_channel("one")
            assert msgspec.msgpack.decode(payload, type=tuple[str, str]) == ("ann", "t1")

    async def test_one_call_looks_up_many_turns(self, store: Store) -> None:
        """`running` returns for each id whether the turn runs; another user's turn is unknown (law 12)."""
        await store.create_conversation(conversation())
        turns = [(await store.accept(new_turn(f"t{n}"))).turn for n in range(3)]
        await store.end(ending(turns[1]))
        ids = ["t2", "nowhere", "t1", "t0", "x" * 64]
        assert await store.running("ann", ids) == [True, None, False, True, None]
        assert await store.running("bob", ids) == [None] * 5
        assert await store.running("ann", []) == []
        assert await store.running("ann", [f"no{n}" for n in range(1000)]) == [None] * 1000
