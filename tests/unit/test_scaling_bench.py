"""Tests of the measurements of docs/scaling.md: what is computed from counts, and from PostgreSQL's plans."""

from __future__ import annotations

import json

from bench.scaling import difference
from bench.scaling_archive import read_plans
from bench.texts import pieces


def test_what_is_used_at_rest_is_subtracted() -> None:
    """CPU and reads at rest are subtracted for the same time; other counts are differences."""
    rest = {"gateway_s": 1.0, "reads": 10, "tokens": 0, "at": 10.0}
    before = {"gateway_s": 5.0, "reads": 100, "tokens": 7, "at": 0.0}
    after = {"gateway_s": 9.0, "reads": 140, "tokens": 27, "at": 20.0}
    assert difference(before, after, rest) == {"gateway_s": 2.0, "reads": 20.0, "tokens": 20, "at": 20.0}
    assert difference(before, after, {})["gateway_s"] == 4.0


def test_the_rows_and_indexes_of_logged_plans_are_found() -> None:
    """The rows of each loop are counted, also those that a filter has removed. A table that is read whole is named."""
    index = {
        "Node Type": "Index Scan",
        "Index Name": "by_key",
        "Relation Name": "a",
        "Actual Rows": 2,
        "Actual Loops": 3,
    }
    whole = {"Node Type": "Seq Scan", "Relation Name": "b", "Actual Rows": 1, "Actual Loops": 1}
    plan = {
        **{
            "Node Type": "Nested Loop",
            "Actual Rows": 6,
            "Actual Loops": 1,
            "Shared Hit Blocks": 7,
            "Shared Read Blocks": 1,
        },
        "Plans": [index, {**whole, "Rows Removed by Filter": 4}],
    }
    logged = "\n".join(
        f"\t{line}" for line in json.dumps({"Query Text": "SELECT", "Plan": plan}, indent=2).splitlines()
    )
    log = f"2026 LOG:  duration: 0.2 ms  plan:\n{logged}\n2026 LOG:  something else\n"
    assert read_plans(log) == {"rows": 11, "pages": 8, "indexes": ["by_key"], "whole tables": ["b"]}


def test_prose_has_a_piece_for_each_token() -> None:
    """Each piece has some characters, as a token has."""
    assert {len(piece) for piece in pieces(350)} == {4, 5}
