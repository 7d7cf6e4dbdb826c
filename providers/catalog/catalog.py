"""The catalog, which resolves model ids to routes and endpoints.

The environment is passed as a mapping and read once. The catalog never opens a connection, and its `repr` and its error
messages never contain a key.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from difflib import get_close_matches
from fnmatch import fnmatchcase
from typing import Any

import structlog

from providers.base import ProviderError
from providers.catalog.endpoints import (
    build_endpoint,
    find_missing,
    is_known_host,
    resolve_variant,
    unwrap,
    variables_of,
)
from providers.catalog.schema import CatalogRows, ModelRow, ProviderRow, provider_names, shipped_rows
from providers.endpoint import Endpoint
from providers.model_info import ModelInfo
from providers.price import Price
from providers.quirks import Quirks
from providers.route import DialectName, Route

log = structlog.stdlib.get_logger("turnwire.provider")

ID_SHOWN_MAX = 80
PriceOf = Callable[[Route], Price | None]


class Catalog:
    """The models and providers of one process, with the keys and addresses from `environment`."""

    def __init__(self, environment: Mapping[str, str], rows: CatalogRows | None = None) -> None:
        rows = rows or shipped_rows()
        self.default_model = rows.default_model
        self._aliases = rows.aliases
        self._continues = rows.continues
        self._providers = {name: resolve_variant(row, rows.providers) for name, row in rows.providers.items()}
        self._names = provider_names(rows.providers)
        self._models = {row.id: row for row in rows.models}
        self._endpoints = {
            name: build_endpoint(name, row, environment, rows.proxy) for name, row in self._providers.items()
        }
        for name in sorted(set().union(*map(variables_of, self._providers.values()))):
            if (value := environment.get(name, "").strip()) != unwrap(value):
                log.warning("removed the quotes or the word Bearer around the value of a variable", variable=name)
        self._think_opened = rows.think_opened
        self._unknown_hosts = {name for name, endpoint in self._endpoints.items() if not is_known_host(endpoint)}
        self._infos: dict[PriceOf, list[ModelInfo]] = {}
        self._missing = {
            name: find_missing(row, self._endpoints[name], environment) for name, row in self._providers.items()
        }

    def __repr__(self) -> str:
        return f"Catalog({len(self._models)} models, {len(self._providers)} providers)"

    def models(self, price_of: PriceOf = lambda route: route.own_price or route.price) -> list[ModelInfo]:
        """Return the models that have a row and aren't hidden. Each is listed again for every usable variant of its provider.

        Models that can be used come first, and outdated ones come last in each of these two groups. Otherwise the order
        is that of the rows, and then of the variants ("kimi-cn/kimi-k3"). The list is cached for each `price_of`.
        `providers.catalog.costs.per_million` knows more prices, but its first call is slow.
        """
        if price_of not in self._infos:
            self._infos[price_of] = self._build_infos(price_of)
        return list(self._infos[price_of])

    def _build_infos(self, price_of: PriceOf) -> list[ModelInfo]:
        shown = [row for row in self._models.values() if not row.hidden and not self._providers[row.provider].hidden]
        listed = [self._info(row.id, row, row.provider, price_of) for row in shown]
        for name, provider in self._providers.items():
            if provider.variant_of and not provider.hidden and not self._missing[name]:
                rows = (row for row in shown if row.provider == provider.variant_of)
                listed += [self._info(f"{name}/{row.id}", row, name, price_of) for row in rows]
        return sorted(listed, key=lambda model: (not model.available, model.legacy))

    def providers(self) -> list[tuple[str, ProviderRow, str]]:
        """Return the providers that aren't hidden, each as (name, row, what it needs; see `missing`)."""
        return [(name, row, self._missing[name]) for name, row in self._providers.items() if not row.hidden]

    def missing(self, provider: str) -> str:
        """Return what has to be set or installed before `provider` can be used, or an empty string."""
        return self._missing[provider]

    def resolve(self, model_id: str) -> Route:
        """Return the route for `model_id`, which is an alias, a row's id, "provider/model", or matches a pattern.

        Raise `ProviderError` "model_not_found", or "upstream_auth" if something has to be set or installed for the
        provider.
        """
        model_id = self._aliases.get(model_id, model_id)
        provider, model, row = self.find(model_id)
        if missing := self._missing[provider]:
            verb = "Install" if missing.startswith("the extra") else "Set"
            raise ProviderError(
                "upstream_auth",
                f"The model {model_id} requires {missing}. {verb} it where the gateway runs, then restart the gateway.",
            )
        return self._route(model_id, provider, model, row)

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

    def dialects(self, first_model: str) -> dict[DialectName, str]:
        """Return the dialects of `first_model` and of the usable providers that have a key, each with one provider."""
        found: dict[DialectName, str] = {}
        with suppress(ProviderError):
            route = self.resolve(first_model)
            found[route.dialect] = route.provider
        keyed = [name for name, endpoint in self._endpoints.items() if endpoint.api_keys and not self._missing[name]]
        for name in keyed:
            found.setdefault(self._providers[name].dialect, name)
        for row in self._models.values():
            if row.dialect and row.provider in keyed:
                found.setdefault(row.dialect, row.provider)
        return found

    def _route(self, model_id: str, provider: str, model: str, row: ModelRow | None) -> Route:
        provider_row = self._providers[provider]
        features = row.features if row else provider_row.features
        if row is None and any(fnmatchcase(model, pattern) for pattern in provider_row.unthinking):
            features = tuple(feature for feature in features if feature != "thinking")
        dialect = (row.dialect if row else None) or provider_row.dialect
        if "prefill" not in features and _takes_prefix(model, provider_row.prefill):
            features = (*features, "prefill")
        # Strict roles are the default, because every model takes them.
        quirks = {"strict_roles": True} | self._tag_quirks(provider, dialect, model)
        quirks |= provider_row.quirks | (row.quirks if row else {})
        if dialect.startswith("anthropic"):
            is_cached = row is not None or not any(fnmatchcase(model, pattern) for pattern in provider_row.uncached)
            quirks = {"prompt_cache": "blocks"} | quirks | ({} if is_cached else {"prompt_cache": ""})
        if "thinking" not in features:
            # A model without thinking would reject a request with an effort.
            quirks |= {"reasoning": "fixed"}
        return Route(
            id=model_id,
            model=model,
            provider=provider,
            title=provider_row.title,
            dialect=dialect,
            features=features,
            quirks=Quirks.model_validate(quirks),
            context_window=row.context_window if row else None,
            max_output=row.max_output if row else None,
            # The same model may have another price at another provider.
            price=row.price if row and row.provider == provider else None,
            own_price=row.own_price if row else None,
            price_list=provider_row.price_list,
            fallbacks=row.fallbacks if row else (),
            continues=(row.continues if row else "") or provider_row.continues or self._continues,
        )

    def _tag_quirks(self, provider: str, dialect: DialectName, model: str) -> dict[str, Any]:
        """Return the quirks of think tags that a host has unless its rows say otherwise. See `Quirks`."""
        if dialect in ("anthropic", "openai_responses"):
            return {"think_tags": provider in self._unknown_hosts}
        if dialect != "openai_chat":
            return {}
        is_opened = any(fnmatchcase(model.lower(), pattern) for pattern in self._think_opened)
        return {"think_tags": provider in self._unknown_hosts, "think_opened": is_opened}

    def _info(self, model_id: str, row: ModelRow, provider: str, price_of: PriceOf) -> ModelInfo:
        route = self._route(model_id, provider, row.model or row.id, row)
        price = price_of(route)
        return ModelInfo(
            id=model_id,
            name=row.name,
            type=provider.partition(":")[0],
            key=next(iter(self._providers[provider].keys), None),
            features=row.features,
            context_window=row.context_window,
            max_output=row.max_output,
            price=price.as_text() if price else None,
            aliases=tuple(alias for alias, target in self._aliases.items() if target == model_id),
            available=not self._missing[provider],
            legacy=row.legacy,
            continues=route.continuation is not None,
        )

    def find(self, model_id: str) -> tuple[str, str, ModelRow | None]:
        """Return (provider, the provider's name for the model, the model's row or None).

        Raise `ProviderError` "model_not_found" if there is no such model.
        """
        if (row := self._models.get(model_id)) is not None:
            return row.provider, row.model or row.id, row
        prefix, _, model = model_id.partition("/")
        if (provider := self._names.get(prefix)) is not None and model:
            row = self._find_row(provider, model)
            return provider, row.model or row.id if row else model, row
        for name, provider_row in self._providers.items():
            if any(fnmatchcase(model_id, pattern) for pattern in provider_row.patterns):
                return name, model_id, None
        shown = model_id if len(model_id) <= ID_SHOWN_MAX else model_id[:ID_SHOWN_MAX] + "…"
        close = get_close_matches(model_id[:ID_SHOWN_MAX], [*self._models, *self._aliases], n=3)
        hint = f" Did you mean {' or '.join(close)}?" if close else ""
        raise ProviderError(
            "model_not_found",
            f"Model {shown} not found.{hint} Send models.list or GET /v1/models to get the models; "
            "for any other model of a provider, send provider/model.",
        )

    def _find_row(self, provider: str, model: str) -> ModelRow | None:
        """Return the row of a model of `provider`, or of the provider that it is a variant of, or None."""
        family = {provider, self._providers[provider].variant_of}
        rows = (row for row in self._models.values() if row.provider in family)
        return next((row for row in rows if model in (row.id, row.model)), None)


def _takes_prefix(model: str, patterns: Sequence[str]) -> bool:
    """Return whether one of `patterns` matches the name of the model, and none of those after `!` does."""
    excluded = [pattern[1:] for pattern in patterns if pattern.startswith("!")]
    return any(fnmatchcase(model, pattern) for pattern in patterns) and not any(
        fnmatchcase(model, pattern) for pattern in excluded
    )
