"""A player of the client cases on `turnwire.client`: commands on stdin, answers and events on stdout, one JSON a line."""

from __future__ import annotations

import asyncio
import sys
import urllib.request
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec

from turnwire.client import AbortController, Gateway, Turn, TurnwireError, connect, to_wire

Fields = dict[str, Any]
LINE_BYTES_MAX = 2**24


def write(line: Fields) -> None:
    """Write one line."""
    sys.stdout.buffer.write(msgspec.json.encode(line) + b"\n")
    sys.stdout.buffer.flush()


def token_from(url: str) -> Callable[[], Awaitable[str]]:
    """Return a function that gets a fresh token."""

    def fetch() -> str:
        with urllib.request.urlopen(url, timeout=10) as response:
            return str(response.read().decode().strip())

    async def token() -> str:
        return await asyncio.to_thread(fetch)

    return token


class Player:
    """The connections and turns of the commands, by their names."""

    def __init__(self, tasks: asyncio.TaskGroup) -> None:
        self._tasks = tasks
        self._gateways: dict[str, Gateway] = {}
        self._turns: dict[str, Turn] = {}
        self._controllers: dict[str, AbortController] = {}

    async def play(self, command: Fields) -> None:
        """Do one command and write its answer."""
        number = command["id"]
        try:
            write({"id": number, "ok": await getattr(self, f"do_{command['do']}")(command)})
        except TurnwireError as error:
            write({"id": number, "error": {"code": error.code, "message": error.message}})

    async def do_connect(self, command: Fields) -> Fields:
        """Open a connection."""
        url = command.get("token_url")
        self._gateways[command["as"]] = await connect(
            command["url"],
            codec=command.get("codec", "json"),
            transport=command.get("transport", "auto"),
            token=token_from(url) if url else None,
        )
        return {}

    async def do_start(self, command: Fields) -> Fields:
        """Start a turn with a signal of its own."""
        controller = self._controllers[command["as"]] = AbortController()
        gateway = self._gateways[command["on"]].as_user(command.get("user"))
        fields = {"continue_" if name == "continue" else name: value for name, value in command["fields"].items()}
        turn = gateway.start(**fields, signal=controller.signal)
        self._keep(command, turn)
        return {"turn": turn.id}

    async def do_attach(self, command: Fields) -> Fields:
        """Follow a turn."""
        gateway = self._gateways[command["on"]].as_user(command.get("user"))
        self._keep(command, gateway.attach(command["turn"]))
        return {}

    async def do_read(self, command: Fields) -> Fields:
        """Begin to read a turn."""
        self._tasks.create_task(self._read(command["turn"]))
        return {}

    async def do_cancel(self, command: Fields) -> Fields:
        """Cancel a turn."""
        return {"outcome": await self._turns[command["turn"]].cancel(command.get("reason"))}

    async def do_abort(self, command: Fields) -> Fields:
        """Abort the signal of a turn."""
        self._controllers[command["turn"]].abort(command.get("reason"))
        return {}

    async def do_request(self, command: Fields) -> Any:
        """Send a request."""
        gateway = self._gateways[command["on"]].as_user(command.get("user"))
        return await gateway.request(command["type"], **command.get("fields", {}))

    async def do_state(self, command: Fields) -> Fields:
        """Return what the connection has done so far."""
        gateway = self._gateways[command["on"]]
        violations = [error.message for error in gateway.violations]
        return {"transport": gateway.transport, "openings": gateway.openings, "violations": violations}

    async def do_close(self, command: Fields) -> Fields:
        """Close a connection."""
        await self._gateways[command["on"]].close()
        return {}

    async def close(self) -> None:
        """Close what is still open."""
        for gateway in self._gateways.values():
            await gateway.close()

    def _keep(self, command: Fields, turn: Turn) -> None:
        self._turns[command["as"]] = turn
        if command.get("read", "now") == "now":
            self._tasks.create_task(self._read(command["as"]))

    async def _read(self, name: str) -> None:
        turn = self._turns[name]
        async for event in turn:
            write({"turn": name, "event": to_wire(event)})
        error = turn.failure.code if turn.failure else None
        write({"turn": name, "end": {"status": turn.status, "text": turn.message.text, "error": error}})


async def main() -> None:
    """Play until `exit`, or the end of stdin."""
    reader = asyncio.StreamReader(limit=LINE_BYTES_MAX)
    loop = asyncio.get_running_loop()
    transport, _ = await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    async with asyncio.TaskGroup() as tasks:
        player = Player(tasks)
        while line := await reader.readline():
            command = msgspec.json.decode(line)
            if command["do"] == "exit":
                break
            tasks.create_task(player.play(command))
        await player.close()
    transport.close()


if __name__ == "__main__":
    asyncio.run(main())
