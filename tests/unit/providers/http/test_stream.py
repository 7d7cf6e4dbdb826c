"""The loop between the network and a decoder, over real HTTP."""

import asyncio
import json
from collections.abc import Callable
from contextlib import suppress
from typing import Any, cast

import pytest

from providers.anthropic.events import MessagesDecoder
from providers.base import Delta, Finished, ProviderError
from providers.errors.failures import Failures
from providers.http.body import ResponseBody
from providers.http.stream import Decoder, DeltaStream
from providers.http.transport import body_of, http_client
from providers.openai.chat_chunks import ChatDecoder
from providers.openai.responses_events import ResponsesDecoder
from providers.route import Endpoint, Quirks, Timeouts
from tests.answers import Answer, Batches, fold
from tests.upstream import Script, Upstream, chat, sse

FAILURES = Failures(Endpoint("openai", "OpenAI", "", ("OPENAI_API_KEY",)))


async def read(upstream: Upstream, script: Script, between_s: float = 5) -> tuple[Answer, list[list[Delta]]]:
    """The answer to one script, and the batches that it came in."""
    upstream.play(script)
    answer, sink = Answer(), Batches()
    async with http_client(Timeouts(first_event_s=between_s)) as client:
        request = client.build_request("POST", upstream.openai_url + "/chat/completions", json={})
        response = await client.send(request, stream=True)
        try:
            await DeltaStream(body_of(response), ChatDecoder(Quirks(), FAILURES), FAILURES, between_s, sink).run()
        except ProviderError as error:
            answer.error = error
        await response.aclose()
    for batch in sink.put_batches:
        answer.add(batch)
    return answer, sink.put_batches


async def test_batches(upstream: Upstream) -> None:
    """Each read that brings something is a batch, none is empty, and the ending is the last."""
    _, batches = await read(upstream, chat("a", {}, "b").replace(rate=50))
    assert len(batches) == 3
    assert batches[-1] == [Finished("stop")]


async def test_what_is_taken_is_not_given_again(upstream: Upstream) -> None:
    """A taker gets each batch as it is read; from the first that it doesn't take on, they are the reader's."""
    upstream.play(chat(*"abcdef").replace(rate=50))
    sink = Batches(offers_max=3)
    async with http_client(Timeouts()) as client:
        request = client.build_request("POST", upstream.openai_url + "/chat/completions", json={})
        response = await client.send(request, stream=True)
        await DeltaStream(body_of(response), ChatDecoder(Quirks(), FAILURES), FAILURES, 5, sink).run()
        await response.aclose()
    answer = fold([*sink.offered, *sink.put_batches])
    assert answer.text() == "abcdef"
    assert answer.finish == "stop"
    assert len(sink.offered) == 3


@pytest.mark.parametrize("deep", [b"[" * 100_000, b'{"error":' + b"[" * 100_000])
@pytest.mark.parametrize("line", [b"data: %s\n\n", b"%s\n"])
async def test_nested_too_deep(upstream: Upstream, line: bytes, deep: bytes) -> None:
    """What is nested without end can't be read, in an event or bare."""
    answer, _ = await read(upstream, Script((line % deep,)))
    assert answer.code == "upstream_error"


class BufferedBody:
    """A body that is there at once."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def extend_deadline(self, seconds: float) -> None:
        """Nothing waits here."""

    async def read_each(self, consume: Callable[[bytes], bool]) -> bool:
        data, self._data = self._data, b""
        return bool(data) and (consume(data) or True)

    async def read(self) -> bytes:
        return b""


@pytest.mark.parametrize(
    ("decoder", "line"),
    [
        (lambda: ChatDecoder(Quirks(), FAILURES), b'{"choices":[],"x":%s}\n\n'),
        (
            lambda: ChatDecoder(Quirks(), FAILURES),
            b'data: {"choices":[{"delta":{"tool_calls":[{"function":{"name":"f","arguments":{"a":%s}}}]}}]}\n\n',
        ),
        (
            lambda: MessagesDecoder(FAILURES),
            b'data: {"type":"content_block_start","content_block":{"type":"tool_use","input":{"a":%s}}}\n\n',
        ),
        (lambda: ResponsesDecoder(Quirks(), FAILURES), b'{"object":"response","status":"completed","x":%s}\n\n'),
    ],
    ids=["a bare chunk", "a call", "a block", "a bare response"],
)
async def test_nested_almost_too_deep(decoder: Callable[[], Decoder], line: bytes) -> None:
    """What can just be read, and no longer be written, is a failure like another."""
    for depth in range(700, 1001):
        body = BufferedBody(line % (b"[" * depth + b"]" * depth))
        with suppress(ProviderError):
            await DeltaStream(cast("ResponseBody", body), decoder(), FAILURES, 5, Batches()).run()


@pytest.mark.parametrize("indent", [None, 2])
async def test_an_answer_that_is_not_streamed(upstream: Upstream, indent: int | None) -> None:
    """A host that sends the whole answer as one JSON document has answered too."""
    choice = {"index": 0, "message": {"role": "assistant", "content": "All of it."}, "finish_reason": "stop"}
    body = json.dumps({"object": "chat.completion", "choices": [choice], "usage": {"prompt_tokens": 3}}, indent=indent)
    answer, _ = await read(upstream, Script((body.encode(),)))
    assert (answer.text(), answer.finish, answer.code) == ("All of it.", "stop", None)
    assert answer.usage is not None
    assert answer.usage.input_tokens == 3


async def test_chunks_without_frames(upstream: Upstream) -> None:
    """A JSON array of chunks, or one chunk a line, is an answer all the same."""
    chunks: list[Any] = [{"choices": [{"delta": {"content": text}}]} for text in ("Hel", "lo")]
    chunks.append({"choices": [{"delta": {}, "finish_reason": "stop"}]})
    for body in (json.dumps(chunks), json.dumps(chunks, indent=1), "\n".join(map(json.dumps, chunks)) + "\n"):
        answer, _ = await read(upstream, Script((body.encode(),)))
        assert (answer.text(), answer.finish, answer.code) == ("Hello", "stop", None), body


async def test_more_chunks_without_frames_than_anybody_sends(upstream: Upstream) -> None:
    """A document of so many can't be read, in an array, in lines or in one event."""
    chunks = [b'{"choices":[]}'] * 2000
    for body in (b"[" + b",".join(chunks) + b"]", b"\n".join(chunks), b"data: " + b"".join(chunks) + b"\n\n"):
        answer, _ = await read(upstream, Script((body,)))
        assert (answer.code, answer.parts) == ("upstream_error", [])


async def test_nonsense_behind_the_end(upstream: Upstream) -> None:
    """Once the reason of the ending is told the answer is whole; empty events are none."""
    text, end, _ = chat("a").blocks
    answer, _ = await read(upstream, Script((b"data: \n\n", text, b"data:\n\n", end, b"data: {broken}\n\n")))
    assert (answer.text(), answer.finish, answer.code) == ("a", "stop", None)


async def test_deltas_before_a_failure_come_first(upstream: Upstream) -> None:
    """What stood before an error in the same read is not lost."""
    script = Script((chat("a").blocks[0], sse({"error": {"code": 503}}))).replace(write="whole")
    answer, batches = await read(upstream, script)
    assert (answer.text(), answer.code, len(batches)) == ("a", "upstream_overloaded", 1)


@pytest.mark.parametrize(
    ("tail", "code"),
    [
        (b'{"error": {"code": 503, "message": "x"}}', "upstream_overloaded"),
        (b'[{"error": {\n  "code": 429,\n  "message": "x"}}]\n', "upstream_rate_limited"),
        (b"data: {broken}\n\n", "upstream_error"),
        (b"data: " + b"x" * 9_000_000, "upstream_error"),
        (b'data: {"choices": [{"del', "upstream_incomplete"),
        (b"dat", "upstream_incomplete"),
        (b"", "upstream_incomplete"),
    ],
)
async def test_bad_endings(upstream: Upstream, tail: bytes, code: str) -> None:
    """Bare errors, nonsense, an endless event and half an event after good text each end as what they are."""
    answer, _ = await read(upstream, Script((chat("a").blocks[0], tail)))
    assert (answer.text(), answer.code, answer.finish) == ("a", code, None)


@pytest.mark.parametrize(
    ("body", "code", "retryable"),
    [
        (b'{"error": {"message": "Invalid API key", "code": 401}}', "upstream_auth", False),
        (b'{"code": 1113, "msg": "balance"}', "upstream_rate_limited", False),
        (b"<html>\n<body>Hello</body></html>", "upstream_error", True),
        (b'"text"', "upstream_incomplete", True),
        (b"", "upstream_incomplete", True),
        (b"data: [DONE]\n\n", "upstream_incomplete", True),
    ],
)
async def test_no_stream_at_all(upstream: Upstream, body: bytes, code: str, retryable: bool) -> None:
    """A status of 200 with an error, a page or nothing as its body is no answer."""
    answer, _ = await read(upstream, Script((body,)))
    assert answer.code == code
    assert answer.error is not None
    assert answer.error.retryable is retryable


async def test_finish_without_done(upstream: Upstream) -> None:
    """A stream that has told its reason and just ends is whole, however it ends."""
    blocks = chat("a").blocks[:-1]
    for script in (Script(blocks), Script(blocks, chunked=False), Script(blocks).replace(write="whole")):
        answer, _ = await read(upstream, script)
        assert (answer.text(), answer.finish, answer.error) == ("a", "stop", None)
    length = sum(map(len, blocks))
    answer, _ = await read(upstream, chat("a").replace(cut=length, cut_by="rst"))
    assert (answer.text(), answer.finish, answer.error) == ("a", "stop", None)


async def test_last_event_without_an_empty_line(upstream: Upstream) -> None:
    """A last event that no empty line follows counts, if it is whole."""
    blocks = chat("a").blocks
    answer, _ = await read(upstream, Script((blocks[0], blocks[1].rstrip(b"\n"))))
    assert (answer.text(), answer.finish) == ("a", "stop")


async def test_nothing_after_done(upstream: Upstream) -> None:
    """What follows the end of a stream is not of it."""
    answer, _ = await read(upstream, Script((*chat("a").blocks, *chat("b").blocks)).replace(write="whole"))
    assert answer.text() == "a"


async def test_stall(upstream: Upstream) -> None:
    """A stream that stops in the middle is a timeout; comments don't help it."""
    for stalled in (
        chat("a", "b").replace(stall_after=1),
        Script((chat("a").blocks[0], *[b": alive\n\n"] * 40)).replace(rate=40),
    ):
        answer, _ = await read(upstream, stalled, between_s=0.2)
        assert (answer.text(), answer.code) == ("a", "upstream_timeout")


async def test_stall_after_the_finish(upstream: Upstream, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stream that has told its reason need not wait long for a provider that forgets to hang up."""
    monkeypatch.setattr("providers.http.stream.AFTER_FINISH_S", 0.1)
    answer, _ = await read(upstream, chat("a").replace(stall_after=2), between_s=60)
    assert (answer.text(), answer.finish) == ("a", "stop")


async def test_failed_finish_and_a_broken_connection(upstream: Upstream) -> None:
    """A reason that says that the provider failed is an error also when the connection breaks then."""
    script = chat("a", finish="network_error")
    answer, _ = await read(upstream, script.replace(cut=sum(map(len, script.blocks[:2]))))
    assert answer.code == "upstream_error"


async def test_end_does_not_wait_for_the_connection(upstream: Upstream) -> None:
    """After [DONE] a provider that keeps the connection open delays nobody for long."""
    async with asyncio.timeout(2):
        answer, _ = await read(upstream, Script((*chat("a").blocks, b"")).replace(stall_after=3), between_s=60)
    assert answer.finish == "stop"


async def test_chatter_after_the_end(upstream: Upstream) -> None:
    """A provider that goes on after the end is hung up on."""
    script = Script((*chat("a").blocks, *[b": more\n\n"] * 1000)).replace(rate=500)
    async with asyncio.timeout(3):
        answer, _ = await read(upstream, script, between_s=60)
    assert answer.finish == "stop"
    async with asyncio.timeout(1):
        await upstream.requests[0].disconnected.wait()
