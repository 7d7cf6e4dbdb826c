"""Tests of dead sockets at a user's limit of connections, with real sockets whose clients have stopped reading."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from gateway.requests.silent_clients import ANSWER_S, CLOSE_S
from tests.client import client
from tests.credentials import SECRET, bearer, token
from tests.http_events import http_client, started
from tests.in_loop_server import InLoopServer, serving
from tests.in_process import eventually
from tests.raw_socket import connect_websocket
from tests.redis_process import redis_process

LIMIT = 3
JWT: dict[str, Any] = {"auth": "jwt", "jwt_secret": SECRET, "user_connections": LIMIT}
HEADERS = bearer(token("ann"))
LATE_S = 3.0
"""The time that a new connection may take on a busy machine in addition to the wait for an answer."""


async def dead_socket(server: InLoopServer) -> asyncio.StreamWriter:
    """Open a socket of ann that answers no ping, as after the client's network has gone away."""
    reader, writer = await connect_websocket(server.url, f"Authorization: {HEADERS['Authorization']}\r\n")
    writer.transport.pause_reading()  # type: ignore[attr-defined]
    del reader
    return writer


def connections(server: InLoopServer) -> list[str]:
    """Return the ids of the gateway's connections, oldest first."""
    return [one.id for one in server.gateway.services.clients.all()]


async def test_a_dead_socket_gives_its_place_to_a_new_one() -> None:
    """At the limit, the socket that was silent for longest and doesn't answer a ping is closed, and no other. A socket
    that answers stays open, however old it is."""
    async with serving(**JWT) as server, client(server.ws_url, additional_headers=HEADERS) as alive:
        dead = [await dead_socket(server)]
        await asyncio.sleep(0.05)
        dead.append(await dead_socket(server))
        before = connections(server)
        loop = asyncio.get_running_loop()
        began = loop.time()
        async with client(server.ws_url, additional_headers=HEADERS) as new:
            took_s = loop.time() - began
            assert ANSWER_S <= took_s < ANSWER_S + LATE_S
            assert connections(server) == [before[0], before[2], new.ready["connection"]]
            assert (await alive.request("ping", t=1)) == {"t": 1}
            assert (await new.request("ping", t=2)) == {"t": 2}
        for writer in dead:
            writer.close()


async def test_several_new_sockets_take_the_places_of_several_dead_ones() -> None:
    """Each new socket takes the place of a different dead one."""
    async with serving(**JWT) as server:
        dead = [await dead_socket(server) for _ in range(LIMIT)]
        async with AsyncExitStack() as stack, asyncio.timeout(ANSWER_S + LATE_S):
            opening = [
                stack.enter_async_context(client(server.ws_url, additional_headers=HEADERS)) for _ in range(LIMIT)
            ]
            opened = await asyncio.gather(*opening)
            assert set(connections(server)) == {one.ready["connection"] for one in opened}
        for writer in dead:
            writer.close()


async def test_a_stream_takes_the_place_of_a_dead_socket() -> None:
    """A stream over HTTP counts as a connection, so at the limit it takes the place of a dead socket too."""
    async with serving(**JWT) as server, http_client(server.url, headers=HEADERS) as http:
        dead = [await dead_socket(server) for _ in range(LIMIT)]
        async with started(http, input="Hi", params={"demo": {"rate": 0, "text": "Yes."}}) as events:
            assert (await events.ending())["type"] == "turn.completed"
        await eventually(lambda: len(connections(server)) == LIMIT - 1)
        for writer in dead:
            writer.close()


async def test_if_all_sockets_answer_the_refusal_says_when_to_retry() -> None:
    """All sockets stay open, and the new one is refused before the end of the wait, with Retry-After."""
    async with serving(**JWT) as server, AsyncExitStack() as stack:
        for _ in range(LIMIT):
            await stack.enter_async_context(client(server.ws_url, additional_headers=HEADERS))
        async with asyncio.timeout(ANSWER_S):
            with pytest.raises(InvalidStatus) as refused:
                await connect(server.ws_url, additional_headers=HEADERS)
        response = refused.value.response
        assert (response.status_code, response.headers["retry-after"]) == (429, "1")
        assert len(connections(server)) == LIMIT


async def test_a_dead_socket_on_another_instance_gives_its_place_too(tmp_path: Path) -> None:
    """The limit applies to all instances together, so each of them looks for dead sockets. The sockets of another user
    are left alone."""
    with redis_process(tmp_path / "redis") as redis:
        fields = {**JWT, "store": redis.url, "lease_s": 60}
        async with serving(**fields) as one, serving(**fields) as two:
            dead = [await dead_socket(one) for _ in range(LIMIT)]
            bob = bearer(token("bob"))
            async with client(one.ws_url, additional_headers=bob), asyncio.timeout(ANSWER_S + CLOSE_S + LATE_S):
                async with client(two.ws_url, additional_headers=HEADERS):
                    assert len(connections(one)) == LIMIT
                    assert len(connections(two)) == 1
            for writer in dead:
                writer.close()


async def test_if_all_sockets_of_another_instance_answer_the_new_one_is_refused(tmp_path: Path) -> None:
    """All sockets stay open on the other instance."""
    with redis_process(tmp_path / "redis") as redis:
        fields = {**JWT, "store": redis.url, "lease_s": 60}
        async with serving(**fields) as one, serving(**fields) as two, AsyncExitStack() as stack:
            for _ in range(LIMIT):
                await stack.enter_async_context(client(one.ws_url, additional_headers=HEADERS))
            with pytest.raises(InvalidStatus) as refused:
                await connect(two.ws_url, additional_headers=HEADERS)
            assert refused.value.response.headers["retry-after"] == "1"
            assert (len(connections(one)), len(connections(two))) == (LIMIT, 0)
