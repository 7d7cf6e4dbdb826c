"""A provider's stream as batches of deltas: the loop that every dialect has in common.

It reads, lets the decoder speak, keeps the watch, and settles how a stream ends. Dialects differ in their
decoders.
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
"""How long to wait for the end of an answer that is over, so that its connection can serve again."""
DRAIN_READS_MAX: Final = 16
END_MARK: Final = b"[DONE]"
"""What OpenAI's dialects end with; some hosts put quotes or blanks around it."""
END_MARK_BYTES_MAX: Final = 16
_LINES: Final = (b"\xef\xbb\xbf", b"event", b"data", b"id", b"retry")
_BEGINNINGS: Final = frozenset(line[:size] for line in _LINES for size in range(1, 6))
"""What half a line of an event may be."""

S = TypeVar("S", bound=Struct)


class Unreadable(ValueError):
    """An event's data is not what its dialect says."""


def reread(data: bytes, kind: type[S]) -> list[S]:
    """An event that the strict decoder refused, read with patience; several, where their frames were merged."""
    try:
        return [fitting(document, kind) for document in documents(data)]
    except ValueError as error:
        raise Unreadable(str(error)) from None


class Decoder(Protocol):
    """What a dialect makes of its events. Pure: it gathers deltas in `parts`."""

    parts: DeltaBuffer
    finishing: bool
    """The reason for the ending is known; usage may follow."""
    done: bool
    """Nothing can follow."""

    def event(self, name: str | None, data: bytes) -> bool:
        """Take one event. Returns whether it shows progress. Raises `ProviderError` and `Unreadable`."""

    def whole(self, body: dict[str, Any]) -> bool:
        """Take a document that came without a frame: an answer that wasn't streamed, or a bare piece of one.

        False: it is none. Raises as `event` does.
        """

    def end(self) -> None:
        """Take the end of the stream. Raises `ProviderError` if the answer isn't whole."""


class Parser(Protocol):
    """What makes events of bytes. A failure in the stream's own framing is an event named `BARE`, of JSON."""

    def feed(self, chunk: bytes) -> list[Event]: ...

    def close(self) -> list[Event]: ...


class DeltaStream:
    """One answer. Its `parser` is that of server-sent events, unless it is given. `sink` takes what it can at once."""

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
        """There was an event: what follows may be half a line of one, but is no other format."""
        self._stray = b""
        """Lines that are neither events nor JSON."""

    async def next(self) -> list[Delta] | None:
        """The batch of the next network read that holds any, and isn't taken; None at the end. Raises `ProviderError`.

        What came before a failure is given first, and the failure at the next call.
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
        return batch + self._decoder.parts.take()

    def _piece(self, chunk: bytes) -> bool:
        """Take what was read; whether to go on with the next. Not behind the end, nor where its batch is `next`'s."""
        events = self._parser.feed(chunk)
        self._spoke = self._spoke or (bool(events) and events[-1][0] != BARE)
        decoder = self._decoder
        if self._events(events):
            self._body.due_in(SETTLE_S if decoder.finishing else self._between_s)
        if decoder.done:
            self._end()
            return False
        batch = decoder.parts.take()
        if not batch or self._sink.take(batch):
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
                # Some keep a connection alive with events that hold nothing.
                progress = True
        return progress

    def _last(self, events: list[Event]) -> None:
        try:
            self._events(events)
        except Unreadable:
            # The last event of a stream that was cut off may be half an event: `end` will say so.
            return

    def _bare(self, data: bytes) -> None:
        """Lines of another format. JSON there is the provider's way to say that it failed, or an answer after all.

        Some hosts don't stream what they were asked to, with tools for one; some leave the frames out.
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
        """The connection broke, or stalled, or brought nonsense. If the answer had told its end before, it is whole."""
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
