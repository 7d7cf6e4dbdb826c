"""deploy/nginx.conf and nginx-tls.conf in a real nginx in front of one or two instances: sockets, event streams, body
sizes, a stopping instance, the operator's paths, auth that is off, the page below a path, and TLS."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from http.client import HTTPConnection
from pathlib import Path
from urllib.parse import urlsplit

import httpx2
import pytest
from playwright.async_api import Browser
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from tests.certificates import Certificate, make_certificate
from tests.client import client
from tests.credentials import SECRET, bearer, token
from tests.demo import expected
from tests.gateway_process import GatewayProcess, gateway_process
from tests.nginx_process import nginx_process
from tests.page_stage import browser_context, ended, open_page, wait_for_words
from tests.ports import free_port
from tests.redis_process import redis_process

OPEN = {"TURNWIRE_INSECURE": "1"}
"""Auth is off, and every client that reaches the proxy is accepted."""
JWT = {"TURNWIRE_AUTH": "jwt", "TURNWIRE_JWT_SECRET": SECRET}
DEPLOY = Path(__file__).parents[2] / "deploy"

pytestmark = pytest.mark.e2e


@asynccontextmanager
async def nginx(
    folder: Path, gateways: list[GatewayProcess], below: str = "", certificate: Certificate | None = None
) -> AsyncIterator[str]:
    """Start nginx in front of the gateways with deploy/nginx.conf, and yield its URL.

    Only the addresses in the file are replaced. With `below`, such as "/chat", the gateway is served under this path, as
    a comment in the file describes. With a certificate, the file is nginx-tls.conf, its paths of the certificate and key
    are replaced too, and the URL is the one over http, which redirects.
    """
    port = free_port()
    text = (DEPLOY / "nginx.conf").read_text(encoding="utf-8").replace("listen 8080;", f"listen 127.0.0.1:{port};")
    if certificate is not None:
        text = (
            (DEPLOY / "nginx-tls.conf").read_text(encoding="utf-8").replace("listen 80;", f"listen 127.0.0.1:{port};")
        )
        tls_port = free_port()
        text = text.replace("listen 443 ssl;", f"listen 127.0.0.1:{tls_port} ssl;")
        text = text.replace("https://$host$request_uri", f"https://$host:{tls_port}$request_uri")
        text = text.replace("/etc/nginx/tls/fullchain.pem", str(certificate.certfile))
        text = text.replace("/etc/nginx/tls/privkey.pem", str(certificate.keyfile))
    if below:
        text = text.replace("    location / {", f"    location {below}/ {{")
        text = text.replace("        proxy_pass http://turnwire;", "        proxy_pass http://turnwire/;")
    for n in (1, 2):
        assert f"turnwire-{n}:8000" in text
        text = text.replace(f"turnwire-{n}:8000", urlsplit(gateways[min(n, len(gateways)) - 1].url).netloc)
    folder.mkdir()
    async with nginx_process(folder, port, text):
        yield f"http://127.0.0.1:{port}"


async def test_law_1_and_7_through_nginx_while_an_instance_stops(tmp_path: Path) -> None:
    """Laws 1 and 7: a socket and an event stream aren't buffered. The socket's instance is stopped, and the next socket
    through the same address continues from the position without a gap. Large bodies are accepted."""
    demo = {"rate": 40, "tokens": 120}
    settings = {**OPEN, "TURNWIRE_DRAIN_S": "0.2", "TURNWIRE_INPUT_BYTES": "8000000"}
    with redis_process(tmp_path / "redis") as redis:
        async with (
            gateway_process(tmp_path, settings, store=redis.url) as one,
            gateway_process(tmp_path, settings, store=redis.url) as two,
            nginx(tmp_path / "nginx", [one, two]) as url,
            httpx2.AsyncClient(base_url=url, timeout=20) as http,
        ):
            ws = url.replace("http", "ws", 1) + "/ws"
            async with client(ws, additional_headers={"Origin": url}) as c:
                await c.request("turn.start", turn="t", input="Hi", params={"demo": demo})
                await c.until_seq("t", 10)
                here = c.ready["instance"]
                names = {(await http.get(f"{gateway.url}/v1")).json()["instance"]: gateway for gateway in (one, two)}
                names[here].terminate()
                assert (await c.until_closed())[0] == 4503
                view = c.turns["t"]
            async with client(ws) as d:
                assert d.ready["instance"] != here
                d.turns["t"] = view
                await d.request("turn.attach", turn="t", epoch=view.epoch, after=view.seq)
                assert (await d.ending("t"))["type"] == "turn.completed"
                assert d.turns["t"].text() == expected("Hi", demo)

            body = {"turn": "u", "input": "Hi", "params": {"demo": demo}}
            async with http.stream("POST", "/v1/turns", json=body, headers={"accept": "text/event-stream"}) as stream:
                assert stream.headers["content-type"].startswith("text/event-stream")
                loop = asyncio.get_running_loop()
                times = [loop.time() async for line in stream.aiter_lines() if line.startswith("data:")]
            assert times[-1] - times[0] > 1.5, "nginx buffered the events"

            large = "x" * 5_000_000
            accepted = await http.post("/v1/turns", json={"input": large}, headers={"prefer": "respond-async"})
            assert accepted.status_code == 202


OPERATORS = ("/metrics", "/v1/admin", "/v1/admin/turns", "/v1/admin/connections", "/v1/admin/turns/t/cancel")
SPELLINGS: tuple[Callable[[str], str], ...] = (
    lambda path: path,
    lambda path: path + "/",
    lambda path: path + "?a=/v1/turns/metrics",
    lambda path: path + "%0a",
    lambda path: path.replace("/", "//"),
    lambda path: path.replace("/", "/./"),
    lambda path: path.replace("/", "/x/../"),
    lambda path: path.replace("/", "/%2e/"),
    lambda path: path.replace("/", "/x/%2e%2E/"),
    lambda path: "/" + path[1:].replace("/", "%2f"),
    lambda path: path.replace("m", "%6d").replace("v1", "%761"),
    lambda path: path.replace("m", "%256d"),
    str.upper,
)
"""Spellings of a path that nginx and the gateway may normalize differently."""


def answer_to(url: str, path: str) -> tuple[int, bytes]:
    """Send an administrator's GET with the path unchanged, and return status and body."""
    connection = HTTPConnection(urlsplit(url).netloc, timeout=20)
    try:
        connection.request("GET", path, headers=bearer(token(scope="admin read")))
        answered = connection.getresponse()
        return answered.status, answered.read()
    finally:
        connection.close()


@pytest.mark.parametrize(
    ("below", "prefix"), [("", ""), ("/chat", ""), ("", "/chat"), ("", "/api/v1")], ids=["/", "cut", "passed", "v1"]
)
async def test_no_spelling_of_an_operator_path_passes_nginx(tmp_path: Path, below: str, prefix: str) -> None:
    """The operator's paths are blocked in every spelling, also under a path prefix that nginx removes or passes on. Turns
    and conversations with such names can be requested.

    The requests have an administrator's token, with which the gateway itself would answer.
    """
    async with (
        gateway_process(tmp_path, {**JWT, "TURNWIRE_PATH_PREFIX": prefix}) as gateway,
        nginx(tmp_path / "nginx", [gateway], below=below) as url,
    ):

        async def ask(url: str, path: str) -> tuple[int, bytes]:
            return await asyncio.to_thread(answer_to, url, path)

        assert (await ask(gateway.url, f"{prefix}/v1/admin/turns"))[0] == 200
        assert (await ask(gateway.url, f"{prefix}/metrics"))[0] == 200
        for base in {"", below, prefix}:
            for spelled in (spell(base + path) for path in OPERATORS for spell in SPELLINGS):
                status, body = await ask(url, spelled)
                assert status in {400, 404}, (spelled, body)
        for path in ("/v1/turns/metrics", "/v1/conversations/metrics"):
            status, body = await ask(url, (below or prefix) + path)
            assert (status, b"not_found" in body) == (404, True), body
        assert (await ask(url, f"{below or prefix}/v1/models"))[0] == 200


async def test_without_auth_clients_of_a_proxy_are_not_operators(tmp_path: Path) -> None:
    """Without auth, requests through a proxy are refused with the setting to change, even with a loopback Host, while
    local clients are served. With TURNWIRE_INSECURE, requests through a proxy are served, but never an administrator's."""
    async with (
        gateway_process(tmp_path) as gateway,
        nginx(tmp_path / "nginx", [gateway]) as url,
        httpx2.AsyncClient() as http,
    ):
        for path in ("/", "/v1/models", "/health", "/v1/revocations"):
            refused = await http.get(url + path)
            assert (refused.status_code, refused.json()["error"]["code"]) == (403, "forbidden"), path
            assert "TURNWIRE_AUTH" in refused.json()["error"]["message"]
        with pytest.raises(InvalidStatus) as closed:
            await connect(url.replace("http", "ws", 1) + "/ws")
        assert closed.value.response.status_code == 403
        assert "TURNWIRE_INSECURE=1" in (closed.value.response.body or b"").decode()
        assert (await http.post(f"{gateway.url}/v1/revocations", json={"user": "nobody"})).status_code == 200
        async with client(gateway.ws_url) as c:
            assert c.ready["user"] == "local"
    async with (
        gateway_process(tmp_path, OPEN) as gateway,
        nginx(tmp_path / "open", [gateway]) as url,
        httpx2.AsyncClient() as http,
    ):
        assert (await http.get(f"{url}/v1/models")).status_code == 200
        assert (await http.post(f"{url}/v1/revocations", json={"user": "nobody"})).status_code == 403


@pytest.mark.browser
@pytest.mark.asyncio(loop_scope="session")
async def test_the_page_works_below_a_path_of_nginx(browser: Browser, tmp_path: Path) -> None:
    """The address /chat, without the final slash, leads to the page at /chat/, and an answer completes even after its
    socket is cut. An operator's path below /chat and a path outside it answer 404."""
    async with (
        gateway_process(tmp_path, OPEN) as gateway,
        nginx(tmp_path / "nginx", [gateway], below="/chat") as url,
        browser_context(browser) as context,
    ):
        watched = await open_page(context, f"{url}/chat")
        assert watched.page.url == f"{url}/chat/"
        turn = await watched.ask("Hello")
        await wait_for_words(turn)
        await watched.page.evaluate("sockets[0].close()")
        await ended(turn, "completed")
        assert watched.errors == []
        async with httpx2.AsyncClient(base_url=url) as http:
            assert (await http.get("/chat/metrics")).status_code == 404
            assert (await http.get("/v1")).status_code == 404


async def test_nginx_serves_https_and_wss_and_redirects_from_http(tmp_path: Path) -> None:
    """A request over http is redirected with its path and query. Over https the page is served and /metrics is blocked;
    over wss, from the page's own origin, a turn is answered."""
    certificate = make_certificate(tmp_path)
    async with (
        gateway_process(tmp_path, OPEN) as gateway,
        nginx(tmp_path / "nginx", [gateway], certificate=certificate) as plain,
        httpx2.AsyncClient(verify=certificate.context, timeout=20) as http,
    ):
        redirect = await http.get(f"{plain}/static/turnwire.js?a=b")
        assert redirect.status_code == 308
        assert redirect.headers["location"].startswith("https://127.0.0.1:")
        assert redirect.headers["location"].endswith("/static/turnwire.js?a=b")
        assert (await http.get(redirect.headers["location"])).status_code == 200
        url = redirect.headers["location"].partition("/static")[0]
        assert "<html" in (await http.get(url)).text
        assert (await http.get(f"{url}/metrics")).status_code == 404
        ws = url.replace("https", "wss", 1) + "/ws"
        async with client(ws, ssl=certificate.context, additional_headers={"Origin": url}) as c:
            await c.request("turn.start", turn="t", input="Hi", params={"demo": {"text": "Yes.", "rate": 0}})
            assert (await c.ending("t"))["type"] == "turn.completed"


def test_both_files_have_the_same_rules() -> None:
    """nginx-tls.conf is nginx.conf with other listeners: its map, its upstream and its rules are the same."""
    plain, tls = ((DEPLOY / name).read_text(encoding="utf-8") for name in ("nginx.conf", "nginx-tls.conf"))
    assert plain.partition("server {\n    listen")[0].partition("\nmap ")[2] in tls
    rules = plain.partition("listen 8080;\n")[2]
    assert len(rules) > 1000
    assert tls.endswith(rules)
