"""The program `curl` as a client: one request, or a stream that is read line by line."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

from tests.programs import program

TIMEOUT_S = 20


class Answer(NamedTuple):
    """What curl received. The names of `headers` are in lower case."""

    status: int
    headers: dict[str, str]
    text: str

    @property
    def json(self) -> Any:
        """The body, which is JSON."""
        return json.loads(self.text)

    @property
    def events(self) -> list[Any]:
        """The body, which has server-sent events."""
        lines = [line.removeprefix("data: ") for line in self.text.splitlines() if line.startswith("data: ")]
        return [json.loads(line) for line in lines]

    @property
    def lines(self) -> list[Any]:
        """The body, which has lines of JSON."""
        return [json.loads(line) for line in self.text.splitlines()]


def _arguments(method: str, url: str, body: object, headers: dict[str, str]) -> list[str]:
    found = ["--silent", "--show-error", "--no-buffer", "--max-time", str(TIMEOUT_S), "--noproxy", "*", "-X", method]
    if body is not None:
        found += ["-H", "content-type: application/json", "--data", body if isinstance(body, str) else json.dumps(body)]
    return [*found, *(part for name, value in headers.items() for part in ("-H", f"{name}: {value}")), url]


async def curl(method: str, url: str, body: object = None, **headers: str) -> Answer:
    """Send a request with the program, and return its answer. `_` in the name of a header is a hyphen."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    process = await asyncio.create_subprocess_exec(
        *(str(program("curl")), "--include", *_arguments(method, url, body, named)),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    stdout, stderr = await process.communicate()
    assert process.returncode == 0, stderr.decode()
    head, _, text = stdout.decode().partition("\r\n\r\n")
    first, *rest = head.split("\r\n")
    found = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in rest)}
    return Answer(int(first.split()[1]), found, text)


@asynccontextmanager
async def curl_stream(
    method: str, url: str, body: object = None, **headers: str
) -> AsyncIterator[asyncio.StreamReader]:
    """Send a request with the program, and let the caller read its answer's body. On exit, curl is killed."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    process = await asyncio.create_subprocess_exec(
        *(str(program("curl")), *_arguments(method, url, body, named)), stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    try:
        async with asyncio.timeout(TIMEOUT_S):
            yield process.stdout
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()
