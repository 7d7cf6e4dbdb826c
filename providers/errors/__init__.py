"""providers.errors."""
