"""The chat in the terminal of `turnwire chat`: its screen, its prompt and its commands."""
