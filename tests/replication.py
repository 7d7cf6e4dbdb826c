"""Wait until the replicas of a Redis have its writes."""

from __future__ import annotations

import redis

from tests.redis_process import RedisProcess


def is_replicated(server: RedisProcess, *, replicas: int = 1, timeout_ms: int = 10_000) -> bool:
    """Return whether `replicas` replicas have all writes so far, after waiting for them.

    WAIT covers only writes that were made before the last command of its own connection. So this new connection runs a
    command first.
    """
    with redis.Redis.from_url(server.url, protocol=2) as client:
        client.publish("replicated", "")
        return bool(client.execute_command("WAIT", replicas, timeout_ms) >= replicas)
