"""providers.demo.model."""
