"""providers.catalog.catalog."""
