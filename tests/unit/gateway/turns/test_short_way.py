"""What clients get and what the store gets is the same for the short way of plain chunks as for the long one: every byte."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, cast

from gateway.protocol.codec import CODECS, JSON
from gateway.streams.outbox import Outbox
from gateway.telemetry.metrics import Telemetry
from gateway.turns.event_writer import EventWriter
from gateway.turns.leases import Leases
from gateway.turns.live_turn import LiveTurn
from gateway.turns.log_entries import next_append
from gateway.turns.request_builder import RequestBuilder
from gateway.turns.turn_metrics import TurnMetrics
from providers.base import ChatMessage, ChatRequest, ProviderError, TextPart
from providers.http.body import ResponseBody
from providers.http.stream import DeltaStream
from providers.openai.chat_chunks import ChatDecoder
from providers.quirks import Quirks
from tests.answers import recordings, route
from tests.chat_reads import DONE, FAILURES, FINISH, TEXTS, USAGE, chunk, cut, recorded_streams
from tests.turn_events import EPOCH, started

REQUEST = ChatRequest(model="m", messages=(ChatMessage("user", (TextPart("Hi"),)),))
STEPS = ("nothing", "nothing", "nothing", "send", "send", "send to one", "join", "join late", "flush", "stale", "leave")
TURN = "t1"


@dataclass
class Scene:
    """One turn with its readers and its log. `step` is called after each read."""

    rng: random.Random
    output_bytes_max: int
    outboxes: list[Outbox] = field(default_factory=list)
    frames: list[list[bytes]] = field(default_factory=list)
    appends: list[Any] = field(default_factory=list)
    confirmed: int = 0

    def __post_init__(self) -> None:
        self.turn = LiveTurn("ann", TURN, b"", EPOCH)
        self.turn.publish([started(TURN)])
        self.writer = EventWriter(self.turn, self.output_bytes_max, 100, None, TurnMetrics(Telemetry(())))
        self.leases = SimpleNamespace(is_stale=False, confirm=self.confirm)
        self.builder = RequestBuilder(self.writer, cast("Leases", self.leases), route(), REQUEST, stateless=False)
        for codec in (*CODECS, JSON):
            self.join(codec, 0)

    async def confirm(self) -> None:
        self.leases.is_stale = False
        self.confirmed += 1

    def join(self, codec: Any, after: int) -> None:
        outbox = Outbox(codec, 10**6, lambda: None, lambda: None)
        self.outboxes.append(outbox)
        self.frames.append([])
        self.turn.attach(outbox, EPOCH, after)

    def send(self, *readers: int) -> None:
        for reader in readers:
            while (frame := self.outboxes[reader].next_frame()) is not None:
                self.frames[reader].append(frame)

    def flush(self) -> None:
        if self.turn.stored_seq < self.turn.log.end:
            append = next_append(self.turn)
            self.appends.append(append)
            self.turn.mark_stored(append.last)

    def step(self) -> None:
        rng, readers = self.rng, range(len(self.outboxes))
        match rng.choice(STEPS):
            case "send":
                self.send(*readers)
            case "send to one":
                self.send(rng.choice(readers))
            case "join":
                self.join(rng.choice(CODECS), 0)
            case "join late":
                self.join(rng.choice(CODECS), rng.randint(0, self.turn.log.end))
            case "flush":
                self.flush()
            case "stale":
                self.leases.is_stale = True
            case "leave":
                self.outboxes[rng.choice(readers)].detach(TURN)

    async def play(self, reads: list[bytes], quirks: Quirks, *, is_short: bool) -> tuple[Any, ...]:
        """Feed the reads. Return all that clients, the store and the ending get."""
        decoder = ChatDecoder(quirks, FAILURES)
        if not is_short:
            decoder.plain = cast("Any", None)
        body = cast("ResponseBody", _Body(list(reads), self.step))
        error = None
        try:
            await DeltaStream(body, decoder, FAILURES, 6, self.builder).run()
        except ProviderError as failure:
            error = failure.code
        self.flush()
        self.send(*range(len(self.outboxes)))
        waiting = [outbox.waiting_bytes for outbox in self.outboxes]
        return (
            self.frames,
            self.appends,
            error,
            waiting,
            self.confirmed,
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


async def compare(reads: list[bytes], quirks: Quirks, seed: int, output_bytes_max: int) -> bool:
    """Play the reads both ways, with the same steps in between. Return whether the limit was reached."""
    long = await Scene(random.Random(seed), output_bytes_max).play(reads, quirks, is_short=False)
    short = await Scene(random.Random(seed), output_bytes_max).play(reads, quirks, is_short=True)
    assert short == long
    return long[5] is not None


QUIRKS = (Quirks(), Quirks(think_tags=True))


async def test_recorded_streams() -> None:
    """Two readers and more, JSON and MessagePack, ones that join late or leave, a stale lease, the limit of the output."""
    rng = random.Random(3)
    limited = 0
    for data in recorded_streams(recordings()):
        for _ in range(6):
            limit = rng.choice((50, 10**9, 10**9))
            limited += await compare(cut(data, rng), rng.choice(QUIRKS), rng.randrange(10**9), limit)
    assert limited > 3


async def test_random_streams() -> None:
    """The same for random texts: escapes, surrogates, tags, and what isn't JSON."""
    rng = random.Random(4)
    limited = 0
    for _ in range(250):
        texts = [
            rng.choice(TEXTS[:-1]) if rng.random() < 0.15 else rng.choice(("a", " b", "Zoë", "日", "🙂"))
            for _ in range(30)
        ]
        data = b"".join(chunk(text) for text in texts) + rng.choice((FINISH + USAGE + DONE, FINISH, b""))
        limited += await compare(cut(data, rng), rng.choice(QUIRKS), rng.randrange(10**9), rng.choice((20, 10**9)))
    assert limited > 30
