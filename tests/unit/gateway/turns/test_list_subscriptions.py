"""Subscriptions to the list of conversations: changes arrive on every instance, merged, and only for one user."""

from __future__ import annotations

import pytest

from gateway.requests.services import Services
from gateway.turns import list_subscriptions
from store.records import ConversationRecord
from tests.client import Frame
from tests.in_process import ControlledStore, Instance, SessionClient, eventually, open_client
from tests.in_process import open_services as services_of

Pair = tuple[Instance, Instance]


@pytest.fixture(autouse=True)
def short_interval(monkeypatch: pytest.MonkeyPatch) -> None:
    """Changes are merged for a short time only, so that the tests are fast."""
    monkeypatch.setattr(list_subscriptions, "INTERVAL_S", 0.02)


def changes(client: SessionClient) -> list[Frame]:
    """Return the changes that the client has received."""
    return [frame for frame in client.frames if frame["type"] == "conversations.changed"]


async def until_state(client: SessionClient, **state: object) -> Frame:
    """Wait until the client's last change has this state, and return the change."""
    await client.until(lambda: changes(client) and state.items() <= changes(client)[-1].items())
    return changes(client)[-1]


async def test_every_change_arrives_on_every_instance_for_one_user(pair: Pair) -> None:
    """Create, start, ending, update, pin, clear and delete, but not for another user (law 12), and not after a detach."""
    one, two = pair
    async with (
        open_client(one.services) as here,
        open_client(two.services) as there,
        open_client(two.services, "bob") as bob,
    ):
        for client in (there, bob):
            assert await client.request("conversations.attach") == {}
        made = (await here.request("conversation.create", title="A"))["id"]
        await until_state(there, conversation=made, change="changed", title="A", revision=0, head=None, pinned=False)
        await here.start("t", conversation=made)
        message = (await here.ending("t"))["message"]
        await until_state(there, conversation=made, head=message, revision=2)
        pinned = await here.request("conversation.update", conversation=made, pinned=True)
        got = await until_state(there, pinned=True, revision=3)
        assert (got["updated_at"], got["title"]) == (pinned["updated_at"], "A")
        await here.request("conversation.update", conversation=made, title="B")
        await until_state(there, title="B", revision=4)
        await here.request("conversation.clear", conversation=made)
        await until_state(there, head=None, revision=5)
        await here.request("conversation.delete", conversation=made)
        assert await until_state(there, change="deleted") == {
            "type": "conversations.changed",
            "conversation": made,
            "change": "deleted",
        }
        assert await there.request("conversations.detach") == {}
        seen = len(changes(there))
        await here.request("conversation.create")
        await there.request("ping")
        assert (len(changes(there)), changes(bob), here.frames[-1]["type"]) == (seen, [], "result")


async def test_nothing_is_read_if_nobody_watches(store: ControlledStore) -> None:
    """Without a subscription, changes cost no call of the store. A closed connection leaves nothing."""
    async with services_of(store) as services, open_client(services) as ann:
        async with open_client(services) as other:
            await other.request("conversations.attach")
        await ann.request("conversation.create")
        assert "conversation" not in store.calls
        assert (services.list_subscriptions._watched, services.list_subscriptions._channels) == ({}, {})
        await eventually(lambda: not [name for name in store.real._subscribers if name.startswith("list:")])  # type: ignore[attr-defined]


async def test_a_slow_reader_gets_the_newest_state_only(services: Services, monkeypatch: pytest.MonkeyPatch) -> None:
    """A client that doesn't read has one frame for each conversation at most, and isn't closed, however much changes."""
    monkeypatch.setattr(list_subscriptions, "CONVERSATIONS_AT_ONCE", 2)
    async with open_client(services) as ann, open_client(services) as slow:
        await slow.request("conversations.attach")
        made = [(await ann.request("conversation.create"))["id"] for _ in range(5)]
        for number in range(300):
            await ann.request("conversation.update", conversation=made[number % 5], title=f"{number} {'x' * 250}")
        assert slow.outbox.waiting_bytes == 0
        await slow.until(lambda: {f["conversation"] for f in changes(slow) if f["title"][:2] == "29"} == set(made))
        assert len(changes(slow)) < 30
        assert not slow.overflowed


async def test_the_first_page_is_sent_again_after_lost_channels(pair: Pair) -> None:
    """What changed while the channels were lost arrives after the reconnect."""
    one, two = pair
    async with open_client(one.services) as here, open_client(two.services) as there:
        await there.request("conversations.attach")
        with two.shared.disconnected():
            made = (await here.request("conversation.create", title="Missed"))["id"]
        await until_state(there, conversation=made, title="Missed")


async def test_a_failing_store_delays_changes(store: ControlledStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """A change that can't be read is sent when the store answers again."""
    monkeypatch.setattr(list_subscriptions, "RETRY_S", 0.01)
    async with services_of(store) as services, open_client(services) as ann:
        await ann.request("conversations.attach")
        with store.failing("conversation"):
            made = (await ann.request("conversation.create", title="A"))["id"]
            await eventually(lambda: "conversation" in store.calls)
        await until_state(ann, conversation=made, title="A")


async def test_damaged_data_keeps_no_other_change_away(store: ControlledStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """A conversation that can't be read is left out. The gateway goes on."""
    read = store.real.conversation

    async def conversation(user: str, name: str) -> ConversationRecord:
        if name == "damaged":
            raise ValueError("damaged")
        return await read(user, name)

    async with services_of(store) as services, open_client(services) as ann:
        await ann.request("conversations.attach")
        monkeypatch.setattr(store.real, "conversation", conversation)
        for name in ("damaged", "c1"):
            await ann.request("conversation.create", conversation=name)
        await until_state(ann, conversation="c1")
        monkeypatch.setattr(store.real, "conversations", conversation)  # it can't even be called so
        services.list_subscriptions.resync()
        await ann.request("conversation.update", conversation="c1", title="B")
        await until_state(ann, conversation="c1", title="B")
        assert {change["conversation"] for change in changes(ann)} == {"c1"}


async def test_a_connection_that_ends_while_it_attaches_takes_nothing_from_another(pair: Pair) -> None:
    """The channel of the user's other connections stays subscribed. A second attach waits for the first one."""
    one, two = pair
    async with open_client(one.services) as here, open_client(two.services) as there:
        await there.request("conversations.attach")
        with two.shared.blocked("subscribe") as waits:
            async with open_client(two.services) as ending:
                first, second = ending.send("conversations.attach"), ending.send("conversations.attach")
                await waits.wait()
                await ending.request("ping")
                assert (ending.answered(first), ending.answered(second)) == (None, None)
        made = (await here.request("conversation.create"))["id"]
        await until_state(there, conversation=made)
        assert "unsubscribe" not in two.shared.calls


async def test_an_erasure_empties_the_list(services: Services) -> None:
    """A service's connection that watches the list learns that all conversations were deleted."""
    async with open_client(services) as ann:
        await ann.request("conversations.attach")
        await ann.request("conversation.create")
        await services.erasure.erase("ann", "admin")
        await until_state(ann, conversation=None, change="deleted")
