"""WebSocket connections from opening to close: incoming frames, outgoing frames, and the bounds on both."""
