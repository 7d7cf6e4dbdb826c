"""A turn from its acceptance to its ending: its run, its log, its followers, and the lease on it."""
