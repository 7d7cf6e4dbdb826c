"""Tests of the table of error codes against the protocol's list, and of `ApiError`."""

from __future__ import annotations

from typing import get_args

import pytest

from gateway.protocol.errors import CODES, MESSAGE_CHARS_MAX, ApiError, CloseCode, ErrorBody
from providers.base import ErrorCode as ProviderErrorCode

# Copied by hand from "Error codes" in docs/protocol.md.
PROTOCOL_CODES = """
    invalid_frame invalid_request unauthenticated forbidden forbidden_origin not_found conflict gone busy too_large rate_limited
    budget_exceeded model_not_found unsupported context_length_exceeded content_filtered upstream_auth
    upstream_rate_limited upstream_overloaded upstream_timeout upstream_error upstream_incomplete owner_lost
    store_unavailable shutting_down internal
""".split()


def test_the_table_has_the_codes_of_the_protocol_and_no_other() -> None:
    """The table contains every code of the protocol and no other."""
    assert set(CODES) == set(PROTOCOL_CODES)
    assert len(PROTOCOL_CODES) == 26


def test_every_provider_code_is_in_the_table() -> None:
    """Each error code of a provider has a row in the table."""
    codes = set(get_args(ProviderErrorCode))
    assert codes
    assert set(CODES) >= codes


@pytest.mark.parametrize("code", list(CODES))
def test_a_code_has_a_message_and_an_http_status(code: str) -> None:
    """Law 13: each code has a readable sentence, a retryable flag, and the status of an HTTP error."""
    facts = CODES[code]  # type: ignore[index]
    assert facts.message.endswith(".")
    assert facts.message[0].isupper()
    assert 400 <= facts.http_status < 600
    assert facts.http_status not in {400, 401, 403, 404, 410, 413} or not facts.retryable


def test_the_close_codes_are_those_of_the_protocol() -> None:
    """44xx: the client must change something before it reconnects. 45xx: it may reconnect.

    The others are standard codes.
    """
    assert {int(code) for code in CloseCode} == {
        *(1000, 1003, 1007, 1009, 1011),
        *(4400, 4401, 4403, 4408, 4409, 4501, 4502, 4503),
    }


def test_an_error_takes_its_defaults_from_the_table() -> None:
    """An `ApiError` with only a code has the message and the retryable flag of its table row."""
    error = ApiError("busy")
    assert error.code == "busy"
    assert error.body == ErrorBody("busy", CODES["busy"].message, True)
    assert str(error) == f"busy: {CODES['busy'].message}"


def test_an_errors_fields_can_be_set() -> None:
    """The message, the retryable flag and the other fields can be set. Message and path are truncated."""
    error = ApiError("gone", "x" * 9999, retryable=True, retry_after_ms=5, path="p" * 9999, stored_message="m_1")
    assert error.body == ErrorBody("gone", "x" * 500, True, 5, "p" * 200, "m_1")


def test_an_error_message_has_no_control_characters() -> None:
    """A message may quote a client or a provider. It is one line of bounded length."""
    error = ApiError("invalid_request", "There is no type \x1b[2J\u202e\n.")
    assert error.body.message == r"There is no type \x1b[2J\u202e\n."
    assert len(ApiError("invalid_request", "\x1b" * 10_000).body.message) == MESSAGE_CHARS_MAX
