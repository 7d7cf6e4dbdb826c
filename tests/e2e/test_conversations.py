"""Conversations over a real socket: history, branches, several devices, and starts in a busy conversation."""

from __future__ import annotations

from typing import Any

import httpx2
import pytest

from tests.client import Client, RequestFailed, client
from tests.gateway_process import GatewayProcess

pytestmark = pytest.mark.e2e


async def run_turn(c: Client, turn: str, text: str, **fields: Any) -> Any:
    """Start a short turn, wait for its end, and return the result of the start."""
    answer = await c.request("turn.start", turn=turn, input=text, params={"demo": {"rate": 0, "tokens": 5}}, **fields)
    await c.ending(turn)
    return answer


async def test_a_conversation_grows_branches_and_is_read_in_pages(gateway: GatewayProcess) -> None:
    """A turn is appended to the head, or with `parent` begins a branch or regenerates an answer. The last page is read
    first, and messages within a page are in order."""
    async with client(gateway.ws_url) as c:
        conversation = (await run_turn(c, "t1", "First question, which gives the title"))["conversation"]
        await run_turn(c, "t2", "Second", conversation=conversation)
        page = await c.request("conversation.messages", conversation=conversation)
        ids = [message["id"] for message in page["messages"]]
        parents = [message["parent"] for message in page["messages"]]
        assert parents == [None, ids[0], ids[1], ids[2]]
        assert "next" not in page

        await run_turn(c, "edit", "Second, better", conversation=conversation, parent=ids[1])
        regenerated = await c.request("turn.start", turn="again", conversation=conversation, parent=ids[2])
        await c.ending("again")
        assert regenerated["conversation"] == conversation
        started = c.turns["again"].frames[0]
        assert (started["input"], started["parent"]) == (None, ids[2])

        whole = (await c.request("conversation.messages", conversation=conversation))["messages"]
        assert len(whole) == 7
        last = await c.request("conversation.messages", conversation=conversation, limit=3)
        assert [m["id"] for m in last["messages"]] == [m["id"] for m in whole[-3:]]
        before = await c.request("conversation.messages", conversation=conversation, limit=3, before=last["next"])
        assert [m["id"] for m in before["messages"]] == [m["id"] for m in whole[-6:-3]]

        got = await c.request("conversation.get", conversation=conversation)
        assert got["title"] == "First question, which gives the title"
        assert (got["messages"], got["head"]) == (7, whole[-1]["id"])
        assert got["usage"]["output_tokens"] > 0
        usage = await c.request("usage.get", conversation=conversation)
        assert usage["usage"] == got["usage"]


async def test_clear_empties_the_context_and_keeps_the_history(gateway: GatewayProcess) -> None:
    """After `clear` later turns are sent without the earlier messages, as their input tokens show, and the history
    keeps all messages."""
    async with client(gateway.ws_url) as c:
        conversation = (await run_turn(c, "t1", "x" * 4000))["conversation"]
        await run_turn(c, "t2", "y", conversation=conversation)
        long = c.turns["t2"].ended
        assert long is not None
        await c.request("conversation.clear", conversation=conversation)
        await run_turn(c, "t3", "y", conversation=conversation)
        short = c.turns["t3"].ended
        assert short is not None
        assert short["usage"]["input_tokens"] < long["usage"]["input_tokens"] / 4
        assert len((await c.request("conversation.messages", conversation=conversation))["messages"]) == 6


async def test_list_update_and_delete(gateway: GatewayProcess) -> None:
    """Conversations are listed newest first, found by title, updated, and deleted together with their running turns."""
    async with client(gateway.ws_url) as c:
        made = [await c.request("conversation.create", title=f"Topic {n}") for n in range(5)]
        listed = await c.request("conversation.list", limit=2)
        assert [item["title"] for item in listed["conversations"]] == ["Topic 4", "Topic 3"]
        more = await c.request("conversation.list", limit=10, before=listed["next"])
        assert [item["title"] for item in more["conversations"]] == ["Topic 2", "Topic 1", "Topic 0"]
        found = await c.request("conversation.list", query="PIC 3")
        assert [item["id"] for item in found["conversations"]] == [made[3]["id"]]

        changed = await c.request(
            "conversation.update", conversation=made[0]["id"], title="Renamed", metadata={"pin": True}
        )
        assert (changed["title"], changed["metadata"]) == ("Renamed", {"pin": True})
        assert changed["revision"] > made[0]["revision"]

        await c.request(
            "turn.start", turn="t", input="x", conversation=made[0]["id"], params={"demo": {"tokens": 5000}}
        )
        await c.until_seq("t", 3)
        assert await c.request("conversation.delete", conversation=made[0]["id"]) == {}
        assert (await c.ending("t"))["type"] == "turn.cancelled"
        with pytest.raises(RequestFailed) as refused:
            await c.request("conversation.get", conversation=made[0]["id"])
        assert refused.value.code == "not_found"


async def test_feedback_can_be_given_and_changed(gateway: GatewayProcess) -> None:
    """An answer can be rated, and rated again; an invalid rating is refused."""
    async with client(gateway.ws_url) as c:
        await run_turn(c, "t", "Hello")
        ended = c.turns["t"].ended
        assert ended is not None
        assert await c.request("feedback.put", message=ended["message"], rating="up") == {}
        assert await c.request("feedback.put", message=ended["message"], rating=2, comment="meh") == {}
        with pytest.raises(RequestFailed) as refused:
            await c.request("feedback.put", message=ended["message"], rating=6)
        assert refused.value.code == "invalid_request"
        conversation = c.turns["t"].frames[0]["conversation"]
        messages = (await c.request("conversation.messages", conversation=conversation))["messages"]
        assert (messages[-1]["rating"], messages[-1]["comment"]) == (2, "meh")
        async with httpx2.AsyncClient() as http:
            found = (await http.get(f"{gateway.url}/v1/admin/feedback?rating=2&limit=1")).json()["feedback"]
        assert [(one["message"], one["model"], one["comment"]) for one in found] == [(ended["message"], "demo", "meh")]


async def test_law_7_every_attached_device_sees_every_turn(gateway: GatewayProcess) -> None:
    """Law 7: a client that is attached to a conversation gets the running turns from seq 0, and the turns that
    another client starts later."""
    async with client(gateway.ws_url) as one, client(gateway.ws_url) as two:
        conversation = (await one.request("conversation.create"))["id"]
        demo = {"demo": {"rate": 100, "tokens": 60}}
        await one.request("turn.start", turn="running", input="x", conversation=conversation, params=demo)
        await one.until_seq("running", 10)
        attached = await two.request("conversation.attach", conversation=conversation)
        assert attached["turns"]["running"]["from"] == 0
        await one.request("turn.start", turn="later", input="y", conversation=conversation, params=demo)
        for turn in ("running", "later"):
            await two.ending(turn)
            await one.ending(turn)
            assert two.turns[turn].text() == one.turns[turn].text() != ""
        await one.request("conversation.update", conversation=conversation, title="New")
        await two.until(lambda: any(f["type"] == "conversation.updated" and f["title"] == "New" for f in two.frames))
        held = two.turns["later"].position
        again = await two.request(
            "conversation.attach",
            conversation=conversation,
            positions={"later": held, "nobody": {"epoch": 1, "seq": 1}},
        )
        assert again["turns"]["later"]["from"] == held["seq"]
        assert set(again["gone"]) == {"nobody"}
        await two.request("conversation.detach", conversation=conversation)
        await run_turn(one, "unseen", "z", conversation=conversation)
        await two.request("ping")
        assert "unseen" not in two.turns
        await one.request("conversation.delete", conversation=conversation)


async def test_on_busy(gateway: GatewayProcess) -> None:
    """While a turn runs, another start in its conversation is refused with `reject`, is queued with `queue`, and cancels
    the running turn with `interrupt`."""
    async with client(gateway.ws_url) as c:
        conversation = (await c.request("conversation.create"))["id"]

        async def begin(turn: str, tokens: int, **fields: Any) -> Any:
            demo = {"demo": {"rate": 200, "tokens": tokens}}
            return await c.request(
                "turn.start", turn=turn, input=turn, conversation=conversation, params=demo, **fields
            )

        await begin("first", 60)
        with pytest.raises(RequestFailed) as refused:
            await begin("refused", 5, on_busy="reject")
        assert (refused.value.code, refused.value.error["retryable"]) == ("busy", True)
        assert (await begin("queued", 20, on_busy="queue"))["status"] == "queued"
        assert (await begin("queued-too", 2000, on_busy="queue"))["status"] == "queued"
        await c.ending("queued")
        first, queued = c.turns["first"].frames, c.turns["queued"].frames
        assert c.frames.index(first[-1]) < c.frames.index(next(f for f in queued if f["type"] == "turn.part"))
        statuses = [(f["status"], f.get("position")) for f in queued if f["type"] == "turn.status"]
        assert statuses == [("queued", 1), ("running", None)]
        assert queued[0]["input"]["parent"] == first[0]["message"]
        await c.until_seq("queued-too", 20)
        assert (await begin("taking-over", 5, on_busy="interrupt"))["status"] == "running"
        assert (await c.ending("queued-too"))["type"] == "turn.cancelled"
        assert (await c.ending("taking-over"))["type"] == "turn.completed"


async def test_a_stateless_turn_has_no_conversation(gateway: GatewayProcess) -> None:
    """A turn with `messages` belongs to no conversation, and its answer is stored with the turn."""
    async with client(gateway.ws_url) as c:
        message = {"role": "user", "parts": [{"kind": "text", "text": "Hello"}]}
        started = await c.request("turn.start", turn="t", messages=[message], params={"demo": {"tokens": 7}})
        assert started["conversation"] is None
        await c.ending("t")
        first = c.turns["t"].frames[0]
        assert (first["conversation"], first["parent"], first["input"]) == (None, None, None)
        got = await c.request("turn.get", turn="t")
        assert got["message"]["parts"] == [{"kind": "text", "text": c.turns["t"].text()}]
        assert (await c.request("conversation.list"))["conversations"] == []


@pytest.mark.parametrize("second", ["interrupt", "parallel", "queue"])
async def test_starts_in_a_conversation_are_accepted_in_order(gateway: GatewayProcess, second: str) -> None:
    """A start with `interrupt` doesn't cancel a start that is sent directly after it: the later start finds the interrupting
    turn running."""
    async with client(gateway.ws_url) as c:
        conversation = (await c.request("conversation.create"))["id"]

        async def send(turn: str, on_busy: str) -> str:
            demo = {"demo": {"rate": 40, "tokens": 20}}
            return await c.send(
                "turn.start", turn=turn, input=turn, conversation=conversation, params=demo, on_busy=on_busy
            )

        await c.answer(await send("a", "parallel"))
        for sent in [await send("b", "interrupt"), await send("c", second)]:
            await c.answer(sent)
        assert (await c.ending("a"))["type"] == "turn.cancelled"
        assert (await c.ending("b"))["type"] == ("turn.cancelled" if second == "interrupt" else "turn.completed")
        assert (await c.ending("c"))["type"] == "turn.completed"
        answers = {turn: c.turns[turn].frames[0]["message"] for turn in "abc"}
        parents = {turn: c.turns[turn].frames[0]["input"]["parent"] for turn in "abc"}
        assert parents["b"] == answers["a"]
        assert parents["c"] == (answers["a"] if second == "parallel" else answers["b"])


async def test_queue_positions_are_updated_when_any_queued_turn_ends(gateway: GatewayProcess) -> None:
    """Each new queue position is sent to the client, even after a turn elsewhere in the queue is cancelled."""
    async with client(gateway.ws_url) as c:
        conversation = (await c.request("conversation.create"))["id"]
        for n in range(4):
            demo = {"demo": {"rate": 50, "tokens": 60 if n == 0 else 2}}
            await c.request(
                "turn.start", turn=f"t{n}", input="x", conversation=conversation, params=demo, on_busy="queue"
            )
        await c.request("turn.cancel", turn="t1")
        await c.ending("t3")

        def queue_positions(turn: str) -> list[Any]:
            return [f.get("position") for f in c.turns[turn].frames if f["type"] == "turn.status"]

        assert queue_positions("t2") == [2, 1, None]
        assert queue_positions("t3") == [3, 2, 1, None]


async def test_deleting_a_conversation_deletes_its_turns(gateway: GatewayProcess) -> None:
    """After a delete no message can be read or replayed. The search in titles ignores case, also of Cyrillic
    letters and ß."""
    async with client(gateway.ws_url) as c:
        conversation = (await run_turn(c, "t", "ПРИВЕТ Straße"))["conversation"]
        found = await c.request("conversation.list", query="привет STRASSE")
        assert [one["id"] for one in found["conversations"]] == [conversation]
        await c.request("conversation.delete", conversation=conversation)
        answer = await c.request("turn.attach", turn="t")
        error = answer["turns"]["t"]["error"]
        assert error["code"] == "gone"
        assert "stored_message" not in error, "the error names a deleted message"
        assert "message" not in await c.request("turn.get", turn="t")
