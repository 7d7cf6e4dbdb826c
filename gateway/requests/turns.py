"""The `turn.*` requests of one client: start, estimate, cancel, attach, detach, get."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, ClassVar
from weakref import ReferenceType, ref

from msgspec import Struct

from gateway.offload import offload, request_size
from gateway.protocol import requests as p
from gateway.protocol import results as r
from gateway.protocol.errors import ApiError, ErrorBody, not_found
from gateway.protocol.events import TurnDetached, TurnStarted
from gateway.protocol.views import cost_from_nano
from gateway.requests.cancel_requests import CancelRequests
from gateway.requests.services import Services
from gateway.requests.turn_views import live_view, stored_view
from gateway.streams.outbox import Attachment, Outbox
from gateway.turns.context import without_history
from gateway.turns.estimate import estimate_start
from gateway.turns.live_turn import LiveTurn
from gateway.turns.prepared_start import Prepared, prepare
from gateway.turns.state import shown_status
from store.errors import NotFound


@dataclass(slots=True)
class OrderedResult:
    """A result that is sent after the events that the logs of `attachments` have when it is queued (law 5)."""

    result: Struct
    attachments: list[Attachment] = field(default_factory=list)


class Turns:
    """The turn requests of `user`. Events go to `outbox`.

    `retention_days` returns the retention that the credential gives to the user's conversations now.
    `in_bodies`: the starts come in HTTP bodies, not in frames.
    """

    def __init__(
        self,
        services: Services,
        user: str,
        outbox: Outbox,
        retention_days: Callable[[], int | None],
        *,
        in_bodies: bool = False,
    ) -> None:
        self._services = services
        self._user = user
        self._outbox = outbox
        self._retention_days = retention_days
        self._in_bodies = in_bodies
        self._cancel_requests = CancelRequests(services, user)
        self._started: list[ReferenceType[LiveTurn]] = []
        """Weak references: the registry holds running turns, and an idle client doesn't keep ended ones in memory."""

    @property
    def is_idle(self) -> bool:
        """Whether none of the turns that were started here is live."""
        return not self._live_turns()

    def _live_turns(self) -> list[ReferenceType[LiveTurn]]:
        return [started for started in self._started if (turn := started()) is not None and turn.is_live]

    def cancels_only_here(self, request: p.Request) -> bool:
        """Return whether `request` cancels turns by id and all of them run in this process."""
        return isinstance(request, p.TurnCancel) and self._cancel_requests.all_run_here(
            request.turns or [request.turn or ""]
        )

    async def _start(self, request: p.TurnStart) -> r.TurnPlaced:
        self._check_turn_limit(request.turn)
        prepared = self._prepare(request)
        prepared = await prepared if isinstance(prepared, Awaitable) else prepared
        live_turn, is_new = self._services.starter.start(self._user, request, prepared, self._retention_days())
        if is_new:
            self._started.append(ref(live_turn))
            live_turn.attach(self._outbox, None, 0)
        try:
            record = await asyncio.shield(live_turn.accepted)
        except ApiError:
            self._detach_rejected(live_turn)
            raise
        if not live_turn.log.events:
            # The store already has the id: another instance runs the turn, or the turn ended earlier.
            self._detach_rejected(live_turn)
            is_new = False
        if not is_new and live_turn.turn not in self._outbox.attachments:
            try:
                existing = await self._services.mirrors.find(self._user, live_turn.turn)
                if live_turn.turn not in self._outbox.attachments:
                    existing.attach(self._outbox, None, 0)
            except (ApiError, NotFound):
                self._outbox.put(TurnDetached(live_turn.turn, "gone"))
        first = live_turn.log.events[0] if is_new and live_turn.log.events else None
        status = first.status if isinstance(first, TurnStarted) else "attached"
        return r.TurnPlaced(live_turn.turn, record.conversation, status, record.epoch)

    async def _estimate(self, request: p.TurnEstimate) -> r.Estimate:
        services = self._services
        prepared = self._prepare(request)
        if isinstance(prepared, Awaitable):
            await prepared
        found = await estimate_start(services.runner, services.store, services.settings, self._user, request)
        services.limits.large_answers.charge(self._user, found.size)  # its history was read
        return r.Estimate(
            model=found.route.id,
            input_tokens=found.input_tokens,
            output_tokens_max=found.output_tokens_max,
            context_window=found.route.context_window,
            trimmed=found.omitted_messages,
            cost=cost_from_nano(found.cost_nano),
            cost_max=cost_from_nano(found.cost_max_nano),
        )

    def _prepare(self, request: p.TurnStart) -> Prepared | Awaitable[Prepared]:
        """Check and encode a start. Raises `ApiError`.

        A start from a frame is prepared at once, so that later frames on the socket find the turn. A start from a
        body is prepared outside the event loop if it is large.
        """
        settings = self._services.settings
        bounds = (settings.input_bytes, settings.body_bytes, settings.request_items, settings.metadata_bytes)
        if not self._in_bodies:
            return prepare(request, *bounds)
        return offload(request_size(without_history(request, "")), prepare, request, *bounds)

    def _detach_rejected(self, live_turn: LiveTurn) -> None:
        """Detach from a turn that never started here, unless its id has been used again since."""
        attachment = self._outbox.attachments.get(live_turn.turn)
        if attachment is not None and attachment.log is live_turn.log:
            self._outbox.detach(live_turn.turn)

    def _check_turn_limit(self, turn: str | None) -> None:
        """Raise `ApiError` "rate_limited" if `turns_per_connection` turns are live.

        A start of a turn that this process knows already is exempt.
        """
        self._started = self._live_turns()
        turns_max = self._services.settings.turns_per_connection
        if len(self._started) >= turns_max and (turn is None or self._services.registry.get(self._user, turn) is None):
            raise ApiError(
                "rate_limited",
                f"This connection has {turns_max} live turns already. Wait for one to end, or cancel one.",
            )

    async def _cancel(self, request: p.TurnCancel) -> OrderedResult:
        result = await self._cancel_requests.cancel(request)
        attachments = self._outbox.attachments
        return OrderedResult(r.Cancelled(result), [attachments[turn] for turn in result if turn in attachments])

    async def _attach(self, request: p.TurnAttach) -> r.Attached:
        if (request.turn is None) == (request.positions is None):
            raise ApiError(
                "invalid_request",
                "The request must name its turns in one way. Send either `turn` or `positions`.",
                path="turn",
            )
        if request.positions is not None:
            positions = {turn: (position.epoch, position.seq) for turn, position in request.positions.items()}
        else:
            if request.after > 0 and request.epoch is None:
                raise ApiError(
                    "invalid_request", "`after` above 0 requires the `epoch` of that event. Send both.", path="epoch"
                )
            positions = {request.turn or "": (request.epoch or 0, request.after)}
        return r.Attached(await self.attach_all(positions))

    async def attach_all(
        self, positions: dict[str, tuple[int, int]], conversation: str | None = None
    ) -> dict[str, r.Attachment]:
        """Attach to each turn of `positions` after its (epoch, seq). Return the results as `attach` does, by turn id.

        Turns that this process doesn't know are looked up in one call. If the user is over the rate limit, those of
        them that aren't running get an error. Raises `StoreError`.
        """
        store, limits = self._services.store, self._services.limits
        refused: ErrorBody | None = None
        unknown = [turn for turn in positions if self._services.registry.get(self._user, turn) is None]
        if unknown and limits.is_over_rate(self._user):
            unknown = list(set(unknown).difference(await store.active(self._user, None)))
            try:
                limits.check_unknown_ids(self._user)
            except ApiError as error:
                refused = error.body
        if unknown and refused is None:
            states = await store.running(self._user, unknown)
            unknown = [turn for turn, runs in zip(unknown, states, strict=True) if runs is None]
            limits.charge_unknown_ids(self._user, len(unknown))
        missing = frozenset(unknown)
        return {
            turn: r.Attachment(error=refused or _turn_not_found(turn))
            if turn in missing
            else await self.attach(turn, epoch, after, conversation)
            for turn, (epoch, after) in positions.items()
        }

    async def attach(self, turn: str, epoch: int, after: int, conversation: str | None = None) -> r.Attachment:
        """Attach to one turn after the position (`epoch`, `after`). Return the result, which may hold an error.

        If `conversation` is given, a turn of another conversation is "not_found". Raises `StoreError`.
        """
        try:
            live_turn = await self._services.mirrors.find(self._user, turn)
            record = await asyncio.shield(live_turn.accepted)
        except NotFound:
            return r.Attachment(error=_turn_not_found(turn))
        except ApiError as failed:
            return r.Attachment(error=failed.body if failed.code == "gone" else _turn_not_found(turn))
        if conversation is not None and record.conversation != conversation:
            return r.Attachment(error=_turn_not_found(turn))
        start = live_turn.attach(self._outbox, epoch, after)
        log = live_turn.log
        # An estimate, as if all events had the same size: adding up the sizes of many events would take too long.
        replayed = live_turn.output_bytes * max(0, log.end - start) // max(1, log.end)
        self._services.telemetry.record_attachment(after, start, replayed)
        self._services.limits.loop_time.charge_sending(self._user, replayed)
        return r.Attachment(record.conversation, shown_status(live_turn.state), live_turn.epoch, start)

    async def _detach(self, request: p.TurnDetach) -> r.Nothing:
        attached = self._outbox.detach(request.turn)
        if attached is None and self._services.registry.get(self._user, request.turn) is None:
            await self._services.store.turn(self._user, request.turn)
        return r.Nothing()

    async def _get(self, request: p.TurnGet) -> r.TurnView:
        with suppress(ApiError):
            live_turn = await self._services.mirrors.find(self._user, request.turn)
            record = await asyncio.shield(live_turn.accepted)
            if live_turn.log.events and not live_turn.log.is_ended:
                return await live_view(live_turn, record)
        record = await self._services.store.turn(self._user, request.turn)
        return await stored_view(self._services.store, record)

    HANDLERS: ClassVar[dict[type[p.Request], Callable[[Turns, Any], Coroutine[Any, Any, Any]]]] = {
        p.TurnStart: _start,
        p.TurnEstimate: _estimate,
        p.TurnCancel: _cancel,
        p.TurnAttach: _attach,
        p.TurnDetach: _detach,
        p.TurnGet: _get,
    }
    """The handler of each request type. One table for all clients, because it is larger than the rest of a session."""


def _turn_not_found(turn: str) -> ErrorBody:
    return not_found("turn", turn).body
