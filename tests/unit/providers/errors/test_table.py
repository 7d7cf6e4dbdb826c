"""Checks that the rows of the error table are consistent."""

import re
from typing import get_args

from providers.base import ErrorCode
from providers.errors.table import RULES, STATUS_OF_TYPE

NEXT_STEP = re.compile(r"\b(Try|Check|Choose|Shorten|Send|Rephrase|Leave|Change)\b")


def test_last_row_matches_everything() -> None:
    """The last row matches every failure."""
    assert (RULES[-1].statuses, RULES[-1].words) == (None, None)


def test_every_row_can_match() -> None:
    """The earlier rows without words never cover all of a row's statuses."""
    covered: set[int] = set()
    for rule in RULES[:-1]:
        if rule.statuses is not None:
            assert rule.statuses - covered, rule
            if rule.words is None:
                covered |= rule.statuses


def test_messages_name_a_next_step() -> None:
    """Every message is a complete sentence and names a next step."""
    for rule in RULES:
        message = rule.message.format(title="Kimi", keys="K", param="")
        assert NEXT_STEP.search(message), message
        assert re.fullmatch(r"[A-Z].*\.", message), message


def test_codes_patterns_and_statuses_are_valid() -> None:
    """The codes are `ErrorCode` values, the statuses of error types are 4xx or 5xx, and the patterns are lowercase.

    Patterns are matched against text in lowercase.
    """
    assert {rule.code for rule in RULES} <= set(get_args(ErrorCode))
    assert all(rule.words is None or re.sub(r"\\[SWDB]", "", rule.words).islower() for rule in RULES)
    assert all(400 <= status <= 599 for status in STATUS_OF_TYPE.values())
