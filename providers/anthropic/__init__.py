"""providers.anthropic.messages."""
