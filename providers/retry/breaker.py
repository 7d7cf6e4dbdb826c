"""Circuit breakers: after repeated failures requests stop for a while, then a single request probes the provider.

No library fits. Those for asyncio keep their state in a blocking Redis client, or query it before every call.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterable
from typing import Final

from msgspec import Struct

from providers.base import ErrorCode

PROBE_S: Final = 1.0
"""The assumed wait for the outcome of another request's probe, whose real duration is unknown."""


class Opened(Struct, frozen=True):
    """The opening of a circuit, as instances share it. `id` is new for each opening; `code` is the error's code."""

    id: str
    open_ms: int
    code: ErrorCode


class Breaker:
    """A circuit that opens for `open_s` after `failures_max` failures in a row.

    After that time it is half open and lets one probe through.
    """

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
        """The opening that made the circuit open or half open. None if it is closed."""

    @property
    def left_s(self) -> float:
        """The seconds until a request may be sent. 0 means send it now and report its outcome."""
        if self.opened is None:
            return 0.0
        left = self._until - self._clock()
        return left if left > 0 else PROBE_S if self._probing else 0.0

    def acquire(self) -> bool:
        """Register the start of a request, which needs `left_s` to be 0. Return whether it is the probe."""
        self._probing = self.opened is not None
        return self._probing

    def succeeded(self) -> None:
        """Close the circuit after a successful request."""
        self._failures = 0
        self._probing = False
        self.opened = None

    def failed(self, code: ErrorCode, *, probe: bool) -> None:
        """Register a failed request. If the circuit is open, ignore every request but the probe.

        `probe` is what `acquire` returned for the request.
        """
        if self.opened is not None and not probe:
            return
        self._failures += 1
        if probe or self._failures >= self._failures_max:
            self._open(Opened(secrets.token_hex(8), int(self._open_s * 1000), code), learned=False)
            assert self.opened is not None
            self._on_opened(self.opened)

    def abandoned(self, *, probe: bool) -> None:
        """Register a request whose outcome doesn't show whether the provider works. `probe`: see `failed`."""
        if probe:
            self._probing = False

    def learn(self, opened: Opened | None) -> None:
        """Apply the opening that another instance shared, once. None means that no shared opening is known any more."""
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
    """The breakers of one process, by name. `on_change` is called when this process opens one of them."""

    def __init__(self, failures_max: int, open_s: float) -> None:
        self._failures_max = failures_max
        self._open_s = open_s
        self._breakers: dict[str, Breaker] = {}
        self.untold: dict[str, Opened] = {}
        """Map from a circuit's name to an opening of this process that isn't shared with other instances yet."""
        self.on_change: Callable[[], None] = lambda: None

    def names(self) -> list[str]:
        """Return the names of all circuits that this process knows."""
        return list(self._breakers)

    def of(self, name: str) -> Breaker:
        """Return the breaker with this name. A new one is closed."""
        breaker = self._breakers.get(name)
        if breaker is None:
            breaker = self._breakers[name] = Breaker(
                self._failures_max, self._open_s, lambda opened: self._note(name, opened)
            )
        return breaker

    def learn(self, told: Iterable[tuple[str, Opened | None]]) -> None:
        """Apply the shared state of the circuits in `told`, given as (name, opening or None).

        Skip the circuits whose opening in this process isn't shared yet.
        """
        for name, opened in told:
            if name not in self.untold:
                self.of(name).learn(opened)

    def _note(self, name: str, opened: Opened) -> None:
        self.untold[name] = opened
        self.on_change()
