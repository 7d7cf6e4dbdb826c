"""Retries, key rotation, circuit breakers and the replay of answers."""
