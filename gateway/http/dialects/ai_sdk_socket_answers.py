"""The answers on one socket of the AI SDK: the requests in flight, each with a session and an outbox of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from typing import Any

import structlog

from gateway.dialects.ai_sdk import Submission
from gateway.dialects.ai_sdk_request import SocketFrame, request_of_frame
from gateway.dialects.ai_sdk_stream import SocketUiStream
from gateway.dialects.base import encode_json
from gateway.dialects.ids import conversation_id
from gateway.http.dialects.ai_sdk_chats import resume_chat, start_chat
from gateway.http.dialects.socket_session import SocketSession
from gateway.identity.user_in_header import AS_HEADER
from gateway.offload import offload
from gateway.protocol import requests as p
from gateway.protocol.codec import EVENTS
from gateway.protocol.errors import ApiError
from gateway.requests.turns import OrderedResult
from gateway.streams.outbox import Outbox
from gateway.streams.pump import pump
from gateway.tasks import MeteredCoroutine
from gateway.turns.error_mapping import as_api_error

log = structlog.stdlib.get_logger("turnwire.connection")


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


class SocketAnswers:
    """The answers on one socket. `headers` are those of its opening, and `token` is the credential that it has.

    `send_lines` sends lines of JSON to the client, and `refuse` an error to a request.
    """

    def __init__(
        self,
        session: SocketSession,
        headers: Mapping[str, str],
        token: str | None,
        send_lines: Callable[[bytes], Awaitable[None]],
        refuse: Callable[[str | None, ApiError], Awaitable[None]],
    ) -> None:
        self._session = session
        self._services = session.services
        self._headers = headers
        self._send_lines = send_lines
        self._refuse = refuse
        self._requests: dict[str, _Request] = {}
        self._answers: set[_AnswerSession] = set()
        self._token = token
        """So that frames that repeat the credential don't renew it."""

    def begin(self, frame: SocketFrame, size: int, tasks: asyncio.TaskGroup) -> None:
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
            request.turn = await resume_chat(services, answer, conversation_id(frame.id), stream)
            await self._send_lines(
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

    def abort(self, request_id: str, tasks: asyncio.TaskGroup) -> None:
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
        token = token_in(headers)
        if token is not None and token != self._token:
            await self._session.handle(p.Auth(token=token))
            self._token = token

    async def _send_event(self, stream: SocketUiStream, event: Any) -> bool:
        await self._send_lines(stream.encode(event))
        return not stream.ended

    async def finish(self, timeout_s: float) -> None:
        """Let each answer send what it has, for at most `timeout_s` seconds. Then stop them, so that nothing follows."""
        for answer in self._answers:
            answer.wakeup.set()
        running = self._running()
        if timeout_s and running:
            with suppress(TimeoutError):
                async with asyncio.timeout(timeout_s):
                    await asyncio.gather(*running, return_exceptions=True)
        self.stop()

    def stop(self) -> None:
        """Stop sending. The turns continue."""
        for task in self._running():
            task.cancel()

    def _running(self) -> list[asyncio.Task[None]]:
        return [request.task for request in self._requests.values() if request.task is not None]


def token_in(headers: Mapping[str, str]) -> str | None:
    """Return the credential in the headers; None if there is none."""
    named = _lowered(headers)
    scheme, _, token = named.get("authorization", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else named.get("x-api-key")


def _lowered(headers: Mapping[str, str]) -> dict[str, str]:
    return {name.lower(): value for name, value in headers.items()}
