"""Tests of the AsyncAPI document. `tests/e2e/test_asyncapi.py` validates it with the official parser."""

from __future__ import annotations

import json
from typing import get_args

from gateway.http.asyncapi import asyncapi
from gateway.protocol import requests as p
from gateway.protocol.events import ServerEvent


def test_every_frame_is_a_message() -> None:
    """Requests, results, errors, pieces and events are messages, and the document is valid JSON."""
    document = json.loads(json.dumps(asyncapi("127.0.0.1:8000")))
    requests = {str(kind.__struct_config__.tag) for kind in get_args(p.AnyRequest)}
    events = {str(kind.__struct_config__.tag) for kind in get_args(ServerEvent)}
    assert set(document["components"]["messages"]) == (
        requests | {f"{name}.result" for name in requests} | events | {"result.piece", "error"}
    )
    assert set(document["operations"]) == requests | {"events"}
    assert set(document["channels"]["socket"]["messages"]) == set(document["components"]["messages"])


def test_a_request_has_its_result() -> None:
    """The result message is the frame `result` with the type of this request's result."""
    document = asyncapi("127.0.0.1:8000")
    payload = document["components"]["messages"]["turn.get.result"]["payload"]
    assert payload["properties"]["type"]["enum"] == ["result"]
    assert payload["properties"]["result"] == {"$ref": "#/components/schemas/TurnView"}
    assert "discriminator" not in json.dumps(document)


def test_the_server_has_the_gateways_host() -> None:
    """A tool reads from it the host and port to connect to."""
    assert asyncapi("10.0.0.1:80")["servers"]["gateway"]["variables"]["host"]["default"] == "10.0.0.1:80"
