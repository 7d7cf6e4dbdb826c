"""OpenAI Responses over a WebSocket: many responses one after the other, and several at once by their `stream_id`."""

from __future__ import annotations

import asyncio
import re
from collections import Counter, deque
from collections.abc import Mapping
from contextlib import AsyncExitStack, suppress
from typing import Any, Final, NamedTuple

import structlog
from msgspec import UNSET
from starlette.datastructures import Headers
from starlette.types import Receive, Scope, Send

from gateway.dialects.base import encode_json, renamed
from gateway.dialects.openai_errors import error_object
from gateway.dialects.responses import RESPONSES, Create, Previous, create_of_frame, frame_of
from gateway.dialects.responses_object import Object
from gateway.dialects.responses_request import SocketRequest
from gateway.dialects.responses_stream import ResponsesStream
from gateway.http.dialects.responses_context import ResponseContexts, missing_previous
from gateway.http.dialects.responses_recent_contexts import RecentContexts
from gateway.http.dialects.serving import check_size
from gateway.http.dialects.socket_opening import open_socket
from gateway.http.dialects.socket_session import SocketSession
from gateway.http.event_stream import encode_event
from gateway.http.request_body import COUNT_ABOVE_BYTES
from gateway.http.responses import HttpError
from gateway.offload import offload
from gateway.protocol import requests as p
from gateway.protocol.errors import CODES, ApiError
from gateway.protocol.events import Timing, TurnCompleted, TurnStarted
from gateway.protocol.ids import now_ms
from gateway.protocol.requests import InputMessage
from gateway.protocol.results import TurnView
from gateway.protocol.value_count import SLICE_BYTES, ValueCount
from gateway.requests.session import INVALID_FRAMES_MAX, INVALID_FRAMES_WINDOW_S
from gateway.streams.pump import pump
from gateway.tasks import MeteredCoroutine
from gateway.telemetry.dialect import current_dialect
from gateway.transport.uvicorn_websocket import TEXT
from gateway.turns.error_mapping import as_api_error
from providers.base import Usage

log = structlog.stdlib.get_logger("turnwire.connection")

MESSAGE_BYTES_MAX: Final = 4 * 1024 * 1024
"""The longest message of a client. Larger input goes over HTTP."""
RECENT_INPUTS: Final = 4
"""All contexts that a socket remembers have at most the size of this many inputs of the largest size."""
STREAM_ID: Final = re.compile(r"[A-Za-z0-9_.-]{1,256}")
SERVICE_RESTART, POLICY_VIOLATION, TRY_AGAIN_LATER = 1012, 1008, 1013
CLOSE_CODES: Final = {"shutting_down": SERVICE_RESTART, "rate_limited": TRY_AGAIN_LATER}
"""The codes to close a socket with, by the error. Clients reconnect by themselves after these, and not after 1008."""


class ResponsesSocket:
    """The ASGI application at `/v1/responses` for WebSockets."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one WebSocket from its opening to its close."""
        async with AsyncExitStack() as stack:
            session = await open_socket(stack, RESPONSES, scope, receive, send)
            if session is not None:
                await _Connection(session, Headers(scope=scope), send).run(receive)


class _Stream(NamedTuple):
    translator: ResponsesStream
    ended: asyncio.Event


class _Connection:
    """One open socket. The events of its turns come from the outbox of its session."""

    def __init__(self, session: SocketSession, headers: Headers, send: Send) -> None:
        self._session = session
        self._services = services = session.services
        self._headers: Mapping[str, str] = headers
        self._send = send
        self._contexts = ResponseContexts(services, session.user)
        self._recent = RecentContexts(RECENT_INPUTS * services.settings.input_bytes)
        self._streams: dict[str, _Stream] = {}
        self._lanes: dict[str | None, asyncio.Lock] = {}
        self._waiting: Counter[str | None] = Counter()
        self._is_closed = False
        self._invalid_times: deque[float] = deque(maxlen=INVALID_FRAMES_MAX)
        if session.socket is not None:
            session.socket.accept_messages_of(max(MESSAGE_BYTES_MAX, services.settings.frame_bytes))

    async def run(self, receive: Receive) -> None:
        """Serve the socket until the client or the gateway closes it."""
        log.info("connection opened", dialect=RESPONSES.name)
        async with asyncio.TaskGroup() as tasks:
            running = [tasks.create_task(self._write()), tasks.create_task(self._abort_on_demand())]
            try:
                await self._read(receive, tasks, running)
            finally:
                for task in running:
                    task.cancel()
        log.info("connection closed")

    # Reading.

    async def _read(self, receive: Receive, tasks: asyncio.TaskGroup, running: list[asyncio.Task[None]]) -> None:
        loop_time, user = self._services.limits.loop_time, self._session.user
        loop = asyncio.get_running_loop()
        while True:
            message = await receive()
            if message["type"] == "websocket.disconnect":
                return
            self._session.heard_s = loop.time()
            if self._session.stop_error is not None:
                continue
            data = message.get("text")
            if data is None:
                self._session.close_permanently("Only text frames are supported. Send JSON as text.")
                continue
            size = len(data)
            try:
                request = await self._decode(data)
            except ApiError as error:
                await self._refuse(error, None, is_invalid=True)
            else:
                work = MeteredCoroutine(self._serve(request, size), lambda took_s: loop_time.charge(user, took_s))
                running[:] = [task for task in running if not task.done()]
                running.append(tasks.create_task(work))
            if delay_s := loop_time.delay_s(user):
                await asyncio.sleep(delay_s)

    async def _decode(self, data: str) -> SocketRequest:
        """Return the request of a frame. Raises `ApiError`."""
        encoded = data.encode("utf-8", "surrogatepass")
        if len(encoded) > COUNT_ABOVE_BYTES:
            values = ValueCount(self._services.settings.request_items)
            for at in range(0, len(encoded), SLICE_BYTES):
                if values.feed(encoded[at : at + SLICE_BYTES]):
                    await asyncio.sleep(0)
        request = await offload(len(encoded), frame_of, encoded)
        if request.stream_id is not None and not STREAM_ID.fullmatch(request.stream_id):
            request.stream_id = None
            raise ApiError("invalid_request", "`stream_id` must be 1 to 256 of A-Za-z0-9_.-", path="stream_id")
        if request.type != "response.create":
            raise ApiError(
                "unsupported" if request.type == "response.steer" else "invalid_request",
                "Only frames of the type response.create are supported. Send one.",
                path="type",
            )
        return request

    async def _serve(self, request: SocketRequest, size: int) -> None:
        """Serve one request, after those before it with the same `stream_id`."""
        lane, waiting, limits = request.stream_id, self._waiting, self._services.limits
        try:
            if waiting.total() >= self._services.settings.requests_in_flight:
                raise ApiError("rate_limited", "Too many requests are in flight. Wait for some of them.")
            limits.bodies.grow(0, size)
        except ApiError as error:
            await self._refuse(error, lane)
            return
        waiting[lane] += 1
        try:
            async with self._lanes.setdefault(lane, asyncio.Lock()):
                await self._respond(request, size)
        except Exception as error:
            await self._refuse(as_api_error(error), lane)
        finally:
            limits.bodies.release(size)
            waiting[lane] -= 1
            if waiting[lane] == 0:
                del waiting[lane], self._lanes[lane]

    # Responses.

    async def _respond(self, request: SocketRequest, size: int) -> None:
        """Start a response, and wait until its last event was sent. Raises `ApiError` and `StoreError`."""
        services, session = self._services, self._session
        services.limits.check_request(session.user, p.TurnStart)
        services.memory.check()
        if request.generate is False:
            request.store = False
        made = await offload(size, create_of_frame, request, self._headers)
        previous = await self._recent_previous(request.previous_response_id)
        start, kept = await self._contexts.start_of(session, made, previous)
        check_size(start, services.settings)
        translator = ResponsesStream(made.settings, is_eager=True, on_socket=True, lane=request.stream_id)
        if request.generate is False:
            self._recent.put(made.turn, kept, size, made.request.previous_response_id, has_answer=False)
            await self._send_lines(_warm_up(translator, made, services.runner.default_model))
            return
        stream = self._streams[made.turn] = _Stream(translator, asyncio.Event())
        try:
            await session.handle(start)
        except ApiError as error:
            del self._streams[made.turn]
            raise renamed(error, made.path) from None
        if made.is_stored:
            await self._contexts.keep(made.turn, kept)
        self._recent.put(made.turn, kept, size, made.request.previous_response_id, has_answer=True)
        await stream.ended.wait()

    async def _recent_previous(self, response: str | None) -> Previous | None:
        """Return what a response continues, if this socket remembers it. Raises `ApiError`."""
        context = self._recent.get(response)
        if context is None or response is None:
            return None
        messages = list(context.kept.messages or ())
        if context.has_answer:
            try:
                await self._contexts.kept(response)  # it isn't there if it was deleted
                view: TurnView = await self._session.handle(p.TurnGet(turn=response))
            except ApiError as error:
                raise missing_previous(response) if error.code == "not_found" else error from None
            if view.status in {"queued", "running"}:
                raise ApiError("busy", "The previous response is still in progress.", path="previous_response_id")
            if view.message is not UNSET and view.message.parts:
                messages.append(InputMessage(role="assistant", parts=list(view.message.parts)))
        return Previous(messages=messages, system=context.kept.system)

    # Writing.

    async def _write(self) -> None:
        """Send the events of the turns until the session stops, then the close frame."""
        with suppress(OSError):
            await pump(self._session.outbox, self._send_event, self._session.wait_for_more)
            await self._close()

    async def _send_event(self, event: Any) -> bool:
        stream = self._streams.get(getattr(event, "turn", ""))
        if stream is not None:
            await self._send_lines(await encode_event(stream.translator, event))
            if stream.translator.ended:
                del self._streams[event.turn]
                stream.ended.set()
        return True

    async def _send_lines(self, lines: bytes) -> None:
        socket = self._session.socket
        for line in lines.splitlines():
            if socket is not None and socket.is_writable:
                socket.write_frame(TEXT, line)
            else:
                await self._send({"type": "websocket.send", "text": line.decode()})

    async def _refuse(self, error: ApiError, lane: str | None, *, is_invalid: bool = False) -> None:
        """Send an error. Stop the session if the client sends too many frames that can't be used."""
        self._services.telemetry.refusals.labels(error.code, current_dialect()).inc()
        with suppress(OSError):
            await self._send_lines(encode_json(_error_event(error, lane)))
        now, times = asyncio.get_running_loop().time(), self._invalid_times
        if is_invalid:
            times.append(now)
            if len(times) == INVALID_FRAMES_MAX and now - times[0] <= INVALID_FRAMES_WINDOW_S:
                self._session.close_permanently("Too many invalid frames. Check them against the protocol.")

    async def _abort_on_demand(self) -> None:
        await self._session.aborted.wait()
        with suppress(OSError):
            await self._close()

    async def _close(self) -> None:
        if self._is_closed:
            return
        self._is_closed = True
        error = self._session.stop_error or ApiError("internal")
        if error.code == "shutting_down":
            await self._send_lines(encode_json(_error_event(error, None)))
        code = CLOSE_CODES.get(error.code, POLICY_VIOLATION)
        self._services.telemetry.connections_closed.labels(code).inc()
        log.info("connection closing", code=code, reason=error.body.message)
        await self._send({"type": "websocket.close", "code": code, "reason": error.body.message[:100]})


def _error_event(error: ApiError, lane: str | None) -> Object:
    """Return the event for an error. While the gateway drains, it is the one after which clients open a new socket."""
    status = error.status if isinstance(error, HttpError) else CODES[error.code].http_status
    found = error_object(error.body, status)
    if found["code"] == "previous_response_not_found":
        status, found = 400, error_object(error.body, 400)
    elif error.code == "shutting_down":
        found = {**found, "code": "websocket_connection_limit_reached"}
    event: Object = {"type": "error", "status": status, "error": found}
    return event if lane is None else {**event, "stream_id": lane}


def _warm_up(translator: ResponsesStream, made: Create, default_model: str) -> bytes:
    """Return the events of a response that generates nothing."""
    started = TurnStarted(
        turn=made.turn,
        seq=1,
        epoch=now_ms(),
        status="running",
        conversation=None,
        model=made.request.model or default_model,
        input=None,
        message="",
        parent=None,
    )
    ended = TurnCompleted(
        turn=made.turn, seq=2, finish_reason="stop", usage=Usage(0, 0), cost=None, timing=Timing(0, 0, 0), message=""
    )
    return translator.encode(started) + translator.encode(ended)
