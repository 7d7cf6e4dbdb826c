"""Every provider's finish reasons are mapped, and no failure or filter is mapped to a normal end."""

from __future__ import annotations

import pytest

from providers.errors.finish_reasons import map_finish_reason


@pytest.mark.parametrize(
    ("reasons", "expected"),
    [
        ("stop STOP end_turn stop_sequence eos eos_token complete something_new FINISH_REASON_UNSPECIFIED", "stop"),
        ("length MAX_TOKENS max_tokens model_length model_context_window_exceeded pause_turn repetition", "length"),
        ("tool_calls tool_use function_call TOOL_CALL", "tool_calls"),
        (
            "content_filter sensitive SAFETY RECITATION BLOCKLIST PROHIBITED_CONTENT SPII IMAGE_SAFETY guardrail_intervened",
            "content_filter",
        ),
        ("refusal refused", "refusal"),
        (
            "abort aborted error network_error insufficient_system_resource cancelled timeout OTHER MALFORMED_FUNCTION_CALL"
            " function_call_filter:MALFORMED_FUNCTION_CALL UNEXPECTED_TOOL_CALL overloaded rate_limit_exceeded",
            None,
        ),
    ],
)
def test_finish_reasons(reasons: str, expected: str | None) -> None:
    """The finish reasons of OpenAI, Anthropic, Google, GLM, DeepSeek and inference engines. `None` stands for a failure."""
    assert {reason: map_finish_reason(reason) for reason in reasons.split()} == dict.fromkeys(reasons.split(), expected)
