"""Taking over a turn whose owner is dead or cut off: go on, start again, or say that the owner was lost (law 9)."""

from __future__ import annotations

from typing import Literal

import msgspec
import structlog

from gateway.limits.limits import turn_limits
from gateway.protocol.errors import ApiError
from gateway.protocol.events import TurnDelta, TurnReset, TurnStatus
from gateway.protocol.requests import TurnStart, decode_request
from gateway.turns import acceptance
from gateway.turns.abandonment import Abandonment
from gateway.turns.abort import Abort
from gateway.turns.event_writer import EventWriter
from gateway.turns.instance import Instance
from gateway.turns.live_turn import LiveTurn
from gateway.turns.log_entries import cursor_of
from gateway.turns.log_writer import obey
from gateway.turns.mirrors import Mirrors
from gateway.turns.outcome import Outcome
from gateway.turns.queue import TurnQueue, find_queue
from gateway.turns.runner import RunPlan, TurnRunner
from providers.base import ProviderError
from store.records import LogEntry, MessageRecord, NotFound, StoreError, TurnRecord

log = structlog.stdlib.get_logger("turnwire.turn")


class Takeover:
    """Takes turns for this instance."""

    def __init__(self, instance: Instance, runner: TurnRunner, mirrors: Mirrors, abandonment: Abandonment) -> None:
        self._instance = instance
        self._registry = instance.registry
        self._store = instance.store
        self._runner = runner
        self._mirrors = mirrors
        self._abandonment = abandonment
        self._taking: set[tuple[str, str]] = set()

    async def take_over(self, user: str, turn: str, *, force: bool = False) -> None:
        """Become the owner of a turn that nobody runs, and see it through (law 9). Raises `StoreError`."""
        known = self._registry.get(user, turn)
        if self._runner.draining or (user, turn) in self._taking or (known is not None and known.owned):
            return
        self._taking.add((user, turn))
        try:
            await self._take(user, turn, force=force)
        finally:
            self._taking.discard((user, turn))

    async def _take(self, user: str, turn: str, *, force: bool) -> None:
        record = await self._store.claim(
            user, turn, self._instance.id, self._runner.next_epoch(), self._instance.lease_ms, force=force
        )
        if record is None or record.request is None:
            return
        self._instance.telemetry.taken_over.inc()
        log.warning("taking a turn over", turn=turn, epoch=record.epoch)
        stream = await self._mirrors.find(user, turn)
        await self._mirrors.catch_up(stream)
        request = _request_of(record)
        if stream.log.end < record.seq:
            log.error("what was kept of a turn can't be read, it ends", turn=turn, readable=stream.log.end)
            _fill(stream, record)
            request = None
        stream.become_owner(record.epoch)
        if request is not None:
            self._abandonment.watch(stream, request)
        self._registry.attach_watchers(stream)
        self._runner.spawn(self._resume(stream, record, request), stream)
        await self._mirrors.release(stream)

    async def _resume(self, stream: LiveTurn, turn: TurnRecord, request: TurnStart | None) -> None:
        """Go on where the log ends, start again where it holds no delta, or say that the owner is lost."""
        delivery = self._runner.event_writer(stream, turn.accepted_ms, turn.parent)
        obey(stream, turn.cancel)
        plan = None
        try:
            question = await self._remember(stream, turn)
            if request is not None:
                plan = await self._plan(stream, delivery, turn, request, question)
        except (ApiError, ProviderError, NotFound) as error:
            log.warning("can't resume", turn=stream.turn, error=str(error))
        except StoreError as error:
            log.warning("can't resume now, whoever can may take it", turn=stream.turn, error=str(error))
            stream.signal.abort(Abort("handover"))
            await self._runner.finish(stream, delivery, None)
            return
        except Exception:
            log.exception("can't resume", turn=stream.turn)
        if plan is not None:
            await self._runner.run(stream, delivery, plan)
            return
        if stream.log.end == 0:
            delivery.publish(acceptance.started(turn, None, queued=False))
        wish = stream.signal.abort_reason
        lost = Outcome("failed", error=ApiError("owner_lost"))
        await self._runner.finish(stream, delivery, lost if wish is None else Outcome.from_abort(wish))

    async def _remember(self, stream: LiveTurn, turn: TurnRecord) -> MessageRecord | None:
        """Keep what makes the turn anew, should the store lose it; its question. Raises `NotFound`, `StoreError`."""
        question = None if turn.input is None else await self._store.message(stream.user, turn.input)
        stream.accepted_as = acceptance.accepted_again(turn, question, self._instance.lease_ms)
        if turn.conversation is not None:
            stream.conversation_record = await self._store.conversation(stream.user, turn.conversation)
        return question

    async def _plan(
        self,
        stream: LiveTurn,
        delivery: EventWriter,
        turn: TurnRecord,
        request: TurnStart,
        question: MessageRecord | None,
    ) -> RunPlan | None:
        """What is left to do; None where the provider can't go on from what was said."""
        conversation, route = await self._runner.place(stream.user, request)
        stream.cursor = cursor_of(await self._entries(stream))
        if stream.cursor is not None:
            answered = delivery.go_on()
            stream.cursor_seq = stream.log.end + 1
            delivery.status(status="resumed", epoch=turn.epoch)
            route = self._runner.route(stream.cursor.route)
            stream.model = route.id
            return RunPlan(request, turn, route, conversation, answered=answered, resumed=True)
        if _has_said_something(stream):
            if "prefill" not in route.features:
                return None
            answered = delivery.go_on()
            delivery.status(status="resumed", epoch=turn.epoch)
            return RunPlan(request, turn, route, conversation, answered=answered)
        queue = TurnQueue()
        if stream.state == "queued" or stream.log.end == 0:
            queue = await self._queue(turn, request)
        if stream.log.end == 0:
            delivery.publish(acceptance.started(turn, question, queued=queue.waits))
        else:
            delivery.publish(
                TurnReset(stream.turn, stream.log.end + 1, turn.epoch, "its owner was lost, it starts again")
            )
        return RunPlan(request, turn, route, conversation, queue)

    async def _queue(self, turn: TurnRecord, request: TurnStart) -> TurnQueue:
        """What the turn still waits for. Raises `StoreError`."""
        ahead: list[str] = []
        if request.on_busy == "queue" and turn.conversation is not None:
            active = await self._store.active(turn.user, turn.conversation)
            ahead = active[: active.index(turn.turn)] if turn.turn in active else []
        places = turn_limits(self._instance.settings).running
        slots = await self._store.running_groups(turn.user, turn.turn, places)
        return await find_queue(self._mirrors, turn.user, ahead, slots, places)

    async def _entries(self, stream: LiveTurn) -> list[LogEntry]:
        """The turn's whole log, as it is stored. Raises `StoreError`."""
        found: list[LogEntry] = []
        while entries := await self._store.log(stream.user, stream.turn, found[-1].last if found else 0):
            found += entries
        return found


def _has_said_something(stream: LiveTurn) -> bool:
    """Whether a delta of the attempt that was lost is in the log."""
    for event in reversed(stream.log.events):
        if isinstance(event, TurnDelta | TurnReset):
            return isinstance(event, TurnDelta)
    return False


def _fill(stream: LiveTurn, turn: TurnRecord) -> None:
    """Let the log reach to where the store has it, for an ending to fit there: its numbers have no holes (law 7)."""
    if stream.log.end == 0:
        stream.publish([acceptance.started(turn, None, queued=False)])
    status: Literal["queued", "resumed"] = "queued" if stream.state == "queued" else "resumed"
    seqs = range(stream.log.end + 1, turn.seq + 1)
    stream.publish([TurnStatus(turn=stream.turn, seq=seq, status=status, epoch=stream.epoch) for seq in seqs])


def _request_of(turn: TurnRecord) -> TurnStart | None:
    """What was asked; None where another version of this gateway has stored what this one can't read."""
    try:
        return decode_request(turn.request or b"")
    except msgspec.DecodeError as error:
        log.warning("can't read a request", turn=turn.turn, error=str(error))
        return None
