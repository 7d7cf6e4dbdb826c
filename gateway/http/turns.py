"""Turns over HTTP: start one and stream it, wait for it or leave it; follow one from a position."""

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


async def start(call: RequestContext) -> Response | None:
    """As `turn.start`; the answer is what `Accept` and `Prefer` want."""
    media_type = choose(call.headers, (JSON_TYPE, SSE, NDJSON))
    call.query()
    call.services.memory.check()
    if prefers_async(call.headers):
        async with call.visit() as visit:
            placed = await _ask(call, visit)
        return Json(placed, 202, {**_place(call, placed.turn), "preference-applied": "respond-async"})
    if media_type == JSON_TYPE:
        return await _outcome(call)
    async with call.visit(reads=True, stays=True) as visit:
        placed = await _ask(call, visit)
        turn = placed.turn
        if turn not in visit.outbox.attachments:
            await _attach(visit, p.TurnAttach(turn=turn))  # its events are gone, and the refusal says so
        await _stream(call, visit, media_type, placed.epoch, _place(call, turn))
    return None


async def follow(call: RequestContext) -> Response | None:
    """A turn's events, behind the one that the client names; nothing behind the ending."""
    media_type = choose(call.headers, (SSE, NDJSON))
    call.query()
    epoch, after = last_event(call.headers)
    request = to_request(p.TurnAttach, {**call.path, "epoch": epoch, "after": after})
    async with call.visit(reads=True, stays=True) as visit:
        await _attach(visit, request)
        if request.turn not in visit.outbox.attachments:
            return Response(status_code=204, headers=NO_STORE)
        await _stream(call, visit, media_type, epoch, {})
    return None


async def _ask(call: RequestContext, visit: HttpSession) -> TurnPlaced:
    """What `turn.start` answers; from then on the turn has the input, and nothing here holds the body."""
    placed: TurnPlaced = await visit.ask(await _read_start(call))
    call.drop_body()
    return placed


async def _read_start(call: RequestContext) -> p.TurnStart:
    """The start in the body; a large one is decoded beside the loop. Raises `ApiError`, `ClientGone`."""
    settings = call.services.settings
    body = await call.body(settings.body_bytes)
    return await aside(len(body), start_from_body, body, settings.frame_bytes)


async def _stream(
    call: RequestContext, visit: HttpSession, media_type: str, epoch: int, headers: dict[str, str]
) -> None:
    stream = EventStream(visit, FORMATS[media_type](epoch), call.services.settings.close_timeout_s)
    call.streaming = True
    await stream.respond(call.scope, call.receive, call.send, headers)


async def _attach(visit: HttpSession, request: p.TurnAttach) -> None:
    attached: Attached = await visit.ask(request)
    (answer,) = attached.turns.values()
    if answer.error is not UNSET:
        raise _as_error(answer.error)


def _as_error(body: ErrorBody) -> ApiError:
    return ApiError(body.code, body.message, path=body.path, stored_message=body.stored_message)


async def _outcome(call: RequestContext) -> Response:
    """Wait for the ending; the turn as `turn.get` shows it. One that failed has its error's status."""
    async with call.visit(stays=True) as visit:
        placed = await _ask(call, visit)
        turn = placed.turn
        await _until_ended(call, visit, turn)
        view: TurnView = await visit.ask(p.TurnGet(turn=turn))
    status = 200 if view.error is UNSET else CODES[view.error.code].http_status
    return Json(view, status, _place(call, turn))


async def _until_ended(call: RequestContext, visit: HttpSession, turn: str) -> None:
    """Raises `ClientGone`, and `ApiError` where the wait ends before the turn."""
    try:
        stream = await call.services.mirrors.find(call.principal.user, turn)
    except NotFound:
        return
    except ApiError:
        return  # its events are gone; how it ended is kept
    loop = asyncio.get_running_loop()
    ended = loop.create_task(stream.wait_ended())
    gone = loop.create_task(until_gone(call.receive))
    stopped = loop.create_task(_until_stopped(visit))
    try:
        await asyncio.wait([ended, gone, stopped], return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in (ended, gone, stopped):
            task.cancel()
        with suppress(asyncio.CancelledError):
            await asyncio.gather(ended, gone, stopped, return_exceptions=True)
    if not ended.cancelled():
        return
    if visit.leaving is not None:
        raise visit.leaving
    raise ClientGone


async def _until_stopped(visit: HttpSession) -> None:
    while visit.leaving is None:
        visit.changed.clear()
        await visit.changed.wait()


def _place(call: RequestContext, turn: str) -> dict[str, str]:
    return {**NO_STORE, "location": call.place(f"/v1/turns/{turn}")}
