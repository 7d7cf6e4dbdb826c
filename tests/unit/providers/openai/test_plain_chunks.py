"""The short way for plain chunks does what the parser and the decoder do: the same batches from the same reads."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final, cast

import pytest

from providers.base import Delta, PartDelta, ProviderError
from providers.http.body import ResponseBody
from providers.http.stream import DeltaStream
from providers.openai.chat_chunks import ChatDecoder
from providers.openai.plain_chunks import LESSONS_MAX, PlainChunks
from providers.quirks import Quirks
from tests.answers import recordings
from tests.chat_reads import DONE, FAILURES, FINISH, TEXTS, USAGE, chunk, cut, recorded_streams

QUIRKS = (Quirks(), Quirks(think_tags=True), Quirks(think_tags=True, think_opened=True), Quirks(reasoning_details=True))


class Body:
    """The body of `DeltaStream`, which passes on the given reads. It records how often progress was reported."""

    def __init__(self, reads: list[bytes]) -> None:
        self._reads = reads
        self.deadlines: list[float] = []

    async def read_each(self, consume: Callable[[bytes], bool]) -> bool:
        while self._reads:
            self.deadlines.append(0)
            if not consume(self._reads.pop(0)):
                return True
        return False

    def extend_deadline(self, seconds: float) -> None:
        self.deadlines.append(seconds)

    def show_life(self, seconds: float, limit_s: float) -> None:
        self.deadlines.append(-seconds)

    async def read(self) -> bytes:
        return b""


class Sink:
    """Records what it gets. It declines every third batch."""

    text_writer: Final = None

    def __init__(self) -> None:
        self.calls: list[tuple[str, list[Delta]]] = []

    def offer(self, batch: list[Delta]) -> bool:
        self.calls.append(("offer", batch))
        return len(self.calls) % 3 != 0

    async def put(self, batch: list[Delta]) -> None:
        self.calls.append(("put", batch))


class Counted:
    """A `Shortcut` that counts how many reads take `plain`. If it isn't open, none does."""

    def __init__(self, plain: PlainChunks, *, is_open: bool) -> None:
        self.taken = 0
        self.observe = plain.observe
        self._plain = plain
        self._is_open = is_open

    @property
    def part(self) -> int:
        return self._plain.part

    def decode(self, chunk: bytes) -> str | None:
        text = self._plain.decode(chunk) if self._is_open else None
        self.taken += text is not None
        return text


async def answer(reads: list[bytes], quirks: Quirks, *, is_short: bool) -> tuple[Any, int]:
    """Return all that can be seen of one answer, and how many reads took the short way."""
    body, sink, decoder = Body(list(reads)), Sink(), ChatDecoder(quirks, FAILURES)
    shortcut = Counted(decoder.plain, is_open=is_short)
    stream = DeltaStream(cast("ResponseBody", body), decoder, FAILURES, 6, sink, alive_s=7)
    stream._plain = shortcut
    error = None
    try:
        await stream.run()
    except ProviderError as failure:
        error = (failure.code, str(failure))
    said = "".join(decoder._said)
    return (
        sink.calls,
        body.deadlines,
        error,
        stream.skipped,
        said,
        "".join(decoder.watched_text or ()),
    ), shortcut.taken


async def compare(reads: list[bytes], quirks: Quirks) -> int:
    """Feed the reads to both ways, and compare all that can be seen. Return how many reads took the short way."""
    long, _ = await answer(reads, quirks, is_short=False)
    short, taken = await answer(reads, quirks, is_short=True)
    assert short == long
    return taken


async def test_plain_chunks_take_the_short_way() -> None:
    """After the first text, which opens the part, and the second one, every plain chunk does. The batches say the same."""
    reads = [chunk(text) for text in ("a", "b", "c", "Zoë", " 日本", "🙂", "d")] + [FINISH, USAGE, DONE]
    assert await compare(reads, Quirks()) == 6
    (calls, *_), _ = await answer(reads, Quirks(), is_short=True)
    deltas = [delta for _, batch in calls for delta in batch]
    assert deltas[2:6] == [PartDelta(0, text) for text in ("b", "c", "c", "Zoë")]


@pytest.mark.parametrize("quirks", QUIRKS)
@pytest.mark.parametrize("text", TEXTS)
async def test_every_text(text: str, quirks: Quirks) -> None:
    """Any text between plain ones, also one that isn't JSON, has the same effect both ways."""
    raw = text.encode("latin-1") if text == "\xff" else None
    odd = chunk(text) if raw is None else chunk("@").replace(b"@", raw)
    for reads in ([chunk("a"), chunk("b"), odd, chunk("c"), chunk("d")], [odd, odd, chunk("a"), odd, chunk("b")]):
        await compare([*reads, FINISH, DONE], quirks)


@pytest.mark.parametrize(
    "fields",
    [
        {"usage": {"completion_tokens": 3}},
        {"usage": None, "service_tier": "default"},
        {"citations": ["https://a.example"]},
        {"error": {"message": "no"}},
        {"error": None, "base_resp": {"status_code": 0}},
        {"base_resp": {"status_code": 1000, "status_msg": "no"}},
        {"delta": {"role": "assistant"}},
        {"delta": {"reasoning_content": None}},
        {"delta": {"reasoning_content": "hm"}},
        {"delta": {"refusal": "no"}},
        {"delta": {"tool_calls": [{"index": 0, "id": "c", "function": {"name": "f", "arguments": "{}"}}]}},
        {"delta": {"content": "twice"}},
        {"delta": {"extra_content": {"google": {"thought": True}}}},
        {"delta": {"annotations": [{"url_citation": {"url": "https://a.example", "title": "A"}}]}},
        {"choices": [{"index": 1, "delta": {"content": "other"}}]},
        {"choices": None},
    ],
)
async def test_chunks_with_more_than_text(fields: dict[str, Any]) -> None:
    """A field that means something is never skipped, whether it is in all chunks or comes and goes."""
    plain, odd = chunk("a"), chunk("a", **fields)
    for reads in ([odd] * 5, [plain, plain, odd, plain, plain], [odd, plain, odd, odd, plain, plain]):
        for quirks in QUIRKS:
            await compare([*reads, FINISH, DONE], quirks)


async def test_several_chunks_in_one_read() -> None:
    """They are one batch, as the long way makes it. A character that is cut between two of them isn't put together."""
    plain = [chunk("a"), chunk("b")]
    several = b"".join(chunk(text) for text in ("c", "Zoë", "", " d"))
    assert await compare([*plain, several, several, FINISH, DONE], Quirks()) == 3
    smile = "🙂".encode()
    halves = chunk("@").replace(b"@", smile[:2]) + chunk("@").replace(b"@", smile[2:])
    for odd in (halves, several + chunk('\\"') + several, several[:-1], chunk("") * 3, several + FINISH, several * 40):
        for quirks in QUIRKS:
            await compare([*plain, odd, *plain, several, DONE], quirks)


async def test_text_after_calls_that_are_no_parts_yet() -> None:
    """A call whose name may still grow is opened by the text that follows it, which begins another part."""
    for call in ({"name": "f"}, {"name": "f", "arguments": ""}, {"arguments": "{}"}, {}):
        calls = b'data: {"choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"id":"c","function":%b}]}}]}\n\n'
        odd = calls % json.dumps(call).encode()
        for quirks in QUIRKS:
            for reads in (
                [chunk("a"), chunk("b"), odd, chunk("c"), chunk("d")],
                [odd, chunk("a"), chunk("b"), odd, odd],
            ):
                await compare([*reads, chunk("e"), FINISH, DONE], quirks)


async def test_text_after_the_finish_reason() -> None:
    """It has another timeout."""
    plain = [chunk("a"), chunk("b"), chunk("c"), FINISH]
    assert await compare([*plain, *plain, DONE], Quirks()) == 2


async def test_streams_whose_chunks_differ_stop_learning() -> None:
    """Where each chunk has a random field, the lessons end. What was learned is used again once it fits."""
    varied = [chunk("a", obfuscation=f"{n:x}") for n in range(5 * LESSONS_MAX)]
    decoder = ChatDecoder(Quirks(), FAILURES)
    stream = DeltaStream(cast("ResponseBody", Body(varied)), decoder, FAILURES, 5, Sink())
    with suppress(ProviderError):
        await stream.run()
    assert decoder.plain._lessons == 0
    assert await compare([*varied, FINISH, DONE], Quirks()) == 0


async def test_recorded_streams() -> None:
    """The recorded streams, cut in many ways, with any quirks: those of other dialects too, which fail the same way."""
    rng = random.Random(21)
    streams = list(recorded_streams(recordings()))
    assert len(streams) > 10
    taken = 0
    for data in streams:
        for quirks in QUIRKS:
            for _ in range(4):
                taken += await compare(cut(data, rng), quirks)
    assert taken > 100


async def test_random_streams() -> None:
    """Random mixtures of all kinds of chunks, cut in many ways."""
    rng = random.Random(22)
    others = (
        FINISH,
        USAGE,
        DONE,
        b": ping\n\n",
        b"event: error\n",
        b"data: {}\n\n",
        b"\n",
        b"data: null\n\n",
        b"retry: 1\r\n\r\n",
    )
    taken = 0
    for _ in range(400):
        shapes: list[dict[str, Any]] = [
            {},
            {"usage": None},
            {"delta": {"role": "assistant"}},
            {"delta": {"reasoning": "hm"}},
        ]
        shape = rng.choice(shapes)
        data = b""
        for _ in range(rng.randint(1, 30)):
            kind = rng.randrange(20)
            if kind == 0:
                data += rng.choice(others[3:])
            elif kind == 1:
                data += chunk(rng.choice(TEXTS[:-1]), **json.loads(json.dumps(shape)))
            elif kind == 2:
                shape = rng.choice(shapes)
            else:
                data += chunk(rng.choice(("a", " b", "Zoë", "日", "<i", "🙂")), **json.loads(json.dumps(shape)))
        data += b"".join(rng.sample(others[:3], rng.randint(0, 3)))
        if data:
            taken += await compare(cut(data, rng), rng.choice(QUIRKS))
    assert taken > 500
