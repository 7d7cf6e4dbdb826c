"""HTTP against gateway processes: the same events in every encoding, resumed on any instance, and large bodies."""

from __future__ import annotations

import asyncio
import base64
import time
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.client import Client, Frame, TurnView, client, small_buffer_socket
from tests.demo import expected
from tests.gateway_process import GatewayProcess
from tests.http_events import NDJSON, SSE, followed, http_client, started
from tests.in_time import check_in_time, checks_time_limit, within
from tests.world import client_of, world

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]

SCRIPT = {"thinking": 3, "tokens": 30, "tool": {"name": "add", "arguments": '{"a": "é\\n😀"}'}}
ASYNC = {"prefer": "respond-async"}


def body(turn: str, **demo: Any) -> dict[str, Any]:
    return {"turn": turn, "input": "Hello", "params": {"demo": demo}}


async def replayed(gateway: GatewayProcess, turn: str) -> dict[str, list[Frame]]:
    """Return the frames of an ended turn from its start, per encoding."""
    found: dict[str, list[Frame]] = {}
    for codec in ("json", "msgpack"):
        async with client(gateway.ws_url, codec=codec) as c:
            await c.request("turn.attach", turn=turn)
            await c.ending(turn)
            found[codec] = c.turns[turn].frames
    async with http_client(gateway.url) as http:
        for accept in (SSE, NDJSON):
            async with followed(http, turn, accept=accept) as events:
                await events.ending()
                found[accept] = events.frames
    return found


async def test_one_turn_is_the_same_in_every_encoding(gateway: GatewayProcess) -> None:
    """A scripted turn has the same events over JSON, MessagePack, SSE and NDJSON, live and replayed."""
    async with (
        client(gateway.ws_url) as json,
        client(gateway.ws_url, codec="msgpack") as msgpack,
        http_client(gateway.url) as http,
    ):
        assert (await http.post("/v1/turns", json=body("t", rate=40, **SCRIPT), headers=ASYNC)).status_code == 202

        async def over_socket(c: Client) -> TurnView:
            await c.request("turn.attach", turn="t")
            await c.ending("t")
            return c.turns["t"]

        async def over_http(accept: str) -> TurnView:
            async with followed(http, "t", accept=accept) as events:
                await events.ending()
                return events.view

        views = await asyncio.gather(over_socket(json), over_socket(msgpack), over_http(SSE), over_http(NDJSON))
    for view in views:
        assert [frame for frame in view.frames if frame["type"] != "turn.delta"] == [
            frame for frame in views[0].frames if frame["type"] != "turn.delta"
        ]
        assert view._texts == views[0]._texts
        assert view.kinds == {0: "reasoning", 1: "text", 2: "tool_call"}
    found = await replayed(gateway, "t")
    assert found["json"] == found["msgpack"] == found[SSE] == found[NDJSON]
    assert [frame["type"] for frame in found["json"]].count("turn.delta") == 3, "law 7: a replay is merged"


async def test_law_7_a_stream_is_resumed_after_every_event(tmp_path: Path) -> None:
    """Law 7: a stream that is cut after each event can be resumed on the other instance, while the turn runs and after
    its end."""
    async with world(tmp_path) as w, http_client(w.instances[0].url) as one, http_client(w.instances[1].url) as two:
        demo = {"rate": 10, "tokens": 60}
        view = TurnView()
        async with started(one, **body("t", **demo)) as events:
            events.view = view
            await events.until_seq(1)
        n = 0
        while view.ended is None:
            n += 1
            async with followed((one, two)[n % 2], "t", view, accept=(SSE, NDJSON)[n // 2 % 2]) as events:
                assert events.response.status_code == 200, await events.response.aread()
                assert await events.next() is not None
        assert n > 20
        assert view.text() == expected("Hello", demo)
        assert view.resets == 0
        ids = [(frame["seq"], view.epoch) for frame in view.frames]
        for http in (one, two):
            for seq, epoch in ids:
                held = TurnView()
                held.epoch, held.seq = epoch, seq
                async with followed(http, "t", held) as events:
                    if seq == view.seq:
                        assert events.response.status_code == 204
                    else:
                        assert (await events.ending()) == view.ended


async def test_law_5_cancel_over_http_on_another_instance(tmp_path: Path) -> None:
    """Law 5: after a cancel request to the other instance the stream gets its end event, and its text is the stored
    text."""
    async with world(tmp_path) as w, http_client(w.instances[0].url) as one, http_client(w.instances[1].url) as two:
        async with started(one, **body("t", rate=50, tokens=5000)) as events:
            await events.until_seq(10)
            answer = await two.post("/v1/turns/t/cancel", json={"reason": "enough"})
            assert answer.json() == {"turns": {"t": "cancelled"}}
            ended = await events.ending()
            assert (ended["type"], ended["reason"]) == ("turn.cancelled", "enough")
            await w.check_stored("t", events.view.text())


async def test_law_8_a_stream_on_any_instance_keeps_the_turn_running(tmp_path: Path) -> None:
    """Law 8: a turn with `on_disconnect: cancel` runs while any instance has a stream of it, and is cancelled after the
    last one ends."""
    async with world(tmp_path) as w, http_client(w.instances[0].url) as one, http_client(w.instances[1].url) as two:
        async with AsyncExitStack() as elsewhere:
            async with started(one, **body("t", rate=20, tokens=5000), on_disconnect="cancel") as events:
                await events.until_seq(3)
                there = await elsewhere.enter_async_context(followed(two, "t"))
                await there.until_seq(3)
            await asyncio.sleep(2.5)  # longer than the grace of 1 s after the first stream ended
            assert (await two.get("/v1/turns/t")).json()["status"] == "running"
            assert await there.next() is not None
        async with asyncio.timeout(20):
            while (await two.get("/v1/turns/t")).json()["status"] != "cancelled":
                await asyncio.sleep(0.1)


async def test_a_stopping_instance_ends_its_streams_and_hands_over_the_turn(tmp_path: Path) -> None:
    """A stopping instance ends its streams and waiting requests at once; the turn continues on the other instance
    without loss."""
    async with world(tmp_path) as w, http_client(w.instances[0].url) as one, http_client(w.instances[1].url) as two:
        demo = {"rate": 60, "tokens": 240}
        view = TurnView()
        waiting = asyncio.get_running_loop().create_task(one.post("/v1/turns", json=body("w", rate=30, tokens=2000)))
        async with started(one, **body("t", **demo)) as events:
            events.view = view
            await events.until_seq(10)
            w.hidden.add(0)
            w.instances[0].terminate()
            while await events.next():
                pass
            assert view.ended is None
            assert [aside["type"] for aside in events.asides] == ["going_away"]
            assert events.retry_ms is not None
        answer = await waiting
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, "shutting_down")
        async with followed(two, "t", view) as events:
            assert (await events.ending())["type"] == "turn.completed"
        assert view.text() == expected("Hello", demo)
        await two.post("/v1/turns/w/cancel")


@pytest.mark.timed
@checks_time_limit
async def test_a_large_file_is_accepted_stored_and_returned(gateway: GatewayProcess) -> None:
    """A file of 10 MiB, far above the socket's frame limit, is stored and returned. Meanwhile other clients' requests
    aren't delayed much."""
    image = bytes(range(256)) * 40_960
    parts = [
        {"kind": "text", "text": "Look"},
        {"kind": "file", "media_type": "application/pdf", "data": base64.b64encode(image).decode()},
    ]
    async with http_client(gateway.url) as http, client(gateway.ws_url) as c:
        posting = asyncio.get_running_loop().create_task(
            http.post("/v1/turns", json={"turn": "t", "input": parts, "params": {"demo": {"text": "Yes."}}})
        )
        slowest = 0.0
        while not posting.done():
            began = time.monotonic()
            await c.request("ping")
            slowest = max(slowest, time.monotonic() - began)
            await asyncio.sleep(0.02)
        answer = await posting
        assert (answer.status_code, answer.json()["status"]) == (200, "completed")
        check_in_time(slowest, 2)  # about 0.1 s on a quiet machine
        conversation = answer.json()["conversation"]
        shown = (await http.get(f"/v1/conversations/{conversation}/messages")).json()["messages"][0]["parts"][1]
        assert "data" not in shown
        assert (await http.get(shown["url"])).content == image
        over_socket = await c.request("conversation.messages", conversation=conversation)
        assert over_socket["messages"][0]["parts"][1] == shown


async def test_a_body_that_is_too_large_is_refused(gateway: GatewayProcess) -> None:
    """The answer is 413 if the announced length is too large or, without one, if too many bytes arrive. A request other
    than `turn.start` has a smaller limit."""
    too_much = b'{"input":"%b"}' % (b"x" * 20_971_520)
    async with http_client(gateway.url, headers={"content-type": "application/json"}) as http:

        async def unannounced() -> Any:
            for start in range(0, len(too_much), 65_536):
                yield too_much[start : start + 65_536]

        for content in (too_much, unannounced()):
            answer = await http.post("/v1/turns", content=content)
            assert (answer.status_code, answer.json()["error"]["code"]) == (413, "too_large")
        small = await http.post("/v1/conversations", content=b'{"title":"%b"}' % (b"x" * 66_000))
        assert small.status_code == 413
        assert (await http.get("/health")).status_code == 200


@pytest.mark.timed
@checks_time_limit
async def test_law_11_a_stalled_stream_is_closed_and_can_resume(gateway: GatewayProcess) -> None:
    """Law 11: the turn and other clients don't wait for a stream that isn't read; it is closed, and the client can read
    all events later."""
    async with http_client(gateway.url) as http, client(gateway.ws_url) as fast:
        answer = await http.post("/v1/turns", json=body("t", rate=0, tokens=60_000, first_ms=500), headers=ASYNC)
        assert answer.status_code == 202
        reader, writer = await asyncio.open_connection(sock=small_buffer_socket(gateway.url), limit=1024)
        writer.transport.pause_reading()  # type: ignore[attr-defined]
        head = f"GET /v1/turns/t/events HTTP/1.1\r\nHost: {urlsplit(gateway.url).netloc}\r\nAccept: {NDJSON}\r\n\r\n"
        writer.write(head.encode())
        await fast.until_status("t", "completed")
        async with asyncio.timeout(15):
            while not any("stream closing" in line for line in gateway.log):
                await asyncio.sleep(0.05)
        with within(1):
            await fast.request("ping")
        writer.close()
        assert reader is not None
        async with followed(http, "t") as events:
            await events.ending()
            assert events.view.text() == expected("Hello", {"tokens": 60_000})


async def test_http_and_sockets_share_turns(tmp_path: Path) -> None:
    """A turn is received by a resilient client on sockets of any instance, and its message is read over HTTP."""
    async with world(tmp_path) as w, client_of(w) as who, http_client(w.instances[1].url) as two:
        await w.start(who, "t", rate=60, tokens=60)
        await w.check(who, "t")
        view = (await two.get("/v1/turns/t")).json()
        assert view["message"]["parts"] == [{"kind": "text", "text": who.text("t")}]


async def test_a_client_chooses_the_id_of_a_conversation(tmp_path: Path) -> None:
    """A conversation is created under the client's id once, by a request or by a start that may create it, on any
    instance; an id that isn't allowed is refused."""
    async with world(tmp_path) as w:
        async with http_client(w.instances[0].url) as one, http_client(w.instances[1].url) as two:
            made = await one.post("/v1/conversations", json={"conversation": "mine-1", "title": "First"})
            assert (made.status_code, made.headers["location"]) == (201, "/v1/conversations/mine-1")
            again = await two.post("/v1/conversations", json={"conversation": "mine-1", "title": "Second"})
            assert (again.status_code, again.json()) == (201, made.json())
            refused = await one.post("/v1/conversations", json={"conversation": "mine/1"})
            assert (refused.status_code, refused.json()["error"]["path"]) == (400, "conversation")

            start = {**body("t0", rate=0, tokens=3), "conversation": "mine-2"}
            assert (await one.post("/v1/turns", json=start)).status_code == 404
            starts = [{**start, "turn": f"t{n}", "create": True} for n in range(1, 9)]
            answers = await asyncio.gather(*((one, two)[n % 2].post("/v1/turns", json=s) for n, s in enumerate(starts)))
            assert {(answer.status_code, answer.json()["conversation"]) for answer in answers} == {(200, "mine-2")}
            assert (await one.get("/v1/conversations/mine-2")).json()["messages"] == 16
            listed = (await two.get("/v1/conversations")).json()["conversations"]
            assert [conversation["id"] for conversation in listed] == ["mine-2", "mine-1"]
