"""The addresses of OpenAI Chat Completions: answers, models, and streams that are resumed or stopped."""

from __future__ import annotations

from itertools import chain
from typing import Annotated

import msgspec
from msgspec import Meta
from starlette.responses import Response

from gateway.dialects.chat_completions import CHAT_COMPLETIONS, start_of
from gateway.dialects.chat_completions_request import ChatCompletionRequest
from gateway.dialects.chat_completions_stream import ChatStream
from gateway.dialects.ids import conversation_id
from gateway.dialects.models import ModelCatalog, ModelObject
from gateway.http import models
from gateway.http.dialects.serving import TURN_HEADER, serve_start, skip_withdrawn, stream_turn, view_at
from gateway.http.negotiation import EVENT_ID
from gateway.http.operation import HeaderSpec, Operation, RequestContext, ResponseSpec
from gateway.http.request_body import convert_request
from gateway.http.responses import NO_STORE, JsonResponse
from gateway.http.session import HttpSession
from gateway.http.turns import attach
from gateway.protocol import requests as p
from gateway.protocol.errors import ApiError, not_found
from gateway.protocol.results import Cancelled, MessagePage, TurnView

POSITION = r"\A[0-9]{1,15}(-[0-9]{1,15})?\Z"


class StreamGet(p.Request, frozen=True, tag="stream.get"):
    """Stream the newest answer of a conversation, or the answer with this id, after the event `from`."""

    stream: p.Key
    start: Annotated[str, Meta(pattern=POSITION)] = msgspec.field(name="from", default="0")


class StreamStop(p.Request, frozen=True, tag="stream.stop"):
    """Stop the newest answer of a conversation, or the answer with this id."""

    stream: p.Key


class StreamStopped(msgspec.Struct, frozen=True):
    """The id of the answer, and whether it was stopped or had ended before."""

    id: str
    status: str


async def create(context: RequestContext) -> Response | None:
    """Serve a chat completion. Raises `ApiError` and `ClientDisconnect`."""
    return await serve_start(context, start_of)


async def resume(context: RequestContext) -> Response | None:
    """Stream an answer after a position. Return an empty response if the client has all of it. Raises `ApiError`."""
    request = await context.parse(StreamGet)
    if sent := context.headers.get("last-event-id", "").strip():
        request = convert_request(StreamGet, {"stream": request.stream, "from": sent})
    async with context.session() as session:
        view = await _find(session, request.stream)
    epoch, _, seq = request.start.rpartition("-")
    position = p.TurnAttach(turn=view.turn, epoch=int(epoch) if epoch else view.epoch, after=int(seq))
    context.answer_headers[TURN_HEADER] = view.turn
    if view.status not in {"queued", "running"} and position.after >= view.seq:
        return Response(status_code=204, headers={**NO_STORE, **context.answer_headers})
    stream = ChatStream(with_usage=True, with_ids=True)

    async def attach_to_turn(session: HttpSession) -> None:
        await attach(session, position)
        if position.after:
            found = await view_at(session, view.turn, position.after)
            stream.resume(found, position.epoch or 0)
        else:
            skip_withdrawn(session.outbox, view.turn, stream)

    await stream_turn(context, stream, attach_to_turn)
    return None


async def stop(context: RequestContext) -> Response:
    """Stop an answer. Raises `ApiError`."""
    request = await context.parse(StreamStop)
    async with context.session() as session:
        view = await _find(session, request.stream)
        cancelled: Cancelled = await session.handle(p.TurnCancel(turn=view.turn))
    return JsonResponse(StreamStopped(view.turn, cancelled.turns[view.turn]), headers=NO_STORE)


async def _find(session: HttpSession, name: str) -> TurnView:
    """Return the turn with this id, or the newest one of the conversation with this id. Raises `ApiError`."""
    turn: str | None = name
    try:
        view: TurnView = await session.handle(p.TurnGet(turn=name))
    except ApiError as error:
        if error.code != "not_found":
            raise
        turn = await _newest_answer(session, name)
        if turn is None:
            raise not_found("stream", name) from None
        view = await session.handle(p.TurnGet(turn=turn))
    return view


async def _newest_answer(session: HttpSession, name: str) -> str | None:
    """Return the turn of the newest message of the conversation with this id; None if there is none."""
    try:
        page: MessagePage = await session.handle(p.ConversationMessages(conversation=conversation_id(name), limit=1))
    except ApiError as error:
        if error.code != "not_found":
            raise
        return None
    return page.messages[-1].turn if page.messages else None


def _operations(base: str) -> tuple[Operation, ...]:
    completions = Operation(
        "POST",
        f"{base}/chat/completions",
        "OpenAI Chat Completions: answer messages, as a stream or not",
        create,
        (ResponseSpec("The completion, or a stream of its chunks.", is_binary=True),),
        dialect=CHAT_COMPLETIONS,
        body=ChatCompletionRequest,
    )
    resumed = Operation(
        "GET",
        f"{base}/stream/{{stream}}",
        "OpenAI Chat Completions: stream an answer from a position",
        resume,
        (
            ResponseSpec("The rest of the stream.", is_binary=True),
            ResponseSpec("The client has all of it already.", status=204),
        ),
        StreamGet,
        "read",
        ("from",),
        (
            HeaderSpec(
                "Last-Event-ID", "The id of the last event, instead of `from`.", rf"^({EVENT_ID.pattern.strip('^$')})?$"
            ),
        ),
        dialect=CHAT_COMPLETIONS,
    )
    stopped = Operation(
        "DELETE",
        f"{base}/stream/{{stream}}",
        "OpenAI Chat Completions: stop an answer",
        stop,
        (ResponseSpec("The answer has ended.", StreamStopped),),
        StreamStop,
        "cancel",
        dialect=CHAT_COMPLETIONS,
    )
    return completions, resumed, stopped


MODELS = (
    Operation(
        "GET",
        "/openai/v1/models",
        "OpenAI: list the models",
        models.list_models,
        (ResponseSpec("The models.", ModelCatalog),),
        p.ModelsList,
        "read",
        dialect=CHAT_COMPLETIONS,
    ),
    Operation(
        "GET",
        "/openai/v1/models/{model}",
        "OpenAI: get a model",
        models.get_model,
        (ResponseSpec("The model.", ModelObject),),
        models.ModelGet,
        "read",
        dialect=CHAT_COMPLETIONS,
    ),
)
OPERATIONS = (*chain.from_iterable(_operations(base) for base in ("/v1", "/openai/v1")), *MODELS)
