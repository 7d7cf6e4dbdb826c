"""The players: how each is started, and which features its client has that not every client has."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.client_cases.browser_player import BrowserPlayer
from tests.client_cases.player import PlayerProcess
from tests.client_cases.world import World
from tests.gateway_process import clean_environment
from tests.programs import program

HERE = Path(__file__).parent
GO_MODULE = HERE.parents[1] / "clients" / "go"
BUILD_TIMEOUT_S = 300


@dataclass(frozen=True)
class Client:
    """`command(folder)` builds the player in a folder if necessary, and returns the command that starts it. A client without
    a command runs in Chromium."""

    command: Callable[[Path], list[str]] | None
    features: frozenset[str]


def python(_: Path) -> list[str]:
    """Return the command of the Python client's player. In this program, every warning is written to standard error."""
    return [sys.executable, "-W", "always", str(HERE / "python_player.py")]


def javascript(_: Path) -> list[str]:
    """Return the command of the JavaScript client's player in Node."""
    node = program("node")
    asked = subprocess.run([node, "-p", "typeof WebSocket"], capture_output=True, text=True, check=True)
    flags = [] if asked.stdout.strip() == "function" else ["--experimental-websocket"]  # before Node 22
    return [str(node), *flags, str(HERE / "js_player.js")]


def go(folder: Path) -> list[str]:
    """Build the Go client's player and return its command."""
    binary = folder / "go-player"
    built = subprocess.run(
        [program("go"), "build", "-o", str(binary), "./internal/player"],
        cwd=GO_MODULE,
        env={**os.environ, "GOTOOLCHAIN": "local", "GOFLAGS": ""},
        capture_output=True,
        text=True,
        timeout=BUILD_TIMEOUT_S,
        check=False,
    )
    assert built.returncode == 0, f"go build failed:\n{built.stderr}"
    return [str(binary)]


CLIENTS = {
    "Python": Client(python, frozenset({"http", "as"})),
    "JavaScript": Client(javascript, frozenset({"http"})),
    "JavaScript in Chromium": Client(None, frozenset({"http"})),
    "Go": Client(go, frozenset({"http", "as"})),
}


async def start(name: str, folder: Path, world: World) -> PlayerProcess | BrowserPlayer:
    """Start the player of a client."""
    command = CLIENTS[name].command
    if command is None:
        return await BrowserPlayer.start(name, world)
    return await PlayerProcess.start(name, command(folder), clean_environment({}))
