"""The OpenAPI 3.1 document, built from the table of operations and the types of the wire protocol."""

from __future__ import annotations

import re
from functools import cache
from inspect import cleandoc
from typing import Annotated, Any, get_args

from msgspec import Meta, Struct

from gateway import __version__
from gateway.http.event_formats import NDJSON, SSE
from gateway.http.negotiation import EVENT_ID
from gateway.http.operation import Operation, ResponseSpec
from gateway.http.operations import OPERATIONS
from gateway.http.request_body import JSON_TYPE
from gateway.http.responses import JSONL_TYPE
from gateway.http.schemas import Schema, ref, referenced_schemas, schemas_of, select_fields, without_null
from gateway.protocol.errors import ErrorBody
from gateway.protocol.events import Durability, GoingAway, Heartbeat, TurnDetached, TurnEvent

SUMMARY = "Chat turns with language models: streamed, resumable, cancellable. /asyncapi.json describes the WebSocket."


class Refused(Struct, frozen=True):
    """The error of a request that was refused or failed."""

    error: ErrorBody


class ServerSentEvent(Struct, frozen=True):
    """One event of a stream. `id` is the position after it; `data` is a frame as JSON."""

    event: str
    id: Annotated[str, Meta(pattern=EVENT_ID.pattern)]
    data: str


EVENTS: tuple[type[Struct], ...] = get_args(TurnEvent)
UNNUMBERED_EVENTS: tuple[type[Struct], ...] = (TurnDetached, Heartbeat, Durability, GoingAway)
"""The frames in a stream that have no seq: each is a line of NDJSON, or a comment in server-sent events."""

SECURITY_SCHEMES = {
    "bearer": {"type": "http", "scheme": "bearer"},
    "apiKey": {"type": "apiKey", "in": "header", "name": "x-api-key"},
}
"""The ways to send a credential with a request."""
SECURITY: list[dict[str, list[str]]] = [{name: []} for name in SECURITY_SCHEMES]
"""The security requirement of an operation that needs a credential: one of them."""

HEADERS = {
    "Location": "The path of the turn or the conversation.",
    "Preference-Applied": "The preference that was applied.",
    "Retry-After": "The seconds to wait before a retry, if known.",
}


@cache
def openapi(auth: str) -> dict[str, Any]:
    """Return the document for a gateway. `auth` is the value of `TURNWIRE_AUTH`."""
    result_types = [
        response.result_type
        for operation in OPERATIONS
        for response in operation.responses
        if response.result_type is not None
    ]
    lines = [line for operation in OPERATIONS for response in operation.responses for line in response.line_types]
    requests: list[type[Struct]] = [operation.request for operation in OPERATIONS if operation.request is not None]
    bodies = [body for one in OPERATIONS for body in (one.body, one.other_body) if body is not None]
    types: list[type[Struct]] = [
        *requests,
        *bodies,
        *result_types,
        *lines,
        *EVENTS,
        *UNNUMBERED_EVENTS,
        ServerSentEvent,
        Refused,
    ]
    schemas = schemas_of(dict.fromkeys(types))
    schemas["ServerSentEvent"]["properties"]["data"] |= {
        "contentMediaType": JSON_TYPE,
        "contentSchema": {"oneOf": [ref(event) for event in EVENTS]},
    }
    schemas["Line"] = {"title": "Line", "oneOf": [ref(event) for event in (*EVENTS, *UNNUMBERED_EVENTS)]}
    paths: dict[str, dict[str, Schema]] = {}
    for operation in OPERATIONS:
        paths.setdefault(operation.path, {})[operation.method.lower()] = _operation(operation, schemas, auth != "none")
    document: dict[str, Any] = {
        "openapi": "3.1.0",
        "info": {
            "title": "Turnwire",
            "version": __version__,
            "summary": SUMMARY,
            "license": {"name": "MIT", "identifier": "MIT"},
        },
        "servers": [{"url": "/"}],
        "paths": paths,
        "components": {"schemas": referenced_schemas(paths, schemas)},
    }
    if auth != "none":
        document["security"] = SECURITY
        document["components"]["securitySchemes"] = SECURITY_SCHEMES
    return document


def _operation(operation: Operation, schemas: dict[str, Schema], has_auth: bool) -> Schema:
    schema: Schema = {
        "operationId": _operation_id(operation),
        "summary": operation.summary,
        "parameters": _parameters(operation, schemas),
        "responses": _responses(operation),
    }
    if operation.request is not None and operation.request.__doc__:
        schema["description"] = cleandoc(operation.request.__doc__)
    if operation.body is not None:
        body_schema = ref(operation.body)
        if operation.other_body is not None:
            body_schema = {"anyOf": [body_schema, ref(operation.other_body)]}
        body_content = {JSON_TYPE: {"schema": body_schema}}
        schema["requestBody"] = {"required": not operation.is_body_optional, "content": body_content}
    elif operation.has_body and operation.request is not None:
        name = f"{operation.request.__name__}Body"
        body = select_fields(schemas[operation.request.__name__], operation.fields)
        schemas[name] = {**body, "title": name}
        content = {JSON_TYPE: {"schema": {"$ref": f"#/components/schemas/{name}"}}}
        schema["requestBody"] = {"required": bool(body["required"]), "content": content}
    if operation.is_public:
        schema["security"] = [{}, *SECURITY] if operation.may_require_admin and has_auth else []
    return schema


def _operation_id(operation: Operation) -> str:
    words = [word for word in operation.path.split("/") if word and word != "v1" and not word.startswith("{")]
    suffix = "One" if operation.path.endswith("}") else ""
    return operation.method.lower() + "".join(word.title() for word in words or ["about"]) + suffix


def _parameters(operation: Operation, schemas: dict[str, Schema]) -> list[Schema]:
    fields = schemas[operation.request.__name__]["properties"] if operation.request is not None else {}
    in_path = re.findall(r"\{(\w+)\}", operation.path)
    parameters = [{"name": name, "in": "path", "required": True, **_described(fields[name])} for name in in_path]
    if not operation.has_body:
        parameters += [{"name": name, "in": "query", **_described(fields[name])} for name in operation.fields]
    for header in operation.headers:
        schema = {"type": "string"} if header.pattern is None else {"type": "string", "pattern": header.pattern}
        parameters.append({"name": header.name, "in": "header", "description": header.description, "schema": schema})
    return parameters


def _described(field: Schema) -> Schema:
    """Return the schema of a parameter, and the description beside it."""
    schema = without_null(field)
    return {"description": schema.pop("description", ""), "schema": schema}


def _responses(operation: Operation) -> Schema:
    responses = {str(response.status): _response(response) for response in operation.responses}
    content = {JSON_TYPE: {"schema": ref(Refused)}}
    if operation.dialect is not None:
        # An error of a dialect has its own shape.
        dialects = [one for one in (operation.dialect, operation.other_dialect) if one is not None]
        types = {one.error_type: "object" if one.error_type == JSON_TYPE else "string" for one in dialects}
        content = {error_type: {"schema": {"type": kind}} for error_type, kind in types.items()}
    refused = {"headers": _headers(("Retry-After",)), "content": content}
    if operation.dialect is None:
        why = (
            "`error.path` names the invalid field, if there is one.",
            "`error.retryable` is true if a retry can succeed.",
        )
    else:
        why = ("The body has the shape of this protocol's errors.",) * 2
    return {
        **responses,
        "4XX": {"description": f"The request was refused. {why[0]}", **refused},
        "5XX": {"description": f"The request failed. {why[1]}", **refused},
    }


def _response(response: ResponseSpec) -> Schema:
    content: Schema = {}
    if response.result_type is not None:
        schema_of_one = ref(response.result_type)
        content[JSON_TYPE] = {
            "schema": {"type": "array", "items": schema_of_one} if response.is_list else schema_of_one
        }
    if response.is_stream:
        content[SSE] = {"schema": {"$ref": "#/components/schemas/ServerSentEvent"}}
        content[NDJSON] = {"schema": {"$ref": "#/components/schemas/Line"}}
    if response.line_types:
        content[JSONL_TYPE] = {"schema": {"oneOf": [ref(line) for line in response.line_types]}}
    if response.is_binary:
        content["*/*"] = {"schema": {"type": "string", "format": "binary"}}
    schema: Schema = {"description": response.description}
    if content:
        schema["content"] = content
    if response.headers:
        schema["headers"] = _headers(response.headers)
    return schema


def _headers(names: tuple[str, ...]) -> Schema:
    return {name: {"description": HEADERS[name], "schema": {"type": "string"}} for name in names}
