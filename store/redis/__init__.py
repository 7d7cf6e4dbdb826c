"""store.redis.store."""
