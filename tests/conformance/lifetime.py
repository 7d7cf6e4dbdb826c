"""Opening and closing a store."""

from __future__ import annotations

import pytest

from store.api import Store
from store.errors import StoreError
from tests.conformance.base import Conformance
from tests.stored import conversation


class OpeningAndClosing(Conformance):
    """Opening and closing a store."""

    async def test_an_open_store_answers_a_ping(self, store: Store) -> None:
        """`ping` returns without an error."""
        await store.ping()

    async def test_a_closed_store_refuses_calls(self, store: Store) -> None:
        """After `close`, a call raises `StoreError`; closing again is harmless."""
        await store.create_conversation(conversation())
        await store.close()
        with pytest.raises(StoreError, match="closed"):
            await store.conversation("ann", "c1")
        with pytest.raises(StoreError):
            await store.ping()
        await store.close()
