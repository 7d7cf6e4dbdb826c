"""Tests of the stream of the AI SDK: what a client that follows the protocol's rules ends with."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest

from gateway.dialects.ai_sdk_stream import SocketUiStream, UiStream
from gateway.protocol.errors import ApiError
from gateway.protocol.events import (
    Heartbeat,
    ServerEvent,
    TurnDelta,
    TurnPart,
    TurnReset,
)
from providers.base import PartKind, Usage
from tests.dialect_events import cancelled, completed, delta, failed, part, started

STARTED = started()


def sent(stream: UiStream, *events: ServerEvent) -> list[dict[str, Any]]:
    """Return the chunks for these events, and check the frames around them."""
    data = b"".join(stream.encode(event) for event in (STARTED, *events))
    if isinstance(stream, SocketUiStream):
        frames = [json.loads(line) for line in data.splitlines()]
        chunks = [frame for frame in frames if frame["type"] == "chunk"]
        assert [chunk["sequence"] for chunk in chunks] == list(range(len(chunks)))
        assert {frame["requestId"] for frame in frames} <= {"r"}
        return [chunk["chunk"] for chunk in chunks]
    lines = [line for line in data.decode().split("\n\n") if line and not line.startswith(":")]
    assert all(line.startswith("data: ") for line in lines)
    assert "data: [DONE]" not in lines[:-1]
    return [json.loads(line.removeprefix("data: ")) for line in lines if line != "data: [DONE]"]


class Client:
    """The UI message that a client makes of chunks. It fails where the SDK does."""

    def __init__(self, chunks: list[dict[str, Any]]) -> None:
        self.parts: list[dict[str, Any]] = []
        self._open: dict[str, dict[str, Any]] = {}
        self._calls: dict[str, dict[str, Any]] = {}
        assert not chunks or chunks[0]["type"] in {"start", "error"}
        for chunk in chunks:
            self._apply(chunk["type"], chunk)
        assert not self._open

    def _apply(self, kind: str, chunk: dict[str, Any]) -> None:
        if kind == "start-step":
            self.parts.append({"type": "step"})
        elif kind == "reset-step":
            while self.parts[-1]["type"] != "step":
                self.parts.pop()
            self._open, self._calls = {}, {}
        elif kind in {"text-start", "reasoning-start"}:
            assert chunk["id"] not in self._open
            self._open[chunk["id"]] = {"type": kind.removesuffix("-start"), "text": ""}
            self.parts.append(self._open[chunk["id"]])
        elif kind in {"text-delta", "reasoning-delta"}:
            self._open[chunk["id"]]["text"] += chunk["delta"]
        elif kind in {"text-end", "reasoning-end"}:
            del self._open[chunk["id"]]
        elif kind == "tool-input-start":
            self._calls[chunk["toolCallId"]] = {"type": "tool", "name": chunk["toolName"], "raw": ""}
            self.parts.append(self._calls[chunk["toolCallId"]])
        elif kind == "tool-input-delta":
            self._calls[chunk["toolCallId"]]["raw"] += chunk["inputTextDelta"]
        elif kind in {"tool-input-available", "tool-input-error"}:
            self._calls[chunk["toolCallId"]]["input"] = chunk["input"]

    def shown(self) -> list[tuple[Any, ...]]:
        return [(one["type"], one.get("text", one.get("raw"))) for one in self.parts if one["type"] != "step"]


def test_an_answer_of_every_kind_of_part() -> None:
    usage = Usage(5, 7, reasoning_tokens=2, cache_read_tokens=3)
    chunks = sent(
        UiStream(),
        part(0, "reasoning"),
        delta(0, "Hm\n"),
        part(1, "text"),
        delta(1, 'Say "hi"'),
        part(2, "citation", url="https://a.example", title="A"),
        part(3, "image", url="/v1/messages/m/parts/3", media_type="image/png"),
        part(4, "refusal"),
        delta(4, "No."),
        part(5, "reasoning", redacted=True),
        part(6, "tool_call", call="c", name="add"),
        delta(6, '{"a":\n'),
        delta(6, ' "x\\n"}'),
        completed("tool_calls", usage),
    )
    assert [chunk["type"] for chunk in chunks] == [
        *("start", "start-step", "reasoning-start", "reasoning-delta", "reasoning-end"),
        *("text-start", "text-delta", "text-end", "source-url", "file", "text-start", "text-delta", "text-end"),
        *("tool-input-start", "tool-input-delta", "tool-input-delta", "tool-input-available"),
        *("finish-step", "data-usage", "finish"),
    ]
    assert chunks[0] == {"type": "start", "messageId": "t"}
    assert chunks[9] == {"type": "file", "mediaType": "image/png", "url": "/v1/messages/m/parts/3"}
    assert chunks[16] == {"type": "tool-input-available", "toolCallId": "c", "toolName": "add", "input": {"a": "x\n"}}
    assert chunks[18]["data"] == {
        "model": "m",
        "inputTokens": 5,
        "outputTokens": 7,
        "totalTokens": 12,
        "reasoningTokens": 2,
        "cachedInputTokens": 3,
    }
    assert chunks[18]["transient"] is True
    assert chunks[19] == {"type": "finish", "finishReason": "tool-calls"}
    Client(chunks)


@pytest.mark.parametrize(
    ("arguments", "kind", "given"), [("", "available", {}), ("{oh", "error", "{oh"), ("[1]", "available", [1])]
)
def test_arguments_that_are_not_json(arguments: str, kind: str, given: Any) -> None:
    chunks = sent(UiStream(), part(0, "tool_call", call="c", name="f"), delta(0, arguments), completed("tool_calls"))
    (found,) = [chunk for chunk in chunks if chunk["type"].startswith("tool-input-") and "input" in chunk]
    assert (found["type"], found["input"]) == (f"tool-input-{kind}", given)


def test_a_stream_begins_with_the_first_part() -> None:
    """So a failure before it is an error of the request, unless a heartbeat has begun the response."""
    stream = UiStream()
    assert stream.encode(STARTED) == b""
    assert stream.encode(Heartbeat(1)) == b": heartbeat\n\n"
    ending = failed(ApiError("upstream_error", "Broken.").body)
    assert stream.encode(ending) == b'data: {"type":"error","errorText":"Broken."}\n\ndata: [DONE]\n\n'
    assert stream.failure is not None
    on_socket = SocketUiStream("r")
    assert on_socket.encode(Heartbeat(1)) == b""
    assert json.loads(on_socket.encode(ending)) == {"type": "error", "requestId": "r", "errorText": "Broken."}


def test_endings() -> None:
    parts = (part(0, "text"), delta(0, "Hm"), part(1, "tool_call", call="c", name="f"), delta(1, "{"))
    stopped = sent(UiStream(), *parts, cancelled(reason="Enough."))
    assert [chunk["type"] for chunk in stopped][-2:] == ["finish-step", "abort"]
    assert stopped[-1]["reason"] == "Enough."
    assert not any("input" in chunk for chunk in stopped)
    assert sent(UiStream(), *parts, cancelled("limit"))[-1] == {"type": "finish", "finishReason": "length"}
    assert sent(UiStream(), completed("refusal"))[-1]["finishReason"] == "content-filter"
    assert sent(SocketUiStream("r"), *parts, completed())[-1] == {"type": "finish", "finishReason": "stop"}
    stream = UiStream()
    for event in (STARTED, *parts[:2]):
        stream.encode(event)
    assert stream.stop(ApiError("unauthenticated", "Bye.")).endswith(
        b'{"type":"text-end","id":"0"}\n\ndata: {"type":"error","errorText":"Bye."}\n\ndata: [DONE]\n\n'
    )


def test_a_drain_breaks_the_connection() -> None:
    """The client resumes then: its turn has been started, and continues elsewhere."""
    for events in ((STARTED,), (STARTED, part(0, "text"))):
        stream = UiStream()
        for event in events:
            stream.encode(event)
        assert (stream.stop(ApiError("shutting_down")), stream.is_cut, stream.failure) == (b"", True, None)


def test_more_text_of_an_earlier_part() -> None:
    """Parallel tool calls may be mixed; text that continues a closed part is shown as another part."""
    chunks = sent(
        SocketUiStream("r"),
        part(0, "text"),
        delta(0, "a"),
        part(1, "tool_call", call="c1", name="f"),
        part(2, "tool_call", call="c2", name="g"),
        delta(1, "{}"),
        delta(2, "[]"),
        delta(1, " "),
        delta(0, "b"),
        delta(0, "c"),
        completed("tool_calls"),
    )
    assert Client(chunks).shown() == [("text", "a"), ("tool", "{} "), ("tool", "[]"), ("text", "bc")]


def test_a_continuation_has_the_earlier_steps() -> None:
    earlier = [{"type": "start-step"}, {"type": "finish-step"}]
    chunks = sent(UiStream("first", earlier), part(0, "text"), delta(0, "x"), completed())
    assert [chunk["type"] for chunk in chunks[:4]] == ["start", "start-step", "finish-step", "start-step"]
    assert chunks[0]["messageId"] == "first"


def test_a_replay_leaves_out_what_was_reset() -> None:
    stream = UiStream()
    stream.skip_until(5)
    chunks = sent(
        stream,
        part(0, "text"),
        TurnDelta("t", 4, 0, text="wrong"),
        TurnReset("t", 5, 1, "retried"),
        TurnPart(turn="t", seq=6, part=0, kind="text"),
        TurnDelta("t", 7, 0, text="right"),
        completed(),
    )
    assert Client(chunks).shown() == [("text", "right")]


@pytest.mark.parametrize("seed", range(60))
def test_random_answers_with_resets(seed: int) -> None:
    """Whatever is taken back and sent again: on a socket the client ends with the last answer. As server-sent events it
    ends with it too, or with an error and a prefix of what it was sent."""
    pick = random.Random(seed)
    events: list[ServerEvent] = []
    for attempt in range(pick.randint(1, 3)):
        if attempt:
            events.append(TurnReset("t", 0, attempt, "again"))
        last = _answer(pick, events)
    events.append(completed())
    chunks = sent(SocketUiStream("r"), *events)
    assert Client(chunks).shown() == last
    stream = UiStream()
    frames: list[dict[str, Any]] = []
    for event in (STARTED, *events):
        data = stream.encode(event).decode()
        frames += [json.loads(line.removeprefix("data: ")) for line in data.split("\n\n") if line.startswith("data: {")]
        if stream.ended:
            break
    shown = Client(frames).shown()
    assert shown == last if stream.failure is None else frames[-1]["type"] == "error"


def _answer(pick: random.Random, events: list[ServerEvent]) -> list[tuple[Any, ...]]:
    """Add the events of an answer, and return its parts."""
    shown: list[tuple[Any, ...]] = []
    for number in range(pick.randint(0, 3)):
        kind: PartKind = pick.choice(["text", "reasoning", "tool_call"])
        is_call = kind == "tool_call"
        call: dict[str, Any] = {"call": f"c{number}", "name": "f"} if is_call else {}
        events.append(part(number, kind, **call))
        pieces = ["[", "1", "]"] if is_call else pick.choices(["a", "b\n", "ü"], k=pick.randint(0, 3))
        events += [delta(number, piece) for piece in pieces]
        shown.append(("tool" if is_call else kind, "".join(pieces)))
    return shown
