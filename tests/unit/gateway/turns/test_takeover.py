"""Law 9: a turn outlives its owner, however that owner was lost."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest

from gateway.protocol.codec import JSON
from gateway.protocol.events import TurnEvent, TurnStatus
from gateway.protocol.ids import now_ms
from gateway.protocol.views import decode_body
from gateway.turns.log_entries import decode_events, encode_events
from providers.base import ChatRequest, Delta, Finished, PartDelta, PartStarted, TextPart
from store.records import Append, ConversationRecord, EndedTurn
from store.sqlite.store import SqliteStore
from tests.demo import expected
from tests.in_process import SLOW, Instance, open_client, open_instance, open_pair, open_shared_store, open_store
from tests.scripted import ScriptedProviders
from tests.stored import new_turn
from tests.turn_events import completed, delta, part, started

Pair = tuple[Instance, Instance]

DEMO = {"rate": 200, "tokens": 120}


async def halves(request: ChatRequest) -> AsyncIterator[list[Delta]]:
    """Yield "one " and wait. When resumed with that partial answer, yield "two"."""
    if request.partial_answer:
        assert request.partial_answer == (TextPart("one "),)
    else:
        yield [PartStarted(0, "text"), PartDelta(0, "one ")]
        await asyncio.get_running_loop().create_future()
    yield [PartDelta(0, "two"), Finished("stop")]


async def test_a_demo_turn_resumes_at_the_end_of_the_log(pair: Pair) -> None:
    """When the owner is killed in the middle, a client attached elsewhere gets the whole text without a gap or a
    reset."""
    one, two = pair
    async with open_client(two.services) as there:
        async with open_client(one.services) as here:
            result = await here.start("t", demo=DEMO)
            await here.until(lambda: here.turns["t"].seq > 20)
            await there.request("turn.attach", turn="t")
            await there.until(lambda: there.turns["t"].seq > 20)
            await one.kill()
        ended = await there.ending("t")
        assert ended["type"] == "turn.completed"
        record = await two.store.real.turn("ann", "t")
        age_ms = (await two.store.real.message("ann", record.message)).created_ms - record.accepted_ms
        assert ended["timing"]["total_ms"] > age_ms - 100, "the total includes the time under the former owner"
        assert "ttft_ms" not in ended["timing"]
        view = there.turns["t"]
        assert (view.text(), view.resets) == (expected("Hello", DEMO), 0)
        resumed = [frame for frame in there.of("t", "turn.status") if frame["status"] == "resumed"]
        assert [frame["epoch"] > result["epoch"] for frame in resumed] == [True]
        got = await there.request("turn.get", turn="t")
        assert "".join(part["text"] for part in got["message"]["parts"]) == view.text()


async def test_a_provider_continues_the_partial_answer(quick: None) -> None:
    """The new owner's provider gets the partial answer, and the client doesn't receive its text twice."""
    async with open_pair(ScriptedProviders(halves)) as (one, two), open_client(two.services) as there:
        async with open_client(one.services) as here:
            await here.start("t")
            await here.until(lambda: here.turns["t"].seq == 3)
            await there.request("turn.attach", turn="t")
            await there.until(lambda: there.turns["t"].seq == 3)
            await one.kill()
        await there.ending("t")
        assert there.turns["t"].text() == "one two"


async def test_without_a_logged_delta_the_request_starts_again(quick: None) -> None:
    """If no delta is logged, the new owner repeats the request after a `turn.reset` that continues the log."""
    async with open_pair() as (one, two), open_client(two.services) as there:
        async with open_client(one.services) as here:
            await here.start("t", demo={"first_ms": 600, "tokens": 5})
            await there.request("turn.attach", turn="t")
            await there.until(lambda: there.turns.get("t"))
            await one.kill()
        assert (await there.ending("t"))["type"] == "turn.completed"
        (reset,) = there.of("t", "turn.reset")
        assert reset["seq"] == 2
        assert there.turns["t"].text() == expected("Hello", {"tokens": 5})


async def test_a_provider_that_cannot_resume_fails_the_turn(quick: None) -> None:
    """The turn fails with `owner_lost` and keeps the partial message. The provider isn't called again."""
    providers = ScriptedProviders(halves)
    async with open_pair(providers) as (one, two), open_client(two.services) as there:
        async with open_client(one.services) as here:
            await here.request("turn.start", turn="t", input="Hi", model="lmstudio/m")
            await here.until(lambda: here.turns["t"].seq == 3)
            await there.request("turn.attach", turn="t")
            await there.until(lambda: there.turns["t"].seq == 3)
            await one.kill()
        assert (await there.ending("t"))["error"]["code"] == "owner_lost"
        assert providers.scripted.request_count == 1
        got = await there.request("turn.get", turn="t")
        assert got["message"]["parts"] == [{"kind": "text", "text": "one "}]


async def store_abandoned(instance: Instance, turn: str, events: list[TurnEvent], **fields: Any) -> None:
    """Store a turn whose owner accepted it, logged `events`, and died."""
    content = {
        "type": "turn.start",
        "input": "Hi",
        "params": {"demo": {"rate": 0, "tokens": 5}},
        **fields.pop("content", {}),
    }
    request = fields.pop("request", JSON.encode(content))
    all_fields = {"stateless": True, "conversation": None, "input": None, "now_ms": now_ms(), **fields}
    new = new_turn(turn, request=request, lease_ms=0, owner="in_dead", **all_fields)
    record = (await instance.store.accept(new)).turn
    if events:
        payload = encode_events(events)
        await instance.store.append([Append("ann", turn, record.epoch, 1, len(events), payload)])


MESSAGES = {"input": None, "messages": [{"role": "user", "parts": [{"kind": "text", "text": "Hi"}]}]}


@pytest.mark.parametrize(
    ("name", "events", "kinds"),
    [
        ("nothing", [], ["turn.started"]),
        ("started", [started("t")], ["turn.started", "turn.reset"]),
        (
            "waiting",
            [started("t"), TurnStatus(turn="t", seq=2, status="waiting")],
            ["turn.started", "turn.status", "turn.reset"],
        ),
        ("a part without a delta", [started("t"), part(2)], ["turn.started", "turn.part", "turn.reset"]),
        ("a delta", [started("t"), part(2), delta(3, "")], ["turn.started", "turn.part", "turn.delta", "turn.status"]),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
async def test_a_takeover_continues_any_valid_log(
    quick: None, name: str, events: list[TurnEvent], kinds: list[str]
) -> None:
    """Whatever the log holds, the new owner's first event is a valid continuation, and the turn completes."""
    async with open_shared_store() as open_view:
        view = open_view()
        async with open_instance(view, lease_s=0.3) as instance:
            with view.blocked("expired_leases"):
                await store_abandoned(instance, "t", events, content=MESSAGES)
            async with open_client(instance.services) as ann:
                await ann.request("turn.attach", turn="t")
                assert (await ann.ending("t"))["type"] == "turn.completed"
                replay = [event.__struct_config__.tag for event in instance.stream("t").log.events]
                assert replay[: len(kinds)] == kinds


@pytest.mark.parametrize(
    "fields",
    [
        {"request": b"not a request"},
        {"request": JSON.encode({"type": "turn.start", "input": "Hi", "model": "no/such"})},
    ],
    ids=["unreadable", "no such model"],
)
@pytest.mark.parametrize("events", [[], [started("t")]], ids=["nothing logged", "started"])
async def test_a_turn_that_cannot_be_resumed_fails(
    quick: None, fields: dict[str, Any], events: list[TurnEvent]
) -> None:
    """A turn whose stored request can't be decoded, or whose model doesn't exist, ends with `owner_lost`. Other turns are
    taken over nevertheless."""
    async with open_shared_store() as open_view:
        view = open_view()
        async with open_instance(view, lease_s=0.3) as instance, open_client(instance.services) as ann:
            with view.blocked("expired_leases"):
                await store_abandoned(instance, "t", events, **fields)
                await store_abandoned(instance, "good", [], content=MESSAGES)
            await ann.request("turn.attach", positions={turn: {"epoch": 0, "seq": 0} for turn in ("t", "good")})
            assert (await ann.ending("t"))["error"]["code"] == "owner_lost"
            assert (await ann.ending("good"))["type"] == "turn.completed"


DAMAGED = {
    "from the first event": ([], [b"\xc1 rubbish"]),
    "after a delta": ([started("t"), part(2), delta(3, "kept")], [b"", encode_events([delta(5, "lost")])]),
    "while it is queued": ([started("t", queued=True)], [b"\x91\xa0"]),
    "out of order": ([started("t")], [encode_events([delta(2, "no part was opened")])]),
}


@pytest.mark.parametrize(("events", "more"), DAMAGED.values(), ids=DAMAGED)
async def test_a_turn_whose_log_is_damaged_ends(quick: None, events: list[TurnEvent], more: list[bytes]) -> None:
    """Law 9: the turn fails and keeps what the readable beginning of its log gives. Other turns are taken over.

    The turn isn't taken over again. On another instance, an attach to it is answered `gone`, with the stored message.
    """
    async with open_shared_store() as open_view:
        view = open_view()
        async with open_instance(view, lease_s=0.3) as instance, open_client(instance.services) as ann:
            with view.blocked("expired_leases"):
                conversation = (await ann.request("conversation.create"))["id"]
                await store_abandoned(instance, "t", events, stateless=False, conversation=conversation)
                record = await view.turn("ann", "t")
                for seq, payload in enumerate(more, len(events) + 1):
                    await view.append([Append("ann", "t", record.epoch, seq, seq, payload)])
                await store_abandoned(instance, "good", [], content=MESSAGES)
                await ann.request("turn.attach", turn="t")
            await ann.request("turn.attach", turn="good")
            ended = await ann.ending("t")
            assert (ended["type"], ended["error"]["code"]) == ("turn.failed", "owner_lost")
            assert ended["seq"] == len(events) + len(more) + 1
            assert (await ann.ending("good"))["type"] == "turn.completed"
            kept = [] if len(events) < 3 else [{"kind": "text", "text": "kept"}]
            assert (await ann.request("turn.get", turn="t"))["message"]["parts"] == kept
            assert await view.expired_leases() == []
            assert view.calls.count("claim") == 2
        async with open_instance(open_view(), lease_s=0.3) as other, open_client(other.services) as later:
            refused = (await later.request("turn.attach", positions={"t": {"epoch": 0, "seq": 0}}))["turns"]["t"]
            assert (refused["error"]["code"], refused["error"]["stored_message"]) == ("gone", record.message)


async def test_a_takeover_is_repeated_after_a_store_failure(quick: None) -> None:
    """A short store failure during a takeover loses no turn: a later takeover builds the request."""
    async with open_shared_store() as open_view:
        view = open_view()
        async with open_instance(view, lease_s=0.3) as instance, open_client(instance.services) as ann:
            conversation = (await ann.request("conversation.create"))["id"]
            fields = {"stateless": False, "conversation": conversation}
            with view.failing("conversation", 1), view.blocked("conversation") as planning:
                await store_abandoned(instance, "t", [], content={"conversation": conversation}, **fields)
                await asyncio.wait_for(planning.wait(), 5)
            await ann.request("turn.attach", turn="t")
            assert (await ann.ending("t"))["type"] == "turn.completed"


async def test_a_takeover_applies_a_stored_cancel_request(quick: None) -> None:
    """Laws 5 and 9: if the owner died before it applied a cancel request, the turn ends cancelled, and no provider is
    called."""
    providers = ScriptedProviders(halves)
    async with open_shared_store() as open_view:
        view = open_view()
        async with open_instance(view, providers, lease_s=0.3) as instance, open_client(instance.services) as ann:
            with view.blocked("expired_leases"):
                await store_abandoned(instance, "t", [started("t"), part(2), delta(3, "kept")], content=MESSAGES)
                assert await view.request_cancel("ann", "t", b'{"by":"client","reason":"enough"}')
            await ann.request("turn.attach", turn="t")
            ended = await ann.ending("t")
            assert (ended["type"], ended["reason"]) == ("turn.cancelled", "enough")
            assert ann.turns["t"].text() == "kept"
            assert providers.scripted.request_count == 0


async def test_the_time_limit_of_a_turn_outlives_its_owner(quick: None) -> None:
    """The limit is counted from the acceptance: a new owner doesn't start it again."""
    async with (
        open_pair(turn_timeout_s=1.5) as (one, two),
        open_client(two.services) as there,
    ):
        async with open_client(one.services) as here:
            began = time.monotonic()
            await here.start("t", demo=SLOW)
            await here.until(lambda: here.turns["t"].seq > 3)
            await there.request("turn.attach", turn="t")
            await asyncio.sleep(1)
            await one.kill()
        ended = await there.ending("t")
        assert (ended["type"], ended["by"]) == ("turn.cancelled", "limit")
        assert time.monotonic() - began < 2.4


async def test_a_turn_is_taken_over_once(quick: None) -> None:
    """Two simultaneous takeovers of a turn, and a third one afterwards, make one claim. The former owner gives the turn up."""
    async with open_pair(lease_s=5) as (one, two), open_client(one.services) as here:
        await here.start("t", demo=SLOW)
        await two.services.mirrors.find("ann", "t")
        take_over = two.services.cancellation._takeover.take_over
        await asyncio.gather(take_over("ann", "t", force=True), take_over("ann", "t", force=True))
        await take_over("ann", "t", force=True)
        assert two.store.calls.count("claim") == 1
        assert two.stream("t").is_owned
        await here.until(lambda: here.of("t", "turn.status"))
        assert not one.stream("t").is_owned


async def test_the_former_owner_mirrors_the_turn(quick: None) -> None:
    """Law 9: the former owner becomes a mirror, so its attachments continue with the new owner's events."""
    async with (
        open_pair(lease_s=5) as (one, two),
        open_client(one.services) as here,
        open_client(two.services) as there,
    ):
        await here.start("t", demo=DEMO)
        await here.until(lambda: here.turns["t"].seq > 10)
        await there.request("turn.attach", turn="t")
        await two.services.cancellation._takeover.take_over("ann", "t", force=True)
        for client in (here, there):
            assert (await client.ending("t"))["type"] == "turn.completed"
            assert client.turns["t"].text() == expected("Hello", DEMO)
        assert (one.stream("t").is_owned, two.stream("t").is_owned) == (False, True)
        assert one.stream("t").log.end == two.stream("t").log.end
        assert here.turns["t"].epoch == there.turns["t"].epoch


async def test_a_turn_continues_after_a_restart(quick: None) -> None:
    """Law 9 on one machine: after a process is killed, the next one resumes its turn."""
    async with open_store() as store:
        before = await Instance(store, lease_s=0.3).started()
        async with open_client(before.services) as client:
            await client.start("t", demo=DEMO)
            await client.until(lambda: client.turns["t"].seq > 20)
            position = client.turns["t"].position
            await before.kill()
        async with open_instance(store, lease_s=0.3) as after, open_client(after.services) as client:
            client.resume("t", {"epoch": position["epoch"], "seq": 0})
            await client.request("turn.attach", turn="t", epoch=position["epoch"], after=0)
            await client.ending("t")
            assert client.turns["t"].text() == expected("Hello", DEMO)


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


async def test_a_turn_taken_over_can_be_restored(quick: None) -> None:
    """If the store loses a turn after a takeover, the new owner restores it, with its input and its conversation."""
    empty = SqliteStore(":memory:")
    await empty.open()
    try:
        async with open_pair() as (one, two), open_client(two.services) as there:
            async with open_client(one.services) as here:
                result = await here.start("t", demo=DEMO)
                await here.until(lambda: here.turns["t"].seq > 20)
                await there.request("turn.attach", turn="t")
                await one.kill()
            await there.until(lambda: any(f["status"] == "resumed" for f in there.of("t", "turn.status")))
            real, two.store.real = two.store.real, empty
            await there.ending("t")
            assert there.turns["t"].text() == expected("Hello", DEMO)
            seqs = [event.seq for entry in await empty.log("ann", "t", 0) for event in decode_events(entry.payload)]
            assert seqs == list(range(1, there.turns["t"].seq + 1))
            messages, _ = await empty.messages("ann", result["conversation"], 10, None)
            assert [message.role for message in messages] == ["user", "assistant"]
            two.store.real = real
    finally:
        await empty.close()


async def test_a_queued_turn_keeps_its_position_after_a_takeover(quick: None) -> None:
    """After its owner died, a queued turn still waits for the turn ahead, and then runs."""
    async with open_pair(lease_s=1) as (one, two), open_client(two.services) as there:
        async with open_client(one.services) as here:
            conversation = (await there.request("conversation.create"))["id"]
            await there.start("first", conversation=conversation, demo=SLOW)
            answer = await here.start("second", conversation=conversation, on_busy="queue")
            assert answer["status"] == "queued"
            await there.request("turn.attach", turn="second")
            await there.until(lambda: there.turns.get("second") and there.turns["second"].seq >= 2)
            await one.kill()
        await there.until(lambda: there.turns["second"].resets >= 1)
        await there.until(lambda: there.of("second")[-1].get("status") == "queued")
        await there.request("turn.cancel", turn="first")
        await there.ending("second")
        order = [frame["turn"] for frame in there.frames if frame["type"] in {"turn.cancelled", "turn.completed"}]
        assert order == ["first", "second"]


async def test_a_queued_turn_without_a_log_waits_too(quick: None) -> None:
    """If the owner died before the first flush, a turn accepted after another one is still queued."""
    async with open_pair() as (_, two), open_client(two.services) as there:
        conversation = (await there.start("first", demo=SLOW))["conversation"]
        fields = {"stateless": False, "conversation": conversation, "on_busy": "queue"}
        with two.store.blocked("expired_leases"):
            await store_abandoned(
                two, "second", [], content={"conversation": conversation, "on_busy": "queue"}, **fields
            )
        await there.request("turn.attach", turn="second")
        await there.until(lambda: there.of("second", "turn.status"))
        assert there.of("second", "turn.started")[0]["status"] == "queued"
        await there.request("turn.cancel", turn="first")
        assert (await there.ending("second"))["type"] == "turn.completed"


async def test_a_turn_taken_over_still_ends_without_attachments(quick: None) -> None:
    """Laws 8 and 9: `on_disconnect: cancel` applies under the new owner too, even if that instance mirrored the turn
    before."""
    async with open_pair(disconnect_grace_s=0.2) as (one, two), open_client(two.services) as there:
        before = two.shared.subscribed
        async with open_client(one.services) as here:
            await here.start("t", demo=SLOW, on_disconnect="cancel")
            await there.request("turn.attach", turn="t")
            await there.until(lambda: there.turns.get("t") and there.turns["t"].seq > 5)
            await one.kill()
        await there.until(lambda: any(f["status"] == "resumed" for f in there.of("t", "turn.status")))
        assert two.stream("t").is_owned
        await there.request("turn.detach", turn="t")
        await asyncio.wait_for(two.stream("t").ended.wait(), 5)
        assert (await two.store.turn("ann", "t")).status == "cancelled"
        assert two.shared.subscribed == before
