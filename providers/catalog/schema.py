"""What stands in `catalog.toml`: the rows of providers and models, as people type them."""

from __future__ import annotations

import tomllib
from functools import cache
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from providers.route import DialectName, Feature, Price

VARIABLE = "^[A-Za-z_][A-Za-z0-9_]*$"
ADDRESS = r"^(https?://|\{[A-Z]|$)"
Variable = Annotated[str, Field(pattern=VARIABLE)]
"""The name of an environment variable. What it holds stands in no file."""


class ProviderRow(BaseModel):
    """A provider. In `base_url`, `headers` and `proxy`, `{NAME}` stands for the variable of that name."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    title: str
    dialect: DialectName = "openai_chat"
    base_url: str = Field(default="", pattern=ADDRESS)
    base_url_variables: tuple[Variable, ...] = ()
    """Variables that hold another address; the first that is set wins."""
    keys: tuple[Variable, ...] = ()
    """Variables that hold the key, or several with commas between them; the first that is set wins."""
    key_optional: bool = False
    credentials: tuple[Variable, ...] = ()
    """Variables of which any does instead of a key: the provider's own SDK reads the rest."""
    headers: dict[str, str] = {}
    proxy: str | None = Field(default=None, pattern=ADDRESS)
    """Through which HTTP proxy it is asked; empty: none. Not given: that of all (`CatalogRows`)."""
    options: dict[str, tuple[Variable, ...]] = {}
    """More of what a cloud's client needs, each with the variables that may hold it."""
    required: tuple[str, ...] = ()
    """The options without which nothing can be asked."""
    package: str = ""
    """A module that has to be installed …"""
    extra: str = ""
    """… and the extra of this package that brings it."""
    also: tuple[str, ...] = ()
    """Other names that people have for this provider."""
    patterns: tuple[str, ...] = ()
    """Names of models that come here, although no row lists them."""
    unthinking: tuple[str, ...] = ()
    """Of the models that no row lists, the names of those that can't think, whatever `features` says."""
    variant_of: str = ""
    """The same provider elsewhere, whose models these are too."""
    hint: str = ""
    """A sentence for who has a key that is refused."""
    price_list: str = ""
    """The provider's name in `genai-prices`."""
    hidden: bool = False
    features: tuple[Feature, ...] = ("chat", "streaming")
    """Those of a model that no row lists."""
    quirks: dict[str, Any] = {}


class ModelRow(BaseModel):
    """A model. `model` is the provider's own name for it, where that isn't the id."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str = Field(min_length=1)
    name: str
    provider: str
    model: str = ""
    dialect: DialectName | None = None
    """Where it isn't its provider's."""
    features: tuple[Feature, ...]
    context_window: int | None = Field(default=None, gt=0)
    max_output: int | None = Field(default=None, gt=0)
    price: Price | None = None
    own_price: Price | None = None
    """The operator's: it wins over any other."""
    fallbacks: tuple[str, ...] = ()
    hidden: bool = False
    """Not listed; who knows its name may ask it."""
    quirks: dict[str, Any] = {}


class CatalogRows(BaseModel):
    """All rows of a process."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    default_model: str
    providers: dict[str, ProviderRow]
    models: tuple[ModelRow, ...]
    proxy: str = Field(default="", pattern=ADDRESS)
    """For every provider that has none of its own and isn't on this machine."""
    aliases: dict[str, str] = {}
    """A name of the operator's choice to a model's id."""


@cache
def shipped_rows() -> CatalogRows:
    """The rows that ship with this package."""
    return CatalogRows.model_validate(tomllib.loads(Path(__file__).with_name("catalog.toml").read_text("utf-8")))
