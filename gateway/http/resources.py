"""Operations with one request of the protocol and one result."""

from __future__ import annotations

from urllib.parse import quote

from starlette.responses import Response

from gateway.http.operation import RequestContext
from gateway.http.responses import NO_STORE, JsonResponse
from gateway.protocol.errors import not_found
from gateway.protocol.results import Cancelled


async def handle_request(context: RequestContext) -> Response:
    """Return the result of the request as JSON. Raises `ApiError` and `ClientDisconnect`."""
    operation = context.operation
    assert operation.request is not None
    if operation.has_body:
        context.query()
    request = await context.parse(operation.request)
    async with context.session() as session:
        result = await session.handle(request)  # type: ignore[arg-type]
    answer = operation.responses[0]
    headers = dict(NO_STORE)
    if answer.status == 201:
        headers["location"] = context.external_path(f"{operation.path}/{quote(result.id)}")
    return JsonResponse(result, answer.status, headers)


async def cancel_turn(context: RequestContext) -> Response:
    """Serve `turn.cancel` of one turn. Raise `ApiError` "not_found" if there is no such turn."""
    answer = await handle_request(context)
    turn = context.path_params["turn"]
    if answer.body == JsonResponse(Cancelled({turn: "not_found"})).body:
        raise not_found("turn", turn)
    return answer
