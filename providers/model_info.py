"""A model as it is listed to clients."""

from __future__ import annotations

from msgspec import Struct

from providers.route import Feature


class ModelInfo(Struct, frozen=True, kw_only=True):
    """A model as listed to clients. `type` is its provider; `key` is the name of the variable of its API key.

    `price` is the price of a million tokens: `input`, `output`, `cached` and `cache_write` as decimal text, and
    `currency`. `legacy`: the model is outdated, and its provider may have retired it. `continues`: whether the model can go
    on from the start of an answer.
    """

    id: str
    name: str
    type: str
    key: str | None
    features: tuple[Feature, ...]
    context_window: int | None
    max_output: int | None
    price: dict[str, str] | None = None
    aliases: tuple[str, ...] = ()
    available: bool
    legacy: bool = False
    continues: bool = False
