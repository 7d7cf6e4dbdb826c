"""The chat in the terminal: reads messages and commands until the user leaves."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any

from gateway.commands.terminal.answer import AnswerView
from gateway.commands.terminal.connection_notes import ConnectionNotes
from gateway.commands.terminal.prompt import Prompt
from gateway.commands.terminal.screen import Screen
from gateway.commands.terminal.slash import Leave, run_command
from gateway.commands.terminal.state import ChatState
from gateway.commands.terminal.turn_notes import ending_note
from turnwire.client import AbortController, TurnCancelled, TurnCompleted, TurnFailedEvent, TurnStarted, TurnwireError
from turnwire.client.sync import Gateway, Turn

STOP_REASON = "The user pressed Ctrl-C."


class TerminalChat:
    """A chat on an open connection."""

    def __init__(self, gateway: Gateway, screen: Screen, prompt: Prompt, state: ChatState) -> None:
        self._gateway = gateway
        self._screen = screen
        self._prompt = prompt
        self._state = state
        self._notes = ConnectionNotes(gateway, screen)

    def run(self) -> None:
        """Read lines and answer them until the user leaves by Ctrl-D, by Ctrl-C twice, or by `/exit`."""
        with suppress(KeyboardInterrupt):  # the second Ctrl-C, if it comes before the prompt does
            self._run()

    def _run(self) -> None:
        interrupted = False
        while True:
            try:
                line = self._prompt.read()
                interrupted = False
                self._screen.typed()
                self._take(line)
            except EOFError:
                self._screen.line()
                return
            except Leave:
                return
            except KeyboardInterrupt:
                self._screen.line()
                if interrupted and not self._prompt.had_text():
                    return
                interrupted = not self._prompt.had_text()
                if interrupted:
                    self._screen.note("Press Ctrl-C again, or Ctrl-D, to leave.")

    def _take(self, line: str) -> None:
        """Do what a line says. An error is shown, and Ctrl-C ends the wait for the gateway."""
        try:
            with self._notes.shown():
                if line.startswith("/"):
                    run_command(line, self._gateway, self._screen, self._state)
                elif line.strip():
                    self._ask(line.strip())
        except TurnwireError as error:
            self._screen.alert(error.message)
        except KeyboardInterrupt:
            self._screen.end_line()
            self._screen.note("Not waiting any longer.")

    def _ask(self, text: str) -> None:
        """Send a message, and show its answer. The first Ctrl-C stops the turn; the second one stops the wait for that."""
        controller = AbortController()
        with ctrl_c_aborts(controller):
            self._show(self._gateway.start(signal=controller.signal, **self._state.start_fields(text)))

    def _show(self, turn: Turn) -> None:
        view = AnswerView(self._screen)
        for event in turn:
            if isinstance(event, TurnStarted):
                self._state.started(event)
            elif isinstance(event, TurnFailedEvent):
                self._screen.alert(event.error.message)
            elif isinstance(event, TurnCompleted | TurnCancelled):
                self._screen.end_line()
                if note := ending_note(event):
                    self._screen.note(note)
            else:
                view.show(event)


@contextmanager
def ctrl_c_aborts(controller: AbortController) -> Iterator[None]:
    """Let the first Ctrl-C abort the controller's signal. The second one raises `KeyboardInterrupt`, as usual."""

    def abort(_number: int, _frame: FrameType | None) -> None:
        if controller.signal.aborted:
            raise KeyboardInterrupt
        controller.abort(STOP_REASON)

    earlier: Any = signal.signal(signal.SIGINT, abort)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, earlier)
