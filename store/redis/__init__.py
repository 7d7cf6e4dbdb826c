"""The Redis store: see `store.redis.store`."""
