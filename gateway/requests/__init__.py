"""The requests of clients, independent of the transport: sessions, turns and conversations."""
