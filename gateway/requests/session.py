"""The requests of one client. A session is independent of sockets: it is passed frames and writes to an outbox.

Handlers start in the order of their frames, except those with large answers, which wait for each other. The handlers of
`turn.start` and `turn.cancel` use the registry before their first await. A cancel that follows a start therefore finds
the turn, however long the store takes to accept it.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any, ClassVar

import structlog
from msgspec import UNSET
from structlog.contextvars import bind_contextvars

from gateway.identity.credential_lease import CredentialLease
from gateway.identity.principal import Principal, missing_scope
from gateway.light_event import LightEvent
from gateway.limits.limits import UNTHROTTLED, UNTHROTTLED_IN_FLIGHT
from gateway.protocol import requests as p
from gateway.protocol import results as r
from gateway.protocol.codec import CODECS, JSON, FrameError
from gateway.protocol.errors import ApiError
from gateway.protocol.ids import now_ms, rfc3339, time_of
from gateway.protocol.text_size import split_text
from gateway.protocol.views import cost_from_nano, usage_view
from gateway.requests.conversations import Conversations
from gateway.requests.services import Services
from gateway.requests.turns import OrderedResult, Turns
from gateway.streams.outbox import Attachment, Outbox
from gateway.tasks import MeteredCoroutine
from gateway.telemetry.dialect import current_dialect
from gateway.turns.error_mapping import as_api_error
from providers.catalog.costs import per_million

log = structlog.stdlib.get_logger("turnwire.session")

INVALID_FRAMES_MAX = 20
INVALID_FRAMES_WINDOW_S = 10.0

Spawn = Callable[[Coroutine[Any, Any, None]], None]


class Session:
    """The session of one client. It acts as `user` with the rights of `credential`.

    `spawn` runs the work of a request. `on_invalid_frames` is called if the client sends too many invalid frames.
    `in_bodies`: the requests come in HTTP bodies, not in frames.
    """

    LARGE_ANSWERS: ClassVar[tuple[type, ...]] = (
        p.TurnEstimate,
        p.TurnGet,
        p.ConversationList,
        p.ConversationGet,
        p.ConversationUpdate,
        p.ConversationMessages,
        p.ModelsList,
    )

    def __init__(
        self,
        services: Services,
        user: str,
        credential: CredentialLease,
        outbox: Outbox,
        spawn: Spawn,
        on_invalid_frames: Callable[[], None],
        *,
        in_bodies: bool = False,
    ) -> None:
        self._services = services
        self._user = user
        self._credential = credential
        self._outbox = outbox
        self._spawn = spawn
        self._on_invalid_frames = on_invalid_frames
        self._in_flight_ids: set[str] = set()
        self._in_flight = 0
        self._large_answer_lock = asyncio.Lock()
        self._large_sent = LightEvent()
        self._invalid_frame_times: deque[float] | None = None
        self._turns = Turns(services, user, outbox, self._retention_days, in_bodies=in_bodies)
        self._conversations = Conversations(services, user, outbox, self._turns, self._retention_days)

    def _retention_days(self) -> int | None:
        return self._credential.principal.retention_days

    def receive(self, data: str | bytes) -> None:
        """Decode one frame and start its request. Never awaits, never raises."""
        try:
            request = self._outbox.codec.decode(data)
        except FrameError as refused:
            self.reject_frame(refused)
            return
        if request.as_ is not None:
            self._answer_error(request.id, missing_scope("as", "as"))
        else:
            self.dispatch(request)

    def reject_frame(self, refused: FrameError) -> None:
        """Answer a frame that can't be used with its error. Report a client that sends too many invalid frames."""
        self._answer_error(refused.id, refused.error)
        if refused.error.code == "invalid_frame":
            self._invalid_frame_times = times = self._invalid_frame_times or deque(maxlen=INVALID_FRAMES_MAX)
            now = time.monotonic()
            times.append(now)
            if len(times) == INVALID_FRAMES_MAX and now - times[0] <= INVALID_FRAMES_WINDOW_S:
                self._on_invalid_frames()

    def dispatch(self, request: p.AnyRequest) -> None:
        """Start a request, or answer it with an error. Never awaits, never raises."""
        try:
            self._admit(request)
        except ApiError as refused:
            self._answer_error(request.id, refused)
            return
        if request.id is not None:
            self._in_flight_ids.add(request.id)
        self._in_flight += 1
        self._spawn(MeteredCoroutine(self._serve(request), self._charge_loop_time))

    def _admit(self, request: p.AnyRequest) -> None:
        """Check that `request` may start now. Raises `ApiError`."""
        if request.id is not None and request.id in self._in_flight_ids:
            raise ApiError("invalid_request", f"The id {request.id} is already in flight. Use another id.", path="id")
        if not self._has_capacity(request):
            message = "Too many requests are in flight. Wait for some of the answers."
            raise ApiError("rate_limited", message, retry_after_ms=100)
        self._services.limits.check_request(self._user, type(request))

    def _has_capacity(self, request: p.AnyRequest) -> bool:
        """Return whether `request` may be in flight too. A cancel by id of turns that run here is always allowed."""
        capacity = self._services.settings.requests_in_flight - self._in_flight
        if capacity > 0 or not isinstance(request, UNTHROTTLED):
            return capacity > 0
        return capacity + UNTHROTTLED_IN_FLIGHT > 0 or self._turns.cancels_only_here(request)

    @property
    def is_idle(self) -> bool:
        """Whether nothing is left of the client's work, so that a new session can replace this one.

        That is: no request in flight, no answer that waits, no attachment, no subscription and no live turn.
        """
        return self._in_flight == 0 and self._outbox.is_empty and self._turns.is_idle and self._conversations.is_idle

    def close(self) -> None:
        """Drop the attachments and subscriptions after the client has disconnected. Its turns continue."""
        self._conversations.close()
        self._outbox.close()

    def _charge_loop_time(self, took_s: float) -> None:
        self._services.limits.loop_time.charge(self._user, took_s)

    async def _serve(self, request: p.AnyRequest) -> None:
        if request.id is not None:
            bind_contextvars(user=self._user, request=request.id)
        if isinstance(request, self.LARGE_ANSWERS):
            # Build one large answer at a time: the next only after the client has taken the previous one.
            async with self._large_answer_lock:
                while self._outbox.has_large_answer:
                    self._large_sent.clear()
                    self._outbox.when_large_sent(self._large_sent.set)
                    await self._large_sent.wait()
                await self._serve_now(request, large=True)
        else:
            await self._serve_now(request, large=False)

    async def _serve_now(self, request: p.AnyRequest, *, large: bool) -> None:
        try:
            result = await self.handle(request)
        except ApiError as error:
            self._finish(request.id)
            self._answer_error(request.id, error)
        else:
            self._finish(request.id)
            if request.id is not None:
                self._answer(request.id, result, large=large)

    async def handle(self, request: p.AnyRequest) -> Any:
        """Return the result of a request, or an `OrderedResult` that holds it. Raises `ApiError`."""
        try:
            self._credential.check(request)
            if isinstance(request, self.LARGE_ANSWERS):
                self._services.limits.large_answers.check(self._user)
            return await self._start(request)
        except Exception as error:
            raise as_api_error(error) from None

    def _start(self, request: p.AnyRequest) -> Coroutine[Any, Any, Any]:
        kind = type(request)
        if kind in Turns.HANDLERS:
            return Turns.HANDLERS[kind](self._turns, request)
        if kind in Conversations.HANDLERS:
            return Conversations.HANDLERS[kind](self._conversations, request)
        return self.HANDLERS[kind](self, request)

    def _finish(self, request_id: str | None) -> None:
        self._in_flight -= 1
        if request_id is not None:
            self._in_flight_ids.discard(request_id)

    def _answer(self, request_id: str, result: Any, *, large: bool) -> None:
        """Queue the result of a request. Split a large result into pieces (law 10)."""
        ordered_after: list[Attachment] = []
        if isinstance(result, OrderedResult):
            ordered_after, result = result.attachments, result.result
        frame = p.Result(request_id, result)
        if all(len(codec.encode(frame)) <= p.PIECE_BYTES_MAX for codec in CODECS):
            self._outbox.put(frame, ordered_after, large=large)
            return
        encoded = JSON.encode(result)
        self._services.limits.large_answers.charge(self._user, len(encoded))
        self._services.limits.loop_time.charge_sending(self._user, len(encoded))
        pieces = split_text(encoded.decode(), p.PIECE_BYTES_MAX)
        for piece in pieces:
            self._outbox.put(p.ResultPiece(request_id, piece), ordered_after, large=large)
        self._outbox.put(p.Result(request_id, pieces=len(pieces)), large=large)

    def _answer_error(self, request_id: str | None, error: ApiError) -> None:
        self._services.telemetry.refusals.labels(error.code, current_dialect()).inc()
        self._outbox.put(p.ErrorAnswer(error.body, request_id))

    async def _auth(self, request: p.Auth) -> r.Identity:
        return auth_result(await self._credential.renew(request.token))

    async def _ping(self, request: p.Ping) -> r.Pong:
        return r.Pong(now_ms() if request.t is None else request.t)

    async def _models(self, request: p.ModelsList) -> r.Models:
        models = await asyncio.to_thread(self._services.catalog.models, per_million)
        return r.Models(models, self._services.runner.default_model)

    async def _usage(self, request: p.UsageGet) -> r.Sums:
        since_ms = None
        if request.since is not None:
            since_ms = time_of("since", request.since)
        sums = await self._services.store.usage(self._user, request.conversation, since_ms)
        return r.Sums(usage_view(sums), cost_from_nano(sums.cost_nano))

    HANDLERS: ClassVar[dict[type[p.Request], Callable[[Session, Any], Coroutine[Any, Any, Any]]]] = {
        p.Auth: _auth,
        p.Ping: _ping,
        p.ModelsList: _models,
        p.UsageGet: _usage,
    }
    """The handlers of the requests that are neither of a turn nor of a conversation."""


def auth_result(principal: Principal) -> r.Identity:
    """Return the result of `auth`."""
    return r.Identity(principal.user, UNSET if principal.expires_ms is None else rfc3339(principal.expires_ms))
