"""Serve a dialect's request that starts a turn: as a stream, or with the whole answer. The same for every dialect."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from msgspec import UNSET, json, structs
from starlette.responses import Response

from gateway.dialects.base import Shaped, Start, failure_of, renamed
from gateway.dialects.request_headers import Headers
from gateway.dialects.stream import StreamTranslator
from gateway.http.event_stream import EventStream
from gateway.http.operation import RequestContext
from gateway.http.responses import NO_STORE, BytesResponse, HttpError
from gateway.http.session import HttpSession
from gateway.http.turns import attach, wait_until_ended
from gateway.offload import offload
from gateway.protocol import requests as p
from gateway.protocol.errors import ApiError
from gateway.protocol.events import TurnReset
from gateway.protocol.results import TurnPlaced, TurnView
from gateway.settings import Settings
from gateway.streams.outbox import Outbox

TURN_HEADER = "turnwire-turn"
VIEW_TRIES, VIEW_WAIT_S = 40, 0.05
"""How often, and how long apart, to look for the parts of an answer that this instance has not read yet."""

Decode = Callable[[bytes, Headers], Start]


async def serve_start(context: RequestContext, decode: Decode) -> Response | None:
    """Start the turn of the request that `decode` reads from the body. Return None if the answer was streamed.

    Raises `ApiError` and `ClientDisconnect`.
    """
    context.services.memory.check()
    settings = context.services.settings
    body = await context.body(settings.body_bytes)
    start = await offload(len(body), _decode, body, context.headers, decode, settings)
    del body
    context.answer_headers[TURN_HEADER] = start.request.turn or ""
    if start.translator is not None:
        translator = start.translator()

        async def begin(session: HttpSession) -> None:
            placed = await place(context, session, start)
            skip_withdrawn(session.outbox, placed.turn, translator)

        await stream_turn(context, translator, begin)
        return None
    view = await wait_for_answer(context, start.request.turn or "", lambda session: place(context, session, start))
    return respond(context, await offload(view_size(view), start.answer, view))


def _decode(body: bytes, headers: Headers, decode: Decode, settings: Settings) -> Start:
    """Decode a body. Raises `ApiError`; see `check_size`."""
    start = decode(body, headers)
    check_size(start.request, settings)
    return start


def check_size(request: p.TurnStart, settings: Settings) -> None:
    """Raise `HttpError` 413 if the tools are larger than an input may be, or the other options than a frame may be.

    Agents send many tools with long descriptions in each request.
    """
    if request.tools and len(json.encode(request.tools)) > settings.input_bytes:
        raise HttpError(413, f"`tools` is larger than {settings.input_bytes} bytes. Send fewer tools.", path="tools")
    rest = structs.replace(request, input=None, messages=None, system=None, tools=None)
    if len(json.encode(rest)) > settings.frame_bytes:
        raise HttpError(413, f"The body without its input is larger than {settings.frame_bytes} bytes. Send less.")


async def place(context: RequestContext, session: HttpSession, start: Start) -> TurnPlaced:
    """Start the turn, or attach to the one that has its id. Return the result of the start. Raises `ApiError`.

    The turn holds the input from then on, so the memory for the body is released.
    """
    try:
        placed: TurnPlaced = await session.handle(start.request)
    except ApiError as error:
        raise renamed(error, start.path) from None
    context.release_body()
    if start.translator is not None and placed.turn not in session.outbox.attachments:
        await attach(session, p.TurnAttach(turn=placed.turn))  # raises the error that says why its events are gone
    return placed


def skip_withdrawn(outbox: Outbox, turn: str, translator: StreamTranslator) -> None:
    """Let a stream that begins with the first event of a turn leave out what a reset has withdrawn."""
    if turn in outbox.attachments:
        events = outbox.attachments[turn].log.events
        translator.skip_until(max((event.seq for event in events if isinstance(event, TurnReset)), default=0))


async def stream_turn(
    context: RequestContext,
    translator: StreamTranslator,
    attach_to_turn: Callable[[HttpSession], Awaitable[object]],
) -> None:
    """Stream what the session is sent, translated. `attach_to_turn` starts the turn or attaches to it.

    The response begins with its first bytes. If the turn fails before, its error is raised. Raises `ApiError`.
    """
    async with context.session(is_streamed=True, holds_permit=True) as session:
        await attach_to_turn(session)
        stream = EventStream(session, translator, context.services.settings.close_timeout_s, on_begin=context.begin)
        await stream.respond(context.scope, context.receive, context.send, context.answer_headers)


async def wait_for_answer(
    context: RequestContext, turn: str, start_turn: Callable[[HttpSession], Awaitable[object]]
) -> TurnView:
    """Start the turn with the id `turn`, wait for its ending, and return it.

    Raises `ApiError`, also that of a failed turn, and `ClientDisconnect`.
    """
    async with context.session(holds_permit=True) as session:
        await start_turn(session)
        await wait_until_ended(context, session, turn)
        view: TurnView = await session.handle(p.TurnGet(turn=turn))
    if view.error is not UNSET:
        raise failure_of(view.error)
    return view


async def view_at(session: HttpSession, turn: str, seq: int) -> TurnView:
    """Return the turn once it has event `seq`, which another instance may have sent just now."""
    for _ in range(VIEW_TRIES):
        view: TurnView = await session.handle(p.TurnGet(turn=turn))
        if view.seq >= seq:
            break
        await asyncio.sleep(VIEW_WAIT_S)
    return view


def view_size(view: TurnView) -> int:
    """Return about how many bytes the answer of an ended turn has, for `offload`."""
    return 0 if view.usage is UNSET else 4 * view.usage.output_tokens


def respond(context: RequestContext, shaped: Shaped) -> Response:
    """Return the response for a shaped body."""
    headers = {**NO_STORE, **context.answer_headers, **shaped.headers}
    return BytesResponse(shaped.body, shaped.status, headers, shaped.media_type)
