"""The examples on `/docs`, as programs that are run against a gateway."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from gateway.http.openapi import openapi
from tests.credentials import KeyFile
from tests.in_loop_server import serving
from tests.programs import program

EXAMPLES = Path(__file__).parents[3] / "static" / "docs" / "examples.js"
WRITE = """
const { exampleBody, examples, exampleValue, fillPath } = await import(process.argv[1]);
const asked = JSON.parse(process.argv[2]);
const bodies = JSON.parse(process.argv[3]).map((item) => exampleBody(item));
const path = fillPath("/v1/users/{user}/x/{turn}", exampleValue);
console.log(JSON.stringify({ bodies, path, written: asked.map((one) => examples(one)) }));
"""


def written(requests: list[dict[str, Any]], operations: list[dict[str, Any]]) -> Any:
    """Return the example bodies of operations and the examples of requests."""
    given = [json.dumps(requests), json.dumps(operations)]
    command = [str(program("node")), "--input-type=module", "-e", WRITE, EXAMPLES.as_uri(), *given]
    return json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


async def run(*command: str, key: str) -> str:
    """Return the output of a program that gets the key in its environment."""
    environment = {**os.environ, "TURNWIRE_KEY": key, "NO_PROXY": "127.0.0.1"}
    process = await asyncio.create_subprocess_exec(*command, env=environment, stdout=asyncio.subprocess.PIPE)
    output, _ = await process.communicate()
    assert process.returncode == 0
    return output.decode()


async def test_the_examples_run_in_each_language(tmp_path: Path) -> None:
    """A start with quotes, accents and a word that Python writes differently, and a request without a body."""
    keys = KeyFile(tmp_path)
    key = keys.add("ann")
    operations = [one for methods in openapi("keys")["paths"].values() for one in methods.values()]
    async with serving(auth="keys", api_keys=str(keys.path)) as server:
        said = 'It\'s "née" $HOME `x`'
        body = {"model": "demo", "input": "Say it", "params": {"demo": {"rate": 0, "text": said, "thinking": False}}}
        start = {"method": "POST", "url": f"{server.url}/v1/turns", "body": body, "isPublic": False}
        health = {"method": "GET", "url": f"{server.url}/health", "isPublic": True}
        found = written([start, health], operations)
        started, public = found["written"]
        assert found["path"] == "v1/users/me/x/TURN"
        assert [body is None for body in found["bodies"]] == ["requestBody" not in one for one in operations]
        answers = [
            await run("sh", "-c", f"{started['curl']} -s", key=key),
            await run(sys.executable, "-c", started["Python"], key=key),
            await run(str(program("node")), "--input-type=module", "-e", started["JavaScript"], key=key),
        ]
        for answer in answers:
            parts = json.loads(answer)["message"]["parts"]
            assert [part["text"] for part in parts if part["kind"] == "text"] == [said]
        assert "TURNWIRE_KEY" not in json.dumps(public)
        assert json.loads(await run("sh", "-c", f"{public['curl']} -s", key=""))["status"] == "ok"
