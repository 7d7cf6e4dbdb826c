"""The conversion of a provider's stream to batches of deltas: the loop that all dialects but the demo share.

It reads the stream, calls the dialect's decoder, applies the timeouts and decides how the stream ended.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any, Final, Protocol

import httpx2

from providers.base import Delta, DeltaSink, PartDelta, ProviderError, TextWriter
from providers.delta_buffer import DeltaBuffer
from providers.errors.failures import Failures
from providers.errors.tracebacks import drop_tracebacks
from providers.http.body import ResponseBody
from providers.http.lenient_json import DOCUMENTS_MAX, parse_documents
from providers.http.no_chunk import read_no_chunk
from providers.http.sse import EVENT_BYTES_MAX, UNFRAMED, Event, EventTooLarge, InvalidEvent, SseParser

AFTER_FINISH_S: Final = 5.0
"""How long a stream may be silent after its finish reason."""
DRAIN_S: Final = 0.2
"""How long to wait for the end of the body after the answer is complete, so that the connection can be reused."""
DRAIN_READS_MAX: Final = 16
OPENING_BRACE: Final = ord("{")
"""The first byte of almost every event's data. Data that begins otherwise is checked for a chunk first."""
LARGE_EVENT_BYTES: Final = 16 * 1024
"""A longer event is decoded in another thread, because it may have very many pieces."""
_EXECUTOR: Final = ThreadPoolExecutor(max_workers=1, thread_name_prefix="turnwire-events")
_FIELD_NAMES: Final = (b"\xef\xbb\xbf", b"event", b"data", b"id", b"retry")
_TRUNCATED_LINES: Final = frozenset(name[:size] for name in _FIELD_NAMES for size in range(1, 6))
"""What the last line may be if the stream ended within the name of a field, or right after the name."""


class Shortcut(Protocol):
    """A short way for chunks that hold plain text and nothing else. What it does is what the parser and the decoder do."""

    @property
    def part(self) -> int:
        """The number of the part to which the text belongs."""

    def decode(self, chunk: bytes) -> str | None:
        """Return the text of a chunk, which shows progress, or None if the chunk has to go the long way."""

    def observe(self, chunk: bytes, events: list[Event]) -> None:
        """Learn from a chunk that went the long way. It is called after each of them, once the decoder was drained."""


class Decoder(Protocol):
    """A dialect's decoder of events. It collects deltas in `parts` and does no I/O."""

    parts: DeltaBuffer
    finishing: bool
    """Whether the finish reason is known. Usage may follow."""
    done: bool
    """Whether the stream is complete and nothing can follow."""

    @property
    def plain(self) -> Shortcut | None:
        """The short way for the most frequent chunks, or None if the dialect has none."""

    def decode_event(self, name: str | None, data: bytes) -> bool:
        """Process one event. Return whether it shows progress.

        Raise `ProviderError` if the event reports a failure, and `InvalidEvent` if it isn't valid.
        """

    def decode_document(self, body: dict[str, Any]) -> bool:
        """Process a document without a frame: an answer that wasn't streamed, or an unframed piece of a stream.

        Return False if `body` is neither. Raise as `decode_event` does.
        """

    def end(self) -> None:
        """Process the end of the stream. Raise `ProviderError` if the answer is incomplete."""


class Parser(Protocol):
    """A parser of bytes into events.

    A failure that the frame's own headers report (AWS) is an event named `UNFRAMED`, with the failure in JSON.
    """

    def feed(self, chunk: bytes) -> list[Event]: ...

    def close(self) -> list[Event]: ...


class DeltaStream:
    """The stream of one answer. Without `parser`, it is parsed as server-sent events.

    `sink.offer` gets a batch as it is read. `sink.put` gets the batches that `offer` doesn't accept, those that another
    thread decoded, and the last one.

    The stream may show no progress for `between_s`, or for `alive_s` while something else arrives, such as pings.
    """

    def __init__(
        self,
        body: ResponseBody,
        decoder: Decoder,
        failures: Failures,
        between_s: float,
        sink: DeltaSink,
        parser: Parser | None = None,
        alive_s: float = 0.0,
    ) -> None:
        self._body = body
        self._decoder = decoder
        self._plain = decoder.plain
        self._failures = failures
        self._between_s = between_s
        self._alive_s = alive_s
        self._parser = parser or SseParser()
        self._sink = sink
        self._text_writer: TextWriter | None = None
        self._pending: list[Delta] = []
        """The batch that the sink didn't accept."""
        self._large_events: list[Event] = []
        """The events that another thread has to decode, because the first of them is large."""
        self._failure: ProviderError | None = None
        self._ended = False
        self.skipped = 0
        """The number of events that held no chunk."""
        self._has_events = False
        """Whether there was an event. If so, unparsed lines can only be a truncated event, not another format."""
        self._unparsed_lines: list[bytes] = []
        """The lines that are neither events nor JSON by themselves. A blank line may have split a JSON document."""
        self._unparsed_bytes = 0

    async def run(self) -> None:
        """Pass the whole answer to the sink. Raise `ProviderError` on failure, after the batches that came before it."""
        while self._failure is None and not self._ended:
            if batch := await self._read():
                await self._sink.put(batch)
        if self._failure is not None:
            raise self._failure
        await self._drain()

    async def _read(self) -> list[Delta]:
        try:
            if not await self._body.read_each(self._process_chunk):
                await _run_if_large(self._process_end, self._parser.close())
            elif self._large_events:
                events, self._large_events = self._large_events, []
                await _run_if_large(self._process_large, events)
                self._body.extend_deadline(AFTER_FINISH_S if self._decoder.finishing else self._between_s)
        except (httpx2.TransportError, InvalidEvent, RecursionError) as error:
            self._handle_break(error)
            drop_tracebacks(error)
        except ProviderError as error:
            self._failure = error
        batch, self._pending = self._pending, []
        return batch + self._decoder.parts.drain()

    def _process_chunk(self, chunk: bytes) -> bool:
        """Process one read. Return whether to continue with the next one.

        Return False in three cases: the stream has ended; another thread has to decode the events; or the sink didn't
        accept the batch, so that `put` has to wait for the sink.
        """
        plain = self._plain
        if plain is not None and (text := plain.decode(chunk)) is not None:
            self._body.extend_deadline(self._between_s)
            if self._text_writer is None:
                self._text_writer = self._sink.text_writer
            elif self._text_writer.write(plain.part, text):
                return True
            return self._offer([PartDelta(plain.part, text)])
        events = self._parser.feed(chunk)
        self._has_events = self._has_events or (bool(events) and events[-1][0] != UNFRAMED)
        # A large event spans several reads, so the read that completes it returns it first.
        if events and len(events[0][1]) > LARGE_EVENT_BYTES:
            self._large_events = events
            return False
        decoder = self._decoder
        if self._process_events(events):
            self._body.extend_deadline(AFTER_FINISH_S if decoder.finishing else self._between_s)
        elif self._alive_s and not decoder.finishing:
            self._body.show_life(self._between_s, self._alive_s)
        if decoder.done:
            self._end()
            return False
        batch = decoder.parts.drain()
        if plain is not None:
            plain.observe(chunk, events)
        return self._offer(batch)

    def _offer(self, batch: list[Delta]) -> bool:
        """Offer a batch to the sink. Return whether to continue with the next read."""
        if not batch or self._sink.offer(batch):
            return True
        self._pending = batch
        return False

    def _process_events(self, events: list[Event]) -> bool:
        progress = False
        decoder = self._decoder
        for name, data in events:
            if decoder.done:
                break
            if name == UNFRAMED:
                self._process_unframed(data)
            elif data and (
                decoder.decode_event(name, data) if data[0] == OPENING_BRACE else self._decode_other(name, data)
            ):
                # Empty events aren't progress: some hosts use them to keep the connection alive.
                progress = True
        return progress

    def _decode_other(self, name: str | None, data: bytes) -> bool:
        """Process data that may hold no chunk. Skip it if it holds nothing of use. Return whether it shows progress."""
        if (other := read_no_chunk(name, data)) is None:
            return self._decoder.decode_event(name, data)
        if other.failure is not None:
            raise self._failures.from_event(other.failure)
        self.skipped += not other.chunks
        progress = False
        for chunk in other.chunks:
            progress = self._decoder.decode_event(name, chunk) or progress
        return progress

    def _process_large(self, events: list[Event]) -> None:
        self._process_events(events)
        if self._decoder.done:
            self._end()

    def _process_end(self, events: list[Event]) -> None:
        self._process_last(events)
        self._end()

    def _process_last(self, events: list[Event]) -> None:
        # The last event of an interrupted stream may be truncated. `end` reports that failure.
        with suppress(InvalidEvent):
            self._process_events(events)

    def _process_unframed(self, data: bytes) -> None:
        """Process lines without frames. JSON is either an error of the provider or an answer that isn't framed.

        Some hosts don't stream as requested, for example with tools. Some leave out the frames.
        """
        try:
            bodies = parse_documents(data)
        except InvalidEvent:
            self._keep_unparsed(data)
            return
        if isinstance(bodies[0], list):
            bodies = bodies[0]
        if len(bodies) > DOCUMENTS_MAX or (self._unparsed_lines and not any(isinstance(body, dict) for body in bodies)):
            self._keep_unparsed(data)
            return
        self._process_documents(bodies)

    def _keep_unparsed(self, data: bytes) -> None:
        """Keep lines until the end. Raise `EventTooLarge` if there are too many."""
        self._unparsed_lines.append(data)
        self._unparsed_bytes += len(data)
        if self._unparsed_bytes > EVENT_BYTES_MAX:
            raise EventTooLarge(f"lines over {EVENT_BYTES_MAX} bytes")

    def _process_unparsed(self) -> bool:
        """Parse all kept lines together as one JSON document, and process it. Return whether they are one."""
        try:
            bodies = parse_documents(b"\n".join(self._unparsed_lines))
        except InvalidEvent:
            return False
        if not isinstance(bodies[0], dict):
            return False
        self._process_documents(bodies)
        return True

    def _process_documents(self, bodies: list[Any]) -> None:
        for body in bodies:
            if isinstance(body, dict) and (body.get("error") or not self._decoder.decode_document(body)):
                raise self._failures.from_event(body)

    def _end(self) -> None:
        self._ended = True
        unparsed = self._unparsed_lines and self._unparsed_lines[-1]
        if unparsed and not self._has_events and unparsed not in _TRUNCATED_LINES and not self._process_unparsed():
            raise self._failures.unreadable(unparsed[:200])
        self._decoder.end()

    def _handle_break(self, error: Exception) -> None:
        """Handle a broken or stalled connection or invalid data. If the finish reason is known, end normally."""
        try:
            if self._decoder.finishing:
                self._end()
            elif isinstance(error, EventTooLarge):
                self._failure = self._failures.too_large(error)
            elif isinstance(error, InvalidEvent | RecursionError):
                self._failure = self._failures.unreadable(error)
            elif isinstance(error, httpx2.TimeoutException):
                self._failure = self._failures.from_exception(error)
            else:
                self._failure = self._failures.incomplete(error)
        except ProviderError as failure:
            self._failure = failure

    async def _drain(self) -> None:
        self._body.extend_deadline(DRAIN_S)
        try:
            for _ in range(DRAIN_READS_MAX):
                if not await self._body.read():
                    return
        except httpx2.TransportError:
            return


async def _run_if_large(process: Callable[[list[Event]], None], events: list[Event]) -> None:
    """Call `process` with the events: in another thread if they are large, else at once."""
    if sum(len(data) for _, data in events) <= LARGE_EVENT_BYTES:
        process(events)
    else:
        await asyncio.get_running_loop().run_in_executor(_EXECUTOR, process, events)
