"""Clients for models: a chat request in, batches of deltas out. This package knows nothing about sockets, turns or stores."""
