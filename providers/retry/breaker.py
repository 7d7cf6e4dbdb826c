"""Circuit breakers: what fails again and again isn't asked for a while, and then by one request only.

No library fits: those for asyncio keep their state in a blocking Redis client, or ask it before every call.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterable
from typing import Final

from msgspec import Struct

from providers.base import ErrorCode

PROBE_S: Final = 1.0
"""How long to wait for the outcome of someone else's probe, as far as anybody can say."""


class Opened(Struct, frozen=True):
    """An opening, as instances tell it to each other: a new `id` each time, for how long, and what was wrong."""

    id: str
    open_ms: int
    code: ErrorCode


class Breaker:
    """One circuit: closed; open for `open_s` after so many failures in a row; then half open, for one probe."""

    def __init__(
        self,
        failures_max: int,
        open_s: float,
        on_opened: Callable[[Opened], None] = lambda opened: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._failures_max = failures_max
        self._open_s = open_s
        self._on_opened = on_opened
        self._clock = clock
        self._failures = 0
        self._until = 0.0
        self._probing = False
        self._learned = False
        self._last_id = ""
        self.opened: Opened | None = None
        """Why it is open, or half open; None: it is closed."""

    @property
    def left_s(self) -> float:
        """How long nobody may be asked; 0: go on, and say how it went."""
        if self.opened is None:
            return 0.0
        left = self._until - self._clock()
        return left if left > 0 else PROBE_S if self._probing else 0.0

    def enter(self) -> bool:
        """A request begins, where `left_s` is 0; whether it is the probe."""
        self._probing = self.opened is not None
        return self._probing

    def succeeded(self) -> None:
        """A request was answered: the circuit is closed."""
        self._failures = 0
        self._probing = False
        self.opened = None

    def failed(self, code: ErrorCode, *, probe: bool) -> None:
        """A request failed. Those that began before the circuit opened change nothing more."""
        if self.opened is not None and not probe:
            return
        self._failures += 1
        if probe or self._failures >= self._failures_max:
            self._open(Opened(secrets.token_hex(8), int(self._open_s * 1000), code), learned=False)
            assert self.opened is not None
            self._on_opened(self.opened)

    def abandoned(self, *, probe: bool) -> None:
        """A request ended in a way that says nothing of the provider."""
        if probe:
            self._probing = False

    def learn(self, opened: Opened | None) -> None:
        """What another instance has told: it opened its circuit; or None: of that nothing is known any more."""
        if opened is None:
            if self._learned:
                self._until = 0.0
        elif opened.id != self._last_id:
            self._open(opened, learned=True)

    def _open(self, opened: Opened, *, learned: bool) -> None:
        self.opened = opened
        self._last_id = opened.id
        self._learned = learned
        self._failures = 0
        self._probing = False
        self._until = self._clock() + opened.open_ms / 1000


class Breakers:
    """The breakers of one process, by name. `on_change` is called when one of them has opened here."""

    def __init__(self, failures_max: int, open_s: float) -> None:
        self._failures_max = failures_max
        self._open_s = open_s
        self._breakers: dict[str, Breaker] = {}
        self.untold: dict[str, Opened] = {}
        """What has opened here and the others don't know yet."""
        self.on_change: Callable[[], None] = lambda: None

    def names(self) -> list[str]:
        """Every circuit that this process knows."""
        return list(self._breakers)

    def of(self, name: str) -> Breaker:
        """The breaker of this name, closed at first."""
        breaker = self._breakers.get(name)
        if breaker is None:
            breaker = self._breakers[name] = Breaker(
                self._failures_max, self._open_s, lambda opened: self._note(name, opened)
            )
        return breaker

    def learn(self, told: Iterable[tuple[str, Opened | None]]) -> None:
        """What all instances have told of these circuits by now."""
        for name, opened in told:
            if name not in self.untold:
                self.of(name).learn(opened)

    def _note(self, name: str, opened: Opened) -> None:
        self.untold[name] = opened
        self.on_change()
