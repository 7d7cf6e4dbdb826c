"""The socket of the AI SDK's `WebSocketChatTransport`: its frames, its errors and its close."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack, suppress
from typing import Final

import structlog
from starlette.datastructures import Headers
from starlette.types import Message, Receive, Scope, Send
from structlog.contextvars import bound_contextvars

from gateway.dialects.ai_sdk import AI_SDK
from gateway.dialects.ai_sdk_parts import error_text
from gateway.dialects.ai_sdk_request import frame_of, request_id_in
from gateway.dialects.base import encode_json
from gateway.http.dialects.ai_sdk_socket_answers import SocketAnswers, token_in
from gateway.http.dialects.socket_connection import SocketConnection
from gateway.http.dialects.socket_opening import open_socket_by_message
from gateway.http.dialects.socket_session import SocketSession
from gateway.offload import offload
from gateway.protocol.errors import ApiError
from gateway.tasks import MeteredCoroutine
from gateway.telemetry.dialect import current_dialect

log = structlog.stdlib.get_logger("turnwire.connection")

INVALID_FRAMES_MAX: Final = 20
"""How many frames in a row may be unusable before the socket is closed."""


class UiSocket:
    """The ASGI application at `/ai-sdk/ws`."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one WebSocket from its opening to its close."""
        async with AsyncExitStack() as stack:
            opened = await open_socket_by_message(stack, AI_SDK, scope, receive, send, credential_in)
            if opened is not None:
                session, first = opened
                with bound_contextvars(connection=session.id, user=session.user):
                    log.info("connection opened", codec="ai_sdk")
                    headers = Headers(scope=scope)
                    token = token_in(headers)
                    if first is not None:
                        token = await offload(len(first["text"]), credential_in, first["text"])
                    await _Connection(session, headers, token, send).run(receive, first)
                    log.info("connection closed")


def credential_in(data: str) -> str | None:
    """Return the credential in a frame's own headers, or None. Raises `ApiError`."""
    return token_in(frame_of(data.encode("utf-8", "surrogatepass")).headers)


class _Connection:
    """One open socket, whose session has the credential `token`."""

    def __init__(self, session: SocketSession, headers: Headers, token: str | None, send: Send) -> None:
        self._session = session
        self._services = session.services
        self._connection = SocketConnection(session, send, session.services.settings.body_bytes)
        self._answers = SocketAnswers(session, headers, token, self._connection.send_lines, self._refuse)
        self._invalid = 0

    async def run(self, receive: Receive, first: Message | None) -> None:
        """Serve the socket until the client or the gateway closes it. `first`: the message that had the credential."""
        async with asyncio.TaskGroup() as tasks:
            closing = tasks.create_task(self._close_on_demand())
            try:
                await self._connection.read(receive, lambda data: self._receive_metered(data, tasks), first)
            finally:
                closing.cancel()
                self._answers.stop()

    async def _receive_metered(self, data: str, tasks: asyncio.TaskGroup) -> None:
        loop_time, user = self._services.limits.loop_time, self._session.user
        await MeteredCoroutine(self._receive(data, tasks), lambda took_s: loop_time.charge(user, took_s))

    async def _receive(self, data: str, tasks: asyncio.TaskGroup) -> None:
        """Start the request of a frame, or abort the one that it names."""
        encoded = data.encode("utf-8", "surrogatepass")
        try:
            frame = await self._connection.decode(encoded, frame_of)
            if frame.type == "abort":
                self._answers.abort(frame.request_id, tasks)
            else:
                self._answers.begin(frame, len(encoded), tasks)
            self._invalid = 0
        except ApiError as error:
            await self._refuse(request_id_in(encoded), error)
            self._invalid += error.code != "rate_limited"
            if self._invalid > INVALID_FRAMES_MAX:
                self._session.close_permanently("Too many invalid frames. Check them against the protocol.")

    async def _refuse(self, request_id: str | None, error: ApiError) -> None:
        """Answer a request with an error. Close the socket if the frame doesn't even name a request."""
        self._services.telemetry.refusals.labels(error.code, current_dialect()).inc()
        if request_id is None:
            self._session.close_permanently("Invalid frame. Send JSON with `type` and `requestId`.")
            return
        with suppress(OSError):
            frame = {"type": "error", "requestId": request_id, "errorText": error_text(error.body)}
            await self._connection.send_lines(encode_json(frame))

    async def _close_on_demand(self) -> None:
        """Wait until the session stops, then let each answer send what it has, and close the socket."""
        session = self._session
        while session.stop_error is None:
            session.wakeup.clear()
            while session.outbox.next_frame() is not None:
                continue  # events that aren't about an answer have no equivalent
            await session.wakeup.wait()
        await self._answers.finish(0 if session.aborted.is_set() else self._services.settings.close_timeout_s)
        with suppress(OSError):
            await self._connection.close()
