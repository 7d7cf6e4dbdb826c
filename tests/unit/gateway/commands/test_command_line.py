"""The `turnwire` command: its options, and its error messages."""

from __future__ import annotations

import asyncio
import os
import runpy
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from gateway.commands import command_line, serve
from gateway.settings import Settings
from tests.gateway_process import gateway_process


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> list[Settings]:
    """The settings that `serve` is called with; it is replaced, so nothing is served."""
    for name in ("HOST", "PORT"):
        monkeypatch.delenv(name, raising=False)
    found: list[Settings] = []
    monkeypatch.setattr(serve, "serve", found.append)
    return found


@pytest.mark.parametrize("arguments", [[], ["serve"], ["--port", "8000"], ["serve", "--host", "127.0.0.1"]])
def test_serving_is_the_default_command(served: list[Settings], arguments: list[str]) -> None:
    """`turnwire` without a command is `turnwire serve`."""
    command_line.main(arguments)
    assert (served[0].host, served[0].port) == ("127.0.0.1", 8000)


def test_options_are_settings(served: list[Settings]) -> None:
    """Each option sets the setting of the same name."""
    command_line.main(
        ["serve", "--host", "::1", "--port", "0", "--store", "sqlite:///:memory:", "--log-level", "debug"]
    )
    assert (served[0].host, served[0].port, served[0].store) == ("::1", 0, "sqlite:///:memory:")
    assert served[0].log_level == "debug"


@pytest.mark.parametrize(
    ("given", "level"), [("INFO", "info"), ("Warn", "warning"), ("critical", "error"), ("trace", "debug")]
)
def test_a_level_is_accepted_in_any_case(served: list[Settings], given: str, level: str) -> None:
    """The option accepts the same names of a level as the variables."""
    command_line.main(["serve", "--log-level", given])
    assert served[0].log_level == level


def test_arguments_default_to_those_of_the_process(served: list[Settings], monkeypatch: pytest.MonkeyPatch) -> None:
    """`main()` without arguments reads those of the process."""
    monkeypatch.setattr(sys, "argv", ["turnwire", "--port", "7"])
    command_line.main()
    assert served[0].port == 7


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["fly"], 2, "invalid choice"),
        (["--nonsense"], 2, "unrecognized"),
        (["--port", "http"], 2, "invalid int"),
        (["--port", "70000"], 2, "--port is invalid"),
        (["--log-level", "loud"], 2, "invalid choice"),
        (["--host", "0.0.0.0"], 1, "TURNWIRE_INSECURE=1"),
        (["--host", "example.com"], 1, "Listen on 127.0.0.1"),
        (["--help"], 0, ""),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_a_wrong_option_is_explained(
    served: list[Settings], capsys: pytest.CaptureFixture[str], arguments: list[str], code: int, words: str
) -> None:
    """A wrong option or address is explained on standard error, with an exit code. `--help` exits with 0. Nothing is served."""
    with pytest.raises(SystemExit) as exited:
        command_line.main(arguments)
    assert exited.value.code == code
    output = capsys.readouterr()
    assert words in output.err
    assert "Traceback" not in output.err
    assert served == []


@pytest.mark.parametrize(
    "variable", ["PORT", "TURNWIRE_HEARTBEAT_S", "TURN_LOG_TTL", "TURNWIRE_TURN_LOG_TTL_S", "CHAT_HISTORY_TTL"]
)
def test_a_wrong_variable_is_explained(
    served: list[Settings], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    """An invalid variable is named as it was set, with the type of a valid value."""
    monkeypatch.setenv(variable, "never")
    with pytest.raises(SystemExit) as exited:
        command_line.main([])
    assert exited.value.code == 2
    assert f"turnwire: {variable} is invalid: Input should be a valid" in capsys.readouterr().err


def test_the_insecure_setting_permits_any_address(served: list[Settings], monkeypatch: pytest.MonkeyPatch) -> None:
    """With TURNWIRE_INSECURE=1 the gateway can listen on any address."""
    monkeypatch.setenv("TURNWIRE_INSECURE", "1")
    command_line.main(["--host", "0.0.0.0"])
    assert served[0].host == "0.0.0.0"


async def test_serve_runs_until_a_signal(tmp_path: Path) -> None:
    """The command `serve` runs until a signal and exits with code 0. A second process with the same store is refused."""
    async with gateway_process(tmp_path) as running:
        assert "http://127.0.0.1:" in running.ready_line
        with pytest.raises(RuntimeError, match="in use by another process"):
            async with gateway_process(tmp_path):
                raise AssertionError("two gateways on one store")
        running.process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(10):
            assert await running.wait() == 0


def test_the_module_runs_as_a_command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """`python -m gateway --help` prints the help."""
    monkeypatch.setattr(sys, "argv", ["turnwire", "--help"])
    monkeypatch.delitem(sys.modules, "gateway.__main__", raising=False)
    with pytest.raises(SystemExit) as exited:
        runpy.run_module("gateway", run_name="__main__")
    assert exited.value.code == 0
    assert "realtime chat gateway" in capsys.readouterr().out


def test_a_closed_output_pipe_prints_no_traceback() -> None:
    """`turnwire models | head` ends without a traceback when `head` has closed the pipe."""
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w") as closed_pipe:
        done = subprocess.run(
            [sys.executable, "-m", "gateway", "models"],
            stdout=closed_pipe,
            stderr=subprocess.PIPE,
            text=True,
            timeout=30,
        )
    assert (done.returncode, done.stderr) == (1, "")


def test_ctrl_c_during_the_imports_prints_no_traceback() -> None:
    """Ctrl-C in the first second, while the commands are imported, exits with 130."""
    with subprocess.Popen(
        [sys.executable, "-X", "importtime", "-m", "gateway", "chat"],
        stdin=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stderr is not None
        for line in process.stderr:  # one for each module that was imported
            if "pydantic" in line:
                break
        process.send_signal(signal.SIGINT)
        rest = process.stderr.read()
    assert (process.returncode, "Traceback" in rest) == (130, False), rest
