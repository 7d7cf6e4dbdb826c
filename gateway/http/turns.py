"""Turns over HTTP: start a turn and stream it, wait for it or leave it running; stream a turn from a position."""

from __future__ import annotations

import asyncio
from contextlib import suppress

from msgspec import UNSET
from starlette.responses import Response

from gateway.http.event_formats import FORMATS, NDJSON, SSE
from gateway.http.event_stream import EventStream, until_gone
from gateway.http.negotiation import choose, last_event, prefers_async
from gateway.http.operation import RequestContext
from gateway.http.request_body import JSON_TYPE, ClientGone, start_from_body, to_request
from gateway.http.responses import NO_STORE, Json
from gateway.http.session import HttpSession
from gateway.offload import aside
from gateway.protocol import requests as p
from gateway.protocol.errors import CODES, ApiError, ErrorBody
from gateway.protocol.results import Attached, TurnPlaced, TurnView
from store.records import NotFound


async def start(context: RequestContext) -> Response | None:
    """Serve `turn.start`. `Accept` and `Prefer` select the answer. Return None if it was streamed.

    Raises `ApiError` and `ClientGone`.
    """
    media_type = choose(context.headers, (JSON_TYPE, SSE, NDJSON))
    context.query()
    context.services.memory.check()
    if prefers_async(context.headers):
        async with context.session() as session:
            accepted = await _ask(context, session)
        return Json(accepted, 202, {**_location(context, accepted.turn), "preference-applied": "respond-async"})
    if media_type == JSON_TYPE:
        return await _outcome(context)
    async with context.session(reads=True, stays=True) as session:
        accepted = await _ask(context, session)
        turn = accepted.turn
        if turn not in session.outbox.attachments:
            await _attach(session, p.TurnAttach(turn=turn))  # The turn's events are gone: this raises that error.
        await _stream(context, session, media_type, accepted.epoch, _location(context, turn))
    return None


async def follow(context: RequestContext) -> Response | None:
    """Stream a turn's events after the position in `Last-Event-ID`, and return None. Raises `ApiError`.

    If that position is after the ending, return a 204 response instead.
    """
    media_type = choose(context.headers, (SSE, NDJSON))
    context.query()
    epoch, after = last_event(context.headers)
    request = to_request(p.TurnAttach, {**context.path, "epoch": epoch, "after": after})
    async with context.session(reads=True, stays=True) as session:
        await _attach(session, request)
        if request.turn not in session.outbox.attachments:
            return Response(status_code=204, headers=NO_STORE)
        await _stream(context, session, media_type, epoch, {})
    return None


async def _ask(context: RequestContext, session: HttpSession) -> TurnPlaced:
    """Read the body, serve its `turn.start`, and return the result. Raises `ApiError` and `ClientGone`.

    The turn holds the input from then on, so the memory for the body is released.
    """
    accepted: TurnPlaced = await session.handle(await _read_start(context))
    context.drop_body()
    return accepted


async def _read_start(context: RequestContext) -> p.TurnStart:
    """Return the `turn.start` in the body. A large body is decoded in a thread. Raises `ApiError` and `ClientGone`."""
    settings = context.services.settings
    body = await context.body(settings.body_bytes)
    return await aside(len(body), start_from_body, body, settings.frame_bytes)


async def _stream(
    context: RequestContext, session: HttpSession, media_type: str, epoch: int, headers: dict[str, str]
) -> None:
    stream = EventStream(session, FORMATS[media_type](epoch), context.services.settings.close_timeout_s)
    context.streaming = True
    await stream.respond(context.scope, context.receive, context.send, headers)


async def _attach(session: HttpSession, request: p.TurnAttach) -> None:
    attached: Attached = await session.handle(request)
    (answer,) = attached.turns.values()
    if answer.error is not UNSET:
        raise _as_error(answer.error)


def _as_error(body: ErrorBody) -> ApiError:
    return ApiError(body.code, body.message, path=body.path, stored_message=body.stored_message)


async def _outcome(context: RequestContext) -> Response:
    """Wait for the ending, and return the turn as `turn.get` does. Raises `ApiError` and `ClientGone`.

    A failed turn has the HTTP status of its error.
    """
    async with context.session(stays=True) as session:
        accepted = await _ask(context, session)
        turn = accepted.turn
        await _until_ended(context, session, turn)
        view: TurnView = await session.handle(p.TurnGet(turn=turn))
    status = 200 if view.error is UNSET else CODES[view.error.code].http_status
    return Json(view, status, _location(context, turn))


async def _until_ended(context: RequestContext, session: HttpSession, turn: str) -> None:
    """Wait until the turn has ended.

    Raise `ClientGone` if the client disconnects first, and `ApiError` if the session stops first.
    """
    try:
        stream = await context.services.mirrors.find(context.principal.user, turn)
    except NotFound:
        return
    except ApiError:
        return  # The events are gone, but the outcome is kept.
    loop = asyncio.get_running_loop()
    ended = loop.create_task(stream.wait_ended())
    gone = loop.create_task(until_gone(context.receive))
    stopped = loop.create_task(_until_stopped(session))
    try:
        await asyncio.wait([ended, gone, stopped], return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in (ended, gone, stopped):
            task.cancel()
        with suppress(asyncio.CancelledError):
            await asyncio.gather(ended, gone, stopped, return_exceptions=True)
    if not ended.cancelled():
        return
    if session.leaving is not None:
        raise session.leaving
    raise ClientGone


async def _until_stopped(session: HttpSession) -> None:
    while session.leaving is None:
        session.changed.clear()
        await session.changed.wait()


def _location(context: RequestContext, turn: str) -> dict[str, str]:
    return {**NO_STORE, "location": context.location(f"/v1/turns/{turn}")}
