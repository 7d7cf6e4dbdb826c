"""Chat Completions with the clients that people use: OpenAI's SDKs, LangChain and LiteLLM, each unchanged."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import pytest_asyncio

from tests.client_docs import OTHERS, SAID, answering_gateway, blocks, here
from tests.gateway_process import GatewayProcess
from tests.late_imports import LateImport
from tests.programs import installed, program

if TYPE_CHECKING:
    import openai
else:
    openai = LateImport("openai")

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

ROOT = Path(__file__).parents[3]
CLIENTS = ROOT / "tests" / "dialect_clients"
CALL = {"name": "add", "arguments": '{"a": 1}'}
ADD: Any = {"type": "function", "function": {"name": "add", "parameters": {"type": "object", "properties": {}}}}


async def run(*command: str | Path) -> dict[str, Any]:
    """Run a client program, and return the JSON object in the last line of its output."""
    process = await asyncio.create_subprocess_exec(
        *map(str, command), stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    stdout, stderr = await process.communicate()
    assert process.returncode == 0, stderr.decode()[-4000:]
    found: dict[str, Any] = json.loads(stdout.decode().strip().splitlines()[-1])
    return found


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def in_python(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[dict[str, Any]]:
    """What the Python programs of tests/dialect_clients and the blocks of docs/clients.md print in the environment that has
    LangChain and LiteLLM. They run in one process, because the imports take seconds."""
    installed(ROOT / ".venv-clients" / ".done", "the clients of other protocols")
    async with answering_gateway(tmp_path_factory.mktemp("gateway")) as gateway:
        codes = json.dumps({block.title: here(block.code, gateway) for block in blocks() if block.title in OTHERS})
        yield await run(ROOT / ".venv-clients" / "bin" / "python", CLIENTS / "python_clients.py", gateway.url, codes)


def printed(found: dict[str, Any], name: str) -> str:
    """Return what a program has printed. It fails with the traceback of a program that has failed."""
    assert found[name]["failed"] is None, found[name]["failed"]
    text: str = found[name]["printed"]
    return text


async def test_langchain(in_python: dict[str, Any]) -> None:
    """A tool is called, its result is answered, a stream is merged, and an answer is parsed by its schema."""
    found = json.loads(printed(in_python, "langchain_client.py"))
    assert found["called"] == ["Let me see.", "add", {"a": 1, "b": 2}]
    assert found["answered"] == "It is 3."
    assert found["id"].startswith("chatcmpl-")
    assert found["usage"] > 0
    assert found["streamed"] == ["Let me see.", {"a": 1, "b": 2}]
    assert found["streamed_usage"] > 0
    assert found["structured"] == 3


async def test_litellm(in_python: dict[str, Any]) -> None:
    found = json.loads(printed(in_python, "litellm_client.py"))
    assert found["answer"] == "It is 3."
    assert found["reasoning"]
    assert found["usage"] > 0
    assert found["streamed"] == ["Hm.", CALL["name"], CALL["arguments"]]
    assert found["finish_reason"] == "tool_calls"
    assert found["refused"] == "404"


@pytest.mark.parametrize("title", OTHERS)
async def test_the_block_in_the_documents(in_python: dict[str, Any], title: str) -> None:
    """The other blocks of docs/clients.md are in test_client_docs.py."""
    assert printed(in_python, title) == f"{SAID}\n"


async def test_the_sdk_for_javascript(gateway: GatewayProcess) -> None:
    installed(CLIENTS / "node_modules" / ".package-lock.json", "the packages of tests/dialect_clients")
    found = await run(program("node"), CLIENTS / "openai_client.js", gateway.url)
    assert found["models"] == ["demo"]
    assert found["answer"] == "It is 3."
    assert (found["deltas"], found["content"]) == ("Hm.", "Hm.")
    assert found["call"]["arguments"] == '{"a":1}'
    assert found["finish_reason"] == "tool_calls"
    assert found["usage"] > 0
    assert found["refused"] == [404, "model_not_found"]


async def test_the_synchronous_sdk_for_python(gateway: GatewayProcess) -> None:
    """Its helper for streams checks and accumulates every chunk."""

    def ask() -> tuple[Any, list[str]]:
        with (
            openai.OpenAI(base_url=f"{gateway.url}/openai/v1", api_key="none", max_retries=0) as client,
            client.chat.completions.stream(
                model="demo",
                messages=[{"role": "user", "content": "Add 1 and 2."}],
                tools=[ADD],
                stream_options={"include_usage": True},
                extra_body={"demo": {"rate": 0, "thinking": 2, "text": "Hm.", "tool": CALL}},
            ) as stream,
        ):
            deltas = [event.delta for event in stream if event.type == "content.delta"]
            return stream.get_final_completion(), deltas

    completion, deltas = await asyncio.to_thread(ask)
    message = completion.choices[0].message
    assert message.content == "".join(deltas) == "Hm."
    assert [call.function.arguments for call in message.tool_calls] == [CALL["arguments"]]
    assert message.model_extra["reasoning_content"]
    assert completion.usage.total_tokens > 0
