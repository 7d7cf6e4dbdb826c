"""One task per turn, owned by the application: accepts turns, and drains them at the end.

What a turn does once it is accepted is in `course.py`, who stops one in `cancellation.py`, who takes one over in
`takeover.py`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import Any
from weakref import WeakValueDictionary

import structlog
from msgspec import structs

from gateway.limits.limits import turn_limits
from gateway.limits.memory import Memory
from gateway.protocol.errors import ApiError
from gateway.protocol.ids import new_id, now_ms
from gateway.protocol.requests import TurnStart
from gateway.settings import Settings
from gateway.tasks import contained, spawn
from gateway.telemetry.metrics import Telemetry
from gateway.telemetry.tracing import Tracing
from gateway.turns import acceptance
from gateway.turns.abort import Abort
from gateway.turns.acceptance import Prepared
from gateway.turns.cancellation import Cancellation
from gateway.turns.context import stated
from gateway.turns.error_mapping import as_api_error
from gateway.turns.event_writer import EventWriter
from gateway.turns.live_turn import LiveTurn
from gateway.turns.log_writer import LogWriter
from gateway.turns.mirrors import Mirrors
from gateway.turns.queue import find_queue
from gateway.turns.registry import TurnRegistry
from gateway.turns.request_builder import check
from gateway.turns.runner import RunPlan, TurnRunner
from gateway.turns.turn_metrics import TurnMetrics
from gateway.turns.unconfirmed import recover_unconfirmed_start
from providers.catalog.catalog import Catalog
from providers.route import Route
from store.api import Store
from store.records import Accepted, Busy, ConversationRecord, NotFound, StoreError, TurnRecord

log = structlog.stdlib.get_logger("turnwire.turn")

CLEANUP_TIMEOUT_S = 2.0
HELD_WHILE_QUEUED_BYTES = 64 * 1024


class TurnStarter:
    """Starts turns and sees them through, in `tasks`."""

    def __init__(
        self,
        *,
        instance: str,
        registry: TurnRegistry,
        store: Store,
        catalog: Catalog,
        settings: Settings,
        writer: LogWriter,
        mirrors: Mirrors,
        runner: TurnRunner,
        cancellation: Cancellation,
        memory: Memory,
        telemetry: Telemetry,
        tracing: Tracing | None,
        tasks: asyncio.TaskGroup,
    ) -> None:
        self._instance = instance
        self._registry = registry
        self._store = store
        self._catalog = catalog
        self._settings = settings
        self.turn_limits = turn_limits(settings)
        self._writer = writer
        self._mirrors = mirrors
        self._runner = runner
        self._cancellation = cancellation
        self._memory = memory
        self._telemetry = telemetry
        self._tracing = tracing
        self._tasks = tasks
        self._newest_epoch = 0
        self._lines: WeakValueDictionary[tuple[str, str], asyncio.Lock] = WeakValueDictionary()
        self._running: set[asyncio.Task[None]] = set()
        self.draining = False

    @property
    def default_model(self) -> str:
        """The model of a turn that names none."""
        return self._settings.default_model or self._catalog.default_model

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
        if self.draining:
            raise ApiError("shutting_down")
        self._memory.check()
        stream = self.stream(user, turn, prepared.digest, self.next_epoch(), request)
        self._registry.add(stream, request.conversation)
        self.own(self._run(stream, request, prepared), stream)
        return stream, True

    def stream(self, user: str, turn: str, digest: bytes, epoch: int, request: TurnStart) -> LiveTurn:
        """A new stream for this request."""
        stream = LiveTurn(user, turn, digest, epoch)
        self.watch_over(stream, request)
        return stream

    def watch_over(self, stream: LiveTurn, request: TurnStart) -> None:
        """With `on_disconnect: cancel`, stop the turn when nobody is attached any more (law 8)."""
        if request.on_disconnect == "cancel":
            stream.watch(self._settings.disconnect_grace_s, self._cancellation.on_abandoned)

    def next_epoch(self) -> int:
        """The clock in ms, and never twice the same."""
        self._newest_epoch = max(self._newest_epoch + 1, now_ms())
        return self._newest_epoch

    def own(self, work: Coroutine[Any, Any, None], stream: LiveTurn) -> None:
        """Run a turn's work in the application's task group; what fails in it stays in it."""
        task = self._tasks.create_task(contained(work, stream.user, stream.turn), name=f"turn {stream.turn}")
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    def delivery(self, stream: LiveTurn, began_ms: int, parent: str | None) -> EventWriter:
        """What stamps and publishes the turn's events, and notes them for the log."""
        limit = self._settings.turn_output_bytes
        trace = None
        if self._tracing is not None:
            trace = self._tracing.turn(stream.user, stream.turn, stream.conversation, stream.model)
        watch = TurnMetrics(self._telemetry, trace)
        return EventWriter(
            stream, limit, began_ms, parent, watch, lambda new, first: self._writer.note(new, urgent=first)
        )

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
            conversation, route = await self.place(stream.user, request)
            accepted = await self._accept(stream, request, prepared, route.id)
        if accepted is None:
            return None
        turn = structs.replace(accepted.turn, request=None)  # the stream outlives the turn
        queue = await find_queue(self._mirrors, stream.user, accepted.ahead, accepted.slots, self.turn_limits.running)
        stream.model, stream.message = turn.model, turn.message
        stream.log.begin_epoch(turn.epoch)
        if turn.conversation is not None:
            self._registry.place(stream, turn.conversation)
        self._registry.attach_watchers(stream)
        self._telemetry.started.labels(self._telemetry.model(turn.model)).inc()
        delivery = self.delivery(stream, began_ms, turn.parent)
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
        line = self._lines.get((user, conversation))
        if line is None:
            line = self._lines[user, conversation] = asyncio.Lock()
        async with line:
            yield

    async def _accept(self, stream: LiveTurn, request: TurnStart, prepared: Prepared, model: str) -> Accepted | None:
        """The store's acceptance; None where the id was used before, and the stream points to that turn."""
        lease_ms = int(self._settings.lease_s * 1000)
        interrupted = request.conversation if request.on_busy == "interrupt" else None
        if interrupted is not None and (known := await self._known(stream)):
            self._point_to(stream, known)
            return None
        while True:
            if interrupted is not None:
                await self._cancellation.interrupt(stream.user, interrupted)
            try:
                accepted = await acceptance.accept(
                    self._store, stream, request, prepared, model, self._instance, lease_ms, self.turn_limits
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
        if record.owner == self._instance and record.ending is None:
            self._see_through(stream)

    def _see_through(self, stream: LiveTurn) -> None:
        """The store may have the turn as ours, though nobody runs it: it didn't answer its start."""
        user, turn, lease_s = stream.user, stream.turn, self._settings.lease_s
        take = partial(self._cancellation.take_over, user, turn, force=True)
        spawn(self._tasks, recover_unconfirmed_start(self._store, user, turn, self._instance, lease_s, take))

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

    async def place(self, user: str, request: TurnStart) -> tuple[ConversationRecord | None, Route]:
        """The request's conversation and the route to its model. Raises `NotFound`, `ProviderError`, `StoreError`."""
        conversation = None
        if request.conversation is not None:
            conversation = await self._store.conversation(user, request.conversation)
        model = request.model or (conversation.model if conversation else None) or self.default_model
        route = self._catalog.resolve(model)
        await check(route, stated(request, route.model))
        return conversation, route

    def route(self, model: str) -> Route:
        """The route of this id. Raises `ProviderError`."""
        return self._catalog.resolve(model)

    async def drain(self, timeout_s: float) -> None:
        """Take no new turns, let the running ones end for `timeout_s`, then hand them over, or stop them."""
        self.draining = True
        await self._all_ended(timeout_s)
        last = Abort("handover") if self._store.shared else Abort("error", error=ApiError("shutting_down"))
        for stream in self._registry.live():
            if stream.owned:
                stream.signal.abort(last)
        with suppress(TimeoutError):
            async with asyncio.timeout(CLEANUP_TIMEOUT_S):
                await asyncio.gather(*self._running, return_exceptions=True)
        for task in self._running:
            task.cancel()

    async def _all_ended(self, timeout_s: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                for stream in self._registry.live():
                    if stream.owned:
                        await stream.ended.wait()
