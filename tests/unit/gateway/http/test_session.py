"""Tests of an HTTP session: requests, its end, the limit of its outbox, a drain, heartbeats, and its connection permit."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from gateway.http.session import HttpSession
from gateway.identity.principal import Principal
from gateway.protocol import requests as p
from gateway.protocol.errors import ApiError, CloseCode
from gateway.protocol.results import Cancelled, Pong
from gateway.requests.services import Services
from providers.base import Params
from tests.credentials import SECRET
from tests.in_process import SLOW, ControlledStore, eventually, open_services

ANN = Principal(user="ann")


def http_session(services: Services, *, is_streamed: bool = True) -> HttpSession:
    return HttpSession(services, ANN, is_streamed=is_streamed)


def start(**fields: Any) -> p.TurnStart:
    return p.TurnStart(turn="t", input="x", params=Params(demo={**SLOW, **fields}))


async def test_a_session_handles_requests_like_a_socket(services: Services) -> None:
    """Results are returned directly, and errors are raised."""
    async with http_session(services) as session:
        assert await session.handle(p.Ping(t=1)) == Pong(1)
        await session.handle(start())
        assert await session.handle(p.TurnCancel(turn="t")) == Cancelled({"t": "cancelled"})
        with pytest.raises(ApiError):
            await session.handle(p.TurnGet(turn="unknown"))


async def test_attachments_end_with_the_session(services: Services) -> None:
    """Law 8: after the request no client is attached, and the turn continues."""
    async with http_session(services) as session:
        await session.handle(start())
        stream = services.registry.get("ann", "t")
        assert stream is not None
        assert stream.is_attached
        assert services.clients.all() == [session]
    assert not stream.is_attached
    assert stream.is_live
    assert session.finished.is_set()
    assert services.clients.all() == []


async def test_a_waiting_session_has_no_outbox_limit(services: Services) -> None:
    """A session that only waits for the ending isn't stopped when its outbox is over the limit. It gets no heartbeats."""
    async with http_session(services, is_streamed=False) as session:
        await session.handle(start(rate=0, tokens=60_000))
        stream = services.registry.get("ann", "t")
        assert stream is not None
        await eventually(lambda: not stream.is_live)
        assert session.outbox.waiting_bytes > services.settings.outbox_bytes
        assert session.stop_error is None
        session.send_heartbeat(1e12, 1)
        assert not session.outbox._answers


async def test_a_slow_streaming_session_is_aborted(services: Services) -> None:
    """The error is `rate_limited`."""
    async with http_session(services) as session:
        await session.handle(start(rate=0, tokens=60_000))
        await eventually(lambda: session.stop_error is not None)
        assert session.stop_error is not None
        assert session.stop_error.code == "rate_limited"
        assert session.aborted.is_set()


async def test_a_drain_stops_the_session(services: Services) -> None:
    """The session is told to stop, and the drain waits for its end."""
    async with http_session(services) as session:
        closing = asyncio.get_running_loop().create_task(services.clients.close_all(5))
        await asyncio.wait_for(session.wakeup.wait(), 5)
        assert session.stop_error is not None
        assert session.stop_error.code == "shutting_down"
        session.close_when_drained(CloseCode.DRAINING, "again")
        assert not closing.done()
    await asyncio.wait_for(closing, 5)


async def test_heartbeats_are_sent_in_silence(services: Services) -> None:
    """A heartbeat is sent only if no frame was sent in the interval."""
    async with http_session(services) as session:
        now = asyncio.get_running_loop().time()
        session.send_heartbeat(now + 0.5, 1)
        assert session.outbox.next_frame() is None
        session.send_heartbeat(now + 1.5, 1)
        assert b'"heartbeat"' in (session.outbox.next_frame() or b"")
        session.record_sent()
        session.send_heartbeat(now + 2, 10)
        assert session.outbox.next_frame() is None


async def test_a_streaming_session_counts_as_a_connection(store: ControlledStore) -> None:
    """It holds a permit until it ends. A session without a host needs none."""
    fields: dict[str, Any] = {"auth": "jwt", "jwt_secret": SECRET, "user_connections": 1}
    async with open_services(store, **fields) as services:
        async with HttpSession(services, ANN, is_streamed=True, host="192.0.2.1"):
            with pytest.raises(ApiError, match="connections of this user"):
                await HttpSession(services, ANN, is_streamed=True, host="192.0.2.2").__aenter__()
            async with http_session(services):
                pass
        async with HttpSession(services, ANN, is_streamed=True, host="192.0.2.1"):
            pass
        assert not services.limits.connections.holders
