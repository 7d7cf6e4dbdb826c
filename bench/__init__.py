"""Measures a gateway from outside: a raw upstream, a raw client, and what the operating system says between them."""
