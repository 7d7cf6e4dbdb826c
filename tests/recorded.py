"""Replays of recorded streams: over real HTTP, split, framed and cut in many ways, and byte by byte to the parser."""

from __future__ import annotations

import json
import random
from dataclasses import dataclass

from providers.base import Usage
from providers.endpoint import Endpoint
from providers.errors.failures import Failures
from providers.http.sse import SseParser
from providers.http.stream import Decoder
from providers.route import Route
from tests.answers import Answer, decode_named, recordings
from tests.provider_requests import chat_request
from tests.upstream import Script, Upstream, recorded
from tests.upstream_providers import UpstreamProviders

MODES = ("event", "whole", "pieces", "crlf", "comments", "unframed")
CUTS = 12
SMALL_BYTES = 6_000
"""In the mode "pieces", a stream up to this size is sent byte by byte, and a longer one in pieces of 41 bytes."""


@dataclass(frozen=True)
class Expected:
    """The expected result of one recording. A part is given by its kind, its length and its first characters."""

    parts: tuple[tuple[str, int, str], ...]
    finish: str | None
    usage: Usage | None
    code: str | None = None
    signed: tuple[int, ...] = ()
    """The parts that have a signature."""
    names: tuple[str, ...] = ()
    """The names of the tools that are called."""

    def check(self, answer: Answer) -> None:
        """Check that the whole answer is as expected."""
        pairs = zip(answer.parts, self.parts, strict=False)
        got = tuple((kind, len(text), text[: len(want[2])]) for (kind, text), want in pairs)
        assert len(answer.parts) == len(self.parts)
        assert got == self.parts
        assert (answer.finish, answer.usage, answer.code) == (self.finish, self.usage, self.code)
        assert tuple(answer.signatures) == self.signed
        assert tuple(part.name for part in answer.started if part.kind == "tool_call") == self.names


def load(file: str, api: str) -> Script:
    """Load one recording as a script."""
    return recorded(recordings() / file, api)


def files_of(api: str) -> set[str]:
    """Return the names of all recordings of one API."""
    (manifest,) = load("manifest.json", "json").blocks
    return {row["file"] for row in json.loads(manifest) if row["api"] == api}


def replayed(script: Script, mode: str) -> Script:
    """Return the script in one of the `MODES`."""
    size = sum(map(len, script.blocks))
    match mode:
        case "whole":
            return script.replace(write="whole")
        case "pieces":
            return script.replace(write="piece", piece=1 if size <= SMALL_BYTES else 41)
        case "crlf":
            return script.replace(crlf=True)
        case "comments":
            return script.replace(comments=True)
        case "unframed":
            return script.replace(chunked=False)
    return script


async def replay(upstream: Upstream, providers: UpstreamProviders, script: Script, route: Route) -> Answer:
    """Return the answer that the whole stack makes of a script: SDK, HTTP, parser and decoder."""
    upstream.play(script)
    return await providers.answer(chat_request(), route)


def bytewise(script: Script, decoder: Decoder) -> Answer:
    """Return the answer that the parser and decoder make of a script's body, fed byte by byte."""
    parser, raw = SseParser(), b"".join(script.blocks)
    events = (event for at in range(len(raw)) for event in parser.feed(raw[at : at + 1]) if not decoder.done)
    return decode_named(decoder, events)


def failures(title: str) -> Failures:
    """Return the `Failures` of a provider without special rules."""
    return Failures(Endpoint(title.lower(), title, "", ()))


async def cut_anywhere(
    upstream: Upstream, providers: UpstreamProviders, script: Script, route: Route, seed: int
) -> None:
    """Cut the stream at random bytes, by FIN or by RST.

    Check that each result is an error or the whole answer, and that its text is the beginning of the whole text.
    """
    rng = random.Random(seed)
    size = sum(map(len, script.blocks))
    whole = await replay(upstream, providers, script, route)
    for number in range(CUTS):
        cut = script.replace(
            cut=rng.randrange(size),
            cut_by=rng.choice(("fin", "rst")),
            chunked=rng.random() < 0.7,
            write=rng.choice(("event", "whole")),
        )
        answer = await replay(upstream, providers, cut, route)
        where = f"cut {number}: {cut.cut} of {size} bytes by {cut.cut_by}"
        assert (answer.error is None) != (answer.finish is None), where
        if answer.finish is not None:
            # A recording that fails after its finish reason may be cut between the two.
            assert whole.error or (answer.finish, answer.parts) == (whole.finish, whole.parts), where
        else:
            assert answer.code in ("upstream_incomplete", "upstream_error", whole.code), where
        for (kind, text), (whole_kind, whole_text) in zip(answer.parts, whole.parts, strict=False):
            assert kind == whole_kind, where
            assert whole_text.startswith(text), where
