"""A session without a socket: asks, counts as a client that is here, and leaves nothing behind."""

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


async def test_it_asks_what_a_frame_would(services: Services) -> None:
    """Results as they are, also those that stand behind a turn on a socket; errors raised."""
    async with http_session(services) as session:
        assert await session.handle(p.Ping(t=1)) == Pong(1)
        await session.handle(start())
        assert await session.handle(p.TurnCancel(turn="t")) == Cancelled({"t": "cancelled"})
        with pytest.raises(ApiError):
            await session.handle(p.TurnGet(turn="unknown"))


async def test_it_takes_its_attachments_with_it(services: Services) -> None:
    """Law 8: when the request is over nobody is attached; the turn goes on."""
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


async def test_who_reads_nothing_is_not_bounded(services: Services) -> None:
    """A wait holds its place in the turn's stream, and no bytes."""
    async with http_session(services, is_streamed=False) as session:
        await session.handle(start(rate=0, tokens=60_000))
        stream = services.registry.get("ann", "t")
        assert stream is not None
        await eventually(lambda: not stream.is_live)
        assert session.outbox.waiting_bytes > services.settings.outbox_bytes
        assert session.stop_error is None
        session.send_heartbeat(1e12, 1)
        assert not session.outbox._answers


async def test_who_reads_too_slowly_is_interrupted(services: Services) -> None:
    """With a reason that says what to do."""
    async with http_session(services) as session:
        await session.handle(start(rate=0, tokens=60_000))
        await eventually(lambda: session.stop_error is not None)
        assert session.stop_error is not None
        assert session.stop_error.code == "rate_limited"
        assert session.aborted.is_set()


async def test_a_drain_reaches_it(services: Services) -> None:
    """It is told to stop, and waited for."""
    async with http_session(services) as session:
        closing = asyncio.get_running_loop().create_task(services.clients.close_all(5))
        await asyncio.wait_for(session.wakeup.wait(), 5)
        assert session.stop_error is not None
        assert session.stop_error.code == "shutting_down"
        session.close_when_drained(CloseCode.DRAINING, "again")
        assert not closing.done()
    await asyncio.wait_for(closing, 5)


async def test_silence_is_broken(services: Services) -> None:
    """A heartbeat when nothing was sent for the interval, and only then."""
    async with http_session(services) as session:
        now = asyncio.get_running_loop().time()
        session.send_heartbeat(now + 0.5, 1)
        assert session.outbox.next_frame() is None
        session.send_heartbeat(now + 1.5, 1)
        assert b'"heartbeat"' in (session.outbox.next_frame() or b"")
        session.record_sent()
        session.send_heartbeat(now + 2, 10)
        assert session.outbox.next_frame() is None


async def test_one_that_stays_counts_as_a_connection(store: ControlledStore) -> None:
    """For as long as it stays; a short one doesn't."""
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
