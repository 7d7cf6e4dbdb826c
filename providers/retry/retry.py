"""Request an answer, with retries, other keys and fallback models.

An answer that has started isn't repeated. If it breaks off, it is continued at most once. Its batches are passed on
unchanged as they arrive.
"""

from __future__ import annotations

import asyncio

import structlog
from msgspec import Struct

from providers.base import ProviderError
from providers.clients import ProviderClients
from providers.continuation import CONTINUED_CODES
from providers.errors.tracebacks import drop_tracebacks
from providers.retry.attempts import Attempts, may_fall_back
from providers.retry.breaker import Breakers
from providers.retry.continuing import Continuer, ContinuingRequester
from providers.retry.first_content import Interrupted, Requester, pass_answer
from providers.retry.key_pool import KeyPool
from providers.route import Route

log = structlog.stdlib.get_logger("turnwire.provider")


class Retries(Struct, frozen=True):
    """The retry limits. `attempts` is the maximum number of requests to one model, not counting those with another key."""

    attempts: int = 3
    wait_max_s: float = 60.0
    """The longest wait before a retry. Longer waits, including a provider's Retry-After, are left to the client."""
    breaker_failures: int = 5
    breaker_open_s: float = 30.0


class RetryingClient:
    """A client that requests answers with retries. It remembers failing keys and providers between turns."""

    def __init__(self, providers: ProviderClients, retries: Retries) -> None:
        self.breakers = Breakers(retries.breaker_failures, retries.breaker_open_s)
        self.providers = providers
        self._retries = retries
        self._pools = {endpoint.provider: KeyPool(endpoint, self.breakers) for endpoint in providers.endpoints()}

    async def answer(
        self,
        route: Route,
        requester: Requester,
        deadline: float,
        *,
        once: bool = False,
        continuer: Continuer | None = None,
    ) -> None:
        """Pass an answer of the route's model, or of one of its fallbacks, to `requester`.

        Every wait before a retry ends by `deadline` (seconds on the event loop's clock), or up to 0.25 s later because
        of jitter. `once` is for a request that replays an answer, and allows only one attempt. If the answer breaks off
        after its start, `continuer` receives the rest. Raise `ProviderError` with the failure of the requested model or
        of the started answer.
        """
        pool = self._pools.get(route.provider)
        try:
            if once or pool is None:
                request = await requester.build_request(route)
                await self.providers.load(route)
                requester.on_request(route, request)
                try:
                    await pass_answer(route, self.providers.client(route), request, requester)
                except ProviderError as error:
                    requester.on_failure(route, error)
                    raise
            else:
                await self._attempts(requester, deadline).answer(route)
        except Interrupted as interrupted:
            failure, broken = interrupted.error, interrupted.route
            if continuer is None or once or failure.code not in CONTINUED_CODES:
                raise failure from interrupted
            drop_tracebacks(interrupted)
            log.warning("answer broke off", model=broken.id, code=failure.code, detail=failure.detail)
            others = self.fallbacks_after(route, broken)
            if not await self.continue_answer(broken, others, continuer, deadline, failure):
                raise failure from interrupted

    def fallbacks_after(self, requested: Route, broken: Route) -> list[Route]:
        """Return the fallbacks of the requested route that come after the route whose answer broke off."""
        fallbacks = self.providers.fallbacks(requested)
        ids = [fallback.id for fallback in fallbacks]
        return fallbacks[ids.index(broken.id) + 1 :] if broken.id in ids else fallbacks

    async def continue_answer(
        self,
        route: Route,
        fallbacks: list[Route],
        continuer: Continuer,
        deadline: float,
        error: ProviderError | None = None,
    ) -> bool:
        """Pass the rest of an answer of `route` that broke off with `error` to `continuer`.

        The route's model is asked first, then `fallbacks`, each with retries before its first words, until `deadline`
        (see `answer`). Return whether the rest is complete. If it isn't, no model can continue the answer, or none has
        begun to. Raise `ProviderError` if the rest breaks off too.
        """
        routes = [candidate for candidate in (route, *fallbacks) if candidate.provider in self._pools]
        while routes and asyncio.get_running_loop().time() < deadline:
            first = routes.pop(0)
            try:
                await continuer.build_continuation(first)
            except ProviderError as refused:
                log.info("model can't continue the answer", model=first.id, code=refused.code)
                continue
            requester = ContinuingRequester(continuer, error)
            try:
                await self._attempts(requester, deadline).answer(first, routes)
                return True
            except Interrupted as interrupted:
                raise interrupted.error from interrupted
            except ProviderError as failure:
                drop_tracebacks(failure)
                log.warning("answer can't be continued", model=first.id, code=failure.code, detail=failure.detail)
                if may_fall_back(failure):
                    return False  # the others were asked too
        return False

    def _attempts(self, requester: Requester, deadline: float) -> Attempts:
        attempts_max, wait_max_s = self._retries.attempts, self._retries.wait_max_s
        return Attempts(
            self.providers, self._pools, requester, deadline, attempts_max=attempts_max, wait_max_s=wait_max_s
        )
