"""One task per turn, owned by the application: accepts turns, and drains them at the end.

What a turn does once it is accepted is in `course.py`, who stops one in `cancellation.py`, who takes one over in
`takeover.py`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from weakref import WeakValueDictionary

import structlog
from msgspec import structs

from gateway.limits.limits import turn_limits
from gateway.limits.memory import Memory
from gateway.protocol.errors import ApiError
from gateway.protocol.ids import new_id, now_ms
from gateway.protocol.requests import TurnStart
from gateway.tasks import spawn
from gateway.turns import acceptance
from gateway.turns.abandonment import Abandonment
from gateway.turns.acceptance import Prepared
from gateway.turns.cancellation import Cancellation
from gateway.turns.error_mapping import as_api_error
from gateway.turns.event_writer import EventWriter
from gateway.turns.instance import Instance
from gateway.turns.live_turn import LiveTurn
from gateway.turns.mirrors import Mirrors
from gateway.turns.queue import find_queue
from gateway.turns.runner import RunPlan, TurnRunner
from gateway.turns.takeover import Takeover
from gateway.turns.unconfirmed import recover_unconfirmed_start
from store.records import Accepted, Busy, NotFound, StoreError, TurnRecord

log = structlog.stdlib.get_logger("turnwire.turn")

HELD_WHILE_QUEUED_BYTES = 64 * 1024


class TurnStarter:
    """Starts turns and sees them through, in `tasks`."""

    def __init__(
        self,
        instance: Instance,
        runner: TurnRunner,
        mirrors: Mirrors,
        cancellation: Cancellation,
        takeover: Takeover,
        abandonment: Abandonment,
        memory: Memory,
    ) -> None:
        self._instance = instance
        self._registry = instance.registry
        self._store = instance.store
        self._runner = runner
        self._mirrors = mirrors
        self._cancellation = cancellation
        self._takeover = takeover
        self._abandonment = abandonment
        self._memory = memory
        self._limits = turn_limits(instance.settings)
        self._locks: WeakValueDictionary[tuple[str, str], asyncio.Lock] = WeakValueDictionary()

    def start(self, user: str, request: TurnStart, prepared: Prepared) -> tuple[LiveTurn, bool]:
        """The turn of this request, and whether it is new; a new one runs when its `accepted` resolves.

        Never awaits, so that a cancel or attach behind it on the same socket finds the turn. Raises `ApiError`.
        """
        turn = request.turn or new_id("t")
        known = self._registry.get(user, turn)
        if known is not None:
            if known.digest != prepared.digest:
                raise acceptance.conflict(turn)
            return known, False
        if self._runner.draining:
            raise ApiError("shutting_down")
        self._memory.check()
        stream = self.stream(user, turn, prepared.digest, self._runner.next_epoch(), request)
        self._registry.add(stream, request.conversation)
        self._runner.spawn(self._run(stream, request, prepared), stream)
        return stream, True

    def stream(self, user: str, turn: str, digest: bytes, epoch: int, request: TurnStart) -> LiveTurn:
        """A new stream for this request."""
        stream = LiveTurn(user, turn, digest, epoch)
        self._abandonment.watch(stream, request)
        return stream

    async def _run(self, stream: LiveTurn, request: TurnStart, prepared: Prepared) -> None:
        try:
            begun = await self._begin(stream, request, prepared)
        except Exception as error:
            await self._refuse(stream, error)
            return
        del request, prepared  # a turn that waits holds what the plan holds
        if begun is not None:
            await self._runner.run(stream, *begun)

    async def _begin(
        self, stream: LiveTurn, request: TurnStart, prepared: Prepared
    ) -> tuple[EventWriter, RunPlan] | None:
        """Accept the turn in the store and publish `turn.started`. None where its id was used before: nothing new runs then."""
        began_ms = now_ms()
        async with self._in_order(stream.user, request.conversation):
            conversation, route = await self._runner.place(stream.user, request)
            accepted = await self._accept(stream, request, prepared, route.id)
        if accepted is None:
            return None
        turn = structs.replace(accepted.turn, request=None)  # the stream outlives the turn
        queue = await find_queue(self._mirrors, stream.user, accepted.ahead, accepted.slots, self._limits.running)
        stream.model, stream.message = turn.model, turn.message
        stream.log.begin_epoch(turn.epoch)
        if turn.conversation is not None:
            self._registry.place(stream, turn.conversation)
        self._registry.attach_watchers(stream)
        self._instance.telemetry.started.labels(self._instance.telemetry.model(turn.model)).inc()
        delivery = self._runner.event_writer(stream, began_ms, turn.parent)
        first = acceptance.started(turn, accepted.input, queued=queue.waits, parts=prepared.parts)
        delivery.publish(first)
        stream.accepted.set_result(turn)
        plan = RunPlan(request, turn, route, conversation, queue)
        if queue.waits and len(prepared.content) > HELD_WHILE_QUEUED_BYTES:
            # It may wait for long, and the store has it.
            plan.request = stream.accepted_as = None
        return delivery, plan

    @asynccontextmanager
    async def _in_order(self, user: str, conversation: str | None) -> AsyncIterator[None]:
        """Starts of one conversation are accepted in the order in which they came."""
        if conversation is None:
            yield
            return
        line = self._locks.get((user, conversation))
        if line is None:
            line = self._locks[user, conversation] = asyncio.Lock()
        async with line:
            yield

    async def _accept(self, stream: LiveTurn, request: TurnStart, prepared: Prepared, model: str) -> Accepted | None:
        """The store's acceptance; None where the id was used before, and the stream points to that turn."""
        lease_ms = self._instance.lease_ms
        interrupted = request.conversation if request.on_busy == "interrupt" else None
        if interrupted is not None and (known := await self._known(stream)):
            self._point_to(stream, known)
            return None
        while True:
            if interrupted is not None:
                await self._cancellation.interrupt(stream.user, interrupted)
            try:
                accepted = await acceptance.accept(
                    self._store, stream, request, prepared, model, self._instance.id, lease_ms, self._limits
                )
            except Busy:
                if interrupted is None:
                    raise ApiError("busy", path="conversation") from None
                continue  # another instance has accepted a turn meanwhile
            if accepted.fresh:
                return accepted
            self._point_to(stream, accepted.turn)
            return None

    async def _known(self, stream: LiveTurn) -> TurnRecord | None:
        """The turn that this id was accepted for, if it was (law 6). Raises `ApiError` "conflict"."""
        try:
            record = await self._store.turn(stream.user, stream.turn)
        except NotFound:
            return None
        if record.digest != stream.digest:
            raise acceptance.conflict(stream.turn)
        return record

    def _point_to(self, stream: LiveTurn, record: TurnRecord) -> None:
        """This start began nothing: the turn runs elsewhere, or is over."""
        self._registry.discard(stream)
        stream.state = "failed"
        stream.accepted.set_result(record)
        stream.end()
        if record.owner == self._instance.id and record.ending is None:
            self._see_through(stream)

    def _see_through(self, stream: LiveTurn) -> None:
        """The store may have the turn as ours, though nobody runs it: it didn't answer its start."""
        user, turn, lease_s = stream.user, stream.turn, self._instance.settings.lease_s
        take = partial(self._takeover.take_over, user, turn, force=True)
        spawn(
            self._instance.tasks,
            recover_unconfirmed_start(self._store, user, turn, self._instance.id, lease_s, take),
        )

    async def _refuse(self, stream: LiveTurn, error: Exception) -> None:
        """Whatever is wrong with the request now, an id that was accepted answers so."""
        asks = not isinstance(error, StoreError) or isinstance(error, NotFound)
        try:
            known = await self._known(stream) if asks else None
        except (ApiError, StoreError) as worse:
            self._reject(stream, worse)
            return
        if known is None:
            self._reject(stream, error)
        else:
            self._point_to(stream, known)

    def _reject(self, stream: LiveTurn, error: Exception) -> None:
        """The turn never was: whoever asked gets the error, and the id is free again."""
        failure = as_api_error(error)
        if failure.code == "store_unavailable":
            self._see_through(stream)
        self._registry.discard(stream)
        stream.state = "failed"
        stream.accepted.set_exception(failure)
        stream.accepted.exception()  # it counts as seen even if its connection has gone
        stream.end()
