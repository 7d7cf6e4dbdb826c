"""Free ports for servers that can't choose one themselves, or that restart on the same one."""

from __future__ import annotations

import socket
from random import SystemRandom

# Hypothesis seeds the `random` module. With that module, all workers of a run would choose the same ports.
_random = SystemRandom()


def free_port() -> int:
    """Return a free port below the ephemeral range, so that it is still free when its server restarts."""
    while True:
        port = _random.randrange(10_000, 30_000)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
