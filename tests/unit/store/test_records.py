"""The store's exceptions and their messages, and the defaults of counters."""

from __future__ import annotations

from store.errors import Busy, Conflict, Fenced, Limited, LogGap, NotFound, StoreError
from store.records import Counters


def test_every_exception_is_a_store_error() -> None:
    """`except StoreError` catches every exception of a store."""
    for refusal in (NotFound, Conflict, Busy, Limited, LogGap, Fenced):
        assert issubclass(refusal, StoreError)


def test_a_gap_has_the_end_of_the_log() -> None:
    """`LogGap` has the log's end, from which the writer continues."""
    error = LogGap(7)
    assert (error.end, str(error)) == (7, "the log ends at 7")


def test_not_found_names_the_field() -> None:
    """Law 12: `NotFound` names the invalid field of the request, and reveals nothing about existing data."""
    error = NotFound("conversation")
    assert (error.field, str(error)) == ("conversation", "conversation not found")


def test_counts_default_to_zero_and_cost_to_none() -> None:
    """Counts are 0 by default, and an unknown cost is None, not 0."""
    assert Counters() == Counters(0, 0, 0, 0, 0, None)
