"""Run an accepted turn: wait in its queue, ask its provider, and store its ending.

A turn can also be lost to another instance or handed over to one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import structlog
from msgspec import structs

from gateway.protocol.codec import JSON
from gateway.protocol.errors import ApiError
from gateway.protocol.ids import now_ms
from gateway.protocol.requests import TurnStart
from gateway.tasks import run_logged
from gateway.turns.abort import Abort, Aborted
from gateway.turns.context import without_history
from gateway.turns.continuation import AnswerContinuer, can_continue
from gateway.turns.continued_answer import check_answer, load_answer
from gateway.turns.endings import Endings
from gateway.turns.error_mapping import as_api_error
from gateway.turns.event_writer import EventWriter
from gateway.turns.instance import Instance
from gateway.turns.leases import Leases
from gateway.turns.live_turn import LiveTurn
from gateway.turns.log_writer import LogWriter
from gateway.turns.mirrors import Mirrors
from gateway.turns.outcome import Outcome
from gateway.turns.queue import TurnQueue
from gateway.turns.request_builder import RequestBuilder, check_request
from gateway.turns.turn_input import InputReader
from gateway.turns.turn_metrics import TurnMetrics
from providers.base import ErrorCode, Part, ProviderError, ResponseHandle
from providers.errors.tracebacks import drop_tracebacks
from providers.retry.retry import RetryingClient
from providers.route import Route
from store.errors import NotFound, StoreError
from store.records import ConversationRecord, MessageRecord, TurnRecord

log = structlog.stdlib.get_logger("turnwire.turn")

CLEANUP_TIMEOUT_S = 2.0
REFUSALS = frozenset[ErrorCode](
    {
        "invalid_request",
        "unsupported",
        "context_length_exceeded",
        "content_filtered",
        "model_not_found",
        "upstream_auth",
        "upstream_rate_limited",
        "upstream_overloaded",
    }
)
"""The error codes with which a provider says that it didn't process the request.

After any other code it may have processed the request, and bill it.
"""


@dataclass(slots=True)
class RunPlan:
    """The work that is left to do for a turn.

    `request` is None while a turn with a large request waits; the store has the request. `answer_parts` holds the parts
    of the answer that an earlier owner published, to be continued. `resumed`: the provider still has that answer,
    under the live turn's response handle, and continues it. `continuing`: the routes whose models are asked to continue it,
    in this order, if the provider doesn't. `first`: the input, if it is the first message of a new conversation and the
    turn doesn't wait.
    """

    request: TurnStart | None
    turn: TurnRecord
    route: Route
    conversation: ConversationRecord | None = None
    queue: TurnQueue = field(default_factory=TurnQueue)
    answer_parts: list[Part] = field(default_factory=list)
    resumed: bool = False
    continuing: list[Route] = field(default_factory=list)
    repeats: bool = False
    """Whether the answer that the request continues is to be repeated first."""
    first: MessageRecord | None = None


class TurnRunner:
    """The runner of accepted turns. Each turn runs in the task that calls `run`."""

    def __init__(
        self, instance: Instance, client: RetryingClient, writer: LogWriter, leases: Leases, mirrors: Mirrors
    ) -> None:
        self.is_draining = False
        self.on_completed: Callable[[LiveTurn], None] | None = None
        """What is called when an answer is complete and stored, if anything is."""
        self._instance = instance
        self._registry = instance.registry
        self._store = instance.store
        self._settings = instance.settings
        self._catalog = instance.catalog
        self._client = client
        self._writer = writer
        self._leases = leases
        self._mirrors = mirrors
        self._endings = Endings(instance.store, writer)
        self._input = InputReader(instance, writer)
        self._newest_epoch = 0
        self._running: set[asyncio.Task[None]] = set()

    @property
    def default_model(self) -> str:
        """The id of the model for turns that name none."""
        return self._settings.default_model or self._catalog.default_model

    def next_epoch(self) -> int:
        """Return a new epoch: the time in ms since 1970, but always more than the epoch returned before."""
        self._newest_epoch = max(self._newest_epoch + 1, now_ms())
        return self._newest_epoch

    def answering_routes(self, requested: Route, model: str) -> list[Route]:
        """Return the route of `model`, which began the answer, then the fallbacks that come after it.

        `model` is the requested model or one of its fallbacks. If it can't be resolved any more, `requested` comes first.
        """
        route = requested
        if model != requested.id:
            with suppress(ProviderError):
                route = self._catalog.resolve(model)
        return [route, *self._client.fallbacks_after(requested, route)]

    def spawn(self, work: Coroutine[Any, Any, None], live_turn: LiveTurn) -> None:
        """Run a turn's work in a task of the application; an exception in it is logged."""
        task = self._instance.tasks.create_task(
            run_logged(work, live_turn.user, live_turn.turn), name=f"turn {live_turn.turn}"
        )
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    def event_writer(self, live_turn: LiveTurn, parent: str | None, age_ms: int = 0) -> EventWriter:
        """Return a new event writer of the turn, and start the span of its trace.

        `parent` is the id of the message that the answer follows. `age_ms` is the time since the turn was accepted.
        """
        trace = None
        if self._instance.tracing is not None:
            trace = self._instance.tracing.start_turn(
                live_turn.user, live_turn.turn, live_turn.conversation, live_turn.model
            )
        metrics = TurnMetrics(self._instance.telemetry, trace)
        settings = self._settings
        return EventWriter(
            live_turn,
            settings.turn_output_bytes,
            settings.request_items,
            parent,
            metrics,
            self._writer.mark_unwritten,
            age_ms,
        )

    async def resolve(self, user: str, request: TurnStart) -> tuple[ConversationRecord | None, Route, str | None]:
        """Return the conversation of a request, the route to its model, and the message below which the turn stands.

        Check that the model can take the request. The conversation is None if it is still to be created, or if the turn is
        stateless. The message is None if the request doesn't name it. Raises `ApiError`, `NotFound`, `ProviderError` and
        `StoreError`.
        """
        conversation = None
        if request.conversation is not None:
            try:
                conversation = await self._store.conversation(user, request.conversation)
            except NotFound:
                if not request.create:
                    raise
        answer = await load_answer(self._store, user, request) if request.continue_ else None
        model = request.model or (answer and answer.model) or (conversation.model if conversation else None)
        route = self._catalog.resolve(model or self.default_model)
        await check_request(route, without_history(request, route.model, self._settings.system_prompt))
        if answer is None:
            return conversation, route, request.parent
        routes = self.answering_routes(route, route.id)
        check_answer(answer, request, routes, self._settings.turn_output_bytes)
        return conversation, route, answer.parent

    async def drain(self, timeout_s: float) -> None:
        """Start no more turns. Wait at most `timeout_s` for the running ones, then hand them over or fail them."""
        self.is_draining = True
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                for live_turn in self._registry.live():
                    if live_turn.is_owned:
                        await live_turn.ended.wait()
        last = Abort("handover") if self._store.shared else Abort("error", error=ApiError("shutting_down"))
        for live_turn in self._registry.live():
            if live_turn.is_owned:
                live_turn.signal.abort(last)
        with suppress(TimeoutError):
            async with asyncio.timeout(CLEANUP_TIMEOUT_S):
                await asyncio.gather(*self._running, return_exceptions=True)
        for task in self._running:
            task.cancel()

    async def run(self, live_turn: LiveTurn, event_writer: EventWriter, plan: RunPlan) -> None:
        """Run the turn to its ending, or until another instance has it."""
        outcome = await self._execute(live_turn, event_writer, plan)
        await self.finish(live_turn, event_writer, outcome)
        if outcome is not None and outcome.status != "completed" and live_turn.response_handle is not None:
            await self._stop_response(live_turn, live_turn.response_handle)

    async def _stop_response(self, live_turn: LiveTurn, handle: ResponseHandle) -> None:
        """Stop an answer that the provider makes in the background; closing the connection doesn't end it.

        A failure is logged.
        """
        try:
            await self._client.providers.stop(handle)
        except ProviderError as error:
            log.info("background answer can't be stopped at the provider", turn=live_turn.turn, code=error.code)

    async def finish(self, live_turn: LiveTurn, event_writer: EventWriter, outcome: Outcome | None) -> None:
        """Store and publish the ending of the turn. If `outcome` is None, the turn continues on another instance."""
        live_turn.stop(None if outcome is None else outcome.status)
        if outcome is not None and await self._endings.store(live_turn, event_writer, outcome):
            self._registry.mark_ended(live_turn)
            live_turn.end()
            if self.on_completed is not None and outcome.status == "completed":
                self.on_completed(live_turn)
            log.info(
                "turn ended", turn=live_turn.turn, status=outcome.status, model=live_turn.model, seq=live_turn.log.end
            )
            return
        event_writer.metrics.on_hand_over()
        live_turn.signal.cancel_timers()
        abort = live_turn.signal.abort_reason
        if abort is not None and abort.by == "handover":
            await self._hand_over(live_turn)
        elif abort is not None and abort.by != "lost" and abort.by != "error":
            await self._forward_cancel(live_turn, abort)
        log.info("turn left to another instance", turn=live_turn.turn, seq=live_turn.log.end)
        await self._mirrors.convert_to_mirror(live_turn)

    async def _hand_over(self, live_turn: LiveTurn) -> None:
        try:
            stored = -1
            while stored < live_turn.stored_seq < live_turn.log.end:
                stored = live_turn.stored_seq
                await self._writer.flush()
            await self._store.release(live_turn.user, live_turn.turn, live_turn.epoch)
        except StoreError as error:
            log.warning("turn can't be handed over before its lease expires", turn=live_turn.turn, error=str(error))

    async def _forward_cancel(self, live_turn: LiveTurn, abort: Abort) -> None:
        """Store a cancel request for a turn that another instance owns, so that the owner applies it (law 5)."""
        try:
            await self._store.request_cancel(live_turn.user, live_turn.turn, JSON.encode(abort))
        except StoreError as error:
            log.warning("cancel request can't be forwarded", turn=live_turn.turn, error=str(error))

    async def _execute(self, live_turn: LiveTurn, event_writer: EventWriter, plan: RunPlan) -> Outcome | None:
        """Ask the provider and publish its answer. Return the outcome, or None if the turn was lost or handed over."""
        limit = Abort("limit", f"The turn reached its time limit of {self._settings.turn_timeout_s:g} s.")
        deadline = event_writer.accepted_at + self._settings.turn_timeout_s
        live_turn.signal.abort_after(max(0, deadline - asyncio.get_running_loop().time()), limit)
        try:
            async with live_turn.signal.scope():
                await plan.queue.wait(event_writer)
                request = plan.request
                if request is None:
                    request = await self._input.load_request(live_turn)
                plan.request = None
                if plan.repeats:
                    await self._repeat_answer(live_turn, event_writer, plan, request)
                chat_request = await self._input.chat_request(
                    live_turn, plan.turn, plan.conversation, request, plan.route.model, plan.first
                )
                plan.first = None
                is_replayed = bool(plan.answer_parts or plan.resumed) and not plan.continuing
                if is_replayed:
                    chat_request = chat_request.continuing(plan.answer_parts, live_turn.response_handle)
                    chat_request = structs.replace(chat_request, is_continuation=plan.repeats)
                builder = RequestBuilder(
                    event_writer, self._leases, plan.route, chat_request, stateless=request.messages is not None
                )
                is_takeover = bool(plan.continuing) and not plan.repeats
                answering = self.answering_routes(plan.route, live_turn.model)[0] if is_takeover else None
                continuer = AnswerContinuer(
                    builder, event_writer, chat_request, answering, is_broken=not request.continue_ or is_takeover
                )
                if plan.continuing:
                    first, *others = plan.continuing
                    if not await self._client.continue_answer(first, others, continuer, deadline):
                        failure = continuer.failure if plan.repeats else None
                        error = ApiError("owner_lost") if failure is None else as_api_error(failure)
                        return Outcome("failed", error=error)
                else:
                    await self._stream_answer(event_writer, plan.route, builder, continuer, deadline, once=is_replayed)
            return event_writer.outcome_of_answer()
        except Aborted as aborted:
            drop_tracebacks(aborted)
            if aborted.abort.by in {"lost", "handover"}:
                return None
            return Outcome.from_abort(aborted.abort)
        except ProviderError as error:
            if event_writer.response_started:
                event_writer.metrics.on_failure(event_writer.route or plan.route, error)
            elif error.code in REFUSALS:
                event_writer.record_refusal()
            log.warning("provider failed", turn=live_turn.turn, code=error.code, detail=error.detail)
            return Outcome("failed", error=as_api_error(error))
        except Exception as error:
            return Outcome("failed", error=as_api_error(error, "turn failed"))

    async def _repeat_answer(
        self, live_turn: LiveTurn, event_writer: EventWriter, plan: RunPlan, request: TurnStart
    ) -> None:
        """Publish the answer that the request continues, and plan how it goes on. Raises `StoreError`."""
        answer = await self._input.answer(live_turn, request)
        parts = answer.parts
        if answer.model != plan.route.id:
            parts = [structs.replace(part, signature=None) for part in parts]  # a model rejects those of another one
        await event_writer.repeat(parts)
        if plan.route.dialect == "demo":
            plan.answer_parts = parts
            event_writer.publish_status(status="continued", model=plan.route.id)
        else:
            routes = self.answering_routes(plan.route, plan.route.id)
            plan.continuing = [route for route in routes if can_continue(route, "continue")]

    async def _stream_answer(
        self,
        event_writer: EventWriter,
        route: Route,
        builder: RequestBuilder,
        continuer: AnswerContinuer,
        deadline: float,
        *,
        once: bool,
    ) -> None:
        loop = asyncio.get_running_loop()
        slow = loop.call_later(self._settings.waiting_after_s, event_writer.publish_waiting)
        try:
            await self._client.answer(route, builder, deadline, once=once, continuer=continuer)
        finally:
            slow.cancel()
