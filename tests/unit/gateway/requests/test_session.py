"""One client's session: answers, errors, ids, bounds, and large answers in pieces."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest

from gateway.protocol import requests as p
from gateway.protocol.codec import CODECS, Codec
from gateway.protocol.errors import ApiError
from gateway.protocol.results import Pong
from gateway.requests.services import Services
from gateway.requests.session import INVALID_FRAMES_MAX
from tests.credentials import SECRET
from tests.in_process import SLOW, ControlledStore, SessionClient, open_client, open_services

both = pytest.mark.parametrize("codec", CODECS, ids=lambda codec: codec.name)


@both
async def test_a_request_gets_exactly_one_answer(services: Services, codec: Codec) -> None:
    """A request with an id gets one result; a request without an id gets none."""
    async with open_client(services, codec=codec) as client:
        assert await client.request("ping", t=5) == {"t": 5}
        now = (await client.request("ping"))["t"]
        assert now > 1_700_000_000_000
        client.send_raw(codec.encode({"type": "ping"}))
        assert await client.request("ping", t=2.5) == {"t": 2.5}
        assert [frame["type"] for frame in client.frames] == ["result"] * 3


async def test_a_failed_request_is_answered_without_an_id_too(ann: SessionClient) -> None:
    """A request without an id is answered if it fails. The error then has no id either."""
    ann.send_raw('{"type":"turn.get","turn":"unknown"}')
    ann.send_raw('{"type":"nope"}')
    await ann.until(lambda: len(ann.frames) == 2)
    assert sorted(frame["error"]["code"] for frame in ann.frames) == ["invalid_frame", "not_found"]
    assert all("id" not in frame for frame in ann.frames)


async def test_an_id_in_flight_may_not_be_used_again(ann: SessionClient, store: ControlledStore) -> None:
    """An id is in use until its request is answered, and free afterwards."""
    with store.blocked("usage") as waiting:
        ann.send("usage.get", id="7")
        await waiting.wait()
        ann.send("ping", id="7")
        await ann.until(lambda: ann.frames)
        assert ann.frames[0]["error"]["path"] == "id"
        ann.frames.clear()
    assert "usage" in await ann.answer("7")
    ann.frames.clear()
    assert await ann.request("ping", id="7", t=1) == {"t": 1}


async def test_auth_returns_the_user(ann: SessionClient) -> None:
    """`auth` returns the user of this connection."""
    assert await ann.request("auth", token="anything") == {"user": "ann"}


async def test_models_are_listed(ann: SessionClient) -> None:
    """Each model is listed with its features and availability, and the default model is named."""
    listed = await ann.request("models.list")
    assert listed["default"] == "demo"
    demo = next(model for model in listed["models"] if model["id"] == "demo")
    assert demo["available"]
    assert "streaming" in demo["features"]


async def test_usage_is_returned_for_a_conversation_or_a_time(ann: SessionClient) -> None:
    """Usage is returned in total, of one conversation, or since a time. An invalid time is refused with its field."""
    conversation = (await ann.start("t"))["conversation"]
    await ann.ending("t")
    every = await ann.request("usage.get")
    assert every["usage"]["output_tokens"] == 5
    assert every["cost"] is None
    assert await ann.request("usage.get", conversation=conversation, since="2026-01-01T00:00:00Z") == every
    later = await ann.request("usage.get", since="2999-01-01T00:00:00Z")
    assert later["usage"] == {"input_tokens": 0, "output_tokens": 0}
    error = await ann.refused("usage.get", since="yesterday")
    assert (error["code"], error["path"]) == ("invalid_request", "since")
    assert (await ann.refused("usage.get", conversation="unknown"))["code"] == "not_found"


async def test_a_large_result_comes_in_pieces(ann: SessionClient) -> None:
    """Law 10: each piece fits a frame, and the result has their count. The joined pieces are the result's JSON."""
    system = "\x01😀\n" * 5000
    made = await ann.request("conversation.create", system=system)
    assert made["system"] == system
    pieces = [frame for frame in ann.frames if frame["type"] == "result.piece"]
    assert len(pieces) > 1
    assert ann.frames[-1] == {"type": "result", "id": "r1", "pieces": len(pieces)}


@both
async def test_an_answer_larger_than_the_outbox_can_be_read(services: Services, codec: Codec) -> None:
    """Laws 3 and 11: a message larger than the outbox's bound can be read from the history, and the connection stays
    open."""
    async with open_client(services, codec=codec) as client:
        demo = {"text": "word" * 250 + " ", "tokens": 300}
        started = await client.start("long", demo=demo)
        await client.ending("long")
        page = await client.request("conversation.messages", conversation=started["conversation"])
        assert len(page["messages"][-1]["parts"][0]["text"]) > services.settings.outbox_bytes
        assert page["messages"][-1]["parts"][0]["text"] == client.turns["long"].text()
        several = [client.send("conversation.messages", conversation=started["conversation"]) for _ in range(3)]
        for request_id in several:
            assert await client.answer(request_id) == page
        assert not client.overflowed


async def test_a_client_with_many_invalid_frames_is_disconnected(ann: SessionClient) -> None:
    """Twenty `invalid_frame` errors in ten seconds end the connection. Invalid field values don't count."""
    for _ in range(INVALID_FRAMES_MAX + 5):
        ann.send_raw('{"type":"turn.get","turn":5}')
    for n in range(INVALID_FRAMES_MAX):
        assert not ann.broken
        ann.send_raw("nonsense" if n % 2 else '{"type":"nope"}')
    assert ann.broken


async def test_old_invalid_frames_no_longer_count(ann: SessionClient, monkeypatch: pytest.MonkeyPatch) -> None:
    """Twenty invalid frames in a longer time don't end the connection."""
    now = 0.0
    monkeypatch.setattr("gateway.requests.session.time.monotonic", lambda: now)
    for _ in range(INVALID_FRAMES_MAX * 3):
        ann.send_raw("nonsense")
        now += 0.6
    assert not ann.broken


@pytest.fixture
async def two_at_once(store: ControlledStore) -> AsyncIterator[Services]:
    async with open_services(store, requests_in_flight=2) as made:
        yield made


async def test_the_requests_in_flight_are_bounded(two_at_once: Services, store: ControlledStore) -> None:
    """Past the bound every request is refused with a retry time, except a cancel of a turn that runs here."""
    async with open_client(two_at_once) as client:
        await client.start("t", demo=SLOW)
        with store.blocked("usage"):
            waiting = [client.send("usage.get") for _ in range(2)]
            error = await client.refused("ping")
            assert (error["code"], error["retryable"], error["retry_after_ms"]) == ("rate_limited", True, 100)
            assert await client.request("turn.cancel", turn="t") == {"turns": {"t": "cancelled"}}
        for request_id in waiting:
            await client.answer(request_id)
        await client.request("ping")


@pytest.mark.parametrize(
    ("failing", "request_frame"),
    [
        ("usage", {"type": "usage.get"}),
        ("conversation", {"type": "conversation.get", "conversation": "c"}),
        ("turn", {"type": "turn.get", "turn": "t"}),
    ],
    ids=["usage", "conversation", "turn"],
)
async def test_a_store_failure_is_reported_as_retryable(
    ann: SessionClient, store: ControlledStore, failing: str, request_frame: dict[str, Any]
) -> None:
    """The request fails with `store_unavailable` and may be repeated."""
    with store.failing(failing):
        error = await ann.refused(request_frame.pop("type"), **request_frame)
    assert (error["code"], error["retryable"]) == ("store_unavailable", True)


async def test_a_defect_is_internal_and_shows_no_detail(
    ann: SessionClient, services: Services, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Law 13: no detail of the exception reaches a client; the log has it."""

    def break_down(*_: object) -> None:
        raise RuntimeError("secret detail")

    monkeypatch.setattr(services.catalog, "models", break_down)
    error = await ann.refused("models.list")
    assert error["code"] == "internal"
    assert "secret" not in msgspec.json.encode(error).decode()
    assert "secret detail" in caplog.text


async def test_an_unknown_model_is_explained(ann: SessionClient) -> None:
    """A provider error is answered like any other error."""
    error = await ann.refused("conversation.create", model="demoo")
    assert (error["code"], error["retryable"]) == ("model_not_found", False)
    assert "demo" in error["message"]


async def test_the_largest_integers_are_answered(ann: SessionClient) -> None:
    """The largest integers of both codecs are returned unchanged. Larger ones are errors that don't break the
    connection."""
    for t in (2**64 - 1, -(2**63)):
        assert await ann.request("ping", t=t) == {"t": t}
    assert await ann.request("conversation.create", metadata={"n": 2**64 - 1})
    for frame in (
        '{"type":"ping","id":"x","t":%d}',
        '{"type":"conversation.create","id":"x","metadata":{"n":%d}}',
    ):
        ann.frames.clear()
        ann.send_raw(frame % 2**80)
        await ann.until(lambda: ann.answered("x"))
        assert (ann.answered("x") or {})["type"] == "error"
    assert await ann.request("ping", t=1) == {"t": 1}


async def test_a_disconnect_leaves_the_turns_running(services: Services) -> None:
    """Law 8: a disconnect drops the attachments, and the turn continues."""
    async with open_client(services) as client:
        await client.start("t", demo=SLOW)
        await client.until(lambda: client.turns["t"].seq > 3)
    stream = services.registry.get("ann", "t")
    assert stream is not None
    assert not stream.is_attached
    before = stream.log.end
    async with asyncio.timeout(5), open_client(services) as other:
        assert (await other.request("turn.get", turn="t"))["status"] == "running"
        await other.request("turn.attach", turn="t", epoch=stream.epoch, after=0)
        await other.until(lambda: other.turns["t"].seq > before + 3)


async def test_a_request_can_be_handled_without_a_frame(ann: SessionClient, store: ControlledStore) -> None:
    """HTTP uses the same handlers. They return the result, or raise the error that a frame would be answered with."""
    assert await ann.session.handle(p.Ping(t=3)) == Pong(3)
    with pytest.raises(ApiError) as missing:
        await ann.session.handle(p.TurnGet(turn="unknown"))
    assert (missing.value.code, missing.value.body.path) == ("not_found", "turn")
    with store.failing("usage"), pytest.raises(ApiError) as away:
        await ann.session.handle(p.UsageGet())
    assert away.value.code == "store_unavailable"


async def test_requests_have_a_rate_limit(store: ControlledStore) -> None:
    """The limit is for all connections of a user together. The refusal has a retry time and affects no turn, and its id
    can be used again."""
    fields: dict[str, Any] = {"auth": "jwt", "jwt_secret": SECRET, "user_requests_per_s": 1, "user_requests_burst": 3}
    async with (
        open_services(store, **fields) as services,
        open_client(services) as ann,
        open_client(services) as other,
        open_client(services, user="bob") as bob,
    ):
        await ann.start("t", demo=SLOW)
        await other.request("ping")
        ann.send("ping", id="a")
        ann.send("ping", id="b")
        await ann.until(lambda: ann.answered("b"))
        refused = ann.answered("b")
        assert refused is not None
        assert refused["error"]["code"] == "rate_limited"
        assert 0 < refused["error"]["retry_after_ms"] <= 1000
        assert await bob.request("ping", t=1) == {"t": 1}
        ann.frames.clear()
        await asyncio.sleep(refused["error"]["retry_after_ms"] / 1000)
        assert await ann.request("ping", id="b", t=2) == {"t": 2}
        for _ in range(20):
            assert (await other.request("turn.attach", turn="t"))["turns"]["t"]["status"] == "running"
        assert await ann.request("turn.cancel", turn="t") == {"turns": {"t": "cancelled"}}
