"""The wiring of an instance: notifications reach the components that handle them, and durability is announced."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.requests import erasure
from store.api import instance_channel
from tests.in_process import SLOW, ControlledStore, Instance, eventually, open_client, open_instance

Pair = tuple[Instance, Instance]


async def test_an_instance_subscribes_to_its_own_channel(pair: Pair) -> None:
    """Each started instance has its own id and subscribes to its own channel, on which cancel requests arrive."""
    one, two = pair
    assert one.services.instance != two.services.instance
    for instance in pair:
        assert instance.shared.subscribed == {instance_channel(instance.services.instance), erasure.CHANNEL}


async def test_each_notification_reaches_its_component(pair: Pair) -> None:
    """A turn's events reach a client on another instance, a new turn reaches the conversation's subscribers, and a cancel
    request reaches the owner. After lost notifications, the subscription catches up."""
    one, two = pair
    async with open_client(one.services) as here, open_client(two.services) as there:
        conversation = (await there.request("conversation.create"))["id"]
        await there.request("conversation.attach", conversation=conversation)
        await here.start("t", conversation=conversation, demo=SLOW)
        await there.until(lambda: "t" in there.turns and there.turns["t"].seq > 3)
        with two.shared.disconnected():
            await here.start("u", conversation=conversation, demo=SLOW)
        await there.until(lambda: "u" in there.turns)
        await there.request("turn.cancel", turns=["t", "u"])
        for turn in ("t", "u"):
            await here.ending(turn)


@pytest.mark.parametrize("call", ["expired_leases", "renew", "expired_conversations"])
async def test_damaged_data_ends_no_background_task(
    store: ControlledStore, quick: None, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    """A store call that fails by a defect, or by data that something has damaged, is made again, and turns go on."""
    monkeypatch.setattr("gateway.tasks.RESTART_S", 0.01)
    monkeypatch.setattr("gateway.retention.SWEEP_S", 0.01)
    real, calls = getattr(store.real, call), []

    async def damaged(*args: Any, **fields: Any) -> Any:
        calls.append(call)
        if len(calls) < 3:
            raise ValueError("not a number")
        return await real(*args, **fields)

    monkeypatch.setattr(store.real, call, damaged)
    async with open_instance(store, lease_s=0.3) as instance, open_client(instance.services) as ann:
        await ann.start("t", demo=SLOW)
        await eventually(lambda: len(calls) > 3)
        await ann.request("turn.cancel", turns=["t"])
        await ann.ending("t")


async def test_durability_changes_are_announced(store: ControlledStore, quick: None) -> None:
    """Law 4: `degraded` is sent when the store is lost and `ok` when it is back, even while no turn runs."""
    async with open_instance(store, lease_s=0.3) as instance, open_client(instance.services) as ann:
        await ann.request("ping")
        with store.failing("expired_leases"):
            await eventually(lambda: instance.durabilities)
        await eventually(lambda: len(instance.durabilities) == 2)
        assert [frame.state for frame in instance.durabilities] == ["degraded", "ok"]
