"""Stop a turn wherever it runs (law 5).

A turn of this process is stopped at once. For a turn elsewhere, a cancel request is stored. The turn's owner, or the
instance that takes the turn over, applies it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterable, Sequence
from contextlib import suppress
from time import perf_counter
from typing import Any

from gateway.protocol.codec import JSON
from gateway.protocol.errors import ApiError
from gateway.protocol.results import CancelResult
from gateway.tasks import spawn
from gateway.turns.abort import Abort
from gateway.turns.instance import Instance
from gateway.turns.live_turn import LiveTurn
from gateway.turns.log_writer import apply_cancel
from gateway.turns.mirrors import Mirrors
from gateway.turns.takeover import Takeover
from store.errors import Busy, NotFound, StoreError

CLEANUP_TIMEOUT_S = 2.0
OWNER_SILENT_S = 1.0
RESTORED_POLL_S = 0.1


class Cancellation:
    """The cancellation of turns. It aborts the turns of this process, and asks other instances to abort theirs."""

    def __init__(self, instance: Instance, mirrors: Mirrors, takeover: Takeover) -> None:
        self._registry = instance.registry
        self._store = instance.store
        self._telemetry = instance.telemetry
        self._tasks = instance.tasks
        self._lease_s = instance.settings.lease_s
        self._mirrors = mirrors
        self._takeover = takeover

    def cancel(self, user: str, turn: str, abort: Abort) -> Coroutine[Any, Any, CancelResult]:
        """Begin to stop a turn. Return a coroutine for the result: "cancelled", "already_ended" or "not_found".

        A turn that runs here is aborted before this method returns. The coroutine raises `StoreError`.
        """
        live_turn = self._registry.get(user, turn)
        if live_turn is None or not self.runs_here(user, turn):
            return self._measure("elsewhere", self._cancel_elsewhere(user, turn, abort))
        running = live_turn.is_abortable
        if running:
            live_turn.signal.abort(abort)
        return self._measure("here", self._wait_stopped(live_turn, abort, running=running))

    def cancel_all(self, user: str, turns: Iterable[str], abort: Abort) -> Coroutine[Any, Any, dict[str, CancelResult]]:
        """Begin to stop several turns, as `cancel` does. Return a coroutine for the result of each turn id.

        The turns that don't run here are looked up in one call to the store.
        """
        cancellations: dict[str, Coroutine[Any, Any, CancelResult]] = {}
        elsewhere: list[str] = []
        for turn in turns:
            if self.runs_here(user, turn):
                cancellations[turn] = self.cancel(user, turn, abort)
            else:
                elsewhere.append(turn)
        return self._collect(user, cancellations, elsewhere, abort)

    def runs_here(self, user: str, turn: str) -> bool:
        """Return whether this process owns the turn and can report the result of a cancellation."""
        live_turn = self._registry.get(user, turn)
        return live_turn is not None and live_turn.is_owned and not _is_leaving(live_turn)

    async def _collect(
        self,
        user: str,
        cancellations: dict[str, Coroutine[Any, Any, CancelResult]],
        elsewhere: list[str],
        abort: Abort,
    ) -> dict[str, CancelResult]:
        results: dict[str, CancelResult] = {}
        if elsewhere:
            try:
                states = await self._store.running(user, elsewhere)
            except BaseException:
                await asyncio.gather(*cancellations.values(), return_exceptions=True)
                raise
            for turn, runs in zip(elsewhere, states, strict=True):
                if runs or (runs is None and self._may_be_restored(user, turn)):
                    cancellations[turn] = self.cancel(user, turn, abort)
                else:
                    results[turn] = "not_found" if runs is None else "already_ended"
        answers = await asyncio.gather(*cancellations.values())
        return results | dict(zip(cancellations, answers, strict=True))

    async def _measure(self, where: str, cancellation: Coroutine[Any, Any, CancelResult]) -> CancelResult:
        began = perf_counter()
        result = await cancellation
        if result == "cancelled":
            self._telemetry.cancel_duration.labels(where).observe(perf_counter() - began)
        return result

    async def _wait_stopped(self, live_turn: LiveTurn, abort: Abort, *, running: bool) -> CancelResult:
        if not running:
            return "already_ended"
        with suppress(TimeoutError):
            async with asyncio.timeout(CLEANUP_TIMEOUT_S):
                await live_turn.stopped.wait()
        if live_turn.stopped.is_set() and not live_turn.message:
            # The turn was never accepted here: another instance has the id, or none has.
            return await self._cancel_elsewhere(live_turn.user, live_turn.turn, abort)
        return "cancelled" if live_turn.end_status in {None, "cancelled"} else "already_ended"

    async def _cancel_elsewhere(self, user: str, turn: str, abort: Abort) -> CancelResult:
        try:
            if not await self._request(user, turn, abort):
                return "already_ended"
            live_turn = await self._mirrors.find(user, turn)
        except NotFound:
            return "not_found"
        except ApiError:
            return "already_ended"
        await _wait_ended(live_turn, OWNER_SILENT_S)
        if live_turn.is_live:
            # The owner is frozen or dead: take the turn over and apply the cancel request here.
            await self._takeover.take_over(user, turn, force=True)
            await _wait_ended(live_turn, OWNER_SILENT_S)
        return "already_ended" if live_turn.state in {"completed", "failed"} else "cancelled"

    async def _request(self, user: str, turn: str, abort: Abort) -> bool:
        """Store the cancel request; return False if the turn has ended. Raises `NotFound` and `StoreError`.

        If the store has lost the turn, and this instance mirrors it, wait until its owner has restored it.
        """
        loop = asyncio.get_running_loop()
        restored_by = loop.time() + self._lease_s
        while True:
            try:
                return await self._store.request_cancel(user, turn, JSON.encode(abort))
            except NotFound:
                if not self._may_be_restored(user, turn) or loop.time() > restored_by:
                    raise
            await asyncio.sleep(RESTORED_POLL_S)

    def _may_be_restored(self, user: str, turn: str) -> bool:
        """Return whether the owner may restore a turn that the store has lost: this instance has it as a running turn."""
        live_turn = self._registry.get(user, turn)
        return live_turn is not None and live_turn.is_live and live_turn.accepted.done()

    async def interrupt(self, user: str, conversation: str, starting: str) -> None:
        """Stop the conversation's turns, wherever they run, and wait until they have ended. Raises `StoreError`.

        `starting` is the turn for which they are stopped: another instance may have accepted it already. If there is no
        such conversation, do nothing: the start may create it.
        """
        abort = Abort("client", "A new turn interrupted this one.")
        with suppress(NotFound):
            running = [turn for turn in await self._store.active(user, conversation) if turn != starting]
            await self.cancel_and_wait(user, running, abort)

    async def cancel_and_wait(self, user: str, turns: Sequence[str], abort: Abort) -> None:
        """Stop the turns, wherever they run, and wait until they have ended.

        Raises `StoreError`, and `Busy` if the owner of one doesn't end it.
        """
        await asyncio.gather(*(self._cancel_and_wait(user, turn, abort) for turn in turns))

    async def _cancel_and_wait(self, user: str, turn: str, abort: Abort) -> None:
        """Stop a turn that the store has accepted, and wait until it has ended. Raises `Busy` and `StoreError`.

        A start with the same id may wait here for the caller, also one that arrives meanwhile. So the caller mustn't wait
        for that start; then only the store says whether the turn has ended.
        """
        if not self._is_starting(user, turn):
            stopping = asyncio.get_running_loop().create_task(self._stop(user, turn, abort))
            try:
                while not stopping.done() and not self._is_starting(user, turn):
                    await asyncio.wait([stopping], timeout=RESTORED_POLL_S)
                if stopping.done():
                    await stopping
                    return
            finally:
                stopping.cancel()
        with suppress(NotFound):
            await self._stop_in_store(user, turn, abort)

    async def _stop(self, user: str, turn: str, abort: Abort) -> None:
        await self.cancel(user, turn, abort)
        with suppress(NotFound, ApiError):
            await (await self._mirrors.find(user, turn)).wait_ended()

    async def _stop_in_store(self, user: str, turn: str, abort: Abort) -> None:
        """Ask the owner of a turn to stop it, and poll the store until it has. Raises `Busy`, `NotFound` and `StoreError`."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._lease_s + OWNER_SILENT_S
        runs = await self._store.request_cancel(user, turn, JSON.encode(abort))
        while runs:
            if loop.time() > deadline:
                raise Busy
            await asyncio.sleep(RESTORED_POLL_S)
            runs = (await self._store.turn(user, turn)).status in {"queued", "running"}

    def _is_starting(self, user: str, turn: str) -> bool:
        """Return whether a start with this id waits here."""
        live_turn = self._registry.get(user, turn)
        return live_turn is not None and not live_turn.accepted.done()

    def on_cancel_requested(self, user: str, turn: str) -> None:
        """Apply the cancel request that another instance has stored for a turn of this instance."""
        spawn(self._tasks, self._apply_requested_cancel(user, turn))

    async def _apply_requested_cancel(self, user: str, turn: str) -> None:
        live_turn = self._registry.get(user, turn)
        if live_turn is not None and live_turn.is_abortable:
            with suppress(StoreError):
                apply_cancel(live_turn, (await self._store.turn(user, turn)).cancel)


def _is_leaving(live_turn: LiveTurn) -> bool:
    """Return whether another instance has taken the turn over, or is meant to."""
    abort = live_turn.signal.abort_reason
    return abort is not None and abort.by in {"lost", "handover"}


async def _wait_ended(live_turn: LiveTurn, timeout_s: float) -> None:
    with suppress(TimeoutError):
        async with asyncio.timeout(timeout_s):
            await live_turn.wait_ended()
