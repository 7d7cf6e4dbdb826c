"""A player: a program on top of one client library, which does what its commands say and reports each event of its turns.

`TurnRecord` checks laws 1 and 2 on these events, and folds them to the message.
"""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import Callable
from typing import Any

ENDINGS = ("turn.completed", "turn.cancelled", "turn.failed")
COMMAND_TIMEOUT_S = 60.0
EXIT_TIMEOUT_S = 5.0
LINE_BYTES_MAX = 2**24


class PlayerError(Exception):
    """A command failed. `code` is that of the error."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code


class TurnRecord:
    """What a player reports of one turn.

    `events`: all of them. `parts`: the folded message, `[kind, text]` by number. `ending`: the gateway's last event. `end`:
    what the client says at the end. `problems`: violations of laws 1 and 2.
    """

    def __init__(self) -> None:
        self.events: list[dict[str, Any]] = []
        self.parts: dict[int, list[str]] = {}
        self.ending: dict[str, Any] | None = None
        self.end: dict[str, Any] | None = None
        self.problems: list[str] = []
        self._seq = 0
        self._epoch = 0
        self._changed = asyncio.Event()

    @property
    def text(self) -> str:
        """The text parts, joined."""
        return "".join(text for _, (kind, text) in sorted(self.parts.items()) if kind == "text")

    def receive(self, event: dict[str, Any]) -> None:
        """Add an event."""
        self.events.append(event)
        if "seq" in event:
            self._check(event)
            self._fold(event)
        self._wake()

    def finish(self, end: dict[str, Any]) -> None:
        """Add what the client says at the end."""
        if self.end is not None:
            self.problems.append(f"a second end: {end}")
        self.end = end
        self._wake()

    def _check(self, event: dict[str, Any]) -> None:
        seq, kind = event["seq"], event["type"]
        after = event.get("after", seq - 1)
        if self.ending is not None or self.end is not None:
            self.problems.append(f"{kind} {seq} follows the ending")
        if kind != "turn.reset" and (after != self._seq or seq <= after):
            self.problems.append(f"{kind} {seq} continues {after}, and not {self._seq}")
        self._seq = seq
        if kind == "turn.reset":  # it has the present epoch; the replay after it also has events of earlier ones
            if event["epoch"] < self._epoch:
                self.problems.append(f"{kind} {seq} has an older epoch")
            self._epoch = event["epoch"]

    def _fold(self, event: dict[str, Any]) -> None:
        kind = event["type"]
        if kind == "turn.reset":
            self.parts = {}
        elif kind == "turn.part":
            self.parts[event["part"]] = [event["kind"], event.get("text") or ""]
        elif kind == "turn.delta" and event["part"] not in self.parts:
            self.problems.append(f"{kind} {event['seq']} is of a part that hasn't begun")
        elif kind == "turn.delta":
            self.parts[event["part"]][1] += event.get("text") or ""
        elif kind in ENDINGS:
            self.ending = event

    def _wake(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    async def until(self, holds: Callable[[], bool]) -> None:
        """Wait until a condition on this record holds."""
        while not holds():
            await self._changed.wait()


class Player:
    """A running player. `send` writes a line to it; `take` is called with each line that it writes.

    `stderr`: what it wrote there, and the cases that ran then. `running`: the cases that run now.
    """

    def __init__(self, name: str, send: Callable[[str], None]) -> None:
        self.name = name
        self.stderr: list[str] = []
        self.running: set[str] = set()
        self.turns: dict[str, TurnRecord] = {}
        self.ended: str | None = None
        self._send = send
        self._numbers = itertools.count(1)
        self._answers: dict[int, asyncio.Future[dict[str, Any]]] = {}

    def complain(self, line: str) -> None:
        """Record a line of standard error."""
        self.stderr.append(f"{line.rstrip()}  (while these ran: {', '.join(sorted(self.running))})\n")

    def take(self, line: str) -> None:
        """Handle a line of the player."""
        found = json.loads(line)
        if "id" in found:
            answer = self._answers.pop(found["id"], None)
            if answer is None:
                self.complain(f"an answer to no command: {line[:200]}")
            elif not answer.done():
                answer.set_result(found)
        elif "end" in found:
            self.turns[found["turn"]].finish(found["end"])
        else:
            self.turns[found["turn"]].receive(found["event"])

    async def ask(self, do: str, fields: dict[str, Any], timeout_s: float | None = None) -> Any:
        """Send a command and return its result, by default within `COMMAND_TIMEOUT_S`.

        Raises:
            PlayerError: The command failed, wasn't answered in time, or the player has ended.
        """
        if self.ended is not None:
            raise PlayerError("player_ended", self.ended)
        number = next(self._numbers)
        answer = self._answers[number] = asyncio.get_running_loop().create_future()
        self._send(json.dumps({"id": number, "do": do, **fields}))
        timeout_s = COMMAND_TIMEOUT_S if timeout_s is None else timeout_s
        try:
            async with asyncio.timeout(timeout_s):
                found = await answer
        except TimeoutError:
            raise PlayerError("unanswered", f"{do} wasn't answered within {timeout_s} s") from None
        if "error" in found:
            raise PlayerError(found["error"].get("code") or "", found["error"].get("message") or "")
        return found["ok"]

    def record(self, turn: str) -> TurnRecord:
        """Return a new record for the turn with this name."""
        assert turn not in self.turns, turn
        self.turns[turn] = TurnRecord()
        return self.turns[turn]

    def lost(self, why: str) -> None:
        """Fail all commands that wait, and all later ones: the player has ended."""
        self.ended = why
        for answer in self._answers.values():
            if not answer.done():
                answer.set_result({"error": {"code": "player_ended", "message": why}})

    @property
    def unanswered(self) -> int:
        """The number of commands without an answer."""
        return len(self._answers)


class PlayerProcess:
    """A player that is a process of its own."""

    def __init__(self, player: Player, process: asyncio.subprocess.Process) -> None:
        self.player = player
        self._process = process
        self._readers = [asyncio.ensure_future(self._read_lines()), asyncio.ensure_future(self._read_errors())]

    @classmethod
    async def start(cls, name: str, command: list[str], environment: dict[str, str]) -> PlayerProcess:
        """Start the player's program."""
        process = await asyncio.create_subprocess_exec(
            *command,
            env=environment,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            limit=LINE_BYTES_MAX,
        )
        assert process.stdin is not None
        writer = process.stdin
        return cls(Player(name, lambda line: writer.write(line.encode() + b"\n")), process)

    async def _read_lines(self) -> None:
        assert self._process.stdout is not None
        async for line in self._process.stdout:
            try:
                self.player.take(line.decode())
            except (ValueError, KeyError, TypeError) as error:
                self.player.complain(f"{type(error).__name__} {error} at the line {line[:300]!r}")
        await self._process.wait()
        self.player.lost(f"the player has ended with {self._process.returncode}: {''.join(self.player.stderr)[-2000:]}")

    async def _read_errors(self) -> None:
        assert self._process.stderr is not None
        async for line in self._process.stderr:
            self.player.complain(line.decode())

    async def stop(self) -> list[str]:
        """Let the player exit. Return what is wrong with its end: nothing, if it was in time, with 0 and without a word."""
        problems: list[str] = []
        unanswered = self.player.unanswered
        try:
            if self.player.ended is None:
                await self.player.ask("exit", {}, EXIT_TIMEOUT_S)
        except PlayerError as error:
            if error.code != "player_ended":  # it may end before its answer is read
                problems.append(f"exit: {error}")
        try:
            async with asyncio.timeout(EXIT_TIMEOUT_S):
                await self._process.wait()
        except TimeoutError:
            problems.append(f"it didn't end within {EXIT_TIMEOUT_S} s")
            self._process.kill()
        await asyncio.gather(*self._readers)
        if self._process.returncode:
            problems.append(f"it ended with {self._process.returncode}")
        if unanswered:
            problems.append(f"it left {unanswered} commands unanswered")
        return problems + [f"standard error: {line.rstrip()}" for line in self.player.stderr]
