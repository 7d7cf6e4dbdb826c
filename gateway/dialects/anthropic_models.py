"""The list of models in the shape of Anthropic's API."""

from __future__ import annotations

from typing import Final, Literal

from msgspec import Struct

from gateway.protocol.errors import ApiError
from gateway.protocol.results import Models
from providers.model_info import ModelInfo

UNKNOWN_TIME: Final = "1970-01-01T00:00:00Z"


class AnthropicModel(Struct, frozen=True):
    """A model. `created_at` isn't known, so it is the epoch, as at Anthropic."""

    id: str
    display_name: str
    max_input_tokens: int | None
    max_tokens: int | None
    lifecycle: Literal["active", "deprecated"] = "active"
    created_at: str = UNKNOWN_TIME
    type: Literal["model"] = "model"


class AnthropicModels(Struct, frozen=True):
    """A page of the models that can be used now."""

    data: list[AnthropicModel]
    has_more: bool
    first_id: str | None
    last_id: str | None


def models_page(found: Models, limit: int, after: str | None, before: str | None) -> AnthropicModels:
    """Return at most `limit` models: the first ones, those after the model `after`, or those before `before`.

    Raises `ApiError`.
    """
    models = [model for model in found.models if model.available]
    ids = [model.id for model in models]
    for field, wanted in (("after_id", after), ("before_id", before)):
        if wanted is not None and wanted not in ids:
            raise ApiError("invalid_request", f"`{field}` isn't a listed model. Send the id of one.", path=field)
    if before is not None and after is None:
        rest = models[: ids.index(before)]
        page = rest[max(0, len(rest) - limit) :]
    else:
        rest = models[0 if after is None else ids.index(after) + 1 :]
        page = rest[:limit]
    data = [model_object(model) for model in page]
    return AnthropicModels(data, len(rest) > len(page), data[0].id if data else None, data[-1].id if data else None)


def model_object(model: ModelInfo, name: str | None = None) -> AnthropicModel:
    """Return a model. `name` is the id or alias by which it was asked for."""
    return AnthropicModel(
        name or model.id,
        model.name,
        model.context_window,
        model.max_output,
        lifecycle="deprecated" if model.legacy else "active",
    )
