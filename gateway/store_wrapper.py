"""Wrap the calls of a store, as metrics and the fair queue do."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from inspect import iscoroutinefunction
from typing import Any, cast

from store.api import Store

Call = Callable[..., Awaitable[Any]]


class _WrappedStore:
    def __init__(self, store: Store, wrap: Callable[[str, Call], Call]) -> None:
        self._store = store
        self._wrap = wrap

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._store, name)
        if iscoroutinefunction(found):
            found = self._wrap(name, found)
            setattr(self, name, found)  # later lookups find it without __getattr__
        return found


def wrap_calls(store: Store, wrap: Callable[[str, Call], Call]) -> Store:
    """Return a wrapper of `store` that replaces each coroutine method by `wrap(name, method)` at its first use."""
    return cast("Store", _WrappedStore(store, wrap))
