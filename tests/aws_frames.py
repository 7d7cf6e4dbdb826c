"""Amazon's binary event stream, written by hand from its specification: prelude, headers, payload, checksums."""

from __future__ import annotations

import base64
import json
import struct
from typing import Any
from zlib import crc32

from tests.upstream import Script

_TEXT = 7
"""The header type of a string, whose length comes before it."""


def frame(headers: dict[str, str], payload: bytes) -> bytes:
    """Return one frame."""
    head = b"".join(
        bytes((len(name),)) + name.encode() + struct.pack("!BH", _TEXT, len(value)) + value.encode()
        for name, value in headers.items()
    )
    prelude = struct.pack("!II", 16 + len(head) + len(payload), len(head))
    body = prelude + struct.pack("!I", crc32(prelude)) + head + payload
    return body + struct.pack("!I", crc32(body))


def chunk(event: dict[str, Any]) -> bytes:
    """Return one event of Anthropic's Messages API as Bedrock wraps it: base64 in JSON in a frame."""
    payload = json.dumps({"bytes": base64.b64encode(json.dumps(event).encode()).decode(), "p": "abcdef"}).encode()
    kinds = {":event-type": "chunk", ":content-type": "application/json", ":message-type": "event"}
    return frame(kinds, payload)


def exception(name: str, message: str) -> bytes:
    """Return a frame that reports a failure in the middle of a stream."""
    kinds = {":exception-type": name, ":content-type": "application/json", ":message-type": "exception"}
    return frame(kinds, json.dumps({"message": message}).encode())


def framed(script: Script) -> Script:
    """Return a stream of server-sent events as the same stream in Bedrock's frames."""
    events = [
        json.loads(line[6:]) for block in script.blocks for line in block.split(b"\n") if line.startswith(b"data: ")
    ]
    headers = (("content-type", "application/vnd.amazon.eventstream"),)
    return script.replace(blocks=tuple(chunk(event) for event in events), headers=headers)
