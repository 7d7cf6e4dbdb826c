"""What clients get and what the store gets is the same by the shortcuts of plain text as without them: every byte.

The shortcuts are `PlainChunks`, from a provider's stream to the sink, and `TextFastPath`, from the sink to the socket.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, cast

from gateway.protocol.codec import CODECS, JSON
from gateway.streams.outbox import Outbox
from gateway.telemetry.metrics import Telemetry
from gateway.turns.abort import Abort, Aborted
from gateway.turns.event_writer import EventWriter
from gateway.turns.leases import Leases
from gateway.turns.live_turn import LiveTurn
from gateway.turns.log_entries import next_append
from gateway.turns.part_events import UNSPLIT_CHARS_MAX
from gateway.turns.request_builder import RequestBuilder
from gateway.turns.turn_metrics import TurnMetrics
from providers.base import ChatMessage, ChatRequest, PartDelta, PartStarted, ProviderError, TextPart
from providers.http.body import ResponseBody
from providers.http.stream import DeltaStream
from providers.openai.chat_chunks import ChatDecoder
from providers.quirks import Quirks
from tests.answers import recordings
from tests.chat_reads import DONE, FAILURES, FINISH, TEXTS, USAGE, chunk, cut, recorded_streams
from tests.provider_requests import route
from tests.turn_events import EPOCH, started

REQUEST = ChatRequest(model="m", messages=(ChatMessage("user", (TextPart("Hi"),)),))
STEPS = (
    *("nothing",) * 20,
    *("block", "unblock", "unblock", "join", "join late", "join ahead", "leave", "leave", "leave"),
    *("flush", "flush", "stale", "observe", "abort"),
)
TURN = "t1"


class Reader:
    """A connection: its outbox, and the frames that it has got. While it is blocked, its socket takes none."""

    def __init__(self, codec: Any, *, has_shortcut: bool) -> None:
        self.frames: list[bytes] = []
        self.at_once = 0
        self.is_blocked = False
        self._has_shortcut = has_shortcut
        self.outbox = Outbox(codec, 10**6, self._wake, lambda: None)

    def _wake(self) -> None:
        self.outbox.write_soon = None

    def _write_soon(self, frame: bytes) -> bool:
        if self.is_blocked:
            return False
        self.frames.append(frame)
        self.at_once += 1
        return True

    def send(self) -> None:
        """Send what waits, as the frame writer does in the next iteration of the event loop."""
        if self.is_blocked:
            return
        while (frame := self.outbox.next_frame()) is not None:
            self.frames.append(frame)
        if self._has_shortcut:
            self.outbox.write_soon = self._write_soon


@dataclass
class Scene:
    """One turn with its readers and its log. `step` is called after each read."""

    rng: random.Random
    output_bytes_max: int
    is_short: bool
    readers: list[Reader] = field(default_factory=list)
    appends: list[Any] = field(default_factory=list)
    confirmed: int = 0
    observed: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.turn = LiveTurn("ann", TURN, b"", EPOCH)
        self.turn.publish([started(TURN)])
        self.writer = EventWriter(self.turn, self.output_bytes_max, 100, None, TurnMetrics(Telemetry(())))
        self.leases = SimpleNamespace(is_stale=False, confirm=self.confirm)
        self.builder = RequestBuilder(self.writer, cast("Leases", self.leases), route(), REQUEST, stateless=False)
        for codec in self.rng.choice(((), (JSON,), (JSON,), CODECS[1:], (*CODECS, JSON))):
            self.join(codec, 0)

    async def confirm(self) -> None:
        self.leases.is_stale = False
        self.confirmed += 1

    def record_batch(self, live_turn: LiveTurn) -> None:
        live_turn.set_batch_observer(None)
        self.observed.append(live_turn.log.end)

    def join(self, codec: Any, after: int) -> None:
        reader = Reader(codec, has_shortcut=self.is_short)
        self.readers.append(reader)
        self.turn.attach(reader.outbox, EPOCH, after)

    def flush(self) -> None:
        if self.turn.stored_seq < self.turn.log.end:
            append = next_append(self.turn)
            self.appends.append(append)
            self.turn.mark_stored(append.last)

    def step(self) -> None:
        for each in self.readers:
            each.send()
        rng = self.rng
        step = rng.choice(STEPS)
        reader = rng.choice(self.readers) if self.readers else None
        match step:
            case "block" | "unblock" if reader is not None:
                reader.is_blocked = step == "block"
            case "leave" if reader is not None:
                reader.outbox.detach(TURN)
            case "observe":
                self.turn.set_batch_observer(self)
            case "join":
                self.join(rng.choice(CODECS), 0)
            case "join late":
                self.join(rng.choice(CODECS), rng.randint(0, self.turn.log.end))
            case "join ahead":
                self.join(rng.choice(CODECS), self.turn.log.end + rng.randint(1, 3))
            case "abort" if rng.random() < 0.2:
                self.turn.signal.abort(Abort("client"))
            case "flush":
                self.flush()
            case "stale":
                self.leases.is_stale = True

    async def play(self, reads: list[bytes], quirks: Quirks) -> tuple[Any, ...]:
        """Feed the reads. Return all that clients, the store and the ending get."""
        decoder = ChatDecoder(quirks, FAILURES)
        if not self.is_short:
            decoder.plain = cast("Any", None)
        body = cast("ResponseBody", _Body(list(reads), self.step))
        error: object = None
        try:
            async with self.turn.signal.scope():
                await DeltaStream(body, decoder, FAILURES, 6, self.builder).run()
        except ProviderError as failure:
            error = failure.code
        except Aborted as aborted:
            error = aborted.abort
        self.flush()
        for reader in self.readers:
            reader.is_blocked = False
            reader.send()
        return (
            [reader.frames for reader in self.readers],
            self.appends,
            error,
            [reader.outbox.waiting_bytes for reader in self.readers],
            self.confirmed,
            self.observed,
            self.turn.signal.abort_reason,
            self.turn.output_bytes,
            self.writer.parts(),
        )


class _Body:
    def __init__(self, reads: list[bytes], after_each: Callable[[], None]) -> None:
        self._reads = reads
        self._after_each = after_each

    async def read_each(self, consume: Callable[[bytes], bool]) -> bool:
        while self._reads:
            goes_on = consume(self._reads.pop(0))
            self._after_each()
            if not goes_on:
                return True
        return False

    def extend_deadline(self, seconds: float) -> None:
        pass

    async def read(self) -> bytes:
        return b""


async def compare(reads: list[bytes], quirks: Quirks, seed: int, output_bytes_max: int) -> tuple[bool, int]:
    """Play the reads both ways, with the same steps in between. Return whether the limit was reached, and how many
    frames took the shortcut."""
    long = await Scene(random.Random(seed), output_bytes_max, is_short=False).play(reads, quirks)
    short = Scene(random.Random(seed), output_bytes_max, is_short=True)
    assert await short.play(reads, quirks) == long
    return getattr(long[6], "by", None) == "limit", sum(reader.at_once for reader in short.readers)


QUIRKS = (Quirks(), Quirks(think_tags=True))


async def test_recorded_streams() -> None:
    """Two readers and more, JSON and MessagePack, ones that join late or leave, a stale lease, the limit of the output."""
    rng = random.Random(3)
    limited = at_once = 0
    for data in recorded_streams(recordings()):
        for _ in range(6):
            limit = rng.choice((50, 560, 10**9, 10**9))
            was_limited, frames = await compare(cut(data, rng), rng.choice(QUIRKS), rng.randrange(10**9), limit)
            limited, at_once = limited + was_limited, at_once + frames
    assert limited > 3
    assert at_once > 5


async def test_random_streams() -> None:
    """The same for random texts: escapes, surrogates, tags, and what isn't JSON."""
    rng = random.Random(4)
    limited = at_once = 0
    for _ in range(250):
        texts = [
            rng.choice(TEXTS[:-1]) if rng.random() < 0.15 else rng.choice(("a", " b", "Zoë", "日", "🙂"))
            for _ in range(30)
        ]
        data = b"".join(chunk(text) for text in texts) + rng.choice((FINISH + USAGE + DONE, FINISH, b""))
        was_limited, frames = await compare(
            cut(data, rng), rng.choice(QUIRKS), rng.randrange(10**9), rng.choice((20, 540, 10**9))
        )
        limited, at_once = limited + was_limited, at_once + frames
    assert limited > 30
    assert at_once > 80


async def test_what_takes_the_long_way() -> None:
    """A text that the parser of plain chunks never gives: of a part that isn't open, empty, or too long for one event."""
    scene = Scene(random.Random(2), 10**9, is_short=True)
    scene.readers.clear()
    scene.join(JSON, 0)
    await scene.builder.put([PartStarted(0, "text"), PartDelta(0, "Hello")])
    scene.readers[0].send()
    write = scene.builder.text_writer.write
    assert not any(write(*refused) for refused in ((1, "a"), (-1, "a"), (0, ""), (0, "a" * (UNSPLIT_CHARS_MAX + 1))))
    assert scene.readers[0].at_once == 0
    assert write(0, " there")
    assert scene.readers[0].at_once == 1
    scene.writer.first_token_at = None  # as after a takeover
    assert not write(0, "!")
