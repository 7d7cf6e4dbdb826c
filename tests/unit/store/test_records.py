"""The store's errors: what they are to each other, and what they say."""

from __future__ import annotations

from store.records import Busy, Conflict, Counters, Fenced, LogGap, NotFound, StoreError


def test_every_failure_of_a_store_is_a_store_error() -> None:
    """Whoever catches `StoreError` catches all of them."""
    for refusal in (NotFound, Conflict, Busy, LogGap, Fenced):
        assert issubclass(refusal, StoreError)


def test_a_gap_says_where_the_log_ends() -> None:
    """So that the writer goes on from there."""
    error = LogGap(7)
    assert (error.end, str(error)) == (7, "the log ends at 7")


def test_not_found_names_the_field() -> None:
    """Law 12: it says which field of the request was wrong, and nothing of what is there."""
    error = NotFound("conversation")
    assert (error.field, str(error)) == ("conversation", "conversation not found")


def test_what_was_not_counted_is_zero_and_what_was_not_priced_is_nothing() -> None:
    """No price is None, which isn't a price of 0."""
    assert Counters() == Counters(0, 0, 0, 0, 0, None)
