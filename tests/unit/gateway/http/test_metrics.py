"""Tests of `GET /metrics` over real sockets: permissions and contents."""

from __future__ import annotations

import httpx2
import pytest

from tests.client import client
from tests.credentials import SECRET, bearer, token
from tests.in_loop_server import serving
from tests.metrics import samples, value

JWT = {"auth": "jwt", "jwt_secret": SECRET}


async def get(url: str, headers: dict[str, str] | None = None) -> httpx2.Response:
    """Request the metrics."""
    async with httpx2.AsyncClient() as http:
        return await http.get(f"{url}/metrics", headers=headers)


@pytest.mark.parametrize(
    ("fields", "headers", "status"),
    [
        ({}, {}, 200),
        ({"insecure": True}, {}, 403),
        ({"insecure": True, "metrics": "public"}, {}, 200),
        ({"metrics": "off"}, {}, 404),
        (JWT, {}, 401),
        (JWT, bearer(token("ann")), 403),
        (JWT, bearer(token("ops", scope="admin")), 200),
        ({**JWT, "metrics": "public"}, {}, 200),
    ],
)
async def test_permission_to_read_the_metrics(fields: dict[str, object], headers: dict[str, str], status: int) -> None:
    """Administrators may read them, and so may every client of a loopback port with auth off.

    Public metrics are open to all, and metrics that are off are not found.
    """
    async with serving(**fields) as server:
        answer = await get(server.url, headers)
        assert answer.status_code == status
        assert answer.headers["content-type"].startswith("text/plain" if status == 200 else "application/json")


async def test_the_metrics_record_requests() -> None:
    """Connections, turns, a cancel, a resume with its bytes, a refusal and the store calls are recorded."""
    async with serving() as server, client(server.ws_url) as c:
        await c.request("turn.start", turn="t", input="Hi", params={"demo": {"tokens": 5}})
        await c.ending("t")
        await c.request("turn.start", turn="u", input="Hi", params={"demo": {"rate": 20, "tokens": 1000}})
        await c.until_seq("u", 2)
        text = (await get(server.url)).text
        assert ("turnwire_turns", (("model", "demo"), ("state", "running"))) in samples(text), "all of it can be parsed"
        assert value(text, "turnwire_turns", state="running", model="demo") == 1
        assert value(text, "turnwire_connections", transport="websocket") == 1
        await c.request("turn.cancel", turn="u")
        async with httpx2.AsyncClient() as http:
            resumed = await http.get(
                f"{server.url}/v1/turns/u/events",
                headers={"last-event-id": f"{c.turns['u'].epoch}-2", "accept": "text/event-stream"},
            )
            assert "turn.cancelled" in resumed.text
        with pytest.raises(Exception, match="not_found"):
            await c.request("conversation.get", conversation="c_none")
        text = (await get(server.url)).text
    assert value(text, "turnwire_turns_ended_total", status="completed", model="demo") == 1
    assert value(text, "turnwire_turns_ended_total", status="cancelled", model="demo") == 1
    assert value(text, "turnwire_cancel_seconds_count", where="here") == 1
    assert value(text, "turnwire_resumes_total", outcome="continued") == 1
    assert value(text, "turnwire_replayed_bytes_total") > 0
    assert value(text, "turnwire_refusals_total", code="not_found") == 1
    assert value(text, "turnwire_store_seconds_count", operation="accept") == 2
    assert value(text, "turnwire_connections_opened_total", transport="websocket") == 1
    assert value(text, "turnwire_build_info") == 1


async def test_feedback_is_counted_by_model_and_rating() -> None:
    """A changed rating is counted again; a repeated one, or another comment, isn't. A user's message has no model."""
    async with serving() as server, client(server.ws_url) as c:
        result = await c.request("turn.start", turn="t", input="Hi", params={"demo": {"tokens": 5}})
        answer = (await c.ending("t"))["message"]
        for rating, comment in (("up", None), ("up", "Good."), ("down", None), ("up", None), (5, None)):
            await c.request("feedback.put", message=answer, rating=rating, comment=comment)
        page = await c.request("conversation.messages", conversation=result["conversation"])
        await c.request("feedback.put", message=page["messages"][0]["id"], rating="up")
        text = (await get(server.url)).text
    for (model, rating), count in {
        ("demo", "up"): 2,
        ("demo", "down"): 1,
        ("demo", "5"): 1,
        ("other", "up"): 1,
    }.items():
        assert value(text, "turnwire_feedback_total", model=model, rating=rating) == count
