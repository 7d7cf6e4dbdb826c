"""The catalog, which resolves model ids to routes and endpoints, and the provider clients of one process.

The environment is passed as a mapping and read once. Nothing here reveals a key or opens a connection.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from difflib import get_close_matches
from fnmatch import fnmatchcase
from importlib import import_module
from typing import Final

from msgspec import structs

from providers.base import ChatRequest, DeltaSink, Provider, ProviderError, ResponseHandle
from providers.catalog.endpoints import endpoint_of, missing, whole
from providers.catalog.schema import CatalogRows, ModelRow, ProviderRow, shipped_rows
from providers.route import Dialect, DialectName, Endpoint, ModelInfo, Price, Quirks, Route, Stoppable, Timeouts

DEFAULT_TIMEOUTS = Timeouts()
ID_SHOWN_MAX = 80
WARM_PAUSE_S = 0.2
DIALECTS: Final[dict[DialectName, str]] = {
    "demo": "providers.demo.model",
    "openai_chat": "providers.openai.chat",
    "openai_responses": "providers.openai.responses",
    "anthropic": "providers.anthropic.messages",
    "anthropic_bedrock": "providers.anthropic.bedrock",
    "anthropic_vertex": "providers.anthropic.vertex",
    "anthropic_foundry": "providers.anthropic.foundry",
}
"""Map from each dialect's name to its module."""
PriceOf = Callable[[Route], Price | None]


class Catalog:
    """The models and providers of one process, with the keys and addresses from `environment`."""

    def __init__(self, environment: Mapping[str, str], rows: CatalogRows | None = None) -> None:
        rows = rows or shipped_rows()
        self.default_model = rows.default_model
        self._aliases = rows.aliases
        self._providers = {name: whole(row, rows.providers) for name, row in rows.providers.items()}
        self._names = {also: name for name, row in rows.providers.items() for also in (name, *row.also)}
        self._models = {row.id: row for row in rows.models}
        self._endpoints = {
            name: endpoint_of(name, row, environment, rows.proxy) for name, row in self._providers.items()
        }
        self._infos: dict[PriceOf, list[ModelInfo]] = {}
        self._missing = {
            name: missing(row, self._endpoints[name], environment) for name, row in self._providers.items()
        }

    def __repr__(self) -> str:
        return f"Catalog({len(self._models)} models, {len(self._providers)} providers)"

    def models(self, price_of: PriceOf = lambda route: route.own_price or route.price) -> list[ModelInfo]:
        """Return the models that have a row and aren't hidden, in the order of the rows.

        The models of a provider's variant ("kimi-cn/kimi-k3") follow if its key is set. The list is cached for each
        `price_of`. `providers.catalog.prices.per_million` knows more prices, but its first call is slow.
        """
        if price_of not in self._infos:
            self._infos[price_of] = self._infos_of(price_of)
        return list(self._infos[price_of])

    def _infos_of(self, price_of: PriceOf) -> list[ModelInfo]:
        shown = [row for row in self._models.values() if not row.hidden and not self._providers[row.provider].hidden]
        listed = [self._info(row.id, row, row.provider, price_of) for row in shown]
        for name, provider in self._providers.items():
            if provider.variant_of and not provider.hidden and not self._missing[name]:
                rows = (row for row in shown if row.provider == provider.variant_of)
                listed += [self._info(f"{name}/{row.id}", row, name, price_of) for row in rows]
        return listed

    def providers(self) -> list[tuple[str, ProviderRow, str]]:
        """Return the providers that aren't hidden, each as (name, row, what it needs; see `missing`)."""
        return [(name, row, self._missing[name]) for name, row in self._providers.items() if not row.hidden]

    def missing(self, provider: str) -> str:
        """Return what has to be set or installed before `provider` can be used, or an empty string."""
        return self._missing[provider]

    def resolve(self, model_id: str) -> Route:
        """Return the route for `model_id`, which is an alias, a row's id, "provider/model", or matches a pattern.

        Raise `ProviderError` "model_not_found", or "upstream_auth" if the provider lacks a key or another setting.
        """
        model_id = self._aliases.get(model_id, model_id)
        provider, model, listed = self.find(model_id)
        if missing := self._missing[provider]:
            do = "Install" if missing.startswith("the extra") else "Set"
            raise ProviderError(
                "upstream_auth",
                f"The model {model_id} requires {missing}. {do} it where the gateway runs, then restart the gateway.",
            )
        return self._route(model_id, provider, model, listed)

    def endpoint(self, provider: str) -> Endpoint:
        """Return how this process reaches `provider`."""
        return self._endpoints[provider]

    def endpoints(self) -> list[Endpoint]:
        """Return the endpoints of all providers that this process can use, except the demo."""
        return [
            self._endpoints[name]
            for name, row in self._providers.items()
            if row.dialect != "demo" and not self._missing[name]
        ]

    def dialects(self, first: str) -> dict[DialectName, str]:
        """Return the dialects of the model `first` and of the providers whose key is set, each with one provider."""
        found: dict[DialectName, str] = {}
        with suppress(ProviderError):
            route = self.resolve(first)
            found[route.dialect] = route.provider
        keyed = [name for name, at in self._endpoints.items() if at.api_keys and not self._missing[name]]
        for name in keyed:
            found.setdefault(self._providers[name].dialect, name)
        for row in self._models.values():
            if row.dialect and row.provider in keyed:
                found.setdefault(row.dialect, row.provider)
        return found

    def _route(self, model_id: str, provider: str, model: str, listed: ModelRow | None) -> Route:
        row = self._providers[provider]
        features = listed.features if listed else row.features
        if listed is None and any(fnmatchcase(model, pattern) for pattern in row.unthinking):
            features = tuple(feature for feature in features if feature != "thinking")
        quirks = row.quirks | (listed.quirks if listed else {})
        if "thinking" not in features:
            # A model without thinking would reject a request with an effort.
            quirks |= {"reasoning": "fixed"}
        return Route(
            id=model_id,
            model=model,
            provider=provider,
            title=row.title,
            dialect=(listed.dialect if listed else None) or row.dialect,
            features=features,
            quirks=Quirks.model_validate(quirks),
            context_window=listed.context_window if listed else None,
            max_output=listed.max_output if listed else None,
            # The same model may have another price at another provider.
            price=listed.price if listed and listed.provider == provider else None,
            own_price=listed.own_price if listed else None,
            price_list=row.price_list,
            fallbacks=listed.fallbacks if listed else (),
        )

    def _info(self, model_id: str, row: ModelRow, provider: str, price_of: PriceOf) -> ModelInfo:
        price = price_of(self._route(model_id, provider, row.model or row.id, row))
        return ModelInfo(
            id=model_id,
            name=row.name,
            type=provider.partition(":")[0],
            key=next(iter(self._providers[provider].keys), None),
            features=row.features,
            context_window=row.context_window,
            max_output=row.max_output,
            price=price.shown() if price else None,
            aliases=tuple(alias for alias, target in self._aliases.items() if target == model_id),
            available=not self._missing[provider],
        )

    def find(self, model_id: str) -> tuple[str, str, ModelRow | None]:
        """Return (provider, the provider's name for the model, the model's row or None).

        Raise `ProviderError` "model_not_found" if there is no such model.
        """
        if (listed := self._models.get(model_id)) is not None:
            return listed.provider, listed.model or listed.id, listed
        prefix, _, model = model_id.partition("/")
        if (provider := self._names.get(prefix)) is not None and model:
            listed = self._listed(provider, model)
            return provider, listed.model or listed.id if listed else model, listed
        for name, row in self._providers.items():
            if any(fnmatchcase(model_id, pattern) for pattern in row.patterns):
                return name, model_id, None
        shown = model_id if len(model_id) <= ID_SHOWN_MAX else model_id[:ID_SHOWN_MAX] + "…"
        close = get_close_matches(model_id[:ID_SHOWN_MAX], [*self._models, *self._aliases], n=3)
        hint = f" Did you mean {' or '.join(close)}?" if close else ""
        raise ProviderError(
            "model_not_found",
            f"Model {shown} not found.{hint} Send models.list or GET /v1/models to get the models; "
            "name a provider's other models provider/model.",
        )

    def _listed(self, provider: str, model: str) -> ModelRow | None:
        """Return the row of a model of `provider`, or of the provider that it is a variant of, or None."""
        family = {provider, self._providers[provider].variant_of}
        rows = (row for row in self._models.values() if row.provider in family)
        return next((row for row in rows if model in (row.id, row.model)), None)


def _maker(name: DialectName) -> Callable[[Endpoint, Timeouts], Dialect]:
    """Return the class that creates clients of this dialect. This imports the dialect's SDK, if it isn't imported."""
    made: Callable[[Endpoint, Timeouts], Dialect] = import_module(DIALECTS[name]).Dialect
    return made


class Routed:
    """A `Provider` for one route of a dialect."""

    def __init__(self, dialect: Dialect, route: Route) -> None:
        self._dialect = dialect
        self._route = route

    async def answer(self, request: ChatRequest, sink: DeltaSink) -> None:
        """Check `request` before anything is sent, then pass the answer to `sink`. See `Provider`.

        Raise `ProviderError` if the model can't take the request or the answer fails.
        """
        self._route.check(request)
        await self._dialect.answer(request, self._route, sink)

    async def aclose(self) -> None:
        """Do nothing, because all routes share the dialect's client, which `Providers` closes."""


class Providers:
    """The provider clients of one process: one per provider, dialect and key, created at the first request."""

    def __init__(self, catalog: Catalog, timeouts: Timeouts = DEFAULT_TIMEOUTS) -> None:
        self._catalog = catalog
        self._timeouts = timeouts
        self._dialects: dict[tuple[str, DialectName, int], Dialect] = {}
        self._loaded: set[str] = set()
        self._loading = 0

    def endpoints(self) -> list[Endpoint]:
        """Return the endpoints of all providers that this process can use, except the demo. See `Catalog`."""
        return self._catalog.endpoints()

    def fallbacks(self, route: Route) -> list[Route]:
        """Return the fallback routes of `route`, without those that this process can't use."""
        found = []
        for model_id in route.fallbacks:
            with suppress(ProviderError):
                found.append(self._catalog.resolve(model_id))
        return found

    def of(self, route: Route, key: str = "") -> Provider:
        """Return the provider client of `route` with the API key `key`, or with the first key if it is empty.

        The first call for a dialect imports its SDK (see `load`).
        """
        return Routed(self._client(route, key), route)

    def _client(self, route: Route, key: str = "") -> Dialect:
        endpoint = self._catalog.endpoint(route.provider)
        number = endpoint.api_keys.index(key) if key else 0
        place = route.provider, route.dialect, number
        dialect = self._dialects.get(place)
        if dialect is None:
            mine = structs.replace(endpoint, api_keys=endpoint.api_keys[number : number + 1])
            dialect = self._dialects[place] = _maker(route.dialect)(mine, self._timeouts)
        return dialect

    async def stop(self, cursor: ResponseHandle) -> None:
        """Stop the answer with the response handle `cursor`, which its provider would complete otherwise.

        Raise `ProviderError` if that fails.
        """
        route = self._catalog.resolve(cursor.route)
        await self.load(route)
        dialect = self._client(route)
        if isinstance(dialect, Stoppable):
            await dialect.stop(cursor)

    async def load(self, route: Route) -> None:
        """Import the route's dialect with its SDK in a thread, because that takes half a second."""
        if route.dialect not in self._loaded:
            self._loading += 1
            try:
                await asyncio.to_thread(self._prepare, route.dialect, route.provider)
            finally:
                self._loading -= 1
            self._loaded.add(route.dialect)

    def _prepare(self, dialect: DialectName, provider: str) -> None:
        """Import the dialect and create an unused client, because an SDK imports half of itself only then."""
        _maker(dialect)(self._catalog.endpoint(provider), self._timeouts)

    def warm(self, default_model: str) -> None:
        """Import what the first turn would have to wait for. The caller runs this in a thread.

        It pauses while a turn loads a dialect, so that the turn goes first.
        """
        for dialect, provider in self._catalog.dialects(default_model).items():
            while self._loading:
                time.sleep(WARM_PAUSE_S)
            self._prepare(dialect, provider)
        if "providers.http.transport" in sys.modules:
            sys.modules["providers.http.transport"].tls_context()

    async def aclose(self) -> None:
        """Close every client."""
        dialects, self._dialects = self._dialects, {}
        for dialect in dialects.values():
            await dialect.aclose()
