"""The guides in docs/guides, followed from an empty folder: the files and commands are taken from the pages."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import os
import re
import runpy
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx2
import jwt
import pytest
import pytest_asyncio
import uvicorn
import websockets
import yaml  # type: ignore[import-untyped]
from playwright.async_api import Browser, HttpCredentials, expect

from tests.credentials import SECRET, KeyFile, bearer, token
from tests.gateway_process import GatewayProcess, gateway_process
from tests.packed_js import copy_sources, install
from tests.page_stage import WatchedPage, browser_context
from tests.ports import free_port
from tests.postgres_process import postgres_process
from tests.programs import installed, program
from tests.redis_process import redis_process
from tests.upstream import Upstream, chat, error_response, messages, responses

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180), pytest.mark.asyncio(loop_scope="session")]

PROJECT = Path(__file__).parents[2]
GUIDES = PROJECT / "docs" / "guides"
PACKAGES = PROJECT / "tests" / "guides"
DEMO = {"demo": {"text": "Hello.", "rate": 0}}


def guide(name: str) -> str:
    return (GUIDES / f"{name}.md").read_text(encoding="utf-8")


def write_files(text: str, folder: Path) -> list[str]:
    """Write the files of a guide, each of which follows its name in bold, and return their names."""
    files = re.findall(r"^\*\*`([\w./-]+)`\*\*\n\n```\w+\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    for name, content in files:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content, encoding="utf-8")
    return [name for name, _ in files]


def commands(text: str) -> list[str]:
    """Return the lines of all `sh` blocks of a guide. A line that ends in a backslash continues on the next one."""
    blocks = "".join(re.findall(r"^```sh\n(.*?)^```$", text, re.MULTILINE | re.DOTALL))
    return blocks.replace("\\\n", " ").splitlines()


async def run(command: str, folder: Path) -> str:
    """Run a command in a folder, and return its output."""
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_shell(command, cwd=folder, stdout=pipe, stderr=asyncio.subprocess.STDOUT)
    output, _ = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode == 0, output.decode()
    return output.decode()


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def guided_gateway(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[GatewayProcess]:
    """The gateway of all guides."""
    async with gateway_process(tmp_path_factory.mktemp("gateway")) as running:
        yield running


@asynccontextmanager
async def dev_server(folder: Path, gateway: GatewayProcess) -> AsyncIterator[str]:
    """Run Vite in a folder as the guide does, but on a free port, and yield the page's origin."""
    port = free_port()
    process = await asyncio.create_subprocess_exec(
        *(program("node"), "node_modules/vite/bin/vite.js", "--port", str(port), "--strictPort"),
        cwd=folder,
        env={**os.environ, "TURNWIRE_URL": gateway.url, "NO_COLOR": "1"},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output = process.stdout
    assert output is not None
    try:
        shown = ""
        while "Local:" not in shown:
            line = (await asyncio.wait_for(output.readline(), 60)).decode()
            assert line, shown
            shown += line
        yield f"http://localhost:{port}"
    finally:
        process.terminate()
        await process.wait()


async def opens(url: str, origin: str) -> bool:
    """Return whether a page of this origin can open the socket."""
    try:
        async with websockets.connect(url, origin=websockets.Origin(origin)) as socket:
            return bool(json.loads(await socket.recv())["type"] == "ready")
    except websockets.InvalidStatus as refused:
        assert refused.response.status_code == 403
        return False


@pytest.mark.browser
async def test_the_react_app_works(guided_gateway: GatewayProcess, browser: Browser, tmp_path: Path) -> None:
    """In `StrictMode`, the answer continues after a reload and can be stopped, and is there after another reload. `useChat`
    gets an answer.

    The guide's packages are those of the lock. A page gets 403 where the guide's table says so.
    """
    text = guide("react")
    assert write_files(text, tmp_path) == [
        "index.html",
        "vite.config.mjs",
        *(f"src/{one}.jsx" for one in ("Chat", "UseChat", "main")),
    ]
    made, packed, installing, served = commands(text)
    assert served == "npx vite"
    locked = json.loads((PACKAGES / "package.json").read_text(encoding="utf-8"))["devDependencies"]
    *packages, tarball = installing.split()[2:]
    assert dict(one.rsplit("@", 1) for one in packages) == {
        name: version.partition(".")[0] for name, version in locked.items()
    }
    clone = tmp_path / "clone"
    clone.mkdir()
    copy_sources(clone)
    await run(f"{made} && {packed.replace('../turnwire/', './clone/')}", tmp_path)
    (packed_file,) = tmp_path.glob(tarball)
    install(packed_file, tmp_path, *(PACKAGES / "node_modules" / name for name in locked))
    async with dev_server(tmp_path, guided_gateway) as origin, browser_context(browser) as context:
        assert await opens(origin.replace("http", "ws") + "/ws", origin)
        assert not await opens(guided_gateway.ws_url, origin)
        async with httpx2.AsyncClient() as http:  # the client asks there why its sockets don't open
            assert (await http.get(f"{origin}/v1")).json()["name"] == "turnwire"
        watched = WatchedPage(await context.new_page())
        page = watched.page
        await page.goto(origin)
        await expect(page.get_by_role("status")).to_have_text("live")
        await page.get_by_label("Message").fill("Tell me a very long story")
        await page.keyboard.press("Enter")
        await expect(page.locator("[data-status=running]")).to_contain_text("You asked")
        await page.reload()
        await expect(page.locator("[data-status=running]")).to_contain_text("You asked")
        await page.get_by_role("button", name="Stop").click()
        await expect(page.locator("[data-status=cancelled]")).to_contain_text("You asked")
        await page.reload()
        await expect(page.locator("[data-role=assistant][data-status=cancelled]")).to_contain_text("You asked")
        await page.goto(f"{origin}/#usechat")
        await page.reload()
        await page.get_by_label("Message").fill("Hi")
        await page.keyboard.press("Enter")
        await expect(page.locator("[data-role=assistant]")).to_contain_text("You asked")
        assert watched.errors == []


@asynccontextmanager
async def backend(folder: Path, environment: dict[str, str]) -> AsyncIterator[None]:
    """Run the program `backend` of a folder until it listens on `LISTEN`, with these variables."""
    process = await asyncio.create_subprocess_exec("./backend", cwd=folder, env={**os.environ, **environment})
    try:
        async with asyncio.timeout(20):
            while (await asyncio.to_thread(connect_error, environment["LISTEN"])) is not None:
                assert process.returncode is None
                await asyncio.sleep(0.05)
        yield
    finally:
        process.terminate()
        await process.wait()


def connect_error(address: str) -> OSError | None:
    """Return the error of connecting to an address, or None if it listens."""
    host, _, port = address.partition(":")
    try:
        socket.create_connection((host, int(port)), 1).close()
    except OSError as error:
        return error
    return None


@pytest.mark.browser
async def test_the_go_backend_works(browser: Browser, tmp_path: Path) -> None:
    """The backend's HS256 tokens are accepted from curl and from its page, for the user who signed in. Its RS256 tokens
    are verified with the public key."""
    program("go")
    text = guide("go-jwt")
    assert write_files(text, tmp_path) == ["go.mod", "token.go", "main.go", "page.html"]
    lines = commands(text)
    exports = [line for line in lines if line.startswith("export ")]
    keys = [line for line in lines if line.startswith("openssl ")]
    asked = [line for line in lines if "curl " in line]
    assert [
        *exports[:4],
        "turnwire serve &",
        "go run . &",
        *asked,
        *keys,
        exports[4],
        "unset TURNWIRE_JWT_SECRET",
    ] == lines
    await run("go vet . && go build -o backend .", tmp_path)
    listen = f"127.0.0.1:{free_port()}"
    here = [line.replace("127.0.0.1:8080", listen) for line in (*exports[:4], "env")]
    known = dict(line.partition("=")[::2] for line in (await run(" && ".join(here), tmp_path)).splitlines())
    settings = {
        name: value for name, value in known.items() if name.startswith(("TURNWIRE_AU", "TURNWIRE_JW", "TURNWIRE_AL"))
    }
    assert len(settings) == 5
    async with (
        gateway_process(tmp_path, settings) as gateway,
        backend(tmp_path, {"LISTEN": listen, "TURNWIRE_URL": gateway.url, "JWT_SECRET": known["JWT_SECRET"]}),
    ):
        script = "\n".join(asked).replace("127.0.0.1:8080", listen).replace("http://127.0.0.1:8000", gateway.url)
        answer = json.loads(await run(script, tmp_path))
        assert "You asked" in answer["message"]["parts"][0]["text"]
        signed_in = HttpCredentials(username="ann", password="her-password")
        context = await browser.new_context(http_credentials=signed_in)
        watched = WatchedPage(await context.new_page())
        await watched.page.goto(f"http://{listen}")
        await expect(watched.page.locator("p")).to_contain_text("You asked")
        await context.close()
        assert (
            await run(f"curl -s -o /dev/null -w '%{{http_code}}' -X POST -u ann:x http://{listen}/token", tmp_path)
            == "401"
        )
    await run(" && ".join(keys), tmp_path)
    async with backend(tmp_path, {"LISTEN": listen, "JWT_PRIVATE_KEY": "private.pem"}):
        token = (await run(asked[0].replace("127.0.0.1:8080", listen) + "; echo $TOKEN", tmp_path)).strip()
    public = (tmp_path / "public.pem").read_text()
    claims = jwt.decode(token, public, ["RS256"], audience="turnwire", issuer="https://app.example.com")
    assert (claims["sub"], claims["exp"] - claims["iat"]) == ("ann", 600)


@asynccontextmanager
async def asgi_server(name: str, folder: Path, port: int) -> AsyncIterator[None]:
    """Serve the `app` of a Python file in a folder, which is the working directory meanwhile, as uvicorn's command does."""
    program = runpy.run_path(str(folder / f"{name}.py"))
    server = uvicorn.Server(uvicorn.Config(program["app"], port=port, log_level="warning"))
    with contextlib.chdir(folder):
        serving = asyncio.create_task(server.serve())
        try:
            async with asyncio.timeout(20):
                while not server.started:
                    await asyncio.sleep(0.02)
            yield
        finally:
            server.should_exit = True
            await serving


@pytest.mark.browser
async def test_the_migrations_work(browser: Browser, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """LiteLLM's client gets an answer of the fallback. The FastAPI chat answers its page, first from the provider, then from
    the gateway, and its page answers itself on a socket of the gateway."""
    text = guide("migrate")
    assert write_files(text, tmp_path) == [
        *("config.yaml", "models.toml", "client.py", "before.py", "before.html", "after.py", "after.html"),
    ]
    lines = commands(text)
    port = free_port()
    page_url, secret = f"http://127.0.0.1:{port}", "s" * 40
    file = KeyFile(tmp_path)
    key = file.add("ann")
    async with Upstream() as upstream:
        settings = {
            **{"TURNWIRE_AUTH": "jwt,keys", "TURNWIRE_API_KEYS": str(file.path), "TURNWIRE_JWT_SECRET": secret},
            **{"TURNWIRE_MODELS": str(tmp_path / "models.toml"), "TURNWIRE_ALLOWED_ORIGINS": page_url},
            **{"OPENAI_API_KEY": "sk-x", "OPENAI_BASE_URL": upstream.openai_url, "TURNWIRE_PROVIDER_ATTEMPTS": "1"},
            **{"ANTHROPIC_API_KEY": "sk-y", "ANTHROPIC_BASE_URL": upstream.anthropic_url},
        }
        async with gateway_process(tmp_path, settings) as gateway:
            upstream.play(error_response(503, {"error": {"message": "busy"}}), messages("From the ", "fallback."))
            asking = dict(re.findall(r"(LLM_\w+)=(\S+) ", lines[3]))
            monkeypatch.setenv("LLM_URL", asking["LLM_URL"].replace("http://127.0.0.1:8000", gateway.url))
            monkeypatch.setenv("LLM_KEY", asking["LLM_KEY"].replace("tw_…", key))
            with contextlib.redirect_stdout(io.StringIO()) as printed:
                await asyncio.to_thread(runpy.run_path, str(tmp_path / "client.py"))
            assert printed.getvalue() == "From the fallback."

            async def shown(name: str, answer: str) -> None:
                async with asgi_server(name, tmp_path, port):
                    watched = WatchedPage(await context.new_page())
                    await watched.page.goto(page_url)
                    await expect(watched.page.locator("p")).to_have_text(answer)
                    assert watched.errors == []

            async with browser_context(browser) as context:
                await context.add_cookies([{"name": "session", "value": "a-session-of-ann", "url": page_url}])
                monkeypatch.setenv("OPENAI_BASE_URL", upstream.openai_url)
                monkeypatch.setenv("OPENAI_API_KEY", "sk-x")
                upstream.play(chat("Straight ", "from it."))
                await shown("before", "Straight from it.")
                first, second = re.findall(r"(\w+)=(\S+) ", lines[4])
                assert second == ("OPENAI_API_KEY", "tw_…")
                monkeypatch.setenv(first[0], first[1].replace("http://127.0.0.1:8000", gateway.url))
                monkeypatch.setenv(second[0], key)
                upstream.play(responses("Through the ", "gateway."))
                await shown("before", "Through the gateway.")
                monkeypatch.setenv("TURNWIRE_JWT_SECRET", secret)
                page = tmp_path / "after.html"
                here = page.read_text().replace("http://127.0.0.1:8000", gateway.url)
                page.write_text(here.replace("ws://127.0.0.1:8000/ws", gateway.ws_url))
                upstream.play(responses("On a ", "socket."))
                await shown("after", "On a socket.")


async def test_the_kubernetes_guide_holds(tmp_path: Path) -> None:
    """The guide's check accepts the files. A gateway that has the variables of the files and of the
    guide's secret is ready with a Redis and a PostgreSQL, answers, and has the answer in its archive."""
    text = guide("kubernetes")
    (checked,) = [line for line in commands(text) if "deploy_schemas" in line]
    checked = checked.replace("python", sys.executable, 1)
    assert await run(checked, PROJECT) == ""
    secret = dict(re.findall(r"--from-literal='?(\w+)=([^\s']+)", text))
    assert set(secret) == {"TURNWIRE_STORE", "TURNWIRE_ARCHIVE", "TURNWIRE_JWT_JWKS_URL", "OPENAI_API_KEY"}
    objects = yaml.safe_load_all((PROJECT / "deploy/k8s/turnwire.yaml").read_text())
    (settings,) = [one["data"] for one in objects if one["kind"] == "ConfigMap"]
    issuer, audience = settings["TURNWIRE_JWT_ISSUER"], settings["TURNWIRE_JWT_AUDIENCE"]
    settings |= {"TURNWIRE_JWT_SECRET": SECRET, "OPENAI_API_KEY": secret["OPENAI_API_KEY"].replace("…", "x")}
    with postgres_process() as postgres, redis_process(tmp_path) as redis:
        settings["TURNWIRE_ARCHIVE"] = postgres.url(postgres.create_database())
        async with (
            gateway_process(tmp_path, settings, store=redis.url) as gateway,
            httpx2.AsyncClient(base_url=gateway.url, headers=bearer(token("ann", iss=issuer, aud=audience))) as http,
        ):
            assert (await http.get("/ready")).text in text
            asked = {"conversation": "c1", "create": True, "model": "demo", "input": "Hi", "params": DEMO}
            assert (await http.post("/v1/turns", json=asked)).status_code == 200
            listed = (await http.get("/v1/conversations")).json()["conversations"]
            assert [one["id"] for one in listed] == ["c1"]


@pytest.mark.browser
async def test_the_site_of_the_documents_can_be_searched(guided_gateway: GatewayProcess, browser: Browser) -> None:
    """`/docs/guide` leads to the site that `make docs` has built. Its search finds a page, and its policy refuses nothing."""
    installed(PROJECT / "site" / "content-security-policy.txt", "the site of the documents (make docs)")
    async with browser_context(browser) as context:
        watched = WatchedPage(await context.new_page())
        page = watched.page
        await page.goto(f"{guided_gateway.url}/docs/guide")
        assert page.url == f"{guided_gateway.url}/docs/guide/"
        await page.get_by_role("textbox", name="Search").fill("PgBouncer pool_mode")
        await page.locator(".md-search-result__link", has_text="Archive").first.click()
        await expect(page.get_by_role("heading", name="Archive")).to_be_visible()
        assert page.url.startswith(f"{guided_gateway.url}/docs/guide/operations/")
        assert watched.errors == []
