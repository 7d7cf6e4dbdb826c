"""Tests of `X-Request-ID`: over real HTTP and real sockets, in answers of every kind, and in the lines of the log."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from tests.client import client
from tests.credentials import SECRET, bearer, token
from tests.http_events import http_client, started
from tests.in_loop_server import InLoopServer, serving
from tests.in_process import eventually
from tests.raw_socket import OPENING, connect_tcp, read_to_end

JWT: dict[str, Any] = {"auth": "jwt", "jwt_secret": SECRET}
HEADERS = bearer(token("ann"))
ID = "X-Request-ID"
QUICK = {"demo": {"rate": 0, "text": "Yes."}}


def lines(caplog: pytest.LogCaptureFixture, event: str) -> Iterator[dict[str, Any]]:
    """Yield the fields of the log's lines of this event."""
    for record in caplog.records:
        if isinstance(record.msg, dict) and record.msg["event"] == event:
            yield record.msg


async def answer_to(server: InLoopServer, data: str) -> bytes:
    """Send these bytes, and return the whole answer in lower case."""
    reader, writer = await connect_tcp(server.url)
    writer.write(data.encode())
    answer = await read_to_end(reader)
    writer.close()
    return answer.lower()


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/v1", 200),
        ("GET", "/", 200),
        ("GET", "/static/turnwire.js", 200),
        ("GET", "/docs", 200),
        ("OPTIONS", "/v1/turns", 204),
        ("GET", "/nowhere", 404),
        ("PUT", "/v1/turns", 405),
        ("GET", "/v1/turns/none", 404),
        ("GET", "/v1/conversations?x=1", 400),
        ("POST", "/v1/admin/drain", 403),
        ("GET", "/ws", 426),
    ],
)
async def test_every_answer_has_the_id_of_its_request(method: str, path: str, status: int) -> None:
    """The client's id is echoed, in errors too. Without one the answer has a new id."""
    async with serving(**JWT) as server, http_client(server.url, headers=bearer(token("ann", scope="read"))) as http:
        answer = await http.request(method, path, headers={ID: "abc-123"})
        assert (answer.status_code, answer.headers.get_list(ID)) == (status, ["abc-123"])
        made = [(await http.request(method, path)).headers[ID] for _ in range(2)]
        assert all(one.startswith("rq_") for one in made)
        assert made[0] != made[1]


@pytest.mark.parametrize("sent", ["", "x" * 129, "a b", 'a"b', "é"])
async def test_an_id_that_cannot_be_used_is_replaced(sent: str) -> None:
    """An id has 1 to 128 characters that are safe in logs and headers. The request is served with a new id."""
    async with serving() as server, http_client(server.url) as http:
        answer = await http.get("/v1", headers={ID.encode(): sent.encode()})
        assert answer.status_code == 200
        assert answer.headers[ID].startswith("rq_")
        longest = "x" * 128
        assert (await http.get("/v1", headers={ID: longest})).headers[ID] == longest


async def test_streams_and_unauthenticated_requests_have_the_id() -> None:
    """A stream of events has it in its head, and a refused credential in its error."""
    async with serving(**JWT) as server, http_client(server.url, headers=HEADERS) as http:
        http.headers[ID] = "s1"
        async with started(http, input="Hi", params=QUICK) as events:
            assert events.response.headers[ID] == "s1"
            await events.ending()
        answer = await http.get("/v1/models", headers={"authorization": "Bearer x", ID: "s2"})
        assert (answer.status_code, answer.headers[ID]) == (401, "s2")


@pytest.mark.parametrize(
    "request_head",
    [
        "GET /v1 HTTP/1.1\r\nX-Request-ID: r1\r\nHost: {host}\r\nbroken\r\n\r\n",
        "GET /v1 HTTP/1.1\r\nHost: evil.example\r\nX-Request-ID: r1\r\nConnection: close\r\n\r\n",
        OPENING.replace("{more}", "X-Request-ID: r1\r\nOrigin: https://evil.example\r\n"),
        OPENING.replace("Sec-WebSocket-Version: 13", "Sec-WebSocket-Version: 12").replace(
            "{more}", "X-Request-ID: r1\r\n"
        ),
    ],
    ids=["unreadable", "wrong host", "refused opening", "invalid opening"],
)
async def test_requests_that_are_refused_early_have_the_id(request_head: str) -> None:
    """The answer has the id once if HTTP can't be parsed, if the `Host` or the `Origin` is foreign, and if the WebSocket
    library refuses an opening."""
    async with serving() as server:
        answer = await answer_to(server, request_head.format(host=server.url.partition("//")[2]))
        assert answer.count(b"\r\nx-request-id: r1\r\n") == 1, answer


async def test_the_log_line_of_a_malformed_request_has_its_id(caplog: pytest.LogCaptureFixture) -> None:
    """There is one line, with the id of the answer and the reason."""
    async with serving() as server:
        answer = await answer_to(server, "GET /v1 HTTP/1.1\r\nX-Request-ID: r1\r\nHost: h\r\nbroken\r\n\r\n")
    assert b"400 bad request" in answer
    (line,) = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert isinstance(line.msg, dict)
    assert (line.msg["event"], line.msg["request_id"]) == ("malformed request refused", "r1")


async def test_an_opening_is_answered_with_its_id() -> None:
    """The answer that accepts a socket, and the one that refuses it, have the id of the opening. An opening
    without an id gets a new one."""
    async with serving(**JWT) as server:
        async with connect(server.ws_url, additional_headers={**HEADERS, ID: "w1"}) as ws:
            assert ws.response is not None
            assert ws.response.headers.get_all(ID) == ["w1"]
        async with connect(server.ws_url, additional_headers=HEADERS) as ws:
            assert ws.response is not None
            assert ws.response.headers[ID].startswith("rq_")
        with pytest.raises(InvalidStatus) as refused:
            await connect(server.ws_url, additional_headers={"Authorization": "Bearer x", ID: "w2"})
        assert refused.value.response.headers.get_all(ID) == ["w2"]


async def test_the_lines_of_a_request_have_its_id(caplog: pytest.LogCaptureFixture) -> None:
    """The lines of a turn have the id of the request that started it, or of the opening of its socket. A later HTTP
    request without an id doesn't inherit theirs."""
    caplog.set_level(logging.DEBUG, "turnwire")
    async with serving(**JWT) as server, http_client(server.url, headers=HEADERS) as http:
        await asyncio.gather(
            *(
                http.post("/v1/turns", json={"turn": f"t{n}", "input": "x", "params": QUICK}, headers={ID: f"h{n}"})
                for n in range(3)
            )
        )
        await http.get("/v1")
        async with client(server.ws_url, additional_headers={**HEADERS, ID: "w1"}) as c:
            await c.request("turn.start", turn="t3", input="x", params=QUICK)
            await c.ending("t3")
        await eventually(lambda: list(lines(caplog, "connection closed")))
    ended = {line["turn"]: line["request_id"] for line in lines(caplog, "turn ended")}
    assert ended == {"t0": "h0", "t1": "h1", "t2": "h2", "t3": "w1"}
    for event in ("connection opened", "connection closed"):
        assert [line["request_id"] for line in lines(caplog, event)] == ["w1"]
    assert next(line for line in lines(caplog, "request served") if line["path"] == "/v1")["request_id"][:3] == "rq_"


def has_lines(caplog: pytest.LogCaptureFixture, count: int) -> bool:
    """Return whether `count` served requests are logged."""
    return len(list(lines(caplog, "request served"))) == count


@pytest.mark.parametrize("prefix", ["", "/chat"])
async def test_each_http_request_leaves_one_line_at_debug(prefix: str, caplog: pytest.LogCaptureFixture) -> None:
    """The line has the method, the template of the path without the client's values, the status, and the time in ms."""
    caplog.set_level(logging.DEBUG, "turnwire")
    async with serving(path_prefix=prefix) as server, http_client(server.url) as http:
        started_turn = {"turn": "secret", "input": "x", "params": {"demo": {"first_ms": 50, "text": "Yes."}}}
        await http.post(f"{prefix}/v1/turns", json=started_turn)
        # A request is logged after its answer, so the client may have the answer first.
        for count, path in enumerate(("/v1/turns/secret?x=secret", "/static/turnwire.js", "/secret"), 1):
            await eventually(partial(has_lines, caplog, count))
            await http.get(prefix + path)
        await eventually(partial(has_lines, caplog, 4))
    served = list(lines(caplog, "request served"))
    assert [(line["method"], line["path"], line["status"]) for line in served] == [
        ("POST", "/v1/turns", 200),
        ("GET", "/v1/turns/{turn}", 400),
        ("GET", "/static", 200),
        ("GET", "unknown", 404),
    ]
    assert 50 <= served[0]["ms"] < 30_000
    assert all(isinstance(line["ms"], int) for line in served)


async def test_each_opening_of_a_socket_leaves_one_line_at_debug(caplog: pytest.LogCaptureFixture) -> None:
    """An opening is logged when it is accepted or refused, with the id that the client got."""
    caplog.set_level(logging.DEBUG, "turnwire")
    async with serving() as server:
        async with connect(server.ws_url, additional_headers={"X-Request-ID": "s1"}):
            await eventually(lambda: len(list(lines(caplog, "request served"))) == 1)
        for path, headers in (("/ws", {"Origin": "https://evil.example"}), ("/wsx", {})):
            with pytest.raises(InvalidStatus):
                await connect(server.ws_url.replace("/ws", path), additional_headers={"X-Request-ID": "s2", **headers})
    served = [
        (line["request_id"], line["method"], line["path"], line["status"]) for line in lines(caplog, "request served")
    ]
    assert served == [("s1", "GET", "/ws", 101), ("s2", "GET", "/ws", 403), ("s2", "GET", "unknown", 403)]


async def test_without_debug_requests_leave_no_line(caplog: pytest.LogCaptureFixture) -> None:
    """At level info, an HTTP request that succeeds isn't logged."""
    caplog.set_level(logging.INFO, "turnwire")
    async with serving() as server, http_client(server.url) as http:
        await http.get("/v1")
    assert list(lines(caplog, "request served")) == []
