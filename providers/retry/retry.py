"""Getting an answer to begin: retries, another key, another model. What has begun is nobody's to repeat.

Nothing here touches a token: the answer that has begun is handed out as its provider streams it.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from typing import Final, Protocol

import structlog
from msgspec import Struct

from providers.base import (
    ChatRequest,
    Delta,
    DeltaSink,
    PartDelta,
    PartStarted,
    Provider,
    ProviderError,
    ResponseHandle,
)
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


class Retries(Struct, frozen=True):
    """How hard to try. `attempts`: how often one model is asked, not counting those with another key."""

    attempts: int = 3
    wait_max_s: float = 60.0
    """A longer wait, a provider's Retry-After too, is left to the client."""
    breaker_failures: int = 5
    breaker_open_s: float = 30.0


class Requester(DeltaSink, Protocol):
    """The party that wants the answer: it builds the request for each model, and is told what is tried."""

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

    def started(self) -> None:
        """The answer begins: its first batch follows, and it isn't tried again."""


class _FirstContent:
    """Passes an answer on from its first part, delta or response handle; what came before goes with that.

    Until then the answer may be tried again.
    """

    def __init__(self, requester: Requester, on_start: Callable[[], None]) -> None:
        self.started = False
        self._requester = requester
        self._on_start = on_start
        self._held: list[Delta] = []

    def take(self, batch: list[Delta]) -> bool:
        """See `DeltaSink`."""
        return self.started and self._requester.take(batch)

    async def put(self, batch: list[Delta]) -> None:
        """See `DeltaSink`."""
        if not self.started:
            self._held += batch
            if not any(isinstance(delta, PartStarted | PartDelta | ResponseHandle) for delta in batch):
                return
            batch = self._start()
        await self._requester.put(batch)

    async def end(self) -> None:
        """Pass on what is held of an answer without content."""
        if not self.started:
            await self._requester.put(self._start())

    def _start(self) -> list[Delta]:
        self.started = True
        self._on_start()
        self._requester.started()
        held, self._held = self._held, []
        return held


class _BrokenOff(Exception):
    """An answer that had started has failed: nobody may try it again."""

    def __init__(self, error: ProviderError) -> None:
        super().__init__(str(error))
        self.error = error


class RetryingClient:
    """Asks for answers, and remembers between turns what fails."""

    def __init__(self, providers: Providers, retries: Retries) -> None:
        self.breakers = Breakers(retries.breaker_failures, retries.breaker_open_s)
        self.providers = providers
        self._retries = retries
        self._pools = {endpoint.provider: KeyPool(endpoint, self.breakers) for endpoint in providers.endpoints()}

    async def answer(self, route: Route, requester: Requester, deadline: float, *, once: bool = False) -> None:
        """Give `requester` an answer of the route's model, or else of one of its fallbacks; waits end by `deadline`.

        `once`: it continues something that was said, so that nothing may be tried twice. Raises `ProviderError`: the
        failure of the model that was wanted, or of the answer that had started.
        """
        pool = self._pools.get(route.provider)
        try:
            if once or pool is None:
                request = await requester.build_request(route)
                await self.providers.load(route)
                requester.requesting(route, request)
                try:
                    await _answer(self.providers.of(route), request, requester)
                except ProviderError as error:
                    requester.failed(route, error)
                    raise
            else:
                await _Attempts(self.providers, self._retries, self._pools, requester, deadline).answer(route)
        except _BrokenOff as broken:
            raise broken.error from broken


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

    async def answer(self, wanted: Route) -> None:
        """See `RetryingClient`."""
        request = await self._requester.build_request(wanted)
        self._fallbacks = self._providers.fallbacks(wanted)
        self._asked = wanted
        try:
            await self._ask(wanted, request)
            return
        except ProviderError as error:
            if not _may_pass_on(error):
                raise
            first = error
        while (fallback := await self._take_fallback()) is not None:
            route, request = fallback
            try:
                await self._ask(route, request)
                return
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

    async def _ask(self, route: Route, request: ChatRequest) -> None:
        """One model, as often as it makes sense. Raises `ProviderError`."""
        await self._providers.load(route)
        pool = self._pools.get(route.provider)
        if pool is None:
            # The demo: it has no keys, and fails on purpose only.
            await self._send(route, request)
            return
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
                await self._attempt(route, request, loan)
                return
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

    async def _attempt(self, route: Route, request: ChatRequest, loan: KeyCheckout) -> None:
        try:
            await self._send(route, request, loan.value, loan.succeeded)
        except ProviderError as error:
            loan.failed(error)
            self._requester.failed(route, error)
            raise
        except _BrokenOff:
            raise
        except BaseException:
            loan.abandoned()
            raise

    async def _send(
        self, route: Route, request: ChatRequest, key: str = "", on_start: Callable[[], None] = lambda: None
    ) -> None:
        self._announce(route)
        self._made += 1
        self._requester.requesting(route, request)
        await _answer(self._providers.of(route, key), request, self._requester, on_start)

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


async def _answer(
    provider: Provider, request: ChatRequest, requester: Requester, on_start: Callable[[], None] = lambda: None
) -> None:
    """Give `requester` the whole answer. Raises `ProviderError` before it starts, and `_BrokenOff` after that."""
    sink = _FirstContent(requester, on_start)
    try:
        await provider.answer(request, sink)
    except ProviderError as error:
        if sink.started:
            raise _BrokenOff(error) from error
        raise
    await sink.end()


def _may_pass_on(error: ProviderError) -> bool:
    """Whether another model may do better: the fault is the provider's, and not the request's."""
    return error.code.startswith("upstream_") or error.code == "model_not_found"


def _now() -> float:
    return asyncio.get_running_loop().time()
