"""Tests of the documented result types against the results of real requests."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from gateway.protocol import requests as p
from gateway.protocol.results import RESULTS
from tests.in_process import SLOW, SessionClient


def check(kind: type[p.Request], result: Any) -> None:
    """Check that the result is of the documented type and has no other field."""
    shape = RESULTS[kind]
    converted = msgspec.convert(result, shape)
    assert msgspec.json.decode(msgspec.json.encode(converted)) == result, kind


@pytest.fixture
async def existing(ann: SessionClient) -> dict[str, str]:
    """A conversation with one ended turn and one running turn."""
    first = await ann.start("t0")
    await ann.ending("t0")
    await ann.start("t1", conversation=first["conversation"], demo=SLOW)
    stored = await ann.request("turn.get", turn="t0")
    return {"conversation": first["conversation"], "message": stored["message"]["id"]}


async def test_results_match_their_documented_types(ann: SessionClient, existing: dict[str, str]) -> None:
    """Every request of the protocol is sent at least once."""
    conversation = {"conversation": existing["conversation"]}
    asked: list[tuple[type[p.Request], dict[str, Any]]] = [
        (p.Auth, {"token": "x"}),
        (p.Ping, {"t": 1.5}),
        (p.TurnStart, {"turn": "t2", "input": "x"}),
        (p.TurnEstimate, {"input": "x", **conversation}),
        (p.TurnGet, {"turn": "t0"}),
        (p.TurnGet, {"turn": "t1"}),
        (p.TurnAttach, {"positions": {"t1": {"epoch": 1, "seq": 0}, "nope": {"epoch": 1, "seq": 2}}}),
        (p.TurnDetach, {"turn": "t1"}),
        (p.TurnCancel, {"turns": ["t1", "nope"]}),
        (p.ConversationCreate, {"title": "x", "system": "s", "model": "demo", "metadata": {"a": [1]}}),
        (p.ConversationList, {"limit": 1}),
        (p.ConversationGet, conversation),
        (p.ConversationUpdate, {**conversation, "title": "y"}),
        (p.ConversationMessages, {**conversation, "limit": 1}),
        (p.ConversationAttach, {**conversation, "positions": {"nope": {"epoch": 1, "seq": 2}}}),
        (p.ConversationDetach, conversation),
        (p.ConversationsAttach, {}),
        (p.ConversationsDetach, {}),
        (p.FeedbackPut, {"message": existing["message"], "rating": 5}),
        (p.UsageGet, {}),
        (p.ConversationClear, conversation),
        (p.ConversationDelete, conversation),
        (p.ModelsList, {}),
    ]
    assert {kind for kind, _ in asked} == set(RESULTS)
    for kind, fields in asked:
        check(kind, await ann.request(str(kind.__struct_config__.tag), **fields))
