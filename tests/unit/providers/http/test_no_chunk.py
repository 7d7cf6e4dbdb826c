"""Events that hold no chunk of an answer, in every dialect."""

import asyncio
import json
import time
from collections.abc import Callable

import pytest

from providers.anthropic.events import MessagesDecoder
from providers.base import ProviderError
from providers.endpoint import Endpoint
from providers.errors.failures import Failures
from providers.http.body import ResponseBody
from providers.http.no_chunk import read_no_chunk
from providers.http.stream import Decoder, DeltaStream
from providers.http.transport import body_of, http_client
from providers.openai.chat_chunks import ChatDecoder
from providers.openai.responses_events import ResponsesDecoder
from providers.quirks import Quirks
from providers.timeouts import Timeouts
from tests.answers import Answer
from tests.upstream import Script, Upstream, chat, messages, responses, sse

FAILURES = Failures(Endpoint("openai", "OpenAI", "", ("OPENAI_API_KEY",)))
DIALECTS: dict[str, tuple[Script, Callable[[], Decoder]]] = {
    "chat": (chat("Hello, ", "you."), lambda: ChatDecoder(Quirks(), FAILURES)),
    "messages": (messages("Hello, ", "you."), lambda: MessagesDecoder(FAILURES)),
    "responses": (responses("Hello, ", "you."), lambda: ResponsesDecoder(Quirks(), FAILURES)),
}
SIGNS = (
    *("null", "[]", "true", "false", "0", "-1.5", '""', '" "', '"ping"', "ping", "keepalive", "PING", "NaN"),
    *("OPENROUTER PROCESSING", ":", ".", "[null]", "[0,[]]", "pong 17:02:11", "{}"),
)
NAMES = (None, "ping", "heartbeat", "keepalive", "message")


async def read(
    upstream: Upstream, script: Script, decoder: Decoder, between_s: float = 5, alive_s: float = 0
) -> tuple[Answer, DeltaStream]:
    """Return the answer to one script, and its stream."""
    upstream.play(script)
    answer = Answer()
    async with http_client(Timeouts(first_event_s=between_s)) as client:
        response = await client.send(
            client.build_request("POST", upstream.openai_url + "/chat/completions"), stream=True
        )
        body: ResponseBody = body_of(response)
        stream = DeltaStream(body, decoder, FAILURES, between_s, answer, alive_s=alive_s)
        try:
            await stream.run()
        except ProviderError as error:
            answer.error = error
        await response.aclose()
    return answer, stream


@pytest.mark.parametrize("dialect", DIALECTS)
async def test_signs_of_life_are_skipped(upstream: Upstream, dialect: str) -> None:
    """What isn't a chunk is skipped and counted, with any name and at any place in the stream."""
    script, decoder = DIALECTS[dialect]
    signs = [sse(sign, name) for sign in SIGNS for name in NAMES]
    blocks = [piece for block in script.blocks for piece in (*signs, block)]
    answer, stream = await read(upstream, script.replace(blocks=tuple(blocks), write="whole"), decoder())
    assert (answer.text(), answer.finish, answer.code) == ("Hello, you.", "stop", None)
    assert stream.skipped == (len(signs) - len(NAMES)) * len(script.blocks)


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize(
    ("data", "code"),
    [
        ('{"choices":[{"del', "upstream_error"),
        ("<html><body>502 Bad Gateway</body></html>", "upstream_error"),
        ('[{"error"', "upstream_error"),
        ('"ping', "upstream_error"),
        ("lorem ipsum " * 20, "upstream_error"),
        ("upstream connect error or disconnect/reset before headers", "upstream_error"),
        ('"rate limit exceeded"', "upstream_rate_limited"),
        ("The server is overloaded", "upstream_overloaded"),
        ('[{"error":{"code":503,"message":"x"}}]', "upstream_overloaded"),
    ],
)
async def test_failures_end_the_turn(upstream: Upstream, dialect: str, data: str, code: str) -> None:
    """Broken JSON, a page, and a text that reports a failure end the answer."""
    script, decoder = DIALECTS[dialect]
    blocks = (*script.blocks[:-3], sse(data), *script.blocks[-3:])
    answer, _ = await read(upstream, script.replace(blocks=blocks), decoder())
    assert (answer.finish, answer.code) == (None, code)


async def test_merged_with_a_chunk(upstream: Upstream) -> None:
    """A sign of life in the same event as a chunk, and a list of chunks, don't hide the chunks."""
    first, second, *rest = chat("Hello, ", "you.").blocks
    merged = first.rstrip() + b"\ndata: null\n\n"
    listed = b"data: [" + second.strip().removeprefix(b"data: ") + b",null]\n\n"
    answer, _ = await read(upstream, Script((merged, listed, *rest)), ChatDecoder(Quirks(), FAILURES))
    assert (answer.text(), answer.finish) == ("Hello, you.", "stop")


def test_many_signs_are_cheap() -> None:
    """A hundred thousand signs of life take little time."""
    began = time.thread_time()
    for _ in range(50_000):
        read_no_chunk(None, b"null")
        read_no_chunk("x", b"OPENROUTER PROCESSING")
    assert time.thread_time() - began < 2


BEATS = {
    "comments": b": keep-alive\n\n",
    "null": b"data: null\n\n",
    "empty chunks": b'data: {"choices":[{"index":0,"delta":{"content":""}}]}\n\n',
    "no choices": b'data: {"id":"c","choices":[]}\n\n',
    "events without data": b"data:\n\n",
}


@pytest.mark.parametrize("beat", BEATS.values(), ids=BEATS)
@pytest.mark.parametrize("begun", [True, False])
async def test_signs_of_life_extend_silence(beat: bytes, begun: bool) -> None:
    """While signs of life come, silence has a longer limit, before the first word too. Past that limit, the answer
    fails, and its error has a message of its own."""
    first, second, *rest = chat("Hello, ", "you.").blocks
    head, tail = ((first,), (second, *rest)) if begun else ((), (first, second, *rest))
    alive = Script((*head, *[beat] * 40, *tail)).replace(rate=30)
    endless = Script((*head, *[beat] * 400)).replace(rate=30)

    async def read_alone(script: Script, alive_s: float) -> tuple[Answer, float]:
        began = time.monotonic()
        async with Upstream() as upstream:
            answer, _ = await read(upstream, script, ChatDecoder(Quirks(), FAILURES), between_s=1, alive_s=alive_s)
        return answer, time.monotonic() - began

    # They wait most of the time, so they wait together.
    (whole, _), (without, _), (ended, took_s) = await asyncio.gather(
        read_alone(alive, 30), read_alone(alive, 0), read_alone(endless, 1.3)
    )
    assert (whole.text(), whole.finish, whole.code) == ("Hello, you.", "stop", None)
    assert without.code == "upstream_timeout"
    assert 1.2 < took_s < 15
    assert ended.code == "upstream_timeout"
    assert ended.error is not None
    assert "kept its connection alive" in ended.error.message
    assert ended.error.retryable


async def test_real_silence_keeps_its_limit(upstream: Upstream) -> None:
    """After the last sign of life, the ordinary limit applies."""
    script = Script((chat("a").blocks[0], *[b": x\n\n"] * 4)).replace(rate=20, stall_after=4)
    began = time.monotonic()
    answer, _ = await read(upstream, script, ChatDecoder(Quirks(), FAILURES), between_s=0.4, alive_s=60)
    assert time.monotonic() - began < 20
    assert answer.code == "upstream_timeout"


def test_documents_in_a_list_keep_half_characters() -> None:
    """A chunk in a list is passed on as it is, with half of a surrogate pair."""
    other = read_no_chunk(None, b'[{"a":"\\ud83d"}]')
    assert other is not None
    assert [json.loads(chunk) for chunk in other.chunks] == [{"a": "\ud83d"}]
