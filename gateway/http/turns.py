"""Turns over HTTP: start a turn and stream it, wait for it or leave it running; stream a turn from a position."""

from __future__ import annotations

import asyncio
from contextlib import suppress

from msgspec import UNSET
from starlette.requests import ClientDisconnect
from starlette.responses import Response

from gateway.http.event_formats import FORMATS, NDJSON, SSE
from gateway.http.event_stream import EventStream, wait_disconnected
from gateway.http.negotiation import negotiate_media_type, parse_last_event_id, prefers_async
from gateway.http.operation import RequestContext
from gateway.http.request_body import JSON_TYPE, convert_request, decode_start
from gateway.http.responses import NO_STORE, JsonResponse
from gateway.http.session import HttpSession
from gateway.http.user_in_body import act_for_user_in_body
from gateway.offload import offload
from gateway.protocol import requests as p
from gateway.protocol.errors import CODES, ApiError
from gateway.protocol.results import Attached, TurnPlaced, TurnView
from store.errors import NotFound


class TurnEvents(p.TurnAttach, frozen=True, tag="turn.events"):
    """Attach to a turn of the user, or of the user that a service names."""

    turn: p.Key
    user_id: p.UserName | None = None


async def start_turn(context: RequestContext) -> Response | None:
    """Serve `turn.start`. `Accept` and `Prefer` select the kind of response. Return None if it was streamed.

    Raises `ApiError` and `ClientDisconnect`.
    """
    media_type = negotiate_media_type(context.headers, (JSON_TYPE, SSE, NDJSON))
    context.query()
    context.services.memory.check()
    if prefers_async(context.headers):
        async with context.session() as session:
            accepted = await _start(context, session)
        return JsonResponse(
            accepted, 202, {**_location_header(context, accepted.turn), "preference-applied": "respond-async"}
        )
    if media_type == JSON_TYPE:
        return await _wait_for_outcome(context)
    async with context.session(is_streamed=True, holds_permit=True) as session:
        accepted = await _start(context, session)
        turn = accepted.turn
        if turn not in session.outbox.attachments:
            # The turn's events are gone. Attaching raises the error that says so.
            await attach(session, p.TurnAttach(turn=turn))
        await _stream(context, session, media_type, accepted.epoch, _location_header(context, turn))
    return None


async def stream_turn(context: RequestContext) -> Response | None:
    """Stream a turn's events after the position in `Last-Event-ID`, and return None. Raises `ApiError`.

    If that position is after the ending, return a 204 response instead.
    """
    media_type = negotiate_media_type(context.headers, (SSE, NDJSON))
    named = await context.parse(TurnEvents)
    epoch, after = parse_last_event_id(context.headers)
    request = convert_request(p.TurnAttach, {"turn": named.turn, "epoch": epoch, "after": after})
    await act_for_user_in_body(context, named.user_id)
    async with context.session(is_streamed=True, holds_permit=True) as session:
        await attach(session, request)
        if request.turn not in session.outbox.attachments:
            return Response(status_code=204, headers=NO_STORE)
        await _stream(context, session, media_type, epoch, {})
    return None


async def _start(context: RequestContext, session: HttpSession) -> TurnPlaced:
    """Read the body, serve its `turn.start`, and return the result. Raises `ApiError` and `ClientDisconnect`.

    The turn holds the input from then on, so the memory for the body is released.
    """
    settings = context.services.settings
    body = await context.body(settings.body_bytes)
    accepted: TurnPlaced = await session.handle(await offload(len(body), decode_start, body, settings.frame_bytes))
    context.release_body()
    return accepted


async def estimate_turn(context: RequestContext) -> Response:
    """Serve `turn.estimate`. Raises `ApiError` and `ClientDisconnect`."""
    context.query()
    settings = context.services.settings
    body = await context.body(settings.body_bytes)
    request = await offload(len(body), decode_start, body, settings.frame_bytes, p.decode_turn_estimate)
    async with context.session() as session:
        return JsonResponse(await session.handle(request), headers=NO_STORE)


async def _stream(
    context: RequestContext, session: HttpSession, media_type: str, epoch: int, headers: dict[str, str]
) -> None:
    stream = EventStream(session, FORMATS[media_type](epoch), context.services.settings.close_timeout_s)
    context.streaming = True
    await stream.respond(context.scope, context.receive, context.send, headers)


async def attach(session: HttpSession, request: p.TurnAttach) -> None:
    """Attach the session to a turn. Raise the `ApiError` if that is impossible."""
    attached: Attached = await session.handle(request)
    (answer,) = attached.turns.values()
    if answer.error is not UNSET:
        error = answer.error
        raise ApiError(error.code, error.message, path=error.path, stored_message=error.stored_message)


async def _wait_for_outcome(context: RequestContext) -> Response:
    """Wait for the ending, and return the turn as `turn.get` does. Raises `ApiError` and `ClientDisconnect`.

    A failed turn has the HTTP status of its error.
    """
    async with context.session(holds_permit=True) as session:
        accepted = await _start(context, session)
        turn = accepted.turn
        await wait_until_ended(context, session, turn)
        view: TurnView = await session.handle(p.TurnGet(turn=turn))
    status = 200 if view.error is UNSET else CODES[view.error.code].http_status
    return JsonResponse(view, status, _location_header(context, turn))


async def wait_until_ended(context: RequestContext, session: HttpSession, turn: str) -> None:
    """Wait until the turn has ended.

    Raise `ClientDisconnect` if the client disconnects first, and `ApiError` if the session stops first.
    """
    try:
        live_turn = await context.services.mirrors.find(context.principal.user, turn)
    except (NotFound, ApiError):
        return  # The events are gone, but the outcome may be stored.
    loop = asyncio.get_running_loop()
    ended = loop.create_task(live_turn.wait_ended())
    disconnected = loop.create_task(wait_disconnected(context.receive))
    stopped = loop.create_task(_wait_until_stopped(session))
    try:
        await asyncio.wait([ended, disconnected, stopped], return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in (ended, disconnected, stopped):
            task.cancel()
        with suppress(asyncio.CancelledError):
            await asyncio.gather(ended, disconnected, stopped, return_exceptions=True)
    if not ended.cancelled():
        return
    if session.stop_error is not None:
        raise session.stop_error
    raise ClientDisconnect


async def _wait_until_stopped(session: HttpSession) -> None:
    while session.stop_error is None:
        session.wakeup.clear()
        await session.wakeup.wait()


def _location_header(context: RequestContext, turn: str) -> dict[str, str]:
    return {**NO_STORE, "location": context.external_path(f"/v1/turns/{turn}")}
