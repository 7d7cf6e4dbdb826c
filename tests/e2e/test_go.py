"""The Go module of `clients/go`, tested with the race detector, and the Go programs, built and run: the module's command, a
reverse proxy with its own users, and a backend with one connection for its users."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import subprocess
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any
from unittest.mock import ANY

import httpx2
import pytest

from gateway import __version__
from tests.certificates import make_certificate
from tests.client import client
from tests.credentials import IDENTITY_SECRET, SECRET, KeyFile, bearer, token
from tests.demo import expected
from tests.e2e.go_programs import (
    EXAMPLES,
    MODULE,
    go_backend_binary,
    go_client,
    go_client_binary,
    go_proxy,
    go_proxy_binary,
    proxy_settings,
    run_go,
    server_environment,
)
from tests.e2e.test_identity import status_of
from tests.gateway_process import gateway_process
from tests.ports import free_port
from tests.programs import program
from tests.redis_process import redis_process
from tests.upstream import Upstream, chat

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]  # the first build compiles the standard library

__all__ = ["go_backend_binary", "go_client_binary", "go_proxy_binary"]

GO_EXAMPLES = [EXAMPLES / name for name in ("go-backend", "go-proxy")]
SLOW = {"rate": 60, "tokens": 300}


def params(demo: dict[str, Any]) -> list[str]:
    """Return the client's options for a demo turn."""
    return ["-model", "demo", "-params", json.dumps({"demo": demo})]


async def test_the_module_passes_its_own_tests(tmp_path: Path) -> None:
    """The module is formatted, has nothing for `go vet`, and passes its tests with the race detector, some of them against a
    real gateway. The detector needs a C compiler."""
    program(run_go(MODULE, "env", "CC").split()[0])
    gofmt = subprocess.run([program("gofmt"), "-l", MODULE, *GO_EXAMPLES], capture_output=True, text=True, check=True)
    assert gofmt.stdout == ""
    async with gateway_process(tmp_path) as gateway:
        await asyncio.to_thread(run_go, MODULE, "vet", "./...")
        output = await asyncio.to_thread(
            run_go,
            MODULE,
            "test",
            "-race",
            "-v",
            "./...",
            timeout_s=500,
            CGO_ENABLED="1",
            TURNWIRE_LIVE_URL=gateway.url,
        )
    assert "--- PASS: TestLiveRequests" in output
    assert "--- SKIP" not in output


def test_the_module_has_the_version_of_the_gateway() -> None:
    """The module, and what the examples require of it, have the gateway's version."""
    source = (MODULE / "doc.go").read_text(encoding="utf-8")
    assert f'const Version = "{__version__}"' in source
    for example in GO_EXAMPLES:
        assert f"require turnwire/clients/go v{__version__}\n" in (example / "go.mod").read_text(encoding="utf-8")


def test_the_program_of_the_readme_is_built_in_a_module_of_its_own(tmp_path: Path) -> None:
    """The steps and the program of the module's README work from another module beside the clone."""
    readme = (MODULE / "README.md").read_text(encoding="utf-8")
    edit = re.findall(r"^go mod edit (-require=\S+) (-replace=\S+)$", readme, re.MULTILINE)
    (program_text,) = re.findall(r"^```go\n(.*?)^```$", readme, re.MULTILINE | re.DOTALL)
    folder = tmp_path / "mine"
    folder.mkdir()
    (tmp_path / "turnwire").symlink_to(MODULE.parents[1])
    (folder / "main.go").write_text(program_text, encoding="utf-8")
    shutil.copy(MODULE / "go.sum", folder)  # and without the network: the modules were fetched by tests/prepare.sh
    run_go(folder, "mod", "init", "example.com/mine")
    run_go(folder, "mod", "edit", *edit[0])
    run_go(folder, "mod", "tidy", GOPROXY="off")
    run_go(folder, "vet", ".")


async def test_law_1_through_a_real_go_reverse_proxy(tmp_path: Path, go_proxy_binary: Path) -> None:
    """Law 1: through the proxy, frames arrive in both codecs for the user who signed in, and a cancel request reaches
    the provider."""
    key, settings = proxy_settings(tmp_path)
    async with Upstream() as upstream, AsyncExitStack() as stack:
        settings |= {"OPENAI_API_KEY": "sk-x", "OPENAI_BASE_URL": upstream.openai_url}
        gateway = await stack.enter_async_context(gateway_process(tmp_path, settings))
        upstream.play(chat(*[f"w{n} " for n in range(2000)]).replace(rate=200))
        proxy = await stack.enter_async_context(go_proxy(go_proxy_binary, gateway.url, key))
        cookie = await proxy.cookie("ann")
        for codec in ("json", "msgpack"):
            async with client(proxy.ws_url, codec=codec, origin=proxy.url, additional_headers=cookie) as c:
                assert c.ready["user"] == "ann"
                for n in range(5):
                    demo = {"demo": {"rate": 200, "tokens": 100}}
                    await c.request("turn.start", turn=f"{codec}{n}", input="x", params=demo)
                await c.request("turn.start", turn=f"{codec}-stop", input="x", model="openai/m")
                await c.until_seq(f"{codec}-stop", 10)
                assert await c.request("turn.cancel", turn=f"{codec}-stop") == {"turns": {f"{codec}-stop": "cancelled"}}
                async with asyncio.timeout(5):
                    await upstream.requests[-1].disconnected.wait()
                for n in range(5):
                    assert (await c.ending(f"{codec}{n}"))["type"] == "turn.completed"


async def test_only_the_proxy_sets_the_identity(tmp_path: Path, go_proxy_binary: Path) -> None:
    """A request without a session is refused, even with a credential of the gateway. The proxy replaces an identity
    that a client adds, passes on neither probes nor metrics nor what operators use, and no secret is logged."""
    key, settings = proxy_settings(tmp_path)
    async with (
        gateway_process(tmp_path, settings) as gateway,
        go_proxy(go_proxy_binary, gateway.url, key) as proxy,
        httpx2.AsyncClient(base_url=proxy.url) as http,
    ):
        assert await status_of(proxy.ws_url) == 401
        forged = token("ann", "x" * 40)
        assert await status_of(proxy.ws_url, additional_headers={"Cookie": f"session={forged}"}) == 401
        # A token that the proxy signs for the gateway isn't a session of the proxy.
        assert await status_of(proxy.ws_url, additional_headers=bearer(token("ann", IDENTITY_SECRET))) == 401
        assert (await http.post("/login", data={"name": "ann", "password": "x"})).status_code == 403
        cross_site = {"Sec-Fetch-Site": "cross-site"}
        assert (await http.post("/login", data={"name": "ann"}, headers=cross_site)).status_code == 403

        bob = token("bob", IDENTITY_SECRET)
        cookie = (await proxy.cookie("ann"))["Cookie"]
        for smuggled in (
            [("X-Turnwire-Identity", bob)],
            [("x-turnwire-identity", bob), ("X-TURNWIRE-IDENTITY", bob)],
            [("X-Turnwire-Identity", bob), ("Connection", "X-Turnwire-Identity, Authorization")],
            [("X-Forwarded-Host", "evil.example"), ("Forwarded", "for=1.2.3.4;host=evil.example")],
        ):
            async with client(proxy.ws_url, additional_headers=[("Cookie", cookie), *smuggled]) as c:
                assert c.ready["user"] == "ann"
        assert await status_of(proxy.ws_url, additional_headers=bearer(key)) == 401
        evil = {"origin": "https://evil.example", "additional_headers": {"Cookie": cookie}}
        assert await status_of(proxy.ws_url, **evil) == 403

        private = ("/health", "/ready", "/metrics", "/static/../metrics", "/v1/../metrics", "/v1/%2e%2e/metrics")
        for path in (*private, "/v1/admin", "/v1/admin/turns", "/v1//admin/turns", "/v1/%61dmin/turns"):
            answer = await http.get(path, headers={"Cookie": cookie}, follow_redirects=True)
            assert answer.status_code == 404, path
            assert "shutting_down" not in answer.text
        revoke = await http.post("/v1/revocations", json={"user": "bob"}, headers={"Cookie": cookie})
        assert revoke.status_code == 404
        assert (await http.get("/v1/models", headers={"Cookie": cookie})).status_code == 200
        for path in ("/", "/app.webmanifest"):
            assert (await http.get(path, headers={"Cookie": cookie})).status_code == 200
        assert (await http.get("/sw.js", headers={"Cookie": cookie})).status_code == 404
        assert (await http.get("/", follow_redirects=True)).url.path == "/login"
        secrets = (key, IDENTITY_SECRET, bob, cookie.partition("=")[2])
        assert [one for one in secrets if one in "".join([*gateway.log, *proxy.log])] == []


async def test_law_1_a_go_client_survives_a_gateway_restart_through_the_proxy(
    tmp_path: Path, go_proxy_binary: Path, go_client_binary: Path
) -> None:
    """Law 1: clients of the proxy get 4503, then 503 until the gateway is back; the Go client resumes without losing a
    character."""
    key, settings = proxy_settings(tmp_path)
    settings |= {"TURNWIRE_DRAIN_S": "0.3"}
    async with AsyncExitStack() as stack:
        redis = stack.enter_context(redis_process(tmp_path / "redis"))
        port = str(free_port())
        first = await stack.enter_async_context(gateway_process(tmp_path, settings, "--port", port, store=redis.url))
        proxy = await stack.enter_async_context(go_proxy(go_proxy_binary, first.url, key))
        cookie = await proxy.cookie("bob")
        session = await proxy.sign_in("ann")
        waiting = await stack.enter_async_context(client(proxy.ws_url, additional_headers=cookie))
        started = go_client(go_client_binary, proxy.ws_url, session, *params(SLOW), "Hello")
        go = await stack.enter_async_context(started)
        await go.wait_for_output(200)
        first.terminate()
        assert (await waiting.until_closed())[0] == 4503
        assert await first.wait() == 0
        assert await status_of(proxy.ws_url, additional_headers=cookie) == 503
        again = await stack.enter_async_context(gateway_process(tmp_path, settings, "--port", port, store=redis.url))
        assert again.url == first.url
        assert await go.ended() == 0, go.events
        assert go.output.decode() == expected("Hello", SLOW)
        assert any("resuming" in event for event in go.events), go.events
        async with client(proxy.ws_url, additional_headers=cookie) as back:
            assert back.ready["user"] == "bob"


async def test_law_1_a_go_client_resumes_after_a_proxy_restart(
    tmp_path: Path, go_proxy_binary: Path, go_client_binary: Path
) -> None:
    """Law 1: with coder/websocket's default settings, the client resumes after a cut in the middle of a turn; then the
    user cancels it."""
    key, settings = proxy_settings(tmp_path)
    async with gateway_process(tmp_path, settings) as gateway:
        port = free_port()
        async with go_proxy(go_proxy_binary, gateway.url, key, port=port) as proxy:
            url = proxy.ws_url
            session = await proxy.sign_in("ann")
            running = go_client(go_client_binary, url, session, "-turn", "t", *params({**SLOW, "tokens": 5000}), "Hi")
            go = await running.__aenter__()
            await go.wait_for_output(200)
        try:
            async with go_proxy(go_proxy_binary, gateway.url, key, port=port):
                await go.wait_for_output(len(go.output) + 500)
                assert any("resuming t" in event for event in go.events), go.events
                go.interrupt()
                assert await go.ended() == 0, go.events
                assert go.events[-1] == "turn.cancelled\n"
                assert expected("Hi", {**SLOW, "tokens": 5000}).startswith(go.output.decode())
        finally:
            await running.__aexit__(None, None, None)


async def test_a_go_client_ends_when_the_events_are_gone(tmp_path: Path, go_client_binary: Path) -> None:
    """Law 6: a start repeated after the turn's events have expired is answered without them. The client says so and
    doesn't connect again."""
    file = KeyFile(tmp_path)
    key = file.add_service()
    settings = {"TURNWIRE_AUTH": "keys", "TURNWIRE_API_KEYS": str(file.path), "TURNWIRE_TURN_LOG_TTL_S": "0"}
    options = ["-turn", "t", *params({"rate": 500, "tokens": 20}), "Hi"]
    async with gateway_process(tmp_path, settings) as gateway:
        async with go_client(go_client_binary, gateway.ws_url, key, *options) as first:
            assert await first.ended() == 0, first.events
        async with go_client(go_client_binary, gateway.ws_url, key, *options) as again:
            assert await again.ended() == 1
        assert again.output == b""
        assert "no longer kept" in again.events[-1]
        assert not any("reconnecting" in event for event in again.events), again.events


async def test_a_go_backend_serves_many_users_on_one_socket(tmp_path: Path, go_client_binary: Path) -> None:
    """Laws 1 and 12: with `as`, fifty users' turns with the same id are kept apart on one socket."""
    file = KeyFile(tmp_path)
    key = file.add_service()
    settings = {"TURNWIRE_AUTH": "keys", "TURNWIRE_API_KEYS": str(file.path)}
    users = [f"user{n}" for n in range(50)]
    demo = {"rate": 100, "tokens": 60}
    async with (
        gateway_process(tmp_path, settings) as gateway,
        go_client(go_client_binary, gateway.ws_url, key, "-as", ",".join(users), *params(demo), "Hi") as go,
    ):
        assert await go.ended() == 0, go.events
        results = [json.loads(line) for line in go.output.splitlines()]
        assert sorted(line["as"] for line in results) == sorted(users)
        assert {(line["ended"], line["text"]) for line in results} == {("turn.completed", expected("Hi", demo))}


async def test_the_proxy_passes_on_a_lost_connection(tmp_path: Path, go_proxy_binary: Path) -> None:
    """After the client's TCP connection is aborted, the proxy closes its connection to the gateway, so a turn with
    `on_disconnect: cancel` is cancelled."""
    key, settings = proxy_settings(tmp_path)
    settings |= {"TURNWIRE_DISCONNECT_GRACE_S": "0.2"}
    async with (
        gateway_process(tmp_path, settings) as gateway,
        go_proxy(go_proxy_binary, gateway.url, key) as proxy,
    ):
        cookie = await proxy.cookie("ann")
        async with client(proxy.ws_url, additional_headers=cookie) as other:
            async with client(proxy.ws_url, additional_headers=cookie) as c:
                demo = {"demo": {"rate": 20, "tokens": 5000}}
                await c.request("turn.start", turn="t", input="x", params=demo, on_disconnect="cancel")
                c.socket.transport.abort()
                await c.until_closed()
            await other.until_status("t", "cancelled")


async def ask_fails(binary: Path, url: str, *, key: str = "", **variables: str) -> str:
    """Run the module's command where it can't succeed, and return the one line of its error."""
    process = await asyncio.create_subprocess_exec(
        *(binary, "-url", url, "Hi"),
        env={**os.environ, "TURNWIRE_TOKEN": key, **variables},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(15):
        output, errors = await process.communicate()
    assert (process.returncode, output) == (1, b"")
    line = errors.decode()
    assert line.startswith("ask: "), line
    assert line.count("\n") == 1, line
    return line


async def test_a_wrong_address_or_credential_is_a_sentence(tmp_path: Path, go_client_binary: Path) -> None:
    """The module's command ends with one line that says what is wrong: an address that isn't one or isn't a gateway's, a
    certificate that isn't trusted, and a credential that has expired. Where the certificate is trusted, it works."""
    certificate = make_certificate(tmp_path)
    file = KeyFile(tmp_path)
    file.add_service()
    settings = {
        "TURNWIRE_AUTH": "keys,jwt",
        "TURNWIRE_API_KEYS": str(file.path),
        "TURNWIRE_JWT_SECRET": SECRET,
        "TURNWIRE_CERTFILE": str(certificate.certfile),
        "TURNWIRE_KEYFILE": str(certificate.keyfile),
    }
    async with gateway_process(tmp_path, settings) as gateway:
        secure = gateway.ws_url.replace("ws:", "wss:")
        trusting = {"SSL_CERT_FILE": str(certificate.authority)}
        for url, sentence in (
            ("localhost", "isn't a ws, wss, http or https URL"),
            (f"ws://127.0.0.1:{free_port()}", "can't be reached"),
            (secure, "isn't trusted"),
        ):
            assert sentence in await ask_fails(go_client_binary, url)
        expired = token("ann", SECRET, exp=int(time.time()) - 60)
        assert "expired" in await ask_fails(go_client_binary, secure, key=expired, **trusting)
        assert "no WebSocket of a gateway is here" in await ask_fails(
            go_client_binary, f"{secure}/nowhere", key=token("ann", SECRET), **trusting
        )


async def test_a_go_backend_with_users_of_its_own(
    tmp_path: Path, go_backend_binary: Path, go_proxy_binary: Path
) -> None:
    """The backend signs users in, streams answers to them from one connection, and stops an answer at the provider, by a request
    or when the browser goes away. Each user's history is read from the export, and has nothing of another user.

    The proxy's check accepts the same gateway, and says so if its secret is wrong.
    """
    file = KeyFile(tmp_path)
    key, operator = file.add_service("proxy"), file.add("operator", {"admin"})
    settings = {
        "TURNWIRE_AUTH": "keys",
        "TURNWIRE_API_KEYS": str(file.path),
        "TURNWIRE_IDENTITY_SECRET": IDENTITY_SECRET,
        "TURNWIRE_DEFAULT_MODEL": "openai/m",
    }
    async with Upstream() as upstream, AsyncExitStack() as stack:
        settings |= {"OPENAI_API_KEY": "sk-x", "OPENAI_BASE_URL": upstream.openai_url}
        gateway = await stack.enter_async_context(gateway_process(tmp_path, settings))
        backend = await stack.enter_async_context(go_proxy(go_backend_binary, gateway.url, key))
        ann, bob = [
            await stack.enter_async_context(
                httpx2.AsyncClient(base_url=backend.url, headers=await backend.cookie(name))
            )
            for name in ("ann", "bob")
        ]
        upstream.play(chat("Hello, ", "Ann."))
        answered = await chat_events(ann, "I am Ann")
        assert "".join(data for kind, data in answered if kind == "text") == "Hello, Ann."
        assert answered[-1] == ("end", {"status": "completed", "error": "", "usage": ANY})
        upstream.play(chat(*[f"w{n} " for n in range(2000)]).replace(rate=100))
        async with asyncio.timeout(30), ann.stream("POST", "/api/chat", json={"input": "Stop"}) as answer:
            events = sse(answer)
            turn = (await anext(events))[1]
            kind, shown = await anext(events)
            assert kind == "text"
            assert (await bob.post(f"/api/turns/{turn}/stop")).json() == {"outcome": "not_found"}
            assert (await ann.post(f"/api/turns/{turn}/stop")).json() == {"outcome": "cancelled"}
            *texts, (kind, end) = [event async for event in events]
            shown += "".join(text for _, text in texts)
            assert (kind, end["status"]) == ("end", "cancelled")
            await upstream.requests[-1].disconnected.wait()
        async with asyncio.timeout(30):
            async with bob.stream("POST", "/api/chat", json={"input": "Leave"}) as answer:
                events = sse(answer)
                await anext(events)
                assert (await anext(events))[0] == "text"
            await upstream.requests[-1].disconnected.wait()
        history = (await ann.get("/api/history")).json()
        assert [message["role"] for message in history] == ["user", "assistant"] * 2
        assert [message["text"] for message in history] == ["I am Ann", "Hello, Ann.", "Stop", shown]
        assert shown.startswith("w0 ")
        others = (await bob.get("/api/history")).json()
        assert [message["text"] for message in others if message["role"] == "user"] == ["Leave"]
        assert (
            await ann.post("/api/chat", json={"input": "x"}, headers={"Sec-Fetch-Site": "cross-site"})
        ).status_code == 403
        async with httpx2.AsyncClient(base_url=backend.url) as stranger:
            assert (await stranger.get("/api/history")).status_code == 401
            assert "/login" in (await stranger.get("/")).text
        async with httpx2.AsyncClient(base_url=gateway.url, headers=bearer(operator)) as http:
            assert len((await http.get("/v1/admin/connections")).json()["connections"]) == 1

        variables = server_environment(gateway.url, key)
        assert "accepts the key" in await checked(go_proxy_binary, variables, 0)
        wrong = {**variables, "TURNWIRE_IDENTITY_SECRET": "y" * 40}
        assert "TURNWIRE_IDENTITY_SECRET" in await checked(go_proxy_binary, wrong, 1)


async def checked(proxy: Path, variables: dict[str, str], code: int) -> str:
    """Run the proxy's check, and return its output. It must end with this exit code."""
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(
        proxy, "check", env=variables, stdout=pipe, stderr=asyncio.subprocess.STDOUT
    )
    async with asyncio.timeout(15):
        output, _ = await process.communicate()
    assert process.returncode == code, output.decode()
    return output.decode()


async def sse(response: httpx2.Response) -> AsyncIterator[tuple[str, Any]]:
    """Yield the events of the backend: the kind and the data of each."""
    kind = ""
    async for line in response.aiter_lines():
        name, _, value = line.partition(": ")
        if name == "event":
            kind = value
        elif name == "data":
            yield kind, json.loads(value)


async def chat_events(http: httpx2.AsyncClient, text: str) -> list[tuple[str, Any]]:
    """Ask the backend and return the events after the first, which is the turn."""
    async with http.stream("POST", "/api/chat", json={"input": text}) as response:
        assert response.status_code == 200
        return [event async for event in sse(response)][1:]
