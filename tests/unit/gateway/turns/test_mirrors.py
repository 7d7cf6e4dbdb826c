"""Law 7 across instances: a mirror of another instance's turn has every event once, even if published entries are
lost."""

from __future__ import annotations

import random

import pytest

from gateway.protocol.events import TurnReset, TurnStatus
from gateway.turns.abort import Abort
from gateway.turns.log_entries import encode_events
from gateway.turns.queue import find_queue
from store.errors import NotFound, StoreError
from store.records import Append
from store.sqlite.store import SqliteStore
from tests.client import TurnView
from tests.demo import expected
from tests.in_process import SLOW, Instance, SessionClient, eventually, open_client, open_pair
from tests.stored import ending
from tests.turn_events import cancelled, delta

Pair = tuple[Instance, Instance]
SHORT_LEASE_S = 0.3
DEMO = {"rate": 300, "tokens": 150}


def _detach_reasons(client: SessionClient, turn: str) -> list[str]:
    """Return the reasons of the `turn.detached` frames of the turn."""
    return [frame["reason"] for frame in client.of(turn, "turn.detached")]


async def test_attaching_elsewhere_from_every_position(pair: Pair) -> None:
    """From any position, through either instance, each event arrives once, even after the ending."""
    one, two = pair
    pick = random.Random(7)
    async with open_client(one.services) as here:
        await here.start("t", demo=DEMO)
        view = TurnView()
        while view.ended is None:
            async with open_client(pick.choice(pair).services) as client:
                client.turns["t"] = view
                held = {"epoch": view.epoch or 0, "seq": view.seq}
                answer = await client.request("turn.attach", positions={"t": held})
                assert answer["turns"]["t"]["from"] == held["seq"]
                wanted = view.seq + pick.randint(1, 30)
                await client.until(lambda: view.seq >= wanted or view.ended)  # noqa: B023
        assert (view.text(), view.resets) == (expected("Hello", DEMO), 0)
        async with open_client(two.services) as late:
            late.resume("t", {"epoch": view.epoch, "seq": 5})
            await late.request("turn.attach", turn="t", epoch=view.epoch, after=5)
            await late.ending("t")


@pytest.mark.parametrize("then", ["goes on", "is lost", "ends short"])
async def test_a_position_ahead_of_the_log_waits_or_is_reset(quick: None, then: str) -> None:
    """A client may hold events that aren't logged yet. Another instance waits until the log reaches the client's position,
    and resets the client if that never happens."""
    async with (
        open_pair(lease_s=5, flush_ms=25) as (one, two),
        open_client(one.services) as here,
        open_client(two.services) as there,
    ):
        await here.start("t", demo={"rate": 100, "tokens": 60})
        await here.until(lambda: here.turns["t"].seq > 5)
        with one.store.blocked("append") as flushing:
            await flushing.wait()
            await here.until(lambda: here.turns["t"].seq >= 30)
            position = here.turns["t"].position
            answer = await there.request("turn.attach", turn="t", epoch=position["epoch"], after=position["seq"])
            assert answer["turns"]["t"]["from"] == position["seq"]
            assert two.stream("t").log.end < position["seq"]
            there.resume("t", position)
            if then != "goes on":
                if then == "ends short":
                    await two.store.request_cancel("ann", "t", b'{"by":"client"}')
                await two.services.cancellation._takeover.take_over("ann", "t", force=True)
                await there.until(lambda: there.turns["t"].resets == 1)
        kind = "turn.cancelled" if then == "ends short" else "turn.completed"
        for client in (here, there):
            assert (await client.ending("t"))["type"] == kind
        assert there.turns["t"].resets == (then != "goes on")
        if then == "goes on":
            await eventually(lambda: two.stream("t").log.is_ended)
        assert here.turns["t"].text() == "".join(
            getattr(event, "text", None) or "" for event in two.stream("t").log.events
        )


async def test_events_lost_by_pubsub_are_read_from_the_log(pair: Pair) -> None:
    """An instance that receives no published entries polls the log. No event is missing or doubled."""
    one, two = pair
    async with open_client(one.services) as here, open_client(two.services) as there:
        await here.start("t", demo=DEMO)
        await there.request("turn.attach", turn="t")
        for _ in range(3):
            with two.shared.disconnected():
                seq = there.turns["t"].seq if "t" in there.turns else 0
                await there.until(lambda: "t" in there.turns and there.turns["t"].seq > seq + 10)  # noqa: B023
        await there.ending("t")
        assert there.turns["t"].text() == expected("Hello", DEMO)


async def test_a_store_outage_only_delays_a_mirror(pair: Pair) -> None:
    """A failed read of the log is repeated."""
    one, two = pair
    async with open_client(one.services) as here, open_client(two.services) as there:
        await here.start("t", demo=DEMO)
        await there.request("turn.attach", turn="t")
        with two.shared.disconnected(), two.store.failing("log"), two.store.failing("renew_presence"):
            reads = two.store.calls.count("log")
            await eventually(lambda: two.store.calls.count("log") > reads + 2)
        await there.ending("t")
        assert there.turns["t"].text() == expected("Hello", DEMO)


async def test_all_attachments_share_one_mirror(pair: Pair) -> None:
    """A turn is loaded and subscribed to once, however many clients attach, and the mirror is removed after the
    ending."""
    one, two = pair
    async with (
        open_client(one.services) as here,
        open_client(two.services) as there,
        open_client(two.services) as other,
    ):
        await here.start("t", demo=SLOW)
        before, calls = two.shared.subscribed, two.store.calls.count("subscribe")
        attaches = [(client, client.send("turn.attach", turn="t")) for client in (there, other, there)]
        for client, request_id in attaches:
            await client.answer(request_id)
        assert two.store.calls.count("subscribe") == calls + 1
        await here.request("turn.cancel", turn="t")
        for client in (there, other):
            await client.ending("t")
        await eventually(lambda: two.shared.subscribed == before)
        assert two.services.registry.live() == []


async def test_an_idle_mirror_is_removed(quick: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """A mirror without attachments is removed after a while, unless a queue waits for the turn's ending."""
    monkeypatch.setattr("gateway.turns.mirrors.IDLE_S", 0.4)
    async with open_pair() as (one, two), open_client(one.services) as here, open_client(two.services) as there:
        conversation = (await here.start("a", demo=SLOW))["conversation"]
        await here.start("b", conversation=conversation, demo=SLOW)
        await here.start("c", demo=SLOW)
        await there.start("last", conversation=conversation, on_busy="queue")
        for turn in ("c", "d"):
            await there.request("turn.attach", turn=turn)
        await there.request("turn.detach", turn="c")
        await eventually(lambda: two.services.registry.get("ann", "c") is None)
        assert two.services.registry.get("ann", "b") is not None
        for turn in ("a", "b"):
            await here.request("turn.cancel", turn=turn)
        assert (await there.ending("last"))["type"] == "turn.completed"
        await there.request("turn.attach", turn="c")
        await there.until(lambda: "c" in there.turns)


async def test_missing_turns_and_failures_are_errors(pair: Pair) -> None:
    """Laws 7 and 12: another user's turn, a turn with expired events, and a failing store are each reported. A queue
    ignores a turn that can't be found."""
    one, two = pair
    async with open_client(one.services) as here, open_client(two.services) as there:
        ended = await here.start("t")
        await here.ending("t")
        before = two.shared.subscribed
        with pytest.raises(NotFound):
            await two.services.mirrors.find("bob", "t")
        with two.store.failing("turn", 1), pytest.raises(StoreError):
            await two.services.mirrors.find("ann", "t")
        two.store.expire_logs()
        error = (await there.request("turn.attach", turn="t", epoch=ended["epoch"], after=3))["turns"]["t"]["error"]
        assert error["code"] == "gone"
        assert not (await find_queue(two.services.mirrors, "ann", ["t", "never"])).must_wait
        assert two.shared.subscribed == before


@pytest.mark.parametrize("owner", [0, 1])
async def test_turns_of_a_conversation_deleted_elsewhere_are_gone(pair: Pair, owner: int) -> None:
    """Law 7: an instance that still has the turn in memory, its owner or a mirror, refuses an attach after the
    deletion."""
    async with open_client(pair[0].services) as one, open_client(pair[1].services) as two:
        clients = (one, two)
        await clients[owner].start("t")
        await clients[owner].ending("t")
        await clients[1 - owner].request("turn.attach", turn="t")
        await clients[1 - owner].ending("t")
        conversation = (await one.request("turn.get", turn="t"))["conversation"]
        await one.request("conversation.delete", conversation=conversation)
        for client in clients:
            answer = await client.request("turn.attach", turn="t")
            assert answer["turns"]["t"]["error"]["code"] == "gone"
            assert (await client.start("t"))["status"] == "attached"  # law 6: its id still counts
            await client.until(lambda: _detach_reasons(client, "t"))  # noqa: B023
            assert [frame["type"] for frame in client.of("t")].count("turn.completed") == 1


async def test_an_ended_turn_is_replayed_while_the_store_is_unavailable(pair: Pair) -> None:
    """If the store can't be asked, an ended turn is served from memory."""
    one, _ = pair
    async with open_client(one.services) as here:
        await here.start("t")
        await here.ending("t")
        with one.store.failing("turn"):
            answer = await here.request("turn.attach", turn="t")
        assert answer["turns"]["t"]["status"] == "completed"


async def test_an_invalid_published_entry_is_ignored(pair: Pair) -> None:
    """An entry that can't be decoded changes nothing, and the later ones are applied."""
    one, two = pair
    demo = {"rate": 100, "tokens": 50}
    async with open_client(one.services) as here, open_client(two.services) as there:
        await here.start("t", demo=demo)
        await there.request("turn.attach", turn="t")
        await there.until(lambda: "t" in there.turns)
        two.runtime._deliver("turn:ann:t", b"\xc1")
        two.runtime._deliver("turn:ann:unknown", b"\xc1")
        two.runtime._deliver("conversation:ann:unknown", b"t")
        await there.ending("t")
        assert there.turns["t"].text() == expected("Hello", demo)


async def test_a_former_owner_with_an_expired_log_detaches_its_clients(quick: None) -> None:
    """Law 7: if a turn was taken over and ended, and its log expired meanwhile, the former owner's clients receive
    `gone`."""
    async with open_pair(lease_s=5) as (one, _), open_client(one.services) as here:
        await here.start("t", demo=SLOW)
        await here.until(lambda: here.turns["t"].seq > 5)
        with one.store.blocked("append") as flushing:
            await flushing.wait()
            record = await one.store.real.claim("ann", "t", "in_other", 0, 60_000, force=True)
            assert record is not None
            end = record.seq + 1
            payload = encode_events([cancelled(end)])
            await one.store.real.end(ending(record, events=Append("ann", "t", record.epoch, end, end, payload)))
            one.store.expire_logs()
        await here.until(lambda: here.of("t", "turn.cancelled") or _detach_reasons(here, "t"))
        assert _detach_reasons(here, "t") == ["gone"]
        assert "t" not in here.outbox.attachments
        assert one.services.registry.get("ann", "t") is None
        answer = await here.request("turn.attach", turn="t")
        assert answer["turns"]["t"]["error"]["code"] == "gone"


async def test_a_turn_lost_with_its_owner_is_gone(quick: None) -> None:
    """If the owner and the store's data are lost, no instance can restore the turn. Clients receive `gone`, and turns
    queued after it run."""
    empty = SqliteStore(":memory:")
    await empty.open()
    try:
        async with open_pair(lease_s=SHORT_LEASE_S) as (one, two), open_client(two.services) as there:
            async with open_client(one.services) as here:
                conversation = (await here.start("first", demo=SLOW))["conversation"]
                await there.request("turn.attach", turn="first")
                await there.start("second", conversation=conversation, on_busy="queue")
                real, two.store.real = two.store.real, empty
                await one.kill()
            assert (await there.ending("second"))["type"] == "turn.completed"
            assert _detach_reasons(there, "first") == ["gone"]
            two.store.real = real
    finally:
        await empty.close()


async def test_a_turn_restored_by_its_owner_is_not_gone(quick: None) -> None:
    """After the store came back empty, attachments elsewhere wait until the owner has restored the turn."""
    empty = SqliteStore(":memory:")
    await empty.open()
    try:
        async with (
            open_pair(lease_s=3) as (one, two),
            open_client(one.services) as here,
            open_client(two.services) as there,
        ):
            await here.start("t", demo={"rate": 50, "tokens": 100})
            await there.request("turn.attach", turn="t")
            await there.until(lambda: "t" in there.turns)
            real = two.store.real
            with two.shared.disconnected():
                two.store.real = empty
                await eventually(lambda: any(one.missing_since for one in two.services.mirrors._mirrors.values()))
                one.store.real = empty
                await there.ending("t")
            assert there.turns["t"].text() == expected("Hello", {"rate": 50, "tokens": 100})
            assert _detach_reasons(there, "t") == []
            one.store.real = two.store.real = real
    finally:
        await empty.close()


async def test_an_ending_published_while_a_mirror_loads_is_not_missed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The published ending may arrive while the log is read, and before the log has it. No client waits for a poll."""
    monkeypatch.setattr("gateway.turns.mirrors.POLL_S", 60)
    async with (
        open_pair(lease_s=30) as (one, two),
        open_client(one.services) as here,
        open_client(two.services) as there,
    ):
        await here.start("t", demo=SLOW)
        with two.store.late("log") as answering:
            there.send("turn.attach", turn="t")
            await answering.wait()
            await here.request("turn.cancel", turn="t")
            await here.ending("t")
        assert (await there.ending("t"))["type"] == "turn.cancelled"


@pytest.mark.parametrize("extra_events", [0, 30])
async def test_a_former_owner_adopts_the_stored_log(quick: None, extra_events: int) -> None:
    """A former owner's clients have events that were never logged. They are reset and receive the stored log, even if the
    store fails at first or that log is shorter."""
    async with open_pair(lease_s=5) as (one, _), open_client(one.services) as here:
        await here.start("t", demo={"rate": 200, "tokens": 1000})
        await here.until(lambda: here.turns["t"].seq > 5)
        with one.store.blocked("append") as flushing:
            await flushing.wait()
            stored = one.stream("t").stored_seq
            await here.until(lambda: here.turns["t"].seq > stored + 10)
            record = await one.store.real.claim("ann", "t", "in_other", 0, 60_000, force=True)
            assert record is not None
            end = record.seq
            events = [
                TurnStatus(turn="t", seq=end + 1, status="resumed", epoch=record.epoch),
                *[delta(end + 2 + n, "y") for n in range(extra_events)],
            ]
            payload = encode_events(events)  # type: ignore[arg-type]
            await one.store.real.append([Append("ann", "t", record.epoch, end + 1, end + len(events), payload)])
            with one.store.failing("subscribe", 1), one.store.failing("log", 1):
                one.stream("t").signal.abort(Abort("lost"))
                await here.until(lambda: here.turns["t"].resets == 1)
            await here.until(lambda: here.turns["t"].seq == end + len(events))
            assert here.turns["t"].epoch == record.epoch
            reset = TurnReset("t", end + len(events) + 1, record.epoch, "again")
            payload = encode_events([reset])
            await one.store.real.append([Append("ann", "t", record.epoch, reset.seq, reset.seq, payload)])
            await here.until(lambda: here.turns["t"].resets == 2)
