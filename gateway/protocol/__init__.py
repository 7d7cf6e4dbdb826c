"""gateway.protocol.requests."""
