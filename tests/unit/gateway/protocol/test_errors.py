"""The table of codes against the protocol's list, and the exception that carries them."""

from __future__ import annotations

from typing import get_args

import pytest

from gateway.protocol.errors import CODES, MESSAGE_CHARS_MAX, ApiError, CloseCode, ErrorBody
from providers.base import ErrorCode as ProviderErrorCode

# The list of the protocol, chapter 6, typed again by hand.
PROTOCOL_CODES = """
    invalid_frame invalid_request unauthenticated forbidden not_found conflict gone busy too_large rate_limited
    budget_exceeded model_not_found unsupported context_length_exceeded content_filtered upstream_auth
    upstream_rate_limited upstream_overloaded upstream_timeout upstream_error upstream_incomplete owner_lost
    store_unavailable shutting_down internal
""".split()


def test_the_table_has_the_codes_of_the_protocol_and_no_other() -> None:
    """Every code of the protocol is in the table, and nothing else is."""
    assert set(CODES) == set(PROTOCOL_CODES)
    assert len(PROTOCOL_CODES) == 25


def test_every_provider_code_is_a_code_of_the_wire() -> None:
    """What a provider may fail with has its row."""
    codes = set(get_args(ProviderErrorCode))
    assert codes
    assert set(CODES) >= codes


@pytest.mark.parametrize("code", list(CODES))
def test_a_code_has_a_sentence_for_a_person_and_a_status(code: str) -> None:
    """Law 13: a sentence, whether to try again, and an HTTP status of an error."""
    facts = CODES[code]  # type: ignore[index]
    assert facts.message.endswith(".")
    assert facts.message[0].isupper()
    assert 400 <= facts.http_status < 600
    assert facts.http_status not in {400, 401, 403, 404, 410, 413} or not facts.retryable


def test_the_close_codes_are_those_of_the_protocol() -> None:
    """44xx: don't come back unchanged. 45xx: come back. Else the standard ones."""
    assert {int(code) for code in CloseCode} == {
        *(1000, 1003, 1007, 1009, 1011),
        *(4400, 4401, 4403, 4408, 4409, 4501, 4502, 4503),
    }


def test_an_error_takes_its_facts_from_the_table() -> None:
    """Without more an `ApiError` is its table row."""
    error = ApiError("busy")
    assert error.code == "busy"
    assert error.body == ErrorBody("busy", CODES["busy"].message, True)
    assert str(error) == f"busy: {CODES['busy'].message}"


def test_an_error_may_say_more() -> None:
    """Message, retryable and the rest can be given; message and path are bounded."""
    error = ApiError("gone", "x" * 9999, retryable=True, retry_after_ms=5, path="p" * 9999, stored_message="m_1")
    assert error.body == ErrorBody("gone", "x" * 500, True, 5, "p" * 200, "m_1")


def test_an_error_says_nothing_that_a_terminal_obeys() -> None:
    """It may quote what a client or a provider said; it is one line, and as long as it may be."""
    error = ApiError("invalid_request", "There is no type \x1b[2J\u202e\n.")
    assert error.body.message == r"There is no type \x1b[2J\u202e\n."
    assert len(ApiError("invalid_request", "\x1b" * 10_000).body.message) == MESSAGE_CHARS_MAX
