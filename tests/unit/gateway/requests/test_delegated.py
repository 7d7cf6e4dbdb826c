"""One connection that speaks for many users: who may, what keeps the users apart, and what is dropped when idle."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from gateway.requests import delegated as behalf
from gateway.sockets import endpoint as connection
from gateway.sockets.endpoint import Connection
from gateway.streams import multiplexed_outbox as lanes
from gateway.streams.multiplexed_outbox import MultiplexedOutbox
from tests.client import Client, RequestFailed, client
from tests.credentials import SECRET, KeyFile, bearer, token
from tests.demo import expected
from tests.in_loop_server import InLoopServer, serving
from tests.in_process import eventually
from tests.raw_socket import TEXT, RawFrame, connect_websocket

QUICK = {"demo": {"rate": 0}}


@asynccontextmanager
async def service(
    folder: Path, codec: str = "json", scopes: set[Any] | None = None, **fields: Any
) -> AsyncIterator[tuple[InLoopServer, Client]]:
    """A gateway, and a service's connection to it."""
    file = KeyFile(folder)
    key = file.add_service("backend", scopes)
    async with (
        serving(auth="keys", api_keys=str(file.path), **fields) as server,
        client(server.ws_url, codec=codec, additional_headers=bearer(key)) as c,
    ):
        yield server, c


async def code(waiting: Any) -> str:
    """With which code it is refused."""
    with pytest.raises(RequestFailed) as refused:
        await waiting
    return refused.value.code


def lanes_of(server: InLoopServer) -> MultiplexedOutbox:
    """Those of the one connection."""
    (one,) = server.gateway.services.clients.all()
    assert isinstance(one, Connection)
    assert isinstance(one.outbox, MultiplexedOutbox)
    return one.outbox


@pytest.mark.parametrize("codec", ["json", "msgpack"])
async def test_two_users_have_their_own_turns_under_one_id(codec: str, tmp_path: Path) -> None:
    """(`as`, `turn`) names a turn: laws 1 and 2 hold for each, answers and events carry the name."""
    async with service(tmp_path, codec) as (_, c):
        for user in ("ann", "bob"):
            started = await c.request("turn.start", **{"as": user}, turn="t", input=f"I am {user}", params=QUICK)
            assert started["status"] == "running"
        for user in ("ann", "bob"):
            await c.ending(f"{user}/t")
            assert c.turns[f"{user}/t"].text() == expected(f"I am {user}", QUICK["demo"])
        assert all("as" in frame for frame in c.frames if frame["type"] not in {"ready", "heartbeat"})


async def test_the_service_itself_is_one_more_user(tmp_path: Path) -> None:
    """Without `as` it acts for itself, and its answers carry no name."""
    async with service(tmp_path) as (_, c):
        assert c.ready["user"] == "service:backend"
        await c.request("turn.start", turn="t", input="x", params=QUICK)
        await c.ending("t")
        assert await code(c.request("turn.get", **{"as": "ann"}, turn="t")) == "not_found"


async def test_what_is_another_s_does_not_exist(tmp_path: Path) -> None:
    """Law 12, on one socket."""
    async with service(tmp_path) as (_, c):
        started = await c.request("turn.start", **{"as": "ann"}, turn="t", input="secret", params=QUICK)
        await c.ending("ann/t")
        for kind, fields in {
            "turn.get": {"turn": "t"},
            "conversation.get": {"conversation": started["conversation"]},
            "conversation.attach": {"conversation": started["conversation"]},
            "conversation.messages": {"conversation": started["conversation"]},
        }.items():
            assert await code(c.request(kind, **{"as": "bob"}, **fields)) == "not_found", kind
        answer = await c.request("turn.cancel", **{"as": "bob"}, turn="t")
        assert answer == {"turns": {"t": "not_found"}}
        assert await c.request("conversation.list", **{"as": "bob"}) == {"conversations": []}


async def test_without_the_scope_nobody_says_as(tmp_path: Path) -> None:
    """Neither a user, nor a service that may not; the request is refused and the connection stays."""
    async with service(tmp_path, scopes={"chat", "read"}) as (_, c):
        assert await code(c.request("turn.start", **{"as": "ann"}, input="x")) == "forbidden"
        assert (await c.request("turn.start", turn="t", input="x"))["status"] == "running"


async def test_a_service_gives_no_more_than_it_has(tmp_path: Path) -> None:
    """Its scopes are its users'."""
    async with service(tmp_path, scopes={"chat", "as"}) as (_, c):
        assert (await c.request("turn.start", **{"as": "ann"}, turn="t", input="x"))["status"] == "running"
        assert await code(c.request("turn.cancel", **{"as": "ann"}, turn="t")) == "forbidden"


@pytest.mark.parametrize("user", ["", "a\nb", "x" * 256, "ü" * 200, "service:backend", 7])
async def test_a_name_that_nobody_can_have(user: Any, tmp_path: Path) -> None:
    """Is refused, and says which field it is."""
    async with service(tmp_path) as (_, c):
        with pytest.raises(RequestFailed) as refused:
            await c.request("ping", **{"as": user})
        assert (refused.value.code, refused.value.error["path"]) == ("invalid_request", "as")


async def test_a_broken_frame_is_answered_to_whom_it_names(tmp_path: Path) -> None:
    """Where that could be read."""
    async with service(tmp_path) as (_, c):
        await c.send_raw('{"type":"fly","as":"ann","id":"1"}')
        await c.send_raw('{"type":"fly","id":"2"}')
        await c.send_raw('{"type":"auth","as":"ann","id":"3","token":"x"}')
        await c.until(lambda: {"1", "2", "3"} <= set(c._answers))
        assert [c._answers[name].get("as") for name in "123"] == ["ann", None, "ann"]
        assert c._answers["3"]["error"]["path"] == "as"


async def test_an_id_in_flight_is_a_user_s(tmp_path: Path) -> None:
    """Two users may use the same at the same time."""
    async with service(tmp_path) as (_, c):
        await c.send_raw('{"type":"conversation.list","as":"ann","id":"1"}')
        await c.send_raw('{"type":"conversation.list","as":"bob","id":"1"}')
        await c.send_raw('{"type":"conversation.list","as":"bob","id":"1"}')

        def answers() -> list[tuple[str, str]]:
            return sorted((frame["as"], frame["type"]) for frame in c.frames if frame.get("id") == "1")

        c._answers = AnyNumber()
        await c.until(lambda: len(answers()) == 3)
        assert answers() == [("ann", "result"), ("bob", "error"), ("bob", "result")]


class AnyNumber(dict[str, Any]):
    """Takes a second answer to one id, which a client of one user must never get."""

    def __contains__(self, key: object) -> bool:
        return False


async def test_limits_count_for_each_user(tmp_path: Path) -> None:
    """One's turns take nobody else's places."""
    async with service(tmp_path, turns_per_connection=1) as (_, c):
        slow = {"demo": {"rate": 5, "tokens": 100}}
        for user in ("ann", "bob"):
            await c.request("turn.start", **{"as": user}, input="x", params=slow)
        assert await code(c.request("turn.start", **{"as": "ann"}, input="x", params=slow)) == "rate_limited"


async def test_idle_users_are_forgotten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who only came by takes no room; who follows, watches or runs something stays."""
    monkeypatch.setattr(behalf, "IDLE_SESSIONS_MAX", 4)
    async with service(tmp_path) as (server, c):
        await c.request(
            "turn.start", **{"as": "busy"}, turn="t", input="x", params={"demo": {"rate": 20, "tokens": 100}}
        )
        made = await c.request("conversation.create", **{"as": "watcher"})
        await c.request("conversation.attach", **{"as": "watcher"}, conversation=made["id"])
        for n in range(50):
            await c.request("ping", **{"as": f"u{n}"})
        kept = set(lanes_of(server)._user_outboxes)
        assert {"busy", "watcher"} <= kept
        assert len(kept) <= 2 * 2 + 4
        await c.request("ping", **{"as": "u0"})
        await c.request("turn.start", **{"as": "watcher"}, turn="w", input="x", conversation=made["id"], params=QUICK)
        await c.ending("watcher/w")


async def test_when_the_service_goes_the_turns_go_on(tmp_path: Path) -> None:
    """Law 8, for each user; nothing is left attached."""
    async with service(tmp_path) as (server, c):
        await c.request("turn.start", **{"as": "ann"}, turn="t", input="x", params={"demo": {"rate": 5, "tokens": 100}})
        await c.socket.close()
        stream = server.gateway.services.registry.get("ann", "t")
        assert stream is not None
        async with client(server.ws_url, additional_headers=auth_of(c)) as again:
            attached = await again.request("turn.attach", **{"as": "ann"}, turn="t")
            assert attached["turns"]["t"]["status"] == "running"


def auth_of(c: Client) -> dict[str, str]:
    """The credential that a client came with."""
    assert c.socket.request is not None
    return {"Authorization": c.socket.request.headers["Authorization"]}


async def test_a_service_that_renews_with_less_speaks_for_nobody_any_more() -> None:
    """The scope is looked at with every frame."""
    backend = "backend"
    async with (
        serving(auth="jwt", jwt_secret=SECRET) as server,
        client(server.ws_url, additional_headers=bearer(token(backend, scope="chat read as"))) as c,
    ):
        assert await c.request("ping", **{"as": "ann"}, t=1) == {"t": 1}
        await c.request("auth", token=token(backend, scope="chat read"))
        assert await code(c.request("ping", **{"as": "ann"})) == "forbidden"
        assert await c.request("ping", t=2) == {"t": 2}


async def test_a_service_that_reads_nothing_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each frame names another user: sessions and lanes stay few until the service reads, and then nothing is missing."""
    monkeypatch.setattr(lanes, "USERS_WAITING_MAX", 50)
    file = KeyFile(tmp_path)
    key, count = file.add_service("backend"), 20_000
    async with serving(auth="keys", api_keys=str(file.path)) as server:
        reader, writer = await connect_websocket(server.url, f"Authorization: Bearer {key}\r\n")
        asked = ({"type": "ping", "id": "1", "as": f"user {n}", "t": n} for n in range(count))
        writer.write(b"".join(RawFrame(TEXT, json.dumps(frame).encode()).encode() for frame in asked))
        waiting = lanes_of(server)
        await eventually(lambda: len(waiting._rotation) > 50)
        await asyncio.sleep(0.5)
        assert len(waiting._user_outboxes) < 1000
        answers = 0
        while answers < count:
            answers += (await asyncio.wait_for(reader.read(2**20), 20)).count(b'"t":')
        assert answers == count
        writer.close()


async def test_so_many_requests_of_all_users_are_in_flight(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of one connection; the rest is read when some are answered."""
    monkeypatch.setattr(connection, "REQUESTS_MAX", 4)
    async with service(tmp_path) as (server, c):
        (open_one,) = server.gateway.services.clients.all()
        assert isinstance(open_one, Connection)
        most = 0
        asked = [await c.send("turn.get", **{"as": f"user {n}"}, turn="t") for n in range(300)]
        for one in asked:
            waiting = asyncio.create_task(c.answer(one))
            while not waiting.done():
                most = max(most, len(open_one._requests))
                await asyncio.sleep(0)
            with pytest.raises(RequestFailed):
                await waiting
        assert 0 < most <= 4
