"""Models: a chat request in, batches of deltas out. Knows nothing of sockets, turns or stores."""
