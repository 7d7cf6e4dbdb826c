"""The requests of the protocol, the ids and other names in their fields, and the encoding of the answers."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import get_args

import msgspec
import pytest
from msgspec import inspect

from gateway.http.admin import AdminClose, AdminDrain, AdminFeedback, AdminList, AdminStop
from gateway.http.credentials import Revocation
from gateway.http.operation import PartGet
from gateway.protocol import requests as p
from gateway.protocol.errors import ErrorBody
from gateway.protocol.events import Message

# Each request in docs/protocol.md and its fields, copied by hand.
REQUESTS = {
    "auth": "token",
    "ping": "t",
    "turn.start": (
        "turn conversation create model input parent continue messages system params tools tool_choice on_busy"
        " on_disconnect metadata"
    ),
    "turn.estimate": (
        "turn conversation create model input parent continue messages system params tools tool_choice on_busy"
        " on_disconnect metadata"
    ),
    "turn.cancel": "turn turns conversation mine reason",
    "turn.attach": "turn epoch after positions",
    "turn.detach": "turn",
    "turn.get": "turn",
    "conversation.create": "conversation title system model metadata",
    "conversation.list": "limit before query pinned",
    "conversation.get": "conversation",
    "conversation.update": "conversation title system model metadata head pinned",
    "conversation.clear": "conversation",
    "conversation.delete": "conversation",
    "conversation.messages": "conversation limit before",
    "conversation.attach": "conversation positions",
    "conversation.detach": "conversation",
    "conversations.attach": "",
    "conversations.detach": "",
    "feedback.put": "message rating comment",
    "models.list": "",
    "usage.get": "conversation since",
}
TYPES = {str(kind.__struct_config__.tag): kind for kind in get_args(p.AnyRequest)}


def test_there_is_a_request_for_each_row_of_the_protocol() -> None:
    """There is a request type for each row of the protocol's table, and no other."""
    assert set(TYPES) == set(REQUESTS)


@pytest.mark.parametrize("name", REQUESTS)
def test_a_request_has_the_fields_of_the_protocol(name: str) -> None:
    """Besides `id`, `as` and `type` a request accepts the fields of its row and refuses any other."""
    kind = TYPES[name]
    assert set(kind.__struct_encode_fields__) - {"id", "as"} == set(REQUESTS[name].split())
    assert kind.__struct_config__.forbid_unknown_fields


OWN_IDS = pytest.mark.parametrize(
    ("kind", "field"),
    [(p.TurnStart, "turn"), (p.TurnStart, "conversation"), (p.ConversationCreate, "conversation")],
    ids=lambda value: value if isinstance(value, str) else str(value.__struct_config__.tag),
)
"""The fields in which a client may send an id that it has made."""


@OWN_IDS
@pytest.mark.parametrize("name", ["t", "A-z_0.9", "x" * 64])
def test_a_valid_id_is_accepted(name: str, kind: type[p.Request], field: str) -> None:
    """A client's own id is 1 to 64 letters, digits, `_`, `.` and `-`."""
    assert getattr(msgspec.convert({"type": kind.__struct_config__.tag, field: name}, kind), field) == name


@OWN_IDS
@pytest.mark.parametrize("name", ["", "x" * 65, "a b", "é", "a/b", "t\n", "\nt"])
def test_an_invalid_id_is_refused(name: str, kind: type[p.Request], field: str) -> None:
    """Any other id is refused, including one with a line break at its start or end."""
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({"type": kind.__struct_config__.tag, field: name}, kind)


FREE = {"token", "input", "system", "title", "query", "reason", "comment", "since", "until", "metadata"}
"""Fields with free text. Every other string field is a name: of an object (its id), a user or a model."""


def texts_in(kind: inspect.Type) -> Iterator[inspect.StrType]:
    """Yield the string types in `kind`: alone, in a union, in a list, or as the keys of a map."""
    if isinstance(kind, inspect.StrType):
        yield kind
    elif isinstance(kind, inspect.UnionType):
        for inner in kind.types:
            yield from texts_in(inner)
    elif isinstance(kind, inspect.ListType):
        yield from texts_in(kind.item_type)
    elif isinstance(kind, inspect.DictType):
        yield from texts_in(kind.key_type)


@pytest.mark.parametrize(
    "kind", [*TYPES.values(), PartGet, Revocation, AdminFeedback, AdminList, AdminStop, AdminClose, AdminDrain]
)
def test_every_name_excludes_control_characters(kind: type[p.Request]) -> None:
    """Each string field of a request, over WebSocket or HTTP, is either in the list of free texts or excludes control
    characters."""
    info = inspect.type_info(kind)
    assert isinstance(info, inspect.StructType)
    texts = {field.encode_name: list(texts_in(field.type)) for field in info.fields}
    free_here = {"before"} if kind is Revocation else set()  # a time, not a name
    names = {name: found for name, found in texts.items() if found and name not in FREE | free_here}
    assert {"id", "as"} <= set(names)
    for name, found in names.items():
        for text in found:
            assert text.pattern is not None, name
            assert re.search(text.pattern, "a"), name
            assert not re.search(text.pattern, "a\x1b"), name
            assert not re.search(text.pattern, "a\n"), name


def test_a_stored_message_can_be_sent_again() -> None:
    """A message as the history returns it is valid as a message of a stateless turn."""
    message = {
        "id": "m_1",
        "role": "assistant",
        "parts": [{"kind": "text", "text": "Hi"}],
        "parent": None,
        "turn": "t",
        "model": "demo",
        "created_at": "2026-01-31T00:00:00.000Z",
        "usage": {"input_tokens": 1, "output_tokens": 2},
        "cost": None,
        "ended": "completed",
        "finish_reason": "stop",
        "timing": {"queued_ms": 1, "total_ms": 3, "attempts": 1},
        "provider": "demo",
        "metadata": {"a": [1]},
        "rating": 5,
        "comment": "Good.",
    }
    assert msgspec.convert(message, p.InputMessage).role == "assistant"
    only_in_events = {"truncated"}
    assert set(Message.__struct_fields__) - only_in_events == set(p.InputMessage.__struct_fields__)


def test_the_answers_have_the_types_of_the_protocol() -> None:
    """A result, a result piece and an error are encoded as the protocol specifies."""
    assert msgspec.to_builtins(p.Result("1", {})) == {"type": "result", "id": "1", "result": {}}
    assert msgspec.to_builtins(p.Result("1", pieces=2)) == {"type": "result", "id": "1", "pieces": 2}
    assert msgspec.to_builtins(p.ResultPiece("1", "x")) == {"type": "result.piece", "id": "1", "text": "x"}
    error = msgspec.to_builtins(p.ErrorAnswer(ErrorBody("busy", "Wait.", True)))
    assert error == {"type": "error", "error": {"code": "busy", "message": "Wait.", "retryable": True}}
