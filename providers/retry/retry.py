"""Request an answer, with retries, other keys and fallback models.

An answer that has started isn't repeated. If it breaks off, it is continued at most once. Its batches are passed on
unchanged as they arrive.
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
from providers.continuation import CONTINUED_CODES
from providers.errors.tracebacks import drop_tracebacks
from providers.retry.breaker import Breakers
from providers.retry.continuing import Continuer, ContinuingRequester
from providers.retry.key_pool import KEY_CODES, CoolingDown, KeyCheckout, KeyPool
from providers.route import Route

log = structlog.stdlib.get_logger("turnwire.provider")

BACKOFF_FIRST_S: Final = 0.5
BACKOFF_MAX_S: Final = 8.0
FALLBACK_WAIT_S: Final = 5.0
"""The longest wait for the requested model if there is a fallback."""
SLOW_FAILURE_S: Final = 30.0
"""A request that took longer than this to fail isn't repeated to the same model."""


class Retries(Struct, frozen=True):
    """The retry limits. `attempts` is the maximum number of requests to one model, without those with another key."""

    attempts: int = 3
    wait_max_s: float = 60.0
    """The longest wait before a retry. Longer waits, including a provider's Retry-After, are left to the client."""
    breaker_failures: int = 5
    breaker_open_s: float = 30.0


class Requester(DeltaSink, Protocol):
    """The receiver of an answer. It also builds the request for each model. The `on_` methods report the attempts."""

    async def build_request(self, route: Route) -> ChatRequest:
        """Return the request for this route's model. Raise `ProviderError` if the model can't take it."""

    def on_fallback(self, route: Route) -> None:
        """Called when this route's model is used instead of the requested one."""

    def on_request(self, route: Route, request: ChatRequest) -> None:
        """Called before a request is sent."""

    def on_failure(self, route: Route, error: ProviderError) -> None:
        """Called when a request has failed before its answer started."""

    def on_retry(self, attempt: int, delay_ms: int) -> None:
        """Called before attempt number `attempt`, which is made in `delay_ms`."""

    def on_start(self) -> None:
        """Called when the answer starts, before its first batch. After this it isn't retried."""


class _FirstContent:
    """A sink that holds an answer back until its first content: a new part, more of a part, or a response handle.

    Until then the answer may be retried.
    """

    def __init__(self, requester: Requester, on_start: Callable[[], None]) -> None:
        self.started = False
        self._requester = requester
        self._on_start = on_start
        self._held: list[Delta] = []

    def offer(self, batch: list[Delta]) -> bool:
        """Pass `batch` on if the answer has started. Otherwise return False. See `DeltaSink`."""
        return self.started and self._requester.offer(batch)

    async def put(self, batch: list[Delta]) -> None:
        """Pass `batch` on, or hold it if the answer has no content yet. See `DeltaSink`."""
        if not self.started:
            self._held += batch
            if not any(isinstance(delta, PartStarted | PartDelta | ResponseHandle) for delta in batch):
                return
            batch = self._start()
        await self._requester.put(batch)

    async def end(self) -> None:
        """Pass on the held batches if the answer ended without content."""
        if not self.started:
            await self._requester.put(self._start())

    def _start(self) -> list[Delta]:
        self.started = True
        self._on_start()
        self._requester.on_start()
        held, self._held = self._held, []
        return held


class _Interrupted(Exception):
    """The failure of an answer of `route` that had started. It must not be retried."""

    def __init__(self, route: Route, error: ProviderError) -> None:
        super().__init__(str(error))
        self.route = route
        self.error = error


class RetryingClient:
    """A client that requests answers with retries. It remembers failing keys and providers between turns."""

    def __init__(self, providers: Providers, retries: Retries) -> None:
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
                    await _answer(route, self.providers.client(route), request, requester)
                except ProviderError as error:
                    requester.on_failure(route, error)
                    raise
            else:
                await _Attempts(self.providers, self._retries, self._pools, requester, deadline).answer(route)
        except _Interrupted as interrupted:
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
        while routes and _now() < deadline:
            first = routes.pop(0)
            try:
                await continuer.build_continuation(first)
            except ProviderError as refused:
                log.info("model can't continue the answer", model=first.id, code=refused.code)
                continue
            requester = ContinuingRequester(continuer, error)
            attempts = _Attempts(self.providers, self._retries, self._pools, requester, deadline)
            try:
                await attempts.answer(first, routes)
                return True
            except _Interrupted as interrupted:
                raise interrupted.error from interrupted
            except ProviderError as failure:
                drop_tracebacks(failure)
                log.warning("answer can't be continued", model=first.id, code=failure.code, detail=failure.detail)
                if _may_fall_back(failure):
                    return False  # the others were asked too
        return False


class _Attempts:
    """The attempts of one turn."""

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
        self._announced: Route | None = None
        """The route that clients were last told of, at first the requested one."""
        self._request_count = 0

    async def answer(self, route: Route, fallbacks: list[Route] | None = None) -> None:
        """Request the answer from `route`, then from `fallbacks`, or else from its own ones.

        Raise `ProviderError` with the first failure.
        """
        request = await self._requester.build_request(route)
        self._fallbacks = self._providers.fallbacks(route) if fallbacks is None else list(fallbacks)
        self._announced = route
        try:
            await self._request_model(route, request)
            return
        except ProviderError as error:
            if not _may_fall_back(error):
                raise
            drop_tracebacks(error)
            first = error
        while (fallback := await self._pop_fallback()) is not None:
            route, request = fallback
            try:
                await self._request_model(route, request)
                return
            except ProviderError as error:
                drop_tracebacks(error)
                log.warning("fallback failed", model=route.id, code=error.code, detail=error.detail)
        raise first

    async def _has_fallback(self) -> bool:
        """Return whether there is a fallback left that can take the request."""
        while self._next_fallback is None and self._fallbacks:
            route = self._fallbacks.pop(0)
            try:
                self._next_fallback = (route, await self._requester.build_request(route))
            except ProviderError as error:
                log.info("fallback skipped: it can't take the request", model=route.id, code=error.code)
        return self._next_fallback is not None

    async def _pop_fallback(self) -> tuple[Route, ChatRequest] | None:
        fallback = self._next_fallback if await self._has_fallback() else None
        self._next_fallback = None
        return fallback

    async def _request_model(self, route: Route, request: ChatRequest) -> None:
        """Request the answer from one model, with retries. Raise `ProviderError` if they are used up or pointless."""
        await self._providers.load(route)
        pool = self._pools.get(route.provider)
        if pool is None:
            # The demo model has no keys and only fails on purpose, so it isn't retried.
            await self._send(route, request)
            return
        failure: ProviderError | None = None
        retries_left = self._retries.attempts - 1
        requests_left = retries_left + len(pool)
        is_retry_announced = True  # the first request isn't a retry
        while True:
            checkout = pool.check_out(route)
            if isinstance(checkout, CoolingDown) and failure is None and not await self._has_fallback():
                checkout = pool.check_out(route, allow_rejected=True)
            if isinstance(checkout, CoolingDown):
                failure = failure or checkout.error()
                if not checkout.is_rate_limited or retries_left <= 0:
                    raise failure
                retries_left -= 1
                await self._wait(route, checkout.wait_s, failure)
                is_retry_announced = True
                continue
            if not is_retry_announced:
                self._requester.on_retry(self._request_count + 1, 0)
            is_retry_announced = False
            requests_left -= 1
            start_s = _now()
            try:
                await self._attempt(route, request, checkout)
                return
            except ProviderError as error:
                drop_tracebacks(error)
                failure = error
            log.warning("attempt failed", model=route.id, code=failure.code, detail=failure.detail)
            if requests_left <= 0:
                raise failure
            if failure.code in KEY_CODES:
                continue
            if retries_left <= 0 or pool.is_open or not await self._should_retry(failure, _now() - start_s):
                raise failure
            backoff_s = min(BACKOFF_MAX_S, BACKOFF_FIRST_S * 2 ** (self._retries.attempts - 1 - retries_left))
            retries_left -= 1
            await self._wait(
                route, max(backoff_s * random.uniform(0.5, 1), (failure.retry_after_ms or 0) / 1000), failure
            )
            is_retry_announced = True

    async def _attempt(self, route: Route, request: ChatRequest, checkout: KeyCheckout) -> None:
        try:
            await self._send(route, request, checkout.value, checkout.record_success)
        except ProviderError as error:
            checkout.record_failure(error)
            raise
        except _Interrupted as interrupted:
            checkout.record_interruption(interrupted.error)
            raise
        except BaseException:
            checkout.release()
            raise

    async def _send(
        self, route: Route, request: ChatRequest, key: str = "", on_start: Callable[[], None] = lambda: None
    ) -> None:
        self._announce(route)
        self._request_count += 1
        self._requester.on_request(route, request)
        try:
            await _answer(route, self._providers.client(route, key), request, self._requester, on_start)
        except ProviderError as error:
            self._requester.on_failure(route, error)
            raise

    async def _should_retry(self, failure: ProviderError, duration_s: float) -> bool:
        """Return whether to retry the same model after a request that failed with `failure` and took `duration_s`."""
        if not failure.retryable or duration_s > SLOW_FAILURE_S:
            return False
        return failure.code != "upstream_timeout" or not await self._has_fallback()

    async def _wait(self, route: Route, wait_s: float, failure: ProviderError) -> None:
        """Wait for `wait_s` before the next attempt. Raise `failure` if that would take too long."""
        wait_max_s = FALLBACK_WAIT_S if await self._has_fallback() else self._retries.wait_max_s
        if wait_s > wait_max_s or _now() + wait_s >= self._deadline:
            raise failure
        if failure.code == "upstream_rate_limited":
            # Jitter: the turns that wait for the same key shouldn't retry at the same moment.
            wait_s += min(1.0, wait_s) * random.uniform(0, 0.25)
        self._announce(route)
        self._requester.on_retry(self._request_count + 1, round(wait_s * 1000))
        await asyncio.sleep(wait_s)

    def _announce(self, route: Route) -> None:
        if route is not self._announced:
            self._announced = route
            self._requester.on_fallback(route)


async def _answer(
    route: Route,
    provider: Provider,
    request: ChatRequest,
    requester: Requester,
    on_start: Callable[[], None] = lambda: None,
) -> None:
    """Pass the whole answer to `requester`. Raise `ProviderError` before it starts and `_Interrupted` after that."""
    sink = _FirstContent(requester, on_start)
    try:
        await provider.answer(request, sink)
    except ProviderError as error:
        if sink.started:
            raise _Interrupted(route, error) from error
        raise
    await sink.end()


def _may_fall_back(error: ProviderError) -> bool:
    """Return whether to try a fallback. It can help only if the provider caused `error`, not the request."""
    return error.code.startswith("upstream_") or error.code == "model_not_found"


def _now() -> float:
    return asyncio.get_running_loop().time()
