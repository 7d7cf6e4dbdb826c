"""Convert an exception to the error that the client gets. The details are only logged (law 13)."""

from __future__ import annotations

import structlog

from gateway.limits.fair_queue import QueueFull
from gateway.limits.limits import limit_error
from gateway.protocol.errors import ApiError, not_found
from providers.base import ProviderError
from providers.errors.tracebacks import drop_tracebacks
from store.errors import Busy, Conflict, Limited, NotFound, StoreError

log = structlog.stdlib.get_logger("turnwire.session")

RETRY_QUEUE_FULL_AFTER_MS = 100


def as_api_error(error: Exception, event: str = "request failed") -> ApiError:
    """Return the `ApiError` to send for `error`. Log store failures, and unexpected exceptions as `event`.

    The tracebacks are dropped, see `drop_tracebacks`.
    """
    api_error = _map(error, event)
    drop_tracebacks(error)
    return api_error


def _map(error: Exception, event: str) -> ApiError:
    if isinstance(error, ApiError):
        return error
    if isinstance(error, ProviderError):
        # The provider's raw error is for the log only.
        return ApiError(error.code, error.message, retryable=error.retryable, retry_after_ms=error.retry_after_ms)
    if isinstance(error, NotFound):
        return not_found(error.field)
    if isinstance(error, Conflict):
        return ApiError("conflict", path="turn")
    if isinstance(error, Busy):
        return ApiError("busy", path="conversation")
    if isinstance(error, Limited):
        return limit_error(error)
    if isinstance(error, QueueFull):
        message = "Too many requests of this user are waiting for the store. Wait for some of the answers."
        return ApiError("rate_limited", message, retry_after_ms=RETRY_QUEUE_FULL_AFTER_MS)
    if isinstance(error, StoreError):
        log.warning("store failed", error=str(error))
        return ApiError("store_unavailable")
    log.error(event, exc_info=error)
    return ApiError("internal")
