"""`turnwire chat` in a pseudo terminal and in a pipe, against gateway processes."""

from __future__ import annotations

import asyncio
import errno
import io
import os
import signal
import stat
import sys
import threading
from collections.abc import AsyncIterator, Mapping
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import pytest_asyncio

from gateway.commands.command_line import main
from gateway.identity.api_keys import new_key
from gateway.identity.principal import known_scopes
from tests.demo import expected
from tests.fault_proxy import fault_proxy
from tests.gateway_process import ROOT, GatewayProcess, clean_environment, gateway_process
from tests.pseudo_terminal import CTRL_C, CTRL_D, TAB, UP, pseudo_terminal
from turnwire.client import Message, connect

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300), pytest.mark.asyncio(loop_scope="module")]

CHAT = (sys.executable, "-m", "gateway", "chat")
PNG = b"\x89PNG\r\n\x1a\n" + bytes(20)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def served(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[GatewayProcess]:
    """A gateway without auth, whose model is `demo`."""
    async with gateway_process(tmp_path_factory.mktemp("gateway"), {"TURNWIRE_DRAIN_S": "1"}) as process:
        yield process


def _variables(folder: Path, url: str) -> dict[str, str]:
    """Return the environment of a user whose home is `folder`."""
    paths = os.pathsep.join(map(str, (ROOT, ROOT / "clients" / "python")))
    state = {"HOME": str(folder), "XDG_STATE_HOME": str(folder / "state")}
    return clean_environment({**state, "PYTHONPATH": paths, "TURNWIRE_URL": url, "LC_ALL": "C.UTF-8"})


class _FullDisk(io.TextIOWrapper):
    def write(self, _text: str, /) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


class _Command:
    """Runs the command in this process, which is quicker than a new one."""

    def __init__(
        self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], variables: Mapping[str, str]
    ) -> None:
        self._monkeypatch = monkeypatch
        self._capsys = capsys
        for name, value in variables.items():
            monkeypatch.setenv(name, value)

    def __call__(self, text: bytes, *options: str) -> tuple[int | str | None, str, str]:
        """Pipe a text into it, and return its exit code, its output and its errors."""
        self._monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text)))
        code: int | str | None = 0
        try:
            main(["chat", *options])
        except SystemExit as exited:
            code = exited.code
        return code, *self._capsys.readouterr()

    def fails(self, text: bytes, code: int, words: str, *options: str) -> None:
        """Check that it prints nothing but one sentence with these words on standard error."""
        assert (failed := self(text, *options))[:2] == (code, "")
        assert words in failed[2]
        assert failed[2].startswith("turnwire: ")
        assert failed[2].count("\n") == 1


async def _newest(url: str) -> list[Message]:
    """Return the messages of the conversation that was changed last, oldest first."""
    async with connect(url) as gateway:
        async for record in gateway.conversations(limit=1):
            return await gateway.conversation(record.id).messages().all()
    return []


async def _conversations(url: str) -> set[str]:
    """Return the ids of all conversations."""
    async with connect(url) as gateway:
        return {record.id async for record in gateway.conversations()}


async def test_a_chat(served: GatewayProcess, tmp_path: Path) -> None:
    """Messages are answered, Ctrl-C stops an answer and not the program, and each command does what it says."""
    (tmp_path / "photo.png").write_bytes(PNG)
    (tmp_path / "notes.txt").write_text("The sea is green.", encoding="utf-8")
    variables = _variables(tmp_path, served.url)
    async with pseudo_terminal(*CHAT, variables=variables, folder=tmp_path) as terminal:
        assert served.url in await terminal.until("model demo. /help lists the commands.")
        terminal.press("/he" + TAB + "\n")
        assert "/attach [FILE]" in await terminal.until("continue the message")

        terminal.press("Hello, \\\nworld\n")
        shown = await terminal.until(" s\n")
        assert expected("Hello, \nworld", {}).strip() in shown
        assert "tokens in" in shown

        terminal.press(UP + UP + UP + "\n")  # the history has each line
        await terminal.until("continue the message")
        terminal.press("A long story\n")
        await terminal.until("\n\n")
        terminal.press(CTRL_C)
        await terminal.until("Stopped.")
        stopped = (await _newest(served.url))[-1]
        assert (stopped.status, stopped.by, stopped.reason) == ("cancelled", "client", "The user pressed Ctrl-C.")
        assert stopped.text.strip()[-20:] in terminal.text.replace("^C", "")  # the terminal shows the key

        terminal.press("/models\n")
        await terminal.until("* demo")
        terminal.press("/model nope\n")
        await terminal.until("Model nope not found.")
        terminal.press("/model demo\n")
        await terminal.until("The next answers are from demo.")
        terminal.press("/fly\n")
        await terminal.until("There is no command /fly.")
        terminal.press("/attach none.png\n")
        await terminal.until("There is no file none.png.")
        terminal.press("/attach photo.png\n/attach notes.txt\n/attach\n")
        await terminal.until("For the next message: photo.png, notes.txt")

        terminal.press("/new\n")
        await terminal.until("begins a new conversation.")
        terminal.press("What is this?\n")
        await terminal.until(" s\n")
        asked, _ = await _newest(served.url)
        assert [part.kind for part in asked.parts] == ["image", "text", "text"]
        assert asked.parts[0].media_type == "image/png"
        assert (asked.parts[1].text or "").endswith("The sea is green.")

        terminal.press("/history\n")
        assert "*1" in await terminal.until("/history NUMBER")
        terminal.press("/history 2\n")
        assert "> A long story" in await terminal.until("Continuing: Hello,")
        terminal.press("/usage\n")
        await terminal.until("All your turns:")
        terminal.press("typed")
        await terminal.until("typed")
        await terminal.press_until(CTRL_C, "> ")
        await terminal.press_until(CTRL_C, "Press Ctrl-C again")
        await terminal.until("> ")
        assert await terminal.ended(CTRL_C) == 0
        assert "Traceback" not in terminal.text

    history = tmp_path / "state" / "turnwire" / "chat_history"
    assert stat.S_IMODE(history.stat().st_mode) == 0o600
    plain = {**variables, "NO_COLOR": "1"}
    last = [message for message in await _newest(served.url) if message.role == "user"][-1]
    options = ("--model", "demo", "--conversation", last.conversation or "")
    async with pseudo_terminal(*CHAT, *options[:2], variables=plain, folder=tmp_path) as terminal:
        await terminal.until("/help")
        terminal.press(UP)
        await terminal.until("/usage")  # the last line of the first program
        await terminal.press_until(CTRL_C, "> ")
        assert await terminal.ended(CTRL_D) == 0
        assert "\x1b[2m" not in terminal.raw


async def test_a_lost_connection(served: GatewayProcess, tmp_path: Path) -> None:
    """An answer goes on after a lost connection, and no character is missing. Without one, Ctrl-C twice gives the prompt
    back."""
    async with fault_proxy(int(served.url.rpartition(":")[2])) as proxy:
        variables = _variables(tmp_path, f"http://127.0.0.1:{proxy.port}")
        async with pseudo_terminal(*CHAT, variables=variables, folder=tmp_path) as terminal:
            await terminal.until("/help")
            terminal.press("Resume\n")
            begun = await terminal.until("\n\n")
            proxy.refuse()
            begun += await terminal.until("Connection lost")
            proxy.restore()
            notes = await terminal.until("Connected again.\n")
            rest = await terminal.until(" s\n")
            answer = begun.removesuffix("Connection lost").rstrip("\n") + "".join(notes.splitlines()[2:]) + rest
            assert "".join(expected("Resume", {}).split()) in "".join(answer.split())

            terminal.press("Again\n")
            await terminal.until("\n\n")
            proxy.refuse()
            await terminal.until("Connection lost")
            terminal.press(CTRL_C)
            await asyncio.sleep(0.5)
            terminal.press(CTRL_C)
            await terminal.until("Not waiting any longer.")
            await terminal.until("> ")
            terminal.press("Later\n")
            await terminal.until("Connection lost")
            terminal.press(CTRL_C)  # it was never sent, so nothing is awaited
            await terminal.until("Stopped.")
            await terminal.until("> ")
            terminal.press("/models\n")  # a command says it, too
            await terminal.until("Connection lost")
            terminal.press(CTRL_C)
            await terminal.until("Not waiting any longer.")
            await terminal.until("> ")
            assert await terminal.ended(CTRL_D) == 0
            assert "Traceback" not in terminal.text


async def test_a_pipe(
    served: GatewayProcess, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Standard output has the answer and nothing else, and no conversation is added. Every failure is a sentence and 1."""
    variables = _variables(tmp_path, served.url)
    before = await _conversations(served.url)
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(
        *CHAT, env=variables, cwd=tmp_path, stdin=pipe, stdout=pipe, stderr=pipe
    )
    output, errors = await asyncio.wait_for(process.communicate(b"Hi\n"), 100)
    assert (process.returncode, errors.decode()) == (0, "")
    assert output.decode() == expected("Hi", {}).rstrip("\n") + "\n"
    assert await _conversations(served.url) == before

    run = _Command(monkeypatch, capsys, variables)
    run.fails(b"Hi", 1, "can't be reached", "--url", "http://127.0.0.1:9")
    run.fails(b" \n", 1, "Standard input is empty")
    run.fails(b"\xff", 1, "isn't UTF-8")
    run.fails(b"Hi", 1, "Model nope not found.", "--model", "nope", "--transport", "http")
    run.fails(b"Hi", 1, "Conversation not found.", "--conversation", "nope")
    run.fails(b"Hi", 2, "--token is invalid: the file 'none' can't be read", "--token", "@none")
    run.fails(b"Hi", 1, "ftp://example.com", "--url", "ftp://example.com")
    with monkeypatch.context() as patched:
        patched.setattr(sys, "stdout", _FullDisk(io.BytesIO()))
        run.fails(b"Hi", 1, "The answer can't be written: No space left on device.")
        patched.setattr(sys, "stdout", None)
        run.fails(b"Hi", 1, "Standard output is closed.")

    for stop in ("interrupt", "close"):
        process = await asyncio.create_subprocess_exec(
            *CHAT, env=variables, cwd=tmp_path, stdin=pipe, stdout=pipe, stderr=pipe
        )
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdin.write(b"A long story")
        process.stdin.close()
        assert await asyncio.wait_for(process.stdout.read(10), 100)
        if stop == "interrupt":
            process.send_signal(signal.SIGINT)
            await process.stdout.read()
        else:
            process.stdout._transport.close()  # type: ignore[attr-defined]
        assert await asyncio.wait_for(process.wait(), 100) == (130 if stop == "interrupt" else 1)
        assert await process.stderr.read() == b""


async def test_a_credential_and_a_wrong_server(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A key comes from a file. A wrong one, and a server that isn't a gateway, are explained."""
    key, line = new_key(user="ann", service=None, scopes=known_scopes(["chat", "read", "cancel"]))
    for name, text in (("keys.jsonl", line), ("key", key)):
        (tmp_path / name).write_text(text + "\n", encoding="utf-8")
        (tmp_path / name).chmod(0o600)
    settings = {"TURNWIRE_AUTH": "keys", "TURNWIRE_API_KEYS": str(tmp_path / "keys.jsonl")}
    async with gateway_process(tmp_path, settings) as guarded:
        run = _Command(monkeypatch, capsys, _variables(tmp_path, guarded.url))
        assert run(b"Hi", "--token", f"@{tmp_path / 'key'}") == (0, expected("Hi", {}).rstrip("\n") + "\n", "")
        monkeypatch.setenv("TURNWIRE_TOKEN", key[:-1] + "!")
        run.fails(b"Hi", 1, "Invalid API key.")
    with ThreadingHTTPServer(("127.0.0.1", 0), SimpleHTTPRequestHandler) as other:
        serving = threading.Thread(target=other.serve_forever)
        serving.start()
        monkeypatch.setattr(SimpleHTTPRequestHandler, "log_message", lambda *_: None)
        run.fails(b"Hi", 1, "is not a Turnwire gateway", "--url", f"http://127.0.0.1:{other.server_port}")
        other.shutdown()
        serving.join()
