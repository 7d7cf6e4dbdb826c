"""Accept turns, each in a task of its own that the application owns.

An accepted turn is run by `runner.py`, stopped by `cancellation.py`, and taken over by `takeover.py`.
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
    """The starter of turns. Each turn runs to its end in a task of the instance's `tasks`."""

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
        """Return the turn of this request, and whether it is new. A new turn runs once its `accepted` resolves.

        Never awaits, so that a cancel or attach that follows on the same socket finds the turn. Raises `ApiError`.
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
        live_turn = self.live_turn(user, turn, prepared.digest, self._runner.next_epoch(), request)
        self._registry.add(live_turn, request.conversation)
        self._runner.spawn(self._run(live_turn, request, prepared), live_turn)
        return live_turn, True

    def live_turn(self, user: str, turn: str, digest: bytes, epoch: int, request: TurnStart) -> LiveTurn:
        """Return a new live turn for this request, with its `on_disconnect` set up."""
        live_turn = LiveTurn(user, turn, digest, epoch)
        self._abandonment.cancel_on_disconnect(live_turn, request)
        return live_turn

    async def _run(self, live_turn: LiveTurn, request: TurnStart, prepared: Prepared) -> None:
        try:
            run = await self._begin(live_turn, request, prepared)
        except Exception as error:
            await self._refuse(live_turn, error)
            return
        del request, prepared  # while the turn waits, only the plan keeps its request in memory
        if run is not None:
            await self._runner.run(live_turn, *run)

    async def _begin(
        self, live_turn: LiveTurn, request: TurnStart, prepared: Prepared
    ) -> tuple[EventWriter, RunPlan] | None:
        """Accept the turn in the store and publish `turn.started`. Return its event writer and its plan.

        Return None if the id was used before: then no new turn runs.
        """
        began_ms = now_ms()
        async with self._in_order(live_turn.user, request.conversation):
            conversation, route = await self._runner.resolve(live_turn.user, request)
            accepted = await self._accept(live_turn, request, prepared, route.id)
        if accepted is None:
            return None
        turn = structs.replace(accepted.turn, request=None)  # the live turn outlives the run: keep no request
        queue = await find_queue(self._mirrors, live_turn.user, accepted.ahead, accepted.slots, self._limits.running)
        live_turn.model, live_turn.message = turn.model, turn.message
        live_turn.log.begin_epoch(turn.epoch)
        if turn.conversation is not None:
            self._registry.place(live_turn, turn.conversation)
        self._registry.attach_subscribers(live_turn)
        self._instance.telemetry.turns_started.labels(self._instance.telemetry.model_label(turn.model)).inc()
        event_writer = self._runner.event_writer(live_turn, began_ms, turn.parent)
        first = acceptance.started(turn, accepted.input, queued=queue.waits, parts=prepared.parts)
        event_writer.publish(first)
        live_turn.accepted.set_result(turn)
        plan = RunPlan(request, turn, route, conversation, queue)
        if queue.waits and len(prepared.content) > HELD_WHILE_QUEUED_BYTES:
            # The turn may wait for a long time, and the store has the request.
            plan.request = live_turn.acceptance = None
        return event_writer, plan

    @asynccontextmanager
    async def _in_order(self, user: str, conversation: str | None) -> AsyncIterator[None]:
        """Accept the starts of one conversation in the order in which they arrived."""
        if conversation is None:
            yield
            return
        line = self._locks.get((user, conversation))
        if line is None:
            line = self._locks[user, conversation] = asyncio.Lock()
        async with line:
            yield

    async def _accept(self, live_turn: LiveTurn, request: TurnStart, prepared: Prepared, model: str) -> Accepted | None:
        """Store the turn and return the store's answer, after interrupting the conversation if the request says so.

        Return None if the id was used before: then `accepted` resolves to that turn. Raises `ApiError`, `StoreError`.
        """
        lease_ms = self._instance.lease_ms
        interrupted = request.conversation if request.on_busy == "interrupt" else None
        if interrupted is not None and (known := await self._known(live_turn)):
            self._point_to(live_turn, known)
            return None
        while True:
            if interrupted is not None:
                await self._cancellation.interrupt(live_turn.user, interrupted)
            try:
                accepted = await acceptance.accept(
                    self._store, live_turn, request, prepared, model, self._instance.id, lease_ms, self._limits
                )
            except Busy:
                if interrupted is None:
                    raise ApiError("busy", path="conversation") from None
                continue  # another instance has accepted a turn in the meantime
            if accepted.fresh:
                return accepted
            self._point_to(live_turn, accepted.turn)
            return None

    async def _known(self, live_turn: LiveTurn) -> TurnRecord | None:
        """Return the turn that was accepted with this id before, or None (law 6).

        Raises `ApiError` "conflict" if it was accepted for another request, and `StoreError`.
        """
        try:
            record = await self._store.turn(live_turn.user, live_turn.turn)
        except NotFound:
            return None
        if record.digest != live_turn.digest:
            raise acceptance.conflict(live_turn.turn)
        return record

    def _point_to(self, live_turn: LiveTurn, record: TurnRecord) -> None:
        """Resolve `accepted` to `record`, because this start began no turn.

        The turn that has the id runs elsewhere, or has ended.
        """
        self._registry.remove(live_turn)
        live_turn.state = "failed"
        live_turn.accepted.set_result(record)
        live_turn.end()
        if record.owner == self._instance.id and record.ending is None:
            self._see_through(live_turn)

    def _see_through(self, live_turn: LiveTurn) -> None:
        """Take the turn over later if the store has it as this instance's but no task runs it.

        This happens if the store accepted the turn without answering the call.
        """
        user, turn, lease_s = live_turn.user, live_turn.turn, self._instance.settings.lease_s
        take = partial(self._takeover.take_over, user, turn, force=True)
        spawn(
            self._instance.tasks,
            recover_unconfirmed_start(self._store, user, turn, self._instance.id, lease_s, take),
        )

    async def _refuse(self, live_turn: LiveTurn, error: Exception) -> None:
        """Reject the start with `error`, unless its id was accepted before.

        Then the start resolves to that turn, whatever is wrong with the request now.
        """
        asks = not isinstance(error, StoreError) or isinstance(error, NotFound)
        try:
            known = await self._known(live_turn) if asks else None
        except (ApiError, StoreError) as worse:
            self._reject(live_turn, worse)
            return
        if known is None:
            self._reject(live_turn, error)
        else:
            self._point_to(live_turn, known)

    def _reject(self, live_turn: LiveTurn, error: Exception) -> None:
        """Fail the start, because no turn began: `accepted` raises the error, and the id is free again."""
        failure = as_api_error(error)
        if failure.code == "store_unavailable":
            self._see_through(live_turn)
        self._registry.remove(live_turn)
        live_turn.state = "failed"
        live_turn.accepted.set_exception(failure)
        live_turn.accepted.exception()  # mark it as retrieved, even if its connection has gone
        live_turn.end()
