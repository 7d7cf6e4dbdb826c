"""The addresses of the dialects: each serves the requests of its protocol with the sessions of our own HTTP API."""
