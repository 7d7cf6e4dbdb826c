"""Streams that are split, commented and framed at random have the same outcome. A stream that is cut is an error."""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import cast

import httpx2
import pytest

from providers.anthropic.events import MessagesDecoder
from providers.base import ProviderError, Usage
from providers.http.body import ResponseBody
from providers.http.stream import Decoder, DeltaStream
from providers.openai.chat_chunks import ChatDecoder
from providers.openai.responses_events import ResponsesDecoder
from providers.quirks import Quirks
from tests.answers import STREAMS, Answer
from tests.examples import examples
from tests.recorded import failures
from tests.upstream import recorded

FAILURES = failures("It")
ROUNDS = examples(40)
BYTES_OF_ALL = ROUNDS * 50_000
"""About how many bytes of one stream are fed in all of its rounds together, so a very long stream has fewer rounds."""

DECODERS: dict[str, Callable[[], Decoder]] = {
    "chat": lambda: ChatDecoder(Quirks(), FAILURES),
    "messages": lambda: MessagesDecoder(FAILURES),
    "responses": lambda: ResponsesDecoder(Quirks(), FAILURES),
}
APIS = {"openai-chat": "chat", "anthropic": "messages", "openai-responses": "responses"}


@dataclass
class ListBody:
    """A body that returns these pieces, and then ends or raises `error`."""

    pieces: list[bytes]
    error: httpx2.TransportError | None = None

    async def read(self) -> bytes:
        """See `ResponseBody`."""
        if self.pieces:
            return self.pieces.pop(0)
        if self.error is not None:
            raise self.error
        return b""

    async def read_each(self, consume: Callable[[bytes], bool]) -> bool:
        """See `ResponseBody`."""
        while piece := await self.read():
            if not consume(piece):
                return True
        return False

    def extend_deadline(self, seconds: float) -> None:
        """Do nothing, because a list has no deadline."""


async def outcome(dialect: str, body: ListBody) -> Answer:
    """Return the answer that the whole path from bytes to deltas makes of a body."""
    answer = Answer()
    try:
        await DeltaStream(cast(ResponseBody, body), DECODERS[dialect](), FAILURES, 60, answer).run()
    except ProviderError as error:
        answer.error = error
    return answer


def comparable(answer: Answer) -> tuple[object, ...]:
    """Return every field of the answer that is compared."""
    return (answer.parts, answer.started, answer.signatures, answer.usage, answer.finish, answer.code)


@cache
def streams() -> dict[str, tuple[str, tuple[bytes, ...]]]:
    """Return every stream in the repository, and every recording if there are any: its dialect and its blocks."""
    found = {path.name: (path.name.split("_")[0], recorded(path, "").blocks) for path in sorted(STREAMS.iterdir())}
    folder = os.environ.get("RECORDED_STREAMS")
    for path in sorted(Path(folder).iterdir()) if folder else ():
        api = path.name.split("__")[0]
        name = "anthropic" if api == "anthropic" else f"openai-{api.rpartition('-')[2]}"
        if "__" in path.name:
            found[path.name] = (APIS[name], recorded(path, name).blocks)
    return found


def split(rng: random.Random, raw: bytes) -> list[bytes]:
    """Split at random, with no empty pieces, because an empty piece means the end."""
    cuts = sorted(rng.sample(range(1, len(raw)), min(len(raw) - 1, rng.choice((0, 1, 5, 60, 400)))))
    return [raw[start:end] for start, end in zip([0, *cuts], [*cuts, len(raw)], strict=True) if start < end]


def framed(rng: random.Random, blocks: tuple[bytes, ...]) -> bytes:
    """Return the same events with other framing: comments, a byte order mark, other line ends, extra fields."""
    between = rng.choice((b"", b": keep-alive\n\n", b"\n", b"retry: 5\n\n"))
    raw = b"".join(between + block if rng.random() < 0.5 else block for block in blocks)
    line_end = rng.choice((b"\n", b"\r\n", b"\r"))
    return rng.choice((b"", b"\xef\xbb\xbf")) + raw.replace(b"\n", line_end)


@pytest.mark.fuzzed
@pytest.mark.parametrize("name", streams())
async def test_framing_does_not_change_the_outcome(name: str) -> None:
    """Splits, comments, a byte order mark and other line ends don't change the parts, usage and finish reason."""
    dialect, blocks = streams()[name]
    rng = random.Random(name)
    whole = await outcome(dialect, ListBody(list(blocks)))
    assert whole.finish is not None or whole.error is not None
    for _ in range(max(3, min(ROUNDS, BYTES_OF_ALL // len(b"".join(blocks))))):
        raw = framed(rng, blocks)
        assert comparable(await outcome(dialect, ListBody(split(rng, raw)))) == comparable(whole)


@pytest.mark.fuzzed
@pytest.mark.parametrize("name", streams())
async def test_a_cut_stream_is_a_clear_error_without_wrong_text(name: str) -> None:
    """A stream that is cut anywhere is either whole or an error, and its text is a prefix of the whole text."""
    dialect, blocks = streams()[name]
    rng = random.Random(name)
    whole = await outcome(dialect, ListBody(list(blocks)))
    for _ in range(max(5, min(2 * ROUNDS, BYTES_OF_ALL // len(b"".join(blocks))))):
        raw = framed(rng, blocks)
        at = rng.randrange(1, len(raw))
        error = rng.choice((None, httpx2.ReadError("reset"), httpx2.RemoteProtocolError("closed")))
        answer = await outcome(dialect, ListBody(split(rng, raw[:at]) if at > 1 else [raw[:1]], error))
        where = f"cut at {at} of {len(raw)}"
        assert (answer.error is None) != (answer.finish is None), where
        if answer.finish is not None:
            assert whole.error or (answer.finish, answer.parts) == (whole.finish, whole.parts), where
        else:
            assert answer.code in ("upstream_incomplete", whole.code), where
        assert len(answer.parts) <= len(whole.parts), where
        for (kind, text), (whole_kind, whole_text) in zip(answer.parts, whole.parts, strict=False):
            assert kind == whole_kind, where
            assert whole_text.startswith(text), where


async def test_handwritten_hosted_tools_stream() -> None:
    """A Responses stream with events of hosted tools is decoded to the expected parts."""
    answer = await outcome(*_handwritten("responses_hosted_tools.sse"))
    assert answer.parts == [
        ("reasoning", "Look it up.\n\nThen answer."),
        ("text", "Bern — “Bärn” 🐻."),
        ("citation", ""),
        ("tool_call", '{"city":"Bern"}'),
    ]
    assert (answer.signatures, answer.finish) == ({0: "rs_1:Z0FB"}, "tool_calls")
    assert answer.usage == Usage(9, 20, 6, 4)


async def test_handwritten_stream_with_two_starts() -> None:
    """A Messages stream that starts again after a fallback and uses server tools is decoded to the expected parts."""
    answer = await outcome(*_handwritten("messages_two_starts.sse"))
    assert answer.parts == [
        ("reasoning", "First try."),
        ("reasoning", "Second try."),
        ("text", "It is 1 — “eins”."),
        ("citation", ""),
        ("tool_call", '{"n": 1}'),
    ]
    assert (answer.signatures, answer.finish, answer.usage) == ({1: "c2ln"}, "tool_calls", Usage(8, 11))


def _handwritten(name: str) -> tuple[str, ListBody]:
    dialect, blocks = streams()[name]
    return dialect, ListBody(list(blocks))
