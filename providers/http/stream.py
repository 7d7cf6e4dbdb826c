"""The conversion of a provider's stream to batches of deltas: the loop that all dialects share.

It reads the stream, calls the dialect's decoder, applies the timeouts and decides how the stream ended.
"""

from __future__ import annotations

from typing import Any, Final, Protocol, TypeVar

import httpx2
from msgspec import Struct

from providers.base import Delta, DeltaSink, ProviderError
from providers.delta_buffer import DeltaBuffer
from providers.errors.failures import Failures
from providers.http.body import Body
from providers.http.lenient_json import DOCUMENTS_MAX, documents, fitting
from providers.http.sse import BARE, Event, EventTooLarge, SseParser

SETTLE_S: Final = 5.0
"""How long a stream may stay open after its finish reason."""
DRAIN_S: Final = 0.2
"""How long to wait for the end of the body after the answer is complete, so that the connection can be reused."""
DRAIN_READS_MAX: Final = 16
END_MARK: Final = b"[DONE]"
"""The end mark of OpenAI's dialects. Some hosts put quotes or blanks around it."""
END_MARK_BYTES_MAX: Final = 16
_LINES: Final = (b"\xef\xbb\xbf", b"event", b"data", b"id", b"retry")
_BEGINNINGS: Final = frozenset(line[:size] for line in _LINES for size in range(1, 6))
"""The beginnings that a truncated line of an event may have."""

S = TypeVar("S", bound=Struct)


class Unreadable(ValueError):
    """The data of an event isn't valid in its dialect."""


def reread(data: bytes, kind: type[S]) -> list[S]:
    """Decode leniently an event that the strict decoder rejected. Return several if their frames were merged.

    Raise `Unreadable` if `data` isn't valid.
    """
    try:
        return [fitting(document, kind) for document in documents(data)]
    except ValueError as error:
        raise Unreadable(str(error)) from None


class Decoder(Protocol):
    """A dialect's decoder of events. It collects deltas in `parts` and does no I/O."""

    parts: DeltaBuffer
    finishing: bool
    """Whether the finish reason is known. Usage may follow."""
    done: bool
    """Whether the stream is complete and nothing can follow."""

    def event(self, name: str | None, data: bytes) -> bool:
        """Process one event. Return whether it shows progress.

        Raise `ProviderError` if the event reports a failure, and `Unreadable` if it isn't valid.
        """

    def whole(self, body: dict[str, Any]) -> bool:
        """Process a document without a frame: an answer that wasn't streamed, or a bare piece of a stream.

        Return False if `body` is neither. Raise as `event` does.
        """

    def end(self) -> None:
        """Process the end of the stream. Raise `ProviderError` if the answer is incomplete."""


class Parser(Protocol):
    """A parser of bytes into events. A failure that the framing itself reports is an event named `BARE`, with JSON."""

    def feed(self, chunk: bytes) -> list[Event]: ...

    def close(self) -> list[Event]: ...


class DeltaStream:
    """The stream of one answer. Without `parser`, it is parsed as server-sent events.

    `sink` gets each batch as it is read; `next` returns only the batches that `sink.offer` didn't accept.
    """

    def __init__(
        self,
        body: Body,
        decoder: Decoder,
        failures: Failures,
        between_s: float,
        sink: DeltaSink,
        parser: Parser | None = None,
    ) -> None:
        self._body = body
        self._decoder = decoder
        self._failures = failures
        self._between_s = between_s
        self._parser = parser or SseParser()
        self._sink = sink
        self._untaken: list[Delta] = []
        self._failure: ProviderError | None = None
        self._ended = False
        self._spoke = False
        """Whether there was an event. Then stray lines may be a truncated event, but not another format."""
        self._stray = b""
        """The lines that are neither events nor JSON."""

    async def next(self) -> list[Delta] | None:
        """Return the next batch that the sink didn't take, or None at the end. Raise `ProviderError` on failure.

        A batch that came before a failure is returned first. The next call raises the failure.
        """
        while True:
            if self._failure is not None:
                raise self._failure
            if self._ended:
                await self._drain()
                return None
            batch = await self._read()
            if batch:
                return batch

    async def _read(self) -> list[Delta]:
        try:
            if not await self._body.each(self._piece):
                self._last(self._parser.close())
                self._end()
        except (httpx2.TransportError, Unreadable, EventTooLarge, RecursionError) as error:
            self._break_off(error)
        except ProviderError as error:
            self._failure = error
        batch, self._untaken = self._untaken, []
        return batch + self._decoder.parts.drain()

    def _piece(self, chunk: bytes) -> bool:
        """Process one read. Return whether to continue with the next one.

        Return False after the end, or if the sink didn't take the batch, so that `next` has to return it.
        """
        events = self._parser.feed(chunk)
        self._spoke = self._spoke or (bool(events) and events[-1][0] != BARE)
        decoder = self._decoder
        if self._events(events):
            self._body.due_in(SETTLE_S if decoder.finishing else self._between_s)
        if decoder.done:
            self._end()
            return False
        batch = decoder.parts.drain()
        if not batch or self._sink.offer(batch):
            return True
        self._untaken = batch
        return False

    def _events(self, events: list[Event]) -> bool:
        progress = False
        decoder = self._decoder
        for name, data in events:
            if decoder.done:
                break
            if name == BARE:
                self._bare(data)
            elif data and decoder.event(name, data):
                # Empty events aren't progress: some hosts use them to keep the connection alive.
                progress = True
        return progress

    def _last(self, events: list[Event]) -> None:
        try:
            self._events(events)
        except Unreadable:
            # The last event of an interrupted stream may be truncated. `end` reports that failure.
            return

    def _bare(self, data: bytes) -> None:
        """Process lines without frames. JSON is either an error of the provider or an answer that isn't framed.

        Some hosts don't stream as requested, for example with tools. Some leave out the frames.
        """
        try:
            bodies = documents(data)
        except ValueError:
            self._stray = data
            return
        if isinstance(bodies[0], list):
            bodies = bodies[0]
        if len(bodies) > DOCUMENTS_MAX:
            self._stray = data
            return
        for body in bodies:
            if isinstance(body, dict) and (body.get("error") or not self._decoder.whole(body)):
                raise self._failures.of_event(body)

    def _end(self) -> None:
        self._ended = True
        if self._stray and not self._spoke and self._stray not in _BEGINNINGS:
            raise self._failures.unreadable(self._stray[:200])
        self._decoder.end()

    def _break_off(self, error: Exception) -> None:
        """Handle a broken or stalled connection or invalid data. If the finish reason is known, end normally."""
        try:
            if self._decoder.finishing:
                self._end()
            elif isinstance(error, Unreadable | EventTooLarge | RecursionError):
                self._failure = self._failures.unreadable(error)
            elif isinstance(error, httpx2.TimeoutException):
                self._failure = self._failures.of_exception(error)
            else:
                self._failure = self._failures.incomplete(error)
        except ProviderError as failure:
            self._failure = failure

    async def _drain(self) -> None:
        self._body.due_in(DRAIN_S)
        try:
            for _ in range(DRAIN_READS_MAX):
                if not await self._body.read():
                    return
        except httpx2.TransportError:
            return
