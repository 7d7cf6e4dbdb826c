"""A turn from its acceptance to its ending: its run, its log, its mirrors, and the lease on it."""
