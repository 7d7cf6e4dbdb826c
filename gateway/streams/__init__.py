"""gateway.streams."""
