"""Models, endpoints and quirks as data (`catalog.toml`), and which provider a model id means.

The environment comes in as a mapping and is read once. Nothing here shows a key or opens a connection.
"""

from __future__ import annotations

import asyncio
import tomllib
from collections.abc import AsyncIterator, Callable, Mapping
from difflib import get_close_matches
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from providers.base import ChatRequest, Delta, Provider, ProviderError
from providers.route import (
    Dialect,
    DialectName,
    Endpoint,
    ModelInfo,
    ModelRow,
    ProviderRow,
    Quirks,
    Route,
    Timeouts,
)

DEFAULT_TIMEOUTS = Timeouts()
ID_SHOWN_MAX = 80


class CatalogRows(BaseModel):
    """`catalog.toml` as a whole."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    default_model: str
    providers: dict[str, ProviderRow]
    models: tuple[ModelRow, ...]


@cache
def rows() -> CatalogRows:
    """The rows that ship with this package."""
    return CatalogRows.model_validate(tomllib.loads(Path(__file__).with_name("catalog.toml").read_text("utf-8")))


class Catalog:
    """The models of one process, whose keys and addresses `environment` holds."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        data = rows()
        self.default_model = data.default_model
        self._providers = data.providers
        self._models = {row.id: row for row in data.models}
        self._endpoints = {name: _endpoint(name, row, environment) for name, row in data.providers.items()}

    def __repr__(self) -> str:
        return f"Catalog({len(self._models)} models, {len(self._providers)} providers)"

    def models(self) -> list[ModelInfo]:
        """Every model with a row of its own, in the order of the rows."""
        return [
            ModelInfo(
                id=row.id,
                name=row.name,
                type=row.provider,
                key=next(iter(self._providers[row.provider].keys), None),
                features=row.features,
                context_window=row.context_window,
                max_output=row.max_output,
                available=self._available(row.provider),
            )
            for row in self._models.values()
        ]

    def resolve(self, model_id: str) -> Route:
        """The route that `model_id` stands for: by its row, by "provider/model", or by a name pattern.

        Raises `ProviderError`: "model_not_found", or "upstream_auth" where the provider's key isn't set.
        """
        provider, model = self._find(model_id)
        row = self._providers[provider]
        if not self._available(provider):
            names = " or ".join(row.keys)
            raise ProviderError(
                "upstream_auth",
                f"The model {model_id} needs {names}: set it where the gateway runs and restart it.",
            )
        listed = self._models.get(model)
        if listed is not None and listed.provider != provider:
            listed = None
        return Route(
            id=model_id,
            model=model,
            provider=provider,
            title=row.title,
            dialect=row.dialect,
            features=listed.features if listed else row.features,
            quirks=Quirks.model_validate(row.quirks | (listed.quirks if listed else {})),
            context_window=listed.context_window if listed else None,
            max_output=listed.max_output if listed else None,
            price=listed.price if listed else None,
            fallbacks=listed.fallbacks if listed else (),
        )

    def endpoint(self, provider: str) -> Endpoint:
        """How this process reaches `provider`."""
        return self._endpoints[provider]

    def _available(self, provider: str) -> bool:
        row = self._providers[provider]
        return not row.keys or row.key_optional or bool(self._endpoints[provider].api_key)

    def _find(self, model_id: str) -> tuple[str, str]:
        if model_id in self._models:
            return self._models[model_id].provider, model_id
        prefix, _, model = model_id.partition("/")
        if prefix in self._providers and model:
            return prefix, model
        for name, row in self._providers.items():
            if any(fnmatchcase(model_id, pattern) for pattern in row.patterns):
                return name, model_id
        shown = model_id if len(model_id) <= ID_SHOWN_MAX else model_id[:ID_SHOWN_MAX] + "…"
        close = get_close_matches(model_id, self._models, n=1)
        hint = f" Did you mean {close[0]}?" if close else ""
        raise ProviderError(
            "model_not_found",
            f"There is no model {shown}.{hint} The request models.list, or GET /v1/models, lists the models; "
            "a provider's other models are named provider/model.",
        )


def _endpoint(name: str, row: ProviderRow, environment: Mapping[str, str]) -> Endpoint:
    return Endpoint(
        provider=name,
        title=row.title,
        base_url=_first(environment, row.base_url_variables) or row.base_url,
        keys=row.keys,
        api_keys=tuple(key for part in _first(environment, row.keys).split(",") if (key := part.strip())),
    )


def _first(environment: Mapping[str, str], names: tuple[str, ...]) -> str:
    """The first variable that is set and not blank, without the line's end that a pasted key brings along."""
    return next((value for name in names if (value := environment.get(name, "").strip())), "")


def _maker(name: DialectName) -> Callable[[Endpoint, Timeouts], Dialect]:
    """What makes a client of this dialect. The SDK behind it is imported here and not before."""
    if name == "demo":
        from providers import demo

        return demo.Dialect
    if name == "anthropic":
        from providers import anthropic

        return anthropic.Dialect
    from providers import openai_chat

    return openai_chat.Dialect


class Routed:
    """One route of a dialect, as the `Provider` that the gateway asks."""

    def __init__(self, dialect: Dialect, route: Route) -> None:
        self._dialect = dialect
        self._route = route

    def stream(self, request: ChatRequest) -> AsyncIterator[list[Delta]]:
        """See `Provider`. What the model can't take is refused here, before anything is sent."""
        self._route.check(request)
        return self._dialect.stream(request, self._route)

    async def aclose(self) -> None:
        """Nothing: the dialect's client is shared by all of its routes, and `Providers` closes it."""


class Providers:
    """The provider clients of one process: one for each provider, made when it is first asked."""

    def __init__(self, catalog: Catalog, timeouts: Timeouts = DEFAULT_TIMEOUTS) -> None:
        self._catalog = catalog
        self._timeouts = timeouts
        self._dialects: dict[str, Dialect] = {}
        self._loaded: set[str] = set()

    def of(self, route: Route) -> Provider:
        """The provider of this route. The first call for a dialect imports its SDK (see `load`)."""
        dialect = self._dialects.get(route.provider)
        if dialect is None:
            make = _maker(route.dialect)
            dialect = self._dialects[route.provider] = make(self._catalog.endpoint(route.provider), self._timeouts)
        return Routed(dialect, route)

    async def load(self, route: Route) -> None:
        """Import the route's dialect with its SDK, in a thread: half a second in which the loop must not stand."""
        if route.dialect not in self._loaded:
            await asyncio.to_thread(_maker, route.dialect)
            self._loaded.add(route.dialect)

    async def aclose(self) -> None:
        """Close every client."""
        dialects, self._dialects = self._dialects, {}
        for dialect in dialects.values():
            await dialect.aclose()
