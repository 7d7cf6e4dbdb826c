"""The Redis store, in `store.redis.store`."""
