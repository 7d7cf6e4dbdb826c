"""Every provider's finish reasons are mapped, and no failure or filter is mapped to a normal end."""

from __future__ import annotations

import pytest

from providers.errors.finish_reasons import map_finish_reason


@pytest.mark.parametrize(
    ("reasons", "expected"),
    [
        (
            "stop STOP end_turn stop_sequence eos eos_token complete COMPLETE completed normal FINISH endoftext eosFound"
            " FINISH_REASON_STOP FinishReason.STOP REASON_STOP stop_string stopStringFound ALTERNATIVE_STATUS_FINAL",
            "stop",
        ),
        (
            "length MAX_TOKENS max_tokens model_length model_context_window_exceeded pause_turn repetition compaction"
            " REASON_MAX_LEN token_limit contextLengthReached ALTERNATIVE_STATUS_TRUNCATED_FINAL",
            "length",
        ),
        ("tool_calls tool_use function_call TOOL_CALL toolCalls tool-calls", "tool_calls"),
        (
            "content_filter sensitive SAFETY RECITATION BLOCKLIST PROHIBITED_CONTENT SPII IMAGE_SAFETY guardrail_intervened"
            " LANGUAGE ERROR_TOXIC_BLOCKED content-filter blacklist IMAGE_RECITATION",
            "content_filter",
        ),
        ("refusal refused", "refusal"),
        (
            "abort aborted error network_error insufficient_system_resource cancelled timeout OTHER MALFORMED_FUNCTION_CALL"
            " function_call_filter:MALFORMED_FUNCTION_CALL UNEXPECTED_TOOL_CALL overloaded rate_limit_exceeded"
            " TOO_MANY_TOOL_CALLS MISSING_THOUGHT_SIGNATURE NO_IMAGE IMAGE_OTHER USER_CANCEL time_limit_error",
            "failed",
        ),
        (
            "something_new null None nil undefined unset unknown UNSPECIFIED FINISH_REASON_UNSPECIFIED NaN false 0 - n/a"
            " in_progress running not_finished generating pending continue ALTERNATIVE_STATUS_PARTIAL incomplete",
            None,
        ),
    ],
)
def test_finish_reasons(reasons: str, expected: str | None) -> None:
    """The finish reasons of OpenAI, Anthropic, Google, GLM, DeepSeek, Cohere, Bedrock, xAI and inference engines.

    `None` stands for a word that doesn't end an answer.
    """
    assert map_finish_reason("") is None
    assert {reason: map_finish_reason(reason) for reason in reasons.split()} == dict.fromkeys(reasons.split(), expected)
