"""What other users see: nothing (law 12)."""

from __future__ import annotations

import pytest

from store.api import Store
from tests.conformance.base import Conformance
from tests.stored import READS_AND_WRITES, conversation, missing, new_turn, run


class OtherUsers(Conformance):
    """What other users see: nothing (law 12)."""

    @pytest.mark.parametrize("request_name", READS_AND_WRITES)
    async def test_other_users_see_nothing(self, store: Store, request_name: str) -> None:
        """Law 12: an id of another user is answered exactly as an unknown id, and nothing is changed."""
        await store.create_conversation(conversation())
        await run(store, new_turn())
        call, field = READS_AND_WRITES[request_name]
        before = await store.conversation("ann", "c1"), await store.turn("ann", "t1")
        assert await missing(call(store, "bob")) == field
        assert (await store.conversation("ann", "c1"), await store.turn("ann", "t1")) == before
        await call(store, "ann")
