"""One connection that acts for many users: permission, isolation between the users, bounds, and removal of idle users."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from gateway.requests import delegated
from gateway.sockets import endpoint
from gateway.sockets.endpoint import Connection
from gateway.streams import multiplexed_outbox
from gateway.streams.multiplexed_outbox import MultiplexedOutbox
from tests.client import Client, RequestFailed, client
from tests.credentials import SECRET, KeyFile, bearer, token
from tests.demo import expected
from tests.in_loop_server import InLoopServer, serving
from tests.in_process import eventually
from tests.raw_socket import TEXT, RawFrame, connect_websocket

FAST = {"demo": {"rate": 0}}


@asynccontextmanager
async def service(
    folder: Path, codec: str = "json", scopes: set[Any] | None = None, **fields: Any
) -> AsyncIterator[tuple[InLoopServer, Client]]:
    """Start a gateway and connect a service to it."""
    file = KeyFile(folder)
    key = file.add_service("backend", scopes)
    async with (
        serving(auth="keys", api_keys=str(file.path), **fields) as server,
        client(server.ws_url, codec=codec, additional_headers=bearer(key)) as c,
    ):
        yield server, c


async def code(waiting: Any) -> str:
    """Return the code with which the request is refused."""
    with pytest.raises(RequestFailed) as refused:
        await waiting
    return refused.value.code


def outbox_of(server: InLoopServer) -> MultiplexedOutbox:
    """Return the outbox of the only connection."""
    (one,) = server.gateway.services.clients.all()
    assert isinstance(one, Connection)
    assert isinstance(one.outbox, MultiplexedOutbox)
    return one.outbox


@pytest.mark.parametrize("codec", ["json", "msgpack"])
async def test_two_users_have_their_own_turns_under_one_id(codec: str, tmp_path: Path) -> None:
    """A turn is identified by `as` and `turn`: laws 1 and 2 apply to each, and answers and events have `as`."""
    async with service(tmp_path, codec) as (_, c):
        for user in ("ann", "bob"):
            started = await c.request("turn.start", **{"as": user}, turn="t", input=f"I am {user}", params=FAST)
            assert started["status"] == "running"
        for user in ("ann", "bob"):
            await c.ending(f"{user}/t")
            assert c.turns[f"{user}/t"].text() == expected(f"I am {user}", FAST["demo"])
        assert all("as" in frame for frame in c.frames if frame["type"] not in {"ready", "heartbeat"})


async def test_a_service_without_as_acts_for_itself(tmp_path: Path) -> None:
    """Without `as` a service is a user of its own, which doesn't see other users' turns."""
    async with service(tmp_path) as (_, c):
        assert c.ready["user"] == "service:backend"
        await c.request("turn.start", turn="t", input="x", params=FAST)
        await c.ending("t")
        assert await code(c.request("turn.get", **{"as": "ann"}, turn="t")) == "not_found"


async def test_another_users_objects_are_not_found(tmp_path: Path) -> None:
    """Law 12 applies between the users of one socket."""
    async with service(tmp_path) as (_, c):
        started = await c.request("turn.start", **{"as": "ann"}, turn="t", input="secret", params=FAST)
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


async def test_as_without_the_scope_is_forbidden(tmp_path: Path) -> None:
    """If the service lacks the scope `as`, its requests with `as` are refused, and the connection stays open."""
    async with service(tmp_path, scopes={"chat", "read"}) as (_, c):
        assert await code(c.request("turn.start", **{"as": "ann"}, input="x")) == "forbidden"
        assert (await c.request("turn.start", turn="t", input="x"))["status"] == "running"


async def test_delegated_users_have_the_scopes_of_the_service(tmp_path: Path) -> None:
    """A user of a service without the scope to cancel can't cancel either."""
    async with service(tmp_path, scopes={"chat", "as"}) as (_, c):
        assert (await c.request("turn.start", **{"as": "ann"}, turn="t", input="x"))["status"] == "running"
        assert await code(c.request("turn.cancel", **{"as": "ann"}, turn="t")) == "forbidden"


@pytest.mark.parametrize("user", ["", "a\nb", "x" * 256, "ü" * 200, "service:backend", 7])
async def test_an_invalid_user_name_is_refused(user: Any, tmp_path: Path) -> None:
    """An invalid `as` is refused, and the error names the field."""
    async with service(tmp_path) as (_, c):
        with pytest.raises(RequestFailed) as refused:
            await c.request("ping", **{"as": user})
        assert (refused.value.code, refused.value.error["path"]) == ("invalid_request", "as")


async def test_the_error_of_an_invalid_frame_names_its_user(tmp_path: Path) -> None:
    """The error has the frame's `as` if that could be decoded. An `auth` with `as` is refused."""
    async with service(tmp_path) as (_, c):
        await c.send_raw('{"type":"fly","as":"ann","id":"1"}')
        await c.send_raw('{"type":"fly","id":"2"}')
        await c.send_raw('{"type":"auth","as":"ann","id":"3","token":"x"}')
        await c.until(lambda: {"1", "2", "3"} <= set(c._answers))
        assert [c._answers[name].get("as") for name in "123"] == ["ann", None, "ann"]
        assert c._answers["3"]["error"]["path"] == "as"


async def test_an_id_in_flight_belongs_to_its_user(tmp_path: Path) -> None:
    """Two users may use the same request id at the same time."""
    async with service(tmp_path) as (_, c):
        await c.send_raw('{"type":"conversation.list","as":"ann","id":"1"}')
        await c.send_raw('{"type":"conversation.list","as":"bob","id":"1"}')
        await c.send_raw('{"type":"conversation.list","as":"bob","id":"1"}')

        def answers() -> list[tuple[str, str]]:
            return sorted((frame["as"], frame["type"]) for frame in c.frames if frame.get("id") == "1")

        c._answers = ForgetfulAnswers()
        await c.until(lambda: len(answers()) == 3)
        assert answers() == [("ann", "result"), ("bob", "error"), ("bob", "result")]


class ForgetfulAnswers(dict[str, Any]):
    """Answers that allow a second answer to one id, which a client of one user must never get."""

    def __contains__(self, key: object) -> bool:
        return False


async def test_limits_apply_to_each_user(tmp_path: Path) -> None:
    """One user's turns don't count against another user's limit."""
    async with service(tmp_path, turns_per_connection=1) as (_, c):
        slow = {"demo": {"rate": 5, "tokens": 100}}
        for user in ("ann", "bob"):
            await c.request("turn.start", **{"as": user}, input="x", params=slow)
        assert await code(c.request("turn.start", **{"as": "ann"}, input="x", params=slow)) == "rate_limited"


async def test_idle_users_are_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If there are too many users, those with neither a subscription nor a running or attached turn are removed."""
    monkeypatch.setattr(delegated, "IDLE_SESSIONS_MAX", 4)
    async with service(tmp_path) as (server, c):
        await c.request(
            "turn.start", **{"as": "busy"}, turn="t", input="x", params={"demo": {"rate": 20, "tokens": 100}}
        )
        made = await c.request("conversation.create", **{"as": "subscriber"})
        await c.request("conversation.attach", **{"as": "subscriber"}, conversation=made["id"])
        for n in range(50):
            await c.request("ping", **{"as": f"u{n}"})
        kept = set(outbox_of(server)._user_outboxes)
        assert {"busy", "subscriber"} <= kept
        assert len(kept) <= 2 * 2 + 4
        await c.request("ping", **{"as": "u0"})
        await c.request("turn.start", **{"as": "subscriber"}, turn="w", input="x", conversation=made["id"], params=FAST)
        await c.ending("subscriber/w")


async def test_turns_continue_after_the_service_disconnects(tmp_path: Path) -> None:
    """Law 8 applies to each user: after a disconnect the turn runs, and can be attached again."""
    async with service(tmp_path) as (server, c):
        await c.request("turn.start", **{"as": "ann"}, turn="t", input="x", params={"demo": {"rate": 5, "tokens": 100}})
        await c.socket.close()
        stream = server.gateway.services.registry.get("ann", "t")
        assert stream is not None
        async with client(server.ws_url, additional_headers=auth_of(c)) as again:
            attached = await again.request("turn.attach", **{"as": "ann"}, turn="t")
            assert attached["turns"]["t"]["status"] == "running"


def auth_of(c: Client) -> dict[str, str]:
    """Return the Authorization header of the client's connection."""
    assert c.socket.request is not None
    return {"Authorization": c.socket.request.headers["Authorization"]}


async def test_a_service_that_renews_without_the_scope_loses_as() -> None:
    """The scope is checked with every frame."""
    backend = "backend"
    async with (
        serving(auth="jwt", jwt_secret=SECRET) as server,
        client(server.ws_url, additional_headers=bearer(token(backend, scope="chat read as"))) as c,
    ):
        assert await c.request("ping", **{"as": "ann"}, t=1) == {"t": 1}
        await c.request("auth", token=token(backend, scope="chat read"))
        assert await code(c.request("ping", **{"as": "ann"})) == "forbidden"
        assert await c.request("ping", t=2) == {"t": 2}


async def test_a_service_that_does_not_read_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each frame names a different user. The gateway has few user outboxes until the service reads. Then it sends every
    answer."""
    monkeypatch.setattr(multiplexed_outbox, "USERS_WAITING_MAX", 50)
    file = KeyFile(tmp_path)
    key, count = file.add_service("backend"), 20_000
    # This client answers no pings, so none is sent.
    async with serving(auth="keys", api_keys=str(file.path), ping_interval_s=600) as server:
        reader, writer = await connect_websocket(server.url, f"Authorization: Bearer {key}\r\n")
        asked = ({"type": "ping", "id": "1", "as": f"user {n}", "t": n} for n in range(count))
        writer.write(b"".join(RawFrame(TEXT, json.dumps(frame).encode()).encode() for frame in asked))
        waiting = outbox_of(server)
        await eventually(lambda: len(waiting._rotation) > 50)
        await asyncio.sleep(0.5)
        assert len(waiting._user_outboxes) < 1000
        answers = 0
        while answers < count:
            answers += (await asyncio.wait_for(reader.read(2**20), 20)).count(b'"t":')
        assert answers == count
        writer.close()


async def test_the_requests_of_all_users_in_flight_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The bound applies to one connection. Further frames are read after some requests are answered."""
    monkeypatch.setattr(endpoint, "REQUESTS_MAX", 4)
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
