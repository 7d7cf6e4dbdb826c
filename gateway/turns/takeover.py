"""Take over a turn whose owner is dead or cut off (law 9).

The turn continues, starts again, or ends with the error `owner_lost`.
"""

from __future__ import annotations

from typing import Literal

import msgspec
import structlog

from gateway.limits.limits import turn_limits
from gateway.offload import offload
from gateway.protocol.errors import ApiError
from gateway.protocol.events import TurnDelta, TurnReset, TurnStatus
from gateway.protocol.ids import now_ms
from gateway.protocol.requests import TurnStart, decode_turn_start
from gateway.turns import acceptance
from gateway.turns.abandonment import Abandonment
from gateway.turns.abort import Abort
from gateway.turns.continuation import can_continue
from gateway.turns.continued_answer import load_answer
from gateway.turns.event_writer import EventWriter
from gateway.turns.instance import Instance
from gateway.turns.known_ending import has_ending, known_ending, restore_ending
from gateway.turns.live_turn import LiveTurn
from gateway.turns.log_entries import latest_handle
from gateway.turns.log_writer import apply_cancel
from gateway.turns.mirrors import Mirrors
from gateway.turns.outcome import Outcome
from gateway.turns.queue import TurnQueue, find_queue
from gateway.turns.runner import RunPlan, TurnRunner
from providers.base import ProviderError
from providers.continuation import Way, way_to_continue
from store.errors import NotFound, StoreError
from store.records import LogEntry, MessageRecord, TurnRecord

log = structlog.stdlib.get_logger("turnwire.turn")


class Takeover:
    """The takeover of turns by this instance."""

    def __init__(self, instance: Instance, runner: TurnRunner, mirrors: Mirrors, abandonment: Abandonment) -> None:
        self._instance = instance
        self._registry = instance.registry
        self._store = instance.store
        self._runner = runner
        self._mirrors = mirrors
        self._abandonment = abandonment
        self._in_progress: set[tuple[str, str]] = set()

    async def take_over(self, user: str, turn: str, *, force: bool = False) -> None:
        """Become the owner of a turn that no instance runs, and run it to its end in a task (law 9).

        `force` takes the turn from an owner that still holds the lease. Does nothing while this instance drains, or
        if it already runs the turn. If it knows the turn's ending, store that. Raises `StoreError`.
        """
        live_turn = self._registry.get(user, turn)
        if live_turn is not None and has_ending(live_turn):
            if await restore_ending(self._store, live_turn):
                return
            self._registry.forget_ended(live_turn)
            live_turn = None
        if (
            self._runner.is_draining
            or (user, turn) in self._in_progress
            or (live_turn is not None and live_turn.is_owned)
        ):
            return
        self._in_progress.add((user, turn))
        try:
            await self._claim_and_run(user, turn, force=force)
        finally:
            self._in_progress.discard((user, turn))

    async def _claim_and_run(self, user: str, turn: str, *, force: bool) -> None:
        record = await self._store.claim(
            user, turn, self._instance.id, self._runner.next_epoch(), self._instance.lease_ms, force=force
        )
        if record is None or record.request is None:
            return
        self._instance.telemetry.takeovers.inc()
        log.warning("taking over a turn", turn=turn, epoch=record.epoch)
        live_turn = await self._mirrors.find(user, turn)
        await self._mirrors.catch_up(live_turn)
        if has_ending(live_turn):
            # The log has the ending, as the last event that a lost owner appended, but the turn's record doesn't.
            await self._store.end(await offload(live_turn.output_bytes, known_ending, live_turn, record, record.epoch))
            log.warning("an ending that only the log had is stored", turn=turn)
            return
        request = _decode_stored_request(record)
        if live_turn.log.end < record.seq:
            log.error("stored log of a turn can't be read, ending the turn", turn=turn, readable=live_turn.log.end)
            _pad_log(live_turn, record)
            request = None
        live_turn.become_owner(record.epoch)
        if request is not None:
            self._abandonment.cancel_on_disconnect(live_turn, request)
        self._registry.attach_subscribers(live_turn)
        self._runner.spawn(self._resume(live_turn, record, request), live_turn)
        await self._mirrors.stop_mirroring(live_turn)

    async def _resume(self, live_turn: LiveTurn, turn: TurnRecord, request: TurnStart | None) -> None:
        """Continue the turn where its log ends, start it again if the log has no delta, or end it with `owner_lost`.

        If the store can't be reached, the turn is handed over.
        """
        # Not below 0: the clock of the instance that accepted the turn may be ahead.
        age_ms = max(0, now_ms() - turn.accepted_ms)
        event_writer = self._runner.event_writer(live_turn, turn.parent, age_ms)
        apply_cancel(live_turn, turn.cancel)
        plan = None
        try:
            input_message = await self._load_acceptance(live_turn, turn)
            if request is not None:
                plan = await self._plan(live_turn, event_writer, turn, request, input_message)
        except (ApiError, ProviderError, NotFound) as error:
            log.warning("turn can't be resumed", turn=live_turn.turn, error=str(error))
        except StoreError as error:
            log.warning("turn can't be resumed here, handing it over", turn=live_turn.turn, error=str(error))
            live_turn.signal.abort(Abort("handover"))
            await self._runner.finish(live_turn, event_writer, None)
            return
        except Exception:
            log.exception("turn can't be resumed", turn=live_turn.turn)
        if plan is not None:
            await self._runner.run(live_turn, event_writer, plan)
            return
        if live_turn.log.end == 0:
            event_writer.publish(acceptance.started(turn, None, queued=False))
        abort = live_turn.signal.abort_reason
        lost = Outcome("failed", error=ApiError("owner_lost"))
        await self._runner.finish(live_turn, event_writer, lost if abort is None else Outcome.from_abort(abort))

    async def _load_acceptance(self, live_turn: LiveTurn, turn: TurnRecord) -> MessageRecord | None:
        """Load the records that restore the turn if the store loses it. Return its input message, if it has one.

        Raises `NotFound` and `StoreError`.
        """
        input_message = None if turn.input is None else await self._store.message(live_turn.user, turn.input)
        conversation = None
        if turn.conversation is not None:
            conversation = await self._store.conversation(live_turn.user, turn.conversation)
        restored = acceptance.restored_acceptance(turn, input_message, self._instance.lease_ms)
        live_turn.set_acceptance(restored, conversation)
        return input_message

    async def _plan(
        self,
        live_turn: LiveTurn,
        event_writer: EventWriter,
        turn: TurnRecord,
        request: TurnStart,
        input_message: MessageRecord | None,
    ) -> RunPlan | None:
        """Return the work that is left, or None if the provider can't continue the answer that was begun.

        Publishes the event with which the turn continues. Raises `ProviderError` and `StoreError`.
        """
        conversation, route, _ = await self._runner.resolve(live_turn.user, request)
        handle = latest_handle(await self._read_log(live_turn))
        live_turn.set_response_handle(handle, live_turn.log.end + 1)
        is_begun = _has_delta(live_turn) and (not request.continue_ or _is_continued(live_turn))
        if handle is not None or is_begun:
            if request.continue_:
                event_writer.exclude((await load_answer(self._store, live_turn.user, request)).parts)
            is_replayed = handle is not None or route.dialect == "demo"
            way = None if is_replayed else await self._way(event_writer, request)
            routes = self._runner.answering_routes(route, live_turn.model)
            continuing = [candidate for candidate in routes if can_continue(candidate, way)]
            if not is_replayed and not continuing:
                return None
            if way != "restart":
                parts = event_writer.resume_parts()
                event_writer.publish_status(status="resumed", epoch=turn.epoch)
                if handle is not None:
                    route = self._instance.catalog.resolve(handle.route)
                    live_turn.set_model(route.id)
                return RunPlan(
                    request,
                    turn,
                    route,
                    conversation,
                    answer_parts=parts,
                    resumed=handle is not None,
                    continuing=continuing,
                )
        queue = TurnQueue()
        if live_turn.state == "queued" or live_turn.log.end == 0:
            queue = await self._queue(turn, request)
        if live_turn.log.end == 0:
            event_writer.publish(acceptance.started(turn, input_message, queued=queue.must_wait))
        else:
            event_writer.publish(
                TurnReset(
                    live_turn.turn,
                    live_turn.log.end + 1,
                    turn.epoch,
                    "the owner of the turn was lost, so the turn starts again",
                )
            )
        return RunPlan(request, turn, route, conversation, queue, repeats=request.continue_)

    async def _way(self, event_writer: EventWriter, request: TurnStart) -> Way | None:
        """Return how a new request can continue the answer that the lost owner began."""
        parts = await offload(event_writer.size, event_writer.parts)
        return way_to_continue(parts, request.params.response_format)

    async def _queue(self, turn: TurnRecord, request: TurnStart) -> TurnQueue:
        """Return the queue of turns that the turn still waits for. Raises `StoreError`."""
        ahead: list[str] = []
        if request.on_busy == "queue" and turn.conversation is not None:
            active = await self._store.active(turn.user, turn.conversation)
            ahead = active[: active.index(turn.turn)] if turn.turn in active else []
        running_max = turn_limits(self._instance.settings).running
        groups = await self._store.running_groups(turn.user, turn.turn, running_max)
        return await find_queue(self._mirrors, turn.user, ahead, groups, running_max)

    async def _read_log(self, live_turn: LiveTurn) -> list[LogEntry]:
        """Return all entries of the turn's stored log. Raises `StoreError`."""
        found: list[LogEntry] = []
        while entries := await self._store.log(live_turn.user, live_turn.turn, found[-1].last if found else 0):
            found += entries
        return found


def _has_delta(live_turn: LiveTurn) -> bool:
    """Return whether the log has a delta after its last reset, that is, whether the lost owner began an answer."""
    for event in reversed(live_turn.log.events):
        if isinstance(event, TurnDelta | TurnReset):
            return isinstance(event, TurnDelta)
    return False


def _is_continued(live_turn: LiveTurn) -> bool:
    """Return whether the log has the status "continued" after its last reset.

    Without it, the log of a turn with `continue` may have only a part of the answer that the turn goes on from.
    """
    for event in reversed(live_turn.log.events):
        if isinstance(event, TurnReset):
            return False
        if isinstance(event, TurnStatus) and event.status == "continued":
            return True
    return False


def _pad_log(live_turn: LiveTurn, turn: TurnRecord) -> None:
    """Fill the log with status events up to the end of the stored log, so that an ending can follow there.

    The seqs of a log have no gaps (law 1).
    """
    if live_turn.log.end == 0:
        live_turn.publish([acceptance.started(turn, None, queued=False)])
    status: Literal["queued", "resumed"] = "queued" if live_turn.state == "queued" else "resumed"
    seqs = range(live_turn.log.end + 1, turn.seq + 1)
    live_turn.publish([TurnStatus(turn=live_turn.turn, seq=seq, status=status, epoch=live_turn.epoch) for seq in seqs])


def _decode_stored_request(turn: TurnRecord) -> TurnStart | None:
    """Return the stored request, or None if another version of the gateway stored it and this one can't read it."""
    try:
        return decode_turn_start(turn.request or b"")
    except msgspec.DecodeError as error:
        log.warning("stored request can't be decoded", turn=turn.turn, error=str(error))
        return None
