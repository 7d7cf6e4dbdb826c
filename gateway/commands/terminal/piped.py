"""One answer to what is piped in: `echo Hi | turnwire chat`. Standard output has the answer and nothing else."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

from gateway.commands.options import EXIT_FAILED, fail
from gateway.commands.terminal.answer import AnswerText
from gateway.commands.terminal.screen import shown
from gateway.commands.terminal.session import ctrl_c_aborts
from gateway.commands.terminal.state import ChatState
from turnwire.client import (
    AbortController,
    TurnCancelled,
    TurnDelta,
    TurnEvent,
    TurnFailedEvent,
    TurnPart,
    TurnReset,
)
from turnwire.client.sync import Gateway

_WRITTEN_KINDS = {"text", "refusal"}


def answer_piped(connected: Callable[[], AbstractContextManager[Gateway]], state: ChatState) -> None:
    """Send standard input to the gateway that `connected` opens, and write the answer to standard output.

    Without a conversation, the turn is stateless, so nothing is added to the user's conversations.

    Raises:
        KeyboardInterrupt: The user has stopped the answer.
        OSError: The answer can't be written.
        SystemExit: There is no input, or the turn has failed.
        TurnwireError: The gateway can't be reached.
    """
    text = _standard_input()
    controller = AbortController()
    with connected() as gateway:
        turn = gateway.start(signal=controller.signal, **_start_fields(state, text))
        written = _Written()
        with ctrl_c_aborts(controller):
            try:
                for event in turn:
                    written.take(event)
            except OSError:  # the reader of the answer has left, or the disk is full
                turn.cancel("The answer can't be written.")
                raise
        written.end()


def _standard_input() -> str:
    try:
        text = sys.stdin.buffer.read().decode("utf-8-sig").strip()
    except UnicodeDecodeError:
        fail("Standard input isn't UTF-8 text. Convert it to UTF-8.", EXIT_FAILED)
    if not text:
        fail("Standard input is empty, so there is nothing to answer.", EXIT_FAILED)
    return text


def _start_fields(state: ChatState, text: str) -> dict[str, Any]:
    if state.conversation is not None:
        return state.start_fields(text)
    fields: dict[str, Any] = {"messages": [{"role": "user", "parts": [{"kind": "text", "text": text}]}]}
    return fields | {name: value for name in ("model", "system") if (value := getattr(state, name)) is not None}


class _Written:
    """The answer on standard output."""

    def __init__(self) -> None:
        self._visible = shown if sys.stdout.isatty() else str  # a file gets the answer as it is
        self._text = AnswerText(self._write, self._restart)
        self._kinds: dict[int, str] = {}
        self._at_line_start = True
        self._error = ""
        self._cancelled: TurnCancelled | None = None

    def take(self, event: TurnEvent) -> None:
        """Write what an event adds to the text of the answer."""
        if isinstance(event, TurnPart):
            self._kinds[event.part] = event.kind
        if isinstance(event, TurnDelta | TurnPart):
            if event.text and self._kinds.get(event.part, "text") in _WRITTEN_KINDS:
                self._text.add(event.text)
        elif isinstance(event, TurnReset):
            self._kinds.clear()
            self._text.reset()
        elif isinstance(event, TurnFailedEvent):
            self._error = event.error.message
        elif isinstance(event, TurnCancelled):
            self._cancelled = event

    def end(self) -> None:
        """End the last line. Exit with 1 if the turn has failed. Raises `KeyboardInterrupt` if the user stopped it."""
        if not self._at_line_start:
            self._write("\n")
        if self._error:
            fail(shown(self._error), EXIT_FAILED)
        if self._cancelled is not None:
            if self._cancelled.by == "client":
                raise KeyboardInterrupt
            fail(f"The gateway has stopped the answer ({self._cancelled.by}).", EXIT_FAILED)

    def _write(self, text: str) -> None:
        sys.stdout.write(self._visible(text))
        sys.stdout.flush()
        self._at_line_start = text.endswith("\n")

    def _restart(self) -> None:
        if not self._at_line_start:
            self._write("\n")
        print("turnwire: The model begins its answer again.", file=sys.stderr)
