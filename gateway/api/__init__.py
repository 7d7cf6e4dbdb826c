"""The HTTP API: the same requests and events as on the socket, over plain requests, SSE and NDJSON."""
