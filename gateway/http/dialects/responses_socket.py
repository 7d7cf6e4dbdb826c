"""The WebSocket of OpenAI Responses: its frames, their order by `stream_id`, and its errors."""

from __future__ import annotations

import asyncio
import re
from collections import Counter, deque
from contextlib import AsyncExitStack, suppress
from typing import Final

import structlog
from starlette.datastructures import Headers
from starlette.types import Receive, Scope, Send

from gateway.dialects.base import encode_json
from gateway.dialects.openai_errors import error_object
from gateway.dialects.responses import RESPONSES, frame_of
from gateway.dialects.responses_object import Object
from gateway.dialects.responses_request import SocketRequest
from gateway.http.dialects.responses_socket_answers import SocketResponses
from gateway.http.dialects.socket_connection import SocketConnection
from gateway.http.dialects.socket_opening import open_socket
from gateway.http.dialects.socket_session import SocketSession
from gateway.http.responses import HttpError
from gateway.protocol.errors import CODES, ApiError
from gateway.requests.session import INVALID_FRAMES_MAX, INVALID_FRAMES_WINDOW_S
from gateway.streams.pump import pump
from gateway.tasks import MeteredCoroutine
from gateway.telemetry.dialect import current_dialect
from gateway.turns.error_mapping import as_api_error

log = structlog.stdlib.get_logger("turnwire.connection")

MESSAGE_BYTES_MAX: Final = 4 * 1024 * 1024
"""The longest message of a client. Larger input goes over HTTP."""
STREAM_ID: Final = re.compile(r"[A-Za-z0-9_.-]{1,256}")


class ResponsesSocket:
    """The ASGI application at `/v1/responses` for WebSockets."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one WebSocket from its opening to its close."""
        async with AsyncExitStack() as stack:
            session = await open_socket(stack, RESPONSES, scope, receive, send)
            if session is not None:
                await _Connection(session, Headers(scope=scope), send).run(receive)


class _Connection:
    """One open socket. The events of its turns come from the outbox of its session.

    Requests with the same `stream_id`, which is called a lane here, are served one after the other.
    """

    def __init__(self, session: SocketSession, headers: Headers, send: Send) -> None:
        self._session = session
        self._services = session.services
        self._connection = SocketConnection(session, send, MESSAGE_BYTES_MAX)
        self._responses = SocketResponses(session, headers, self._connection.send_lines)
        self._lanes: dict[str | None, asyncio.Lock] = {}
        self._waiting: Counter[str | None] = Counter()
        self._running: list[asyncio.Task[None]] = []
        self._invalid_times: deque[float] = deque(maxlen=INVALID_FRAMES_MAX)

    async def run(self, receive: Receive) -> None:
        """Serve the socket until the client or the gateway closes it."""
        log.info("connection opened", dialect=RESPONSES.name)
        async with asyncio.TaskGroup() as tasks:
            writing = [tasks.create_task(self._write()), tasks.create_task(self._abort_on_demand())]
            try:
                await self._connection.read(receive, lambda data: self._receive(data, tasks))
            finally:
                for task in (*writing, *self._running):
                    task.cancel()
        log.info("connection closed")

    # Reading.

    async def _receive(self, data: str, tasks: asyncio.TaskGroup) -> None:
        """Begin to serve the request of a frame."""
        loop_time, user = self._services.limits.loop_time, self._session.user
        try:
            request = await self._decode(data)
        except ApiError as error:
            await self._refuse(error, None, is_invalid=True)
            return
        work = MeteredCoroutine(self._serve(request, len(data)), lambda took_s: loop_time.charge(user, took_s))
        self._running = [task for task in self._running if not task.done()]
        self._running.append(tasks.create_task(work))

    async def _decode(self, data: str) -> SocketRequest:
        """Return the request of a frame. Raises `ApiError`."""
        request = await self._connection.decode(data.encode("utf-8", "surrogatepass"), frame_of)
        if request.stream_id is not None and not STREAM_ID.fullmatch(request.stream_id):
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
                await self._responses.respond(request, size)
        except Exception as error:
            await self._refuse(as_api_error(error), lane)
        finally:
            limits.bodies.release(size)
            waiting[lane] -= 1
            if waiting[lane] == 0:
                del waiting[lane], self._lanes[lane]

    # Writing.

    async def _write(self) -> None:
        """Send the events of the turns until the session stops, then the close frame."""
        with suppress(OSError):
            await pump(self._session.outbox, self._responses.send_event, self._session.wait_for_more)
            await self._connection.close(_last_lines)

    async def _refuse(self, error: ApiError, lane: str | None, *, is_invalid: bool = False) -> None:
        """Send an error. Stop the session if the client sends too many frames that can't be used."""
        self._services.telemetry.refusals.labels(error.code, current_dialect()).inc()
        with suppress(OSError):
            await self._connection.send_lines(encode_json(_error_event(error, lane)))
        now, times = asyncio.get_running_loop().time(), self._invalid_times
        if is_invalid:
            times.append(now)
            if len(times) == INVALID_FRAMES_MAX and now - times[0] <= INVALID_FRAMES_WINDOW_S:
                self._session.close_permanently("Too many invalid frames. Check them against the protocol.")

    async def _abort_on_demand(self) -> None:
        """Close the socket without waiting for what is being sent, if the session must stop at once."""
        await self._session.aborted.wait()
        with suppress(OSError):
            await self._connection.close(_last_lines)


def _last_lines(error: ApiError) -> bytes:
    """Return the event before the close: while the gateway drains, the one after which clients open a new socket."""
    return encode_json(_error_event(error, None)) if error.code == "shutting_down" else b""


def _error_event(error: ApiError, lane: str | None) -> Object:
    """Return the event for an error, with the code and the status that clients of a socket expect."""
    status = error.status if isinstance(error, HttpError) else CODES[error.code].http_status
    found = error_object(error.body, status)
    if found["code"] == "previous_response_not_found":
        status, found = 400, error_object(error.body, 400)
    elif error.code == "shutting_down":
        found = {**found, "code": "websocket_connection_limit_reached"}
    event: Object = {"type": "error", "status": status, "error": found}
    return event if lane is None else {**event, "stream_id": lane}
