"""Protocol, turns, connections, HTTP: everything between a client and a provider."""

__version__ = "0.1.0"
