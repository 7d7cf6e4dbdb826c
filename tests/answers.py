"""Helpers for tests of providers: requests, routes, providers at a test's upstream, and sinks of deltas.

The sink `Answer` folds a stream into parts, usage and finish reason, for comparison.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

import pytest

from providers.base import (
    ChatMessage,
    ChatRequest,
    Delta,
    Finished,
    Params,
    PartDelta,
    PartStarted,
    PartsWithdrawn,
    ProviderError,
    TextPart,
    Tool,
    ToolChoice,
    Usage,
    UsageReported,
)
from providers.catalog.catalog import Catalog
from providers.catalog.schema import shipped_rows
from providers.clients import ProviderClients
from providers.http.stream import Decoder
from providers.quirks import Quirks
from providers.route import Route
from providers.timeouts import Timeouts
from tests.upstream import Upstream

STREAMS = Path(__file__).parent / "streams"
KEY = "sk-test-secret-123456789"


def every_key(key: str = KEY) -> dict[str, str]:
    """Return an environment that configures every provider of the catalog."""
    environment: dict[str, str] = {}
    for row in shipped_rows().providers.values():
        environment |= dict.fromkeys(row.keys[:1], key)
        name = "https://one.example" if row.base_url.startswith("{") else "one"
        environment |= dict.fromkeys(re.findall(r"{(\w+)}", row.base_url), name)
        environment |= {row.options[option][0]: "region-1" for option in row.required}
    return environment


@dataclass
class Answer:
    """One folded stream. A part is its kind and text; `started`, `signatures` and `data` hold the rest."""

    text_writer: Final[None] = None

    parts: list[tuple[str, str]] = field(default_factory=list)
    started: list[PartStarted] = field(default_factory=list)
    signatures: dict[int, str] = field(default_factory=dict)
    data: dict[int, str] = field(default_factory=dict)
    usage: Usage | None = None
    cost: Decimal | None = None
    finish: str | None = None
    error: ProviderError | None = None
    batches: int = 0
    withdrawn: list[list[tuple[str, str]]] = field(default_factory=list)
    """The parts before each withdrawal."""

    def add(self, batch: Iterable[Delta]) -> None:
        """Add one batch. Parts must open in order, and only usage may follow the finish reason."""
        self.batches += 1
        for delta in batch:
            assert self.finish is None or isinstance(delta, UsageReported)
            match delta:
                case PartStarted():
                    assert delta.part == len(self.parts)
                    self.parts.append((delta.kind, ""))
                    self.started.append(delta)
                case PartDelta():
                    kind, text = self.parts[delta.part]
                    self.parts[delta.part] = (kind, "")  # only `text` refers to the text, so it isn't copied
                    text += delta.text or ""
                    self.parts[delta.part] = (kind, text)
                    if delta.signature:
                        previous = self.signatures.get(delta.part, "")
                        self.signatures[delta.part] = previous + delta.signature
                    if delta.data is not None:
                        self.data[delta.part] = self.data.get(delta.part, "") + delta.data
                case PartsWithdrawn():
                    self.withdrawn.append(self.parts)
                    self.parts, self.started, self.signatures, self.data = [], [], {}, {}
                case UsageReported():
                    self.usage, self.cost = delta.usage, delta.cost
                case Finished():
                    self.finish = delta.reason

    def offer(self, batch: list[Delta]) -> bool:
        """See `DeltaSink`. Every second batch must go through `put`."""
        if self.batches % 2:
            return False
        self.add(batch)
        return True

    async def put(self, batch: list[Delta]) -> None:
        """See `DeltaSink`."""
        self.add(batch)

    def text(self, kind: str = "text") -> str:
        """Return all text of one kind."""
        return "".join(text for part, text in self.parts if part == kind)

    @property
    def code(self) -> str | None:
        """The error's code."""
        return self.error.code if self.error else None


def fold(batches: Iterable[Iterable[Delta]]) -> Answer:
    """Return the answer that these batches make up."""
    answer = Answer()
    for batch in batches:
        answer.add(batch)
    return answer


def chat_request(
    text: str = "Hi",
    *,
    model: str = "m",
    tools: tuple[Tool, ...] = (),
    tool_choice: ToolChoice | None = None,
    system: str | None = None,
    **params: Any,
) -> ChatRequest:
    """Return a request with one user message."""
    return ChatRequest(
        model=model,
        messages=(ChatMessage("user", (TextPart(text),)),),
        params=Params(**params),
        tools=tools,
        tool_choice=tool_choice,
        system=system,
    )


def route(dialect: Any = "openai_chat", *, features: tuple[Any, ...] | None = None, **quirks: Any) -> Route:
    """Return a route with these quirks, by default to a model with tools and vision."""
    return Route(
        id="m",
        model="m",
        provider={"openai_chat": "openai", "openai_responses": "openai"}.get(dialect, dialect),
        title={"anthropic": "Anthropic", "demo": "Demo"}.get(dialect, "OpenAI"),
        dialect=dialect,
        features=("chat", "streaming", "tools", "vision") if features is None else features,
        quirks=Quirks(**quirks),
    )


class UpstreamProviders:
    """The providers of one test, with the test's upstream as their address."""

    def __init__(self, upstream: Upstream, timeouts: Timeouts, environment: Mapping[str, str]) -> None:
        self.catalog = Catalog({**addresses(upstream), **environment})
        self.providers = ProviderClients(self.catalog, timeouts)

    async def answer_model(self, model_id: str, **fields: Any) -> Answer:
        """Return the answer of the model `model_id` to `chat_request`."""
        route = self.catalog.resolve(model_id)
        return await self.answer(chat_request(model=route.model, **fields), route)

    async def answer(self, request: ChatRequest, route: Route) -> Answer:
        """Return the whole answer, with the error that ended it."""
        answer = Answer()
        try:
            await self.providers.client(route).answer(request, answer)
        except ProviderError as error:
            answer.error = error
        return answer


def addresses(upstream: Upstream) -> dict[str, str]:
    """Return an environment in which every provider has the address of `upstream`."""
    environment: dict[str, str] = {}
    for row in shipped_rows().providers.values():
        url = upstream.anthropic_url if row.dialect.startswith("anthropic") else upstream.openai_url
        environment |= dict.fromkeys(row.base_url_variables[:1], url + "/v1" * (row.dialect == "anthropic_vertex"))
    return environment


@asynccontextmanager
async def open_providers(
    timeouts: Timeouts | None = None, environment: Mapping[str, str] | None = None
) -> AsyncIterator[tuple[Upstream, UpstreamProviders]]:
    """Open an upstream and providers that use it: all of them, or those whose keys are in `environment`."""
    async with Upstream() as upstream:
        providers = UpstreamProviders(
            upstream, timeouts or Timeouts(), every_key() if environment is None else environment
        )
        try:
            yield upstream, providers
        finally:
            await providers.providers.aclose()


def decode_events(decoder: Decoder, *events: dict[str, Any]) -> Answer:
    """Return the answer that the decoder makes of these events, with its error if it fails."""
    answer = Answer()
    try:
        for event in events:
            if decoder.done:
                break
            decoder.decode_event(None, json.dumps(event).encode())
            answer.add(decoder.parts.drain())
        decoder.end()
    except ProviderError as error:
        answer.error = error
    answer.add(decoder.parts.drain())
    return answer


def recordings() -> Path:
    """Return the folder of recorded streams, or skip the test if there is none."""
    folder = os.environ.get("RECORDED_STREAMS")
    if not folder:
        pytest.skip("RECORDED_STREAMS isn't set")
    return Path(folder)


class Batches:
    """A `DeltaSink` that records the batches. It accepts `offers_max` offered batches; later ones must be put."""

    text_writer: Final = None

    def __init__(self, offers_max: int = 0) -> None:
        self.offered: list[list[Delta]] = []
        self.put_batches: list[list[Delta]] = []
        self._offers_max = offers_max

    @property
    def deltas(self) -> list[Delta]:
        """All deltas."""
        return [delta for batch in [*self.offered, *self.put_batches] for delta in batch]

    def offer(self, batch: list[Delta]) -> bool:
        """See `DeltaSink`."""
        if self._offers_max == len(self.offered):
            return False
        self.offered.append(batch)
        return True

    async def put(self, batch: list[Delta]) -> None:
        """See `DeltaSink`."""
        self.put_batches.append(batch)
