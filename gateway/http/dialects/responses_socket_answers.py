"""The responses on one socket: what each continues, its start, and the lines of its events."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final, NamedTuple

from msgspec import UNSET

from gateway.dialects.base import renamed
from gateway.dialects.responses import Create, Previous, create_of_frame
from gateway.dialects.responses_request import SocketRequest
from gateway.dialects.responses_stream import ResponsesStream
from gateway.http.dialects.responses_context import ResponseContexts, missing_previous
from gateway.http.dialects.responses_recent_contexts import RecentContexts
from gateway.http.dialects.responses_stored import StoredResponses
from gateway.http.dialects.serving import check_size
from gateway.http.dialects.socket_session import SocketSession
from gateway.http.event_stream import encode_event
from gateway.offload import offload
from gateway.protocol import requests as p
from gateway.protocol.errors import ApiError
from gateway.protocol.events import Timing, TurnCompleted, TurnStarted
from gateway.protocol.ids import now_ms
from gateway.protocol.requests import InputMessage
from gateway.protocol.results import TurnView
from providers.base import Usage

RECENT_INPUTS: Final = 4
"""All contexts that a socket remembers have at most the size of this many inputs of the largest size."""


class _Stream(NamedTuple):
    translator: ResponsesStream
    ended: asyncio.Event


class SocketResponses:
    """The responses of one socket. `headers` are those of its opening. `send_lines` sends lines of JSON to the client."""

    def __init__(
        self, session: SocketSession, headers: Mapping[str, str], send_lines: Callable[[bytes], Awaitable[None]]
    ) -> None:
        self._session = session
        self._services = services = session.services
        self._headers = headers
        self._send_lines = send_lines
        self._stored = StoredResponses(services, session.user)
        self._contexts = ResponseContexts(services, session.user, self._stored)
        self._recent = RecentContexts(RECENT_INPUTS * services.settings.input_bytes)
        self._streams: dict[str, _Stream] = {}

    async def respond(self, request: SocketRequest, size: int) -> None:
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
            await self._stored.keep(made.turn, kept)
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
                await self._stored.kept(response)  # it isn't there if it was deleted
                view: TurnView = await self._session.handle(p.TurnGet(turn=response))
            except ApiError as error:
                raise missing_previous(response) if error.code == "not_found" else error from None
            if view.status in {"queued", "running"}:
                raise ApiError("busy", "The previous response is still in progress.", path="previous_response_id")
            if view.message is not UNSET and view.message.parts:
                messages.append(InputMessage(role="assistant", parts=list(view.message.parts)))
        return Previous(messages=messages, system=context.kept.system)

    async def send_event(self, event: Any) -> bool:
        """Send an event of a turn to the client, translated. Return True: more events may follow. Raises `OSError`."""
        stream = self._streams.get(getattr(event, "turn", ""))
        if stream is not None:
            await self._send_lines(await encode_event(stream.translator, event))
            if stream.translator.ended:
                del self._streams[event.turn]
                stream.ended.set()
        return True


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
