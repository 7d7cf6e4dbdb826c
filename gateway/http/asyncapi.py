"""The AsyncAPI 3 document: every frame of the socket, and the answers to each request."""

from __future__ import annotations

from functools import cache
from typing import Any, get_args

from msgspec import Struct

from gateway import __version__
from gateway.http.schemas import Schema, ref, schemas_of
from gateway.protocol import requests as p
from gateway.protocol.codec import BY_SUBPROTOCOL
from gateway.protocol.events import ServerEvent
from gateway.protocol.results import RESULTS

SUMMARY = (
    "Many chat turns over one WebSocket. docs/protocol.md is the specification; /openapi.json describes the HTTP API."
)
CHANNEL = {"$ref": "#/channels/socket"}
EVENTS: tuple[type[Struct], ...] = get_args(ServerEvent)


@cache
def asyncapi(host: str) -> dict[str, Any]:
    """Return the document for a gateway at `host` (with the port)."""
    types: list[type[Struct]] = [
        *RESULTS,
        *dict.fromkeys(RESULTS.values()),
        p.Result,
        p.ResultPiece,
        p.ErrorAnswer,
        *EVENTS,
    ]
    schemas = {name: _without_discriminator(schema) for name, schema in schemas_of(types).items()}
    frames: list[type[Struct]] = [*RESULTS, *EVENTS, p.ResultPiece, p.ErrorAnswer]
    messages = {_tag(kind): _message(kind) for kind in frames}
    for request, result in RESULTS.items():
        messages[f"{_tag(request)}.result"] = _result(request, result, schemas[p.Result.__name__])
    return {
        "asyncapi": "3.1.0",
        "info": {
            "title": "Turnwire",
            "version": __version__,
            "description": SUMMARY,
            "license": {"name": "MIT"},
        },
        "defaultContentType": "application/json",
        "servers": {
            "gateway": {
                "host": "{host}",
                "protocol": "ws",
                "description": f"Subprotocols that a client may offer: {', '.join(BY_SUBPROTOCOL)}.",
                "variables": {"host": {"default": host}},
            }
        },
        "channels": {
            "socket": {
                "address": "/ws",
                "messages": {name: {"$ref": f"#/components/messages/{name}"} for name in messages},
                "bindings": {"ws": {"method": "GET"}},
            }
        },
        "operations": {**{_tag(request): _request(request) for request in RESULTS}, "events": _events()},
        "components": {"schemas": schemas, "messages": messages},
    }


def _tag(kind: type[Struct]) -> str:
    return str(kind.__struct_config__.tag)


def _message(kind: type[Struct]) -> Schema:
    return {"name": _tag(kind), "summary": _first_line(kind), "payload": ref(kind)}


def _result(request: type[Struct], result: type[Struct], frame: Schema) -> Schema:
    """Return the message for the `result` frame that answers `request`.

    `frame` is the schema of the frame `result`; its field `result` becomes a reference to the type `result`.
    """
    name = f"{_tag(request)}.result"
    payload = {**frame, "title": name, "properties": {**frame["properties"], "result": ref(result)}}
    return {"name": name, "summary": _first_line(result), "payload": payload}


def _request(request: type[Struct]) -> Schema:
    tag = _tag(request)
    answers = [f"{tag}.result", _tag(p.ResultPiece), _tag(p.ErrorAnswer)]
    return {
        "action": "receive",
        "summary": _first_line(request),
        "channel": CHANNEL,
        "messages": [_in_channel(tag)],
        "reply": {"channel": CHANNEL, "messages": [_in_channel(answer) for answer in answers]},
    }


def _events() -> Schema:
    return {
        "action": "send",
        "summary": "Frames that the server sends in addition to the answers.",
        "channel": CHANNEL,
        "messages": [_in_channel(_tag(event)) for event in EVENTS],
    }


def _in_channel(message: str) -> Schema:
    return {"$ref": f"#/channels/socket/messages/{message}"}


def _first_line(kind: type[Struct]) -> str:
    return (kind.__doc__ or "").partition("\n")[0]


def _without_discriminator(value: Any) -> Any:
    """Return a copy of `value` without the key `discriminator`, at any depth.

    AsyncAPI's discriminator differs from OpenAPI's, and the schemas contain the tags already.
    """
    if isinstance(value, dict):
        return {key: _without_discriminator(inner) for key, inner in value.items() if key != "discriminator"}
    return [_without_discriminator(inner) for inner in value] if isinstance(value, list) else value
