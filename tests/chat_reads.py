"""Streams of chat chunks, plain and odd, and ways to cut them into reads, for tests of the short way of plain chunks."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from providers.endpoint import Endpoint
from providers.errors.failures import Failures

FAILURES = Failures(Endpoint("openai", "OpenAI", "", ("OPENAI_API_KEY",)))
TEXTS = (
    *(
        "a",
        " word",
        "Zoë",
        "日本",
        "🙂",
        "\\n",
        "\\\\",
        '\\"',
        "\\u00e9",
        "\\ud83d\\ude42",
        "\\ud83d",
        "\\ude42",
        "\\/",
        "\x7f",
        "\t",
    ),
    *(
        "",
        "<",
        "<think>",
        "</think>",
        "<b>",
        "\u00a0",
        "\u2028",
        "data: x",
        "data: {}",
        "[DONE]",
        "x" * 5000,
        "}",
        "{",
        "null",
    ),
    *("stop", "gpt", '"', "Turnwire", "\\", "\xff"),
)
"""Texts as they are in the JSON of a chunk, which some of them break."""


def chunk(text: str, **fields: Any) -> bytes:
    """Return an event whose content has this text, which isn't escaped."""
    delta = json.dumps(fields.pop("delta", {}) | {"content": "@TEXT@"})
    more = "".join(f",{json.dumps(name)}:{json.dumps(value)}" for name, value in fields.items())
    data = f'{{"id":"c1","model":"gpt","choices":[{{"index":0,"delta":{delta},"finish_reason":null}}]{more}}}'
    return b"data: " + data.encode().replace(b"@TEXT@", text.encode("utf-8", "surrogatepass")) + b"\n\n"


FINISH = b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\n'
USAGE = b'data: {"choices":[],"usage":{"prompt_tokens":1,"completion_tokens":2}}\n\n'
DONE = b"data: [DONE]\n\n"


def recorded_streams(folder: Path) -> Iterator[bytes]:
    """Yield the recorded streams of all dialects in the folder, as server-sent events."""
    for path in sorted(folder.iterdir()):
        data = path.read_bytes()
        if path.suffix == ".sse":
            yield data
        elif path.name.endswith(".chunks.txt"):
            yield b"".join(b"data: " + line + b"\n\n" for line in data.splitlines() if line.strip())


def cut(data: bytes, rng: random.Random) -> list[bytes]:
    """Cut a stream into reads: whole events, several events, or anywhere."""
    how = rng.randrange(3)
    if how == 0:
        return [event + b"\n\n" for event in data.split(b"\n\n") if event]
    if how == 1:
        events = [event + b"\n\n" for event in data.split(b"\n\n") if event]
        reads = []
        while events:
            size = rng.randint(1, 4)
            reads.append(b"".join(events[:size]))
            del events[:size]
        return reads
    places = sorted(rng.randrange(len(data) + 1) for _ in range(rng.randint(1, 40)))
    return [piece for a, b in zip([0, *places], [*places, len(data)], strict=True) if (piece := data[a:b])]
