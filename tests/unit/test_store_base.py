"""The store's errors: what they are to each other, and what they say."""

from __future__ import annotations

from store.base import Conflict, Counters, NotFound, StoreError


def test_every_failure_of_a_store_is_a_store_error() -> None:
    """Whoever catches `StoreError` catches all of them."""
    assert issubclass(NotFound, StoreError)
    assert issubclass(Conflict, StoreError)


def test_not_found_names_the_field() -> None:
    """Law 12: it says which field of the request was wrong, and nothing of what is there."""
    error = NotFound("conversation")
    assert (error.what, str(error)) == ("conversation", "no such conversation")


def test_what_was_not_counted_is_zero_and_what_was_not_priced_is_nothing() -> None:
    """No price is None, which isn't a price of 0."""
    assert Counters() == Counters(0, 0, 0, 0, 0, None)
