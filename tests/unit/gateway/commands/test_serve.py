"""Tests of `turnwire serve`: its start, its end, and its error messages."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from gateway.commands import command_line
from gateway.supervisor import listen


class FakeServer:
    """A server whose `run` ends as the test chooses."""

    def __init__(self, error: BaseException | None) -> None:
        self._error = error

    def run(self, sockets: list[Any]) -> None:
        """See `Server`."""
        for one in sockets:
            one.close()
        if self._error is not None:
            raise self._error


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--store", "postgres://host"], "Unknown store"),
        (["--store", "redis://:s3cret@127.0.0.1:1/0"], "can't be reached. Check that Redis runs at 127.0.0.1:1."),
        (["--store", f"sqlite:///{Path(__file__)}"], "test_serve.py"),
        (["--port", "{taken}"], "Choose another port with --port"),
        (["--host", "203.0.113.9"], "Choose an address of this machine with --host"),
    ],
    ids=["store", "unreachable", "no-database", "port", "host"],
)
def test_a_failed_start_says_what_to_do(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, arguments: list[str], words: str
) -> None:
    """For an invalid or unreachable store, a port in use, or a foreign address, one line without a password is printed.

    The exit code is 1. If the command line has a password, one more line warns about it.
    """
    monkeypatch.setattr("gateway.telemetry.logs.configure_logging", lambda *_: None)
    monkeypatch.setenv("TURNWIRE_INSECURE", "1")
    with listen("127.0.0.1", 0, 1, 16)[0] as occupied:
        port = str(occupied.getsockname()[1])
        given = ["--store", "sqlite:///:memory:", "--port", "0", *(one.replace("{taken}", port) for one in arguments)]
        with pytest.raises(SystemExit) as exited:
            command_line.main(given)
    assert exited.value.code == 1
    output = capsys.readouterr().err
    assert words in output
    assert "s3cret" not in output
    assert output.count("\n") == 1 + ("s3cret" in "".join(arguments))


@pytest.mark.parametrize("interrupted", [False, True])
def test_the_end_of_a_run_raises_no_error(monkeypatch: pytest.MonkeyPatch, interrupted: bool) -> None:
    """The command returns normally, including after Ctrl-C."""
    monkeypatch.setattr("gateway.telemetry.logs.configure_logging", lambda *_: None)
    ended = FakeServer(KeyboardInterrupt() if interrupted else None)
    monkeypatch.setattr("gateway.server.make_server", lambda *_: ended)
    command_line.main(["--store", "sqlite:///:memory:", "--port", "0"])


def test_an_invalid_models_file_is_reported(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The error message names the file, the key and the problem. The exit code is 2, and no server is started."""
    monkeypatch.setattr("gateway.telemetry.logs.configure_logging", lambda *_: None)
    file = tmp_path / "models.toml"
    file.write_text('[[models]]\nid = "kimi-k3"\ncolor = "red"\n', encoding="utf-8")
    monkeypatch.setenv("TURNWIRE_MODELS", str(file))
    with pytest.raises(SystemExit) as exited:
        command_line.main(["--store", "sqlite:///:memory:", "--port", "0"])
    assert exited.value.code == 2
    assert capsys.readouterr().err == f"turnwire: {file}: models[0].color: unknown field. Remove it.\n"
