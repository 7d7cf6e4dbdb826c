"""The `conversation.*` and `feedback.put` requests of one client."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any

import pytest

from gateway.requests.services import Services
from tests.client import RequestFailed
from tests.credentials import SECRET
from tests.in_process import SLOW, ControlledStore, SessionClient, open_client, open_services

AT_ONCE = {"demo": {"rate": 0}}


async def test_a_conversation_is_created_read_updated_and_deleted(ann: SessionClient) -> None:
    """Each answer is the current state of the conversation."""
    made = await ann.request("conversation.create", title="T", system="S", model="demo", metadata={"a": [1, None]})
    assert (made["title"], made["system"], made["model"], made["metadata"]) == (
        "T",
        "S",
        "demo",
        {"a": [1, None]},
    )
    assert (made["head"], made["revision"], made["messages"], made["cost"]) == (None, 0, 0, None)
    assert await ann.request("conversation.get", conversation=made["id"]) == made
    changed = await ann.request("conversation.update", conversation=made["id"], title="New", metadata={})
    assert (changed["title"], changed["metadata"], changed["system"], changed["revision"]) == (
        "New",
        {},
        "S",
        1,
    )
    assert await ann.request("conversation.delete", conversation=made["id"]) == {}
    assert (await ann.refused("conversation.get", conversation=made["id"]))["code"] == "not_found"


async def test_a_client_may_choose_the_id(services: Services, ann: SessionClient) -> None:
    """Creating it again returns it unchanged. Another user's conversation of that id is a different one (law 12)."""
    made = await ann.request("conversation.create", conversation="mine", title="T")
    assert (made["id"], made["title"]) == ("mine", "T")
    assert await ann.request("conversation.create", conversation="mine", title="Other", system="S") == made
    async with open_client(services, "bob") as bob:
        assert (await bob.refused("conversation.get", conversation="mine"))["code"] == "not_found"
        theirs = await bob.request("conversation.create", conversation="mine", title="Bob's")
        await bob.start("t1", "Hi", conversation="mine")
        assert (await bob.request("turn.cancel", conversation="mine"))["turns"].keys() == {"t1"}
        await bob.ending("t1")
        assert theirs["title"] == "Bob's"
    assert await ann.request("conversation.get", conversation="mine") == made


async def test_a_start_may_create_its_conversation(ann: SessionClient) -> None:
    """With `create`, a missing conversation is created with the id, system and model in the start; without, the start is
    refused."""
    fields = {"input": "Hi", "params": {"demo": {"rate": 0, "tokens": 2}}, "conversation": "mine"}
    error = await ann.refused("turn.start", turn="t0", **fields)
    assert (error["code"], error["path"]) == ("not_found", "conversation")
    for turn, system in (("t1", "Be brief."), ("t2", "Be long.")):
        result = await ann.request("turn.start", turn=turn, create=True, system=system, model="demo", **fields)
        assert result["conversation"] == "mine"
        await ann.ending(turn)
    made = await ann.request("conversation.get", conversation="mine")
    assert (made["system"], made["model"], made["title"], made["messages"]) == ("Be brief.", "demo", "Hi", 4)
    repeated = await ann.request("turn.start", turn="t1", create=True, system="Be brief.", model="demo", **fields)
    assert repeated["status"] == "attached"
    await ann.request("conversation.delete", conversation="mine")
    await ann.request("turn.start", turn="t3", create=True, **fields)
    await ann.ending("t3")
    page = await ann.request("conversation.messages", conversation="mine")
    assert [message["turn"] for message in page["messages"]] == ["t3", "t3"]


async def test_an_unknown_model_is_refused(ann: SessionClient) -> None:
    """A conversation can't be created or updated with an unknown model."""
    made = await ann.request("conversation.create")
    assert (await ann.refused("conversation.create", model="nope"))["code"] == "model_not_found"
    assert (await ann.refused("conversation.update", conversation=made["id"], model="nope"))[
        "code"
    ] == "model_not_found"


async def test_conversations_are_listed_in_pages(ann: SessionClient) -> None:
    """The newest conversation comes first. `next` is passed as `before`, and the last page has none."""
    made = [(await ann.request("conversation.create", title=f"Number {n}"))["id"] for n in range(5)]
    read: list[str] = []
    fields: dict[str, Any] = {"limit": 2}
    for pages in range(3):
        page = await ann.request("conversation.list", **fields)
        read += [one["id"] for one in page["conversations"]]
        assert ("next" in page) == (pages < 2)
        fields["before"] = page.get("next")
    assert read == made[::-1]
    found = await ann.request("conversation.list", query="number 3")
    assert [one["id"] for one in found["conversations"]] == [made[3]]
    assert (await ann.refused("conversation.list", before="unknown"))["code"] == "not_found"


async def test_a_page_is_bounded_in_bytes(ann: SessionClient) -> None:
    """A page of conversations or messages has at most 128 KiB, and reports if there is more."""
    made = [(await ann.request("conversation.create", system="s" * 50_000))["id"] for _ in range(4)]
    page = await ann.request("conversation.list")
    assert [one["id"] for one in page["conversations"]] == made[:1:-1]
    rest = await ann.request("conversation.list", before=page["next"])
    assert [one["id"] for one in rest["conversations"]] == made[1::-1]
    assert "next" not in rest
    conversation = made[0]
    for n in range(3):
        await ann.start(f"t{n}", "x" * 60_000, conversation=conversation)
        await ann.ending(f"t{n}")
    last = await ann.request("conversation.messages", conversation=conversation)
    assert [one["role"] for one in last["messages"]] == [
        "assistant",
        "user",
        "assistant",
        "user",
        "assistant",
    ]
    first = await ann.request("conversation.messages", conversation=conversation, before=last["next"])
    assert [one["turn"] for one in first["messages"]] == ["t0"]
    assert "next" not in first


async def test_messages_are_the_complete_tree_by_time(ann: SessionClient) -> None:
    """All branches are included. The newest page comes first, and each page begins with its oldest message."""
    conversation = (await ann.start("a"))["conversation"]
    ending = await ann.ending("a")
    await ann.start("b", conversation=conversation)
    await ann.ending("b")
    await ann.start("c", conversation=conversation, parent=ending["message"])
    await ann.ending("c")
    messages = (await ann.request("conversation.messages", conversation=conversation))["messages"]
    assert [(one["turn"], one["role"]) for one in messages] == [
        (turn, role) for turn in "abc" for role in ("user", "assistant")
    ]
    assert messages[4]["parent"] == messages[2]["parent"] == ending["message"]
    assert [one["ended"] for one in messages if one["role"] == "assistant"] == ["completed"] * 3
    page = await ann.request("conversation.messages", conversation=conversation, limit=2)
    assert [one["turn"] for one in page["messages"]] == ["c", "c"]
    assert page["next"] == messages[4]["id"]


async def test_an_answer_can_be_regenerated(ann: SessionClient) -> None:
    """A start without input whose `parent` is a user message regenerates the answer."""
    conversation = (await ann.start("a"))["conversation"]
    await ann.ending("a")
    question = (await ann.request("conversation.messages", conversation=conversation))["messages"][0]["id"]
    await ann.request(
        "turn.start",
        turn="b",
        conversation=conversation,
        parent=question,
        params={"demo": {"rate": 0, "tokens": 3}},
    )
    ending = await ann.ending("b")
    messages = (await ann.request("conversation.messages", conversation=conversation))["messages"]
    assert [one["parent"] for one in messages] == [None, question, question]
    assert (await ann.request("conversation.get", conversation=conversation))["head"] == ending["message"]


async def test_a_cleared_conversation_has_no_head(ann: SessionClient) -> None:
    """The head is empty, the history remains, and a later turn has no parent."""
    conversation = (await ann.start("a"))["conversation"]
    await ann.ending("a")
    assert await ann.request("conversation.clear", conversation=conversation) == {}
    assert (await ann.request("conversation.get", conversation=conversation))["head"] is None
    await ann.start("b", conversation=conversation)
    await ann.ending("b")
    assert ann.turns["b"].frames[0]["input"].get("parent") is None
    assert len((await ann.request("conversation.messages", conversation=conversation))["messages"]) == 4


async def test_an_attached_conversation_delivers_every_turn(ann: SessionClient, services: Services) -> None:
    """Running turns are replayed from 0, and new turns of other connections arrive, until the detach."""
    conversation = (await ann.start("a", demo=SLOW))["conversation"]
    async with open_client(services) as other:
        answer = await other.request("conversation.attach", conversation=conversation)
        assert (answer["conversation"], answer["gone"]) == (conversation, {})
        assert answer["turns"]["a"]["from"] == 0
        assert answer["revision"] == (await ann.request("conversation.get", conversation=conversation))["revision"]
        await ann.start("b", conversation=conversation)
        await other.ending("b")
        assert (await other.request("conversation.attach", conversation=conversation))["turns"] == {}
        assert await other.request("conversation.detach", conversation=conversation) == {}
        await ann.start("c", conversation=conversation)
        await ann.ending("c")
        await ann.request("turn.cancel", turn="a")
        await other.ending("a")
        assert "c" not in other.turns


async def test_an_attach_resumes_from_positions(ann: SessionClient, services: Services, store: ControlledStore) -> None:
    """Running and ended turns in `positions` continue. If a turn can't, it is in `gone`, with its message if there is one."""
    conversation = (await ann.start("ended"))["conversation"]
    await ann.ending("ended")
    await ann.start("old", conversation=conversation)
    old = await ann.ending("old")
    services.registry.remove(services.registry.get("ann", "old"))  # type: ignore[arg-type]
    store.expire_logs()
    await ann.start("running", conversation=conversation, demo=SLOW)
    await ann.until(lambda: ann.turns["running"].seq > 3)
    async with open_client(services) as other:
        positions = {turn: ann.turns[turn].position for turn in ("ended", "old", "running")}
        other.resume("running", positions["running"])
        answer = await other.request(
            "conversation.attach",
            conversation=conversation,
            positions={**positions, "unknown": {"epoch": 1, "seq": 1}},
        )
        assert set(answer["turns"]) == {"ended", "running"}
        assert answer["turns"]["running"]["from"] == positions["running"]["seq"]
        assert answer["gone"] == {"old": old["message"], "unknown": None}
        await other.until(lambda: other.turns["running"].seq > positions["running"]["seq"])


async def test_a_position_in_a_turn_of_another_conversation_is_gone(ann: SessionClient) -> None:
    """A turn in `positions` must belong to this conversation; otherwise none of its events arrive."""
    here, there = await ann.start("here"), await ann.start("there")
    await ann.ending("here")
    await ann.ending("there")
    before = len(ann.of("there"))
    positions = {turn: {"epoch": 0, "seq": 0} for turn in ("there", "here")}
    answer = await ann.request("conversation.attach", conversation=here["conversation"], positions=positions)
    assert (answer["gone"], list(answer["turns"])) == ({"there": None}, ["here"])
    await ann.until(lambda: len(ann.of("here", "turn.completed")) == 2)
    assert len(ann.of("there")) == before
    assert there["conversation"] != here["conversation"]


async def test_a_turn_that_starts_while_attaching_is_not_missed(
    ann: SessionClient, services: Services, store: ControlledStore
) -> None:
    """The conversation is subscribed to before it is read, so a turn that is accepted in between isn't missed."""
    conversation = (await ann.request("conversation.create"))["id"]
    async with open_client(services) as other:
        with store.blocked("conversation") as reading:
            attach = other.send("conversation.attach", conversation=conversation)
            await reading.wait()
        await ann.start("t", conversation=conversation)
        await other.answer(attach)
        await other.ending("t")


async def test_another_users_attach_delivers_no_turn(
    ann: SessionClient, services: Services, store: ControlledStore
) -> None:
    """Law 12: an attach to another user's conversation delivers none of its events, not even before the refusal."""
    conversation = (await ann.request("conversation.create"))["id"]
    async with open_client(services, "eve") as eve:
        with store.blocked("conversation") as reading:
            attach = eve.send("conversation.attach", conversation=conversation)
            await reading.wait()
            start = ann.send(
                "turn.start", turn="t", input="Secret", conversation=conversation, params={"demo": {"rate": 0}}
            )
            await asyncio.sleep(0)
        await ann.answer(start)
        await ann.ending("t")
        await eve.until(lambda: eve.answered(attach))
        assert (eve.answered(attach) or {})["error"]["code"] == "not_found"
        await ann.start("later", conversation=conversation)
        await ann.ending("later")
        eve.drain()
        assert [frame["type"] for frame in eve.frames] == ["error"]


async def test_a_failed_attach_subscribes_to_nothing(
    ann: SessionClient, services: Services, store: ControlledStore
) -> None:
    """A failed attach leaves no subscription. A subscription from before it remains."""
    conversation = (await ann.request("conversation.create"))["id"]
    async with open_client(services) as other, open_client(services) as subscriber:
        await subscriber.request("conversation.attach", conversation=conversation)
        with store.failing("conversation"):
            for client in (other, subscriber):
                assert (await client.refused("conversation.attach", conversation=conversation))[
                    "code"
                ] == "store_unavailable"
        await ann.start("t", conversation=conversation)
        await subscriber.ending("t")
        other.drain()
        assert other.turns == {}


async def test_changes_reach_every_attached_connection(ann: SessionClient, services: Services) -> None:
    """An update, a clear and the deletion reach every connection that is attached to the conversation."""
    conversation = (await ann.request("conversation.create"))["id"]
    async with open_client(services) as other:
        await other.request("conversation.attach", conversation=conversation)
        await ann.request("conversation.update", conversation=conversation, title="New")
        await ann.request("conversation.clear", conversation=conversation)
        await ann.request("conversation.delete", conversation=conversation)
        await other.until(lambda: other.frames[-1]["type"] == "conversation.deleted")
        assert other.frames[-3:] == [
            {
                "type": "conversation.updated",
                "conversation": conversation,
                "revision": 1,
                "title": "New",
                "head": None,
                "system": "",
            },
            {
                "type": "conversation.updated",
                "conversation": conversation,
                "revision": 2,
                "title": "New",
                "head": None,
                "system": "",
            },
            {"type": "conversation.deleted", "conversation": conversation},
        ]


async def test_a_closed_connection_has_no_subscription(ann: SessionClient, services: Services) -> None:
    """A closed connection leaves no subscription in the registry."""
    conversation = (await ann.request("conversation.create"))["id"]
    async with open_client(services) as other:
        await other.request("conversation.attach", conversation=conversation)
    await ann.start("t", conversation=conversation)
    await ann.ending("t")
    assert other.turns == {}
    assert services.registry._subscriptions == {}


@pytest.mark.parametrize(
    ("kind", "fields"),
    [
        ("conversation.get", {}),
        ("conversation.update", {"title": "x"}),
        ("conversation.clear", {}),
        ("conversation.delete", {}),
        ("conversation.messages", {}),
        ("conversation.attach", {}),
        ("conversation.detach", {}),
    ],
)
async def test_another_users_conversation_is_not_found(
    ann: SessionClient, services: Services, kind: str, fields: dict[str, Any]
) -> None:
    """Law 12: another user's conversation is answered exactly like one that doesn't exist."""
    conversation = (await ann.request("conversation.create", title="Mine"))["id"]
    async with open_client(services, "bob") as bob:
        theirs = await bob.refused(kind, conversation=conversation, **fields)
        nothing = await bob.refused(kind, conversation="c_unknown", **fields)
        assert theirs == nothing
        assert theirs["code"] == "not_found"
    assert (await ann.request("conversation.get", conversation=conversation))["title"] == "Mine"


async def test_a_turn_started_during_the_deletion_is_cancelled(ann: SessionClient, store: ControlledStore) -> None:
    """A deletion also cancels a turn that the store accepts after the running turns of the conversation were read."""
    conversation = (await ann.request("conversation.create"))["id"]
    with store.blocked("delete_conversation") as deleting:
        delete = ann.send("conversation.delete", conversation=conversation)
        await deleting.wait()
        await ann.start("late", conversation=conversation, demo=SLOW)
    assert await ann.answer(delete) == {}
    assert (await ann.ending("late"))["reason"] == "The conversation was deleted."
    assert (await ann.refused("conversation.messages", conversation=conversation))["code"] == "not_found"


async def test_feedback_is_stored_for_the_users_own_messages(ann: SessionClient, services: Services) -> None:
    """A rating is up, down or 1 to 5, with or without a comment. Its user finds both in the message. Law 12: another
    user's message is not found."""
    result = await ann.start("t")
    message = (await ann.ending("t"))["message"]
    for rating, comment in (("up", "So so."), ("down", None), (1, "So so."), (5, None), (5, "")):
        assert await ann.request("feedback.put", message=message, rating=rating, comment=comment) == {}
        listed = (await ann.request("conversation.messages", conversation=result["conversation"]))["messages"]
        assert (listed[1]["rating"], listed[1].get("comment")) == (rating, comment or None)
        assert listed[1] == (await ann.request("turn.get", turn="t"))["message"]
        assert not {"rating", "comment"} & listed[0].keys()
    async with open_client(services, "bob") as bob:
        assert (await bob.refused("feedback.put", message=message, rating="up"))["code"] == "not_found"


async def test_law_11_ratings_of_long_answers_are_bounded(store: ControlledStore) -> None:
    """Each rating reads its message. A connection reads one message at a time, and large ones count toward the user's
    limit on long answers."""
    fields: dict[str, Any] = {"auth": "jwt", "jwt_secret": SECRET, "body_bytes": 65_536, "bodies_bytes": 65_536}
    async with open_services(store, user_body_bytes_per_s=1024, **fields) as services, open_client(services) as ann:
        await ann.start("t", demo={"text": "word " * 50, "tokens": 15_000, "rate": 0})
        message = (await ann.ending("t"))["message"]
        store.calls.clear()
        with store.blocked("message") as reading:
            requests = [ann.send("feedback.put", message=message, rating="up") for _ in range(2)]
            await reading.wait()
            await asyncio.sleep(0.01)
            assert store.calls.count("message") == 1
        for request in requests:
            assert await ann.answer(request) == {}
        for _ in range(30):
            with suppress(RequestFailed):
                await ann.request("feedback.put", message=message, rating="up")
        refused = await ann.refused("feedback.put", message=message, rating="up")
        assert (refused["code"], refused["retryable"]) == ("rate_limited", True)


async def test_a_search_finds_parts_of_titles(ann: SessionClient, store: ControlledStore) -> None:
    """Case is ignored in every script, and the query isn't a pattern."""
    titles = ["Straße 100%", "rain", "Trains", "ПРИВЕТ", "RAIN_3", "", "grain"]
    made = [(await ann.request("conversation.create", title=title))["id"] for title in titles]

    async def found(query: str, **fields: Any) -> list[str]:
        page = await ann.request("conversation.list", query=query, **fields)
        return [one["title"] for one in page["conversations"]]

    store.calls.clear()
    assert await found("rain") == ["grain", "RAIN_3", "Trains", "rain"]
    assert store.calls == ["search"]
    assert await found("привет") == ["ПРИВЕТ"]
    assert await found("STRASSE 1") == ["Straße 100%"]
    assert await found("n_3") == ["RAIN_3"]
    assert await found("%") == ["Straße 100%"]
    assert await found("nothing") == []
    assert await found("") == titles[::-1]
    page = await ann.request("conversation.list", query="rain", limit=2)
    assert page["next"] == made[4]
    assert await found("rain", limit=2, before=page["next"]) == ["Trains", "rain"]
    assert (await ann.refused("conversation.list", query="rain", before="unknown"))["code"] == "not_found"


async def test_a_search_shows_where_it_was_found(ann: SessionClient) -> None:
    """A result has the newest message that matches, and the text around the match. If only the title matches, it has
    neither."""
    found = await ann.request("turn.start", turn="t1", input="The needle is in  the hay.", params=AT_ONCE)
    await ann.ending("t1")
    titled = await ann.request("conversation.create", title="Needles")
    page = await ann.request("conversation.list", query="needle")
    assert [one["id"] for one in page["conversations"]] == [titled["id"], found["conversation"]]
    assert "match" not in page["conversations"][0]
    messages = (await ann.request("conversation.messages", conversation=found["conversation"]))["messages"]
    match = page["conversations"][1]["match"]
    assert match["message"] in {message["id"] for message in messages}
    assert "needle" in match["snippet"]
    page = await ann.request("conversation.list", query='"in the hay"')
    assert page["conversations"][0]["match"]["snippet"].count("in the hay") == 1
    assert all("match" not in one for one in (await ann.request("conversation.list"))["conversations"])


async def test_a_page_reads_a_bounded_size_of_messages(store: ControlledStore) -> None:
    """Law 11: a page ends after `context_bytes` of stored messages, because their data has to be read, although the page
    shows only URLs in its place."""
    image = {"kind": "image", "media_type": "image/png", "data": "QUFB" * 8_000}
    async with (
        open_services(store, body_bytes=65_536, context_bytes=65_536) as services,
        open_client(services) as ann,
    ):
        conversation = (await ann.request("conversation.create"))["id"]
        for n in range(3):
            given = {"input": [image], "conversation": conversation, "params": AT_ONCE}
            await ann.request("turn.start", turn=f"t{n}", **given)
            await ann.ending(f"t{n}")
        read: list[str] = []
        fields: dict[str, Any] = {}
        while "before" not in fields or fields["before"]:
            page = await ann.request("conversation.messages", conversation=conversation, **fields)
            assert len(page["messages"]) < 6
            read = [one["turn"] for one in page["messages"]] + read
            fields["before"] = page.get("next")
    assert read == ["t0", "t0", "t1", "t1", "t2", "t2"]
