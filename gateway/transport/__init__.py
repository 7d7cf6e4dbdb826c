"""Bounds on uvicorn's HTTP and WebSocket protocols."""
