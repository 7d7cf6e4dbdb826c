"""Law 5: a cancel stops the turn on any owner. Law 8: a turn with `on_disconnect: cancel` ends after its last
attachment on any instance is gone."""

from __future__ import annotations

import asyncio

import pytest

from gateway.turns.abort import Abort
from gateway.turns.live_turn import LiveTurn
from store.sqlite.store import SqliteStore
from tests.client import RequestFailed
from tests.in_process import SLOW, Instance, SessionClient, eventually, open_client, open_pair

Pair = tuple[Instance, Instance]


async def start_and_follow(here: SessionClient, there: SessionClient) -> None:
    """Start turn `t` on one instance, and attach to it on the other, until its events arrive there."""
    await here.start("t", demo=SLOW)
    await there.request("turn.attach", turn="t")
    await there.until(lambda: there.turns.get("t") and there.turns["t"].seq > 5)


async def test_a_cancel_through_another_instance(pair: Pair) -> None:
    """The cancel request is stored, and the owner is notified and applies it. The client of the other instance receives
    the result."""
    one, two = pair
    async with open_client(one.services) as here, open_client(two.services) as there:
        await here.start("t", demo=SLOW)
        assert await there.request("turn.cancel", turn="t", reason="enough") == {"turns": {"t": "cancelled"}}
        ended = await here.ending("t")
        assert (ended["type"], ended["by"], ended["reason"]) == ("turn.cancelled", "client", "enough")
        assert one.stream("t").is_owned
        assert await there.request("turn.cancel", turn="t") == {"turns": {"t": "already_ended"}}
        assert await there.request("turn.cancel", turn="never") == {"turns": {"never": "not_found"}}


async def test_an_interrupting_start_may_create_its_conversation(pair: Pair) -> None:
    """There is nothing to interrupt then. Without `create`, the conversation isn't found."""
    async with open_client(pair[0].services) as client:
        fields = {"on_busy": "interrupt", "input": "Hi", "conversation": "new"}
        with pytest.raises(RequestFailed, match="not_found"):
            await client.request("turn.start", turn="t1", **fields)
        placed = await client.request("turn.start", turn="t2", create=True, params={"demo": SLOW}, **fields)
        assert (placed["conversation"], placed["status"]) == ("new", "running")
        await client.request("turn.start", turn="t3", params={"demo": {"rate": 0}}, **fields)
        assert (await client.ending("t2"))["type"] == "turn.cancelled"
        assert (await client.ending("t3"))["type"] == "turn.completed"


async def test_a_repeated_start_does_not_hold_up_the_start_that_interrupts_its_turn(pair: Pair) -> None:
    """The turn runs on another instance. Here, its repeated start waits for the start that has to stop it."""
    one, two = pair
    async with open_client(one.services) as here, open_client(two.services) as there:
        fields = {"conversation": (await here.request("conversation.create"))["id"], "on_busy": "interrupt"}
        await there.start("x", demo=SLOW, **fields)
        async with asyncio.timeout(5):
            await asyncio.gather(here.start("y", **fields), here.start("x", demo=SLOW, **fields))
            assert (await there.ending("x"))["type"] == "turn.cancelled"
            assert (await here.ending("y"))["type"] == "turn.completed"


async def test_a_user_cannot_cancel_another_users_turn_elsewhere(pair: Pair) -> None:
    """Law 12: another user's turn isn't found, through any instance."""
    one, two = pair
    async with open_client(one.services) as here, open_client(two.services, "bob") as bob:
        await here.start("t", demo=SLOW)
        assert await bob.request("turn.cancel", turn="t") == {"turns": {"t": "not_found"}}
        assert one.stream("t").is_abortable


@pytest.mark.parametrize("scope", ["conversation", "mine"])
async def test_a_scope_includes_turns_of_all_instances(pair: Pair, scope: str) -> None:
    """The turns of a conversation, or all turns of a user, are cancelled on every instance."""
    one, two = pair
    async with open_client(one.services) as here, open_client(two.services) as there:
        conversation = (await here.start("a", demo=SLOW))["conversation"]
        await there.start("b", conversation=conversation, demo=SLOW)
        fields = {"mine": True} if scope == "mine" else {"conversation": conversation}
        answer = await there.request("turn.cancel", **fields)
        assert answer == {"turns": {"a": "cancelled", "b": "cancelled"}}
        await here.ending("a")
        await there.ending("b")


async def test_a_silent_owner_loses_the_turn(quick: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """The instance that received the cancel takes the turn over and stores the ending. The returning owner adds no
    events."""
    monkeypatch.setattr("gateway.turns.cancellation.OWNER_SILENT_S", 0.1)
    async with (
        open_pair(lease_s=30) as (one, two),
        open_client(one.services) as here,
        open_client(two.services) as there,
    ):
        await start_and_follow(here, there)
        with one.store.blocked("append"), one.shared.disconnected():
            request_ids = [there.send("turn.cancel", turn="t") for _ in range(2)]
            for request_id in request_ids:
                assert await there.answer(request_id) == {"turns": {"t": "cancelled"}}
            assert (await there.ending("t"))["type"] == "turn.cancelled"
        assert (await here.ending("t"))["type"] == "turn.cancelled"
        assert here.turns["t"].text() == there.turns["t"].text()
        assert two.store.calls.count("claim") == 1


async def test_a_cancel_request_with_a_lost_notification_is_applied(quick: None) -> None:
    """The reply to the next append carries the cancel request, so an owner that missed the notification applies it
    too."""
    async with open_pair() as (one, two), open_client(one.services) as here, open_client(two.services) as there:
        await here.start("t", demo=SLOW)
        with one.shared.disconnected():
            assert await there.request("turn.cancel", turn="t") == {"turns": {"t": "cancelled"}}
        await here.ending("t")
        assert "claim" not in two.store.calls


async def test_a_cancel_at_a_former_owner_reaches_the_new_one(quick: None) -> None:
    """A cancel stops the turn at its new owner, whether the former owner already knows of its loss or not."""
    async with open_pair(lease_s=5) as (one, two), open_client(one.services) as here:
        await here.start("known", demo=SLOW)
        await here.start("unknown", demo=SLOW)
        with one.store.blocked("append") as flushing:
            await flushing.wait()
            for turn in ("known", "unknown"):
                await two.services.cancellation._takeover.take_over("ann", turn, force=True)
            one.stream("known").signal.abort(Abort("lost"))
            known = one.services.cancellation.cancel("ann", "known", Abort("client"))  # its provider hasn't stopped yet
            assert await known == "cancelled"
            assert await here.request("turn.cancel", turn="unknown") == {"turns": {"unknown": "cancelled"}}
        for turn in ("known", "unknown"):
            assert (await here.ending(turn))["type"] == "turn.cancelled"
            assert (await two.store.turn("ann", turn)).status == "cancelled"


async def test_with_the_store_unavailable_only_the_owner_can_cancel(quick: None) -> None:
    """The owner answers its own connections at once. Other instances answer `store_unavailable`."""
    async with open_pair() as (one, two), open_client(one.services) as here, open_client(two.services) as there:
        await here.start("t", demo=SLOW)
        with one.store.failing(), two.store.failing():
            assert (await there.refused("turn.cancel", turn="t"))["code"] == "store_unavailable"
            assert await here.request("turn.cancel", turn="t") == {"turns": {"t": "cancelled"}}
            assert here.turns["t"].ended is None
        await here.ending("t")


async def test_a_turn_is_reachable_during_a_repeated_start_on_another_instance(pair: Pair) -> None:
    """Laws 5 and 6: while another instance still checks a repeated start with the store, cancel and attach reach the
    turn."""
    one, two = pair
    async with open_client(one.services) as here, open_client(two.services) as there:
        await here.start("t", demo=SLOW)
        with two.store.blocked("accept") as accepting:
            again = there.send("turn.start", turn="t", input="Hello", params={"demo": SLOW})
            await accepting.wait()
            attach = there.send("turn.attach", turn="t")
            cancel = there.send("turn.cancel", turn="t")
        assert (await there.answer(again))["status"] == "attached"
        assert (await there.answer(attach))["turns"]["t"]["from"] == 0
        assert await there.answer(cancel) == {"turns": {"t": "cancelled"}}
        await there.ending("t")


async def test_a_turn_runs_while_any_client_is_attached(quick: None) -> None:
    """Law 8: with clients on two instances, the turn ends when the last one has been gone for the grace period."""
    async with open_pair(disconnect_grace_s=0.1) as (one, two):
        async with open_client(two.services) as there:
            async with open_client(one.services) as here:
                await here.start("t", demo=SLOW, on_disconnect="cancel")
                await there.request("turn.attach", turn="t")
                while not await one.store.has_other_presence("ann", "t", one.services.instance):
                    await asyncio.sleep(0.01)
            calls_before = one.store.calls.count("has_other_presence")
            await there.until(lambda: one.store.calls.count("has_other_presence") >= calls_before + 4)
            assert one.stream("t").is_abortable
        await asyncio.wait_for(one.stream("t").ended.wait(), 5)
        assert (await one.store.turn("ann", "t")).status == "cancelled"


async def test_a_failed_presence_check_is_repeated(quick: None) -> None:
    """Law 8: if the check for attachments on other instances fails, it is repeated, and the turn isn't cancelled."""
    async with open_pair(disconnect_grace_s=0.02) as (one, _):
        with one.store.failing("has_other_presence", 3):
            async with open_client(one.services) as here:
                await here.start("t", demo=SLOW, on_disconnect="cancel")
            await asyncio.wait_for(one.stream("t").ended.wait(), 5)
        assert one.store.calls.count("has_other_presence") == 4


def _presence_check_in_s(stream: LiveTurn) -> float:
    """Return the seconds until the owner's next presence check, or 0 if none is scheduled."""
    timer = stream.disconnect_timer
    return 0 if timer is None else timer.when() - asyncio.get_running_loop().time()


async def attached_elsewhere(one: Instance, there: SessionClient) -> tuple[LiveTurn, SqliteStore]:
    """Start the turn `t` at `one` for a client that leaves, while `there` is attached to it on another instance.

    Return the turn as `one` has it, and the store.
    """
    async with open_client(one.services) as here:
        await here.start("t", demo=SLOW, on_disconnect="cancel")
        await there.request("turn.attach", turn="t")
    assert isinstance(one.store.real, SqliteStore)
    return one.stream("t"), one.store.real


@pytest.mark.parametrize("lost", ["attachments", "turn"])
async def test_a_turn_survives_a_store_that_lost_its_attachments(
    quick: None, monkeypatch: pytest.MonkeyPatch, lost: str
) -> None:
    """Law 8: after the store was unavailable or lost its data, instances have the grace period to report their
    attachments again."""
    monkeypatch.setattr("gateway.turns.abandonment.PRESENCE_RECHECK_S", 0.01)
    monkeypatch.setattr("gateway.turns.presence.PRESENCE_RENEW_S", 0.5)
    async with open_pair(disconnect_grace_s=30) as (one, two), open_client(two.services) as there:
        stream, store = await attached_elsewhere(one, there)
        one.services.starter._abandonment._on_abandoned(stream)
        await eventually(lambda: one.store.calls.count("has_other_presence") > 3)
        if lost == "attachments":
            with one.store.failing("has_other_presence"):
                calls_before = one.store.calls.count("has_other_presence")
                await eventually(lambda: one.store.calls.count("has_other_presence") > calls_before)
                store._presence.clear()
        else:
            one.runtime.writer.schedule_restore(stream)
            await eventually(lambda: _presence_check_in_s(stream) > 1)
            store._presence.clear()
        renewals = two.store.calls.count("renew_presence")
        await eventually(lambda: two.store.calls.count("renew_presence") > renewals + 1)
        calls_before = one.store.calls.count("has_other_presence")
        one.services.starter._abandonment._on_abandoned(stream)
        await eventually(lambda: one.store.calls.count("has_other_presence") > calls_before + 3)
        assert stream.is_abortable


async def test_a_pending_presence_check_from_before_the_loss_is_ignored(quick: None) -> None:
    """Law 8: if the grace period starts again while a presence check is pending, as when the turn is restored, the check
    cancels nothing."""
    async with open_pair(disconnect_grace_s=30) as (one, two), open_client(two.services) as there:
        stream, store = await attached_elsewhere(one, there)
        await eventually(lambda: not stream.is_attached)
        calls_before = one.store.calls.count("has_other_presence")
        one.services.starter._abandonment._on_abandoned(stream)
        stream.start_disconnect_timer()
        store._presence.clear()
        await eventually(lambda: one.store.calls.count("has_other_presence") > calls_before)
        await asyncio.sleep(0.1)
        assert stream.is_abortable


async def test_a_presence_reply_from_before_the_loss_is_ignored(quick: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Law 8: if the turn is restored while a presence check runs, instances still have the grace period to report their
    attachments."""
    monkeypatch.setattr("gateway.turns.abandonment.PRESENCE_RECHECK_S", 0.01)
    monkeypatch.setattr("gateway.turns.presence.PRESENCE_RENEW_S", 0.5)
    async with open_pair(disconnect_grace_s=10) as (one, two), open_client(two.services) as there:
        stream, store = await attached_elsewhere(one, there)
        one.services.starter._abandonment._on_abandoned(stream)
        with one.store.blocked("has_other_presence") as asking:
            await asking.wait()
            timer = stream.disconnect_timer
            one.runtime.writer.schedule_restore(stream)
            await eventually(lambda: stream.disconnect_timer is not timer)
            store._presence.clear()
        renewals = two.store.calls.count("renew_presence")
        await eventually(lambda: two.store.calls.count("renew_presence") > renewals + 1)
        assert stream.is_abortable


async def test_on_busy_considers_turns_of_all_instances(pair: Pair) -> None:
    """`reject`, `queue` and `interrupt` apply to turns on other instances too."""
    one, two = pair
    async with open_client(one.services) as here, open_client(two.services) as there:
        conversation = (await here.start("a", demo=SLOW))["conversation"]
        assert (await there.refused("turn.start", turn="b", input="x", conversation=conversation, on_busy="reject"))[
            "code"
        ] == "busy"
        assert (await there.start("c", conversation=conversation, on_busy="queue"))["status"] == "queued"
        await there.until(lambda: there.of("c", "turn.status"))
        assert there.turns["c"].ended is None
        await there.start("d", conversation=conversation, on_busy="interrupt")
        assert (await here.ending("a"))["type"] == "turn.cancelled"
        assert (await there.ending("c"))["type"] == "turn.cancelled"
        assert (await there.ending("d"))["type"] == "turn.completed"


async def test_a_turn_that_the_store_has_lost_is_cancelled_when_it_is_restored(quick: None) -> None:
    """While the store has lost a turn, an instance that mirrors it waits with a cancel until the owner has restored it.

    For a turn that the instance doesn't know, it answers `not_found` at once.
    """
    async with (
        open_pair(lease_s=30) as (one, two),
        open_client(one.services) as here,
        open_client(two.services) as there,
    ):
        await start_and_follow(here, there)
        with one.store.blocked("accept") as restoring:
            await one.store.real.erase_user("ann")
            await restoring.wait()
            request_id = there.send("turn.cancel", turn="t")
            await eventually(lambda: two.store.calls.count("request_cancel") > 1)
            assert await there.request("turn.cancel", turn="never") == {"turns": {"never": "not_found"}}
        assert await there.answer(request_id) == {"turns": {"t": "cancelled"}}
        assert (await here.ending("t"))["type"] == "turn.cancelled"
