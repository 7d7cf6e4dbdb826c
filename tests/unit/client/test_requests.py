"""Requests and their answers, the wait before a reconnect, and event streams."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from turnwire.client import ConnectionLost, TurnwireError
from turnwire.client.backoff import Backoff
from turnwire.client.close_codes import is_final, reason_of
from turnwire.client.codecs import JSON
from turnwire.client.events import GoingAway, TurnDelta
from turnwire.client.requests import Pending, Requests
from turnwire.client.socket_link import FrameTooLarge
from turnwire.client.sse import EventParser


class Socket:
    """Keeps what is sent. `is_open`: whether it can be sent."""

    def __init__(self) -> None:
        self.is_open = True
        self.sent: list[dict[str, Any]] = []
        self.taken: list[Pending] = []
        self.takes = False
        self.requests = Requests(self.send, self.take)

    def send(self, frame: dict[str, Any]) -> bool:
        """Send a frame."""
        if len(str(frame)) > 1000:
            raise FrameTooLarge("Too large.")
        if self.is_open:
            self.sent.append(frame)
        return self.is_open

    def take(self, entry: Pending) -> bool:
        """Take a request that is too large."""
        self.taken.append(entry)
        return self.takes

    def answer(self, **fields: Any) -> None:
        """Let an answer arrive."""
        self.requests.receive(JSON.decode(JSON.encode(fields)))  # type: ignore[arg-type]


async def test_answers_find_their_requests() -> None:
    """In any order, in pieces, as errors; what answers nothing is ignored."""
    socket = Socket()
    first, second, third = (
        socket.requests.send("models.list", {"n": n}, user) for n, user in ((1, None), (2, "ann"), (3, None))
    )
    assert [frame.get("as") for frame in socket.sent] == [None, "ann", None]
    socket.answer(type="result", id="2", result={"b": 2})
    socket.answer(type="result.piece", id="1", text='{"a"')
    socket.answer(type="result.piece", id="1", text=":1}")
    socket.answer(type="result", id="1", pieces=2)
    error = {"code": "rate_limited", "message": "Wait.", "retryable": True, "retry_after_ms": 50}
    socket.answer(type="error", id="3", error=error)
    socket.answer(type="error", id="99", error=error)
    assert (await first, await second) == ({"a": 1}, {"b": 2})
    with pytest.raises(TurnwireError) as raised:
        await third
    assert (raised.value.code, raised.value.retry_after_ms) == ("rate_limited", 50)
    assert socket.requests._pending == {}


async def test_requests_over_a_lost_socket() -> None:
    """What waits is sent on the next socket, and what is safe is sent again. Anything else fails as lost."""
    socket = Socket()
    start = socket.requests.send("turn.start", {"turn": "t"}, None)
    update = socket.requests.send("conversation.update", {"conversation": "c"}, None)
    named = socket.requests.send("conversation.create", {"conversation": "c"}, None)
    unnamed = socket.requests.send("conversation.create", {}, None)
    socket.is_open = False
    waiting = socket.requests.send("conversation.delete", {"conversation": "c"}, None)
    cancelled = socket.requests.send("models.list", {}, None)
    cancelled.cancel()
    socket.requests.interrupt()
    for lost in (update, unnamed):
        with pytest.raises(ConnectionLost):
            await lost
    socket.is_open, socket.sent = True, []
    await asyncio.sleep(0)
    socket.requests.resume()
    assert [frame["type"] for frame in socket.sent] == ["turn.start", "conversation.create", "conversation.delete"]
    assert socket.requests.is_starting((None, "t"))
    socket.answer(type="error", id="1", error={"code": "shutting_down", "message": "Later.", "retryable": True})
    assert not start.done()
    assert socket.requests.withdraw_start((None, "t"))
    assert start.cancelled()
    socket.requests.close(TurnwireError("Closed.", code="x"))
    for closed in (named, waiting):
        with pytest.raises(TurnwireError, match="Closed"):
            await closed


async def test_requests_that_cannot_be_sent() -> None:
    """One that is too large fails, unless something else takes it. A field that JSON can't express is named."""
    socket = Socket()
    with pytest.raises(FrameTooLarge):
        await socket.requests.send("turn.start", {"turn": "t", "input": "x" * 2000}, None)
    socket.takes = True
    taken = socket.requests.send("turn.start", {"turn": "t", "input": "x" * 2000}, None)
    assert len(socket.taken) == 2
    assert not taken.done()
    encoding = Requests(lambda frame: bool(JSON.encode(frame)), lambda _: False)
    with pytest.raises(TurnwireError, match="can't be sent"):
        await encoding.send("turn.start", {"turn": "t", "metadata": {"x": object()}}, None)


def test_the_wait_before_a_reconnect() -> None:
    """Full jitter up to a cap that doubles; what `going_away` asks for, once; none after 4502."""
    backoff = Backoff()
    for failures in range(1, 30):
        backoff.on_lost(0)
        waits = [backoff.delay_s(None) for _ in range(50)]
        cap_s = min(20, 0.5 * 2**failures)
        assert 0 <= min(waits) < cap_s / 2 < max(waits) <= cap_s
    backoff.request(7)
    assert backoff.delay_s(4503) == 7
    backoff.on_connecting()
    assert backoff.delay_s(4502) == 0
    backoff.on_ready(0)
    backoff.on_lost(6)
    assert max(backoff.delay_s(None) for _ in range(50)) <= 0.5
    assert is_final(4401)
    assert not is_final(4501)
    assert not is_final(None)
    assert reason_of(None, "") == "The connection was lost"
    assert reason_of(1006, "detail.") == "detail"


@pytest.mark.parametrize("size", [1, 7, 10_000])
def test_an_event_stream_in_pieces_of_any_size(size: int) -> None:
    """Frames, frames in comments, comments that are none, and the wait that the gateway asks for."""
    stream = (
        b': hello\r\n\r\nretry: 1500\nevent: turn.delta\nid: 9-3\ndata: {"type":"turn.delta","turn":"t","seq":3,\n'
        b'data: "part":0,"text":"\xc3\xa9"}\n\n: {"type":"going_away","reason":"shutdown"}\n\n: {broken\n\nid: 4\n\n'
    )
    parser = EventParser()
    frames = [frame for i in range(0, len(stream), size) for frame in parser.feed(stream[i : i + size])]
    assert [type(frame) for frame in frames] == [TurnDelta, GoingAway]
    assert isinstance(frames[0], TurnDelta)
    assert frames[0].text == "é"
    assert parser.retry_s == 1.5
