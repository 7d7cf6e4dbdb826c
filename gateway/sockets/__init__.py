"""A socket from its opening to its close: what comes in, what waits to go out, and our bounds on both."""
