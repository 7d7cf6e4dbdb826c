"""Ports for servers that have to be told theirs, or that come back on it."""

from __future__ import annotations

import socket
from random import SystemRandom

# Hypothesis seeds the other one, and then all workers of a run draw the same.
_random = SystemRandom()


def free_port() -> int:
    """A port below those that the system gives away by itself, so that it is still free after a restart."""
    while True:
        port = _random.randrange(10_000, 30_000)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
