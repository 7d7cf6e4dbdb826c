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


class Begun(NamedTuple):
    """An answer that has begun: what has come, and what is to come. Who gets it closes `batches`."""

    first: list[Delta]
    batches: Batches


class Asker(Protocol):
    """Who wants the answer, and is told what is tried for it."""

    async def question(self, route: Route) -> ChatRequest:
        """What to ask this model. Raises `ProviderError` where it can't take that."""

    def falling_back(self, route: Route) -> None:
        """This model is asked in place of the one that was wanted."""

    def requesting(self, route: Route, question: ChatRequest) -> None:
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
        self._rings = {endpoint.provider: KeyPool(endpoint, self.breakers) for endpoint in providers.endpoints()}

    async def begin(self, route: Route, asker: Asker, deadline: float, *, once: bool = False) -> Begun:
        """An answer that has begun, from the route's model or else one of its fallbacks; waits end by `deadline`.

        `once`: it goes on from something that was said, so that nothing may be tried twice. Raises `ProviderError`:
        the failure of the model that was wanted.
        """
        ring = self._rings.get(route.provider)
        if once or ring is None:
            question = await asker.question(route)
            await self.providers.load(route)
            asker.requesting(route, question)
            try:
                return await _begin(self.providers.of(route), question, asker)
            except ProviderError as error:
                asker.failed(route, error)
                raise
        return await _Asking(self.providers, self._retries, self._rings, asker, deadline).begin(route)


class _Asking:
    """What is tried for one turn."""

    def __init__(
        self, providers: Providers, retries: Retries, rings: dict[str, KeyPool], asker: Asker, deadline: float
    ) -> None:
        self._providers = providers
        self._retries = retries
        self._rings = rings
        self._asker = asker
        self._deadline = deadline
        self._fallbacks: list[Route] = []
        self._following: tuple[Route, ChatRequest] | None = None
        self._asked: Route | None = None
        """The model that clients believe is asked."""
        self._made = 0

    async def begin(self, wanted: Route) -> Begun:
        """See `RetryingClient`."""
        question = await self._asker.question(wanted)
        self._fallbacks = self._providers.fallbacks(wanted)
        self._asked = wanted
        try:
            return await self._ask(wanted, question)
        except ProviderError as error:
            if not _may_pass_on(error):
                raise
            first = error
        while (following := await self._take_following()) is not None:
            route, question = following
            try:
                return await self._ask(route, question)
            except ProviderError as error:
                log.warning("a fallback failed", model=route.id, code=error.code, detail=error.detail)
        raise first

    async def _has_following(self) -> bool:
        """Whether a model is left that can take the request."""
        while self._following is None and self._fallbacks:
            route = self._fallbacks.pop(0)
            try:
                self._following = (route, await self._asker.question(route))
            except ProviderError as error:
                log.info("a fallback can't take the request", model=route.id, code=error.code)
        return self._following is not None

    async def _take_following(self) -> tuple[Route, ChatRequest] | None:
        following = self._following if await self._has_following() else None
        self._following = None
        return following

    async def _ask(self, route: Route, question: ChatRequest) -> Begun:
        """One model, as often as it makes sense. Raises `ProviderError`."""
        await self._providers.load(route)
        ring = self._rings.get(route.provider)
        if ring is None:
            # The demo: it has no keys, and fails on purpose only.
            return await self._send(route, question)
        failure: ProviderError | None = None
        waits_left = self._retries.attempts - 1
        asks_left = waits_left + len(ring)
        announced = True
        while True:
            loan = ring.take(route)
            if isinstance(loan, CoolingDown) and failure is None and not await self._has_following():
                loan = ring.take(route, any_will_do=True)
            if isinstance(loan, CoolingDown):
                failure = failure or loan.error()
                if not loan.limited or waits_left <= 0:
                    raise failure
                waits_left -= 1
                await self._wait(route, loan.left_s, failure)
                announced = True
                continue
            if not announced:
                self._asker.retrying(self._made + 1, 0)
            announced = False
            asks_left -= 1
            began = _now()
            try:
                return await self._attempt(route, question, loan)
            except ProviderError as error:
                failure = error
            log.warning("an attempt failed", model=route.id, code=failure.code, detail=failure.detail)
            if asks_left <= 0:
                raise failure
            if failure.code in KEY_CODES:
                continue
            if waits_left <= 0 or ring.open or not await self._again(failure, _now() - began):
                raise failure
            backoff_s = min(BACKOFF_MAX_S, BACKOFF_FIRST_S * 2 ** (self._retries.attempts - 1 - waits_left))
            waits_left -= 1
            await self._wait(
                route, max(backoff_s * random.uniform(0.5, 1), (failure.retry_after_ms or 0) / 1000), failure
            )
            announced = True

    async def _attempt(self, route: Route, question: ChatRequest, loan: KeyCheckout) -> Begun:
        try:
            begun = await self._send(route, question, loan.value)
        except ProviderError as error:
            loan.failed(error)
            self._asker.failed(route, error)
            raise
        except BaseException:
            loan.abandoned()
            raise
        loan.succeeded()
        return begun

    async def _send(self, route: Route, question: ChatRequest, key: str = "") -> Begun:
        self._announce(route)
        self._made += 1
        self._asker.requesting(route, question)
        return await _begin(self._providers.of(route, key), question, self._asker)

    async def _again(self, failure: ProviderError, took_s: float) -> bool:
        """Whether the same model is worth another request."""
        if not failure.retryable or took_s > PATIENCE_S:
            return False
        return failure.code != "upstream_timeout" or not await self._has_following()

    async def _wait(self, route: Route, wait_s: float, failure: ProviderError) -> None:
        """Wait for the next attempt; raise `failure` where that would take too long."""
        bound_s = FALLBACK_WAIT_S if await self._has_following() else self._retries.wait_max_s
        if wait_s > bound_s or _now() + wait_s >= self._deadline:
            raise failure
        if failure.code == "upstream_rate_limited":
            # Whoever waits for the same key shouldn't come back in the same moment.
            wait_s += min(1.0, wait_s) * random.uniform(0, 0.25)
        self._announce(route)
        self._asker.retrying(self._made + 1, round(wait_s * 1000))
        await asyncio.sleep(wait_s)

    def _announce(self, route: Route) -> None:
        if route is not self._asked:
            self._asked = route
            self._asker.falling_back(route)


async def _begin(provider: Provider, question: ChatRequest, asker: Asker) -> Begun:
    """Ask, and read until the first part or delta, or the end; or until there is a cursor, which has to be kept."""
    batches = cast(Batches, provider.stream(question, asker.take))
    first: list[Delta] = []
    async for batch in batches:
        first += batch
        if any(isinstance(delta, PartStarted | PartDelta | ResponseHandle) for delta in batch):
            break
    return Begun(first, batches)


def _may_pass_on(error: ProviderError) -> bool:
    """Whether another model may do better: the fault is the provider's, and not the request's."""
    return error.code.startswith("upstream_") or error.code == "model_not_found"


def _now() -> float:
    return asyncio.get_running_loop().time()
