"""The addresses of Anthropic's Messages API: messages, the number of their tokens, and models."""

from __future__ import annotations

from typing import Annotated
from urllib.parse import parse_qsl

from msgspec import Meta, Struct
from starlette.responses import Response

from gateway.dialects.anthropic_messages import MESSAGES, count_of, start_of
from gateway.dialects.anthropic_messages_request import CountTokensRequest, MessagesRequest
from gateway.dialects.anthropic_models import AnthropicModel, AnthropicModels, model_object, models_page
from gateway.dialects.base import Start, renamed
from gateway.dialects.models import find_listed
from gateway.dialects.request_headers import Headers
from gateway.http.dialects.serving import check_size, serve_start
from gateway.http.models import ModelGet, all_models
from gateway.http.operation import Operation, RequestContext, ResponseSpec
from gateway.http.request_body import convert_request
from gateway.http.responses import NO_STORE, JsonResponse
from gateway.offload import offload
from gateway.protocol import requests as p
from gateway.protocol.errors import ApiError
from gateway.protocol.results import Estimate
from gateway.settings import Settings
from providers.model_info import ModelInfo

VERSION_HEADER = "anthropic-version"
"""The header by which a client of Anthropic's API is recognized at an address that others use, too."""


class TokenCount(Struct, frozen=True):
    """The estimated number of input tokens."""

    input_tokens: int


class ModelsPage(p.Request, frozen=True, tag="models.page"):
    """List a page of the models."""

    limit: Annotated[int, Meta(ge=1, le=1000)] = 20
    after_id: str | None = None
    before_id: str | None = None


async def create(context: RequestContext) -> Response | None:
    """Serve a message. Raises `ApiError` and `ClientDisconnect`."""
    return await serve_start(context, start_of)


async def count_tokens(context: RequestContext) -> Response:
    """Return the estimated number of input tokens of a message. Raises `ApiError` and `ClientDisconnect`."""
    settings = context.services.settings
    body = await context.body(settings.body_bytes)
    start, request = await offload(len(body), _estimate_of, body, context.headers, settings)
    del body
    async with context.session() as session:
        try:
            estimate: Estimate = await session.handle(request)
        except ApiError as error:
            raise renamed(error, start.path) from None
    return JsonResponse(TokenCount(estimate.input_tokens), headers=NO_STORE)


def _estimate_of(body: bytes, headers: Headers, settings: Settings) -> tuple[Start, p.TurnEstimate]:
    start = count_of(body, headers)
    check_size(start.request, settings)
    fields = {name: getattr(start.request, name) for name in p.TurnEstimate.__struct_fields__}
    return start, p.TurnEstimate(**fields)


async def list_models(context: RequestContext) -> Response:
    """Return a page of the models. Raises `ApiError`. Unknown fields of the query are ignored."""
    try:
        query = dict(parse_qsl(context.scope["query_string"].decode("ascii"), errors="strict", max_num_fields=32))
    except ValueError:
        raise ApiError("invalid_request", "The query can't be decoded. Send it as percent-encoded UTF-8.") from None
    known = {name: query[name] for name in ("limit", "after_id", "before_id") if name in query}
    page = convert_request(ModelsPage, known, strict=False)
    found = models_page(await all_models(context), page.limit, page.after_id, page.before_id)
    return JsonResponse(found, headers=NO_STORE)


async def get_model(context: RequestContext) -> Response:
    """Return one model. Raise `ApiError` or `ProviderError` if there is none that can be used with this id."""
    name = convert_request(ModelGet, dict(context.path_params)).model
    listed: ModelInfo | None = find_listed(await all_models(context), name)
    if listed is None:
        # Any model of a provider can be used, also one that isn't listed.
        route = context.services.catalog.resolve(name)
        return JsonResponse(AnthropicModel(name, name, route.context_window, route.max_output), headers=NO_STORE)
    return JsonResponse(model_object(listed, name), headers=NO_STORE)


OPERATIONS = (
    Operation(
        "POST",
        "/v1/messages",
        "Anthropic Messages: answer messages, as a stream or not",
        create,
        (ResponseSpec("The message, or a stream of its events.", is_binary=True),),
        dialect=MESSAGES,
        body=MessagesRequest,
    ),
    Operation(
        "POST",
        "/v1/messages/count_tokens",
        "Anthropic Messages: estimate the number of input tokens",
        count_tokens,
        (ResponseSpec("The estimated number of input tokens.", TokenCount),),
        dialect=MESSAGES,
        body=CountTokensRequest,
    ),
)
LIST_MODELS = Operation(
    "GET",
    "/v1/models",
    "Anthropic: list the models",
    list_models,
    (ResponseSpec("A page of the models.", AnthropicModels),),
    ModelsPage,
    "read",
    dialect=MESSAGES,
)
GET_MODEL = Operation(
    "GET",
    "/v1/models/{model}",
    "Anthropic: get a model",
    get_model,
    (ResponseSpec("The model.", AnthropicModel),),
    ModelGet,
    "read",
    dialect=MESSAGES,
)
"""They serve the clients that send `VERSION_HEADER`, at the addresses of our own operations."""
