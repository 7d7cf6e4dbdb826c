"""The default model, which needs no key. It streams deterministic text word by word and can fail on request.

The struct `DemoOptions` defines `params.demo`. No data leaves this process.
"""

from __future__ import annotations

import asyncio
import re
import tomllib
from collections.abc import Iterator
from functools import cache
from itertools import chain, islice
from pathlib import Path
from typing import Annotated, Literal
from zlib import crc32

import msgspec
from msgspec import Meta, Struct

from providers.base import (
    ChatRequest,
    Delta,
    DeltaSink,
    ErrorCode,
    Finished,
    FinishReason,
    PartDelta,
    PartKind,
    PartStarted,
    ProviderError,
    TextPart,
    Usage,
    UsageReported,
    deliver,
)
from providers.demo.tokens import Tokens, count_tokens
from providers.endpoint import Endpoint
from providers.retry.replay_dedupe import ReplayFilter
from providers.route import Route
from providers.timeouts import Timeouts

Fail = Literal[
    "before",
    "mid",
    "overloaded",
    "rate_limited",
    "auth",
    "context",
    "timeout",
    "stall",
    "cut",
    "refusal",
    "length",
    "content_filter",
]

ECHO_CHARS_MAX = 120
PROMPT_CHARS_MAX = 10_000
"""How much of a prompt is used to choose the theme."""
TOKENS_MAX = 1_000_000
REFUSAL = "I can't help with that."

_MARKUP = re.compile(r"([\\`*_\[\]<>#|~])")
_FAILURES: dict[str, tuple[ErrorCode, str, bool]] = {
    "before": ("upstream_error", "The demo model failed before its first token, as requested. Try again.", True),
    "mid": ("upstream_error", "The demo model failed in the middle, as requested. Try again.", True),
    "overloaded": ("upstream_overloaded", "The demo model is overloaded, as requested. Try again in a moment.", True),
    "rate_limited": (
        "upstream_rate_limited",
        "The demo model is rate limited, as requested. Try again in a moment.",
        True,
    ),
    "auth": ("upstream_auth", "The demo model rejected the key, as requested. Leave out `params.demo.fail`.", False),
    "context": (
        "context_length_exceeded",
        "The context window of the demo model is too small, as requested. Send less.",
        False,
    ),
    "timeout": ("upstream_timeout", "The demo model took too long, as requested. Try again.", True),
    "stall": ("upstream_timeout", "The demo model stopped sending, as requested. Try again.", True),
    "cut": ("upstream_incomplete", "The demo model's answer was cut off, as requested. Try again.", True),
}
_ENDINGS: dict[str, FinishReason] = {"length": "length", "content_filter": "content_filter", "refusal": "refusal"}
_FAIL_AT_START = frozenset({"before", "overloaded", "rate_limited", "auth", "context", "refusal"})


class DemoTool(Struct, frozen=True, forbid_unknown_fields=True):
    """A tool call for the model to make."""

    name: str
    arguments: str = "{}"


class DemoOptions(Struct, frozen=True, forbid_unknown_fields=True):
    """The options in `params.demo`."""

    rate: Annotated[float, Meta(ge=0, le=1_000_000)] = 40.0
    """The tokens per second. 0 means as fast as possible."""
    tokens: Annotated[int, Meta(ge=0, le=TOKENS_MAX)] | None = None
    """The number of text tokens to stream. The text is truncated to that length, or repeated.

    It is repeated up to about 8 million characters.
    """
    text: str | None = None
    """The text to stream instead of a theme's text."""
    thinking: bool | Annotated[int, Meta(ge=0, le=TOKENS_MAX)] = False
    """Whether a reasoning part comes first. A number is its length in tokens."""
    tool: bool | DemoTool | None = None
    """The tool call that follows the text. `true` means a call of the request's first tool."""
    first_ms: Annotated[int, Meta(ge=0, le=600_000)] = 0
    """The time before the first token, in ms."""
    fail: Fail | None = None
    """The way to fail or to end early."""
    fail_after: Annotated[int, Meta(ge=0, le=TOKENS_MAX)] | None = None
    """The number of tokens before the failure. By default it comes at once or in the middle, depending on `fail`."""


class Theme(Struct, frozen=True):
    """An answer of the model. `{prompt}` is replaced by the user's prompt."""

    title: str
    thinking: str
    text: str


def demo_options(request: ChatRequest) -> DemoOptions:
    """Return the options of a request. Raise `ProviderError` "invalid_request" if one is invalid."""
    try:
        options = msgspec.convert(request.params.demo or {}, DemoOptions)
    except msgspec.ValidationError as error:
        problem, _, path = str(error).partition(" - at `$")
        raise ProviderError(
            "invalid_request",
            f"params.demo{path.rstrip('`')}: {problem}. The options are {', '.join(_OPTION_NAMES)}.",
        ) from None
    if options.tool is True and not request.tools:
        raise ProviderError(
            "invalid_request", "`params.demo.tool` is true, but the request has no tool. Send `tools`, or name a tool."
        )
    return options


def demo_text(request: ChatRequest) -> str:
    """Return the text part that the answer to `request` has if it neither fails nor ends early."""
    return "".join(_text(request, demo_options(request)))


def _text(request: ChatRequest, options: DemoOptions) -> Tokens:
    return Tokens(options.text if options.text is not None else _select_theme(request).text, options.tokens)


def _thinking(request: ChatRequest, options: DemoOptions) -> Tokens:
    thinking = options.thinking
    if isinstance(thinking, bool):
        return Tokens(_select_theme(request).thinking if thinking else "")
    return Tokens(_select_theme(request).thinking, thinking)


@cache
def _themes() -> list[Theme]:
    data = tomllib.loads(Path(__file__).with_name("demo.toml").read_text("utf-8"))
    return msgspec.convert(data["themes"], list[Theme])


_OPTION_NAMES = DemoOptions.__struct_fields__


def _select_theme(request: ChatRequest) -> Theme:
    """Return the theme for the request. The same prompt and seed always get the same theme."""
    prompt = " ".join(_last_user_text(request)[:PROMPT_CHARS_MAX].split())
    themes = _themes()
    theme = themes[(crc32(prompt.encode("utf-8", "replace")) + (request.params.seed or 0)) % len(themes)]
    echo = prompt if len(prompt) <= ECHO_CHARS_MAX else prompt[:ECHO_CHARS_MAX].rstrip() + "…"
    # The echo is a quotation, so its markup is escaped.
    echo = _MARKUP.sub(r"\\\1", echo) or "…"
    return Theme(theme.title, theme.thinking.replace("{prompt}", echo), theme.text.replace("{prompt}", echo))


def _last_user_text(request: ChatRequest) -> str:
    for message in reversed(request.messages):
        if message.role == "user":
            return " ".join(part.text for part in message.parts if isinstance(part, TextPart))
    return ""


class Dialect:
    """The client for the demo model. See `dialect.Dialect`."""

    def __init__(self, endpoint: Endpoint, timeouts: Timeouts) -> None:
        self._stall_s = timeouts.between_events_s

    async def aclose(self) -> None:
        """Do nothing, because there are no connections."""

    async def answer(self, request: ChatRequest, route: Route, sink: DeltaSink) -> None:
        """Stream the answer to `sink`, one token per batch, at `rate`. Catch up after a delay of the event loop.

        Raise `ProviderError` if the options are invalid or ask for a failure. See `Provider`.
        """
        options = demo_options(request)
        reasoning, text = _thinking(request, options), _text(request, options)
        stop, reason = _find_stop(request, options, len(reasoning) + len(text))
        await asyncio.sleep(0 if request.partial_answer else options.first_ms / 1000)
        loop = asyncio.get_running_loop()
        start = loop.time()
        replay = ReplayFilter(request.partial_answer)
        batches = filter(None, map(replay.filter, islice(_token_batches(reasoning, text), stop)))
        for number, batch in enumerate(batches):
            if number:
                await asyncio.sleep(max(0.0, start + number / options.rate - loop.time()) if options.rate else 0)
            await deliver(batch, sink)
        if options.fail in _FAILURES:
            raise await self._failure(options.fail)
        part = (1 if reasoning and stop else 0) + (1 if text and stop > len(reasoning) else 0)
        count = stop
        last: list[list[Delta]] = []
        if reason == "refusal":
            last = [[PartStarted(part, "refusal"), PartDelta(part, REFUSAL)]]
        elif reason == "stop" and options.tool:
            tool = options.tool if isinstance(options.tool, DemoTool) else DemoTool(request.tools[0].name)
            reason = "tool_calls"
            count += 1
            call = f"call_{crc32(tool.name.encode()):08x}"
            last = [[PartStarted(part, "tool_call", call=call, name=tool.name), PartDelta(part, tool.arguments)]]
        for batch in filter(None, map(replay.filter, last)):
            await deliver(batch, sink)
        if request.is_continuation:  # the earlier request produced, and counted, the start of the answer
            count -= sum(count_tokens(part.text) for part in request.partial_answer if isinstance(part, TextPart))
        await deliver(
            [UsageReported(_usage(request, max(count, 0), min(len(reasoning), stop))), Finished(reason)], sink
        )

    async def _failure(self, fail: Fail | None) -> ProviderError:
        code, message, retryable = _FAILURES[fail or "mid"]
        if fail == "stall":
            await asyncio.sleep(self._stall_s)
        return ProviderError(
            code, message, retryable=retryable, retry_after_ms=1000 if fail == "rate_limited" else None
        )


def _find_stop(request: ChatRequest, options: DemoOptions, tokens: int) -> tuple[int, FinishReason]:
    """Return (the number of tokens before the failure or the end, the finish reason)."""
    if options.fail is None:
        limit = request.params.max_tokens
        return (tokens, "stop") if limit is None or limit >= tokens else (limit, "length")
    if options.fail_after is not None:
        stop = min(options.fail_after, tokens)
    else:
        stop = 0 if options.fail in _FAIL_AT_START else (tokens + 1) // 2
    return stop, _ENDINGS.get(options.fail, "stop")


def _token_batches(reasoning: Tokens, text: Tokens) -> Iterator[list[Delta]]:
    """Yield the batch for each token. The first token of a part also starts the part."""
    parts: list[tuple[PartKind, Tokens]] = [("reasoning", reasoning), ("text", text)]
    for part, (kind, tokens) in enumerate((kind, tokens) for kind, tokens in parts if len(tokens)):
        opening: list[Delta] = [PartStarted(part, kind)]
        for token in tokens:
            yield [*opening, PartDelta(part, token)]
            opening = []


def _usage(request: ChatRequest, output: int, reasoning: int) -> Usage:
    parts = (part for message in request.messages for part in message.parts)
    texts = chain([request.system or ""], (part.text for part in parts if isinstance(part, TextPart)))
    return Usage(input_tokens=sum(map(count_tokens, texts)), output_tokens=output, reasoning_tokens=reasoning or None)
