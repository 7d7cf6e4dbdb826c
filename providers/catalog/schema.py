"""The schema of `catalog.toml`: the rows of providers and models."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from providers.price import Price
from providers.route import Continue, DialectName, Feature

VARIABLE = "^[A-Za-z_][A-Za-z0-9_]*$"
ADDRESS = r"^(https?://|\{[A-Z]|$)"
Variable = Annotated[str, Field(pattern=VARIABLE)]
"""The name of an environment variable. The catalog's files hold this name, never the value."""


class ProviderRow(BaseModel):
    """A provider. In `base_url`, `headers` and `proxy`, `{NAME}` is replaced by the value of the variable NAME."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    title: str
    dialect: DialectName = "openai_chat"
    base_url: str = Field(default="", pattern=ADDRESS)
    base_url_variables: tuple[Variable, ...] = ()
    """Variables that may hold another base URL. The first one that is set is used."""
    keys: tuple[Variable, ...] = ()
    """Variables that may hold the API key, or several keys separated by commas. The first one that is set is used."""
    key_optional: bool = False
    credentials: tuple[Variable, ...] = ()
    """Variables that hold credentials of another kind. If one of them is set, no key is needed."""
    headers: dict[str, str] = {}
    proxy: str | None = Field(default=None, pattern=ADDRESS)
    """The HTTP proxy for this provider. Empty means no proxy; None means the proxy of `CatalogRows`."""
    options: dict[str, tuple[Variable, ...]] = {}
    """Other settings that the client of a cloud needs, each with the variables that may hold it."""
    required: tuple[str, ...] = ()
    """The options that have to be set before the provider can be used."""
    package: str = ""
    """A module that has to be installed."""
    extra: str = ""
    """The extra of `turnwire` that installs that module."""
    also: tuple[str, ...] = ()
    """Other names of this provider."""
    patterns: tuple[str, ...] = ()
    """Patterns for the names of models without a row that are routed to this provider."""
    unthinking: tuple[str, ...] = ()
    """Patterns for the names of models without a row that can't think, even if `features` has "thinking"."""
    prefill: tuple[str, ...] = ()
    """Patterns for the names of models, with a row or without, that continue an answer whose start is the last message.
    A pattern after `!` excludes models."""
    continues: Continue = ""
    """How an answer that broke off may be continued. Empty: as `CatalogRows` says."""
    uncached: tuple[str, ...] = ()
    """Patterns for the names of models without a row that refuse a request to cache the prompt. See `Quirks.prompt_cache`."""
    variant_of: str = ""
    """The name of the provider that this one is a variant of. The variant has the same models, and inherits
    every field that it doesn't set, except `also` and `patterns`."""
    hint: str = ""
    """A sentence that is appended to the error message if a key is rejected."""
    price_list: str = ""
    """The provider's name in `genai-prices`."""
    hidden: bool = False
    features: tuple[Feature, ...] = ("chat", "streaming")
    """The features of a model without a row."""
    quirks: dict[str, Any] = {}


class ModelRow(BaseModel):
    """A model. `model` is the provider's own name for it. Empty means the same as `id`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str = Field(min_length=1)
    name: str
    provider: str
    model: str = ""
    dialect: DialectName | None = None
    """The dialect, if it isn't the provider's."""
    features: tuple[Feature, ...]
    context_window: int | None = Field(default=None, gt=0)
    max_output: int | None = Field(default=None, gt=0)
    price: Price | None = None
    own_price: Price | None = None
    """The operator's price, which overrides any other."""
    fallbacks: tuple[str, ...] = ()
    continues: Continue = ""
    """How an answer that broke off may be continued. Empty: as the provider's row says."""
    hidden: bool = False
    """Whether the model is left out of lists. It can still be used by its name."""
    legacy: bool = False
    """Whether the model is listed as outdated. Its provider may have retired it, and then refuses requests for it."""
    quirks: dict[str, Any] = {}


class CatalogRows(BaseModel):
    """All rows of the catalog of a process."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    default_model: str
    providers: dict[str, ProviderRow]
    models: tuple[ModelRow, ...]
    proxy: str = Field(default="", pattern=ADDRESS)
    """The HTTP proxy for every provider whose `proxy` is None and that isn't on this machine."""
    think_opened: tuple[str, ...] = ()
    """Patterns, in lowercase, for the names of models whose prompt opens the reasoning. See `Quirks.think_opened`."""
    continues: Continue = ""
    """How an answer that broke off may be continued, for models and providers that don't say."""
    aliases: dict[str, str] = {}
    """Map from a name chosen by the operator to a model's id."""


def provider_names(providers: Mapping[str, ProviderRow]) -> dict[str, str]:
    """Return a map from every name of a provider, including those in `also`, to its key in `providers`."""
    return {alias: name for name, row in providers.items() for alias in (name, *row.also)}


@cache
def shipped_rows() -> CatalogRows:
    """Return the rows that ship with this package."""
    return CatalogRows.model_validate(tomllib.loads(Path(__file__).with_name("catalog.toml").read_text("utf-8")))
