"""Token counts, under all the names that providers use."""

from typing import Any

import pytest

from providers.base import Usage
from providers.route import Quirks
from providers.token_counts import chat_cost, chat_usage, responses_usage


@pytest.mark.parametrize(
    ("reported", "usage"),
    [
        ({"prompt_tokens": 3, "completion_tokens": 5.0}, Usage(3, 5)),
        ({"prompt_tokens": 3, "prompt_tokens_details": {"cached_tokens": 2}}, Usage(3, 0, None, 2)),
        ({"prompt_tokens": 3, "cached_tokens": 2}, Usage(3, 0, None, 2)),
        ({"prompt_tokens": 3, "prompt_cache_hit_tokens": 0}, Usage(3, 0, None, 0)),
        ({"completion_tokens": 5, "completion_tokens_details": {"reasoning_tokens": 4}}, Usage(0, 5, 4)),
        ({"prompt_tokens": None, "completion_tokens": "many", "prompt_tokens_details": []}, Usage(0, 0)),
        ({"prompt_tokens": -3, "completion_tokens": float("inf"), "cached_tokens": float("nan")}, Usage(0, 0)),
    ],
)
def test_chat(reported: dict[str, Any], usage: Usage) -> None:
    """Cached and reasoning tokens are found under every provider's field names. An invalid count is ignored."""
    assert chat_usage(reported, Quirks()) == usage


@pytest.mark.parametrize("cost", [float("inf"), float("nan"), -1, "1", None])
def test_invalid_costs(cost: object) -> None:
    """A value that isn't a valid amount of money isn't a cost."""
    assert chat_cost({"cost": cost}, Quirks(usage_has_cost=True)) is None


def test_reasoning_excluded_from_the_output() -> None:
    """If a provider leaves the reasoning out of the output tokens, it is added to them."""
    quirks = Quirks(usage_excludes_reasoning=True)
    chat = {"completion_tokens": 5, "completion_tokens_details": {"reasoning_tokens": 4}}
    assert chat_usage(chat, quirks) == Usage(0, 9, 4)
    assert chat_usage(chat | {"prompt_tokens": 2, "total_tokens": 11}, quirks) == Usage(2, 9, 4)
    assert chat_usage({"prompt_tokens": 2, "completion_tokens": 5, "total_tokens": 11}, quirks) == Usage(2, 9, 4)
    assert chat_usage({"prompt_tokens": 2, "completion_tokens": 5, "total_tokens": 7}, quirks) == Usage(2, 5)
    assert responses_usage({"output_tokens": 5, "output_tokens_details": {"reasoning_tokens": 4}}, quirks) == Usage(
        0, 9, 4
    )
