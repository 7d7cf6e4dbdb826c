"""The `turn.*` requests of one client: start, cancel, attach, detach, get."""

from __future__ import annotations

import asyncio
import weakref
from typing import Any

import pytest

from gateway.limits.loop_time import LOOP_TIME_BURST_MS, LOOP_TIME_MS_PER_S, SEND_COST_S_PER_BYTE, LoopTime
from gateway.protocol.views import body_of
from gateway.requests.services import Services
from tests.client import RequestFailed
from tests.credentials import SECRET
from tests.in_process import SLOW, ControlledStore, SessionClient, eventually, open_client, open_services

MESSAGES = [{"role": "user", "parts": [{"kind": "text", "text": "Hi"}]}]
AT_ONCE = {"demo": {"rate": 0}}


def late_deltas(client: SessionClient, turn: str, request_id: str) -> list[dict[str, Any]]:
    """Return the deltas of a turn that arrived after the answer to the request."""
    answered = client.frames.index(client.answered(request_id) or {})
    return [f for f in client.frames[answered:] if f.get("turn") == turn and f["type"] == "turn.delta"]


# --- start ---


async def test_an_idle_client_keeps_no_ended_turn_in_memory(ann: SessionClient, services: Services) -> None:
    """A turn that the registry has dropped is freed, although the client that started it stays connected and idle."""
    await ann.start("t", demo={"tokens": 5, "rate": 0})
    await ann.ending("t")
    stream = services.registry.get("ann", "t")
    assert stream is not None
    assert stream.conversation is not None
    held = weakref.ref(stream)
    services.registry.drop_ended("ann", stream.conversation)
    del stream
    await eventually(lambda: held() is None)


async def test_metadata_is_kept_with_the_users_message(ann: SessionClient, services: Services) -> None:
    """Metadata is in `turn.started` and in the history as it was sent. It isn't part of the content (law 6): a repeated
    start doesn't change it. Other messages have none."""
    metadata = {"page": "/prices", "n": [1, 2.5, None, 2**63], "deep": {"ü": True}}
    result = await ann.request("turn.start", turn="t", input="Hi", metadata=metadata, params=AT_ONCE)
    await ann.ending("t")
    assert ann.turns["t"].frames[0]["input"]["metadata"] == metadata
    again = await ann.request("turn.start", turn="t", input="Hi", metadata={"page": "/other"}, params=AT_ONCE)
    assert again["status"] == "attached"
    await ann.request("turn.start", turn="u", input="Ho", conversation=result["conversation"], params=AT_ONCE)
    await ann.ending("u")
    listed = (await ann.request("conversation.messages", conversation=result["conversation"]))["messages"]
    assert [message.get("metadata") for message in listed] == [metadata, None, None, None]
    message = await services.store.message("ann", listed[0]["id"])
    assert body_of(message).metadata == metadata


async def test_metadata_of_a_start_is_bounded(store: ControlledStore) -> None:
    """Above the limit it is `too_large`, even if the start stores no message. The id of a refused start is free."""
    fits, too_long = {"a": "x" * 92}, {"a": "x" * 93}
    async with open_services(store, metadata_bytes=100) as services, open_client(services) as ann:
        for fields in ({"input": "Hi"}, {"messages": MESSAGES}):
            refused = await ann.refused("turn.start", turn="t", metadata=too_long, **fields)
            assert (refused["code"], refused["path"]) == ("too_large", "metadata")
        await ann.request("turn.start", turn="t", input="Hi", metadata=fits, params=AT_ONCE)
        await ann.ending("t")
        assert ann.turns["t"].frames[0]["input"]["metadata"] == fits


# --- cancel ---


async def test_the_answer_to_a_cancel_follows_the_last_delta(ann: SessionClient, services: Services) -> None:
    """Law 5: no delta follows the answer on the connection that sent the cancel. Other connections get the ending
    too."""
    async with open_client(services) as other:
        await ann.start("t", demo=SLOW)
        await other.request("turn.attach", turn="t")
        await ann.until(lambda: ann.turns["t"].seq > 5)
        request_id = ann.send("turn.cancel", turn="t", reason="enough")
        assert await ann.answer(request_id) == {"turns": {"t": "cancelled"}}
        ending = await ann.ending("t")
        assert (ending["type"], ending["by"], ending["reason"]) == ("turn.cancelled", "client", "enough")
        assert late_deltas(ann, "t", request_id) == []
        assert (await other.ending("t"))["type"] == "turn.cancelled"
        assert other.turns["t"].text() == ann.turns["t"].text()


@pytest.mark.parametrize("scope", ["turn", "turns", "conversation", "mine"])
async def test_every_scope_of_a_cancel(ann: SessionClient, services: Services, scope: str) -> None:
    """Law 5: a cancel applies to one turn, several, those of a conversation, or all of this user's; never to another
    user's."""
    async with open_client(services, "bob") as bob:
        await bob.start("a", demo=SLOW)
        conversation = (await ann.request("conversation.create"))["id"]
        for turn in ("a", "b"):
            await ann.start(turn, demo=SLOW, conversation=conversation)
        await ann.start("c", demo=SLOW)
        scopes: dict[str, dict[str, Any]] = {
            "turn": {"turn": "a"},
            "turns": {"turns": ["a", "c", "a", "unknown"]},
            "conversation": {"conversation": conversation},
            "mine": {"mine": True},
        }
        wanted = {
            "turn": {"a": "cancelled"},
            "turns": {"a": "cancelled", "c": "cancelled", "unknown": "not_found"},
            "conversation": {"a": "cancelled", "b": "cancelled"},
            "mine": {"a": "cancelled", "b": "cancelled", "c": "cancelled"},
        }[scope]
        assert (await ann.request("turn.cancel", **scopes[scope]))["turns"] == wanted
        assert [stream.turn for stream in services.registry.live("bob")] == ["a"]
        running = {stream.turn for stream in services.registry.live("ann") if stream.is_abortable}
        assert running == {"a", "b", "c"} - set(wanted)


@pytest.mark.parametrize(
    "fields",
    [{}, {"turn": "a", "mine": True}, {"turns": ["a"], "conversation": "c"}],
    ids=["none", "two", "others"],
)
async def test_a_cancel_has_exactly_one_scope(ann: SessionClient, fields: dict[str, Any]) -> None:
    """A cancel without a scope or with several is refused."""
    assert (await ann.refused("turn.cancel", **fields))["code"] == "invalid_request"


async def test_a_cancel_of_an_ended_or_unknown_turn_is_answered(ann: SessionClient, services: Services) -> None:
    """Laws 5 and 12: a repeated or late cancel, and one of an unknown or another user's turn, is answered and changes
    nothing."""
    await ann.start("t")
    await ann.ending("t")
    wanted = {"t": "already_ended", "unknown": "not_found"}
    for _ in range(2):
        assert (await ann.request("turn.cancel", turns=["t", "unknown"]))["turns"] == wanted
    async with open_client(services, "bob") as bob:
        assert (await bob.request("turn.cancel", turn="t"))["turns"] == {"t": "not_found"}
        assert (await bob.request("turn.cancel", mine=True))["turns"] == {}


async def test_a_cancel_of_a_turn_of_an_earlier_process(store: ControlledStore) -> None:
    """Law 5: the turn has already ended. The answer is the same while a repeated start of it is in progress.
    An attach and a get in that time are answered too."""
    async with open_services(store) as before, open_client(before) as client:
        await client.start("t")
        await client.ending("t")
    async with open_services(store) as after, open_client(after) as client:
        assert (await client.request("turn.cancel", turn="t"))["turns"] == {"t": "already_ended"}
        with store.blocked("accept") as accepting:
            again = client.send("turn.start", turn="t", input="Hello", params={"demo": {"rate": 0, "tokens": 5}})
            await accepting.wait()
            cancel = client.send("turn.cancel", turn="t")
            attach = client.send("turn.attach", turn="t")
            got = client.send("turn.get", turn="t")
            await asyncio.sleep(0)
        assert (await client.answer(again))["status"] == "attached"
        assert await client.answer(cancel) == {"turns": {"t": "already_ended"}}
        assert (await client.answer(attach))["turns"]["t"]["status"] == "completed"
        assert (await client.answer(got))["status"] == "completed"


async def test_a_cancel_does_not_wait_forever(
    ann: SessionClient, services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Law 5: a provider connection that doesn't close delays the answer for a bounded time only."""
    monkeypatch.setattr("gateway.turns.cancellation.CLEANUP_TIMEOUT_S", 0.01)
    await ann.start("t", demo=SLOW)
    stream = services.registry.get("ann", "t")
    assert stream is not None
    with monkeypatch.context() as patch:
        patch.setattr(stream.stopped, "wait", asyncio.Event().wait)
        assert await ann.request("turn.cancel", turn="t") == {"turns": {"t": "cancelled"}}
    await ann.ending("t")


# --- attach ---


async def test_an_attach_continues_at_the_clients_position(ann: SessionClient, services: Services) -> None:
    """Law 7: from 0 or from a position, replay and live events follow without a gap. `from` is the `seq` after which
    they begin."""
    started = await ann.start("t", demo=SLOW)
    await ann.until(lambda: ann.turns["t"].seq > 5)
    position = ann.turns["t"].position
    async with open_client(services) as other, open_client(services) as third:
        answer = (await other.request("turn.attach", turn="t"))["turns"]["t"]
        assert answer == {
            "conversation": started["conversation"],
            "status": "running",
            "epoch": started["epoch"],
            "from": 0,
        }
        third.resume("t", position)
        answer = await third.request("turn.attach", turn="t", epoch=position["epoch"], after=position["seq"])
        assert answer["turns"]["t"]["from"] == position["seq"]
        await ann.request("turn.cancel", turn="t")
        for client in (ann, other, third):
            await client.ending("t")
        assert other.turns["t"].text() == ann.turns["t"].text()
        assert third.turns["t"].resets == 0


async def test_attaching_to_several_turns_at_once(ann: SessionClient, services: Services) -> None:
    """Each turn of `positions` has its own answer: one has ended, one runs but can't be continued at the position, and one is
    unknown."""
    await ann.start("ended")
    await ann.ending("ended")
    started = await ann.start("running", demo=SLOW)
    async with open_client(services) as other:
        positions = {
            "ended": ann.turns["ended"].position,
            "running": {"epoch": started["epoch"] - 1, "seq": 3},
            "unknown": {"epoch": 1, "seq": 0},
        }
        answers = (await other.request("turn.attach", positions=positions))["turns"]
        assert (answers["ended"]["status"], answers["ended"]["from"]) == ("completed", ann.turns["ended"].seq)
        assert answers["running"]["from"] == 0
        assert answers["unknown"]["error"]["code"] == "not_found"
        await other.until(lambda: "running" in other.turns and other.turns["running"].seq > 3)
        assert other.of("running")[0]["type"] == "turn.reset"
        assert other.of("ended") == []


@pytest.mark.parametrize(
    ("fields", "path"),
    [({}, "turn"), ({"turn": "t", "positions": {}}, "turn"), ({"turn": "t", "after": 3}, "epoch")],
    ids=["neither", "both", "no epoch"],
)
async def test_an_invalid_attach_is_refused(ann: SessionClient, fields: dict[str, Any], path: str) -> None:
    """An attach has either a turn or positions, and a position above 0 needs its epoch."""
    error = await ann.refused("turn.attach", **fields)
    assert (error["code"], error["path"]) == ("invalid_request", path)


async def test_attaching_to_an_expired_log_names_the_message(store: ControlledStore) -> None:
    """Law 7: if the events have expired, the answer is `gone` with the stored message."""
    async with open_services(store) as before, open_client(before) as client:
        await client.start("t")
        ending = await client.ending("t")
    store.expire_logs()
    async with open_services(store) as after, open_client(after) as client:
        error = (await client.request("turn.attach", turn="t"))["turns"]["t"]["error"]
        assert (error["code"], error["stored_message"]) == ("gone", ending["message"])


async def test_an_attach_during_the_start_waits_for_the_acceptance(
    ann: SessionClient, services: Services, store: ControlledStore
) -> None:
    """An attach or a get that arrives before the store has accepted the turn is answered afterwards."""
    async with open_client(services) as other:
        with store.blocked("accept") as accepting:
            ann.send("turn.start", turn="t", input="Hi", params={"demo": {"rate": 0}})
            await accepting.wait()
            attach = other.send("turn.attach", turn="t")
            got = other.send("turn.get", turn="t")
            await asyncio.sleep(0)
            assert other.answered(attach) is None
        assert (await other.answer(attach))["turns"]["t"]["from"] == 0
        assert (await other.answer(got))["turn"] == "t"
        await other.ending("t")


async def test_a_user_cannot_attach_to_another_users_turn(ann: SessionClient, services: Services) -> None:
    """Law 12: another user's turn isn't found by an attach, a get or a detach."""
    await ann.start("t", demo=SLOW)
    async with open_client(services, "bob") as bob:
        assert (await bob.request("turn.attach", turn="t"))["turns"]["t"]["error"]["code"] == "not_found"
        for kind in ("turn.get", "turn.detach"):
            assert (await bob.refused(kind, turn="t"))["code"] == "not_found"
            assert (await bob.refused(kind, turn="unknown"))["code"] == "not_found"


# --- detach ---


async def test_no_event_of_the_turn_arrives_after_a_detach(ann: SessionClient, services: Services) -> None:
    """The turn continues without this connection, which can attach again at its position."""
    await ann.start("t", demo=SLOW)
    await ann.until(lambda: ann.turns["t"].seq > 3)
    request_id = ann.send("turn.detach", turn="t")
    assert await ann.answer(request_id) == {}
    stream = services.registry.get("ann", "t")
    assert stream is not None
    end = stream.log.end
    await eventually(lambda: stream.log.end >= end + 3)
    ann.drain()
    assert late_deltas(ann, "t", request_id) == []
    assert await ann.request("turn.detach", turn="t") == {}
    position = ann.turns["t"].position
    await ann.request("turn.attach", turn="t", epoch=position["epoch"], after=position["seq"])
    await ann.until(lambda: ann.turns["t"].seq > end)


# --- get ---


async def test_get_returns_the_current_state_of_a_running_turn(ann: SessionClient) -> None:
    """The answer has status, epoch, position, and the message so far."""
    started = await ann.start("t", demo=SLOW)
    await ann.until(lambda: ann.turns["t"].seq > 3)
    got = await ann.request("turn.get", turn="t")
    assert (got["status"], got["epoch"], got["model"]) == ("running", started["epoch"], "demo")
    assert got["seq"] >= 3
    assert got["message"]["role"] == "assistant"
    assert got["message"]["parts"][0]["text"]
    assert "usage" not in got


async def test_get_returns_an_ended_turn_as_it_is_stored(ann: SessionClient) -> None:
    """Law 3: the answer has the usage, message and position of the ending."""
    await ann.start("t")
    ending = await ann.ending("t")
    got = await ann.request("turn.get", turn="t")
    assert (got["status"], got["seq"], got["usage"]) == ("completed", ending["seq"], ending["usage"])
    assert got["message"]["id"] == ending["message"]
    assert got["message"]["parts"] == [{"kind": "text", "text": ann.turns["t"].text()}]
    assert "error" not in got


async def test_get_returns_a_stateless_turn_with_its_message(ann: SessionClient) -> None:
    """The message is stored with the turn, which has no conversation."""
    demo = {"rate": 0, "tokens": 5}
    await ann.request("turn.start", turn="t", messages=MESSAGES, params={"demo": demo})
    ending = await ann.ending("t")
    started = ann.turns["t"].frames[0]
    assert (started["conversation"], started["parent"], started["input"]) == (None, None, None)
    got = await ann.request("turn.get", turn="t")
    assert got["conversation"] is None
    assert (got["message"]["id"], got["message"]["ended"]) == (ending["message"], "completed")
    assert got["message"]["parts"] == [{"kind": "text", "text": ann.turns["t"].text()}]
    assert (await ann.request("conversation.list"))["conversations"] == []


async def test_get_of_a_turn_whose_conversation_was_deleted(ann: SessionClient, services: Services) -> None:
    """The turn is found, but without its message."""
    result = await ann.start("t")
    await ann.ending("t")
    await ann.request("conversation.delete", conversation=result["conversation"])
    got = await ann.request("turn.get", turn="t")
    assert (got["status"], got["conversation"]) == ("completed", None)
    assert "message" not in got


# --- bounds ---


async def test_the_running_turns_of_a_connection_are_bounded(store: ControlledStore) -> None:
    """Past the bound a start is refused. A repeated start doesn't count again, and an ended turn no longer counts. Each
    connection has its own bound."""
    async with open_services(store, turns_per_connection=2) as services, open_client(services) as ann:
        for turn in ("a", "b"):
            await ann.start(turn, demo=SLOW)
        with pytest.raises(RequestFailed) as refused:
            await ann.start("c", demo=SLOW)
        assert (refused.value.code, refused.value.error["retryable"]) == ("rate_limited", True)
        assert (await ann.refused("turn.start", input="Hi"))["code"] == "rate_limited"
        assert (await ann.start("a", demo=SLOW))["status"] == "attached"
        async with open_client(services) as other:
            await other.start("d", demo=SLOW)
        await ann.request("turn.cancel", turn="a")
        await ann.ending("a")
        await ann.start("c", demo=SLOW)


async def test_a_refused_start_does_not_count(store: ControlledStore) -> None:
    """Refused starts don't use up the bound on running turns."""
    async with open_services(store, turns_per_connection=1) as services, open_client(services) as ann:
        for n in range(3):
            assert (await ann.refused("turn.start", turn=f"t{n}", input="Hi", model="nope"))[
                "code"
            ] == "model_not_found"
        await ann.start("t")
        await ann.ending("t")


@pytest.mark.parametrize("request_kind", ["turn.get", "turn.attach"])
async def test_law_11_sending_a_long_answer_is_charged(store: ControlledStore, request_kind: str) -> None:
    """A user that repeatedly reads a long answer is charged for the loop time to send it. Another user isn't.

    The clock stands still, so that a slow machine doesn't give the user its share back.
    """
    async with (
        open_services(store, auth="jwt", jwt_secret=SECRET) as services,
        open_client(services) as ann,
        open_client(services) as reader,
    ):
        await ann.request("turn.start", turn="t", input="x", params={"demo": {"rate": 0, "text": "x" * 4_000_000}})
        await ann.ending("t")
        loop_time = services.limits.loop_time = LoopTime(lambda: 1000.0, is_enforced=True)
        for _ in range(5):
            await reader.request(request_kind, turn="t")
        sent_ms = 5 * 4_000_000 * SEND_COST_S_PER_BYTE * 1000
        assert loop_time.delay_s("ann") >= (sent_ms - LOOP_TIME_BURST_MS) / LOOP_TIME_MS_PER_S
        assert loop_time.delay_s("bob") == 0
