"""Which turns a `turn.cancel` means, and what became of them: those that run here at once, the others by one look-up."""

from __future__ import annotations

import asyncio
from contextlib import suppress

from gateway.protocol import requests as p
from gateway.protocol.errors import ApiError
from gateway.protocol.results import CancelResult
from gateway.requests.services import Services
from gateway.turns.abort import Abort
from store.records import StoreError


class Cancels:
    """The cancels of `user`."""

    def __init__(self, services: Services, user: str) -> None:
        self._services = services
        self._user = user
        self._finding = asyncio.Lock()

    async def cancel(self, request: p.TurnCancel) -> dict[str, CancelResult]:
        """What became of each turn. Those that run here are told before the first await. Raises `ApiError`, `StoreError`."""
        abort = Abort("client", request.reason)
        turns = self._scope(request)
        if request.turn is not None or request.turns is not None:
            return await self._named(turns, abort)
        return await self._found(turns, request.conversation, abort)

    def all_run_here(self, turns: list[str]) -> bool:
        """Whether this process can say of each what became of it."""
        return all(self._services.cancellation.runs_here(self._user, turn) for turn in turns)

    async def _named(self, turns: list[str], abort: Abort) -> dict[str, CancelResult]:
        """Who has named too many that don't exist has those that run stopped, and is refused for the rest."""
        cancellation, limits = self._services.cancellation, self._services.limits
        if limits.is_over(self._user) and not self.all_run_here(turns):
            here = [turn for turn in turns if cancellation.runs_here(self._user, turn)]
            stopped = await cancellation.cancel_all(self._user, here, abort)
            running = set(await self._services.store.active(self._user, None)).intersection(turns).difference(here)
            stopped |= await cancellation.cancel_all(self._user, running, abort)
            if len(stopped) < len(turns):
                limits.check_unknown(self._user)
            turns = [turn for turn in turns if turn not in stopped]
            return stopped | await cancellation.cancel_all(self._user, turns, abort)
        result = await cancellation.cancel_all(self._user, turns, abort)
        limits.charge_unknown(self._user, sum(became == "not_found" for became in result.values()))
        return result

    async def _found(self, here: list[str], conversation: str | None, abort: Abort) -> dict[str, CancelResult]:
        """The turns that run here are told at once. Then, of one such cancel at a time, those that the store knows to run."""
        cancellation = self._services.cancellation
        asked = {turn: cancellation.cancel(self._user, turn, abort) for turn in here}
        async with self._finding:
            with suppress(StoreError):  # away: what runs here is stopped all the same
                for turn in await self._services.store.active(self._user, conversation):
                    if turn not in asked:
                        asked[turn] = cancellation.cancel(self._user, turn, abort)
            return dict(zip(asked, await asyncio.gather(*asked.values()), strict=True))

    def _scope(self, request: p.TurnCancel) -> list[str]:
        """The turns that are named, or those of the scope that this process knows to run."""
        given = [request.turn is not None, request.turns is not None, request.conversation is not None, request.mine]
        if sum(given) != 1:
            raise ApiError("invalid_request", "Say which turns: send exactly one of turn, turns, conversation, mine.")
        if request.turn is not None:
            return [request.turn]
        if request.turns is not None:
            return list(dict.fromkeys(request.turns))
        registry = self._services.registry
        if request.conversation is not None:
            return [live_turn.turn for live_turn in registry.live_in(self._user, request.conversation)]
        return [live_turn.turn for live_turn in registry.live(self._user)]
