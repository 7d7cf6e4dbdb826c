"""The AsyncAPI document: every frame is in it; the official parser reads it in `tests/e2e/test_asyncapi.py`."""

from __future__ import annotations

import json
from typing import get_args

from gateway.http.asyncapi import asyncapi
from gateway.protocol import requests as p
from gateway.protocol.events import ServerEvent


def test_every_frame_is_a_message() -> None:
    """Requests, their results, errors, pieces and events; it is JSON."""
    document = json.loads(json.dumps(asyncapi("127.0.0.1:8000")))
    requests = {str(kind.__struct_config__.tag) for kind in get_args(p.AnyRequest)}
    events = {str(kind.__struct_config__.tag) for kind in get_args(ServerEvent)}
    assert set(document["components"]["messages"]) == (
        requests | {f"{name}.result" for name in requests} | events | {"result.piece", "error"}
    )
    assert set(document["operations"]) == requests | {"events"}
    assert set(document["channels"]["socket"]["messages"]) == set(document["components"]["messages"])


def test_a_request_has_its_result() -> None:
    """The frame `result`, with what this request results in."""
    document = asyncapi("127.0.0.1:8000")
    payload = document["components"]["messages"]["turn.get.result"]["payload"]
    assert payload["properties"]["type"] == {"enum": ["result"]}
    assert payload["properties"]["result"] == {"$ref": "#/components/schemas/TurnView"}
    assert "discriminator" not in json.dumps(document)


def test_the_host_is_where_it_is_served() -> None:
    """A tool can connect to it."""
    assert asyncapi("10.0.0.1:80")["servers"]["gateway"]["variables"]["host"]["default"] == "10.0.0.1:80"
