"""Pinned conversations: an update, a filter of the list, a bound."""

from __future__ import annotations

import pytest

from store.sqlite import history
from tests.in_process import SessionClient


async def test_a_pin_filters_the_list_and_moves_nothing(ann: SessionClient) -> None:
    """A pinned conversation keeps its place and its time. With another change it moves to the top as usual."""
    old, new = [(await ann.request("conversation.create", title=title))["id"] for title in ("old", "new")]
    before = await ann.request("conversation.get", conversation=old)
    pinned = await ann.request("conversation.update", conversation=old, pinned=True)
    assert pinned == {**before, "pinned": True, "revision": 1}

    async def listed(**fields: object) -> list[str]:
        return [one["id"] for one in (await ann.request("conversation.list", **fields))["conversations"]]

    assert (await listed(), await listed(pinned=True)) == ([new, old], [old])
    await ann.request("conversation.update", conversation=old, pinned=True, title="older")
    await ann.request("conversation.update", conversation=new, pinned=True)
    assert (await listed(), await listed(pinned=True)) == ([old, new], [old, new])
    first = await ann.request("conversation.list", pinned=True, limit=1)
    assert (first["next"], await listed(pinned=True, before=first["next"])) == (old, [new])
    await ann.request("conversation.update", conversation=old, pinned=False)
    assert await listed(pinned=True) == [new]
    error = await ann.refused("conversation.list", pinned=True, query="x")
    assert (error["code"], error["path"]) == ("invalid_request", "pinned")


async def test_one_pin_too_many_is_refused(ann: SessionClient, monkeypatch: pytest.MonkeyPatch) -> None:
    """A pinned conversation can be pinned again at the bound; another one only after an unpin."""
    monkeypatch.setattr(history, "PINNED_MAX", 1)
    one, two = [(await ann.request("conversation.create"))["id"] for _ in range(2)]
    for _ in range(2):
        await ann.request("conversation.update", conversation=one, pinned=True)
    error = await ann.refused("conversation.update", conversation=two, pinned=True, title="x")
    assert error["code"] == "too_large"
    assert (await ann.request("conversation.get", conversation=two))["title"] == ""
    await ann.request("conversation.update", conversation=one, pinned=False)
    assert (await ann.request("conversation.update", conversation=two, pinned=True))["pinned"]
