"""Getting an answer to begin: retries, another key, another model. What has begun is nobody's to repeat.

Nothing here touches a token: the answer that has begun is handed out as its provider streams it.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncGenerator
from typing import Final, NamedTuple, Protocol, cast

import structlog
from msgspec import Struct

from providers.base import ChatRequest, Delta, PartDelta, PartStarted, Provider, ProviderError, ResponseHandle
from providers.catalog.catalog import Providers
from providers.retry.breaker import Breakers
from providers.retry.key_pool import KEY_CODES, CoolingDown, KeyCheckout, KeyPool
from providers.route import Route

log = structlog.stdlib.get_logger("turnwire.provider")

BACKOFF_FIRST_S: Final = 0.5
BACKOFF_MAX_S: Final = 8.0
FALLBACK_WAIT_S: Final = 5.0
"""Who can ask another model doesn't wait longer than this for the one that was wanted."""
PATIENCE_S: Final = 30.0
"""What took longer than this to fail isn't asked the same again."""

Batches = AsyncGenerator[list[Delta], None]


class Retries(Struct, frozen=True):
    """How hard to try. `attempts`: how often one model is asked, not counting those with another key."""

    attempts: int = 3
    wait_max_s: float = 60.0
    """A longer wait, a provider's Retry-After too, is left to the client."""
    breaker_failures: int = 5
    breaker_open_s: float = 30.0


class StartedAnswer(NamedTuple):
    """An answer that has begun: what has come, and what is to come. Who gets it closes `batches`."""

    first: list[Delta]
    batches: Batches


class Requester(Protocol):
    """Who wants the answer, and is told what is tried for it."""

    async def build_request(self, route: Route) -> ChatRequest:
        """What to ask this model. Raises `ProviderError` where it can't take that."""

    def falling_back(self, route: Route) -> None:
        """This model is asked in place of the one that was wanted."""

    def requesting(self, route: Route, request: ChatRequest) -> None:
        """A request goes out."""

    def failed(self, route: Route, error: ProviderError) -> None:
        """The request failed."""

    def retrying(self, attempt: int, delay_ms: int) -> None:
        """Attempt number `attempt` follows in `delay_ms`."""

    def take(self, batch: list[Delta]) -> bool:
        """A batch is read, and not yielded yet; whether it is taken now (see `Provider`)."""


class RetryingClient:
    """Asks for answers, and remembers between turns what fails."""

    def __init__(self, providers: Providers, retries: Retries) -> None:
        self.breakers = Breakers(retries.breaker_failures, retries.breaker_open_s)
        self.providers = providers
        self._retries = retries
        self._pools = {endpoint.provider: KeyPool(endpoint, self.breakers) for endpoint in providers.endpoints()}

    async def begin(self, route: Route, requester: Requester, deadline: float, *, once: bool = False) -> StartedAnswer:
        """An answer that has begun, from the route's model or else one of its fallbacks; waits end by `deadline`.

        `once`: it goes on from something that was said, so that nothing may be tried twice. Raises `ProviderError`:
        the failure of the model that was wanted.
        """
        pool = self._pools.get(route.provider)
        if once or pool is None:
            request = await requester.build_request(route)
            await self.providers.load(route)
            requester.requesting(route, request)
            try:
                return await _begin(self.providers.of(route), request, requester)
            except ProviderError as error:
                requester.failed(route, error)
                raise
        return await _Attempts(self.providers, self._retries, self._pools, requester, deadline).begin(route)


class _Attempts:
    """What is tried for one turn."""

    def __init__(
        self, providers: Providers, retries: Retries, pools: dict[str, KeyPool], requester: Requester, deadline: float
    ) -> None:
        self._providers = providers
        self._retries = retries
        self._pools = pools
        self._requester = requester
        self._deadline = deadline
        self._fallbacks: list[Route] = []
        self._next_fallback: tuple[Route, ChatRequest] | None = None
        self._asked: Route | None = None
        """The model that clients believe is asked."""
        self._made = 0

    async def begin(self, wanted: Route) -> StartedAnswer:
        """See `RetryingClient`."""
        request = await self._requester.build_request(wanted)
        self._fallbacks = self._providers.fallbacks(wanted)
        self._asked = wanted
        try:
            return await self._ask(wanted, request)
        except ProviderError as error:
            if not _may_pass_on(error):
                raise
            first = error
        while (fallback := await self._take_fallback()) is not None:
            route, request = fallback
            try:
                return await self._ask(route, request)
            except ProviderError as error:
                log.warning("a fallback failed", model=route.id, code=error.code, detail=error.detail)
        raise first

    async def _has_fallback(self) -> bool:
        """Whether a model is left that can take the request."""
        while self._next_fallback is None and self._fallbacks:
            route = self._fallbacks.pop(0)
            try:
                self._next_fallback = (route, await self._requester.build_request(route))
            except ProviderError as error:
                log.info("a fallback can't take the request", model=route.id, code=error.code)
        return self._next_fallback is not None

    async def _take_fallback(self) -> tuple[Route, ChatRequest] | None:
        fallback = self._next_fallback if await self._has_fallback() else None
        self._next_fallback = None
        return fallback

    async def _ask(self, route: Route, request: ChatRequest) -> StartedAnswer:
        """One model, as often as it makes sense. Raises `ProviderError`."""
        await self._providers.load(route)
        pool = self._pools.get(route.provider)
        if pool is None:
            # The demo: it has no keys, and fails on purpose only.
            return await self._send(route, request)
        failure: ProviderError | None = None
        waits_left = self._retries.attempts - 1
        asks_left = waits_left + len(pool)
        announced = True
        while True:
            loan = pool.check_out(route)
            if isinstance(loan, CoolingDown) and failure is None and not await self._has_fallback():
                loan = pool.check_out(route, any_will_do=True)
            if isinstance(loan, CoolingDown):
                failure = failure or loan.error()
                if not loan.limited or waits_left <= 0:
                    raise failure
                waits_left -= 1
                await self._wait(route, loan.left_s, failure)
                announced = True
                continue
            if not announced:
                self._requester.retrying(self._made + 1, 0)
            announced = False
            asks_left -= 1
            began = _now()
            try:
                return await self._attempt(route, request, loan)
            except ProviderError as error:
                failure = error
            log.warning("an attempt failed", model=route.id, code=failure.code, detail=failure.detail)
            if asks_left <= 0:
                raise failure
            if failure.code in KEY_CODES:
                continue
            if waits_left <= 0 or pool.open or not await self._again(failure, _now() - began):
                raise failure
            backoff_s = min(BACKOFF_MAX_S, BACKOFF_FIRST_S * 2 ** (self._retries.attempts - 1 - waits_left))
            waits_left -= 1
            await self._wait(
                route, max(backoff_s * random.uniform(0.5, 1), (failure.retry_after_ms or 0) / 1000), failure
            )
            announced = True

    async def _attempt(self, route: Route, request: ChatRequest, loan: KeyCheckout) -> StartedAnswer:
        try:
            begun = await self._send(route, request, loan.value)
        except ProviderError as error:
            loan.failed(error)
            self._requester.failed(route, error)
            raise
        except BaseException:
            loan.abandoned()
            raise
        loan.succeeded()
        return begun

    async def _send(self, route: Route, request: ChatRequest, key: str = "") -> StartedAnswer:
        self._announce(route)
        self._made += 1
        self._requester.requesting(route, request)
        return await _begin(self._providers.of(route, key), request, self._requester)

    async def _again(self, failure: ProviderError, took_s: float) -> bool:
        """Whether the same model is worth another request."""
        if not failure.retryable or took_s > PATIENCE_S:
            return False
        return failure.code != "upstream_timeout" or not await self._has_fallback()

    async def _wait(self, route: Route, wait_s: float, failure: ProviderError) -> None:
        """Wait for the next attempt; raise `failure` where that would take too long."""
        bound_s = FALLBACK_WAIT_S if await self._has_fallback() else self._retries.wait_max_s
        if wait_s > bound_s or _now() + wait_s >= self._deadline:
            raise failure
        if failure.code == "upstream_rate_limited":
            # Whoever waits for the same key shouldn't come back in the same moment.
            wait_s += min(1.0, wait_s) * random.uniform(0, 0.25)
        self._announce(route)
        self._requester.retrying(self._made + 1, round(wait_s * 1000))
        await asyncio.sleep(wait_s)

    def _announce(self, route: Route) -> None:
        if route is not self._asked:
            self._asked = route
            self._requester.falling_back(route)


async def _begin(provider: Provider, request: ChatRequest, requester: Requester) -> StartedAnswer:
    """Ask, and read until the first part or delta, or the end; or until there is a cursor, which has to be kept."""
    batches = cast(Batches, provider.stream(request, requester.take))
    first: list[Delta] = []
    async for batch in batches:
        first += batch
        if any(isinstance(delta, PartStarted | PartDelta | ResponseHandle) for delta in batch):
            break
    return StartedAnswer(first, batches)


def _may_pass_on(error: ProviderError) -> bool:
    """Whether another model may do better: the fault is the provider's, and not the request's."""
    return error.code.startswith("upstream_") or error.code == "model_not_found"


def _now() -> float:
    return asyncio.get_running_loop().time()
