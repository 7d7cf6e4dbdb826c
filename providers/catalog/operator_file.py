"""The operator's catalog file: TOML or JSON that changes the rows shipped with this package.

It can add, override and hide providers and models, define aliases and choose the default model.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Final

from pydantic import BaseModel, ConfigDict, Field

from providers.base import ProviderError
from providers.catalog.catalog import Catalog
from providers.catalog.file_fields import FieldChecks, rename_fields
from providers.catalog.schema import (
    ADDRESS,
    CatalogRows,
    ModelRow,
    ProviderRow,
    Variable,
    provider_names,
    shipped_rows,
)
from providers.price import Price
from providers.quirks import Quirks
from providers.route import FEATURES, Continue, DialectName, Feature

NEW_PROVIDER_FEATURES: Final = ("chat", "streaming", "tools")


class CatalogError(ValueError):
    """The file is invalid or can't be read. The text names the file, the invalid fields, and what is wrong with each."""


class ModelEntry(BaseModel):
    """A model in the file. Missing fields are taken from the row with this id, or from the provider."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str = Field(min_length=1)
    name: str | None = None
    provider: str | None = None
    model: str | None = None
    dialect: DialectName | None = None
    env_key: Variable | None = None
    """The variable that holds the model's API key, if it isn't the provider's."""
    thinking: bool | None = None
    features: tuple[Feature, ...] | None = None
    context_window: int | None = Field(default=None, gt=0)
    max_output: int | None = Field(default=None, gt=0)
    price: Price | None = None
    fallbacks: tuple[str, ...] | None = None
    continues: Continue | None = None
    hidden: bool | None = None
    quirks: dict[str, Any] = {}


class _File(BaseModel):
    """The whole file. Its providers, models and aliases are validated one by one later."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    default_model: str | None = None
    proxy: str = Field(default="", pattern=ADDRESS)
    think_opened: tuple[str, ...] | None = None
    continues: Continue = ""
    providers: dict[str, Any] = {}
    models: tuple[Any, ...] = ()
    aliases: dict[str, Any] = {}


def open_catalog(environment: Mapping[str, str], path: str | None) -> Catalog:
    """Return the catalog of a process, with the operator's file at `path` if given.

    Raise `CatalogError` if the file can't be read or is invalid.
    """
    return Catalog(environment, operator_rows(Path(path)) if path else None)


def operator_rows(path: Path) -> CatalogRows:
    """Return the shipped rows changed by the file. Raise `CatalogError` if it can't be read or is invalid."""
    return _FileReader(path).rows()


class _FileReader:
    """The reader of one file, with the errors found. A wrong field is treated as missing, so that one run reports all errors."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._errors: list[str] = []
        self._fields = FieldChecks(self._errors)
        shipped = shipped_rows()
        self._default = shipped.default_model
        self._think_opened = shipped.think_opened
        self._providers = dict(shipped.providers)
        self._models = {row.id: row for row in shipped.models}
        self._invalid_names: set[str] = set()
        """The names of models and providers in the file that got no row because of an error."""

    def rows(self) -> CatalogRows:
        parsed = self._parse()
        file = self._fields.validate(_File, rename_fields(parsed), "", parsed) or _File()
        for name, table in file.providers.items():
            self._read_provider(name, table)
        for name in file.providers:
            self._check_variant(name)
        for index, table in enumerate(file.models):
            self._read_model(f"models[{index}]", table)
        aliases = {}
        for name, target in file.aliases.items():
            if isinstance(target, str):
                aliases[name] = target
            else:
                self._errors.append(f"aliases.{name}: must be the name of a model, as text")
        rows = CatalogRows(
            default_model=file.default_model or self._default,
            providers=self._providers,
            models=tuple(self._models.values()),
            proxy=file.proxy,
            think_opened=self._think_opened if file.think_opened is None else file.think_opened,
            continues=file.continues,
            aliases=aliases,
        )
        self._check_names(rows)
        if self._errors:
            raise CatalogError(
                "\n".join(f"{self._path}: {error}{'' if error.endswith('?') else '.'}" for error in self._errors)
            )
        return rows

    def _parse(self) -> Any:
        try:
            text = self._path.read_text("utf-8")
            return json.loads(text) if text.lstrip().startswith("{") else tomllib.loads(text)
        except OSError as error:
            raise CatalogError(f"{self._path}: can't be read: {error.strerror}. Check TURNWIRE_MODELS.") from error
        except UnicodeDecodeError as error:
            raise CatalogError(f"{self._path}: isn't UTF-8 text. Save it as UTF-8.") from error
        except ValueError as error:
            kind = "JSON" if isinstance(error, json.JSONDecodeError) else "TOML"
            raise CatalogError(f"{self._path}: isn't valid {kind}: {error}. Correct it.") from error

    def _read_provider(self, name: str, table: Any) -> None:
        where = f"providers.{name}"
        if not name or set(name) & set("/:"):
            self._errors.append(f"{where}: the name of a provider must not be empty or contain / or :")
            return
        if not isinstance(table, dict):
            self._invalid_names.add(name)
            self._errors.append(f"{where}: must be a table")
            return
        previous = self._providers.get(name)
        fields = (
            previous.model_dump(exclude_unset=True) if previous else {"title": name, "features": NEW_PROVIDER_FEATURES}
        )
        if previous is None and "base_url" not in table and "variant_of" not in table:
            self._errors.append(f"{where}.base_url: the field is missing for a new provider. Add it")
        original, table = table, rename_fields(table, ("continue",))
        quirks = fields.get("quirks", {}) | table["quirks"] if isinstance(table.get("quirks"), dict) else None
        row = self._fields.validate(
            ProviderRow, fields | table | ({"quirks": quirks} if quirks else {}), where, original, defaults=fields
        )
        assert row is not None, "the defaults are a valid row"
        self._check_features(row.features, where)
        self._fields.validate(Quirks, row.quirks, f"{where}.quirks")
        self._providers[name] = row

    def _check_variant(self, name: str) -> None:
        """Check `variant_of` once all providers are known, because a variant may precede its provider in the file."""
        row = self._providers.get(name)
        if row is None or not row.variant_of:
            return
        base = self._providers.get(row.variant_of)
        if base is None and row.variant_of not in self._invalid_names:
            self._errors.append(
                f"providers.{name}.variant_of: provider {row.variant_of} not found. Correct the name, or add it"
            )
        elif base is not None and base.variant_of:
            self._errors.append(f"providers.{name}.variant_of: {row.variant_of} is a variant itself. Name its provider")
        else:
            return
        self._providers[name] = row.model_copy(update={"variant_of": ""})

    def _read_model(self, where: str, table: Any) -> None:
        entry = self._fields.validate(ModelEntry, rename_fields(table), where, table)
        if entry is None:
            return
        previous = self._models.get(entry.id)
        provider_name = entry.provider or (previous.provider if previous else entry.id.partition("/")[0])
        is_invalid = entry.provider is None and ("provider" in table or "type" in table)
        provider = (
            None
            if is_invalid or provider_name in self._invalid_names
            else self._resolve_provider(entry, provider_name, where)
        )
        self._check_features(entry.features or (), where)
        self._fields.validate(Quirks, entry.quirks, f"{where}.quirks")
        if provider is None:
            self._invalid_names.add(entry.id)
            return
        fields: dict[str, Any] = (
            previous.model_dump(exclude_unset=True) if previous else {"id": entry.id, "name": entry.id}
        )
        fields |= entry.model_dump(exclude_unset=True, exclude={"env_key", "thinking", "price", "quirks"})
        fields |= {"provider": provider, "features": self._merge_features(entry, previous, provider)}
        fields["quirks"] = (previous.quirks if previous else {}) | entry.quirks
        if not fields.get("model") and entry.id.startswith(provider_name + "/"):
            fields["model"] = entry.id.removeprefix(provider_name + "/")
        row = self._fields.validate(
            ModelRow, {name: value for name, value in fields.items() if value is not None}, where
        )
        if row is not None:
            self._models[row.id] = row.model_copy(update={"own_price": entry.price} if entry.price else {})

    def _resolve_provider(self, entry: ModelEntry, name: str, where: str) -> str | None:
        """Return the canonical name of the provider `name`, or None after recording an error.

        A model with its own API key gets its own provider, which is created here.
        """
        names = provider_names(self._providers)
        provider = names.get(name)
        if provider is None:
            close = get_close_matches(name, names, n=1)
            hint = f"Did you mean {close[0]}?" if close else "Add it under providers, with its base_url"
            self._errors.append(f"{where}.provider: provider {name} not found. {hint}")
            return None
        row = self._providers[provider]
        if entry.env_key is None or entry.env_key in row.keys:
            return provider
        own = f"{provider}:{entry.env_key}"
        changes = {"keys": (entry.env_key,), "key_optional": False, "also": (), "patterns": (), "hidden": False}
        self._providers[own] = row.model_copy(update=changes)
        return own

    def _merge_features(self, entry: ModelEntry, previous: ModelRow | None, provider: str) -> tuple[str, ...]:
        features = entry.features or (previous.features if previous else self._providers[provider].features)
        if entry.thinking is None:
            return features
        rest = tuple(feature for feature in features if feature != "thinking")
        return (*rest, "thinking") if entry.thinking else rest

    def _check_features(self, features: tuple[str, ...], where: str) -> None:
        """Record an error for each unknown feature that resembles one of ours. Others are valid labels."""
        for feature in set(features) - FEATURES:
            if close := get_close_matches(feature, FEATURES, n=1, cutoff=0.75):
                self._errors.append(f"{where}.features: unknown feature {feature}. Did you mean {close[0]}?")

    def _check_names(self, rows: CatalogRows) -> None:
        """Record an error for each default model, alias or fallback that names no model.

        Skip those whose model or provider has another error.
        """
        catalog = Catalog({}, rows)
        names = [("default_model", rows.default_model)]
        names += [(f"fallbacks of {row.id}", fallback) for row in rows.models for fallback in row.fallbacks]
        references = [(f"aliases.{name}", to, to) for name, to in rows.aliases.items()]
        references += [(where, model, rows.aliases.get(model, model)) for where, model in names]
        for where, model, target in references:
            if target in self._invalid_names or target.partition("/")[0] in self._invalid_names:
                continue
            try:
                catalog.find(target)
            except ProviderError:
                self._errors.append(f"{where}: model {model} not found. Correct the name, or add it")
