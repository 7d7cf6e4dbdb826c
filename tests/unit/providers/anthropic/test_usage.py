"""`MessagesUsage`, which merges the reports of one answer of Anthropic's Messages API."""

import random
from typing import Any

import pytest

from providers.anthropic.usage import MessagesUsage
from providers.base import Usage

INVALID_COUNTS: tuple[Any, ...] = (None, 0, "", "many", -1, 10**18, float("nan"), True, [], {})


def merged(*reports: dict[str, Any]) -> Usage | None:
    """Return the usage of a complete message with these reports, the first of them at its start."""
    usage = MessagesUsage()
    usage.begin_message("m", reports[0])
    for report in reports[1:]:
        usage.add(report)
    return usage.usage(is_complete=True)


@pytest.mark.parametrize(
    ("reports", "expected"),
    [
        (({"input_tokens": 3, "output_tokens": 1}, {"output_tokens": 41}), Usage(3, 41)),
        (({"input_tokens": "3", "output_tokens": "1"}, {"output_tokens": "41"}), Usage(3, 41)),
        (({"input_tokens": 3, "output_tokens": 1}, {"input_tokens": 0, "output_tokens": 41}), Usage(3, 41)),
        (
            ({"input_tokens": 20, "cache_read_input_tokens": 100}, {"cache_read_input_tokens": 0, "output_tokens": 4}),
            Usage(120, 4, None, 100),
        ),
        (
            ({"input_tokens": 120}, {"input_tokens": 20, "cache_read_input_tokens": 100, "output_tokens": 4}),
            Usage(120, 4, None, 100),
        ),
        (
            ({"input_tokens": 20, "cache_read_input_tokens": 100}, {"input_tokens": 120, "output_tokens": 4}),
            Usage(120, 4, None, 100),
        ),
        (({"input_tokens": 3, "output_tokens": 9}, {"output_tokens": None}), Usage(3, 9, estimated=True)),
        (({"input_tokens": 3, "output_tokens": 1}, {"output_tokens": 0}), Usage(3, 0)),
        (
            ({"input_tokens": 3, "cache_creation": {"ephemeral_5m_input_tokens": 2, "ephemeral_1h_input_tokens": 5}},),
            Usage(10, 0, None, None, 7, estimated=True),
        ),
        (({"input_tokens": 10**18, "output_tokens": 10**18},), None),
    ],
)
def test_reports(reports: tuple[dict[str, Any], ...], expected: Usage | None) -> None:
    """The reports of one message are merged. Cached tokens are part of the input, once."""
    assert merged(*reports) == expected


def test_iterations() -> None:
    """Iterations that the counts at the top don't include are added. Those that they include aren't."""
    message = {"type": "message", "input_tokens": 10, "output_tokens": 4, "cache_read_input_tokens": 2}
    compaction = {"type": "compaction", "input_tokens": 100, "output_tokens": 30}
    top = {"input_tokens": 10, "output_tokens": 4, "cache_read_input_tokens": 2}
    assert merged({}, top | {"iterations": [message]}) == Usage(12, 4, None, 2)
    assert merged({}, top | {"iterations": [compaction, message]}) == Usage(112, 34, None, 2)
    assert merged({}, top | {"iterations": [None, "x", {"input_tokens": None}]}) == Usage(12, 4, None, 2)
    assert merged({}, top | {"iterations": [message] * 100_000}) == Usage(12_000, 4_000, None, 2_000)


def test_several_messages() -> None:
    """The usage of several messages in one answer is added up. A repeated start is the same message."""
    usage = MessagesUsage()
    for message in ("a", "a", "b"):
        usage.begin_message(message, {"input_tokens": 10, "output_tokens": 1})
        usage.begin_message(message, {"input_tokens": 10, "output_tokens": 1})
        usage.add({"output_tokens": 5})
    assert usage.usage(is_complete=True) == Usage(30, 15)


def test_incomplete_reports_shrink_no_count() -> None:
    """Reports with missing and invalid counts, in any order and repeated, give the counts of the complete one."""
    rng = random.Random(16)
    whole = {
        "input_tokens": 20,
        "cache_read_input_tokens": 100,
        "cache_creation_input_tokens": 7,
        "output_tokens": 41,
    }
    for _ in range(500):
        reports = [
            {
                name: rng.choice((count, float(count), str(count), *INVALID_COUNTS))
                for name, count in whole.items()
                if rng.random() < 0.8
            }
            for _ in range(rng.randrange(5))
        ]
        reports.insert(rng.randrange(len(reports) + 1), dict(whole))
        assert merged({}, *reports) == Usage(127, 41, None, 100, 7), reports
