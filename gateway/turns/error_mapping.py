"""Map any exception of a failed request to the error that the client gets; the log has the details (law 13)."""

from __future__ import annotations

import structlog

from gateway.limits.fair_queue import QueueFull
from gateway.limits.limits import queue_full_error, limit_error
from gateway.protocol.errors import ApiError, not_found
from providers.base import ProviderError
from store.records import Limited, NotFound, StoreError

log = structlog.stdlib.get_logger("turnwire.session")


def as_api_error(error: Exception) -> ApiError:
    """Return the error of the error table for `error`. Log store failures and unexpected exceptions."""
    if isinstance(error, ApiError):
        return error
    if isinstance(error, ProviderError):
        return ApiError.from_provider(error)
    if isinstance(error, NotFound):
        return not_found(error.what)
    if isinstance(error, Limited):
        return limit_error(error)
    if isinstance(error, QueueFull):
        return queue_full_error()
    if isinstance(error, StoreError):
        log.warning("store failed", error=str(error))
        return ApiError("store_unavailable")
    log.error("request failed", exc_info=error)
    return ApiError("internal")
