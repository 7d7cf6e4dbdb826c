"""Accept turns, each in a task of its own that the application owns.

An accepted turn is run by `runner.py`, stopped by `cancellation.py`, and taken over by `takeover.py`.
"""

from __future__ import annotations

import asyncio
from contextlib import AbstractAsyncContextManager, nullcontext
from weakref import WeakValueDictionary

import structlog
from msgspec import structs

from gateway.limits.limits import turn_limits
from gateway.limits.memory import Memory
from gateway.protocol.errors import ApiError
from gateway.protocol.ids import new_id
from gateway.protocol.requests import TurnStart
from gateway.tasks import spawn
from gateway.telemetry.dialect import current_dialect
from gateway.turns import acceptance
from gateway.turns.abandonment import Abandonment
from gateway.turns.cancellation import Cancellation
from gateway.turns.error_mapping import as_api_error
from gateway.turns.event_writer import EventWriter
from gateway.turns.instance import Instance
from gateway.turns.live_turn import LiveTurn
from gateway.turns.mirrors import Mirrors
from gateway.turns.prepared_start import Prepared
from gateway.turns.queue import find_queue
from gateway.turns.runner import RunPlan, TurnRunner
from gateway.turns.takeover import Takeover
from store.errors import Busy, Conflict, NotFound, StoreError
from store.records import Accepted, TurnRecord

log = structlog.stdlib.get_logger("turnwire.turn")

QUEUED_REQUEST_BYTES_MAX = 64 * 1024
"""A larger request isn't kept in memory while its turn waits in a queue; it is read from the store again."""
FIRST_CHECK_S = 0.25
"""The wait before the store is asked whether it accepted a turn without replying. It doubles before each next try."""


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

    def start(
        self, user: str, request: TurnStart, prepared: Prepared, retention_days: int | None = None
    ) -> tuple[LiveTurn, bool]:
        """Return the turn of this request, and whether it is new.

        The result of a new turn's `accepted` is its record, once the store has accepted it, or the record of an earlier
        turn with the same id. If the start is refused, `accepted` raises the error.
        `retention_days` becomes that of the conversation.
        Never awaits, so that a cancel or attach that follows on the same socket finds the turn. Raises `ApiError` and
        `Conflict`.
        """
        turn = request.turn or new_id("t")
        existing = self._registry.get(user, turn)
        if existing is not None:
            if existing.digest != prepared.digest:
                raise Conflict
            return existing, False
        if self._runner.is_draining:
            raise ApiError("shutting_down")
        self._memory.check()
        live_turn = LiveTurn(user, turn, prepared.digest, self._runner.next_epoch(), request.conversation)
        self._abandonment.cancel_on_disconnect(live_turn, request)
        self._registry.add(live_turn)
        self._runner.spawn(self._run(live_turn, request, prepared, retention_days), live_turn)
        return live_turn, True

    async def _run(
        self, live_turn: LiveTurn, request: TurnStart, prepared: Prepared, retention_days: int | None
    ) -> None:
        try:
            started = await self._begin(live_turn, request, prepared, retention_days)
        except Exception as error:
            await self._reject_unless_accepted(live_turn, error)
            return
        del request, prepared  # while the turn waits, only the plan keeps its request in memory
        if started is not None:
            await self._runner.run(live_turn, *started)

    async def _begin(
        self, live_turn: LiveTurn, request: TurnStart, prepared: Prepared, retention_days: int | None
    ) -> tuple[EventWriter, RunPlan] | None:
        """Accept the turn in the store and publish `turn.started`. Return its event writer and its plan.

        Return None if the id was used before: then no new turn runs.
        """
        async with self._conversation_lock(live_turn.user, request.conversation):
            conversation, route, parent = await self._runner.resolve(live_turn.user, request)
            accepted = await self._accept(live_turn, request, prepared, route.id, parent, retention_days)
        if accepted is None:
            return None
        turn = structs.replace(accepted.turn, request=None)  # the live turn outlives the run: keep no request
        queue = await find_queue(
            self._mirrors, live_turn.user, accepted.ahead, accepted.running_groups, self._limits.running
        )
        live_turn.set_accepted(turn)
        self._registry.index_conversation(live_turn)
        self._registry.attach_subscribers(live_turn)
        telemetry = self._instance.telemetry
        telemetry.turns_started.labels(telemetry.model_label(turn.model), current_dialect()).inc()
        event_writer = self._runner.event_writer(live_turn, turn.parent)
        first = acceptance.started(turn, accepted.input, queued=queue.must_wait, body=prepared.message)
        event_writer.publish(first)
        live_turn.accepted.set_result(turn)
        plan = RunPlan(request, turn, route, conversation, queue, repeats=request.continue_)
        is_first = conversation is None and accepted.input is not None and accepted.input.parent is None
        if is_first and not queue.must_wait:
            plan.first = accepted.input  # of a new conversation: there is no history to read
        if queue.must_wait and len(prepared.content) > QUEUED_REQUEST_BYTES_MAX:
            plan.request = None
            live_turn.set_acceptance(None, live_turn.conversation_record)
        return event_writer, plan

    def _conversation_lock(self, user: str, conversation: str | None) -> AbstractAsyncContextManager[None]:
        """Return the lock that keeps the starts of one conversation in the order in which they arrived."""
        if conversation is None:
            return nullcontext()
        return self._locks.setdefault((user, conversation), asyncio.Lock())

    async def _accept(
        self,
        live_turn: LiveTurn,
        request: TurnStart,
        prepared: Prepared,
        model: str,
        parent: str | None,
        retention_days: int | None,
    ) -> Accepted | None:
        """Store the turn and return the store's answer, after interrupting the conversation if the request says so.

        Return None if the id was used before: then `accepted` resolves to that turn. Raises `StoreError`.
        """
        lease_ms = self._instance.lease_ms
        interrupted = request.conversation if request.on_busy == "interrupt" else None
        if interrupted is not None and (record := await self._find_accepted(live_turn)):
            self._resolve_to(live_turn, record)
            return None
        while True:
            if interrupted is not None:
                await self._cancellation.interrupt(live_turn.user, interrupted, live_turn.turn)
            try:
                accepted = await acceptance.accept(
                    self._store,
                    live_turn,
                    request,
                    prepared,
                    model,
                    parent,
                    self._instance.id,
                    lease_ms,
                    self._limits,
                    retention_days,
                )
            except Busy:
                if interrupted is None:
                    raise
                continue  # another instance has accepted a turn in the meantime
            if accepted.is_new:
                return accepted
            self._resolve_to(live_turn, accepted.turn)
            return None

    async def _find_accepted(self, live_turn: LiveTurn) -> TurnRecord | None:
        """Return the turn that was accepted with this id before, or None (law 6).

        Raises `Conflict` if it was accepted for another request, and `StoreError`.
        """
        try:
            record = await self._store.turn(live_turn.user, live_turn.turn)
        except NotFound:
            return None
        if record.digest != live_turn.digest:
            raise Conflict
        return record

    def _resolve_to(self, live_turn: LiveTurn, record: TurnRecord) -> None:
        """Resolve `accepted` to `record`, because this start began no turn.

        The turn that has the id runs elsewhere, has ended, or was accepted here without a reply. In the last case,
        recover it soon.
        """
        self._registry.remove(live_turn)
        live_turn.reject(record)
        if record.owner == self._instance.id and record.ending is None:
            self._recover_soon(live_turn)

    async def _reject_unless_accepted(self, live_turn: LiveTurn, error: Exception) -> None:
        """Reject the start with `error`, unless its id was accepted before.

        If the id was accepted, the start resolves to that turn, whatever is wrong with the request now.
        """
        record = None
        if not isinstance(error, StoreError) or isinstance(error, NotFound):
            try:
                record = await self._find_accepted(live_turn)
            except StoreError as store_error:
                error = store_error
        if record is not None:
            self._resolve_to(live_turn, record)
            return
        failure = as_api_error(error)
        if failure.code == "store_unavailable":
            self._recover_soon(live_turn)
        self._registry.remove(live_turn)
        live_turn.reject(failure)

    def _recover_soon(self, live_turn: LiveTurn) -> None:
        spawn(self._instance.tasks, self._recover_unconfirmed(live_turn.user, live_turn.turn))

    async def _recover_unconfirmed(self, user: str, turn: str) -> None:
        """Ask the store for the turn. Run it if the turn has no ending and this instance is its owner.

        The store may have accepted a start without answering the call; then no task runs the turn. Ask until the store
        answers, but no longer than the time of a lease: after that, the reaper finds the expired lease.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._instance.settings.lease_s
        delay_s = FIRST_CHECK_S
        while loop.time() < deadline:
            await asyncio.sleep(delay_s)
            delay_s *= 2
            try:
                record = await self._store.turn(user, turn)
                if record.owner == self._instance.id and record.ending is None:
                    log.warning("running a turn that was accepted without a reply", turn=turn)
                    await self._takeover.take_over(user, turn, force=True)
                return
            except NotFound:
                return
            except StoreError as error:
                log.info("unconfirmed start can't be checked", turn=turn, error=str(error))
