"""The addresses of OpenAI Responses: create, retrieve, resume, cancel and delete a response, and list its input."""

from __future__ import annotations

from functools import partial
from itertools import chain
from typing import Annotated, Literal
from urllib.parse import parse_qsl

from msgspec import Meta, Struct
from starlette.responses import Response

from gateway.dialects.base import Shaped, Start, encode_json
from gateway.dialects.responses import RESPONSES, Create, create_of
from gateway.dialects.responses_input_page import input_page
from gateway.dialects.responses_object import shaped
from gateway.dialects.responses_replay import replay
from gateway.dialects.responses_request import ResponsesRequest
from gateway.dialects.responses_stream import ResponsesStream
from gateway.http.dialects.responses_context import ResponseContexts
from gateway.http.dialects.responses_stored import Kept, StoredResponses
from gateway.http.dialects.serving import (
    TURN_HEADER,
    check_size,
    place,
    respond,
    stream_turn,
    view_size,
    wait_for_answer,
)
from gateway.http.operation import Operation, RequestContext, ResponseSpec
from gateway.http.request_body import R, decode_query
from gateway.http.session import HttpSession
from gateway.http.turns import attach, wait_until_ended
from gateway.offload import offload
from gateway.protocol import requests as p
from gateway.protocol.errors import ApiError
from gateway.protocol.results import Cancelled, TurnPlaced, TurnView

RUNNING = frozenset({"queued", "running"})


class ResponseGet(p.Request, frozen=True, tag="response.get"):
    """Get a response; with `stream`, its events after the number `starting_after`."""

    response: p.Key
    stream: bool = False
    starting_after: Annotated[int, Meta(ge=0, le=2**53 - 1)] | None = None


class ResponseCancel(p.Request, frozen=True, tag="response.cancel"):
    """Stop a response."""

    response: p.Key


class ResponseDelete(p.Request, frozen=True, tag="response.delete"):
    """Delete a response."""

    response: p.Key


class InputItemsList(p.Request, frozen=True, tag="response.input_items"):
    """List the input of a response: its new input, or its whole context if it is in no conversation."""

    response: p.Key
    limit: Annotated[int, Meta(ge=1, le=100)] = 20
    order: Literal["asc", "desc"] = "desc"
    after: str | None = None


class ResponseDeleted(Struct, frozen=True):
    """The response was deleted."""

    id: str
    object: str = "response"
    deleted: bool = True


def _query(context: RequestContext, kind: type[R]) -> R:
    """Return the request in the path and the query. Unknown fields are ignored. Raises `ApiError`."""
    known = kind.__struct_encode_fields__
    pairs = parse_qsl(context.scope["query_string"].decode("latin-1"), keep_blank_values=True)
    found = {name: value for name, value in pairs if name in known and name not in context.path_params}
    return decode_query(kind, context.path_params, found)


def _stored(context: RequestContext) -> StoredResponses:
    return StoredResponses(context.services, context.principal.user)


async def create(context: RequestContext) -> Response | None:
    """Serve a new response: as a stream, as a whole, or in the background. Raises `ApiError` and `ClientDisconnect`."""
    context.services.memory.check()
    settings = context.services.settings
    body = await context.body(settings.body_bytes)
    made = await offload(len(body), create_of, body, context.headers)
    del body
    context.answer_headers[TURN_HEADER] = made.turn
    begin = partial(_begin, context, made)
    if made.request.stream:
        await stream_turn(context, _stream(made), begin)
        return None
    if made.request.background:
        async with context.session() as session:
            await begin(session)
            view: TurnView = await session.handle(p.TurnGet(turn=made.turn))
        return respond(context, shaped(view, made.settings))
    view = await wait_for_answer(context, made.turn, begin)
    return respond(context, await offload(view_size(view), shaped, view, made.settings))


def _stream(made: Create) -> ResponsesStream:
    return ResponsesStream(made.settings, is_eager=made.request.background is True)


async def _begin(context: RequestContext, made: Create, session: HttpSession) -> TurnPlaced:
    """Start the turn of a response, and keep what is needed of it later. Raises `ApiError`."""
    stored = _stored(context)
    request, kept = await ResponseContexts(context.services, context.principal.user, stored).start_of(session, made)
    check_size(request, context.services.settings)
    streams = made.request.stream
    start = Start(
        request, partial(shaped, settings=made.settings), partial(_stream, made) if streams else None, made.path
    )
    placed = await place(context, session, start)
    if made.is_stored and placed.status != "attached":
        await stored.keep(made.turn, kept)
    return placed


async def retrieve(context: RequestContext) -> Response | None:
    """Serve a response, or its stream from a position. Return None if it was streamed. Raises `ApiError`."""
    request = _query(context, ResponseGet)
    stored = _stored(context)
    kept = await stored.kept(request.response)
    async with context.session() as session:
        view = await stored.view(session, request.response)
    context.answer_headers[TURN_HEADER] = view.turn
    if not request.stream:
        return respond(context, await offload(view_size(view), shaped, view, kept.settings))
    after = -1 if request.starting_after is None else request.starting_after
    stream = ResponsesStream(kept.settings, after=after, is_eager=True)
    if view.status in RUNNING or request.starting_after is not None:
        try:
            await stream_turn(context, stream, lambda session: attach(session, p.TurnAttach(turn=view.turn)))
        except ApiError as error:
            if error.code not in {"gone", "not_found"} or context.streaming:
                raise
        else:
            return None
    return respond(context, await offload(view_size(view), _replayed, view, stream))


def _replayed(view: TurnView, stream: ResponsesStream) -> Shaped:
    return Shaped(200, replay(view, stream), media_type=stream.media_type)


async def cancel(context: RequestContext) -> Response:
    """Stop a response, and return it. One that has ended is returned as it is. Raises `ApiError`."""
    request = _query(context, ResponseCancel)
    stored = _stored(context)
    kept = await stored.kept(request.response)
    async with context.session() as session:
        view = await stored.view(session, request.response)
        if view.status in RUNNING:
            result: Cancelled = await session.handle(p.TurnCancel(turn=request.response))
            if result.turns[request.response] == "cancelled":
                await wait_until_ended(context, session, request.response)
            view = await stored.view(session, request.response)
    return respond(context, await offload(view_size(view), shaped, view, kept.settings))


async def delete(context: RequestContext) -> Response:
    """Delete a response, and its conversation if it has no other. A running one is stopped. Raises `ApiError`."""
    request = _query(context, ResponseDelete)
    stored = _stored(context)
    await stored.kept(request.response)
    async with context.session() as session:
        view = await stored.view(session, request.response)
        if view.status in RUNNING:
            await session.handle(p.TurnCancel(turn=view.turn))
        if view.conversation is not None:
            await stored.delete_from(session, view.conversation, view.turn)
        await stored.keep(request.response, Kept(is_deleted=True))
    return respond(context, Shaped(200, encode_json(ResponseDeleted(view.turn))))


async def list_input(context: RequestContext) -> Response:
    """List the input items of a response. Raises `ApiError`."""
    request = _query(context, InputItemsList)
    stored = _stored(context)
    kept = await stored.kept(request.response)
    async with context.session() as session:
        view = await stored.view(session, request.response)
    messages = kept.messages if kept.messages is not None else await stored.input_of(view)
    page = await offload(
        sum(256 for message in messages for _ in message.parts),
        input_page,
        view.turn,
        messages,
        request.limit,
        request.after,
        newest_first=request.order == "desc",
    )
    return respond(context, Shaped(200, encode_json(page)))


def _operations(base: str) -> tuple[Operation, ...]:
    one = f"{base}/responses/{{response}}"
    stream = ResponseSpec("The response, or a stream of its events.", is_binary=True)
    return (
        Operation(
            "POST",
            f"{base}/responses",
            "OpenAI Responses: create a response, as a stream or not",
            create,
            (stream,),
            dialect=RESPONSES,
            body=ResponsesRequest,
        ),
        Operation(
            "GET",
            one,
            "OpenAI Responses: get a response, or its stream from a position",
            retrieve,
            (stream,),
            ResponseGet,
            "read",
            ("stream", "starting_after"),
            dialect=RESPONSES,
        ),
        Operation(
            "DELETE",
            one,
            "OpenAI Responses: delete a response",
            delete,
            (ResponseSpec("The response is deleted.", ResponseDeleted),),
            ResponseDelete,
            "chat",
            dialect=RESPONSES,
        ),
        Operation(
            "POST",
            f"{one}/cancel",
            "OpenAI Responses: stop a response",
            cancel,
            (ResponseSpec("The response.", is_binary=True),),
            ResponseCancel,
            "cancel",
            dialect=RESPONSES,
        ),
        Operation(
            "GET",
            f"{one}/input_items",
            "OpenAI Responses: list the input of a response",
            list_input,
            (ResponseSpec("A page of the input items.", is_binary=True),),
            InputItemsList,
            "read",
            ("limit", "order", "after"),
            dialect=RESPONSES,
        ),
    )


OPERATIONS = tuple(chain.from_iterable(_operations(base) for base in ("/v1", "/openai/v1")))
