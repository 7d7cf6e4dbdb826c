"""A program in a pseudo terminal, whose keys a test presses and whose screen it reads."""

from __future__ import annotations

import asyncio
import codecs
import contextlib
import os
import pty
import re
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

WAIT_S = 60
AGAIN_S = 15
CTRL_C, CTRL_D, UP, TAB = "\x03", "\x04", "\x1b[A", "\t"
LAUNCH = """
import fcntl, os, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
os.execv(sys.argv[1], sys.argv[1:])
"""
"""Give the new session its terminal, so that Ctrl-C in it sends SIGINT, and run the command."""
CONTROL_SEQUENCE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\r|\x07|\x00")


class PseudoTerminal:
    """A running program and what it has written, as `raw` and as `text` without control sequences."""

    def __init__(self, process: asyncio.subprocess.Process, keyboard: int) -> None:
        self.process = process
        self.raw = ""
        self._keyboard = keyboard
        self._seen = 0
        self._changed = asyncio.Event()
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    @property
    def text(self) -> str:
        """What the screen has shown since the start."""
        return CONTROL_SEQUENCE.sub("", self.raw)

    def press(self, keys: str) -> None:
        """Press keys. A line feed is the Enter key."""
        os.write(self._keyboard, keys.replace("\n", "\r").encode())

    async def until(self, words: str, wait_s: float = WAIT_S) -> str:
        """Wait until `words` appear after those of the last call, and return what was shown up to them."""
        try:
            async with asyncio.timeout(wait_s):
                while (found := self.text.find(words, self._seen)) < 0:
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            raise AssertionError(f"{words!r} isn't in {self.text[self._seen :]!r}") from None
        shown = self.text[self._seen : found + len(words)]
        self._seen = found + len(words)
        return shown

    async def press_until(self, keys: str, words: str) -> str:
        """Press keys until `words` appear after those of the last call, and return what was shown up to them.

        For Ctrl-C at a prompt: a signal that comes between the prompt and the `select` of Python's `input` is noticed
        only with the next one.
        """
        for _ in range(WAIT_S // AGAIN_S):
            self.press(keys)
            with contextlib.suppress(AssertionError):
                return await self.until(words, AGAIN_S)
        return await self.until(words)

    async def ended(self, keys: str) -> int:
        """Press keys until the program has ended, as `press_until` does, and return its exit code."""
        for _ in range(WAIT_S // AGAIN_S):
            self.press(keys)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(AGAIN_S):
                    return await self.process.wait()
        raise AssertionError(f"The program still runs and shows {self.text[self._seen :]!r}.")

    def feed(self, data: bytes) -> None:
        """Add what the program has written."""
        self.raw += self._decoder.decode(data)
        self._changed.set()


@asynccontextmanager
async def pseudo_terminal(
    *command: str | Path, variables: Mapping[str, str], folder: Path
) -> AsyncIterator[PseudoTerminal]:
    """Run a command in a terminal of 80 columns. On exit, kill it if it still runs."""
    screen, end = pty.openpty()
    try:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", LAUNCH, *command),
            stdin=end,
            stdout=end,
            stderr=end,
            env={**variables, "TERM": "xterm", "COLUMNS": "80"},
            cwd=folder,
            start_new_session=True,
        )
    finally:
        os.close(end)
    terminal = PseudoTerminal(process, screen)
    loop = asyncio.get_running_loop()

    def read() -> None:
        try:
            data = os.read(screen, 65536)
        except OSError:  # the program has ended
            data = b""
        if data:
            terminal.feed(data)
        else:
            loop.remove_reader(screen)

    loop.add_reader(screen, read)
    try:
        yield terminal
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()
        loop.remove_reader(screen)
        os.close(screen)
