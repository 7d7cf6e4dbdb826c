"""The operator's catalog file: TOML or JSON that changes the rows shipped with this package.

It can add, override and hide providers and models, define aliases and choose the default model.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from providers.base import ProviderError
from providers.catalog.catalog import Catalog
from providers.catalog.schema import ADDRESS, VARIABLE, CatalogRows, ModelRow, ProviderRow, Variable, shipped_rows
from providers.route import FEATURES, WORD, DialectName, Feature, Price, Quirks

NEW_PROVIDER_FEATURES: Final = ("chat", "streaming", "tools")
_SPELLINGS: Final = {
    "type": "provider",
    "envKey": "env_key",
    "supportsThinkingMode": "thinking",
    "contextWindow": "context_window",
    "maxOutput": "max_output",
    "defaultModel": "default_model",
}
"""Map from the field names in JSON files of other software to ours."""
_PLAIN: Final = {
    "tuple_type": "must be a list",
    "dict_type": "must be a table",
    "model_type": "must be a table",
    "extra_forbidden": "unknown field. Remove it",
    "missing": "the field is missing. Add it",
}
_PATTERNS: Final = {
    VARIABLE: "must be the name of an environment variable, not its value",
    ADDRESS: "must begin with http:// or https://",
    WORD: "must be a word in lowercase",
}
"""Map from a pattern to the error text for a value that doesn't match it."""

_Row = TypeVar("_Row", bound=BaseModel)


class CatalogError(ValueError):
    """The file is invalid. The text names the file, the fields, and what is wrong with each."""


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
    hidden: bool | None = None
    quirks: dict[str, Any] = {}


class _File(BaseModel):
    """The whole file. Its providers, models and aliases are validated one by one later."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    default_model: str | None = None
    proxy: str = Field(default="", pattern=ADDRESS)
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
    return _Reading(path).rows()


class _Reading:
    """The reading of one file, with the errors found. A wrong field is treated as missing, to find other errors."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._wrong: list[str] = []
        shipped = shipped_rows()
        self._default = shipped.default_model
        self._providers = dict(shipped.providers)
        self._models = {row.id: row for row in shipped.models}
        self._unsure: set[str] = set()
        """The names of models and providers that are in the file but can't be read."""

    def rows(self) -> CatalogRows:
        parsed = self._parsed()
        file = self._checked(_File, _spelled(parsed), "", parsed) or _File()
        for name, given in file.providers.items():
            self._take_provider(name, given)
        for name in file.providers:
            self._check_variant(name)
        for number, entry in enumerate(file.models):
            self._take_model(f"models[{number}]", entry)
        aliases = {}
        for name, to in file.aliases.items():
            if isinstance(to, str):
                aliases[name] = to
            else:
                self._wrong.append(f"aliases.{name}: must be the name of a model, as text")
        rows = CatalogRows(
            default_model=file.default_model or self._default,
            providers=self._providers,
            models=tuple(self._models.values()),
            proxy=file.proxy,
            aliases=aliases,
        )
        self._check_names(rows)
        if self._wrong:
            raise CatalogError(
                "\n".join(f"{self._path}: {one}{'' if one.endswith('?') else '.'}" for one in self._wrong)
            )
        return rows

    def _parsed(self) -> Any:
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

    def _take_provider(self, name: str, given: Any) -> None:
        where = f"providers.{name}"
        if not name or set(name) & set("/:"):
            self._wrong.append(f"{where}: the name of a provider must not contain / or :")
            return
        if not isinstance(given, dict):
            self._unsure.add(name)
            self._wrong.append(f"{where}: must be a table")
            return
        before = self._providers.get(name)
        fields = before.model_dump(exclude_unset=True) if before else {"title": name, "features": NEW_PROVIDER_FEATURES}
        if before is None and "base_url" not in given and "variant_of" not in given:
            self._wrong.append(f"{where}.base_url: the field is missing for a new provider. Add it")
        quirks = fields.get("quirks", {}) | given["quirks"] if isinstance(given.get("quirks"), dict) else None
        row = self._checked(ProviderRow, fields | given | ({"quirks": quirks} if quirks else {}), where, spare=fields)
        assert row is not None, "what is spare is a row"
        self._features(row.features, where)
        self._checked(Quirks, row.quirks, f"{where}.quirks")
        self._providers[name] = row

    def _check_variant(self, name: str) -> None:
        """Check `variant_of` once all providers are known, because a variant may precede its provider in the file."""
        row = self._providers.get(name)
        if row is None or not row.variant_of:
            return
        base = self._providers.get(row.variant_of)
        if base is None and row.variant_of not in self._unsure:
            self._wrong.append(
                f"providers.{name}.variant_of: provider {row.variant_of} not found. Correct the name, or add it"
            )
        elif base is not None and base.variant_of:
            self._wrong.append(f"providers.{name}.variant_of: {row.variant_of} is a variant itself. Name its provider")
        else:
            return
        self._providers[name] = row.model_copy(update={"variant_of": ""})

    def _take_model(self, where: str, given: Any) -> None:
        entry = self._checked(ModelEntry, _spelled(given), where, given)
        if entry is None:
            return
        before = self._models.get(entry.id)
        named = entry.provider or (before.provider if before else entry.id.partition("/")[0])
        misread = entry.provider is None and ("provider" in given or "type" in given)
        provider = None if misread or named in self._unsure else self._provider_of(entry, named, where)
        self._features(entry.features or (), where)
        self._checked(Quirks, entry.quirks, f"{where}.quirks")
        if provider is None:
            self._unsure.add(entry.id)
            return
        fields: dict[str, Any] = before.model_dump(exclude_unset=True) if before else {"id": entry.id, "name": entry.id}
        fields |= entry.model_dump(exclude_unset=True, exclude={"env_key", "thinking", "price", "quirks"})
        fields |= {"provider": provider, "features": self._features_of(entry, before, provider)}
        fields["quirks"] = (before.quirks if before else {}) | entry.quirks
        if not fields.get("model") and entry.id.startswith(named + "/"):
            fields["model"] = entry.id.removeprefix(named + "/")
        row = self._checked(ModelRow, {name: value for name, value in fields.items() if value is not None}, where)
        if row is not None:
            self._models[row.id] = row.model_copy(update={"own_price": entry.price} if entry.price else {})

    def _provider_of(self, entry: ModelEntry, named: str, where: str) -> str | None:
        """Return the canonical name of the provider `named`, or None after recording an error.

        A model with its own API key gets its own provider, which is created here.
        """
        names = {also: name for name, row in self._providers.items() for also in (name, *row.also)}
        provider = names.get(named)
        if provider is None:
            close = get_close_matches(named, names, n=1)
            hint = f"Did you mean {close[0]}?" if close else "Add it under providers, with its base_url"
            self._wrong.append(f"{where}.provider: provider {named} not found. {hint}")
            return None
        row = self._providers[provider]
        if entry.env_key is None or entry.env_key in row.keys:
            return provider
        own = f"{provider}:{entry.env_key}"
        without = {"keys": (entry.env_key,), "key_optional": False, "also": (), "patterns": (), "hidden": False}
        self._providers[own] = row.model_copy(update=without)
        return own

    def _features_of(self, entry: ModelEntry, before: ModelRow | None, provider: str) -> tuple[str, ...]:
        features = entry.features or (before.features if before else self._providers[provider].features)
        if entry.thinking is None:
            return features
        rest = tuple(feature for feature in features if feature != "thinking")
        return (*rest, "thinking") if entry.thinking else rest

    def _features(self, features: tuple[str, ...], where: str) -> None:
        """Record an error for a feature that resembles one of ours. Other unknown features are valid labels."""
        for feature in set(features) - FEATURES:
            if close := get_close_matches(feature, FEATURES, n=1, cutoff=0.75):
                self._wrong.append(f"{where}.features: unknown feature {feature}. Did you mean {close[0]}?")

    def _check_names(self, rows: CatalogRows) -> None:
        """Record an error for each default, alias or fallback that doesn't exist. Skip targets with other errors."""
        catalog = Catalog({}, rows)
        named = [(f"aliases.{name}", to, to) for name, to in rows.aliases.items()]
        others = [("default_model", rows.default_model)]
        others += [(f"fallbacks of {row.id}", fallback) for row in rows.models for fallback in row.fallbacks]
        for where, model, target in named + [(where, model, rows.aliases.get(model, model)) for where, model in others]:
            if target in self._unsure or target.partition("/")[0] in self._unsure:
                continue
            try:
                catalog.find(target)
            except ProviderError:
                self._wrong.append(f"{where}: model {model} not found. Correct the name, or add it")

    def _checked(
        self,
        kind: type[_Row],
        given: Any,
        where: str,
        spelled: object = None,
        spare: Mapping[str, Any] = MappingProxyType({}),
    ) -> _Row | None:
        """Return `given` as a `kind`. Record errors, and drop wrong fields or take them from `spare`.

        Return None if the rest isn't valid. `spelled` is the row with the file's field names, for the errors, which
        repeat only names from the file.
        """
        try:
            return kind.model_validate(given)
        except ValidationError as error:
            errors = error.errors(include_url=False, include_input=False)
        back = {_SPELLINGS[name]: name for name in spelled if name in _SPELLINGS} if isinstance(spelled, dict) else {}
        for one in errors:
            first, *rest = one["loc"] or ("",)
            steps = [
                f"[{step}]" if isinstance(step, int) else f".{step}" for step in (back.get(str(first), first), *rest)
            ]
            plain = (
                _PLAIN.get(one["type"])
                or _PATTERNS.get(one.get("ctx", {}).get("pattern", ""))
                or one["msg"].removeprefix("Value error, ")
            )
            self._wrong.append(f"{(where + ''.join(steps)).strip('.')}: {plain}")
        wrong = {one["loc"][0] for one in errors if one["loc"]}
        right = {name: value for name, value in given.items() if name not in wrong} if isinstance(given, dict) else {}
        try:
            return kind.model_validate({**spare, **right})
        except ValidationError:
            return None


def _spelled(given: Any) -> Any:
    """Return `given` with our names for its fields."""
    return {_SPELLINGS.get(name, name): value for name, value in given.items()} if isinstance(given, dict) else given
