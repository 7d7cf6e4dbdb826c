"""The response of an export: the lines of all data of one user, sent without delaying others."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from time import perf_counter

import structlog
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from gateway.http.event_stream import wait_disconnected
from gateway.http.operation import RequestContext
from gateway.http.responses import CHUNK_BYTES, JSONL_TYPE, NO_STORE
from gateway.limits.connections import ConnectionPermit
from gateway.offload import offload
from gateway.protocol.codec import JSON
from gateway.protocol.errors import ApiError
from gateway.requests.export import Line
from gateway.tasks import MeteredCoroutine
from gateway.transport.uvicorn_http import shrink_write_buffers, transport_of

log = structlog.stdlib.get_logger("turnwire.audit")

EXPORT_PREFIX = "\2"
"""The prefix of a payer's account for exports, so that they don't delay the payer's other requests. No user's name has a
control character, so no user has this account."""
STEP_S = 0.001
"""An export lets others run after it has held the event loop for this long."""
WAIT_S = 0.1
"""How long an export over its share of the loop's time waits before it looks again."""


class ExportResponse(Response):
    """A response that sends the lines as fast as the client reads them and as its user's rate for large answers allows.

    It takes at most a tenth of the event loop's time. `permit` is released at its end.
    """

    media_type = JSONL_TYPE

    def __init__(
        self,
        context: RequestContext,
        first: list[Line],
        lines: AsyncIterator[list[Line]],
        permit: ConnectionPermit,
    ) -> None:
        super().__init__(headers={**NO_STORE, "content-disposition": "attachment", "x-accel-buffering": "no"})
        del self.headers["content-length"]
        self._context = context
        self._first = first
        self._lines = lines
        self._permit = permit
        self._account = EXPORT_PREFIX + context.principal.user

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the response until its end, or until the client disconnects or its credential is revoked."""
        self._context.streaming = True
        with self._permit:
            shrink_write_buffers(transport_of(scope))
            await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
            if scope["method"] == "HEAD":
                await send({"type": "http.response.body"})
                return
            await self._stream(scope, receive, send)

    async def _stream(self, scope: Scope, receive: Receive, send: Send) -> None:
        loop = asyncio.get_running_loop()
        writing = loop.create_task(MeteredCoroutine(self._write(send), self._charge))
        disconnected = loop.create_task(wait_disconnected(receive))
        try:
            await asyncio.wait([writing, disconnected], return_when=asyncio.FIRST_COMPLETED)
        finally:
            writing.cancel()
            disconnected.cancel()
            failed = await asyncio.gather(writing, disconnected, return_exceptions=True)
        if isinstance(failed[0], Exception):
            # A cut-off answer has no last line and no end of its chunks, so the client knows that it isn't complete.
            log.warning("export cut off", error=type(failed[0]).__name__)
            transport_of(scope).abort()

    async def _write(self, send: Send) -> None:
        services, user = self._context.services, self._context.principal.user
        with services.authenticator.admit(self._context.principal) as credential:
            page: list[Line] | None = self._first
            while page is not None:
                credential.check_active()
                began = perf_counter()
                page.reverse()
                while page:
                    encoded = await offload(page[-1].size, _encode, page.pop())  # a line that is sent needs no memory
                    for start in range(0, len(encoded), CHUNK_BYTES):  # so that each piece has a write deadline
                        chunk = encoded[start : start + CHUNK_BYTES]
                        await send({"type": "http.response.body", "body": chunk, "more_body": True})
                    services.limits.large_answers.charge(user, len(encoded))
                    if perf_counter() - began > STEP_S:
                        await self._wait_for_share()
                        began = perf_counter()
                await self._wait_for_rate(user)
                page = await anext(self._lines, None)
            await send({"type": "http.response.body"})

    def _charge(self, took_s: float) -> None:
        self._context.services.limits.loop_time.charge(self._account, took_s)

    async def _wait_for_share(self) -> None:
        """Let others run, and wait while the user's exports have taken more than their share of the loop's time."""
        loop_time = self._context.services.limits.loop_time
        await asyncio.sleep(0)
        while True:
            delay_s = loop_time.delay_s(self._account)
            if not delay_s:
                return
            await asyncio.sleep(min(delay_s, WAIT_S))

    async def _wait_for_rate(self, user: str) -> None:
        while True:
            try:
                self._context.services.limits.large_answers.check(user)
            except ApiError as error:
                await asyncio.sleep((error.body.retry_after_ms or 100) / 1000)
            else:
                return


def _encode(line: Line) -> bytes:
    return JSON.encode(line.build()) + b"\n"
