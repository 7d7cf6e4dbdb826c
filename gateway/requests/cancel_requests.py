"""The `turn.cancel` requests of one user: the turns that a request selects, and the result for each turn.

Turns that run in this process are cancelled at once. The others are looked up in the store together, not one by one.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress

from gateway.protocol import requests as p
from gateway.protocol.errors import ApiError
from gateway.protocol.results import CancelResult
from gateway.requests.services import Services
from gateway.turns.abort import Abort
from store.errors import StoreError


class CancelRequests:
    """The cancel requests of `user`."""

    def __init__(self, services: Services, user: str) -> None:
        self._services = services
        self._user = user
        self._lookup_lock = asyncio.Lock()

    async def cancel(self, request: p.TurnCancel) -> dict[str, CancelResult]:
        """Cancel the selected turns and return the result for each turn id.

        Turns that run here are cancelled before the first await. Raises `ApiError` or `StoreError`.
        """
        abort = Abort("client", request.reason)
        turns = self._select_turns(request)
        if request.turn is not None or request.turns is not None:
            return await self._cancel_named(turns, abort)
        return await self._cancel_in_scope(turns, request.conversation, abort)

    def all_run_here(self, turns: list[str]) -> bool:
        """Return whether all of `turns` run here, so that this process knows the result for each."""
        return all(self._services.cancellation.runs_here(self._user, turn) for turn in turns)

    async def _cancel_named(self, turns: list[str], abort: Abort) -> dict[str, CancelResult]:
        """Cancel `turns`, which the request named by id, and return the result for each.

        If the user is over the rate limit, only the running turns are cancelled. Raises `ApiError` "rate_limited" if
        other turns were named too, because their ids may not exist. Raises `StoreError`.
        """
        cancellation, limits = self._services.cancellation, self._services.limits
        if limits.is_over_rate(self._user) and not self.all_run_here(turns):
            here = [turn for turn in turns if cancellation.runs_here(self._user, turn)]
            stopped = await cancellation.cancel_all(self._user, here, abort)
            running = set(await self._services.store.active(self._user, None)).intersection(turns).difference(here)
            stopped |= await cancellation.cancel_all(self._user, running, abort)
            if len(stopped) < len(turns):
                limits.check_unknown_ids(self._user)
            turns = [turn for turn in turns if turn not in stopped]
            return stopped | await cancellation.cancel_all(self._user, turns, abort)
        result = await cancellation.cancel_all(self._user, turns, abort)
        limits.charge_unknown_ids(self._user, sum(one == "not_found" for one in result.values()))
        return result

    async def _cancel_in_scope(
        self, here: list[str], conversation: str | None, abort: Abort
    ) -> dict[str, CancelResult]:
        """Cancel the turns in `here` at once, then the other turns that are active in the store. Return the results.

        `conversation` limits the look-up in the store; None means all conversations of the user. Only one request
        at a time does this second step.
        """
        cancellation = self._services.cancellation
        cancellations = {turn: cancellation.cancel(self._user, turn, abort) for turn in here}
        async with self._lookup_lock:
            with suppress(StoreError):  # without the store, the turns that run here are cancelled anyway
                for turn in await self._services.store.active(self._user, conversation):
                    if turn not in cancellations:
                        cancellations[turn] = cancellation.cancel(self._user, turn, abort)
            return dict(zip(cancellations, await asyncio.gather(*cancellations.values()), strict=True))

    def _select_turns(self, request: p.TurnCancel) -> list[str]:
        """Return the ids of the named turns, or of the live turns in the request's scope that this process knows.

        Raises `ApiError` "invalid_request" unless exactly one of `turn`, `turns`, `conversation` and `mine` is sent.
        """
        sent = [request.turn is not None, request.turns is not None, request.conversation is not None, request.mine]
        if sum(sent) != 1:
            raise ApiError(
                "invalid_request",
                "The request must select turns in one way. Send exactly one of `turn`, `turns`, `conversation` and `mine`.",
            )
        if request.turn is not None:
            return [request.turn]
        if request.turns is not None:
            return list(dict.fromkeys(request.turns))
        registry = self._services.registry
        if request.conversation is not None:
            return [live_turn.turn for live_turn in registry.live_in(self._user, request.conversation)]
        return [live_turn.turn for live_turn in registry.live(self._user)]
