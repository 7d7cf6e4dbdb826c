"""The attempts of one turn: requests to one model after another, with every key, until an answer starts."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from typing import Final

import structlog

from providers.base import ChatRequest, ProviderError
from providers.clients import ProviderClients
from providers.errors.tracebacks import drop_tracebacks
from providers.retry.first_content import Interrupted, Requester, pass_answer
from providers.retry.key_pool import KEY_CODES, CoolingDown, KeyCheckout, KeyPool
from providers.route import Route

log = structlog.stdlib.get_logger("turnwire.provider")

BACKOFF_FIRST_S: Final = 0.5
BACKOFF_MAX_S: Final = 8.0
FALLBACK_WAIT_S: Final = 5.0
"""The longest wait for the requested model if there is a fallback."""
SLOW_FAILURE_S: Final = 30.0
"""A request that took longer than this to fail isn't repeated to the same model."""


class Attempts:
    """The attempts of one turn. See `Retries` for `attempts_max` and `wait_max_s`, and `RetryingClient.answer` for `deadline`."""

    def __init__(
        self,
        providers: ProviderClients,
        pools: dict[str, KeyPool],
        requester: Requester,
        deadline: float,
        *,
        attempts_max: int,
        wait_max_s: float,
    ) -> None:
        self._providers = providers
        self._attempts_max = attempts_max
        self._wait_max_s = wait_max_s
        self._pools = pools
        self._requester = requester
        self._deadline = deadline
        self._fallbacks: list[Route] = []
        self._next_fallback: tuple[Route, ChatRequest] | None = None
        self._announced: Route | None = None
        """The route that clients were last told of, at first the requested one."""
        self._request_count = 0

    async def answer(self, route: Route, fallbacks: list[Route] | None = None) -> None:
        """Request the answer from `route`, then from each of `fallbacks`, by default the fallbacks of `route`.

        Raise `ProviderError` with the failure of `route`, or `Interrupted` if an answer breaks off after its start.
        """
        request = await self._requester.build_request(route)
        self._fallbacks = self._providers.fallbacks(route) if fallbacks is None else list(fallbacks)
        self._announced = route
        try:
            await self._request_model(route, request)
            return
        except ProviderError as error:
            if not may_fall_back(error):
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
        retries_left = self._attempts_max - 1
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
            backoff_s = min(BACKOFF_MAX_S, BACKOFF_FIRST_S * 2 ** (self._attempts_max - 1 - retries_left))
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
        except Interrupted as interrupted:
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
            await pass_answer(route, self._providers.client(route, key), request, self._requester, on_start)
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
        wait_max_s = FALLBACK_WAIT_S if await self._has_fallback() else self._wait_max_s
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


def may_fall_back(error: ProviderError) -> bool:
    """Return whether to try a fallback. It can help only if the provider caused `error`, not the request."""
    return error.code.startswith("upstream_") or error.code == "model_not_found"


def _now() -> float:
    return asyncio.get_running_loop().time()
