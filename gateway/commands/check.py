"""`turnwire check MODEL`: make one tiny real turn, and print its timings or why it failed."""

from __future__ import annotations

import asyncio
import time
from argparse import ArgumentParser, Namespace
from typing import Final
from urllib.parse import urlsplit

from gateway.commands.configuration import load_catalog, load_settings
from gateway.commands.exits import EXIT_FAILED, fail
from gateway.settings import Settings
from providers.base import (
    ChatMessage,
    ChatRequest,
    Delta,
    Finished,
    Params,
    PartDelta,
    PartStarted,
    ProviderError,
    TextPart,
    Usage,
    UsageReported,
)
from providers.catalog.catalog import Catalog
from providers.clients import ProviderClients

HELP = "run one tiny real turn with a model, and print its timings or the reason for its failure"
PROMPT = "Answer with the one word: ready"
OUTPUT_TOKENS_MAX = 64
"""Enough for one word, and for some reasoning before it."""


def add_options(parser: ArgumentParser) -> None:
    """Add the options of this command to `parser`."""
    parser.add_argument("model", metavar="MODEL", help="model id, alias, or PROVIDER/MODEL")


def run(options: Namespace) -> None:
    """Make the turn, and print the report.

    Exit with 1 if the model can't be used or fails, and with 2 if a setting is wrong.
    """
    settings = load_settings(options)
    catalog = load_catalog(settings)
    model: str = options.model
    try:
        report = asyncio.run(_check(catalog, settings, model))
    except ProviderError as error:
        more = [
            f"\n  {name}: {text}"
            for name, text in (("detail", error.detail), ("provider's message", error.provider_text))
            if text
        ]
        fail(f"{model} can't be used: {error.message} ({error.code}){''.join(more)}", EXIT_FAILED)
    print("\n".join(report))


async def _check(catalog: Catalog, settings: Settings, model: str) -> list[str]:
    """Make the turn, and return the lines of the report. Raises `ProviderError`."""
    route = catalog.resolve(model)
    providers = ProviderClients(catalog, settings.timeouts)
    await providers.load(route)
    lines = [f"{model}: answered by {route.title} as {route.model}."]
    endpoint = catalog.endpoint(route.provider)
    connect_s = await _connect_s(endpoint.proxy or endpoint.base_url, settings.connect_timeout_s)
    if connect_s is not None:
        lines.append(_line("connect", f"{connect_s * 1000:.0f} ms"))
    message = ChatMessage("user", (TextPart(PROMPT),))
    params = Params(max_tokens=OUTPUT_TOKENS_MAX)
    request = ChatRequest(model=route.model, messages=(message,), params=params)
    answer = _ResponseRecorder()
    try:
        await providers.client(route).answer(request, answer)
    finally:
        await providers.aclose()
    if answer.first_s is not None:
        lines.append(_line("first token", f"{answer.first_s * 1000:.0f} ms"))
    lines.append(_line("total", f"{(time.perf_counter() - answer.began) * 1000:.0f} ms"))
    if answer.usage is not None:
        lines.append(_line("tokens", f"{answer.usage.input_tokens} in, {answer.usage.output_tokens} out"))
    return [*lines, _line("finish", answer.finish)]


class _ResponseRecorder:
    """A delta sink that keeps the outcome of the request.

    `first_s` is the time in seconds from the start to the first content, or None.
    """

    text_writer: Final = None
    """See `DeltaSink`."""

    def __init__(self) -> None:
        self.began = time.perf_counter()
        self.first_s: float | None = None
        self.usage: Usage | None = None
        self.finish = ""

    def offer(self, batch: list[Delta]) -> bool:
        """See `DeltaSink`."""
        for delta in batch:
            if isinstance(delta, UsageReported):
                self.usage = delta.usage
            elif isinstance(delta, Finished):
                self.finish = delta.reason
            elif isinstance(delta, PartStarted | PartDelta) and self.first_s is None:
                self.first_s = time.perf_counter() - self.began
        return True

    async def put(self, batch: list[Delta]) -> None:
        """See `DeltaSink`."""
        self.offer(batch)


async def _connect_s(url: str, timeout_s: float) -> float | None:
    """Return the time in seconds to connect to `url`, TLS included.

    Return None if the URL has no host, or if the host can't be reached within `timeout_s`.
    """
    address = urlsplit(url)
    if not address.hostname:
        return None
    tls = address.scheme == "https"
    began = time.perf_counter()
    try:
        async with asyncio.timeout(timeout_s):
            port = address.port or (443 if tls else 80)
            _, writer = await asyncio.open_connection(address.hostname, port, ssl=tls)
    except OSError:
        # The turn itself fails with the reason.
        return None
    elapsed_s = time.perf_counter() - began
    writer.close()
    return elapsed_s


def _line(name: str, value: str) -> str:
    return f"  {name:<12} {value}"
