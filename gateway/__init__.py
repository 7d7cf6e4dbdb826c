"""Protocol, turns, connections, HTTP: everything between a client and a provider."""
