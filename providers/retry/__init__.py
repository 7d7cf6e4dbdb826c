"""providers.retry."""
