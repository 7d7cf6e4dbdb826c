"""Token counts, under all the names that providers use."""

import random
from decimal import Decimal
from typing import Any

import pytest

from providers.base import Usage, UsageReported
from providers.quirks import Quirks
from providers.token_counts import UsageReports, chat_cost, read_counts, usage_of

INVALID_COUNTS: tuple[Any, ...] = (None, 0, "", "many", -1, 10**18, "1" * 400, float("nan"), True, [], {})


def merged(*reports: Any, quirks: Quirks | None = None) -> UsageReported | None:
    """Return the usage of an answer with these reports."""
    usage = UsageReports(quirks or Quirks())
    for report in reports:
        usage.add(report)
    return usage.take()


@pytest.mark.parametrize(
    ("reported", "usage"),
    [
        ({"prompt_tokens": 3, "completion_tokens": 5.0}, Usage(3, 5)),
        ({"prompt_tokens": 3, "prompt_tokens_details": {"cached_tokens": 2}}, Usage(3, 0, None, 2)),
        ({"prompt_tokens": 3, "cached_tokens": 2}, Usage(3, 0, None, 2)),
        ({"prompt_tokens": 3, "prompt_cache_hit_tokens": 0}, Usage(3, 0, None, 0)),
        ({"completion_tokens": 5, "completion_tokens_details": {"reasoning_tokens": 4}}, Usage(0, 5, 4)),
        ({"prompt_tokens": None, "completion_tokens": "many", "prompt_tokens_details": []}, Usage(0, 0)),
        ({"prompt_tokens": "3", "completion_tokens": " 5.0 "}, Usage(3, 5)),
        ({"prompt_tokens": True, "completion_tokens": 10**18}, Usage(0, 0)),
        ({"input_tokens": 3, "output_tokens": 5, "input_tokens_details": {"cached_tokens": 2}}, Usage(3, 5, None, 2)),
        ({"prompt_tokens": 3, "completion_tokens": 5, "cache_read_input_tokens": 2}, Usage(3, 5, None, 2)),
        ({"prompt_tokens": 3, "cached_tokens": 9, "total_tokens": 3}, Usage(3, 0, None, 3)),
        ({"cached_tokens": 9}, Usage(0, 0, None, 0)),
        (
            {"prompt_tokens": 3, "completion_tokens": 5, "cache_read_input_tokens": 90, "total_tokens": 98},
            Usage(93, 5, None, 90),
        ),
        ({"prompt_tokens": 120, "total_tokens": 161}, Usage(120, 41)),
        ({"completion_tokens": 41, "total_tokens": 161}, Usage(120, 41)),
        ({"prompt_tokens": -3, "completion_tokens": float("inf"), "cached_tokens": float("nan")}, Usage(0, 0)),
    ],
)
def test_chat(reported: dict[str, Any], usage: Usage) -> None:
    """Cached and reasoning tokens are found under every provider's field names. An invalid count is ignored."""
    assert usage_of(read_counts(reported), Quirks()) == usage


@pytest.mark.parametrize("cost", [float("inf"), float("nan"), -1, "1", None, True, [1]])
def test_invalid_costs(cost: object) -> None:
    """A value that isn't a valid amount of money isn't a cost."""
    assert chat_cost({"cost": cost}, Quirks(usage_has_cost=True)) is None


def test_reasoning_excluded_from_the_output() -> None:
    """If a provider leaves the reasoning out of the output tokens, it is added to them."""
    quirks = Quirks(usage_excludes_reasoning=True)
    chat = {"completion_tokens": 5, "completion_tokens_details": {"reasoning_tokens": 4}}
    assert usage_of(read_counts(chat), quirks) == Usage(0, 9, 4)
    assert usage_of(read_counts(chat | {"prompt_tokens": 2, "total_tokens": 11}), quirks) == Usage(2, 9, 4)
    assert usage_of(read_counts({"prompt_tokens": 2, "completion_tokens": 5, "total_tokens": 11}), quirks) == Usage(
        2, 9, 4
    )
    assert usage_of(read_counts({"prompt_tokens": 2, "completion_tokens": 5, "total_tokens": 7}), quirks) == Usage(2, 5)
    responses = {"output_tokens": 5, "output_tokens_details": {"reasoning_tokens": 4}}
    assert usage_of(read_counts(responses), quirks) == Usage(0, 9, 4)


def test_incomplete_reports_shrink_no_count() -> None:
    """Reports with missing and invalid counts, in any order and repeated, give the counts of the complete one."""
    rng = random.Random(16)
    for input_name, output_name in (("prompt_tokens", "completion_tokens"), ("input_tokens", "output_tokens")):
        whole = {input_name: 120, output_name: 41, "total_tokens": 161}
        for _ in range(500):
            reports: list[Any] = [
                {
                    name: rng.choice((count, str(count), *INVALID_COUNTS))
                    for name, count in whole.items()
                    if rng.random() < 0.8
                }
                for _ in range(rng.randrange(5))
            ]
            details = {f"{input_name}_details": {"cached_tokens": rng.choice((64, "64", *INVALID_COUNTS))}}
            reports += [details, {"cost": 1}, None, 161, {}]
            rng.shuffle(reports)
            reports.insert(rng.randrange(len(reports) + 1), whole | {f"{input_name}_details": {"cached_tokens": 64}})
            assert merged(*reports) == UsageReported(Usage(120, 41, None, 64)), reports


def test_growing_reports() -> None:
    """Of growing counts, the largest is kept, whatever the order. Without a new report, `take` returns nothing."""
    running = [{"prompt_tokens": 9, "completion_tokens": n} for n in range(20)]
    random.Random(1).shuffle(running)
    assert merged(*running) == UsageReported(Usage(9, 19))
    usage = UsageReports(Quirks())
    usage.add(running[0])
    assert usage.take() is not None
    assert usage.take() is None


def test_a_cost_alone() -> None:
    """A report of the cost alone keeps the counts, and one of the counts alone keeps the cost."""
    quirks = Quirks(usage_has_cost=True)
    counts = {"prompt_tokens": 9, "completion_tokens": 2}
    expected = UsageReported(Usage(9, 2), Decimal("0.5"))
    assert merged(counts, {"cost": 0.5}, quirks=quirks) == expected
    assert merged({"cost": 0.5}, counts, {"cost": 0}, quirks=quirks) == expected
