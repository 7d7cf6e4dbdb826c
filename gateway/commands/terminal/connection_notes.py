"""Notes about a lost connection, while the gateway is awaited. At the prompt they would disturb what the user types."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from gateway.commands.terminal.screen import Screen
from turnwire.client import TurnwireError
from turnwire.client.options import ConnectionState
from turnwire.client.sync import Gateway


class ConnectionNotes:
    """Follows the state of the connection in a thread of its own, until it is closed."""

    def __init__(self, gateway: Gateway, screen: Screen) -> None:
        self._gateway = gateway
        self._screen = screen
        self._is_shown = False
        self._was_lost = False
        self._lock = threading.Lock()
        threading.Thread(target=self._follow, name="connection-notes", daemon=True).start()

    @contextmanager
    def shown(self) -> Iterator[None]:
        """Show the notes while this lasts; first, that the connection is lost now."""
        with self._lock:
            self._is_shown, self._was_lost = True, False
            self._note(self._gateway.state)
        try:
            yield
        finally:
            with self._lock:
                self._is_shown = False

    def _follow(self) -> None:
        try:
            for event in self._gateway.events():
                if isinstance(event, ConnectionState):
                    with self._lock:
                        self._note(event)
        except TurnwireError:
            return  # it is closed

    def _note(self, state: ConnectionState) -> None:
        if not self._is_shown:
            return
        if state.state == "live":
            if self._was_lost:
                self._screen.note("Connected again.")
            self._was_lost = False
        elif state.state == "waiting" and not self._was_lost:
            self._was_lost = True
            self._screen.note(f"Connection lost{f' ({state.reason})' if state.reason else ''}. Trying again…")
