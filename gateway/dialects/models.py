"""The list of models, in one body that clients of our own API and of OpenAI's can read."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

from gateway.protocol.results import Models
from providers.model_info import ModelInfo


class ModelObject(Struct, frozen=True):
    """A model, as OpenAI's clients read it. `created` isn't known, so it is 0."""

    id: str
    owned_by: str
    name: str
    created: int = 0
    object: Literal["model"] = "model"


class ModelCatalog(Struct, frozen=True):
    """All models and the default one, and in `data` those that can be used now, as OpenAI's clients read them."""

    models: list[ModelInfo]
    default: str
    data: list[ModelObject]
    object: Literal["list"] = "list"


def model_catalog(found: Models) -> ModelCatalog:
    """Return the body for the models."""
    return ModelCatalog(found.models, found.default, [_object(model) for model in found.models if model.available])


def find_model(found: Models, model_id: str) -> ModelObject | None:
    """Return the model that can be used with this id or alias, or None if none is listed."""
    listed = find_listed(found, model_id)
    return None if listed is None else _object(listed)


def find_listed(found: Models, model_id: str) -> ModelInfo | None:
    """Return the listed model that can be used with this id or alias, or None."""
    return next(
        (model for model in found.models if model.available and (model.id == model_id or model_id in model.aliases)),
        None,
    )


def _object(model: ModelInfo) -> ModelObject:
    return ModelObject(model.id, owned_by=model.type, name=model.name)
