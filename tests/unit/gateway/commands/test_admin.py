"""Tests of `turnwire admin` against a real server: its output and its error messages."""

from __future__ import annotations

import asyncio
import errno
import io
import json
import sys

import pytest

from gateway.commands.command_line import main
from tests.client import client
from tests.credentials import SECRET, token
from tests.in_loop_server import serving
from tests.in_process import SLOW


async def admin(*arguments: str) -> None:
    """Run the command in a thread, outside the server's event loop."""
    await asyncio.to_thread(main, ["admin", *arguments])


async def test_turns_and_connections_are_listed_and_ended(capsys: pytest.CaptureFixture[str]) -> None:
    """The commands list turns and connections, stop a turn by its id, close a connection and start a drain."""
    async with serving() as server, client(server.ws_url) as c:
        at = ("--url", server.url)
        await admin(*at, "turns")
        assert capsys.readouterr().out == "None.\n"
        await c.request("turn.start", turn="t", input="Hi", params={"demo": SLOW})
        await admin(*at, "turns", "--user", "local")
        head, row = capsys.readouterr().out.splitlines()
        assert head.split()[:3] == ["turn", "user", "conversation"]
        assert row.split()[:2] == ["t", "local"]
        await admin(*at, "stop", "t", "--reason", "Enough.")
        assert capsys.readouterr().out == "t: cancelled\n"
        assert (await c.ending("t"))["reason"] == "Enough."
        await admin(*at, "connections")
        assert c.ready["connection"] in capsys.readouterr().out
        await admin(*at, "close", c.ready["connection"])
        assert (await c.until_closed())[0] == 4403
        await admin(*at, "drain")
        assert "/ready" in capsys.readouterr().out
        assert server.gateway.services.runner.is_draining


async def test_a_missing_credential_exits_with_1(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server's error message is printed to stderr, and the exit code is 1.

    The token can come from the environment.
    """
    async with serving(auth="jwt", jwt_secret=SECRET) as server:
        with pytest.raises(SystemExit) as exited:
            await admin("--url", server.url, "turns")
        assert exited.value.code == 1
        assert "unauthenticated" in capsys.readouterr().err
        monkeypatch.setenv("TURNWIRE_ADMIN_TOKEN", token("ops", scope="admin"))
        await admin("--url", server.url, "turns")
        assert capsys.readouterr().out == "None.\n"


@pytest.mark.parametrize("url", ["http://127.0.0.1:9", "nonsense"])
def test_an_unreachable_address_is_reported(capsys: pytest.CaptureFixture[str], url: str) -> None:
    """The error message names the `--url` option."""
    with pytest.raises(SystemExit) as exited:
        main(["admin", "--url", url, "turns"])
    assert exited.value.code == 1
    assert "--url" in capsys.readouterr().err


class FullDisk(io.RawIOBase):
    """A file that can't be written."""

    def writable(self) -> bool:
        """Return True, so that it can be standard output."""
        return True

    def write(self, data: object) -> int:
        """Fail as a full disk does."""
        raise OSError(errno.ENOSPC, "No space left on device")


async def test_a_full_disk_is_named_as_the_reason(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """If an export can't be written, the message says so, and doesn't blame the connection."""
    async with serving() as server:
        monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(FullDisk()))  # type: ignore[type-var]
        with pytest.raises(SystemExit) as exited:
            await admin("--url", server.url, "export", "me")
        assert exited.value.code == 1
        assert "can't be written: No space left on device" in capsys.readouterr().err


async def test_a_user_named_me(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """`me` is the user of the credential, and with `--exact` the user who has this name."""
    output = io.TextIOWrapper(io.BytesIO())
    monkeypatch.setattr(sys, "stdout", output)
    async with serving() as server:
        for arguments in (("export", "me"), ("export", "--exact", "me"), ("erase", "--exact", "me")):
            await admin("--url", server.url, *arguments)
    output.seek(0)
    own, _, exact, _, erased = output.read().splitlines()
    assert json.loads(own)["user"] != "me"
    assert json.loads(exact)["user"] == "me"
    assert erased == "me: erased"
