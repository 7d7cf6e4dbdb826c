"""Whatever a request failed with, a client is told in a code of the table (law 13)."""

from __future__ import annotations

import pytest

from gateway.limits.fair_queue import QueueFull
from gateway.protocol.errors import ApiError, ErrorBody, ErrorCode
from gateway.turns.error_mapping import as_api_error
from providers.base import ProviderError
from store.records import Busy, Conflict, Limited, NotFound, StoreError


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
        (Conflict("secret words"), "conflict"),
        (RuntimeError("secret words"), "internal"),
    ],
    ids=repr,
)
def test_each_failure_has_its_code(error: Exception, code: ErrorCode) -> None:
    """And a sentence of ours, with none of its own words where those may be anything."""
    said = as_api_error(error)
    assert said.code == code
    assert "secret" not in said.body.message


def test_what_is_not_there_is_named() -> None:
    """By the request's field."""
    assert as_api_error(NotFound("parent")).body.path == "parent"
    assert as_api_error(Limited("live", 5)).body.retry_after_ms == 5


def test_a_provider_error_keeps_its_code_and_loses_its_detail() -> None:
    """Law 13: the provider's own words stay behind."""
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
