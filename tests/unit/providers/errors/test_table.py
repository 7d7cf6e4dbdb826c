"""Checks of the error table itself."""

import re
from typing import get_args

from providers.base import ErrorCode
from providers.errors.table import RULES, STATUS_OF_TYPE

NEXT_STEP = re.compile(r"\b(Try|Check|Choose|Shorten|Send|Rephrase|Leave|Change)\b")


def test_last_row_matches_everything() -> None:
    """The last row matches every failure."""
    assert (RULES[-1].statuses, RULES[-1].words) == (None, None)


def test_no_row_hides_a_later_one() -> None:
    """A row without words doesn't hide a later row for the same statuses."""
    matched: set[int] = set()
    for rule in RULES[:-1]:
        if rule.statuses is not None:
            assert rule.statuses - matched, rule
            if rule.words is None:
                matched |= rule.statuses


def test_messages_name_a_next_step() -> None:
    """Every message is a complete sentence and names a next step."""
    for rule in RULES:
        message = rule.message.format(title="Kimi", keys="K", param="")
        assert NEXT_STEP.search(message), message
        assert re.fullmatch(r"[A-Z].*\.", message), message


def test_codes_and_patterns() -> None:
    """The table only has codes of the gateway's API, and its patterns are lowercase."""
    assert {rule.code for rule in RULES} <= set(get_args(ErrorCode))
    assert all(rule.words is None or re.sub(r"\\[SWDB]", "", rule.words).islower() for rule in RULES)
    assert all(400 <= status <= 599 for status in STATUS_OF_TYPE.values())
