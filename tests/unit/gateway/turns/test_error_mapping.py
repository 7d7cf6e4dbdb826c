"""Each exception of a request is mapped to a code of the table (law 13)."""

from __future__ import annotations

import pytest

from gateway.limits.fair_queue import QueueFull
from gateway.protocol.errors import ApiError, ErrorBody, ErrorCode
from gateway.turns.error_mapping import as_api_error
from providers.base import ProviderError
from store.errors import Busy, Conflict, Limited, NotFound, StoreError


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ApiError("busy"), "busy"),
        (ProviderError("unsupported", "It can't."), "unsupported"),
        (NotFound("parent"), "not_found"),
        (Limited("live", 5), "rate_limited"),
        (Limited("stored_bytes"), "budget_exceeded"),
        (QueueFull("too many"), "rate_limited"),
        (StoreError("secret words"), "store_unavailable"),
        (Busy("secret words"), "busy"),
        (Conflict(), "conflict"),
        (RuntimeError("secret words"), "internal"),
    ],
    ids=repr,
)
def test_each_failure_has_its_code(error: Exception, code: ErrorCode) -> None:
    """The text of a store error or of an unexpected exception may contain anything, so the message doesn't show it."""
    mapped = as_api_error(error)
    assert mapped.code == code
    assert "secret" not in mapped.body.message


def test_an_error_has_the_field_or_the_delay() -> None:
    """The error for a `NotFound` names the field of the request. The error for a `Limited` has its delay."""
    assert as_api_error(NotFound("parent")).body.path == "parent"
    assert as_api_error(Limited("live", 5)).body.retry_after_ms == 5


def test_a_provider_error_keeps_its_code_and_loses_its_detail() -> None:
    """Law 13: the provider's own text isn't sent to the client."""
    failed = ProviderError(
        "upstream_rate_limited",
        "Slow down.",
        retryable=True,
        retry_after_ms=70,
        detail="sk-secret at api.example",
    )
    assert as_api_error(failed).body == ErrorBody("upstream_rate_limited", "Slow down.", True, 70)
    refused = as_api_error(ProviderError("upstream_error", "No.", retryable=False))
    assert not refused.body.retryable
