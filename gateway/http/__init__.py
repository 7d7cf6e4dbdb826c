"""The HTTP API and the routes around it: see `gateway.http.routes`."""
