"""One task per turn, owned by the application: accept, ask the provider, publish, end. Cancel and drain.

A provider's batch becomes numbered events and goes to the hub in one synchronous step; an ending goes the other
way round, stored first and then published (law 3). Whatever stops a turn fires its `AbortSignal`.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import aclosing, suppress
from typing import Any

from gateway import acceptance
from gateway.abort import Abort, Aborted
from gateway.context import chat_request, stated
from gateway.delivery import Delivery
from gateway.ending import store_ending
from gateway.errors import ApiError
from gateway.hub import Hub, TurnStream
from gateway.ids import new_id, now_ms
from gateway.outcome import Outcome
from gateway.protocol import TurnStart
from gateway.settings import Settings
from providers.base import ChatRequest, ProviderError
from providers.catalog import Catalog, Providers
from providers.route import Route
from store.base import Accepted, ConversationRecord, NotFound, Store, StoreError

log = logging.getLogger("turnwire.turn")

CLEANUP_TIMEOUT_S = 2.0


class Runner:
    """Starts turns and sees them through, in `tasks`."""

    def __init__(
        self,
        *,
        hub: Hub,
        store: Store,
        catalog: Catalog,
        providers: Providers,
        settings: Settings,
        tasks: asyncio.TaskGroup,
    ) -> None:
        self._hub = hub
        self._store = store
        self._catalog = catalog
        self._providers = providers
        self._settings = settings
        self._tasks = tasks
        self._newest_epoch = 0
        self._running: set[asyncio.Task[None]] = set()
        self.draining = False

    @property
    def default_model(self) -> str:
        """The model of a turn that names none."""
        return self._settings.default_model or self._catalog.default_model

    def start(self, user: str, request: TurnStart) -> tuple[TurnStream, bool]:
        """The turn of this request, and whether it is new; a new one runs when its `accepted` resolves.

        Never awaits, so that a cancel or attach behind it on the same socket finds the turn. Raises `ApiError`.
        """
        acceptance.check_start(request, self._settings.input_bytes)
        content, digest = acceptance.content_of(request)
        turn = request.turn or new_id("t")
        known = self._hub.get(user, turn)
        if known is not None:
            if known.digest != digest:
                raise acceptance.conflict(turn)
            return known, False
        if self.draining:
            raise ApiError("shutting_down")
        others = self._hub.live_in(user, request.conversation) if request.conversation else []
        if others and request.on_busy == "reject":
            raise ApiError("busy", path="conversation")
        self._newest_epoch = max(self._newest_epoch + 1, now_ms())
        grace_s = self._settings.disconnect_grace_s if request.on_disconnect == "cancel" else None
        stream = TurnStream(user, turn, digest, self._newest_epoch, grace_s)
        self._hub.add(stream, request.conversation)
        task = self._tasks.create_task(self._run(stream, request, content, others), name=f"turn {turn}")
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        return stream, True

    async def _run(self, stream: TurnStream, request: TurnStart, content: bytes, others: list[TurnStream]) -> None:
        try:
            began_ms = now_ms()
            conversation, route = await self._place(stream.user, request)
            ahead = await self._make_room(request, others)
            behind = ahead[-1] if ahead else None
            accepted = await acceptance.accept(self._store, stream, request, content, route.id, behind)
        except Exception as error:
            self._reject(stream, error)
            return
        if not accepted.fresh:
            self._hub.discard(stream)
            stream.state = "failed"  # here it never begins; the store has what became of it
            stream.accepted.set_result(accepted.turn)
            stream.end()
            return
        delivery = self._open(stream, accepted, began_ms, queued=bool(ahead))
        outcome = await self._drive(stream, delivery, request, accepted, conversation, route, ahead)
        stream.outcome = outcome.status
        stream.stopped.set()
        await store_ending(self._store, self._hub, stream, delivery, outcome)
        self._hub.remember_ended(stream)
        stream.end()
        log.info(
            "turn ended turn=%s status=%s model=%s seq=%d", stream.turn, outcome.status, stream.model, stream.log.end
        )

    def _reject(self, stream: TurnStream, error: Exception) -> None:
        """The turn never was: whoever asked gets the error, and the id is free again."""
        if isinstance(error, ProviderError):
            failure = ApiError.from_provider(error)
        elif isinstance(error, ApiError):
            failure = error
        elif isinstance(error, NotFound):
            failure = ApiError("not_found", f"There is no such {error.what}. Check the id.", path=error.what)
        elif isinstance(error, StoreError):
            log.warning("store failed at a start: %s", error)
            failure = ApiError("store_unavailable")
        else:
            log.error("a start failed", exc_info=error)
            failure = ApiError("internal")
        self._hub.discard(stream)
        stream.state = "failed"
        stream.accepted.set_exception(failure)
        stream.accepted.exception()  # it counts as seen even if its connection has gone
        stream.end()

    async def _make_room(self, request: TurnStart, others: list[TurnStream]) -> list[TurnStream]:
        """Obey `on_busy`; the accepted turns to wait for, oldest first."""
        if request.on_busy == "interrupt":
            for other in others:
                other.signal.abort(Abort("client", "Another turn took its place."))
            for other in others:
                await other.ended.wait()
        if request.on_busy != "queue":
            return []
        await asyncio.gather(*(other.accepted for other in others), return_exceptions=True)
        return [other for other in others if other.live and other.message]

    async def _place(self, user: str, request: TurnStart) -> tuple[ConversationRecord | None, Route]:
        conversation = None
        if request.conversation is not None:
            conversation = await self._store.conversation(user, request.conversation)
        model = request.model or (conversation.model if conversation else None) or self.default_model
        route = self._catalog.resolve(model)
        route.check(stated(request, route.model))
        return conversation, route

    def _open(self, stream: TurnStream, accepted: Accepted, began_ms: int, *, queued: bool) -> Delivery:
        """Publish `turn.started` and tell who waits for it."""
        turn = accepted.turn
        stream.model = turn.model
        stream.message = turn.message
        if turn.conversation is not None:
            self._hub.place(stream, turn.conversation)
        self._hub.attach_watchers(stream)
        stream.publish([acceptance.started(stream, accepted, queued=queued)])
        stream.accepted.set_result(turn)
        return Delivery(stream, self._settings.turn_output_bytes, began_ms, turn.parent)

    async def _drive(
        self,
        stream: TurnStream,
        delivery: Delivery,
        request: TurnStart,
        accepted: Accepted,
        conversation: ConversationRecord | None,
        route: Route,
        ahead: list[TurnStream],
    ) -> Outcome:
        """Ask the provider and publish what it says, until it ends in one of the ways of `Outcome`."""
        limit = Abort("limit", f"The turn reached its time limit of {self._settings.turn_timeout_s:g} s.")
        stream.signal.abort_after(self._settings.turn_timeout_s, limit)
        try:
            async with stream.signal.scope():
                await self._wait_for(stream, ahead, delivery)
                question = await chat_request(
                    self._store, stream.user, accepted.turn, conversation, request, route.model
                )
                delivery.asked(question)
                await self._ask(stream, delivery, route, question)
            return delivery.finished()
        except Aborted as aborted:
            return Outcome.from_abort(aborted.abort)
        except ProviderError as error:
            log.warning("provider failed turn=%s code=%s detail=%s", stream.turn, error.code, error.detail)
            return Outcome("failed", error=ApiError.from_provider(error))
        except ApiError as error:
            return Outcome("failed", error=error)
        except StoreError as error:
            log.warning("store failed turn=%s: %s", stream.turn, error)
            return Outcome("failed", error=ApiError("store_unavailable"))
        except Exception:
            log.exception("turn failed turn=%s", stream.turn)
            return Outcome("failed", error=ApiError("internal"))

    async def _wait_for(self, stream: TurnStream, ahead: list[TurnStream], delivery: Delivery) -> None:
        """Stand in the conversation's queue; every move forward is told."""
        if not ahead:
            return
        for n, other in enumerate(ahead):
            if not other.ended.is_set():
                delivery.status(status="queued", position=len(ahead) - n)
                await other.ended.wait()
        delivery.status(status="running")

    async def _ask(self, stream: TurnStream, delivery: Delivery, route: Route, question: ChatRequest) -> None:
        await self._providers.load(route)
        provider = self._providers.of(route)
        slow = asyncio.get_running_loop().call_later(self._settings.waiting_after_s, delivery.say_waiting)
        try:
            batches: Any = provider.stream(question)
            async with aclosing(batches):
                async for batch in batches:
                    delivery.deliver(batch)
        finally:
            slow.cancel()

    async def reap(self) -> None:
        """End what an earlier process left unfinished: nobody runs it any more (law 9)."""
        for orphan in await self._store.unfinished():
            stream = TurnStream(orphan.user, orphan.turn.turn, orphan.turn.digest, orphan.turn.epoch, None)
            stream.model, stream.message = orphan.turn.model, orphan.turn.message
            stream.conversation = orphan.turn.conversation
            delivery = Delivery(stream, self._settings.turn_output_bytes, now_ms(), orphan.turn.parent)
            await store_ending(
                self._store, self._hub, stream, delivery, Outcome("failed", error=ApiError("owner_lost"))
            )

    async def drain(self, timeout_s: float) -> None:
        """Take no new turns, let the running ones end for `timeout_s`, then stop them."""
        self.draining = True
        await self._all_ended(timeout_s)
        for stream in self._hub.live():
            stream.signal.abort(Abort("error", error=ApiError("shutting_down")))
        await self._all_ended(CLEANUP_TIMEOUT_S)
        for task in self._running:
            task.cancel()

    async def _all_ended(self, timeout_s: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                for stream in self._hub.live():
                    await stream.ended.wait()
