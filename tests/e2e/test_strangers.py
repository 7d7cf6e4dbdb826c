"""Law 12 for every request field and every HTTP path that can have an id: another user's object is answered like one
that doesn't exist."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, get_args

import httpx2
import pytest

from gateway.http.operations import OPERATIONS
from gateway.protocol import requests as protocol
from tests.client import Client, RequestFailed, client
from tests.credentials import SECRET, KeyFile, bearer, token
from tests.demo import expected
from tests.gateway_process import GatewayProcess, gateway_process

pytestmark = pytest.mark.e2e

Ids = dict[str, Any]
Ask = Callable[..., Awaitable[Any]]

NOWHERE: Ids = {"turn": "none", "conversation": "c_none", "message": "m_none", "epoch": 5}
DEMO = {"rate": 50, "tokens": 400}
QUICK = {"demo": {"rate": 0, "tokens": 3}}

# Each field that names an object of a user, with a function that returns a request's fields. `it` has the ids to use in
# that field; `own` is the id of a conversation of the requesting user.
NAMING: dict[tuple[str, str], Callable[[Ids, str], Ids]] = {
    ("turn.start", "turn"): lambda it, _: {"turn": it["turn"], "input": "x", "model": "no-such-model"},
    ("turn.start", "conversation"): lambda it, _: {"conversation": it["conversation"], "input": "x"},
    ("turn.start", "parent"): lambda it, own: {"conversation": own, "parent": it["message"]},
    ("turn.start", "messages"): lambda it, _: {
        "messages": [{"role": "user", "parts": [{"kind": "text", "text": "x"}], "id": it["message"]}],
        "model": "no-such-model",
    },
    ("turn.estimate", "turn"): lambda it, _: {"turn": it["turn"], "input": "x", "model": "no-such-model"},
    ("turn.estimate", "conversation"): lambda it, _: {"conversation": it["conversation"], "input": "x"},
    ("turn.estimate", "parent"): lambda it, own: {"conversation": own, "parent": it["message"]},
    ("turn.estimate", "messages"): lambda it, _: {
        "messages": [{"role": "user", "parts": [{"kind": "text", "text": "x"}], "id": it["message"]}],
        "model": "no-such-model",
    },
    ("turn.cancel", "turn"): lambda it, _: {"turn": it["turn"]},
    ("turn.cancel", "turns"): lambda it, _: {"turns": [it["turn"]]},
    ("turn.cancel", "conversation"): lambda it, _: {"conversation": it["conversation"]},
    ("turn.cancel", "mine"): lambda _, __: {"mine": True},
    ("turn.attach", "turn"): lambda it, _: {"turn": it["turn"], "epoch": it["epoch"], "after": 1},
    ("turn.attach", "positions"): lambda it, _: {"positions": {it["turn"]: {"epoch": it["epoch"], "seq": 1}}},
    ("turn.detach", "turn"): lambda it, _: {"turn": it["turn"]},
    ("turn.get", "turn"): lambda it, _: {"turn": it["turn"]},
    ("conversation.create", "conversation"): lambda it, _: {
        "conversation": it["conversation"],
        "model": "no-such-model",
    },
    ("conversation.list", "before"): lambda it, _: {"before": it["conversation"]},
    ("conversation.get", "conversation"): lambda it, _: {"conversation": it["conversation"]},
    ("conversation.update", "conversation"): lambda it, _: {"conversation": it["conversation"], "title": "x"},
    ("conversation.update", "head"): lambda it, own: {"conversation": own, "head": it["message"]},
    ("conversation.clear", "conversation"): lambda it, _: {"conversation": it["conversation"]},
    ("conversation.delete", "conversation"): lambda it, _: {"conversation": it["conversation"]},
    ("conversation.messages", "conversation"): lambda it, _: {"conversation": it["conversation"]},
    ("conversation.messages", "before"): lambda it, own: {"conversation": own, "before": it["message"]},
    ("conversation.attach", "conversation"): lambda it, _: {"conversation": it["conversation"]},
    ("conversation.attach", "positions"): lambda it, own: {
        "conversation": own,
        "positions": {it["turn"]: {"epoch": it["epoch"], "seq": 1}},
    },
    ("conversation.detach", "conversation"): lambda it, _: {"conversation": it["conversation"]},
    ("feedback.put", "message"): lambda it, _: {"message": it["message"], "rating": "up"},
    ("usage.get", "conversation"): lambda it, _: {"conversation": it["conversation"]},
}
# The fields that name no object of a user. A new field is in neither list, so the first test fails until it is added.
PLAIN = set(
    "after comment continue create epoch id as input limit metadata model on_busy on_disconnect params query rating reason since "
    "pinned system t title token tool_choice tools".split()
)


def test_every_request_field_is_classified() -> None:
    """A field either names an object and is tested below, or is in `PLAIN`."""
    fields = {
        (str(request.__struct_config__.tag), field)
        for request in get_args(protocol.AnyRequest)
        for field in request.__struct_encode_fields__
        if field not in PLAIN
    }
    assert fields == set(NAMING)


def test_every_path_with_an_id_is_tested() -> None:
    """`PATHS` has all HTTP paths with an id, except those of models, which belong to no user."""
    assert {path for operation in OPERATIONS if "{" in (path := operation.path) and "{model}" not in path} == set(PATHS)


PATHS: dict[str, dict[str, Any]] = {
    "/v1/turns/{turn}": {},
    "/v1/turns/{turn}/events": {},
    "/v1/turns/{turn}/cancel": {"POST": {}},
    "/v1/conversations/{conversation}": {"PATCH": {"title": "x"}},
    "/v1/conversations/{conversation}/messages": {},
    "/v1/conversations/{conversation}/context": {},
    "/v1/users/{user}": {},
    "/v1/users/{user}/export": {},
    "/v1/messages/{message}/parts/{number}": {},
    "/v1/messages/{message}/feedback": {"POST": {"rating": "up"}},
    "/v1/admin/turns/{turn}/cancel": {"POST": {}},
    "/v1/admin/connections/{connection}/close": {"POST": {}},
    "/v1/stream/{stream}": {},
    "/openai/v1/stream/{stream}": {},
    **{
        f"{base}/responses/{{response}}{end}": {} if end != "/cancel" else {"POST": {}}
        for base in ("/v1", "/openai/v1")
        for end in ("", "/cancel", "/input_items")
    },
    "/api/chat/{chat}/stream": {},
    "/api/chat/{chat}/stop": {"POST": {}},
    "/api/chat/{chat}/messages": {},
    "/api/chat/sessions/{session}": {"POST": {"title": "x"}},
    "/api/chat/sessions/{session}/messages": {},
    "/history/{session}": {},
    "/api/v1/conversations/{conversation}": {"PATCH": {"title": "x"}},
    "/api/v1/conversations/{conversation}/messages": {"POST": {"content": "x"}},
    "/api/v1/conversations/{conversation}/stream": {},
    "/api/v1/conversations/{conversation}/feedback": {"POST": {"rating": "up"}},
}
"""Each path with the bodies of its methods."""
WITHOUT_CHAT = {
    "/api/chat/{chat}/stream": 204,
    "/api/chat/{chat}/stop": 200,
    "/history/{session}": 200,
    "/api/chat/sessions/{session}": 200,
}
"""The status of the requests that need no existing chat: they answer as for an empty chat, or create one of the requesting user
and delete it again."""


@asynccontextmanager
async def two_users(folder: Path, mode: str) -> AsyncIterator[tuple[GatewayProcess, Client, Ask]]:
    """Start a gateway, and connect Ann and Eve. Eve has her own socket, or shares a service's socket with `as`."""
    file = KeyFile(folder)
    credential = token("eve") if mode == "sockets" else file.add_service()
    settings = {
        "TURNWIRE_USER_REQUESTS_BURST": "1000",
        "TURNWIRE_AUTH": "jwt,keys",
        "TURNWIRE_API_KEYS": str(file.path),
        "TURNWIRE_JWT_SECRET": SECRET,
    }
    async with (
        gateway_process(folder, settings) as gateway,
        client(gateway.ws_url, additional_headers=bearer(token("ann"))) as ann,
        client(gateway.ws_url, additional_headers=bearer(credential)) as other,
    ):
        named = {} if mode == "sockets" else {"as": "eve"}

        async def ask(kind: str, **fields: Any) -> Any:
            try:
                return await other.request(kind, **named, **fields)
            except RequestFailed as refused:
                return refused.error

        if mode == "as":
            await other.request("conversation.create", **{"as": "ann"})  # the socket also has requests of Ann
        yield gateway, ann, ask


async def start_anns_turn(ann: Client) -> Ids:
    """Start a turn of Ann, and return the ids of its objects."""
    started = await ann.request("turn.start", turn="hers", input="Hello", params={"demo": DEMO})
    await ann.until_seq("hers", 3)
    conversation = started["conversation"]
    messages = (await ann.request("conversation.messages", conversation=conversation))["messages"]
    return {"turn": "hers", "conversation": conversation, "message": messages[0]["id"], "epoch": started["epoch"]}


def without_ids(answer: Any, ids: Ids) -> str:
    """Return a response as text, with placeholders for the requested ids and for times."""
    text = re.sub(r"\d{4}-\d\d-\d\dT[\d:.]+Z", "TIME", json.dumps(answer, sort_keys=True))
    for name in ("turn", "conversation", "message"):
        text = re.sub(rf"\b{re.escape(ids[name])}\b", name.upper(), text)
    return text


@pytest.mark.parametrize("mode", ["sockets", "as"])
async def test_law_12_for_every_request(tmp_path: Path, mode: str) -> None:
    """Law 12: the response for another user's object equals the one for an object that doesn't exist, and the other
    user's turn isn't affected."""
    async with two_users(tmp_path, mode) as (_, ann, ask):
        hers = await start_anns_turn(ann)
        for (kind, field), request in NAMING.items():
            own = (await ask("conversation.create"))["id"]
            answers = []
            for ids in (hers, NOWHERE):
                answers.append(without_ids(await ask(kind, **request(ids, own)), ids))
            assert answers[0] == answers[1], (kind, field)
            assert hers["conversation"] not in answers[0], (kind, field)
        assert (await ann.ending("hers"))["type"] == "turn.completed"
        assert ann.turns["hers"].text() == expected("Hello", DEMO)
        assert (await ann.request("conversation.get", conversation=hers["conversation"]))["title"] == "Hello"


async def test_law_12_for_every_path(tmp_path: Path) -> None:
    """Law 12: over HTTP, every method answers 404, or 403 for a path that needs the scope `admin`, with the same body for another
    user's object and for one that doesn't exist."""
    async with two_users(tmp_path, "sockets") as (gateway, ann, _):
        hers = await start_anns_turn(ann)
        async with httpx2.AsyncClient(base_url=gateway.url, headers=bearer(token("eve"))) as http:
            for operation in OPERATIONS:
                if operation.path not in PATHS:
                    continue
                body = PATHS[operation.path].get(operation.method)
                answers = []
                for ids in (hers, NOWHERE):
                    path = operation.path.format(
                        **ids,
                        stream=ids["turn"],
                        response=ids["turn"],
                        chat=ids["conversation"],
                        session=ids["conversation"],
                        number=0,
                        connection=f"cn_{ids['turn']}",
                        user="ann" if ids is hers else "nobody",
                    )
                    answer = await http.request(operation.method, path, json=body)
                    answers.append((answer.status_code, without_ids(answer.text, ids)))
                assert answers[0] == answers[1], (operation.method, operation.path)
                refused = 403 if "/admin/" in operation.path or "/users/" in operation.path else 404
                refused = WITHOUT_CHAT.get(operation.path, refused)
                assert answers[0][0] == refused, (operation.method, operation.path, answers)
        assert (await ann.ending("hers"))["type"] == "turn.completed"


@pytest.mark.parametrize("mode", ["sockets", "as"])
async def test_law_12_two_users_have_conversations_of_the_same_id(tmp_path: Path, mode: str) -> None:
    """Law 12: an id that a client has chosen names a different conversation for each user. Eve finds only her own title,
    turns and messages in hers, and deleting it leaves Ann's."""
    async with two_users(tmp_path, mode) as (_, ann, ask):
        made = await ask("conversation.create", conversation="mine", title="Eve's")
        assert (made["id"], made["title"]) == ("mine", "Eve's")
        assert (await ask("conversation.attach", conversation="mine"))["turns"] == {}
        hers = await ann.request("turn.start", turn="hers", conversation="mine", create=True, input="Hi", params=QUICK)
        assert hers["conversation"] == "mine"
        await ann.ending("hers")
        await ask("turn.start", turn="own", conversation="mine", input="Hello", params=QUICK)
        assert (await ask("turn.cancel", conversation="mine"))["turns"].keys() <= {"own"}
        listed = (await ask("conversation.list"))["conversations"]
        assert [(one["id"], one["title"]) for one in listed] == [("mine", "Eve's")]
        messages = (await ask("conversation.messages", conversation="mine"))["messages"]
        assert {message["turn"] for message in messages} == {"own"}
        assert (await ask("turn.get", turn="hers"))["code"] == "not_found"
        assert await ask("conversation.delete", conversation="mine") == {}
        kept = await ann.request("conversation.get", conversation="mine")
        assert (kept["title"], kept["messages"]) == ("Hi", 2)
