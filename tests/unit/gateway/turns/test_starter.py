"""The life of a turn: starts, queues, cancels, limits, failures and drains."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from gateway.protocol.requests import TurnStart
from gateway.requests.services import Services
from gateway.turns.abort import Abort
from gateway.turns.live_turn import LiveTurn
from gateway.turns.prepared_start import prepare
from providers.base import ChatRequest, Delta, Finished, Params, PartDelta, PartStarted
from providers.route import Route
from store.errors import Conflict
from tests.client import RequestFailed
from tests.demo import expected
from tests.in_process import SLOW, ControlledStore, SessionClient, open_client, open_services
from tests.scripted import ScriptedProviders


def stream_of(services: Services, turn: str, user: str = "ann") -> LiveTurn:
    found = services.registry.get(user, turn)
    assert found is not None
    return found


async def ended_with(ann: SessionClient, turn: str) -> str:
    ending = await ann.ending(turn)
    return str(ending.get("error", ending)["code"] if "error" in ending else ending["type"])


# --- starts ---


async def test_a_turn_runs_from_start_to_ending(ann: SessionClient, services: Services) -> None:
    """Laws 2 and 3: started, part, deltas, completed. At the ending the message is in the store."""
    answer = await ann.start("t")
    assert answer["status"] == "running"
    ending = await ann.ending("t")
    kinds = list(dict.fromkeys(frame["type"] for frame in ann.of("t")))
    assert kinds == ["turn.started", "turn.part", "turn.delta", "turn.completed"]
    assert (ending["usage"]["output_tokens"], ending["cost"], ending["timing"]["attempts"]) == (5, None, 1)
    stored = await services.store.message("ann", ending["message"])
    assert stored.role == "assistant"
    assert (await services.store.conversation("ann", answer["conversation"])).head == ending["message"]
    first = ann.turns["t"].frames[0]
    assert (first["seq"], first["epoch"], first["input"]["parts"]) == (
        1,
        answer["epoch"],
        [{"kind": "text", "text": "Hello"}],
    )


async def test_an_ended_turn_does_not_keep_its_input(ann: SessionClient, services: Services) -> None:
    """An ended turn stays in memory for a minute, and an input may have 20 MiB, so only the events are kept."""
    prompt = "x" * 20_000
    await ann.start("t", prompt, demo={"text": "Yes."})
    await ann.ending("t")
    stream = services.registry.get("ann", "t")
    assert stream is not None
    assert stream.acceptance is None
    assert prompt not in repr((stream.accepted.result(), stream.conversation_record, stream.log.events))


async def test_a_repeated_start_attaches_to_the_same_turn(ann: SessionClient, services: Services) -> None:
    """Law 6: a repeated start of a running or ended turn is answered `attached`, without a second call of the provider.
    Another connection attaches from 0."""
    first = await ann.start("t", demo={"rate": 500, "tokens": 20})
    again = await ann.start("t", demo={"rate": 500, "tokens": 20})
    assert again == {**first, "status": "attached"}
    async with open_client(services) as other:
        assert (await other.start("t", demo={"rate": 500, "tokens": 20}))["status"] == "attached"
        await other.ending("t")
    await ann.ending("t")
    assert (await ann.start("t", demo={"rate": 500, "tokens": 20}))["status"] == "attached"
    assert ann.turns["t"].text() == other.turns["t"].text()
    assert (await ann.request("usage.get"))["usage"]["output_tokens"] == 20


async def test_what_may_differ_in_a_repeated_start(ann: SessionClient) -> None:
    """Law 6: `id`, `metadata` and `on_disconnect` aren't part of the content; everything else is."""
    await ann.start("t")
    assert (await ann.start("t", metadata={"a": 1}, on_disconnect="cancel"))["status"] == "attached"
    for other in (
        {"prompt": "Other"},
        {"demo": {"tokens": 6}},
        {"system": "Be brief."},
        {"on_busy": "queue"},
    ):
        with pytest.raises(RequestFailed) as refused:
            await ann.start("t", **other)
        assert refused.value.code == "conflict"


async def test_simultaneous_starts_are_one_turn(ann: SessionClient, services: Services, store: ControlledStore) -> None:
    """Law 6: while the store accepts a turn, the same start from any connection joins it, and a start with other
    content is a conflict."""
    async with open_client(services) as other:
        with store.blocked("accept") as accepting:
            first = ann.send("turn.start", turn="t", input="Hi", params={"demo": {"rate": 0, "tokens": 5}})
            await accepting.wait()
            again = ann.send("turn.start", turn="t", input="Hi", params={"demo": {"rate": 0, "tokens": 5}})
            elsewhere = other.send("turn.start", turn="t", input="Hi", params={"demo": {"rate": 0, "tokens": 5}})
            wrong = other.send("turn.start", turn="t", input="Other")
            with pytest.raises(RequestFailed) as refused:
                await other.answer(wrong)
            assert refused.value.code == "conflict"
        assert (await ann.answer(first))["status"] == "running"
        assert (await ann.answer(again))["status"] == "attached"
        assert (await other.answer(elsewhere))["status"] == "attached"
        await ann.ending("t")
        await other.ending("t")
    assert store.calls.count("accept") == 1


async def test_a_repeated_start_after_a_restart_is_answered(store: ControlledStore) -> None:
    """Laws 6 and 7: a start repeated after a restart calls no provider. It attaches, or reports that the events are
    gone."""
    async with open_services(store) as before, open_client(before) as client:
        first = await client.start("t")
        await client.ending("t")
    async with open_services(store, turns_per_connection=1) as after, open_client(after) as client:
        assert await client.start("t") == {**first, "status": "attached"}
        await client.ending("t")
        assert len(client.turns["t"].text()) > 5
    store.expire_logs()
    async with open_services(store, turns_per_connection=1) as after, open_client(after) as client:
        for _ in range(3):
            again = await client.start("t")
            assert again == {**first, "status": "attached"}
        assert client.of("t") == [{"type": "turn.detached", "turn": "t", "reason": "gone"}] * 3
        assert client.outbox.attachments == {}
        assert after.registry.live() == []
        with pytest.raises(RequestFailed) as refused:
            await client.start("t", "Other")
        assert refused.value.code == "conflict"


@pytest.mark.parametrize("failing", ["accept", "conversation"])
async def test_a_store_failure_at_the_start_frees_the_id(
    ann: SessionClient, services: Services, store: ControlledStore, failing: str
) -> None:
    """Law 6: the start fails with `store_unavailable`, nothing of it is left, and the same id may be used again."""
    conversation = (await ann.request("conversation.create"))["id"]
    await ann.request("conversation.attach", conversation=conversation)
    with store.failing(failing):
        with pytest.raises(RequestFailed) as refused:
            await ann.start("t", conversation=conversation)
        assert (refused.value.code, refused.value.error["retryable"]) == ("store_unavailable", True)
    assert services.registry.get("ann", "t") is None
    assert services.registry.live_in("ann", conversation) == []
    assert ann.outbox.attachments == {}
    async with open_client(services) as other:
        assert (await other.start("t", conversation=conversation))["status"] == "running"
        await other.ending("t")
    await ann.ending("t")  # the subscription remains after the failed start


async def test_every_request_that_joined_a_failed_start_gets_an_error(
    ann: SessionClient, services: Services, store: ControlledStore
) -> None:
    """Starts that joined it fail too. An attach and a cancel don't find the turn."""
    async with open_client(services) as other:
        with store.failing("accept"), store.blocked("accept") as accepting:
            starts = [ann.send("turn.start", turn="t", input="Hi") for _ in range(2)]
            await accepting.wait()
            joined = other.send("turn.start", turn="t", input="Hi")
            attach = other.send("turn.attach", turn="t")
            stop = other.send("turn.cancel", turn="t")
            await asyncio.sleep(0)
        for client, request_id in ((ann, starts[0]), (ann, starts[1]), (other, joined)):
            with pytest.raises(RequestFailed):
                await client.answer(request_id)
        assert (await other.answer(attach))["turns"]["t"]["error"]["code"] == "not_found"
        assert await other.answer(stop) == {"turns": {"t": "not_found"}}


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"model": "demoo"}, "model_not_found"),
        ({"model": "gpt-5"}, "upstream_auth"),
        ({"conversation": "c_unknown"}, "not_found"),
        ({"parent": "m_unknown"}, "not_found"),
        ({"prompt": ""}, "invalid_request"),
    ],
    ids=["model", "key", "conversation", "parent", "input"],
)
async def test_an_invalid_start_is_refused_before_the_turn_begins(
    ann: SessionClient, fields: dict[str, Any], code: str
) -> None:
    """An error that is known at the start is the answer to the request, not a turn."""
    if "parent" in fields:
        fields["conversation"] = (await ann.request("conversation.create"))["id"]
    with pytest.raises(RequestFailed) as refused:
        await ann.start("t", **fields)
    assert refused.value.code == code
    assert ann.of("t") == []


async def test_a_defect_at_the_start_is_internal(
    ann: SessionClient, services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A start that fails with a defect of the gateway fails alone, and the next one runs."""

    def break_down(_: str) -> Route:
        raise RuntimeError("broken")

    with monkeypatch.context() as patch:
        patch.setattr(services.catalog, "resolve", break_down)
        with pytest.raises(RequestFailed) as refused:
            await ann.start("t")
        assert refused.value.code == "internal"
    await ann.start("t")
    assert await ended_with(ann, "t") == "turn.completed"


async def test_the_default_model_is_the_conversations_then_the_operators(store: ControlledStore) -> None:
    """The order is: the turn's own model, the conversation's, and the operator's setting."""
    async with open_services(store, default_model="demo/small") as services, open_client(services) as ann:
        assert services.runner.default_model == "demo/small"
        plain = (await ann.request("conversation.create"))["id"]
        named = (await ann.request("conversation.create", model="demo/large"))["id"]
        for turn, fields, model in (
            ("a", {"conversation": plain}, "demo/small"),
            ("b", {"conversation": named}, "demo/large"),
            ("c", {"conversation": named, "model": "demo"}, "demo"),
        ):
            await ann.start(turn, **fields)
            await ann.ending(turn)
            assert ann.turns[turn].frames[0]["model"] == model


# --- a busy conversation ---


async def busy_conversation(ann: SessionClient, *turns: str) -> str:
    """Return a conversation in which these turns run."""
    conversation = str((await ann.request("conversation.create"))["id"])
    for turn in turns:
        await ann.start(turn, conversation=conversation, demo=SLOW)
    return conversation


async def test_parallel_turns_of_a_conversation_run_concurrently(ann: SessionClient) -> None:
    """By default, a second turn of a conversation doesn't wait."""
    conversation = await busy_conversation(ann, "a")
    assert (await ann.start("b", conversation=conversation))["status"] == "running"
    await ann.ending("b")
    assert ann.turns["a"].ended is None


async def test_reject_answers_busy(ann: SessionClient) -> None:
    """A start with `reject` is refused while a turn runs, and runs when none does."""
    conversation = await busy_conversation(ann, "a")
    with pytest.raises(RequestFailed) as refused:
        await ann.start("b", conversation=conversation, on_busy="reject")
    assert (refused.value.code, refused.value.error["path"]) == ("busy", "conversation")
    await ann.request("turn.cancel", turn="a")
    await ann.ending("a")
    await ann.start("b", conversation=conversation, on_busy="reject")
    await ann.ending("b")


async def test_queue_waits_for_the_turns_ahead(ann: SessionClient, services: Services) -> None:
    """A queued turn reports each change of its position. Its parent is the answer of the turn before it."""
    conversation = await busy_conversation(ann, "a")
    second = await ann.start("b", conversation=conversation, on_busy="queue")
    third = await ann.start("c", conversation=conversation, on_busy="queue")
    assert (second["status"], third["status"]) == ("queued", "queued")
    await ann.until(lambda: len(ann.of("c", "turn.status")) == 1)
    assert ann.of("b", "turn.status")[0]["position"] == 1
    assert ann.of("c", "turn.status")[0]["position"] == 2
    assert stream_of(services, "c").state == "queued"
    await ann.request("turn.cancel", turn="a")
    await ann.ending("c")
    statuses = [(frame["status"], frame.get("position")) for frame in ann.of("c", "turn.status")]
    assert statuses == [("queued", 2), ("queued", 1), ("running", None)]
    branch, _ = await services.store.branch("ann", conversation, stream_of(services, "c").message)
    assert [record.turn for record in branch] == ["a", "a", "b", "b", "c", "c"]
    order = [frame["turn"] for frame in ann.frames if frame["type"] in {"turn.completed", "turn.cancelled"}]
    assert order == ["a", "b", "c"]


async def test_a_queued_turn_can_be_cancelled(ann: SessionClient) -> None:
    """Law 5: a queued turn is cancelled without a call of the provider and without usage."""
    conversation = await busy_conversation(ann, "a")
    await ann.start("b", conversation=conversation, on_busy="queue")
    assert await ann.request("turn.cancel", turn="b") == {"turns": {"b": "cancelled"}}
    ending = await ann.ending("b")
    assert (ending["type"], ending["usage"], ending["timing"]["attempts"]) == ("turn.cancelled", None, 0)
    assert ann.turns["a"].ended is None


async def test_queue_in_an_idle_conversation_runs_at_once(ann: SessionClient) -> None:
    """With no turn ahead, the turn is `running`."""
    conversation = await busy_conversation(ann)
    assert (await ann.start("a", conversation=conversation, on_busy="queue"))["status"] == "running"
    assert await ended_with(ann, "a") == "turn.completed"


async def test_queue_does_not_wait_for_a_failed_start(
    ann: SessionClient, services: Services, store: ControlledStore
) -> None:
    """A turn ahead whose start failed blocks no other turn."""
    conversation = await busy_conversation(ann)
    with store.failing("accept", 1), store.blocked("accept") as accepting:
        first = ann.send("turn.start", turn="a", input="Hi", conversation=conversation)
        await accepting.wait()
        second = ann.send("turn.start", turn="b", input="Hi", conversation=conversation, on_busy="queue")
        await asyncio.sleep(0)
        assert len(services.registry.live_in("ann", conversation)) == 2
    with pytest.raises(RequestFailed):
        await ann.answer(first)
    assert (await ann.answer(second))["status"] == "running"


async def test_interrupt_stops_the_others_first(ann: SessionClient) -> None:
    """A start with `interrupt` cancels the running turns of the conversation, and begins after their endings."""
    conversation = await busy_conversation(ann, "a", "b")
    await ann.start("c", conversation=conversation, on_busy="interrupt")
    await ann.ending("c")
    for turn in ("a", "b"):
        ending = await ann.ending(turn)
        assert (ending["type"], ending["by"]) == ("turn.cancelled", "client")
    order = [frame["turn"] for frame in ann.frames if frame["type"] in {"turn.cancelled", "turn.started"}]
    assert order[-1] == "c"
    assert ann.turns["c"].frames[0]["parent"] is not None


# --- cancels and limits ---


async def test_a_cancel_before_the_acceptance_is_applied(ann: SessionClient, store: ControlledStore) -> None:
    """Law 5: a turn cancelled while the store accepts it ends cancelled, and no provider is called."""
    with store.blocked("accept") as accepting:
        start = ann.send("turn.start", turn="t", input="Hi", params={"demo": SLOW})
        await accepting.wait()
        cancel = ann.send("turn.cancel", turn="t")
    assert (await ann.answer(start))["status"] == "running"
    assert await ann.answer(cancel) == {"turns": {"t": "cancelled"}}
    ending = await ann.ending("t")
    assert (ending["type"], ending["usage"]) == ("turn.cancelled", None)
    assert [frame["type"] for frame in ann.of("t")] == ["turn.started", "turn.cancelled"]


async def test_an_answer_over_the_size_limit_is_cancelled(store: ControlledStore) -> None:
    """The size limit cancels the turn with `limit`, and the answer so far is kept."""
    async with open_services(store, turn_output_bytes=65_536) as services, open_client(services) as ann:
        await ann.start("t", demo={"rate": 0, "tokens": 1_000_000})
        ending = await ann.ending("t")
        assert (ending["type"], ending["by"]) == ("turn.cancelled", "limit")
        assert 30_000 < len(ann.turns["t"].text()) < 80_000
        parts = (await ann.request("turn.get", turn="t"))["message"]["parts"]
        assert "".join(part["text"] for part in parts) == ann.turns["t"].text()
        assert (await services.store.turn("ann", "t")).status == "cancelled"


async def test_a_limit_met_by_the_last_batch_still_ends_the_turn(store: ControlledStore) -> None:
    """Law 2: a limit that fires during the provider's last batch doesn't cancel the store call that follows."""

    async def once(_: ChatRequest) -> AsyncIterator[list[Delta]]:
        yield [PartStarted(0, "text"), PartDelta(0, "x" * 70_000), Finished("stop")]

    providers = ScriptedProviders(once)
    async with open_services(store, providers, turn_output_bytes=65_536) as services, open_client(services) as ann:
        await ann.start("t")
        assert (await ann.ending("t"))["type"] in {"turn.completed", "turn.cancelled"}
        assert ann.turns["t"].text() == "x" * 70_000


async def test_a_turn_over_the_time_limit_is_cancelled(store: ControlledStore) -> None:
    """The time limit cancels the turn with `limit`."""
    async with open_services(store, turn_timeout_s=0.05) as services, open_client(services) as ann:
        await ann.start("t", demo=SLOW)
        ending = await ann.ending("t")
        assert (ending["by"], "0.05 s" in ending["reason"]) == ("limit", True)


async def test_a_disconnect_cancels_a_turn_only_if_requested(store: ControlledStore) -> None:
    """Law 8: with `on_disconnect: cancel`, a turn is cancelled when it has had no attachment for the whole grace period.
    With `continue` it goes on."""
    async with open_services(store, disconnect_grace_s=0.02) as services:
        async with open_client(services) as ann:
            await ann.start("stops", demo=SLOW, on_disconnect="cancel")
            await ann.start("goes", demo=SLOW)
        await asyncio.wait_for(stream_of(services, "stops").ended.wait(), 5)
        assert (await services.store.turn("ann", "stops")).status == "cancelled"
        assert stream_of(services, "goes").is_live


# --- failures ---


@pytest.mark.parametrize(
    ("fail", "code"),
    [
        ("before", "upstream_error"),
        ("mid", "upstream_error"),
        ("auth", "upstream_auth"),
        ("cut", "upstream_incomplete"),
    ],
)
async def test_a_provider_error_fails_the_turn(ann: SessionClient, services: Services, fail: str, code: str) -> None:
    """Laws 2 and 13: the ending has the error's code, and the answer so far is kept. A refused request has no estimated
    usage."""
    await ann.start("t", demo={"fail": fail})
    ending = await ann.ending("t")
    assert (ending["type"], ending["error"]["code"]) == ("turn.failed", code)
    assert ending["usage"].get("estimated", False) is (code != "upstream_auth")
    got = await ann.request("turn.get", turn="t")
    assert got["error"] == ending["error"]
    assert "".join(part["text"] for part in got["message"]["parts"]) == ann.turns["t"].text()


async def wrong_part(_: ChatRequest) -> AsyncIterator[list[Delta]]:
    yield [PartStarted(0, "text"), PartDelta(0, "good")]
    yield [PartDelta(3, "of no part")]


async def part_out_of_order(_: ChatRequest) -> AsyncIterator[list[Delta]]:
    yield [PartStarted(0, "text"), PartDelta(0, "good")]
    yield [PartStarted(0, "text")]


async def raise_unexpectedly(_: ChatRequest) -> AsyncIterator[list[Delta]]:
    """Yield a part, then raise an error that isn't a provider error."""
    yield [PartStarted(0, "text"), PartDelta(0, "good")]
    raise ZeroDivisionError("secret detail")


@pytest.mark.parametrize(
    "script", [wrong_part, part_out_of_order, raise_unexpectedly], ids=lambda script: script.__name__
)
async def test_a_provider_with_a_defect_fails_its_turn_alone(
    store: ControlledStore,
    script: Callable[[ChatRequest], AsyncIterator[list[Delta]]],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Laws 2 and 13: after any defect of a provider the turn fails with `internal`, and its answer has everything up to
    the defect. The next turn runs."""
    async with open_services(store, ScriptedProviders(script)) as services, open_client(services) as ann:
        for turn in ("a", "b"):
            await ann.start(turn)
            ending = await ann.ending(turn)
            assert ending["error"]["code"] == "internal"
            assert "secret" not in str(ending)
            assert ann.turns[turn].text() == "good"
            assert (await services.store.turn("ann", turn)).status == "failed"
    assert all(fact in caplog.text for fact in ("'event': 'turn failed'", "'turn': 'a'"))


async def test_a_stream_that_ends_without_a_reason_is_incomplete(store: ControlledStore) -> None:
    """A provider whose stream ends without a finish reason hasn't finished."""

    async def stops(_: ChatRequest) -> AsyncIterator[list[Delta]]:
        yield [PartStarted(0, "text"), PartDelta(0, "half")]

    async with open_services(store, ScriptedProviders(stops)) as services, open_client(services) as ann:
        await ann.start("t")
        assert await ended_with(ann, "t") == "upstream_incomplete"


async def test_a_slow_first_token_is_reported(store: ControlledStore) -> None:
    """The status `waiting` is sent once, and only before the first part."""
    async with open_services(store, waiting_after_s=0.02) as services, open_client(services) as ann:
        await ann.start("slow", demo={"first_ms": 100})
        await ann.start("quick", demo={"rate": 100, "tokens": 10})
        await ann.ending("slow")
        await ann.ending("quick")
        assert [frame["status"] for frame in ann.of("slow", "turn.status")] == ["waiting"]
        assert ann.of("quick", "turn.status") == []


async def test_a_turn_waits_for_a_store_that_cannot_read_its_history(
    ann: SessionClient, store: ControlledStore
) -> None:
    """If the store can't read an accepted turn's context, the turn waits until it can, and then calls the provider.
    Meanwhile it can be cancelled."""
    with store.failing("branch", 2):
        await ann.start("t")
        assert (await ann.ending("t"))["type"] == "turn.completed"
    with store.failing("branch"):
        await ann.start("u")
        await ann.request("turn.cancel", turn="u")
        assert (await ann.ending("u"))["type"] == "turn.cancelled"


async def test_the_first_turn_of_a_new_conversation_reads_no_history(
    ann: SessionClient, store: ControlledStore
) -> None:
    """The input is all of its context, so the store is asked only to accept it. Later turns read the history."""
    demo = {"rate": 0, "tokens": 40}
    await ann.start("t", conversation="c1", create=True, demo=demo)
    await ann.start("u", demo=demo)
    for turn in ("t", "u"):
        assert await ended_with(ann, turn) == "turn.completed"
        assert ann.turns[turn].text() == expected("Hello", demo)
        assert "Hello" in ann.turns[turn].text()
    assert "branch" not in store.calls
    await ann.start("v", conversation="c1", demo=demo)
    assert await ended_with(ann, "v") == "turn.completed"
    assert store.calls.count("branch") == 1


async def test_a_conversation_deleted_during_the_start_fails_the_turn(
    ann: SessionClient, store: ControlledStore
) -> None:
    """If the conversation is deleted while its turn starts, the turn fails with `not_found`."""
    conversation = (await ann.request("conversation.create"))["id"]
    with store.blocked("branch") as reading:
        await ann.start("t", conversation=conversation)
        await reading.wait()
        await store.delete_conversation("ann", conversation)
    assert await ended_with(ann, "t") == "not_found"


# --- drains ---


async def test_a_drain_refuses_new_turns_and_lets_running_ones_end(ann: SessionClient, services: Services) -> None:
    """Running turns may end within the time limit. New starts are refused, and a repeated start is still answered."""
    await ann.start("t", demo={"rate": 200, "tokens": 20})
    drain = asyncio.get_running_loop().create_task(services.runner.drain(10))
    await asyncio.sleep(0)
    with pytest.raises(RequestFailed) as refused:
        await ann.start("new")
    assert refused.value.code == "shutting_down"
    assert (await ann.start("t", demo={"rate": 200, "tokens": 20}))["status"] == "attached"
    assert await ended_with(ann, "t") == "turn.completed"
    await drain


async def test_a_drain_fails_turns_after_its_time_limit(ann: SessionClient, services: Services) -> None:
    """After the time limit a turn fails with `shutting_down`, and the store has its ending."""
    await ann.start("t", demo=SLOW)
    await ann.until(lambda: ann.turns["t"].seq > 3)
    await services.runner.drain(0.01)
    assert await ended_with(ann, "t") == "shutting_down"
    assert (await services.store.turn("ann", "t")).status == "failed"


async def test_a_drain_does_not_wait_forever_for_the_store(
    store: ControlledStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A store that stays unavailable doesn't block the exit: the turn's task is cancelled, and the turn has no ending."""
    monkeypatch.setattr("gateway.turns.runner.CLEANUP_TIMEOUT_S", 0.01)
    with store.failing("end"):
        async with asyncio.timeout(5), open_services(store) as services, open_client(services) as ann:
            await ann.start("t")
            await services.runner.drain(0.01)
    assert (await store.turn("ann", "t")).ending is None


def start(services: Services, request: TurnStart) -> tuple[LiveTurn, bool]:
    return services.starter.start("ann", request, prepare(request, 1000, 1000, 10, 100))


async def test_epochs_only_grow(services: Services) -> None:
    """No epoch is used twice, not even within one millisecond."""
    streams = [start(services, TurnStart(input="Hi"))[0] for _ in range(50)]
    epochs = [stream.epoch for stream in streams]
    assert epochs == sorted(set(epochs))
    assert len({stream.turn for stream in streams}) == 50
    for stream in streams:
        stream.signal.abort(Abort("client"))
    await asyncio.gather(*(stream.ended.wait() for stream in streams))


async def test_a_start_never_awaits(services: Services) -> None:
    """A cancel directly after a start on the same socket finds the turn, because it is registered before the first
    await."""
    stream, fresh = start(services, TurnStart(turn="t", input="Hi", params=Params(demo={"rate": 0})))
    assert fresh
    assert services.registry.get("ann", "t") is stream
    with pytest.raises(Conflict):
        start(services, TurnStart(turn="t", input="Other"))
    await stream.ended.wait()
