"""The contexts of a socket's newest responses that are in no conversation. Later ones on the socket can continue them."""

from __future__ import annotations

from collections import OrderedDict
from typing import Final, NamedTuple

from gateway.http.dialects.responses_stored import Kept

RECENT_MAX: Final = 64


class RecentContext(NamedTuple):
    """The context of a response, and its size in bytes. `has_answer` is false after a warm-up."""

    kept: Kept
    size: int
    has_answer: bool


class RecentContexts:
    """The contexts by the ids of their responses, of at most `bytes_max` bytes together. The oldest ones are forgotten."""

    def __init__(self, bytes_max: int) -> None:
        self._bytes_max = bytes_max
        self._bytes = 0
        self._contexts: OrderedDict[str, RecentContext] = OrderedDict()

    def get(self, response: str | None) -> RecentContext | None:
        """Return the context of a response, if it is remembered."""
        return self._contexts.get(response or "")

    def put(self, response: str, kept: Kept, size: int, previous: str | None, *, has_answer: bool) -> None:
        """Remember the context of a response that continues `previous`. `size`: the size of its own input in bytes.

        That of a response in a conversation is stored, so it isn't remembered here. `has_answer`: see `RecentContext`.
        """
        if kept.messages is None:
            return
        before = self.get(previous)
        whole = size + (0 if before is None else before.size)
        self._contexts[response] = RecentContext(kept, whole, has_answer)
        self._bytes += whole
        while self._contexts and (self._bytes > self._bytes_max or len(self._contexts) > RECENT_MAX):
            self._bytes -= self._contexts.popitem(last=False)[1].size
