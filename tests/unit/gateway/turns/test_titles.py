"""Titles that a model writes: once, after the first answer, in the user's budget, and never in the way of a turn."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
import structlog

from gateway.protocol.ids import now_ms
from gateway.requests.services import Services
from gateway.turns import titles
from gateway.turns.titles import cheapest_model, title_from
from providers.base import ChatRequest, Delta, Finished, PartDelta, PartStarted, TextPart
from providers.catalog.catalog import Catalog
from store.records import Change
from tests.in_process import ControlledStore, SessionClient, eventually, open_client, open_services
from tests.scripted import ScriptedProviders

WRITTEN = "Bread, and how to bake it"


class Writer:
    """A provider that answers, and writes titles, after `answer_after` and `title_after` are set."""

    def __init__(self, said: str = f'**"{WRITTEN}."**\nMore') -> None:
        self.said = said
        self.asked: list[str] = []
        self.title_after, self.answer_after = asyncio.Event(), asyncio.Event()
        self.title_after.set()
        self.answer_after.set()

    async def __call__(self, request: ChatRequest) -> AsyncIterator[list[Delta]]:
        part = request.messages[-1].parts[0]
        assert isinstance(part, TextPart)
        said = "An answer"
        if "Write a title" in part.text:
            self.asked.append(part.text)
            await self.title_after.wait()
            said = self.said
        else:
            await self.answer_after.wait()
        yield [PartStarted(0, "text"), PartDelta(0, said)]
        yield [Finished("stop")]


async def titled(client: SessionClient, conversation: str, title: str) -> dict[str, Any]:
    """Wait until the conversation has this title, and return it."""
    found: dict[str, Any] = {}
    async with asyncio.timeout(10):
        while found.get("title") != title:
            found = await client.request("conversation.get", conversation=conversation)
            await asyncio.sleep(0.01)
    return found


def counts(services: Services) -> dict[str, float]:
    """Return how many titles had each outcome."""
    found = {}
    for outcome in ("written", "failed", "skipped", "superseded"):
        found[outcome] = services.telemetry.titles.labels(outcome)._value.get()
    return {outcome: count for outcome, count in found.items() if count}


async def test_the_first_answer_gets_a_title(store: ControlledStore) -> None:
    """It replaces the automatic one, is one plain line, reaches attached clients, and is in the usage, but in no history. A
    second answer, and a conversation that has its own title, get none."""
    writer = Writer()
    async with open_services(store, ScriptedProviders(writer), titles="demo") as services, open_client(services) as ann:
        placed = await ann.request("turn.start", turn="t1", input="How to bake bread? " * 400)
        conversation = placed["conversation"]
        await ann.request("conversation.attach", conversation=conversation)
        await ann.ending("t1")
        found = await titled(ann, conversation, WRITTEN)
        await ann.until(
            lambda: any(f.get("title") == WRITTEN for f in ann.frames if f["type"] == "conversation.updated")
        )
        assert [f["system"] for f in ann.frames if f["type"] == "conversation.updated"] == [""]
        assert (found["messages"], found["head"]) == (2, ann.turns["t1"].frames[0]["message"])
        assert len(writer.asked[0]) < 4_500
        whole, own = await ann.request("usage.get"), await ann.request("usage.get", conversation=conversation)
        assert whole["usage"]["input_tokens"] > own["usage"]["input_tokens"]
        await ann.start("t2", conversation=conversation)
        await ann.ending("t2")
        named = (await ann.request("conversation.create", title="Mine"))["id"]
        await ann.start("t3", conversation=named)
        await ann.ending("t3")
        await eventually(lambda: not services.runner.on_completed.__self__._users)  # type: ignore[union-attr]
        assert (len(writer.asked), counts(services)) == (1, {"written": 1})


async def test_a_title_delays_nothing_and_is_bounded(store: ControlledStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """While a title is being written, turns go on, and the user's next conversation gets none. A title that the client gave
    meanwhile stays. One that takes too long is given up, and its turn is stopped."""
    writer = Writer()
    writer.title_after.clear()
    async with open_services(store, ScriptedProviders(writer), titles="demo") as services, open_client(services) as ann:
        first = (await ann.start("t1", "One"))["conversation"]
        await ann.ending("t1")
        await eventually(lambda: writer.asked)
        await ann.start("t2", "Two")
        await ann.ending("t2")
        assert counts(services) == {"skipped": 1}
        await ann.request("conversation.update", conversation=first, title="Mine")
        writer.title_after.set()
        await eventually(lambda: counts(services) == {"skipped": 1, "superseded": 1})
        assert (await ann.request("conversation.get", conversation=first))["title"] == "Mine"
        monkeypatch.setattr(titles, "TIMEOUT_S", 0.05)
        writer.title_after.clear()
        await ann.start("t3", "Three")
        await ann.ending("t3")
        await eventually(lambda: counts(services).get("failed"))
        await eventually(lambda: not services.registry.live("ann"))


async def test_a_rename_at_the_last_moment_stays(store: ControlledStore) -> None:
    """A client's title wins, even if it arrives when the model's is on its way to the store."""
    async with (
        open_services(store, ScriptedProviders(Writer()), titles="demo") as services,
        open_client(services) as ann,
    ):
        with store.blocked("update_conversation") as waits:
            conversation = (await ann.start("t1", "One"))["conversation"]
            await ann.ending("t1")
            await waits.wait()
            await store.real.update_conversation("ann", conversation, Change(title="Mine"), now_ms())
        await eventually(lambda: counts(services) == {"superseded": 1})
        assert (await ann.request("conversation.get", conversation=conversation))["title"] == "Mine"


async def test_a_prompt_in_the_queue_keeps_no_title_away(store: ControlledStore) -> None:
    """A conversation gets its title after the first answer, even if the next prompt waits already, and even if that answer was
    begun again."""
    writer = Writer()
    writer.answer_after.clear()
    async with open_services(store, ScriptedProviders(writer), titles="demo") as services, open_client(services) as ann:
        placed = await ann.start("t1", "One")
        conversation = placed["conversation"]
        await ann.start("t2", "Two", conversation=conversation, on_busy="queue")
        writer.answer_after.set()
        await titled(ann, conversation, WRITTEN)
        await ann.ending("t2")
        writer.answer_after.clear()
        other = (await ann.start("t3", "Three"))["conversation"]
        await ann.request("turn.cancel", turn="t3")
        parent = (await ann.request("conversation.messages", conversation=other))["messages"][0]["id"]
        writer.answer_after.set()
        await eventually(lambda: not services.runner.on_completed.__self__._users)  # type: ignore[union-attr]
        await ann.request("turn.start", turn="t4", conversation=other, parent=parent)
        await titled(ann, other, WRITTEN)


async def test_a_model_that_does_not_exist_is_named_at_the_start(store: ControlledStore) -> None:
    """The operator needn't wait for the first title to see a typing error."""
    with structlog.testing.capture_logs() as logs:
        for model in ("no-such-model", "demo", "auto"):
            async with open_services(store, titles=model):
                pass
    found = [one for one in logs if one.get("setting") == "TURNWIRE_TITLES"]
    assert [(one["log_level"], "no-such-model" in one["error"]) for one in found] == [("warning", True)]


@pytest.mark.parametrize(
    "fields", [{"titles": "no-such-model"}, {"titles": "demo", "said": " \n**\n"}, {"titles": "auto"}]
)
async def test_a_title_that_cannot_be_written_changes_nothing(store: ControlledStore, fields: dict[str, str]) -> None:
    """A model that doesn't exist or says nothing, or no model with a price: the conversation keeps its title."""
    writer = Writer(fields.pop("said", "x"))
    async with open_services(store, ScriptedProviders(writer), **fields) as services, open_client(services) as ann:
        conversation = (await ann.start("t1", "Hello there"))["conversation"]
        await ann.ending("t1")
        await eventually(lambda: counts(services))
        assert (await ann.request("conversation.get", conversation=conversation))["title"] == "Hello there"


async def test_a_budget_that_is_used_up_gives_no_title(store: ControlledStore) -> None:
    """A title isn't written on top of the user's budget."""
    writer = Writer()
    fields = {"titles": "demo", "user_tokens_per_day": 1}
    async with open_services(store, ScriptedProviders(writer), **fields) as services, open_client(services) as ann:
        await ann.start("t1")
        await ann.ending("t1")
        await eventually(lambda: counts(services) == {"failed": 1})
        assert writer.asked == []


async def test_without_the_setting_no_title_is_written(ann: SessionClient, services: Services) -> None:
    """Nothing is called after an answer."""
    assert services.runner.on_completed is None


def test_the_cheapest_usable_model_writes_titles() -> None:
    """Of the models with a key and a known price; never the demo model. None without any key."""
    assert cheapest_model(Catalog({})) is None
    model = cheapest_model(Catalog({"OPENAI_API_KEY": "k", "ANTHROPIC_API_KEY": "k"}))
    assert model is not None
    assert model != "demo"


@pytest.mark.parametrize(
    ("said", "title"),
    [
        ("Bread", "Bread"),
        ("\n\n## **Bread.**\nMore", "Bread"),
        ("Title: “Bread”", "Bread"),
        ("Bread: how to", "Bread: how to"),
        ("a\x1b[31m\tb", r"a\x1b[31m b"),
        ("x" * 100, "x" * 59 + "…"),
        (" \n*\n", ""),
        ("*" * 100_000, ""),
    ],
)
def test_a_title_is_one_plain_line(said: str, title: str) -> None:
    """The first line with text, without markup, quotation marks and a final period, and not longer than a title."""
    assert title_from(said) == title
