"""The wiring: what is published reaches the part that it is for."""

from __future__ import annotations

from store.api import instance_channel
from tests.in_process import SLOW, Instance, SteeredStore, eventually, open_instance, seat

Pair = tuple[Instance, Instance]


async def test_an_instance_hears_its_own_channel(pair: Pair) -> None:
    """Once it has begun it can be told of wishes; each instance has a name of its own."""
    one, two = pair
    assert one.services.instance != two.services.instance
    for instance in pair:
        assert instance.shared.subscribed == {instance_channel(instance.services.instance)}


async def test_each_signal_reaches_its_part(pair: Pair) -> None:
    """Turns to the followers, conversations to the watchers, wishes to who stops; a lost connection to both."""
    one, two = pair
    async with seat(one.services) as here, seat(two.services) as there:
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


async def test_durability_is_told_to_every_connection(steered: SteeredStore, quick: None) -> None:
    """Law 4: `degraded` when the store is lost and `ok` when it is back, also while no turn runs."""
    async with open_instance(steered, lease_s=0.3) as instance, seat(instance.services) as ann:
        await ann.request("ping")
        with steered.failing("expired_leases"):
            await eventually(lambda: instance.durabilities)
        await eventually(lambda: len(instance.durabilities) == 2)
        assert [frame.state for frame in instance.durabilities] == ["degraded", "ok"]
