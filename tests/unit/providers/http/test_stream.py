"""`DeltaStream`, which reads an answer from the network and feeds it to a decoder. Most tests use real HTTP."""

import asyncio
import json
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any, cast

import pytest

from providers.anthropic.events import MessagesDecoder
from providers.base import Delta, Finished, ProviderError
from providers.endpoint import Endpoint
from providers.errors.failures import Failures
from providers.http.body import ResponseBody
from providers.http.stream import Decoder, DeltaStream
from providers.http.transport import body_of, http_client
from providers.openai.chat_chunks import ChatDecoder
from providers.openai.responses_events import ResponsesDecoder
from providers.quirks import Quirks
from providers.timeouts import Timeouts
from tests.answers import Answer, Batches, fold
from tests.upstream import Script, Upstream, chat, sse

FAILURES = Failures(Endpoint("openai", "OpenAI", "", ("OPENAI_API_KEY",)))


async def read(upstream: Upstream, script: Script, between_s: float = 5) -> tuple[Answer, list[list[Delta]]]:
    """Return the answer to one script, and its batches."""
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
    """Each read with content is one batch. No batch is empty, and the finish reason is in the last one."""
    _, batches = await read(upstream, chat("a", {}, "b").replace(rate=50))
    assert len(batches) == 3
    assert batches[-1] == [Finished("stop")]


async def test_a_large_event_is_decoded_in_another_thread(upstream: Upstream) -> None:
    """A large event or unframed document is decoded in another thread, and its deltas stay in order."""
    calls = [{"index": n, "id": f"c{n}", "function": {"name": "f", "arguments": "{}"}} for n in range(2_000)]
    document = json.dumps({"choices": [{"message": {"tool_calls": calls}, "finish_reason": "stop"}]}).encode()
    opened = [("tool_call", "{}")] * 2_000
    names: list[str] = []

    class ThreadNames(ChatDecoder):
        def decode_event(self, name: str | None, data: bytes) -> bool:
            names.append(threading.current_thread().name)
            return super().decode_event(name, data)

    for script, parts in (
        (chat("a", {"tool_calls": calls}, "b").replace(rate=50), [("text", "a"), *opened, ("text", "b")]),
        (Script((document,)), opened),
    ):
        upstream.play(script)
        answer = Answer()
        async with http_client(Timeouts()) as client:
            request = client.build_request("POST", upstream.openai_url + "/chat/completions", json={})
            response = await client.send(request, stream=True)
            body = body_of(response)
            await DeltaStream(body, ThreadNames(Quirks(), FAILURES), FAILURES, 5, answer).run()
            await response.aclose()
        assert (answer.parts, answer.finish) == (parts, "tool_calls")
    loop_thread = threading.current_thread().name
    assert [name == loop_thread for name in names] == [True, False, True, True, True, False]


async def test_accepted_batches_are_not_put_again(upstream: Upstream) -> None:
    """Each batch is offered to the sink as it is read. A batch that the sink declines is put, an accepted one isn't."""
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
async def test_data_that_is_nested_too_deeply(upstream: Upstream, line: bytes, deep: bytes) -> None:
    """Data that is nested too deeply is rejected, whether it comes in an event or unframed."""
    answer, _ = await read(upstream, Script((line % deep,)))
    assert answer.code == "upstream_error"


class BufferedBody:
    """A body whose data is available at once."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def extend_deadline(self, seconds: float) -> None:
        """Do nothing, because no read has to wait."""

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
    ids=["unframed chunk", "call", "block", "unframed response"],
)
async def test_data_that_is_nested_almost_too_deeply(decoder: Callable[[], Decoder], line: bytes) -> None:
    """Data nested so deeply that it can be parsed but not encoded again raises nothing but `ProviderError`."""
    for depth in range(700, 1001):
        body = BufferedBody(line % (b"[" * depth + b"]" * depth))
        with suppress(ProviderError):
            await DeltaStream(cast("ResponseBody", body), decoder(), FAILURES, 5, Batches()).run()


@pytest.mark.parametrize("indent", [None, 2])
async def test_answer_that_is_not_streamed(upstream: Upstream, indent: int | None) -> None:
    """An answer that a host sends as one JSON document is decoded."""
    choice = {"index": 0, "message": {"role": "assistant", "content": "All of it."}, "finish_reason": "stop"}
    body = json.dumps({"object": "chat.completion", "choices": [choice], "usage": {"prompt_tokens": 3}}, indent=indent)
    for sent in (body, body.replace(",\n", ",\n\n"), body.replace("\n", "\r\n\r\n")):
        answer, _ = await read(upstream, Script((sent.encode(),)))
        assert (answer.text(), answer.finish, answer.code) == ("All of it.", "stop", None)
        assert answer.usage is not None
        assert answer.usage.input_tokens == 3
    answer, _ = await read(upstream, Script((body.replace(",", ",\n\n")[:-2].encode(),)))
    assert answer.code == "upstream_error"


async def test_unframed_chunks(upstream: Upstream) -> None:
    """A JSON array of chunks, or one chunk per line, is decoded as an answer. Some of the chunks may be empty."""
    chunks: list[Any] = [{"choices": []}, {"choices": [{"delta": {"role": "assistant", "content": ""}}]}]
    chunks += [{"choices": [{"delta": {"content": text}}]} for text in ("Hel", "lo")]
    chunks.append({"choices": [{"delta": {}, "finish_reason": "stop"}]})
    for body in (json.dumps(chunks), json.dumps(chunks, indent=1), "\n".join(map(json.dumps, chunks)) + "\n"):
        answer, _ = await read(upstream, Script((body.encode(),)))
        assert (answer.text(), answer.finish, answer.code) == ("Hello", "stop", None), body


async def test_too_many_chunks_at_once(upstream: Upstream) -> None:
    """Too many chunks in one array, in unframed lines or in one event are rejected."""
    chunks = [b'{"choices":[]}'] * 2000
    for body in (b"[" + b",".join(chunks) + b"]", b"\n".join(chunks), b"data: " + b"".join(chunks) + b"\n\n"):
        answer, _ = await read(upstream, Script((body,)))
        assert (answer.code, answer.parts) == ("upstream_error", [])


async def test_invalid_event_after_the_finish(upstream: Upstream) -> None:
    """After the finish reason the answer is complete, even if an invalid event follows. Empty events are ignored."""
    text, end, _ = chat("a").blocks
    answer, _ = await read(upstream, Script((b"data: \n\n", text, b"data:\n\n", end, b"data: {broken}\n\n")))
    assert (answer.text(), answer.finish, answer.code) == ("a", "stop", None)


async def test_deltas_before_an_error_are_kept(upstream: Upstream) -> None:
    """Deltas before an error in the same read aren't lost."""
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
async def test_invalid_endings(upstream: Upstream, tail: bytes, code: str) -> None:
    """Unframed errors, invalid data, an oversized or partial event, or no ending at all have the right error code."""
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
async def test_status_200_without_a_stream(upstream: Upstream, body: bytes, code: str, retryable: bool) -> None:
    """A response with status 200 and an error, a web page or nothing as its body is an error."""
    answer, _ = await read(upstream, Script((body,)))
    assert answer.code == code
    assert answer.error is not None
    assert answer.error.retryable is retryable


async def test_finish_without_done(upstream: Upstream) -> None:
    """A stream that ends after its finish reason is complete, no matter how the connection ends."""
    blocks = chat("a").blocks[:-1]
    for script in (Script(blocks), Script(blocks, chunked=False), Script(blocks).replace(write="whole")):
        answer, _ = await read(upstream, script)
        assert (answer.text(), answer.finish, answer.error) == ("a", "stop", None)
    length = sum(map(len, blocks))
    answer, _ = await read(upstream, chat("a").replace(cut=length, cut_by="rst"))
    assert (answer.text(), answer.finish, answer.error) == ("a", "stop", None)


async def test_last_event_without_a_blank_line(upstream: Upstream) -> None:
    """A last event that isn't followed by a blank line is decoded if it is complete."""
    blocks = chat("a").blocks
    answer, _ = await read(upstream, Script((blocks[0], blocks[1].rstrip(b"\n"))))
    assert (answer.text(), answer.finish) == ("a", "stop")


async def test_data_after_done_is_ignored(upstream: Upstream) -> None:
    """Data after the end of a stream is ignored."""
    answer, _ = await read(upstream, Script((*chat("a").blocks, *chat("b").blocks)).replace(write="whole"))
    assert answer.text() == "a"


async def test_stall(upstream: Upstream) -> None:
    """A stream that stops in the middle times out, and comments don't prevent that."""
    for stalled in (
        chat("a", "b").replace(stall_after=1),
        Script((chat("a").blocks[0], *[b": alive\n\n"] * 40)).replace(rate=40),
    ):
        answer, _ = await read(upstream, stalled, between_s=0.2)
        assert (answer.text(), answer.code) == ("a", "upstream_timeout")


async def test_stall_after_the_finish(upstream: Upstream, monkeypatch: pytest.MonkeyPatch) -> None:
    """After the finish reason, the provider has only `AFTER_FINISH_S` to end the response."""
    monkeypatch.setattr("providers.http.stream.AFTER_FINISH_S", 0.1)
    async with asyncio.timeout(3):
        answer, _ = await read(upstream, chat("a").replace(stall_after=2), between_s=60)
    assert (answer.text(), answer.finish) == ("a", "stop")


async def test_failed_finish_and_a_broken_connection(upstream: Upstream) -> None:
    """A finish reason that reports a failure is an error, even if the connection breaks right after it."""
    script = chat("a", finish="network_error")
    answer, _ = await read(upstream, script.replace(cut=sum(map(len, script.blocks[:2]))))
    assert answer.code == "upstream_error"


async def test_end_does_not_wait_for_the_connection(upstream: Upstream) -> None:
    """After [DONE], a connection that the provider keeps open doesn't delay the end of the answer for long."""
    async with asyncio.timeout(2):
        answer, _ = await read(upstream, Script((*chat("a").blocks, b"")).replace(stall_after=3), between_s=60)
    assert answer.finish == "stop"


async def test_data_after_the_end_closes_the_connection(upstream: Upstream) -> None:
    """If a provider keeps sending after the end, the connection is closed."""
    script = Script((*chat("a").blocks, *[b": more\n\n"] * 1000)).replace(rate=500)
    async with asyncio.timeout(3):
        answer, _ = await read(upstream, script, between_s=60)
    assert answer.finish == "stop"
    async with asyncio.timeout(1):
        await upstream.requests[0].disconnected.wait()
