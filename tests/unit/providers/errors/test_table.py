"""The table of failures itself."""

import re
from typing import get_args

from providers.base import ErrorCode
from providers.errors.table import RULES, STATUS_OF_TYPE

NEXT_STEP = re.compile(r"\b(Try|Check|Choose|Shorten|Send|Rephrase|Leave|Change)\b")


def test_last_row_takes_everything() -> None:
    """No failure falls through the table."""
    assert (RULES[-1].statuses, RULES[-1].words) == (None, None)


def test_no_row_is_in_another_one_s_shadow() -> None:
    """A row that asks for no words leaves no later row of the same statuses without a chance."""
    matched: set[int] = set()
    for rule in RULES[:-1]:
        if rule.statuses is not None:
            assert rule.statuses - matched, rule
            if rule.words is None:
                matched |= rule.statuses


def test_messages_say_what_to_do() -> None:
    """Every message names a next step, in sentences with a capital and a full stop."""
    for rule in RULES:
        message = rule.message.format(title="Kimi", keys="K", param="")
        assert NEXT_STEP.search(message), message
        assert re.fullmatch(r"[A-Z].*\.", message), message


def test_codes_are_ours() -> None:
    """The table speaks in our codes only, and every word is a pattern for lower case."""
    assert {rule.code for rule in RULES} <= set(get_args(ErrorCode))
    assert all(rule.words is None or re.sub(r"\\[SWDB]", "", rule.words).islower() for rule in RULES)
    assert all(400 <= status <= 599 for status in STATUS_OF_TYPE.values())
