"""Clients for models: a chat request in, batches of deltas out. This package knows no sockets, turns or stores."""
