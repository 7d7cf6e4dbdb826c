"""Turns on several instances with one Redis, and the failures of instances. `tests/world.py` starts the instances."""

from __future__ import annotations

import asyncio
import random
import time
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.client import TurnView, client
from tests.demo import expected
from tests.in_time import checks_time_limit, within
from tests.instances import LEASE_S
from tests.upstream import chat
from tests.world import client_of, random_delay, world

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]

LONG: dict[str, Any] = {"rate": 100, "tokens": 400}


async def test_law_7_attach_on_any_instance_from_any_position(tmp_path: Path) -> None:
    """Law 7: a client that is disconnected at any event and attaches again at either instance gets each event once."""
    pick = random.Random(11)
    demo = {"rate": 300, "tokens": 300}
    async with world(tmp_path) as w:
        async with client(w.urls()[0]) as c:
            await c.request("turn.start", turn="t", input="Hello", params={"demo": demo})
            view = TurnView()
            while view.ended is None:
                async with client(pick.choice(w.urls())) as other:
                    other.resume("t", view)
                    held = view.position if view.epoch else {"epoch": 0, "seq": 0}
                    answer = await other.request("turn.attach", positions={"t": held})
                    assert answer["turns"]["t"]["from"] == held["seq"]
                    wanted = view.seq + pick.randint(1, 60)
                    await other.until(lambda: view.seq >= wanted or view.ended is not None)  # noqa: B023
            assert view.text() == expected("Hello", demo)
            assert view.resets == 0


@pytest.mark.timed
async def test_law_4_an_event_reaches_other_instances_soon(tmp_path: Path) -> None:
    """Law 4: an event of one instance reaches a client of the other instance within 0.1 s in the median."""
    async with world(tmp_path) as w, client(w.urls()[0]) as here, client(w.urls()[1]) as there:
        await here.request("turn.start", turn="t", input="x", params={"demo": {"rate": 50, "tokens": 100}})
        await here.until_seq("t", 3)
        await there.request("turn.attach", turn="t")
        lags = []
        while here.turns["t"].ended is None:
            seq = here.turns["t"].seq
            began = time.monotonic()
            await there.until_seq("t", seq)
            lags.append(time.monotonic() - began)
            await here.until(lambda: here.turns["t"].seq > seq or here.turns["t"].ended is not None)  # noqa: B023
        assert sorted(lags)[len(lags) // 2] < 0.1


@pytest.mark.timed
@checks_time_limit
async def test_law_5_cancel_on_another_instance(tmp_path: Path) -> None:
    """Law 5: a cancel request to an instance that doesn't own the turn closes the provider's stream, and the
    owner's client gets the end event."""
    async with world(tmp_path) as w, client(w.urls()[0]) as here, client(w.urls()[1]) as there:
        w.upstream.play(chat(*[f"w{n} " for n in range(2000)]).replace(rate=100))
        await here.request("turn.start", turn="t", input="x", model="openai/m")
        await here.until_seq("t", 10)
        received = await w.upstream.wait_for_request(1)
        with within(1):  # 150 ms on a quiet machine; this one may be loaded
            assert await there.request("turn.cancel", turn="t", reason="enough") == {"turns": {"t": "cancelled"}}
            ended = await here.ending("t")
        assert (ended["type"], ended["by"], ended["reason"]) == ("turn.cancelled", "client", "enough")
        async with asyncio.timeout(5):
            await received.disconnected.wait()
        assert await there.request("turn.cancel", turn="t") == {"turns": {"t": "already_ended"}}
        await w.check_stored("t", here.turns["t"].text())


@pytest.mark.timed
@checks_time_limit
async def test_law_5_cancel_of_a_frozen_owner(tmp_path: Path) -> None:
    """Law 5: if the owner is frozen, the instance with the cancel request takes the turn over and ends it within about
    2 s."""
    async with world(tmp_path) as w, client(w.urls()[0]) as here, client(w.urls()[1]) as there:
        await here.request("turn.start", turn="t", input="x", params={"demo": LONG})
        await here.until_seq("t", 20)
        await there.request("turn.attach", turn="t")
        w.freeze(0)
        with within(3):
            assert await there.request("turn.cancel", turn="t") == {"turns": {"t": "cancelled"}}
            ended = await there.ending("t")
        assert ended["type"] == "turn.cancelled"
        w.thaw(0)
        await here.ending("t")
        assert here.turns["t"].text() == there.turns["t"].text()


async def test_law_6_the_same_start_on_two_instances_at_once(tmp_path: Path) -> None:
    """Law 6: of concurrent starts with one id on two instances exactly one asks the provider."""
    async with world(tmp_path) as w, client(w.urls()[0]) as a, client(w.urls()[1]) as b:
        w.upstream.play(chat("Hel", "lo").replace(rate=20))

        async def start(c: Any) -> Any:
            return await c.request("turn.start", turn="t", input="x", model="openai/m")

        answers = await asyncio.gather(start(a), start(b), start(a), start(b))
        assert sorted(answer["status"] for answer in answers) == ["attached"] * 3 + ["running"]
        for c in (a, b):
            await c.ending("t")
            assert c.turns["t"].text() == "Hello"
        assert len(w.upstream.requests) == 1


async def test_law_8_an_attachment_on_any_instance_keeps_the_turn_running(tmp_path: Path) -> None:
    """Law 8: a turn with `on_disconnect: cancel` runs while a device is attached on any instance, and is cancelled
    afterwards."""
    async with world(tmp_path) as w, client(w.urls()[1]) as observer:
        async with client(w.urls()[1]) as there:
            async with client(w.urls()[0]) as here:
                fields = {"input": "x", "params": {"demo": {"rate": 20, "tokens": 5000}}}
                await here.request("turn.start", turn="t", on_disconnect="cancel", **fields)
                await there.request("turn.attach", turn="t")
                await asyncio.sleep(4)
            await asyncio.sleep(3)
            assert (await observer.request("turn.get", turn="t"))["status"] == "running"
        await observer.until_status("t", "cancelled")


@pytest.mark.parametrize("seed", [1, 2])
async def test_law_9_kill_9_of_the_owner(tmp_path: Path, seed: int) -> None:
    """Law 9: after a kill at a random time the other instance completes the same texts."""
    pick = random.Random(seed)
    async with world(tmp_path) as w, client_of(w, 0, codec=pick.choice(["json", "msgpack"])) as who:
        for n in range(5):
            await w.start(who, f"t{n}", **LONG)
        await random_delay(pick, 0.2, 2)
        w.kill(0)
        for n in range(5):
            await w.check(who, f"t{n}")


async def test_law_9_before_the_first_token_the_provider_is_asked_again(tmp_path: Path) -> None:
    """Law 9: if no delta is in the log, another instance asks the provider again."""
    async with world(tmp_path) as w, client_of(w, 0) as who:
        w.upstream.play(chat("never").replace(delay_s=60), chat("Hello ", "again"))
        await who.start("t", input="x", model="openai/m")
        await w.upstream.wait_for_request(1)
        w.kill(0)
        assert (await who.ending("t"))["type"] == "turn.completed"
        assert who.text("t") == "Hello again"
        assert len(w.upstream.requests) == 2


async def test_law_9_a_provider_that_cant_continue(tmp_path: Path) -> None:
    """Law 9: after a delta of a provider that can't continue, the turn fails with `owner_lost` and its partial message
    is stored."""
    async with world(tmp_path) as w, client_of(w, 0) as who:
        w.upstream.play(chat(*[f"w{n} " for n in range(2000)]).replace(rate=50))
        await who.start("t", input="x", model="openai/m")
        await who.until(lambda: who.now is not None and who.now.turns["t"].seq > 30)
        w.kill(0)
        ended = await who.ending("t")
        assert ended["error"]["code"] == "owner_lost"
        assert len(who.text("t")) > 20
        await w.check_stored("t", who.text("t"))
        assert len(w.upstream.requests) == 1


async def test_law_9_a_frozen_owner_loses_its_turns(tmp_path: Path) -> None:
    """Law 9: an owner that is frozen for three leases loses its turns; after it continues it sends no more events and
    closes its provider's stream."""
    async with world(tmp_path) as w, client_of(w, 0) as near, client_of(w, 1) as far:
        w.upstream.play(chat(*[f"w{n} " for n in range(5000)]).replace(rate=50))
        await w.start(near, "demo", **LONG)
        await near.start("real", input="x", model="openai/m")
        await near.until(lambda: near.now is not None and near.now.turns["real"].seq > 10)
        received = await w.upstream.wait_for_request(1)
        far.views["demo"], far.views["real"] = TurnView(), TurnView()
        await far.connected()
        w.freeze(0)
        await asyncio.sleep(3 * LEASE_S)
        w.thaw(0)
        async with asyncio.timeout(5):
            await received.disconnected.wait()
        assert (await far.ending("real"))["error"]["code"] == "owner_lost"
        for who in (near, far):
            assert (await who.ending("demo"))["type"] == "turn.completed"
            assert who.text("demo") == expected("About demo", LONG)
            assert (await who.ending("real"))["type"] == "turn.failed"
        assert near.text("real") == far.text("real")


async def test_law_7_a_hundred_disconnects_within_one_turn(tmp_path: Path) -> None:
    """Law 7: a client that loses its socket a hundred times and reconnects to either of two instances gets each
    character once."""
    pick = random.Random(3)
    async with world(tmp_path) as w, client_of(w, 0, 1, seed=3) as who:
        await w.start(who, "t", rate=60, tokens=400)
        for _ in range(100):
            await who.drop()
            await who.connected()
            await random_delay(pick, 0, 0.03)
        await w.check(who, "t")
        assert who.views["t"].resets == 0


async def test_law_7_500_clients_reconnect_at_once(tmp_path: Path) -> None:
    """Law 7: the instance of 500 attached clients is killed; all reconnect to the other instance, and after a cancel
    all clients of a turn have the same text as the store."""
    turns, demo = [f"t{n}" for n in range(10)], {"rate": 4, "tokens": 5000}
    async with world(tmp_path) as w, client_of(w, 1) as starter, AsyncExitStack() as stack:
        async with client(w.urls()[0]) as owner:
            for turn in turns:
                await owner.request("turn.start", turn=turn, input="x", params={"demo": demo})
        crowd = [await stack.enter_async_context(client_of(w, 0, seed=n)) for n in range(500)]
        for at in range(0, len(crowd), 50):
            some = enumerate(crowd[at : at + 50], at)
            await asyncio.gather(*(who.follow(turns[n % len(turns)]) for n, who in some))
        w.kill(0)
        await asyncio.gather(*(who.connected() for who in crowd))
        await (await starter.connected()).request("turn.cancel", mine=True)
        endings = await asyncio.gather(*(who.ending(turns[n % len(turns)]) for n, who in enumerate(crowd)))
        assert {ended["type"] for ended in endings} == {"turn.cancelled"}
        assert {who.connects for who in crowd} == {2}
        for n, turn in enumerate(turns):
            texts = {who.text(turn) for who in crowd[n :: len(turns)]}
            assert len(texts) == 1
            text = texts.pop()
            assert text
            assert expected("x", demo).startswith(text)
            await w.check_stored(turn, text)


async def test_sigterm_closes_the_sockets_and_hands_over_the_turns(tmp_path: Path) -> None:
    """A deploy with 50 live turns: clients are sent `going_away`, turns complete or are handed over, the process exits
    within its drain time and a margin, and no character is lost."""
    async with world(tmp_path, TURNWIRE_LEASE_S="10") as w, client_of(w, 0) as who:
        for n in range(25):
            await w.start(who, f"short{n}", rate=40, tokens=60)
            await w.start(who, f"long{n}", rate=40, tokens=300)
        w.hidden.add(0)
        w.instances[0].terminate()
        assert await w.instances[0].wait(3 + 5) == 0
        for n in range(25):
            await w.check(who, f"short{n}")
            await w.check(who, f"long{n}")
        assert any(frame["type"] == "going_away" for frame in who.frames)


async def test_rolling_restarts(tmp_path: Path) -> None:
    """Both instances are replaced under load: no character is lost or duplicated, and no turn fails."""
    # With the default lease none expires here: each handover is deliberate.
    async with world(tmp_path, TURNWIRE_LEASE_S="10") as w, client_of(w, seed=5) as who:
        names = []
        for number in range(2):
            for n in range(5):
                names.append(f"r{number}-{n}")
                await w.start(who, names[-1], rate=100, tokens=300)
            w.hidden.add(number)
            w.instances[number].terminate()
            await w.add()
            assert await w.instances[number].wait(15) == 0
        for name in names:
            await w.check(who, name)


async def test_a_queued_turn_of_a_dead_owner_is_taken_over(tmp_path: Path) -> None:
    """A turn in its conversation's queue is also taken over, and runs when it is next."""
    async with world(tmp_path) as w, client_of(w, 1) as safe, client_of(w, 0) as lost:
        conversation = (await (await safe.connected()).request("conversation.create"))["id"]
        await safe.start("first", input="x", conversation=conversation, params={"demo": {"rate": 50, "tokens": 250}})
        queued = await lost.start(
            "second", input="y", conversation=conversation, on_busy="queue", params={"demo": {"rate": 0, "tokens": 5}}
        )
        assert queued["status"] == "queued"
        w.kill(0)
        assert (await safe.ending("first"))["type"] == "turn.completed"
        assert (await lost.ending("second"))["type"] == "turn.completed"
        async with client(w.urls()[0]) as c:
            messages = (await c.request("conversation.messages", conversation=conversation))["messages"]
            assert [m["role"] for m in messages] == ["user", "user", "assistant", "assistant"]


async def test_law_7_a_device_sees_turns_of_other_instances(tmp_path: Path) -> None:
    """Law 7: a client that is attached to a conversation, or to the list, on one instance gets the turns and changes of the
    other instance. An answer that was cut on one of them is continued on the other, pinned or not."""
    async with world(tmp_path) as w, client(w.urls()[0]) as one, client(w.urls()[1]) as two:
        conversation = (await one.request("conversation.create"))["id"]
        await two.request("conversation.attach", conversation=conversation)
        await two.request("conversations.attach")

        def listed(**state: Any) -> bool:
            changes = [f for f in two.frames if f["type"] == "conversations.changed"]
            return any(state.items() <= change.items() for change in changes)

        demo = {"demo": {"rate": 100, "tokens": 50}}
        await one.request("turn.start", turn="t", input="x", conversation=conversation, params=demo)
        await two.ending("t")
        assert two.turns["t"].text() == expected("x", demo["demo"])
        await one.request("conversation.update", conversation=conversation, title="New")
        await two.until(lambda: any(f["type"] == "conversation.updated" and f["title"] == "New" for f in two.frames))
        await one.request("conversation.update", conversation=conversation, pinned=True)
        message = (await two.ending("t"))["message"]
        await two.until(lambda: listed(title="New", pinned=True, head=message))
        cut = {**demo["demo"], "fail": "length", "fail_after": 20}
        await two.request("turn.start", turn="u", input="y", conversation=conversation, params={"demo": cut})
        parent = (await two.ending("u"))["message"]
        await one.request(
            "turn.start", turn="v", conversation=conversation, parent=parent, params=demo, **{"continue": True}
        )
        await two.ending("v")
        assert two.turns["v"].text() == expected("y", demo["demo"])
        listed_now = await two.request("conversation.list", pinned=True)
        assert [one["id"] for one in listed_now["conversations"]] == [conversation]
        await one.request("conversation.delete", conversation=conversation)
        await two.until(lambda: any(f["type"] == "conversation.deleted" for f in two.frames))
        await two.until(lambda: listed(conversation=conversation, change="deleted"))
