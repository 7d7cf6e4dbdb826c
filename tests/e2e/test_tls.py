"""`turnwire serve --certfile --keyfile`: the gateway itself serves the page over https, and turns over wss."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import httpx2
import pytest
from playwright.async_api import Browser

from gateway.tls import validity_problem
from tests.certificates import make_certificate
from tests.client import Client, client
from tests.gateway_process import clean_environment, gateway_process
from tests.page_stage import WatchedPage, ended
from tests.redis_process import redis_process

pytestmark = pytest.mark.e2e


async def answered(c: Client, turn: str) -> str:
    """Start a turn, and return its text when it has completed."""
    await c.request("turn.start", turn=turn, input="Hi", params={"demo": {"text": "Over TLS.", "rate": 0}})
    assert (await c.ending(turn))["type"] == "turn.completed"
    return c.turns[turn].text()


async def test_the_page_and_a_turn_over_tls(tmp_path: Path) -> None:
    """The ready line names the https address. The page, an event stream and a turn over wss work, a request over
    plain http fails, and `turnwire admin` reaches the gateway."""
    certificate = make_certificate(tmp_path)
    options = ("--certfile", str(certificate.certfile), "--keyfile", str(certificate.keyfile))
    async with (
        gateway_process(tmp_path, {}, *options) as gateway,
        httpx2.AsyncClient(base_url=gateway.url, verify=certificate.context, timeout=20) as http,
    ):
        assert gateway.url.startswith("https://127.0.0.1:")
        assert gateway.ws_url.startswith("wss://127.0.0.1:")
        assert "<html" in (await http.get("/")).text
        body = {"input": "Hi", "params": {"demo": {"text": "Over TLS.", "rate": 0}}}
        streamed = await http.post("/v1/turns", json=body, headers={"accept": "text/event-stream"})
        assert "event: turn.completed" in streamed.text
        headers = {"Origin": gateway.url}
        async with client(gateway.ws_url, ssl=certificate.context, additional_headers=headers) as c:
            assert await answered(c, "t") == "Over TLS."
            listed, refused = [
                await asyncio.to_thread(
                    subprocess.run,
                    [sys.executable, "-m", "gateway", "admin", "--url", gateway.url, "connections"],
                    env=clean_environment(variables),
                    capture_output=True,
                    text=True,
                    timeout=60,
                    check=False,
                )
                for variables in ({"SSL_CERT_FILE": str(certificate.authority)}, {})
            ]
            assert c.ready["connection"] in listed.stdout, listed.stderr
            assert "isn't trusted" in refused.stderr
            assert "set SSL_CERT_FILE to the authority's file" in refused.stderr
        with pytest.raises(httpx2.TransportError):
            await http.get(gateway.url.replace("https", "http", 1))


async def test_a_slow_client_is_dropped_over_tls(tmp_path: Path) -> None:
    """Law 11 also holds over wss: a client that reads nothing is dropped, and counted in `turnwire_slow_clients_total`."""
    certificate = make_certificate(tmp_path)
    environment = {
        **{"TURNWIRE_CERTFILE": str(certificate.certfile), "TURNWIRE_KEYFILE": str(certificate.keyfile)},
        **{"TURNWIRE_METRICS": "public", "TURNWIRE_OUTBOX_BYTES": "65536", "TURNWIRE_WRITE_TIMEOUT_S": "2"},
    }
    async with (
        gateway_process(tmp_path, environment) as gateway,
        httpx2.AsyncClient(base_url=gateway.url, verify=certificate.context, timeout=20) as http,
        client(gateway.ws_url, ssl=certificate.context, max_queue=1, read=False) as c,
    ):
        await c.send(
            "turn.start", turn="t", input="Hi", params={"demo": {"text": "x" * 1000, "tokens": 400000, "rate": 0}}
        )
        async with asyncio.timeout(60):
            while 'turnwire_slow_clients_total{transport="websocket"} 1.0' not in (await http.get("/metrics")).text:
                await asyncio.sleep(0.2)


async def test_a_handshake_has_a_time_limit(tmp_path: Path) -> None:
    """A client that connects and sends nothing is disconnected after `TURNWIRE_HANDSHAKE_TIMEOUT_S`, as without TLS."""
    certificate = make_certificate(tmp_path)
    options = ("--certfile", str(certificate.certfile), "--keyfile", str(certificate.keyfile))
    async with gateway_process(tmp_path, {"TURNWIRE_HANDSHAKE_TIMEOUT_S": "1"}, *options) as gateway:
        reader, writer = await asyncio.open_connection("127.0.0.1", int(gateway.url.rpartition(":")[2]))
        async with asyncio.timeout(20):
            assert await reader.read() == b""
        writer.close()


async def test_workers_share_the_certificate(tmp_path: Path) -> None:
    """Each of two workers serves wss with the certificate, which may be in one file with its key."""
    certificate = make_certificate(tmp_path)
    both = tmp_path / "both.pem"
    both.touch(0o600)
    both.write_bytes(certificate.certfile.read_bytes() + certificate.keyfile.read_bytes())
    with redis_process(tmp_path / "redis") as redis:
        options = ("--workers", "2", "--certfile", str(both))
        async with gateway_process(tmp_path, {}, *options, store=redis.url) as gateway:
            seen: set[str] = set()
            async with asyncio.timeout(60):
                while len(seen) < 2:
                    async with client(gateway.ws_url, ssl=certificate.context) as c:
                        assert await answered(c, f"t{len(seen)}-{c.ready['connection'][-8:]}") == "Over TLS."
                        seen.add(c.ready["instance"])


@pytest.mark.browser
@pytest.mark.asyncio(loop_scope="session")
async def test_a_browser_uses_the_page_over_tls(browser: Browser, tmp_path: Path) -> None:
    """A page that was opened over https opens its socket over wss, without a setting, and streams an answer."""
    certificate = make_certificate(tmp_path)
    options = ("--certfile", str(certificate.certfile), "--keyfile", str(certificate.keyfile))
    async with gateway_process(tmp_path, {}, *options) as gateway:
        # The browser checks the certificate of a service worker's script even so.
        context = await browser.new_context(ignore_https_errors=True, reduced_motion="reduce", service_workers="block")
        watched = WatchedPage(await context.new_page())
        await watched.page.goto(gateway.url)
        await watched.until_live()
        await ended(await watched.ask("Hello"), "completed")
        assert watched.errors == []
        await context.close()


@pytest.mark.parametrize(
    ("case", "words"),
    [
        ("missing", "{cert}.gone can't be read: No such file or directory. Check TURNWIRE_CERTFILE"),
        ("swapped", "{key} has no certificate in PEM format"),
        ("no key", "{cert} has no private key in PEM format (BEGIN PRIVATE KEY). Check TURNWIRE_KEYFILE."),
        ("mismatched", "doesn't belong to the first certificate in {cert}"),
        ("encrypted", "is encrypted, and nobody can type a passphrase into a server"),
        ("damaged", "can't be used"),
        ("key alone", "TURNWIRE_KEYFILE is set without TURNWIRE_CERTFILE"),
    ],
)
def test_unusable_files_are_refused_at_the_start(tmp_path: Path, case: str, words: str) -> None:
    """One line says what is wrong with which file or setting, no passphrase is asked for, and the exit code is 2."""
    made = make_certificate(tmp_path)
    cert, key = str(made.certfile), str(made.keyfile)
    options = ["--certfile", cert, "--keyfile", key]
    if case == "missing":
        options[1] += ".gone"
    elif case == "swapped":
        options = ["--certfile", key, "--keyfile", cert]
    elif case == "no key":
        options = options[:2]
    elif case == "mismatched":
        (tmp_path / "other").mkdir()
        options[3] = str(make_certificate(tmp_path / "other").keyfile)
    elif case == "encrypted":
        command = ["openssl", "pkey", "-in", key, "-aes256", "-passout", "pass:canary", "-out", f"{key}.enc"]
        subprocess.run(command, check=True, capture_output=True)
        options[3] += ".enc"
    elif case == "damaged":
        made.certfile.write_text(made.certfile.read_text()[:200])
    elif case == "key alone":
        options = options[2:]
    refused = start(tmp_path, *options)
    assert refused.returncode == 2, refused.stderr
    assert words.format(cert=cert, key=key) in refused.stderr
    assert refused.stderr.count("\n") == 1


def start(folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """Run `turnwire serve` with these options, without a terminal, until it ends."""
    return subprocess.run(
        [sys.executable, "-m", "gateway", "serve", "--port", "0", "--store", f"sqlite:///{folder / 'db'}", *options],
        env=clean_environment({}),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


async def test_an_expired_certificate_and_an_exposed_key_have_a_warning(tmp_path: Path) -> None:
    """The gateway starts, and warns that clients refuse the certificate and that other users can read the key."""
    made = make_certificate(tmp_path, datetime(2020, 1, 2, tzinfo=UTC))
    made.keyfile.chmod(0o644)
    options = ("--certfile", str(made.certfile), "--keyfile", str(made.keyfile))
    async with gateway_process(tmp_path, {}, *options) as gateway:
        written = "".join(gateway.log)
    assert f"The certificate in {made.certfile} expired on 2020-01-02, so clients refuse it. Renew it." in written
    assert f"can read or change {made.keyfile}" in written
    future = make_certificate(tmp_path, datetime(2101, 1, 2, tzinfo=UTC), datetime(2100, 1, 2, tzinfo=UTC))
    problem = f"The certificate in {future.certfile} is valid from 2100-01-02 00:00 UTC on. Check the clock."
    assert validity_problem(str(future.certfile)) == problem
