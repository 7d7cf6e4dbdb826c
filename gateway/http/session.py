"""The session of one HTTP request. Until the request ends, it is registered as a client, like a WebSocket connection.

So a drain, a close by the operator, or an expired or revoked credential stops a stream or a wait. A stream also gets
heartbeats.
"""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Any, ClassVar

from structlog.contextvars import bind_contextvars

from gateway.identity.principal import Principal
from gateway.light_event import LightEvent
from gateway.protocol.codec import JSON, Codec
from gateway.protocol.errors import ApiError, CloseCode
from gateway.protocol.events import Heartbeat
from gateway.protocol.ids import new_id, now_ms
from gateway.protocol.requests import AnyRequest
from gateway.requests.clients import Transport
from gateway.requests.services import Services
from gateway.requests.session import Session
from gateway.requests.turns import OrderedResult
from gateway.streams.outbox import Outbox

UNBOUNDED_BYTES = 2**62


class HttpSession:
    """A session without a socket. `wakeup` is set if there may be a frame to send or a reason to stop.

    `stop_error` is the reason to stop; `aborted` is set if sending must stop at once. If `is_streamed` is false, the
    outbox is never sent. It then needs no limit, because events aren't copied to it. With `host` (the client's
    address), entering the session takes a connection permit, and raises `ApiError` if there are too many connections.
    `codec`: that of the outbox's frames.
    """

    transport: ClassVar[Transport] = "http"

    def __init__(
        self,
        services: Services,
        principal: Principal,
        *,
        is_streamed: bool,
        host: str | None = None,
        codec: Codec = JSON,
    ) -> None:
        settings = services.settings
        self._permit = services.limits.connection_permit()
        self._principal = principal
        self._host = host
        self.id = new_id("cn")
        self.user = principal.user
        self.opened_ms = now_ms()
        self.heard_s = asyncio.get_running_loop().time()
        self.wakeup = asyncio.Event()
        self.finished = LightEvent()
        self.stop_error: ApiError | None = None
        self.aborted = asyncio.Event()
        self._is_streamed = is_streamed
        self._telemetry = services.telemetry
        self._clients = services.clients
        self._sent_at = asyncio.get_running_loop().time()
        self.outbox = Outbox(
            codec, settings.outbox_bytes if is_streamed else UNBOUNDED_BYTES, self.wakeup.set, self._on_overflow
        )
        self._credential = services.authenticator.admit(principal, on_ended=self._on_access_ended)
        self._session = Session(
            services,
            principal.user,
            self._credential,
            self.outbox,
            nothing,
            nothing,
            in_bodies=True,
        )

    async def __aenter__(self) -> HttpSession:
        try:
            if self._host is not None:
                await self._permit.acquire(self._principal, self._host)
        except BaseException:
            self._release()
            raise
        self._clients.add(self)
        bind_contextvars(connection=self.id, user=self.user)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._release()
        self._clients.remove(self)

    def _release(self) -> None:
        self._session.close()
        self._credential.release()
        self._permit.release()

    async def handle(self, request: AnyRequest) -> Any:
        """Return the result of `request`. Raises `ApiError`."""
        result = await self._session.handle(request)
        return result.result if isinstance(result, OrderedResult) else result

    async def wait_for_more(self) -> bool:
        """Wait until there may be a frame to send. Return False if the session stops. See `pump`."""
        if self.stop_error is not None:
            return False
        self.wakeup.clear()
        await self.wakeup.wait()
        return True

    def record_sent(self) -> None:
        """Record that a frame was sent now. The next heartbeat is due one interval later."""
        self._sent_at = asyncio.get_running_loop().time()

    def send_heartbeat(self, now: float, interval_s: float) -> None:
        """Send a heartbeat if nothing was sent for `interval_s` seconds. `now` is the loop's time."""
        if self._is_streamed and now - self._sent_at >= interval_s:
            self._sent_at = now
            self.outbox.put(Heartbeat(now_ms()))

    def close_when_drained(self, code: CloseCode, reason: str) -> None:
        """Stop once the outbox is sent, so that the client continues on another instance."""
        self._stop(ApiError("shutting_down", retry_after_ms=1000))

    def close_permanently(self, reason: str) -> None:
        """Stop at once; the client must not reconnect automatically."""
        self._stop(ApiError("forbidden", reason))
        self.aborted.set()

    async def answers(self, timeout_s: float) -> bool:
        """Return True: HTTP has no ping."""
        return True

    def drop(self) -> bool:
        """Return False: a session that counts as alive is never dropped."""
        return False

    def _on_access_ended(self, reason: str) -> None:
        self._stop(ApiError("unauthenticated", reason))

    def _on_overflow(self) -> None:
        self._telemetry.slow_clients.labels(self.transport).inc()
        self._stop(
            ApiError("rate_limited", "The client reads too slowly. Resume from the last event that you received.")
        )
        self.aborted.set()

    def _stop(self, error: ApiError) -> None:
        if self.stop_error is None:
            self.stop_error = error
        self.wakeup.set()


def nothing(*_: object) -> None:
    """Fail: this must never be called, because an HTTP session receives no frames."""
    raise AssertionError("an HTTP session receives no frames")
