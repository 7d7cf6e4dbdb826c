"""Tests of plain HTTP's requests and streams."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest

from gateway.dialects.plain_http import (
    refuse,
    refuse_line,
    start_of_chat,
    start_of_content,
    start_of_send,
    start_of_stream,
)
from gateway.dialects.plain_http_conversation_answers import message_answer
from gateway.dialects.plain_http_fields import content_of, finish_reason_of, id_of
from gateway.dialects.plain_http_session_answers import chat_answer
from gateway.dialects.plain_http_stream import CAMEL, SNAKE, ContentLines, ContentStream, FollowedStream
from gateway.protocol.errors import ApiError
from gateway.protocol.events import (
    Cost,
    Heartbeat,
    Message,
    ServerEvent,
    Timing,
    TurnReset,
)
from gateway.protocol.results import TurnView
from providers.base import Part, ReasoningPart, RefusalPart, TextPart, ToolCallPart, Usage
from tests.dialect_events import cancelled, completed, delta, failed, part, started

TIMING = Timing(0, 7, 1)
USAGE = Usage(3, 4)
STARTED = started(epoch=5)
COMPLETED = completed(usage=USAGE, cost=Cost("0.001"))


def frames(stream: ContentStream, *events: ServerEvent) -> list[dict[str, Any]]:
    """Return the frames for these events."""
    lines = b"".join(stream.encode(event) for event in (STARTED, *events)).decode().splitlines()
    kept = [line.removeprefix("data: ") for line in lines if line and not line.startswith((":", "id: "))]
    return [json.loads(line) for line in kept]


def text_of(shown: list[dict[str, Any]]) -> str:
    return "".join(frame["content"] for frame in shown)


@pytest.mark.parametrize("kind", [ContentStream, ContentLines, FollowedStream])
def test_a_stream_has_the_text_and_then_what_it_is(kind: type[ContentStream]) -> None:
    """Reasoning and tool calls aren't content; a refusal is."""
    events: list[ServerEvent] = [
        part(0, "reasoning"),
        delta(0, "hm"),
        part(1),
        delta(1, 'a"\n'),
        part(2, "refusal"),
        delta(2, "no"),
    ]
    events += [part(3, "tool_call"), delta(3, "{}"), Heartbeat(0)]
    shown = frames(kind(SNAKE), *events, COMPLETED)
    assert text_of(shown) == 'a"\nno'
    assert [frame["finished"] for frame in shown] == [False] * (len(shown) - 1) + [True]
    assert shown[-1] == {
        "content": "",
        "finished": True,
        "conversation_id": "c",
        "message_id": "t",
        "model": "m",
        "usage": {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7},
        "cost_usd": 0.001,
        "finish_reason": "stop",
    }


@pytest.mark.parametrize(("by", "reason"), [("limit", "length"), ("client", "cancelled")])
def test_a_cancelled_turn(by: str, reason: str) -> None:
    last = frames(ContentStream(CAMEL), part(0), delta(0, "x"), cancelled(by))[-1]
    assert (last["finishReason"], last["usage"], last["sessionId"]) == (reason, None, "c")


def test_an_error_is_the_last_frame() -> None:
    error = ApiError("upstream_error").body
    ending = failed(error)
    stream = ContentLines(CAMEL)
    last = frames(stream, part(0), delta(0, "x"), ending)[-1]
    assert (last["content"], last["finished"], last["error"]["code"]) == ("", True, "upstream_error")
    assert (stream.ended, stream.failure) == (True, error)
    assert json.loads(refuse_line(error, 502).body) == last
    assert json.loads(refuse(error, 502).body) == {"error": last["error"]}


def test_a_stream_of_a_turn_that_goes_on() -> None:
    """A POST's client is told so; an EventSource just connects again, after the last id that it has."""
    stopped = json.loads(ContentLines(CAMEL).stop(ApiError("shutting_down")))
    assert (stopped["finished"], stopped["error"]["code"]) == (True, "shutting_down")
    followed = FollowedStream(SNAKE, with_ids=True)
    assert followed.stop(ApiError("shutting_down")) == b""
    followed.encode(STARTED)
    followed.encode(part(0))
    assert followed.encode(delta(0, "x", seq=7)).startswith(b"id: t/5-7\ndata: ")
    assert followed.encode(Heartbeat(0)) == b": heartbeat\n\n"


def test_law_7_a_reset_never_doubles_or_changes_text() -> None:
    """For random answers that begin again: what a client has is always a prefix of the newest one, or the stream fails."""
    for seed in range(300):
        chance = random.Random(seed)
        text = "".join(chance.choices("ab", k=12))
        again = text if chance.random() < 0.5 else "".join(chance.choices("ab", k=12))
        sent = chance.randrange(len(text) + 1)
        events: list[ServerEvent] = [part(0), *(delta(0, one) for one in text[:sent])]
        events += [TurnReset("t", 50, 6, "takeover"), part(0), *(delta(0, one) for one in again), COMPLETED]
        stream = ContentLines(CAMEL)
        shown: list[dict[str, Any]] = []
        for event in (STARTED, *events):
            if not stream.ended:
                shown += [json.loads(line) for line in stream.encode(event).splitlines()]
        if again.startswith(text[:sent]):
            assert (text_of(shown), stream.failure) == (again, None)
        else:
            assert stream.failure is not None
            assert text_of(shown) == text[:sent]
        assert [frame["finished"] for frame in shown].count(True) == 1


def test_a_request_in_a_session() -> None:
    asked = start_of_chat(b'{"message": "Hi", "sessionId": "s", "maxTokens": 5, "extra": 1}', {}, streams=False)
    request = asked.start.request
    assert (request.input, request.conversation, request.create) == ("Hi", "s", True)
    assert (request.params.max_tokens, request.on_busy, request.on_disconnect) == (5, "queue", "continue")
    assert (asked.user, asked.session, asked.start.translator) == (None, "s", None)
    assert start_of_chat(b'{"message": "Hi"}', {}, streams=True).start.request.create is False
    named = start_of_send(b'{"message": "Hi", "user_id": "ann"}', {"turnwire-turn": "mine"})
    assert (named.user, named.start.request.turn) == ("ann", "mine")
    for name in ("userId", "user_id"):
        assert start_of_chat(b'{"message": "Hi", "%b": "ann"}' % name.encode(), {}, streams=False).user == "ann"
    existing = start_of_content(b'{"content": "Hi"}', {"turnwire-on-disconnect": "cancel"}, "c", streams=True)
    assert (existing.start.request.conversation, existing.start.request.create) == ("c", False)
    assert existing.start.request.on_disconnect == "cancel"


def test_a_request_without_a_session() -> None:
    """The images of OpenAI's messages work too; a turn that nobody could come back to ends with its client."""
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,aGk="}}
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": [image]}]
    request = start_of_stream(json.dumps({"messages": messages}).encode(), {}).start.request
    assert (request.system, request.conversation, request.on_disconnect) == ("Be brief.", None, "cancel")
    assert request.messages is not None
    assert [[one.role, len(one.parts)] for one in request.messages] == [["user", 1]]


def test_paths_are_those_of_the_body() -> None:
    path = start_of_stream(
        b'{"messages": [{"role": "system", "content": "x"}, {"role": "user", "content": "y"}]}', {}
    ).start.path
    assert path("messages[0].parts[0].text") == "messages[1].content[0].text"
    assert (path("params.max_tokens"), path("params.demo.rate")) == ("maxTokens", "demo.rate")
    path = start_of_chat(b'{"message": "Hi"}', {}, streams=False).start.path
    assert [path(name) for name in ("input", "input[0].text", "conversation", "params.temperature")] == [
        *("message", "message", "sessionId", "temperature")
    ]
    with pytest.raises(ApiError) as refused:
        start_of_chat(b'{"message": "Hi", "temperature": 9}', {}, streams=False)
    assert refused.value.body.path == "temperature"


def test_answers() -> None:
    parts: list[Part] = [ReasoningPart("hm"), TextPart("a"), ToolCallPart("1", "f", "{}"), RefusalPart("b")]
    message = Message(
        id="m", role="assistant", parts=parts, parent=None, created_at="2026-01-01T00:00:00Z", turn="t", by="limit"
    )
    assert (content_of(parts), id_of(message)) == ("ab", "t")
    view = TurnView("t", "c", "cancelled", 1, 9, "m", message)
    assert finish_reason_of(view) == "length"
    answer = json.loads(chat_answer(view).body)
    assert (answer["message"], answer["usage"], answer["messageId"]) == ("ab", None, "t")
    answer = json.loads(message_answer(view).body)
    assert (answer["cost_usd"], answer["message"]["latency_ms"], answer["conversation_id"]) == (None, None, "c")
