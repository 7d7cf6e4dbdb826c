"""Law 8 across instances: the owner of a turn learns in time that a connection is attached elsewhere."""

from __future__ import annotations

import asyncio

import pytest

from tests.in_process import SLOW, eventually, open_client, open_pair
from tests.in_time import check_in_time, checks_time_limit


async def test_the_first_attachment_is_reported_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Law 8: the owner may check for attachments elsewhere before the next periodic renewal."""
    monkeypatch.setattr("gateway.turns.mirrors.POLL_S", 60)
    async with (
        open_pair(lease_s=30) as (one, two),
        open_client(one.services) as here,
        open_client(two.services) as there,
    ):
        await here.start("t", demo=SLOW)
        await there.request("turn.attach", turn="t")
        await eventually(lambda: "renew_presence" in two.store.calls)
        assert await one.store.real.has_other_presence("ann", "t", one.services.instance)
        await there.request("turn.attach", turn="t")
        assert two.store.calls.count("renew_presence") == 1


@checks_time_limit
async def test_the_grace_period_starts_at_the_last_detach_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """Law 8: a client that detaches on another instance has the whole grace period to return, and not much more."""
    monkeypatch.setattr("gateway.turns.abandonment.PRESENCE_RECHECK_S", 0.02)
    async with open_pair(lease_s=30, disconnect_grace_s=0.5) as (one, two), open_client(two.services) as there:
        async with open_client(one.services) as here:
            await here.start("t", demo=SLOW, on_disconnect="cancel")
            await there.request("turn.attach", turn="t")
            await eventually(lambda: "renew_presence" in two.store.calls)
        await asyncio.sleep(0.6)
        began = asyncio.get_running_loop().time()
        await there.request("turn.detach", turn="t")
        await asyncio.wait_for(one.stream("t").ended.wait(), 5)
        took_s = asyncio.get_running_loop().time() - began
        assert took_s > 0.45
        check_in_time(took_s, 2)
