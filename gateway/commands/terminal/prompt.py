"""The prompt of the chat: lines that the user edits, with a history in a file and completion of commands and paths."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from types import ModuleType

readline: ModuleType | None
try:
    readline = import_module("readline")
except ImportError:  # a Python that was built without it: lines can be typed, but not edited
    readline = None

PROMPT = "> "
CONTINUED_PROMPT = "… "
HISTORY_LINES_MAX = 1000
WITH_PATH = "/attach "


def history_file(variables: Mapping[str, str]) -> Path | None:
    """Return the file of the history, from the variables of the environment; None if there is no home."""
    if state := variables.get("XDG_STATE_HOME"):
        return Path(state, "turnwire", "chat_history")
    if home := variables.get("HOME"):
        return Path(home, ".local", "state", "turnwire", "chat_history")
    return None


class Prompt:
    """Reads lines from the terminal. `words` are completed at the start of a line; `history` is the history's file."""

    def __init__(self, words: Iterable[str], history: Path | None) -> None:
        self._words = sorted(words)
        self._history = history
        self._found: list[str] = []
        if readline is None:
            return
        readline.set_completer_delims("")
        readline.set_completer(self._complete)
        is_libedit = "libedit" in (readline.__doc__ or "")
        readline.parse_and_bind("bind ^I rl_complete" if is_libedit else "tab: complete")
        if not is_libedit:
            # Several lines that are pasted are one message.
            readline.parse_and_bind("set enable-bracketed-paste on")
        readline.set_history_length(HISTORY_LINES_MAX)
        if history is not None:
            with suppress(OSError, UnicodeDecodeError):
                readline.read_history_file(history)

    def read(self) -> str:
        """Return the message that the user types. A backslash at the end of a line continues it on the next.

        Raises `EOFError` after Ctrl-D, and `KeyboardInterrupt` after Ctrl-C.
        """
        lines = [input(PROMPT)]
        while lines[-1].endswith("\\"):
            lines[-1] = lines[-1][:-1]
            lines.append(input(CONTINUED_PROMPT))
        # Bytes that aren't UTF-8 were read as surrogates, which can't be sent.
        return "\n".join(lines).encode(errors="replace").decode()

    def had_text(self) -> bool:
        """Return whether the line that Ctrl-C has discarded had text."""
        return readline is not None and bool(readline.get_line_buffer().strip())

    def save(self) -> None:
        """Write the history to its file, which only the user can read. A home that can't be written is no error."""
        if readline is None or self._history is None or not readline.get_current_history_length():
            return
        with suppress(OSError):
            self._history.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            os.close(os.open(self._history, os.O_CREAT | os.O_WRONLY, 0o600))
            readline.write_history_file(self._history)

    def _complete(self, text: str, state: int) -> str | None:
        if state == 0:
            self._found = completions(text, self._words)
        return self._found[state] if state < len(self._found) else None


def completions(text: str, words: Sequence[str]) -> list[str]:
    """Return the lines to which `text` can be completed: a command, or the path after `/attach`."""
    if text.startswith(WITH_PATH):
        typed = text.removeprefix(WITH_PATH)
        found = glob.glob(glob.escape(os.path.expanduser(typed)) + "*")
        return [f"{WITH_PATH}{path}{'/' if os.path.isdir(path) else ''}" for path in sorted(found)]
    return [word for word in words if text.startswith("/") and word.startswith(text)]
