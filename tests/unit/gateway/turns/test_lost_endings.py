"""Laws 2 and 3: an ending that clients have, and that a failover of the store has lost, is stored again."""

from __future__ import annotations

import asyncio

import msgspec
import pytest

from gateway.protocol.events import TurnEvent
from gateway.protocol.ids import now_ms
from gateway.protocol.views import decode_body
from providers.base import TextPart
from store.records import ConversationRecord, EndedTurn
from tests.in_process import Instance, open_client, open_instance, open_pair, open_store
from tests.turn_events import completed, delta, part, started
from tests.unit.gateway.turns.test_takeover import store_abandoned

Pair = tuple[Instance, Instance]


async def test_an_ending_that_the_store_has_lost_is_stored_again(
    quick: None, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Laws 2 and 3: a promoted replica may lack an ending that clients have. The instance that knows it stores
    the same one again."""
    async with open_store() as store, open_instance(store, lease_s=0.3) as one, open_client(one.services) as here:
        real = store.real
        end = real.end
        kept: list[EndedTurn] = []

        async def forget_first(ended: EndedTurn) -> ConversationRecord | None:
            kept.append(ended)
            if len(kept) > 1:
                return await end(ended)
            return None

        monkeypatch.setattr(real, "end", forget_first)
        result = await here.start("t", demo={"text": "Hello there."})
        ending = await here.ending("t")
        async with asyncio.timeout(10):
            while (stored := await real.turn("ann", "t")).ending is None:
                await asyncio.sleep(0.02)
        assert (stored.status, msgspec.json.decode(stored.ending)["seq"]) == ("completed", ending["seq"])
        assert [(one.status, one.events.last) for one in kept] == [("completed", ending["seq"])] * 2
        first, again = (decode_body(one.answer.body) for one in kept)
        assert msgspec.structs.replace(first, provider=None) == again
        assert kept[1].usage == kept[0].usage
        messages, _ = await real.messages("ann", result["conversation"], 10, None)
        assert [message.role for message in messages] == ["user", "assistant"]
        assert not any(record.exc_info for record in caplog.records)


async def test_a_mirror_stores_an_ending_that_the_store_has_lost(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    """If the owner is gone, an instance that has only mirrored the turn stores the ending again."""
    one, two = pair
    async with open_client(two.services) as there:
        async with open_client(one.services) as here:
            result = await here.start("t", demo={"text": "Hello there.", "rate": 50})
            await there.request("turn.attach", turn="t")
            real, end = one.store.real, one.store.real.end

            async def forget(ended: EndedTurn) -> ConversationRecord | None:
                """Store the last events only, as if a failover had lost the rest after they were published."""
                await real.append([ended.events])
                return None

            monkeypatch.setattr(real, "end", forget)
            ending = await there.ending("t")
            monkeypatch.setattr(real, "end", end)
            assert (await real.turn("ann", "t")).ending is None
            await one.kill()
        await eventually_ended(two, "t")
        stored = await real.turn("ann", "t")
        assert (stored.status, stored.seq, stored.epoch) == ("completed", ending["seq"], result["epoch"])
        assert decode_body((await real.message("ann", stored.message)).body).parts == [
            TextPart(there.turns["t"].text())
        ]
        assert [frame["type"] for frame in there.of("t")].count("turn.completed") == 1
        assert there.turns["t"].resets == 0


async def test_an_ending_is_stored_again_before_another_instance_takes_the_turn_over(
    quick: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After the connection was lost, each instance looks whether the store has lost endings that it knows; a failed call is
    repeated. The turn's lease still runs then."""
    async with open_pair(lease_s=30) as (one, two), open_client(one.services) as here:
        real, end = one.store.real, one.store.real.end

        async def forget(ended: EndedTurn) -> None:
            return None

        monkeypatch.setattr(real, "end", forget)
        await here.start("t", demo={"text": "Hello there."})
        ending = await here.ending("t")
        monkeypatch.setattr(real, "end", end)
        with one.store.failing("running", 2):
            with one.shared.disconnected():
                pass
            await eventually_ended(one, "t")
        stored = await real.turn("ann", "t")
        assert (stored.status, stored.seq) == ("completed", ending["seq"])
        assert "claim" not in two.store.calls


async def eventually_ended(instance: Instance, turn: str) -> None:
    """Wait until the store has the turn's ending."""
    async with asyncio.timeout(20):
        while (await instance.store.real.turn("ann", turn)).ending is None:
            await asyncio.sleep(0.02)


@pytest.mark.parametrize("claims", [0, 1])
async def test_an_ending_that_only_the_log_has_is_stored(
    quick: None, caplog: pytest.LogCaptureFixture, claims: int
) -> None:
    """A log may end with an ending while its turn still runs, if a failover has lost the rest. The turn ends as the log says,
    also if another instance has claimed it before and died."""
    events: list[TurnEvent] = [started("t"), part(2), delta(3, "kept"), completed(4)]
    async with open_store() as store, open_instance(store, lease_s=0.3) as one, open_client(one.services) as ann:
        with store.blocked("expired_leases"):
            await store_abandoned(one, "t", events)
            for _ in range(claims):
                await store.real.claim("ann", "t", "in_dead_too", now_ms(), 0)
        await eventually_ended(one, "t")
        stored = await store.real.turn("ann", "t")
        assert (stored.status, stored.seq, msgspec.json.decode(stored.ending or b"")["type"]) == (
            "completed",
            4,
            "turn.completed",
        )
        assert [entry.last for entry in await store.real.log("ann", "t", 0)] == [4]
        got = await ann.request("turn.get", turn="t")
        assert got["message"]["parts"] == [{"kind": "text", "text": "kept"}]
        assert not any(record.exc_info for record in caplog.records)


async def test_an_ending_is_forgotten_if_the_turn_went_on_elsewhere(
    quick: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The store has lost the ending, and another instance has claimed the turn and died: the turn ends as the store's log
    says, instead of running for ever."""
    async with open_store() as store, open_instance(store, lease_s=0.3) as one, open_client(one.services) as ann:
        real, end = store.real, store.real.end

        async def forget(ended: EndedTurn) -> None:
            return None

        monkeypatch.setattr(real, "end", forget)
        await ann.start("t", demo={"text": "Hello there."})
        await ann.ending("t")
        with store.blocked("expired_leases"):
            claimed = await real.claim("ann", "t", "in_dead", now_ms() + 1000, 0, force=True)
            assert claimed is not None
            monkeypatch.setattr(real, "end", end)
        await eventually_ended(one, "t")
        assert (await real.turn("ann", "t")).epoch > claimed.epoch


async def test_the_log_writer_appends_no_ending(quick: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """An ending is stored with its turn. If the store then loses it, the log writer doesn't append it as a mere event."""
    async with open_store() as store, open_instance(store, lease_s=30) as one, open_client(one.services) as ann:
        real = store.real

        async def forget(ended: EndedTurn) -> None:
            return None

        monkeypatch.setattr(real, "end", forget)
        await ann.start("t", demo={"text": "Hello there.", "first_ms": 200})
        with store.late("append") as flushed:
            await flushed.wait()
            seq = (await ann.ending("t"))["seq"]
        flushes = store.calls.count("append")
        await ann.start("other")
        await ann.ending("other")
        assert store.calls.count("append") > flushes
        assert (await real.turn("ann", "t")).seq < seq
