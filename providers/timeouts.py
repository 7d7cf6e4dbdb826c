"""The limits on the silence of a provider."""

from __future__ import annotations

from msgspec import Struct

from providers.route import Route


class Timeouts(Struct, frozen=True):
    """The limits on how long a provider may be silent."""

    connect_s: float = 5.0
    first_event_s: float = 60.0
    first_event_reasoning_s: float = 300.0
    between_events_s: float = 60.0
    alive_s: float = 300.0
    """The limit on silence while pings, comments or the like show that the provider is alive."""

    def first_event_timeout_s(self, route: Route) -> float:
        """Return how many seconds to wait, at most, for the first event of the route's model."""
        return self.first_event_reasoning_s if route.thinks else self.first_event_s
