"""Every block of code in docs/clients.md, run as it is printed, against a gateway process. Those of `OTHERS` are in
test_chat_clients.py."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator, Sequence
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path

import pytest
import pytest_asyncio
from playwright.async_api import Browser, Route, expect

from gateway.http.operations import OPERATIONS
from tests.client_docs import HOST, MODEL, OTHERS, PAGE, SAID, Block, answering_gateway, blocks, here
from tests.gateway_process import GatewayProcess
from tests.http_events import http_client
from tests.page_stage import browser_context
from tests.programs import installed, program

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180), pytest.mark.asyncio(loop_scope="session")]

ROOT = Path(__file__).parents[3]
CLIENTS = ROOT / "tests" / "dialect_clients"


def of(*languages: str, but: Sequence[str] = ()) -> list[pytest.ParameterSet]:
    """Return the blocks in these languages, as parameters of a test; not those with the titles in `but`."""
    chosen = [block for block in blocks() if block.language in languages and block.title not in but]
    return [pytest.param(block, id=f"{block.title} {n}") for n, block in enumerate(chosen)]


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def served(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[GatewayProcess]:
    """A gateway whose default model answers at once."""
    async with answering_gateway(tmp_path_factory.mktemp("gateway")) as process:
        yield process


async def output(*command: str | Path, stdin: str = "", cwd: Path = ROOT) -> str:
    """Run a program, and return what it prints."""
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(*command, cwd=cwd, stdin=pipe, stdout=pipe, stderr=pipe)
    printed, errors = await asyncio.wait_for(process.communicate(stdin.encode()), 90)
    assert process.returncode == 0, errors.decode()[-3000:]
    return printed.decode()


async def test_the_page_has_every_client() -> None:
    """Each section has a block, and each block is one of a kind that a test runs."""
    sections = re.findall(r"^## (.*)$", PAGE, re.MULTILINE)
    assert {block.title for block in blocks()} == set(sections)
    assert {block.language for block in blocks()} == {"python", "js", "jsx", "ini", "sh"}
    assert PAGE.count("```") == 2 * len(blocks())


@pytest.mark.parametrize("block", of("python", but=OTHERS))
async def test_python(served: GatewayProcess, block: Block) -> None:
    """It runs in this process, which has imported the packages already."""
    printed = StringIO()

    def run() -> None:
        with redirect_stdout(printed):
            exec(compile(here(block.code, served), block.title, "exec"), {})

    await asyncio.to_thread(run)
    assert printed.getvalue().strip() == SAID


@pytest.mark.parametrize("block", of("js"))
async def test_javascript(served: GatewayProcess, block: Block) -> None:
    installed(CLIENTS / "node_modules" / ".package-lock.json", "the packages of tests/dialect_clients")
    command = (program("node"), "--no-warnings", "--experimental-websocket", "--input-type=module")
    assert (await output(*command, stdin=here(block.code, served), cwd=CLIENTS)).strip() == SAID


@pytest.mark.parametrize("block", of("js", but=["OpenAI SDK for JavaScript", "AI SDK Core"]))
async def test_javascript_without_a_gateway(block: Block) -> None:
    """A user who has the wrong address sees an error. The clients with other titles try for some time."""
    installed(CLIENTS / "node_modules" / ".package-lock.json", "the packages of tests/dialect_clients")
    command = (program("node"), "--no-warnings", "--experimental-websocket", "--input-type=module")
    with pytest.raises(AssertionError, match="Error"):
        await output(*command, stdin=block.code.replace(HOST, "127.0.0.1:9"), cwd=CLIENTS)


@pytest.mark.parametrize("block", of("sh"))
async def test_the_shell(served: GatewayProcess, block: Block) -> None:
    program("curl")
    answer = json.loads(await output("sh", "-ec", here(block.code, served)))
    assert (answer["message"], answer["sessionId"]) == (SAID, "my-session")


@pytest.mark.browser
@pytest.mark.parametrize("block", of("jsx"))
async def test_a_page(served: GatewayProcess, browser: Browser, tmp_path: Path, block: Block) -> None:
    """The component is shown by a page of the gateway's own origin, and after a reload the chat goes on."""
    installed(CLIENTS / "node_modules" / ".package-lock.json", "the packages of tests/dialect_clients")
    script = tmp_path / "page.js"
    mounted = 'import { createRoot } from "react-dom/client";\ncreateRoot(document.body).render(<Chat />);\n'
    options = ("--bundle", "--format=esm", "--jsx=automatic", '--define:process.env.NODE_ENV="production"')
    esbuild = CLIENTS / "node_modules" / "esbuild" / "bin" / "esbuild"
    command = (program("node"), esbuild, *options, "--loader=jsx", f"--outfile={script}", "--log-level=warning")
    await output(*command, stdin=here(block.code, served) + mounted, cwd=CLIENTS)

    async def page_of(route: Route) -> None:
        body = "<!doctype html><meta charset=utf-8><link rel=icon href=data:,><body></body>"
        await route.fulfill(body=f"{body}<script type=module>{script.read_text()}</script>", content_type="text/html")

    async with browser_context(browser) as context:
        page = await context.new_page()
        await page.route(f"{served.url}/chat.html", page_of)
        await page.goto(f"{served.url}/chat.html")
        await page.get_by_role("button", name="Ask").click()
        await expect(page.get_by_role("button")).to_have_text(f"Hello | {SAID}")


@pytest.mark.parametrize("block", of("ini"))
async def test_variables(served: GatewayProcess, block: Block) -> None:
    """The address is one to which the client's own paths can be added: models are listed there in its form."""
    variables = dict(line.split("=", 1) for line in here(block.code, served).splitlines())
    (base,) = (value for name, value in variables.items() if name.endswith("_BASE_URL"))
    async with http_client(served.url) as http:
        if "ANTHROPIC_BASE_URL" in variables:
            headers = {
                "authorization": f"Bearer {variables['ANTHROPIC_AUTH_TOKEN']}",
                "anthropic-version": "2023-06-01",
            }
            listed = await http.get(f"{base}/v1/models", headers=headers)
            assert listed.json()["data"][0]["type"] == "model"
            body = {"model": MODEL, "max_tokens": 9, "messages": [{"role": "user", "content": "Hello"}]}
            answer = await http.post(f"{base}/v1/messages", json=body, headers=headers)
            assert answer.json()["content"][0]["text"] == SAID
        else:
            headers = {"authorization": f"Bearer {variables['OPENAI_API_KEY']}"}
            listed = await http.get(f"{base}/models", headers=headers)
            assert listed.json()["data"][0]["object"] == "model"
            body = {"model": MODEL, "messages": [{"role": "user", "content": "Hello"}]}
            answer = await http.post(f"{base}/chat/completions", json=body, headers=headers)
            assert answer.json()["choices"][0]["message"]["content"] == SAID
    assert answer.status_code == 200


async def test_the_documents_have_the_addresses(served: GatewayProcess) -> None:
    """`/openapi.json` has every operation of every dialect, with its errors in the dialect's shape."""
    async with http_client(served.url) as http:
        document = (await http.get("/openapi.json")).json()
        about = (await http.get("/v1")).json()
    for operation in OPERATIONS:
        if operation.dialect is not None:
            shown = document["paths"][operation.path][operation.method.lower()]
            assert operation.dialect.error_type in shown["responses"]["4XX"]["content"], operation.path
    listed = {(one["method"], one["path"]) for one in about["addresses"]}
    assert {(operation.method, operation.path) for operation in OPERATIONS} <= listed
