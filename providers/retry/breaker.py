"""Circuit breakers: after repeated failures, requests stop for a while, then a single request probes the provider.

No library fits. Those for asyncio use a blocking Redis client, or query Redis before every call.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterable
from typing import Final

from msgspec import Struct

from providers.base import ErrorCode

PROBE_WAIT_S: Final = 1.0
"""The assumed wait while another request probes the provider. How long that really takes is unknown."""


class Opening(Struct, frozen=True):
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
        on_opened: Callable[[Opening], None] = lambda opening: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._failures_max = failures_max
        self._open_s = open_s
        self._on_opened = on_opened
        self._clock = clock
        self._failures = 0
        self._open_until = 0.0
        self._is_probing = False
        self._is_shared = False
        self._last_id = ""
        self.opening: Opening | None = None
        """The opening that made the circuit open or half open. None if it is closed."""

    @property
    def wait_s(self) -> float:
        """The seconds until a request may be sent. 0 means send it now and report its outcome."""
        if self.opening is None:
            return 0.0
        wait_s = self._open_until - self._clock()
        return wait_s if wait_s > 0 else PROBE_WAIT_S if self._is_probing else 0.0

    def acquire(self) -> bool:
        """Register the start of a request. `wait_s` must be 0. Return whether the request is the probe."""
        self._is_probing = self.opening is not None
        return self._is_probing

    def record_success(self) -> None:
        """Close the circuit after a successful request."""
        self._failures = 0
        self._is_probing = False
        self.opening = None

    def record_failure(self, code: ErrorCode, *, probe: bool) -> None:
        """Register a failed request. If the circuit is open, ignore every request but the probe.

        `probe` is what `acquire` returned for the request.
        """
        if self.opening is not None and not probe:
            return
        self._failures += 1
        if probe or self._failures >= self._failures_max:
            opening = Opening(secrets.token_hex(8), int(self._open_s * 1000), code)
            self._open(opening, is_shared=False)
            self._on_opened(opening)

    def release(self, *, probe: bool) -> None:
        """Register a request whose outcome doesn't show whether the provider works. `probe`: see `record_failure`."""
        if probe:
            self._is_probing = False

    def apply_shared(self, opening: Opening | None) -> None:
        """Apply the opening that another instance shared, once.

        None means that no opening is shared any more: a circuit that is open because of a shared opening becomes half
        open.
        """
        if opening is None:
            if self._is_shared:
                self._open_until = 0.0
        elif opening.id != self._last_id:
            self._open(opening, is_shared=True)

    def _open(self, opening: Opening, *, is_shared: bool) -> None:
        self.opening = opening
        self._last_id = opening.id
        self._is_shared = is_shared
        self._failures = 0
        self._is_probing = False
        self._open_until = self._clock() + opening.open_ms / 1000


class Breakers:
    """The breakers of one process, by name. `on_change` is called when this process opens one of them."""

    def __init__(self, failures_max: int, open_s: float) -> None:
        self._failures_max = failures_max
        self._open_s = open_s
        self._breakers: dict[str, Breaker] = {}
        self.unshared: dict[str, Opening] = {}
        """Map from a circuit's name to an opening of this process that isn't shared with other instances yet."""
        self.on_change: Callable[[], None] = lambda: None

    def names(self) -> list[str]:
        """Return the names of all circuits that this process knows."""
        return list(self._breakers)

    def get(self, name: str) -> Breaker:
        """Return the breaker with this name. A new one is closed."""
        if name not in self._breakers:
            self._breakers[name] = Breaker(
                self._failures_max, self._open_s, lambda opening: self._on_opened(name, opening)
            )
        return self._breakers[name]

    def apply_shared(self, shared: Iterable[tuple[str, Opening | None]]) -> None:
        """Apply the shared state of the circuits in `shared`, given as (name, opening or None).

        Skip the circuits whose opening in this process isn't shared yet.
        """
        for name, opening in shared:
            if name not in self.unshared:
                self.get(name).apply_shared(opening)

    def _on_opened(self, name: str, opening: Opening) -> None:
        self.unshared[name] = opening
        self.on_change()
