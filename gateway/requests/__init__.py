"""gateway.requests."""
