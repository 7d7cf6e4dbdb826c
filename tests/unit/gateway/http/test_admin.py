"""Tests of the admin API over HTTP: permissions, lists, cancelled turns, closed connections, and a drain."""

from __future__ import annotations

from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import httpx2
import pytest

from tests.client import client
from tests.credentials import SECRET, bearer, token
from tests.in_loop_server import serving
from tests.in_process import SLOW
from tests.redis_process import redis_process

JWT = {"auth": "jwt", "jwt_secret": SECRET}
ADMIN = bearer(token("ops", scope="admin"))
CALLS = [
    ("GET", "turns"),
    ("GET", "connections"),
    ("GET", "feedback"),
    ("POST", "turns/t/cancel"),
    ("POST", "connections/cn_x/close"),
    ("POST", "drain"),
]


async def admin_request(
    url: str, method: str, path: str, body: Any = None, headers: dict[str, str] = ADMIN
) -> httpx2.Response:
    """Send one request below `/v1/admin`."""
    async with httpx2.AsyncClient() as http:
        return await http.request(method, f"{url}/v1/admin/{path}", json=body, headers=headers)


@pytest.mark.parametrize(("method", "path"), CALLS)
async def test_only_an_administrator_is_allowed(method: str, path: str) -> None:
    """A request is refused without a credential, with a user's credential, and with auth off and `insecure` set."""
    async with serving(**JWT) as server:
        for headers, status in (({}, 401), (bearer(token("ann")), 403)):
            assert (await admin_request(server.url, method, path, headers=headers)).status_code == status
        assert not server.gateway.services.runner.is_draining
    async with serving(insecure=True) as server:
        assert (await admin_request(server.url, method, path, headers={})).status_code == 403


async def test_turns_and_connections_are_listed() -> None:
    """The lists contain the users, and `user` filters the turns."""
    async with (
        serving(**JWT) as server,
        client(server.ws_url, additional_headers=bearer(token("ann"))) as ann,
        client(server.ws_url, additional_headers=bearer(token("bob"))) as bob,
    ):
        for c in (ann, bob):
            await c.request("turn.start", turn="t", input="Hi", params={"demo": SLOW})
            await c.until_seq("t", 1)
        found = (await admin_request(server.url, "GET", "turns")).json()
        assert [(turn["user"], turn["status"], turn["readers"]) for turn in found["turns"]] == [
            ("ann", "running", 1),
            ("bob", "running", 1),
        ]
        assert (await admin_request(server.url, "GET", "turns?user=bob")).json()["turns"][0]["user"] == "bob"
        listed = (await admin_request(server.url, "GET", "connections")).json()
        assert listed["instance"] == found["instance"] == ann.ready["instance"]
        assert [(one["user"], one["connection"], one["turns"]) for one in listed["connections"]] == [
            ("ann", ann.ready["connection"], 1),
            ("bob", bob.ready["connection"], 1),
        ]


@pytest.mark.parametrize("shared", [False, True], ids=["sqlite", "redis"])
async def test_feedback_is_listed_for_the_operator(tmp_path: Path, shared: bool) -> None:
    """It is filtered by model, rating and time, and read in pages, newest first. A deleted conversation has none."""
    async with AsyncExitStack() as stack:
        store = stack.enter_context(redis_process(tmp_path)).url if shared else "sqlite:///:memory:"
        server = await stack.enter_async_context(serving(store=store, **JWT))
        given = [("ann", "up", None), ("ann", 5, "Five."), ("bob", "down", "No."), ("bob", "up", "Yes.")]
        turns = []
        for n, (user, rating, comment) in enumerate(given):
            async with httpx2.AsyncClient(base_url=server.url, headers=bearer(token(user))) as http:
                start = {"turn": f"t{n}", "input": "Hi", "params": {"demo": {"text": "Yes.", "rate": 0}}}
                turn = (await http.post("/v1/turns", json=start)).json()
                address = f"/v1/messages/{turn['message']['id']}/feedback"
                assert (await http.post(address, json={"rating": rating, "comment": comment})).status_code == 200
                turns.append(turn)

        async def found(**query: Any) -> list[dict[str, Any]]:
            answer = await admin_request(server.url, "GET", f"feedback?{urlencode(query)}")
            assert answer.status_code == 200, answer.text
            page: dict[str, Any] = answer.json()
            feedback: list[dict[str, Any]] = page["feedback"]
            return feedback + (await found(**{**query, "before": page["next"]}) if "next" in page else [])

        whole = await found()
        assert [(one["user"], one["rating"], one.get("comment")) for one in whole] == given[::-1]
        assert whole[1] == {
            "user": "bob",
            "message": turns[2]["message"]["id"],
            "conversation": turns[2]["conversation"],
            "turn": "t2",
            "model": "demo",
            "rating": "down",
            "comment": "No.",
            "rated_at": whole[1]["rated_at"],
        }
        assert await found(limit=1) == await found(limit=3) == whole
        assert await found(rating="up") == [whole[0], whole[3]]
        assert await found(rating=5) == [whole[2]]
        assert await found(model="demo", limit=2) == whole
        assert await found(model="gpt-x") == []
        times = [one["rated_at"] for one in whole]
        assert await found(since=times[1]) == [one for one in whole if one["rated_at"] >= times[1]]
        assert await found(until=times[1]) == [one for one in whole if one["rated_at"] < times[1]]
        for query, path in (("rating=6", "rating"), ("since=now", "since"), ("until=1", "until"), ("before=x", "before"),
                            ("before=9-", "before"), ("before=9999999999999999-m", "before"), ("limit=0", "limit")):  # fmt: skip
            answer = await admin_request(server.url, "GET", f"feedback?{query}")
            assert (answer.status_code, answer.json()["error"]["path"]) == (400, path)
        async with httpx2.AsyncClient(base_url=server.url, headers=bearer(token("bob"))) as http:
            assert (await http.delete(f"/v1/conversations/{turns[2]['conversation']}")).status_code == 200
        assert await found() == [whole[0], *whole[2:]]


async def test_a_page_of_feedback_is_bounded() -> None:
    """As in the other lists, a page has at most about 128 KiB, even if the `limit` allows more feedback."""
    async with serving() as server, client(server.ws_url) as c:
        comment = "\x01" * 2000
        for n in range(15):
            await c.request("turn.start", turn=f"t{n}", input="Hi", params={"demo": {"text": "Yes.", "rate": 0}})
            ended = await c.ending(f"t{n}")
            await c.request("feedback.put", message=ended["message"], rating="up", comment=comment)
        answer = await admin_request(server.url, "GET", "feedback", headers={})
        assert len(answer.content) < 140_000
        rest = await admin_request(server.url, "GET", f"feedback?before={answer.json()['next']}", headers={})
        assert len(answer.json()["feedback"]) + len(rest.json()["feedback"]) == 15


async def test_a_turn_is_stopped_by_the_operator() -> None:
    """The turn is cancelled by `admin` with the given reason. If two users have a turn of this id, `user` is required.

    An unknown id is `not_found`.
    """
    async with (
        serving(**JWT) as server,
        client(server.ws_url, additional_headers=bearer(token("ann"))) as ann,
        client(server.ws_url, additional_headers=bearer(token("bob"))) as bob,
    ):
        for c in (ann, bob):
            await c.request("turn.start", turn="t", input="Hi", params={"demo": SLOW})
        answer = await admin_request(server.url, "POST", "turns/t/cancel", {})
        assert (answer.status_code, answer.json()["error"]["path"]) == (400, "user")
        answer = await admin_request(server.url, "POST", "turns/t/cancel", {"user": "ann", "reason": "Enough."})
        assert answer.json() == {"turns": {"t": "cancelled"}}
        ended = await ann.ending("t")
        assert (ended["type"], ended["by"], ended["reason"]) == ("turn.cancelled", "admin", "Enough.")
        assert bob.turns["t"].ended is None
        assert (await admin_request(server.url, "POST", "turns/t/cancel", {})).json() == {"turns": {"t": "cancelled"}}
        for body in ({}, {"user": "ann"}):
            assert (await admin_request(server.url, "POST", "turns/none/cancel", body)).status_code == 404


async def test_a_connection_is_closed_and_its_turns_continue() -> None:
    """The code is 4403, so that the client doesn't reconnect. A second close is `not_found`."""
    async with serving() as server, client(server.ws_url) as c:
        await c.request("turn.start", turn="t", input="Hi", params={"demo": SLOW})
        address = f"connections/{c.ready['connection']}/close"
        assert (await admin_request(server.url, "POST", address, headers={})).status_code == 200
        assert (await c.until_closed())[0] == 4403
        assert [turn.turn for turn in server.gateway.services.registry.live()] == ["t"]
        assert (await admin_request(server.url, "POST", address, headers={})).status_code == 404


async def test_a_stream_over_http_is_closed_too() -> None:
    """The response ends, and the turn continues."""
    async with serving() as server, httpx2.AsyncClient(base_url=server.url) as http:
        body = {"turn": "t", "input": "Hi", "params": {"demo": SLOW}}
        async with http.stream("POST", "/v1/turns", json=body, headers={"accept": "text/event-stream"}) as answer:
            lines = answer.aiter_lines()
            await anext(lines)
            (one,) = (await admin_request(server.url, "GET", "connections", headers={})).json()["connections"]
            assert one["transport"] == "http"
            await admin_request(server.url, "POST", f"connections/{one['connection']}/close", headers={})
            assert not [line async for line in lines if "turn.completed" in line]
        assert [turn.turn for turn in server.gateway.services.registry.live()] == ["t"]


async def test_a_drain_is_answered_at_once() -> None:
    """The drain continues after the response. The instance is no longer ready."""
    async with serving() as server, client(server.ws_url) as c:
        assert (await admin_request(server.url, "POST", "drain", headers={})).status_code == 202
        assert (await c.until_closed())[0] == 4503
        async with httpx2.AsyncClient() as http:
            assert (await http.get(f"{server.url}/ready")).status_code == 503
