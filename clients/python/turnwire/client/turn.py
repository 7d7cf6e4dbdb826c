"""One turn: its position, its answer so far, its events and its result. It enforces law 1 (events are contiguous) and
law 2 (one ending)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Generator
from typing import Any, Protocol

from turnwire.client.answer import Answer
from turnwire.client.errors import LawViolation, TurnFailed, TurnwireError, to_record
from turnwire.client.event_queue import EventQueue
from turnwire.client.events import (
    Ending,
    TurnCancelled,
    TurnCompleted,
    TurnDelta,
    TurnEvent,
    TurnFailedEvent,
    TurnPart,
    TurnReset,
    TurnStarted,
    TurnStatus,
    UnknownEvent,
)
from turnwire.client.lifetime import set_event
from turnwire.client.records import Accepted, CancelOutcome, Message, Position

ENDINGS = (TurnCompleted, TurnCancelled, TurnFailedEvent)


class Owner(Protocol):
    """The connection of a turn."""

    def check(self) -> None:
        """Raise a `ConnectionClosed` if this process or event loop can't wait for the connection."""

    async def cancel_turn(self, turn: Turn, reason: object) -> CancelOutcome:
        """Cancel a turn."""


class Turn:
    """A started turn. Iterate it for its events, or await it for its message, or both.

    The last event is the ending, and iterating never raises because of it. Awaiting a failed turn raises `TurnFailed`,
    with the answer so far in `partial`; awaiting a cancelled one returns the answer so far. The events have one reader; if
    that is slow, adjacent deltas are merged. Nothing has to be read: a turn that nobody reads or awaits does no harm.
    """

    def __init__(self, turn: str, user: str | None, owner: Owner, position: Position | None = None) -> None:
        self.id = turn
        self.user = user
        self.conversation: str | None = None
        self.model: str | None = None
        self.input: Message | None = None
        self.status = "starting"
        """`starting`, then that of the last event: `queued`, `running`, `waiting`, `retrying`, `fallback`, `continued`,
        and at the end `completed`, `cancelled` or `failed`."""
        self.ending: Ending | None = None
        """The last event. None while the turn runs."""
        self.failure: TurnwireError | None = None
        """What awaiting the turn raises, if it has failed."""
        self._parent: str | None = None
        self._owner = owner
        self._epoch, self._seq = (position.epoch, position.seq) if position else (0, 0)
        self._answer = Answer(from_start=self._seq == 0)
        self._events = EventQueue()
        self._done = asyncio.Event()
        self._accepted: Accepted | None = None
        self._accepted_or_done = asyncio.Event()
        self._at_end: list[Callable[[], None]] = []

    @property
    def ended(self) -> bool:
        """Whether it has ended."""
        return self.ending is not None

    @property
    def position(self) -> Position:
        """How much was received. `gateway.attach` can continue from here, also in another program."""
        return Position(self._epoch, self._seq)

    @property
    def message(self) -> Message:
        """A copy of the answer so far. Its `status` is None while the turn runs."""
        message = Message(
            parts=self._answer.parts(),
            parent=self._parent,
            turn=self.id,
            conversation=self.conversation,
            model=self.model,
        )
        ending = self.ending
        if ending is None:
            return message
        message.id = ending.message or ""
        message.status = self.status
        message.usage, message.cost, message.timing = ending.usage, ending.cost, ending.timing
        if isinstance(ending, TurnCompleted):
            message.finish_reason, message.stop_sequence = ending.finish_reason, ending.stop_sequence
        elif isinstance(ending, TurnCancelled):
            message.by, message.reason = ending.by, ending.reason
        else:
            message.error = ending.error
        return message

    def __await__(self) -> Generator[Any, None, Message]:
        return self._result().__await__()

    def __aiter__(self) -> EventIterator:
        return EventIterator(self)

    def text(self) -> TextIterator:
        """Iterate the pieces of the answer's visible text. If the turn fails, the iteration raises `TurnFailed` at the end.

        After a `TurnReset`, which is rare, the text begins again; iterate the events to notice it.
        """
        return TextIterator(self)

    async def cancel(self, reason: object = None) -> CancelOutcome:
        """Cancel it. When this returns, no more text follows (law 5), and the ending follows or was received already.

        The text of `reason`, at most 300 characters, is stored with the answer.
        """
        return await self._owner.cancel_turn(self, reason)

    async def accepted(self) -> Accepted:
        """Wait until the gateway has accepted the start or the attach. Raise what `await` raises if it refuses."""
        if self._accepted is None:
            await self._wait(self._accepted_or_done)
        if self._accepted is None and self.failure is not None:
            raise self.failure.with_traceback(None)
        return self._accepted or Accepted(turn=self.id, conversation=self.conversation, epoch=self._epoch)

    async def _result(self) -> Message:
        await self._wait(self._done)
        if self.failure is not None:
            raise self.failure.with_traceback(None)
        return self.message

    async def _next(self) -> TurnEvent:
        if self._events.must_wait:
            self._owner.check()
        return await self._events.next()

    async def _wait(self, event: asyncio.Event) -> None:
        if not event.is_set():
            self._owner.check()
            await event.wait()

    # What follows is for the connection.

    def _accept(self, accepted: Accepted) -> None:
        if self.conversation is None:
            self.conversation = accepted.conversation
        if self.status == "starting":
            self.status = "queued" if accepted.status == "queued" else "running"
        self._settle(accepted)

    def _receive(self, event: TurnEvent) -> None:
        """Apply the next event. Raise `LawViolation` if it doesn't continue the position, or follows the ending."""
        if self.ending is not None:
            raise LawViolation(
                f"Turn {self.id}: {event.type} after its ending (law 2). The gateway is faulty: report this."
            )
        if type(event) is TurnDelta:
            self._check_order(event.seq, event.after, event.type)
            self._answer.append(event)
            self.status = "running"
        elif isinstance(event, TurnReset):
            self._epoch, self._seq, self.status = event.epoch, event.seq, "running"
            self._answer.reset()
        else:
            after = event.after if isinstance(event, (TurnPart, UnknownEvent)) else None
            self._check_order(event.seq, after, event.type)
            self._apply(event)
        if event.seq is not None:
            self._seq = event.seq
        self._events.push(event)
        if isinstance(event, ENDINGS):
            self._end(event)

    def _check_order(self, seq: int | None, after: int | None, kind: str) -> None:
        if seq is None:
            return
        after = seq - 1 if after is None else after
        if after != self._seq or seq <= after:
            raise LawViolation(
                f"Turn {self.id}: {kind} continues {after}, but this client is at {self._seq} (law 1). "
                "The gateway is faulty: report this, and read the stored message instead."
            )

    def _apply(self, event: TurnEvent) -> None:
        if isinstance(event, TurnPart):
            self._answer.open_part(event)
            self.status = "running"
        elif isinstance(event, TurnStarted):
            self.conversation, self.model, self.input = event.conversation, event.model, event.input
            self.status, self._parent, self._epoch = event.status, event.parent, event.epoch
            self._settle(
                Accepted(turn=self.id, conversation=event.conversation, status=event.status, epoch=event.epoch)
            )
        elif isinstance(event, TurnStatus):
            if event.status in ("fallback", "continued"):
                self.model = event.model
            if event.epoch is not None:
                self._epoch = event.epoch
            if event.status != "trimmed":
                self.status = "running" if event.status == "resumed" else event.status

    def _fail(self, error: TurnwireError) -> None:
        """End it on this side only, for example because its start was refused or its events are gone."""
        self._end_here(TurnFailedEvent(user=self.user, turn=self.id, error=to_record(error), local=True), error)

    def _fail_late(self, error: TurnwireError) -> None:
        """Let awaiting raise an error, although the turn has ended already."""
        error.partial = self.message
        self.failure = error

    def _on_end(self, call: Callable[[], None]) -> None:
        """Call a function when the turn ends."""
        self._at_end.append(call)

    def _withdraw(self, reason: str | None) -> None:
        """End a turn that the gateway doesn't know: its start was never sent."""
        self._end_here(TurnCancelled(user=self.user, turn=self.id, reason=reason, local=True))

    def _end_here(self, event: Ending, failure: TurnwireError | None = None) -> None:
        if self.ending is None:
            self._events.push(event)
            self._end(event, failure)

    def _end(self, event: Ending, failure: TurnwireError | None = None) -> None:
        self.ending = event
        self.status = event.type.removeprefix("turn.")
        if isinstance(event, TurnFailedEvent):
            error = event.error
            self.failure = failure or TurnFailed(
                error.message,
                code=error.code,
                retryable=error.retryable,
                retry_after_ms=error.retry_after_ms,
                path=error.path,
                stored_message=error.stored_message,
            )
            self.failure.partial = self.message
        self._events.close()
        set_event(self._done)
        set_event(self._accepted_or_done)
        for call in self._at_end:
            call()
        self._at_end.clear()

    def _settle(self, accepted: Accepted) -> None:
        if self._accepted is None:
            self._accepted = accepted
            set_event(self._accepted_or_done)


class EventIterator:
    """The events of a turn, in order. After a `break`, a new loop continues with the next event."""

    def __init__(self, turn: Turn) -> None:
        self._turn = turn

    def __aiter__(self) -> EventIterator:
        return self

    async def __anext__(self) -> TurnEvent:
        return await self._turn._next()


class TextIterator:
    """The visible text of a turn, in pieces."""

    def __init__(self, turn: Turn) -> None:
        self._turn = turn
        self._hidden: set[int] = set()

    def __aiter__(self) -> TextIterator:
        return self

    async def __anext__(self) -> str:
        while True:
            try:
                event = await self._turn._next()
            except StopAsyncIteration:
                if self._turn.failure is not None:
                    raise self._turn.failure.with_traceback(None) from None
                raise
            text = self._visible(event)
            if text:
                return text

    def _visible(self, event: TurnEvent) -> str | None:
        if type(event) is TurnDelta:
            return None if event.part in self._hidden else event.text
        if isinstance(event, TurnReset):
            self._hidden.clear()
        elif isinstance(event, TurnPart):
            if event.kind == "text":
                return event.text
            self._hidden.add(event.part)
        return None
