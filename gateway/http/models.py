"""The models: all of them, and one by its id."""

from __future__ import annotations

from starlette.responses import Response

from gateway.dialects.models import ModelObject, find_model, model_catalog
from gateway.http.operation import RequestContext
from gateway.http.request_body import parse_query
from gateway.http.responses import NO_STORE, JsonResponse
from gateway.protocol import requests as p
from gateway.protocol.results import Models

FOREIGN_FIELDS = ("client_version", "limit", "after_id", "before_id")


class ModelGet(p.Request, frozen=True, tag="model.get"):
    """Get a model that can be used. The id may have slashes."""

    model: p.ModelId


async def list_models(context: RequestContext) -> Response:
    """Return all models. Raises `ApiError`. The query fields that clients of other services send are ignored."""
    if context.operation.dialect is None:
        parse_query(context.scope["query_string"], FOREIGN_FIELDS)
    return JsonResponse(model_catalog(await all_models(context)), headers=NO_STORE)


async def get_model(context: RequestContext) -> Response:
    """Return one model. Raise `ApiError` or `ProviderError` if there is none that can be used with this id."""
    request = await context.parse(ModelGet)
    found = find_model(await all_models(context), request.model)
    if found is None:
        # Any model of a provider can be used, also one that isn't listed.
        route = context.services.catalog.resolve(request.model)
        found = ModelObject(request.model, owned_by=route.provider, name=request.model)
    return JsonResponse(found, headers=NO_STORE)


async def all_models(context: RequestContext) -> Models:
    """Return the models of the user. Raises `ApiError`."""
    async with context.session() as session:
        found: Models = await session.handle(p.ModelsList())
    return found
