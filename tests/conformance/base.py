"""The fixtures of the conformance tests."""

from __future__ import annotations

import pytest

from store.api import Store
from tests.stored import OpenStore


class Conformance:
    """The fixtures of the conformance tests."""

    @pytest.fixture
    async def store(self, open_store: OpenStore) -> Store:
        """An open store without data."""
        return await open_store()

    @pytest.fixture
    async def other(self, store: Store, open_store: OpenStore) -> Store:
        """Another instance's store on the same data."""
        if not store.shared:
            pytest.skip("only one instance can use this store")
        return await open_store()
