"""The log of refused origins: one warning a minute for all of them, however many pages keep trying."""

from __future__ import annotations

import time

import structlog

log = structlog.stdlib.get_logger("turnwire.connection")

PERIOD_S = 60.0
SETTING = "TURNWIRE_ALLOWED_ORIGINS"


class RefusedOrigins:
    """The log of one process. It keeps a time and a count, and nothing of single origins."""

    def __init__(self) -> None:
        self._logged_at: float | None = None
        self._suppressed = 0

    def note(self, origin: str) -> None:
        """Log the refusal of a page from `origin`, at most once a minute. Others are counted in the next warning."""
        now_s = time.monotonic()
        if self._logged_at is not None and now_s - self._logged_at < PERIOD_S:
            self._suppressed += 1
            return
        log.warning("origin refused", origin=origin, setting=SETTING, suppressed=self._suppressed)
        self._logged_at, self._suppressed = now_s, 0


refused_origins = RefusedOrigins()
