"""gateway.limits.limits."""
