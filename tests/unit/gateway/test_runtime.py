"""The wiring of an instance: notifications reach the components that handle them, and durability is announced."""

from __future__ import annotations

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
        where = (await there.request("conversation.create"))["id"]
        await there.request("conversation.attach", conversation=where)
        await here.start("t", conversation=where, demo=SLOW)
        await there.until(lambda: "t" in there.turns and there.turns["t"].seq > 3)
        with two.shared.disconnected():
            await here.start("u", conversation=where, demo=SLOW)
        await there.until(lambda: "u" in there.turns)
        await there.request("turn.cancel", turns=["t", "u"])
        for turn in ("t", "u"):
            await here.ending(turn)


async def test_durability_changes_are_announced(store: ControlledStore, quick: None) -> None:
    """Law 4: `degraded` is sent when the store is lost and `ok` when it is back, even while no turn runs."""
    async with open_instance(store, lease_s=0.3) as instance, open_client(instance.services) as ann:
        await ann.request("ping")
        with store.failing("expired_leases"):
            await eventually(lambda: instance.durabilities)
        await eventually(lambda: len(instance.durabilities) == 2)
        assert [frame.state for frame in instance.durabilities] == ["degraded", "ok"]
