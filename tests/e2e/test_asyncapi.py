"""The AsyncAPI document, parsed by the specification's official parser."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import get_args

import pytest

from gateway.http.asyncapi import asyncapi
from gateway.protocol import requests as p
from gateway.protocol.events import ServerEvent
from tests.programs import installed, program

pytestmark = pytest.mark.e2e

FOLDER = Path(__file__).parents[1] / "asyncapi"


def test_the_official_parser_accepts_the_document() -> None:
    """The parser reports no error and no warning, and finds every request and every event."""
    node = program("node")
    installed(FOLDER / "node_modules", "The AsyncAPI parser")
    document = json.dumps(asyncapi("127.0.0.1:8000"))
    done = subprocess.run([node, str(FOLDER / "parse.js")], input=document, capture_output=True, text=True, check=True)
    found = json.loads(done.stdout)
    assert found["problems"] == []
    assert set(found["receives"]) == {str(kind.__struct_config__.tag) for kind in get_args(p.AnyRequest)}
    assert set(found["sends"]) == {str(kind.__struct_config__.tag) for kind in get_args(ServerEvent)}
