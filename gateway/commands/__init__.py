"""The commands of `turnwire`, one module each."""
