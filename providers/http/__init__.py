"""providers.http."""
