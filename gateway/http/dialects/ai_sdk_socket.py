"""The socket of the AI SDK's `WebSocketChatTransport`: many answers on one connection, each with the id of its request."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import AsyncExitStack, suppress
from typing import Any, Final

import structlog
from starlette.datastructures import Headers
from starlette.types import Message, Receive, Scope, Send
from structlog.contextvars import bound_contextvars

from gateway.dialects.ai_sdk import AI_SDK, Submission
from gateway.dialects.ai_sdk_messages import error_text
from gateway.dialects.ai_sdk_request import SocketFrame, frame_of, request_id_in, request_of_frame
from gateway.dialects.ai_sdk_stream import SocketUiStream
from gateway.dialects.base import encode_json
from gateway.dialects.kept_history import conversation_of
from gateway.http.dialects.ai_sdk_chats import resume_chat, start_chat
from gateway.http.dialects.socket_opening import open_socket_by_message
from gateway.http.dialects.socket_session import SocketSession
from gateway.http.request_body import COUNT_ABOVE_BYTES
from gateway.identity.user_in_header import AS_HEADER
from gateway.offload import offload
from gateway.protocol import requests as p
from gateway.protocol.codec import EVENTS
from gateway.protocol.errors import ApiError
from gateway.protocol.value_count import SLICE_BYTES, ValueCount
from gateway.requests.turns import OrderedResult
from gateway.streams.outbox import Outbox
from gateway.streams.pump import pump
from gateway.tasks import MeteredCoroutine
from gateway.telemetry.dialect import current_dialect
from gateway.transport.uvicorn_websocket import TEXT
from gateway.turns.error_mapping import as_api_error

log = structlog.stdlib.get_logger("turnwire.connection")

SERVICE_RESTART: Final = 1012
POLICY_VIOLATION: Final = 1008
TRY_AGAIN_LATER: Final = 1013
CLOSE_CODES: Final = {"shutting_down": SERVICE_RESTART, "rate_limited": TRY_AGAIN_LATER}
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
                    await _Connection(session, Headers(scope=scope), send).run(receive, first)
                    log.info("connection closed")


def credential_in(data: str) -> str | None:
    """Return the credential in a frame's own headers, or None. Raises `ApiError`."""
    return _token(frame_of(data.encode("utf-8", "surrogatepass")).headers)


def _token(headers: Mapping[str, str]) -> str | None:
    named = _lowered(headers)
    scheme, _, token = named.get("authorization", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else named.get("x-api-key")


class _Request:
    """A request that is being answered. `turn` is set when its turn is known. `is_aborted`: the client wants no more."""

    def __init__(self, request_id: str) -> None:
        self.id = request_id
        self.turn: str | None = None
        self.is_aborted = False
        self.task: asyncio.Task[None] | None = None


class _AnswerSession:
    """The session of one answer. Its outbox is its own, so that two requests can follow the same turn."""

    def __init__(self, session: SocketSession) -> None:
        services = session.services
        self.user = session.user
        self.wakeup = asyncio.Event()
        self._socket_session = session
        self.outbox = Outbox(EVENTS, services.settings.outbox_bytes, self.wakeup.set, session.stop_slow)
        self._session = session.session_with(self.outbox)

    async def handle(self, request: p.AnyRequest) -> Any:
        """See `HttpSession`."""
        result = await self._session.handle(request)
        return result.result if isinstance(result, OrderedResult) else result

    async def wait(self) -> bool:
        """Wait until there may be a frame to send. Return False if the socket is closing."""
        if self._socket_session.stop_error is not None:
            return False
        self.wakeup.clear()
        await self.wakeup.wait()
        return True

    def close(self) -> None:
        """Drop the attachments. The turns continue."""
        self._session.close()


class _Connection:
    """One open socket."""

    def __init__(self, session: SocketSession, headers: Headers, send: Send) -> None:
        self._session = session
        self._services = session.services
        self._headers = headers
        self._send = send
        self._requests: dict[str, _Request] = {}
        self._answers: set[_AnswerSession] = set()
        self._invalid = 0
        self._token = _token(headers)
        """The credential that the socket has, so that frames that repeat it don't renew it."""
        if session.socket is not None:
            settings = session.services.settings
            session.socket.accept_messages_of(max(settings.body_bytes, settings.frame_bytes))

    async def run(self, receive: Receive, first: Message | None) -> None:
        """Serve the socket until the client or the gateway closes it. `first`: the message that had the credential."""
        if first is not None:
            self._token = await offload(len(first["text"]), credential_in, first["text"])
        async with asyncio.TaskGroup() as tasks:
            closing = tasks.create_task(self._close_on_demand())
            try:
                await self._read(receive, first, tasks)
            finally:
                closing.cancel()
                for request in self._requests.values():
                    if request.task is not None:
                        request.task.cancel()

    # Reading.

    async def _read(self, receive: Receive, first: Message | None, tasks: asyncio.TaskGroup) -> None:
        session, loop_time = self._session, self._services.limits.loop_time
        while True:
            message = await receive() if first is None else first
            first = None
            if message["type"] == "websocket.disconnect":
                return
            session.heard_s = asyncio.get_running_loop().time()
            if session.stop_error is not None:
                continue
            data = message.get("text")
            if data is None:
                session.close_permanently("Only text frames are supported. Send JSON as text.")
                continue
            await MeteredCoroutine(self._receive(data, tasks), lambda took_s: loop_time.charge(session.user, took_s))
            if delay_s := loop_time.delay_s(session.user):
                await asyncio.sleep(delay_s)

    async def _receive(self, data: str, tasks: asyncio.TaskGroup) -> None:
        """Start the request of a frame, or abort the one that it names."""
        encoded = data.encode("utf-8", "surrogatepass")
        try:
            frame = await self._decode(encoded)
            if frame.type == "abort":
                self._abort(frame.request_id, tasks)
            else:
                self._begin(frame, len(encoded), tasks)
            self._invalid = 0
        except ApiError as error:
            await self._refuse(request_id_in(encoded), error)
            self._invalid += error.code != "rate_limited"
            if self._invalid > INVALID_FRAMES_MAX:
                self._session.close_permanently("Too many invalid frames. Check them against the protocol.")

    async def _decode(self, encoded: bytes) -> SocketFrame:
        if len(encoded) > COUNT_ABOVE_BYTES:
            values = ValueCount(self._services.settings.request_items)
            for at in range(0, len(encoded), SLICE_BYTES):
                if values.feed(encoded[at : at + SLICE_BYTES]):
                    await asyncio.sleep(0)
        return await offload(len(encoded), frame_of, encoded)

    def _begin(self, frame: SocketFrame, size: int, tasks: asyncio.TaskGroup) -> None:
        """Start the task of a request. Raises `ApiError`."""
        services, user = self._services, self._session.user
        if frame.type not in {"send", "resume"}:
            raise ApiError("invalid_frame", "Send a frame of the type send, resume or abort.", path="type")
        if frame.request_id in self._requests:
            raise ApiError("invalid_request", "This requestId is in use. Send another one.", path="requestId")
        if len(self._requests) >= services.settings.turns_per_connection:
            raise ApiError("rate_limited", "Too many requests are in flight. Wait for some of the answers.")
        services.limits.check_request(user, p.TurnStart if frame.type == "send" else p.TurnAttach)
        services.limits.bodies.grow(0, size)
        request = self._requests[frame.request_id] = _Request(frame.request_id)
        work = MeteredCoroutine(
            self._serve(frame, size, request), lambda took_s: services.limits.loop_time.charge(user, took_s)
        )
        request.task = tasks.create_task(work)

    # Answering.

    async def _serve(self, frame: SocketFrame, size: int, request: _Request) -> None:
        """Answer one request, until its last frame was sent. `size` is held until its turn has started."""
        answer = _AnswerSession(self._session)
        self._answers.add(answer)
        try:
            try:
                stream = await self._start(frame, size, request, answer)
            finally:
                self._services.limits.bodies.release(size)
            del frame
            if stream is not None:
                await pump(answer.outbox, lambda event: self._send_event(stream, event), answer.wait)
        except OSError:
            return  # the client is gone
        except Exception as error:
            await self._refuse(request.id, as_api_error(error))
        finally:
            answer.close()
            self._answers.discard(answer)
            if self._requests.get(request.id) is request:
                del self._requests[request.id]

    async def _start(
        self, frame: SocketFrame, size: int, request: _Request, answer: _AnswerSession
    ) -> SocketUiStream | None:
        """Start or resume the answer. Return its stream, or None if there is nothing to send. Raises `ApiError`."""
        services = self._services
        self._check_user(frame.headers)
        await self._renew(frame.headers)
        if frame.type == "resume":
            if frame.id is None:
                raise ApiError("invalid_request", "Send the id of the chat.", path="id")
            stream = SocketUiStream(request.id)
            request.turn = await resume_chat(services, answer, conversation_of(frame.id), stream)
            await self._send_line(
                encode_json({"type": "no-active" if request.turn is None else "start", "requestId": request.id})
            )
            return None if request.turn is None else stream
        services.memory.check()
        submission = await offload(
            size, lambda: Submission(request_of_frame(frame), {**self._headers, **_lowered(frame.headers)})
        )
        request.turn = await start_chat(services, answer, submission, size)
        if request.is_aborted:
            await answer.handle(p.TurnCancel(turn=request.turn))
            return None
        return SocketUiStream(request.id, submission.message_id)

    def _abort(self, request_id: str, tasks: asyncio.TaskGroup) -> None:
        """Stop an answer. The client expects no more frames of its request."""
        request = self._requests.pop(request_id, None)
        if request is None:
            return
        request.is_aborted = True
        if request.turn is not None and request.task is not None:
            request.task.cancel()
            tasks.create_task(self._cancel(request.turn))

    async def _cancel(self, turn: str) -> None:
        try:
            await self._session.handle(p.TurnCancel(turn=turn))
        except ApiError as error:
            log.info("answer can't be stopped", code=error.code, turn=turn)

    def _check_user(self, headers: Mapping[str, str]) -> None:
        """Check that a frame doesn't name another user than the opening. Raises `ApiError`."""
        if _lowered(headers).get(AS_HEADER.lower(), self._session.user) != self._session.user:
            raise ApiError(
                "forbidden", f"A socket has one user. Send {AS_HEADER} with the opening of a socket.", path="headers"
            )

    async def _renew(self, headers: Mapping[str, str]) -> None:
        """Renew the credential of the socket if a frame has a new one. Raises `ApiError`."""
        token = _token(headers)
        if token is not None and token != self._token:
            await self._session.handle(p.Auth(token=token))
            self._token = token

    # Writing.

    async def _send_event(self, stream: SocketUiStream, event: Any) -> bool:
        for line in stream.encode(event).splitlines():
            await self._send_line(line)
        return not stream.ended

    async def _send_line(self, line: bytes) -> None:
        socket = self._session.socket
        if socket is not None and socket.is_writable:
            socket.write_frame(TEXT, line)
        else:
            await self._send({"type": "websocket.send", "text": line.decode()})

    async def _refuse(self, request_id: str | None, error: ApiError) -> None:
        """Answer a request with an error. Close the socket if the frame doesn't even name a request."""
        self._services.telemetry.refusals.labels(error.code, current_dialect()).inc()
        if request_id is None:
            self._session.close_permanently("Invalid frame. Send JSON with `type` and `requestId`.")
            return
        with suppress(OSError):
            frame = {"type": "error", "requestId": request_id, "errorText": error_text(error.body)}
            await self._send_line(encode_json(frame))

    async def _close_on_demand(self) -> None:
        """Wait until the session stops, then let each answer send what it has, and close the socket."""
        session = self._session
        while session.stop_error is None:
            session.wakeup.clear()
            while session.outbox.next_frame() is not None:
                continue  # events that aren't about an answer have no equivalent
            await session.wakeup.wait()
        error = session.stop_error
        for answer in self._answers:
            answer.wakeup.set()
        running = [request.task for request in self._requests.values() if request.task is not None]
        if not session.aborted.is_set():
            with suppress(TimeoutError):
                async with asyncio.timeout(self._services.settings.close_timeout_s):
                    await asyncio.gather(*running, return_exceptions=True)
        for task in running:
            task.cancel()  # nothing can be sent after the close
        code = CLOSE_CODES.get(error.code, POLICY_VIOLATION)
        self._services.telemetry.connections_closed.labels(code).inc()
        log.info("connection closing", code=code, reason=error.body.message)
        with suppress(OSError):
            await self._send({"type": "websocket.close", "code": code, "reason": error.body.message[:100]})


def _lowered(headers: Mapping[str, str]) -> dict[str, str]:
    return {name.lower(): value for name, value in headers.items()}
