"""The HTTP client of the dialects, and the parsers of streamed answers."""
