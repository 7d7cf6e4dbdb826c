"""The process as an operator sees it: the start, its errors, the ready line, the drain, and recovery after a kill."""

from __future__ import annotations

import asyncio
import json
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

from tests.client import RequestFailed, client
from tests.credentials import SECRET
from tests.demo import expected
from tests.gateway_process import GatewayProcess, clean_environment, gateway_process, until_ready
from tests.in_time import check_in_time, checks_time_limit
from tests.ports import free_port
from tests.upstream import Upstream, chat

pytestmark = pytest.mark.e2e

ROOT = Path(__file__).parents[2]


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the command and wait for its end."""
    return subprocess.run(
        [sys.executable, "-m", "gateway", *arguments],
        env=clean_environment(environment),
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )


@pytest.mark.timed
@checks_time_limit
async def test_the_process_is_ready_soon_and_prints_its_address(tmp_path: Path) -> None:
    """The process is ready within 3 s. The ready line shows the URL, the providers with keys, and that auth is off. No
    line has a key. The modules that a gateway imports at its start don't import the OpenAI SDK."""
    began = time.monotonic()
    async with gateway_process(tmp_path, {"KIMI_API_KEY": "canary-key"}, fresh=True) as gateway:
        check_in_time(time.monotonic() - began, 3)
        assert "auth is off (loopback only)" in gateway.ready_line
        assert "kimi" in gateway.ready_line
        assert "canary-key" not in "".join(gateway.log)
        assert gateway.url in gateway.ready_line
        modules = subprocess.run(
            [sys.executable, "-c", "import sys, gateway.app, gateway.server; print('openai' in sys.modules)"],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
        )
        assert modules.stdout.strip() == "False"


async def test_http_serves_health_models_and_the_page(gateway: GatewayProcess) -> None:
    """Health, readiness, information and models are served. A foreign Host is refused. The page has a content security
    policy. A path that leads out of /static answers 404."""

    def get(path: str, host: str | None = None) -> tuple[int, dict[str, str], bytes]:
        request = urllib.request.Request(gateway.url + path, headers={"Host": host} if host else {})
        try:
            with urllib.request.urlopen(request, timeout=5) as answer:
                return answer.status, dict(answer.headers), answer.read()
        except urllib.error.HTTPError as error:
            return error.code, dict(error.headers), error.read()

    assert (await asyncio.to_thread(get, "/health"))[0] == 200
    assert (await asyncio.to_thread(get, "/ready"))[0] == 200
    about = json.loads((await asyncio.to_thread(get, "/v1"))[2])
    assert about["protocol"] == "turnwire.v1"
    models = json.loads((await asyncio.to_thread(get, "/v1/models"))[2])["models"]
    demo = next(model for model in models if model["id"] == "demo")
    assert demo["available"] is True
    assert {"id", "name", "type", "features"} <= set(demo)
    status, headers, body = await asyncio.to_thread(get, "/")
    assert (status, b"<title>" in body) == (200, True)
    assert "default-src 'self'" in headers["content-security-policy"]
    status, _, body = await asyncio.to_thread(get, "/", "evil.example")
    assert (status, json.loads(body)["error"]["code"]) == (403, "forbidden")
    assert (await asyncio.to_thread(get, "/static/../pyproject.toml"))[0] == 404


@pytest.mark.parametrize(
    ("arguments", "environment", "words"),
    [
        (["serve", "--host", "0.0.0.0"], {}, "TURNWIRE_INSECURE=1"),
        (["serve", "--store", "nonsense://x"], {}, "sqlite:///"),
        (["serve", "--store", "sqlite:////no/such/folder/x.db"], {}, "folder"),
        (["serve", "--port", "99999"], {}, "port"),
        (["serve"], {"TURNWIRE_HEARTBEAT_S": "soon"}, "TURNWIRE_HEARTBEAT_S"),
        (["serve", "--nonsense"], {}, "--nonsense"),
    ],
)
def test_an_invalid_option_setting_or_store_is_an_error(
    arguments: list[str], environment: dict[str, str], words: str
) -> None:
    """An invalid option, setting or store ends the command with an error that names it or what to do, without a
    traceback."""
    done = run(*arguments, **environment)
    assert done.returncode in {1, 2}
    assert words in done.stderr
    assert "Traceback" not in done.stderr


async def test_the_procfile_starts_a_service_that_can_be_reached(tmp_path: Path) -> None:
    """The command of the Procfile listens on every interface, on the platform's PORT. It refuses to start while auth is
    off."""
    (line,) = [line for line in (ROOT / "Procfile").read_text().splitlines() if re.match(r"\w+:", line)]
    name, *arguments = line.removeprefix("web:").split()
    assert name == "turnwire"
    environment = {"PORT": str(free_port()), "TURNWIRE_STORE": f"sqlite:///{tmp_path / 'turnwire.db'}"}
    refused = await asyncio.to_thread(run, *arguments, **environment)
    assert refused.returncode == 1
    assert "TURNWIRE_AUTH" in refused.stderr
    locked = {"TURNWIRE_AUTH": "jwt", "TURNWIRE_JWT_SECRET": SECRET}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "gateway", *arguments),
        env=clean_environment(environment | locked),
        cwd=ROOT,
        stdout=subprocess.PIPE,
    )
    try:
        assert process.stdout is not None
        while f":{environment['PORT']}" not in (printed := (await process.stdout.readline()).decode()):
            assert printed, "it ended"
        listening = Path(f"/proc/{process.pid}/net/tcp").read_text()
        assert f" 00000000:{int(environment['PORT']):04X} " in listening
    finally:
        process.terminate()
        await process.wait()


async def test_a_port_in_use_is_an_error(gateway: GatewayProcess, tmp_path: Path) -> None:
    """A port that is in use ends the command with an error that names the option."""
    port = gateway.url.rsplit(":", 1)[1]
    done = await asyncio.to_thread(run, "serve", "--port", port, "--store", f"sqlite:///{tmp_path / 'other.db'}")
    assert done.returncode == 1
    assert "--port" in done.stderr


async def test_a_second_process_on_the_same_file_is_refused(gateway: GatewayProcess, tmp_path: Path) -> None:
    """The second process on a SQLite file ends with an error."""
    store = f"sqlite:///{tmp_path / 'turnwire.db'}"
    done = await asyncio.to_thread(run, "serve", "--port", "0", "--store", store)
    assert done.returncode == 1
    assert "in use by another process" in done.stderr


async def test_live_turns_complete_after_sigterm(tmp_path: Path) -> None:
    """After SIGTERM clients get `going_away`, new turns are refused, live turns complete, sockets are closed with 4503,
    and the exit code is 0."""
    async with gateway_process(tmp_path) as gateway, client(gateway.ws_url) as c:
        for n in range(20):
            demo = {"demo": {"rate": 100, "tokens": 100}}
            await c.request("turn.start", turn=f"t{n}", input="Hello", params=demo)
        gateway.terminate()
        await c.until(lambda: any(frame["type"] == "going_away" for frame in c.frames))
        with pytest.raises(RequestFailed) as refused:
            await c.request("turn.start", turn="late", input="x")
        assert refused.value.code == "shutting_down"
        for n in range(20):
            assert (await c.ending(f"t{n}"))["type"] == "turn.completed"
        assert (await c.until_closed())[0] == 4503
        assert await gateway.wait() == 0


async def test_turns_that_outlast_the_drain_fail_with_their_text_stored(tmp_path: Path) -> None:
    """A turn that is live at the end of the drain fails with `shutting_down`, and its partial message is stored."""
    async with gateway_process(tmp_path, {"TURNWIRE_DRAIN_S": "0.3"}) as gateway, client(gateway.ws_url) as c:
        demo = {"demo": {"rate": 50, "tokens": 5000}}
        conversation = (await c.request("turn.start", turn="t", input="x", params=demo))["conversation"]
        await c.until_seq("t", 5)
        gateway.terminate()
        ended = await c.ending("t")
        assert ended["error"]["code"] == "shutting_down"
        assert await gateway.wait() == 0
        text = c.turns["t"].text()
    async with gateway_process(tmp_path) as gateway, client(gateway.ws_url) as c:
        messages = (await c.request("conversation.messages", conversation=conversation))["messages"]
        assert messages[-1]["parts"] == [{"kind": "text", "text": text}]
        assert messages[-1]["ended"] == "failed"


async def test_law_9_a_turn_continues_after_kill_9_and_a_restart(tmp_path: Path) -> None:
    """Law 9: after kill -9 in the middle of a turn the demo model continues where the log ends, and a client continues
    from its position."""
    demo = {"demo": {"rate": 100, "tokens": 400}}
    async with gateway_process(tmp_path) as gateway, client(gateway.ws_url) as c:
        conversation = (await c.request("turn.start", turn="t", input="Hello?", params=demo))["conversation"]
        await c.until_seq("t", 60)
        gateway.process.kill()
        await gateway.wait()
        view = c.turns["t"]
    async with gateway_process(tmp_path) as gateway, client(gateway.ws_url) as c:
        c.resume("t", view)
        await c.request("turn.attach", positions={"t": view.position})
        assert (await c.ending("t"))["type"] == "turn.completed"
        view = c.turns["t"]
        assert view.text() == expected("Hello?", demo["demo"])
        assert any(f["type"] == "turn.status" and f["status"] == "resumed" for f in view.frames)
        messages = (await c.request("conversation.messages", conversation=conversation))["messages"]
        assert messages[-1]["parts"] == [{"kind": "text", "text": view.text()}]
        repeated = await c.request("turn.start", turn="t", input="Hello?", params=demo)
        assert repeated["status"] == "attached"


async def test_law_9_other_turns_fail_with_owner_lost_after_kill_9(tmp_path: Path) -> None:
    """Law 9: after kill -9 a turn of a provider that can't continue fails with `owner_lost`, and its logged text is
    stored."""
    async with Upstream() as upstream:
        environment = {"OPENAI_API_KEY": "k", "OPENAI_BASE_URL": upstream.openai_url}
        upstream.play(chat(*[f"word{n} " for n in range(500)]).replace(rate=50))
        async with gateway_process(tmp_path, environment) as gateway, client(gateway.ws_url) as c:
            started = await c.request("turn.start", turn="t", input="x", model="openai/m")
            await c.until_seq("t", 20)
            gateway.process.kill()
            await gateway.wait()
            text = c.turns["t"].text()
        async with gateway_process(tmp_path, environment) as gateway, client(gateway.ws_url) as c:
            await c.request("turn.attach", turn="t")
            assert (await c.ending("t"))["error"]["code"] == "owner_lost"
            kept = c.turns["t"].text()
            assert len(kept) > 20
            assert kept.startswith(text[: len(kept)])
            messages = await c.request("conversation.messages", conversation=started["conversation"])
            assert messages["messages"][-1]["parts"] == [{"kind": "text", "text": kept}]
            assert len(upstream.requests) == 1


async def test_the_printed_ipv6_url_can_be_opened(tmp_path: Path) -> None:
    """A client can connect to the URL that is printed for ::1."""
    if not socket.has_ipv6:
        pytest.fail("this Python has no IPv6")
    async with gateway_process(tmp_path, {}, "--host", "::1") as gateway, client(gateway.ws_url) as c:
        assert c.ready["user"] == "local"


async def test_a_crash_shows_no_secret_and_leaves_no_core(tmp_path: Path) -> None:
    """A process crashes that was started with core files allowed and with the fault handler. Its output has neither the
    key nor the prompt that are in its memory, and its core file limit is 0."""
    process = await asyncio.create_subprocess_exec(
        *(
            "/bin/sh",
            "-c",
            'ulimit -c unlimited; exec "$@"',
            "sh",
            sys.executable,
            "-X",
            "faulthandler",
            "-m",
            "gateway",
        ),
        *("serve", "--port", "0", "--store", f"sqlite:///{tmp_path / 'turnwire.db'}"),
        cwd=tmp_path,
        env=clean_environment({"KIMI_API_KEY": "canary-key", "PYTHONPATH": str(ROOT)}),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    async with until_ready(process) as gateway:
        async with client(gateway.ws_url) as c:
            await c.request("turn.start", turn="t", input="canary-prompt", params={"demo": {"rate": 20}})
            await c.until_seq("t", 3)
            limits = Path(f"/proc/{process.pid}/limits").read_text()
            assert re.search(r"^Max core file size +0 ", limits, re.MULTILINE)
            process.send_signal(signal.SIGSEGV)
            assert await gateway.wait() == -signal.SIGSEGV
    text = "".join(gateway.log)
    assert "Fatal Python error: Segmentation fault" in text
    assert "canary" not in text
    assert {path.name for path in tmp_path.iterdir() if not path.name.startswith("turnwire.db")} == set()
