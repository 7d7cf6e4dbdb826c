"""Plain HTTP: for whom a request is, with curl. `user_id` names the user where auth is off, or to a service."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from redis import Redis

from gateway.http.dialects.addresses import SOCKETS
from gateway.http.user_in_body import DAY_MS, KEPT_MS_MAX, kept_ms
from gateway.identity.principal import Principal
from tests.client import RequestFailed, client
from tests.credentials import SECRET, KeyFile, bearer, token
from tests.curl import Answer, curl
from tests.demo import expected
from tests.in_loop_server import InLoopServer, serving
from tests.redis_process import redis_process

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(60)]

DEMO = {"rate": 0, "tokens": 12}
TEXT = expected("Hello", DEMO)


def said(session: str, user: str | None = None, message: str = "Hello") -> dict[str, Any]:
    body: dict[str, Any] = {"session_id": session, "message": message, "demo": DEMO}
    return body if user is None else {**body, "user_id": user}


def target(answer: Answer) -> str:
    """Return the address in `Link`."""
    return answer.headers["link"].partition(">")[0].removeprefix("<")


def contents(answer: Answer) -> list[str]:
    return [one["content"] for one in answer.json["messages"]]


async def read(server: InLoopServer, path: str, **headers: str) -> Answer:
    answer = await curl("GET", server.url + path, **headers)
    assert answer.status == 200, answer
    return answer


async def opening_status(url: str, headers: dict[str, str]) -> int:
    """Open a socket, and return the status of the answer."""
    at = urlsplit(url)
    sent = {"Host": at.netloc, "Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13"}
    sent |= {"Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==", **headers}
    reader, writer = await asyncio.open_connection(at.hostname, at.port)
    lines = [f"GET {at.path}?{at.query} HTTP/1.1", *(f"{name}: {value}" for name, value in sent.items())]
    writer.write("\r\n".join([*lines, "", ""]).encode())
    status = (await reader.readline()).split()[1]
    writer.close()
    return int(status)


async def test_a_user_is_named_where_auth_is_off() -> None:
    """The session is that user's, also in requests that name nobody. A socket with `user_id` in its address is that user's."""
    async with serving() as server:
        async with client(f"{server.ws_url}?user_id=ann") as socket:
            assert socket.ready["user"] == "ann"
            await socket.request("conversation.create", conversation="s")
            await socket.request("conversation.attach", conversation="s")
            sent = await curl("POST", f"{server.url}/chat", said("s", "ann"))
            turn = sent.json["message_id"]
            assert (await socket.ending(turn))["type"] == "turn.completed"
            assert socket.turns[turn].text() == TEXT
        assert target(sent) == f"/v1/turns/{turn}/events?user_id=ann"
        events = await read(server, target(sent))
        assert "".join(one.get("text", "") for one in events.events if one["type"] == "turn.delta") == TEXT
        for path in ("/history/s", "/history/s?user_id=ann", "/api/chat/history?sessionId=s"):
            assert contents(await read(server, path)) == ["Hello", TEXT], path
        assert contents(await read(server, "/history/s?user_id=eve")) == []
        listed = (await read(server, "/api/v1/conversations?user_id=ann")).json["conversations"]
        assert [(one["id"], one["user_id"]) for one in listed] == [("s", "ann")]
        assert (await read(server, "/api/v1/conversations")).json["count"] == 0
        async with client(server.ws_url) as socket:
            with pytest.raises(RequestFailed):
                await socket.request("conversation.get", conversation="s")

        body = {"message": "Hi", "sessionId": "s", "userId": "eve", "demo": DEMO}
        await curl("POST", f"{server.url}/api/chat", body)
        assert contents(await read(server, "/history/s?user_id=eve"))[0] == "Hi"
        assert contents(await read(server, "/history/s?user_id=ann")) == ["Hello", TEXT]
        assert (await curl("DELETE", f"{server.url}/history/s?user_id=ann")).status == 200
        assert contents(await read(server, "/history/s?user_id=ann")) == []
        assert contents(await read(server, "/history/s?user_id=eve"))[0] == "Hi"
        bad = await curl("GET", f"{server.url}/history/s?user_id=service:x")
        assert (bad.status, bad.json["error"]["path"]) == (400, "user_id")


async def test_who_may_name_a_user(tmp_path: Path) -> None:
    """With auth, a service with the scope `as` may name any user. An operator may only list a user's conversations."""
    keys = KeyFile(tmp_path)
    service, boss = bearer(keys.add_service()), bearer(keys.add("boss", {"admin"}))
    ann, eve = bearer(token("ann")), bearer(token("eve"))
    settings = {"auth": "jwt,keys", "jwt_secret": SECRET, "api_keys": str(keys.path)}
    async with serving(**settings) as server:
        own = await curl("POST", f"{server.url}/chat", said("own", "ann"), **ann)
        assert (own.status, "?" in target(own)) == (200, False)
        assert '"turn.completed"' in (await read(server, target(own), **ann)).text
        for headers in (eve, boss):
            for method, path, body in (
                ("POST", "/chat", said("own", "ann")),
                ("POST", "/api/chat", {"message": "Hi", "user_id": "ann"}),
                ("POST", "/api/v1/conversations", {"user_id": "ann"}),
                ("GET", "/history/own?user_id=ann", None),
                ("DELETE", "/history/own?user_id=ann", None),
                ("GET", f"{target(own)}?user_id=ann", None),
                *([("GET", "/api/v1/conversations?user_id=ann", None)] if headers is eve else []),
            ):
                refused = await curl(method, server.url + path, body, **headers)
                assert (refused.status, refused.json["error"]["path"]) == (403, "user_id"), (method, path)

        sent = await curl("POST", f"{server.url}/chat", said("served", "ann"), **service)
        assert '"turn.completed"' in (await read(server, target(sent), **service)).text
        for headers in (ann, service):
            assert contents(await read(server, "/history/served", **headers)) == ["Hello", TEXT]
        assert contents(await read(server, "/history/served", **eve)) == []
        named = {**service, "Turnwire-As": "ann"}
        assert contents(await read(server, "/history/served", **named)) == ["Hello", TEXT]
        other = await curl("GET", f"{server.url}/history/served?user_id=eve", **named)
        assert (other.status, other.json["error"]["path"]) == (403, "user_id"), "a header has named the user"

        listed = await read(server, "/api/v1/conversations?user_id=ann", **boss)
        assert {(one["id"], one["user_id"]) for one in listed.json["conversations"]} == {
            ("own", "ann"),
            ("served", "ann"),
        }
        assert (await curl("GET", f"{server.url}/api/v1/conversations/own", **boss)).status == 403

        nobody = await curl("POST", f"{server.url}/chat", said("own"))
        assert (nobody.status, nobody.json["error"]["code"]) == (401, "unauthenticated")
        shared = await curl("POST", f"{server.url}/api/chat", {"message": "Hi"}, accept="application/json")
        assert shared.json == nobody.json
        shared = await curl("POST", f"{server.url}/api/chat", {"message": "Hi"})
        assert shared.headers["content-type"].startswith("text/plain")
        assert (await read(server, "/api/health")).json == {"status": "ok"}


async def test_the_user_of_a_session_isnt_kept_longer_than_the_session(tmp_path: Path) -> None:
    """On Redis without an archive, a session expires by itself; elsewhere it has the retention."""
    with redis_process(tmp_path) as redis:
        async with serving(store=redis.url, history_ttl_s=15) as server:
            assert (await curl("POST", f"{server.url}/chat", said("s", "ann"))).status == 200
            assert (await curl("POST", f"{server.url}/api/chat/sessions/t", {"user_id": "ann"})).status == 200
            with Redis(port=redis.port) as direct:
                found = list(direct.scan_iter("*session:*"))
                assert len(found) == 2
                assert all(0 < int(direct.pttl(key)) <= 15_000 for key in found)
    async with serving(retention_days=2) as server:
        assert (await curl("POST", f"{server.url}/chat", said("s", "ann"))).status == 200
        assert kept_ms(server.gateway.services, Principal(user="ann")) == 2 * DAY_MS
        assert kept_ms(server.gateway.services, Principal(user="ann", retention_days=0)) == KEPT_MS_MAX


@pytest.mark.parametrize("path", ["/ws", *(path for path, _ in SOCKETS)])
async def test_no_other_site_opens_a_socket(path: str) -> None:
    """Where auth is off, the address may name the user, so a browser's page must be the gateway's own."""
    async with serving() as server:
        url = f"{server.ws_url.removesuffix('/ws')}{path}?user_id=ann"
        for headers in ({"Origin": "http://evil.example"}, {"Origin": "null"}, {"Host": "evil.example"}):
            assert await opening_status(url, headers) == 403, headers
        assert await opening_status(url, {"Origin": server.url}) == 101
        assert await opening_status(url.replace("ann", "service:x"), {}) == 400
